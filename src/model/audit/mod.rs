//! Events: who did what, from where, on what, and how it went. Never a secret.

mod canonical;
mod export;
mod walk;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::canonical::{MAX_CANONICAL, MAX_EVENT_TEXT, MAX_HEADS};
pub use self::export::{ExportHeader, ExportLine, FORMAT, MAX_LINE};
pub use self::walk::{ChainWalk, Fault, FaultKind, HashFn, Walked};

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{InstanceId, RequestId};
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

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
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

/// What precedes the first event of a chain.
pub const FIRST_PREVIOUS: [u8; 32] = [0; 32];

/// The last event of a chain at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub chain: Chain,
    /// 0 while the chain is empty; `hash` is 32 zero bytes then.
    pub number: u64,
    /// In JSON 64 lower-case hex digits.
    #[serde(with = "hex_hash")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub hash: [u8; 32],
}

impl Head {
    /// Of a chain without events.
    pub fn none(chain: Chain) -> Self {
        Self {
            chain,
            number: 0,
            hash: FIRST_PREVIOUS,
        }
    }
}

/// What the audit held at some time. Signed, and kept elsewhere, it proves that nothing before it was
/// changed or cut off since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    pub instance: InstanceId,
    pub epoch: u64,
    pub timeline: u64,
    /// One per chain, `changes` first.
    pub heads: Vec<Head>,
    pub time: Timestamp,
}

/// A checkpoint as it leaves the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedCheckpoint {
    pub checkpoint: Checkpoint,
    /// Ed25519 over the checkpoint's canonical form, 128 hex digits.
    pub signature: String,
}

mod hex_hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let mut out = [0; 32];
        match hex::decode_to_slice(String::deserialize(from)?, &mut out) {
            Ok(()) => Ok(out),
            Err(_) => Err(D::Error::custom("a hash is 64 hex digits")),
        }
    }
}

impl Filterable for ChainedEvent {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "time",
            kind: FieldKind::Time,
        },
        Field {
            name: "chain",
            kind: FieldKind::Word(&["changes", "access"]),
        },
        Field {
            name: "number",
            kind: FieldKind::Number,
        },
        Field {
            name: "action",
            kind: FieldKind::Text,
        },
        Field {
            name: "actor",
            kind: FieldKind::Text,
        },
        Field {
            name: "actor_kind",
            kind: FieldKind::Text,
        },
        Field {
            name: "source",
            kind: FieldKind::Text,
        },
        Field {
            name: "object",
            kind: FieldKind::Text,
        },
        Field {
            name: "object_kind",
            kind: FieldKind::Text,
        },
        Field {
            name: "outcome",
            kind: FieldKind::Word(&["done", "refused"]),
        },
        Field {
            name: "detail",
            kind: FieldKind::Text,
        },
        Field {
            name: "reason",
            kind: FieldKind::Text,
        },
        Field {
            name: "request",
            kind: FieldKind::Text,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "time" => Value::Time(self.event.time),
            "chain" => Value::text(self.chain.as_str()),
            "number" => Value::number(self.number),
            "action" => Value::text(&self.event.action),
            "actor" => Value::text(&self.event.actor.name),
            "actor_kind" => Value::text(&self.event.actor.kind),
            "source" => Value::text(&self.event.actor.source),
            "object" => Value::Texts(vec![
                self.event.object.name.as_str().into(),
                self.event.object.id.as_str().into(),
            ]),
            "object_kind" => Value::text(&self.event.object.kind),
            "outcome" => Value::text(self.event.outcome.as_str()),
            "detail" => Value::text(&self.event.detail),
            "reason" => Value::text(&self.event.reason),
            "request" => Value::shown(self.event.request),
            _ => Value::Absent,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
