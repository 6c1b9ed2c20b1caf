//! A person or program with a name and a password.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{UserId, checked_text};
use super::role::Grant;
use crate::clock::Timestamp;

checked_text!(
    /// First a letter or digit, then letters, digits, `.`, `_`, `-` or `@`; 64 at most.
    UserName, "user", |text| {
        let fits = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@'));
        (!fits).then(|| "is not a user's name: a letter or digit, then up to 63 letters, digits, `.`, `_`, `-` or `@`".to_owned())
    }
);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    pub id: UserId,
    pub name: UserName,
    pub grants: Vec<Grant>,
    pub created: Timestamp,
    /// May not log in, and its tokens are refused.
    pub disabled: bool,
    /// Whether a log-in asks for a code, too.
    pub second_factor: bool,
}

impl Filterable for User {
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
            name: "role",
            kind: FieldKind::Word(&[
                "superuser",
                "administrator",
                "org_administrator",
                "key_operator",
                "auditor",
            ]),
        },
        Field {
            name: "org",
            kind: FieldKind::Text,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "disabled",
            kind: FieldKind::Bool,
        },
        Field {
            name: "second_factor",
            kind: FieldKind::Bool,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "name" => Value::text(self.name.as_str()),
            "role" => Value::Texts(
                self.grants
                    .iter()
                    .map(|grant| grant.role.as_str().into())
                    .collect(),
            ),
            "org" => Value::Texts(
                self.grants
                    .iter()
                    .filter_map(|grant| Some(grant.org.as_ref()?.as_str().into()))
                    .collect(),
            ),
            "created" => Value::Time(self.created),
            "disabled" => Value::Bool(self.disabled),
            "second_factor" => Value::Bool(self.second_factor),
            _ => Value::Absent,
        }
    }
}
