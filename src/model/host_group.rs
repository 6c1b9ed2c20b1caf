//! A group of hosts, within the group that its path names; what a group says holds below it, too.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::host::HostSettings;
use super::id::checked_text;
use crate::clock::Timestamp;

/// Groups of one server.
pub const MOST: u64 = 10_000;

checked_text!(
    /// Names joined by `/`, such as `emea/prod`: each a letter or digit, then letters, digits, `.`, `_`
    /// or `-`, 64 at most; 8 names and 255 bytes at most.
    HostGroupPath, "group", |text| {
        let name = |it: &str| {
            it.len() <= 64
                && it.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
                && it.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let fits = text.len() <= 255 && text.split('/').count() <= 8 && text.split('/').all(name);
        (!fits).then(|| "is not a host group: up to 8 names joined by `/`, each a letter or digit, then up to 63 letters, digits, `.`, `_` or `-`; 255 bytes at most".to_owned())
    }
);

impl HostGroupPath {
    /// Itself, then the groups that it lies in, the nearest first.
    pub fn lineage(&self) -> impl Iterator<Item = HostGroupPath> {
        let ends = self.0.rmatch_indices('/').map(|(at, _)| at);
        std::iter::once(self.0.len())
            .chain(ends)
            .map(|end| Self(self.0[..end].to_owned()))
    }

    /// The paths of all groups within it lie between these, both excluded.
    pub fn within(&self) -> (String, String) {
        (format!("{}/", self.0), format!("{}/\u{7f}", self.0))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostGroup {
    pub path: HostGroupPath,
    /// How many hosts are in it, without those of groups within it.
    pub hosts: u64,
    /// What is its own.
    pub own: HostSettings,
    pub created: Timestamp,
}

impl Filterable for HostGroup {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "path",
            kind: FieldKind::Text,
        },
        Field {
            name: "hosts",
            kind: FieldKind::Number,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "path" => Value::text(self.path.as_str()),
            "hosts" => Value::number(self.hosts),
            "created" => Value::Time(self.created),
            _ => Value::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_those_before_it() {
        let path: HostGroupPath = "emea/prod/db".parse().unwrap();
        let lineage: Vec<String> = path.lineage().map(|it| it.to_string()).collect();
        assert_eq!(lineage, ["emea/prod/db", "emea/prod", "emea"]);
        "a".repeat(64).parse::<HostGroupPath>().unwrap();
        for bad in [
            &"a".repeat(65),
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a/-b",
            "a b",
            "a/b/c/d/e/f/g/h/i",
        ] {
            bad.parse::<HostGroupPath>().expect_err(bad);
        }
    }
}
