//! Events: who did what, from where, on what, and how it went. Never a secret.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::RequestId;
use crate::clock::Timestamp;

/// The two chains. A change commits with its event; releases and refusals have a file of their own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    Changes,
    Access,
}

impl Chain {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Access => "access",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Refused,
}

/// Who acted, as the event keeps it: ids stay right when names change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    /// `client`, `user`, `token`, `local`, `server` or `nobody`.
    pub kind: String,
    /// The client's fingerprint, the user's or token's name, the uid; empty for `server` and `nobody`.
    pub name: String,
    /// An IP address, `socket`, or `server`.
    pub source: String,
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Object {
    /// `deposit`, `client`, `org`, `user`, `token`, `setting`, `server` …
    pub kind: String,
    /// Its UUID, or its name where it has none.
    pub id: String,
    /// Its name at the time, with its organization: `acme/db-key`.
    pub name: String,
}

/// An event before the writer gives it its number and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    pub time: Timestamp,
    pub request: RequestId,
    pub actor: Actor,
    /// `deposit.put`, `deposit.get`, `client.approve` … : noun and verb.
    pub action: String,
    pub object: Object,
    pub outcome: Outcome,
    /// What else is worth knowing: `version 3`, `state active`, a refusal's code.
    pub detail: String,
    /// What the caller gave with `--reason`.
    pub reason: String,
}

/// An event in its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainedEvent {
    pub chain: Chain,
    /// From 1, without gaps.
    pub number: u64,
    #[serde(flatten)]
    pub event: Event,
    /// SHA-256 of the previous hash and this event's canonical form, in hex.
    pub hash: String,
}
