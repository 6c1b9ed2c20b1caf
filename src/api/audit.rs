//! The audit on the wire. An export is one JSON document a line (docs/formats/audit.md).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::audit::Chain;

/// What `audit verify` found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    pub chains: Vec<ChainVerification>,
    /// Ed25519, 64 hex digits: checkpoints are signed with it.
    pub public_key: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChainVerification {
    pub chain: Chain,
    /// Events that are there.
    pub events: u64,
    /// The last event's hash, in hex.
    pub head: String,
    /// Up to this event a signed checkpoint proves that nothing was cut off.
    pub proven_to: u64,
    pub checkpoint_time: Option<Timestamp>,
    /// The first thing found wrong: `event 17 was changed`; none if all holds.
    pub fault: Option<String>,
}
