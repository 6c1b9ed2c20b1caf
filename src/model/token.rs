//! An API token: a user's rights, or a part of them, for programs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::TokenId;
use super::user::UserName;
use crate::clock::Timestamp;

/// What a token may do at most; its user's roles bound it further.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Whatever its user may.
    All,
    /// Whatever its user may read, but for deposits' bytes and codes.
    Read,
    /// Deposits, their bytes included.
    Deposits,
    /// `/metrics`, and nothing else.
    Metrics,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Self::All, Self::Read, Self::Deposits, Self::Metrics];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Read => "read",
            Self::Deposits => "deposits",
            Self::Metrics => "metrics",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    pub id: TokenId,
    pub user: UserName,
    pub label: String,
    pub scopes: Vec<Scope>,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
}

impl Filterable for Token {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "id",
            kind: FieldKind::Text,
        },
        Field {
            name: "user",
            kind: FieldKind::Text,
        },
        Field {
            name: "label",
            kind: FieldKind::Text,
        },
        Field {
            name: "scopes",
            kind: FieldKind::Word(&["all", "read", "deposits", "metrics"]),
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "expires",
            kind: FieldKind::Time,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "user" => Value::text(self.user.as_str()),
            "label" => Value::text(&self.label),
            "scopes" => Value::Texts(
                self.scopes
                    .iter()
                    .map(|scope| scope.as_str().into())
                    .collect(),
            ),
            "created" => Value::Time(self.created),
            "expires" => Value::maybe_time(self.expires),
            _ => Value::Absent,
        }
    }
}
