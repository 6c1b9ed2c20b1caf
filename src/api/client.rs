//! Clients on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::client::Client;
use crate::model::org::OrgName;

/// Sent over a connection that presents the certificate to register.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    pub org: OrgName,
    /// The organization's code. With it the client is active at once; without it, pending.
    #[serde(default)]
    pub auth_code: Option<String>,
    /// What the list of clients shows, a host name as a rule; up to 255 bytes.
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub recipient: Option<SignedRecipient>,
}

/// Where others encrypt to for this client, vouched for by its certificate's key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedRecipient {
    /// `age1…`
    pub recipient: String,
    /// By the certificate's key over the recipient statement (docs/formats/client.md), in base64.
    pub signature: String,
}

/// What a client learns of itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ClientRegistration)]
pub struct Registration {
    pub client: Client,
    /// Add it to whatever you encrypt for this organization.
    pub recovery_recipient: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decision {
    /// Shown with the client; up to 255 bytes.
    pub reason: Option<String>,
}
