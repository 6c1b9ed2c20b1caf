//! What the server says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::health::{Health, ServerState};
use crate::model::id::{Fingerprint, InstanceId};

/// For anyone who asks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    pub version: String,
    pub state: ServerState,
    pub instance: InstanceId,
    pub fqdn: String,
    /// SHA-256 of the instance identity's public key: what clients pin.
    pub server_fingerprint: Fingerprint,
    /// SHA-256 of the certificate that this listener shows now; it changes with each renewal.
    pub leaf_sha256: Fingerprint,
    pub time: Timestamp,
}

/// For callers with a role, and the admin socket.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    #[serde(flatten)]
    pub server: ServerInfo,
    pub health: Health,
    pub client_listen: String,
    pub gui_listen: String,
    pub health_listen: String,
    pub orgs: u64,
    pub clients: u64,
    pub deposits: u64,
    /// Commits since the store was made.
    pub revision: u64,
}
