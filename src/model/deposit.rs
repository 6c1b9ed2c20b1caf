//! A deposit: bytes under a name in an organization, in versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{DepositId, Fingerprint, checked_text};
use super::org::OrgName;
use crate::clock::Timestamp;

checked_text!(
    /// First a letter or digit, then `A-Z a-z 0-9 . _ -`; 255 at most; never readable as a UUID,
    /// since either names a deposit.
    DepositName, "name", |text| {
        if text.is_empty() || text.len() > 255 {
            return Some("is not a deposit's name: 1 to 255 characters".to_owned());
        }
        if !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Some("is not a deposit's name: it must begin with a letter or a digit".to_owned());
        }
        if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            return Some(format!("is not a deposit's name: `{}` (U+{:04X}) is not one of A-Z a-z 0-9 . _ -", bad.escape_debug(), u32::from(bad)));
        }
        uuid::Uuid::try_parse(text).is_ok().then(|| "reads as a UUID; a deposit's name must not, since a UUID names a deposit too".to_owned())
    }
);

checked_text!(
    /// First a letter or digit, then `A-Z a-z 0-9 . _ / -`; 63 at most.
    LabelKey, "labels", |text| {
        let fits = (1..=63).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'));
        (!fits).then(|| "is not a label's key: a letter or digit, then up to 62 of A-Z a-z 0-9 . _ / -".to_owned())
    }
);

checked_text!(
    /// Up to 255 bytes without control characters.
    LabelValue, "labels", |text| {
        (text.len() > 255 || text.chars().any(char::is_control)).then(|| "is not a label's value: up to 255 bytes without control characters".to_owned())
    }
);

/// The content type of bytes of which none was told.
pub const ANY_TYPE: &str = "application/octet-stream";

/// At most 64 a deposit.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// What the stored bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Taken as they came; `deposit get` hands them out as they are.
    #[default]
    None,
    /// An age file, encrypted on the client; `deposit get` opens it there.
    Age,
}

impl Encryption {
    /// How long a body may be whose content has up to `content` bytes: what age adds does not count,
    /// so that a content of the greatest length can be stored encrypted. Age adds 16 bytes to each
    /// 64 KiB, and a header that grows with the number of recipients.
    pub fn longest_body(self, content: usize) -> usize {
        const HEADER: usize = 64 << 10;
        match self {
            Self::None => content,
            Self::Age => content + content.div_ceil(64 << 10) * 16 + HEADER,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Age => "age",
        }
    }
}

/// A deposit as lists show it: everything but the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deposit {
    pub id: DepositId,
    pub org: OrgName,
    pub name: DepositName,
    /// The client that owns it; none where an API user stored it.
    pub owner: Option<Fingerprint>,
    /// The newest version; versions count from 1.
    pub version: u32,
    /// Of the newest version, in bytes as stored.
    pub size: u64,
    pub encryption: Encryption,
    pub content_type: String,
    pub description: String,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    pub created: Timestamp,
    pub modified: Timestamp,
    /// Since when it lies in the bin.
    pub deleted: Option<Timestamp>,
}

impl Filterable for Deposit {
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
            name: "owner",
            kind: FieldKind::Text,
        },
        Field {
            name: "version",
            kind: FieldKind::Number,
        },
        Field {
            name: "size",
            kind: FieldKind::Number,
        },
        Field {
            name: "encryption",
            kind: FieldKind::Word(&["none", "age"]),
        },
        Field {
            name: "content_type",
            kind: FieldKind::Text,
        },
        Field {
            name: "description",
            kind: FieldKind::Text,
        },
        Field {
            name: "label",
            kind: FieldKind::Map,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "modified",
            kind: FieldKind::Time,
        },
        Field {
            name: "deleted",
            kind: FieldKind::Time,
        },
    ];

    fn value(&self, field: &str, key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "org" => Value::text(self.org.as_str()),
            "name" => Value::text(self.name.as_str()),
            "owner" => self.owner.map_or(Value::Absent, Value::shown),
            "version" => Value::number(u64::from(self.version)),
            "size" => Value::number(self.size),
            "encryption" => Value::text(self.encryption.as_str()),
            "content_type" => Value::text(&self.content_type),
            "description" => Value::text(&self.description),
            "label" => Value::maybe_text(
                self.labels
                    .iter()
                    .find(|(found, _)| Some(found.as_str()) == key)
                    .map(|(_, value)| value.as_str()),
            ),
            "created" => Value::Time(self.created),
            "modified" => Value::Time(self.modified),
            "deleted" => Value::maybe_time(self.deleted),
            _ => Value::Absent,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DepositVersion {
    pub version: u32,
    pub size: u64,
    pub encryption: Encryption,
    pub content_type: String,
    pub created: Timestamp,
    /// Who stored it: `client FINGERPRINT`, `user NAME` or `local UID`.
    pub created_by: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mislead_are_refused() {
        for good in ["a", "id", "0", "luks.header_v2-3", "A".repeat(255).as_str()] {
            assert!(good.parse::<DepositName>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        let cyrillic = "pаypal";
        for bad in [
            "",
            ".a",
            "-a",
            "a/b",
            "../a",
            "a b",
            "a\0b",
            "ä",
            cyrillic,
            &long,
            "018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "018f3b5e5b6a7c3d8e9f0123456789ab",
        ] {
            assert!(bad.parse::<DepositName>().is_err(), "{bad}");
        }
        assert!(
            cyrillic
                .parse::<DepositName>()
                .unwrap_err()
                .public
                .contains("U+0430")
        );
    }
}
