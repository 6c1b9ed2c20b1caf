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
    /// The number of the first event that is looked at; those before it left in segments.
    pub first: u64,
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

/// What left of the audit.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Segments {
    /// By chain, then by number.
    pub segments: Vec<Segment>,
}

/// Events of one chain that left the store for a file (docs/formats/audit.md).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    pub chain: Chain,
    /// The first event's number, and the last one's.
    pub first: u64,
    pub last: u64,
    pub first_time: Timestamp,
    pub last_time: Timestamp,
    /// When they left.
    pub made: Timestamp,
    /// Its name in the data folder's `audit/`.
    pub file: String,
    /// Of the file, as it was written.
    pub bytes: u64,
    /// Likewise; 64 hex digits.
    pub sha256: String,
    /// Whether the file still lies there.
    pub here: bool,
}
