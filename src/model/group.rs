//! A group of clients of one organization: deposits are shared with it, and so with whoever is in it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{GroupId, checked_text};
use super::org::OrgName;
use crate::clock::Timestamp;

checked_text!(
    /// First a letter or digit, then `A-Z a-z 0-9 . _ -`; 64 at most.
    GroupName, "group", |text| {
        let fits = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        (!fits).then(|| "is not a group's name: a letter or a digit, then up to 63 of A-Z a-z 0-9 . _ -".to_owned())
    }
);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    pub id: GroupId,
    pub org: OrgName,
    pub name: GroupName,
    /// How many clients are in it.
    pub members: u64,
    pub created: Timestamp,
}

impl Filterable for Group {
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
            name: "name",
            kind: FieldKind::Text,
        },
        Field {
            name: "members",
            kind: FieldKind::Number,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "org" => Value::text(self.org.as_str()),
            "name" => Value::text(self.name.as_str()),
            "members" => Value::number(self.members),
            "created" => Value::Time(self.created),
            _ => Value::Absent,
        }
    }
}
