//! Log-in on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::role::Grant;
use crate::model::user::UserName;

/// The cookie that carries the session.
pub const COOKIE: &str = "__Host-strongroom";
/// A request that changes something within a session repeats `Session::csrf` here.
pub const CSRF: &str = "strongroom-csrf";

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    pub user: UserName,
    pub password: String,
    /// Where the user has a second factor: what the app shows, or a recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Within a session, as at log-in: who is before the screen.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Prove {
    pub password: String,
    /// Where the user has a second factor: what the app shows, or a recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub user: UserName,
    pub grants: Vec<Grant>,
    pub expires: Timestamp,
    /// When the user last gave password and code. With a second factor, what changes users, tokens,
    /// slots and settings takes a proof of the last 15 minutes.
    pub proven: Timestamp,
    pub csrf: String,
}
