//! A client: a key that registered with an organization and stores deposits.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{ClientId, Fingerprint};
use super::org::OrgName;
use super::quota::{Quota, Used};
use crate::clock::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientState {
    /// Registered without a code; waits for an approval until `pending_until`.
    Pending,
    Active,
    /// An administrator said no; the key may not register again until the entry is removed.
    Denied,
    /// Was active, and is refused until it is enabled.
    Disabled,
}

impl ClientState {
    pub const ALL: [ClientState; 4] = [Self::Pending, Self::Active, Self::Denied, Self::Disabled];

    /// The word in JSON, in filters and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Denied => "denied",
            Self::Disabled => "disabled",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Client {
    pub id: ClientId,
    pub org: OrgName,
    /// SHA-256 of its certificate's public key.
    pub fingerprint: Fingerprint,
    pub state: ClientState,
    /// What the client said of itself, its host name as a rule.
    pub description: String,
    /// Where others encrypt to for it; signed by its certificate's key when it registered.
    pub age_recipient: Option<String>,
    pub created: Timestamp,
    /// A pending registration ends then.
    pub pending_until: Option<Timestamp>,
    /// The address that it registered from.
    pub registered_from: String,
    /// Why it was denied or disabled, if someone said.
    pub reason: Option<String>,
    /// Deposits that it owns, those in the bin included.
    #[serde(default)]
    pub deposits: u64,
    /// Bytes of all their versions.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub quota: Quota,
}

impl Client {
    /// Whether it waited for its approval until its time was over: it counts as not registered.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.state == ClientState::Pending && self.pending_until.is_some_and(|until| until <= now)
    }

    pub fn used(&self) -> Used {
        Used {
            objects: self.deposits,
            bytes: self.bytes,
        }
    }
}

impl Filterable for Client {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "id",
            kind: FieldKind::Text,
        },
        Field {
            name: "org",
            kind: FieldKind::Text,
        },
        Field {
            name: "fingerprint",
            kind: FieldKind::Text,
        },
        Field {
            name: "state",
            kind: FieldKind::Word(&["pending", "active", "denied", "disabled"]),
        },
        Field {
            name: "description",
            kind: FieldKind::Text,
        },
        Field {
            name: "age_recipient",
            kind: FieldKind::Text,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "pending_until",
            kind: FieldKind::Time,
        },
        Field {
            name: "registered_from",
            kind: FieldKind::Text,
        },
        Field {
            name: "reason",
            kind: FieldKind::Text,
        },
        Field {
            name: "deposits",
            kind: FieldKind::Number,
        },
        Field {
            name: "bytes",
            kind: FieldKind::Number,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "org" => Value::text(self.org.as_str()),
            "fingerprint" => Value::shown(self.fingerprint),
            "state" => Value::text(self.state.as_str()),
            "description" => Value::text(&self.description),
            "age_recipient" => Value::maybe_text(self.age_recipient.as_deref()),
            "created" => Value::Time(self.created),
            "pending_until" => Value::maybe_time(self.pending_until),
            "registered_from" => Value::text(&self.registered_from),
            "reason" => Value::maybe_text(self.reason.as_deref()),
            "deposits" => Value::number(self.deposits),
            "bytes" => Value::number(self.bytes),
            _ => Value::Absent,
        }
    }
}
