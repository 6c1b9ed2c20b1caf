//! A deposit: bytes under a name in an organization, in versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{DepositId, Fingerprint, checked_text};
use super::org::OrgName;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

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

/// The most that a deposit's retrievals may be limited to.
pub const MOST_RETRIEVALS: u32 = 1_000_000_000;

/// When a deposit may be fetched, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub max_retrievals: Option<u32>,
    /// How many of them are used.
    pub retrieved: u32,
}

/// What of a policy changes: left out, it stays; none, it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetPolicy {
    pub not_before: Option<Option<Timestamp>>,
    pub expires: Option<Option<Timestamp>>,
    /// As it was asked for; a new limit counts from now.
    pub max_retrievals: Option<Option<u64>>,
}

impl Policy {
    /// None: there is no limit.
    pub fn left(&self) -> Option<u32> {
        self.max_retrievals
            .map(|most| most.saturating_sub(self.retrieved))
    }

    /// # Errors
    /// `not_yet`, `expired`, `retrievals_used`.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        if let Some(begin) = self.not_before.filter(|begin| now < *begin) {
            return Err(Error::denied(
                "not_yet",
                format!("this deposit may be fetched from {begin} on"),
            ));
        }
        if let Some(end) = self.expires.filter(|end| now >= *end) {
            return Err(Error::denied(
                "expired",
                format!(
                    "this deposit expired at {end}; its owner may set another end: strongroom deposit edit NAME --expires TIME"
                ),
            ));
        }
        if self.left() == Some(0) {
            return Err(Error::denied(
                "retrievals_used",
                "this deposit was fetched as often as it may be; its owner may grant another time: strongroom deposit grant NAME",
            ));
        }
        Ok(())
    }

    /// # Errors
    /// `Invalid` for an end in the past, or before the beginning, and for a limit out of range.
    pub fn set(mut self, set: &SetPolicy, now: Timestamp) -> Result<Self> {
        if let Some(limit) = set.max_retrievals {
            self.max_retrievals = limit
                .map(|limit| retrievals("max_retrievals", limit))
                .transpose()?;
            self.retrieved = 0;
        }
        self.not_before = set.not_before.unwrap_or(self.not_before);
        self.expires = set.expires.unwrap_or(self.expires);
        if set.expires.flatten().is_some_and(|end| end <= now) {
            return Err(Error::invalid(
                "expires",
                "the deposit's end lies in the past; to end it now: strongroom deposit rm NAME",
            ));
        }
        match (self.not_before, self.expires) {
            (Some(begin), Some(end)) if begin >= end => Err(Error::invalid(
                "not_before",
                format!("not_before ({begin}) must lie before expires ({end})"),
            )),
            _ => Ok(self),
        }
    }

    /// Allows more retrievals.
    ///
    /// # Errors
    /// `not_limited`; `Invalid` for a number out of range.
    pub fn grant(mut self, more: u64) -> Result<Self> {
        let more = retrievals("retrievals", more)?;
        let Some(most) = self.max_retrievals else {
            return Err(Error::conflict(
                "not_limited",
                "this deposit's retrievals are not limited, so none need to be granted",
            ));
        };
        let sum = u64::from(most) + u64::from(more);
        self.max_retrievals = Some(retrievals("retrievals", sum)?);
        Ok(self)
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.not_before.map(|begin| format!("not before {begin}")));
        parts.extend(self.expires.map(|end| format!("expires {end}")));
        parts.extend(self.left().map(|left| format!("{left} retrievals left")));
        match parts.is_empty() {
            true => f.write_str("no policy"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

/// A number of retrievals, within its bounds.
fn retrievals(field: &'static str, number: u64) -> Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=MOST_RETRIEVALS).contains(number))
        .ok_or_else(|| {
            Error::invalid(
                field,
                format!("the number of retrievals is from 1 to {MOST_RETRIEVALS}"),
            )
        })
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
    /// From when on it may be fetched.
    pub not_before: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// How often, as it was set and granted; none: as often as one likes.
    pub max_retrievals: Option<u32>,
    /// How many of them are left.
    pub retrievals_left: Option<u32>,
}

impl Deposit {
    pub fn policy(&self) -> Policy {
        let most = self.max_retrievals.unwrap_or(0);
        Policy {
            not_before: self.not_before,
            expires: self.expires,
            max_retrievals: self.max_retrievals,
            retrieved: most.saturating_sub(self.retrievals_left.unwrap_or(most)),
        }
    }
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
        Field {
            name: "not_before",
            kind: FieldKind::Time,
        },
        Field {
            name: "expires",
            kind: FieldKind::Time,
        },
        Field {
            name: "retrievals_left",
            kind: FieldKind::Number,
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
            "not_before" => Value::maybe_time(self.not_before),
            "expires" => Value::maybe_time(self.expires),
            "retrievals_left" => self
                .retrievals_left
                .map_or(Value::Absent, |left| Value::number(u64::from(left))),
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
    fn a_policy_bounds_when_and_how_often() {
        let code = |policy: Policy, now: i64| policy.check(Timestamp(now)).err().map(|it| it.code);
        let policy = Policy {
            not_before: Some(Timestamp(10)),
            expires: Some(Timestamp(20)),
            max_retrievals: Some(2),
            retrieved: 1,
        };
        assert_eq!(code(policy, 9), Some("not_yet"));
        assert_eq!(code(policy, 10), None);
        assert_eq!(code(policy, 19), None);
        assert_eq!(code(policy, 20), Some("expired"));
        let used = Policy {
            retrieved: 2,
            ..policy
        };
        assert_eq!(code(used, 10), Some("retrievals_used"));
        assert_eq!(used.grant(1).unwrap().left(), Some(1));
        assert_eq!(code(Policy::default(), 0), None);
        assert_eq!(Policy::default().grant(1).unwrap_err().code, "not_limited");
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused() {
        let now = Timestamp(100);
        let field = |set: SetPolicy| {
            Policy::default()
                .set(&set, now)
                .err()
                .and_then(|it| it.field)
        };
        let limit = |limit: u64| SetPolicy {
            max_retrievals: Some(Some(limit)),
            ..SetPolicy::default()
        };
        for wrong in [
            0,
            u64::from(MOST_RETRIEVALS) + 1,
            1 << 32,
            1 << 63,
            u64::MAX,
        ] {
            assert_eq!(field(limit(wrong)), Some("max_retrievals"), "{wrong}");
            let limited = Policy::default().set(&limit(1), now).unwrap();
            assert_eq!(limited.grant(wrong).unwrap_err().field, Some("retrievals"));
        }
        assert_eq!(field(limit(u64::from(MOST_RETRIEVALS))), None);
        let most = Policy::default().set(&limit(u64::from(MOST_RETRIEVALS)), now);
        assert!(most.unwrap().grant(1).is_err());
        let times = |begin: Option<i64>, end: Option<i64>| SetPolicy {
            not_before: begin.map(|at| Some(Timestamp(at))),
            expires: end.map(|at| Some(Timestamp(at))),
            ..SetPolicy::default()
        };
        assert_eq!(field(times(None, Some(100))), Some("expires"));
        assert_eq!(field(times(Some(200), Some(200))), Some("not_before"));
        assert_eq!(field(times(Some(200), Some(201))), None);
    }

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
