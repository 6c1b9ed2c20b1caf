//! Users on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::role::Grant;
use crate::model::user::UserName;

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    pub name: UserName,
    /// 12 to 1,024 bytes.
    pub password: String,
    #[serde(default)]
    pub grants: Vec<Grant>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// 12 to 1,024 bytes.
    pub password: String,
    /// The password until now, where a user changes his own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
}

/// What a second factor begins with.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollTotp {
    /// The caller's password, where it is his own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
}

/// Shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TotpEnrolled {
    /// For an authenticator app, in base32.
    pub secret: String,
    /// The same as a picture's content: `otpauth://totp/…`.
    pub uri: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmTotp {
    /// The six digits that the app shows.
    pub code: String,
}

/// Shown this once; each stands for a code once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    pub recovery_codes: Vec<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveTotp {
    /// The caller's password, where it is his own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetUser {
    /// Also take the second factor away.
    #[serde(default)]
    pub clear_second_factor: bool,
}

/// Shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct UserReset {
    pub password: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditUser {
    pub disabled: bool,
}
