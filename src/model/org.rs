//! An organization: who may register, and what their deposits are kept under.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{OrgId, checked_text};
use super::quota::{Quota, Used};
use crate::clock::Timestamp;

checked_text!(
    /// Letters, digits, `-` and `_`; 64 at most.
    OrgName, "org", |text| {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (!fits).then(|| "is not an organization's name: 1 to 64 letters, digits, `-` or `_`".to_owned())
    }
);

checked_text!(
    /// A mail address such as `ops@example.com` or `root@kts01`; 254 at most, no blanks.
    Contact, "contacts", |text| {
        let fits = text.len() <= 254
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
            && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
        (!fits).then(|| "is not a contact: a mail address such as root@kts01, without blanks".to_owned())
    }
);

/// How a client becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// With the organization's code at once, without one after approval.
    Code,
    /// At once, without a code (a blank code was set).
    Open,
}

impl Registration {
    /// The word in JSON, in filters and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Open => "open",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Org {
    pub id: OrgId,
    pub name: OrgName,
    pub contacts: Vec<Contact>,
    pub registration: Registration,
    /// An age recipient that the organization's clients add to whatever they encrypt.
    pub recovery_recipient: Option<String>,
    pub created: Timestamp,
    /// From then on its clients are refused, and registrations too; its data is kept. None: never.
    pub expires: Option<Timestamp>,
    /// Clients that are registered, in any state.
    pub clients: u64,
    /// Deposits, those in the bin included.
    pub deposits: u64,
    /// Bytes of all their versions.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub quota: Quota,
}

impl Org {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    pub fn used(&self) -> Used {
        Used {
            objects: self.deposits,
            bytes: self.bytes,
        }
    }
}

impl Filterable for Org {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "id",
            kind: FieldKind::Text,
        },
        Field {
            name: "name",
            kind: FieldKind::Text,
        },
        Field {
            name: "contacts",
            kind: FieldKind::Text,
        },
        Field {
            name: "registration",
            kind: FieldKind::Word(&["code", "open"]),
        },
        Field {
            name: "recovery_recipient",
            kind: FieldKind::Text,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "expires",
            kind: FieldKind::Time,
        },
        Field {
            name: "clients",
            kind: FieldKind::Number,
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
            "name" => Value::text(self.name.as_str()),
            "contacts" => Value::Texts(
                self.contacts
                    .iter()
                    .map(|contact| contact.as_str().into())
                    .collect(),
            ),
            "registration" => Value::text(self.registration.as_str()),
            "recovery_recipient" => Value::maybe_text(self.recovery_recipient.as_deref()),
            "created" => Value::Time(self.created),
            "expires" => Value::maybe_time(self.expires),
            "clients" => Value::number(self.clients),
            "deposits" => Value::number(self.deposits),
            "bytes" => Value::number(self.bytes),
            _ => Value::Absent,
        }
    }
}
