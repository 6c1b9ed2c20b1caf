//! A schedule: when which kind of job is made.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cron::{Cron, ZoneName};
use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{JobId, checked_text};
use super::job::{JobKind, JobState};
use crate::clock::Timestamp;

/// Schedules of one server, those that are built in among them.
pub const MOST: usize = 200;

checked_text!(
    /// First a letter or digit, then letters, digits, `.`, `_` or `-`; 64 at most.
    ScheduleName, "name", |text| {
        let fits = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        (!fits).then(|| "is not a schedule's name: a letter or digit, then up to 63 letters, digits, `.`, `_` or `-`".to_owned())
    }
);

/// A schedule that every server has from the beginning. It may be edited and paused, not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    pub name: &'static str,
    pub kind: JobKind,
    pub cron: &'static str,
    /// In UTC, unless edited.
    pub what: &'static str,
}

pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: "audit-checkpoint",
        kind: JobKind::AuditCheckpoint,
        cron: "0 * * * *",
        what: "signs where the audit stands",
    },
    BuiltIn {
        name: "backup",
        kind: JobKind::Backup,
        cron: "20 * * * *",
        what: "takes a backup for the store's recipients, once there is one",
    },
    BuiltIn {
        name: "certificate-check",
        kind: JobKind::CertificateCheck,
        cron: "30 6 * * *",
        what: "looks at the ends of all certificates",
    },
    BuiltIn {
        name: "drill",
        kind: JobKind::Drill,
        cron: "30 3 * * *",
        what: "proves that the newest backup would bring everything back",
    },
    BuiltIn {
        name: "pruning",
        kind: JobKind::Pruning,
        cron: "15 2 * * *",
        what: "drops sessions, answers and jobs of long ago",
    },
    BuiltIn {
        name: "store-check",
        kind: JobKind::StoreCheck,
        cron: "45 2 * * *",
        what: "reads every page of the store and checks it",
    },
];

pub fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|it| it.name == name)
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    pub name: ScheduleName,
    pub kind: JobKind,
    pub cron: Cron,
    pub zone: ZoneName,
    pub paused: bool,
    pub built_in: bool,
    pub created: Timestamp,
    /// When it was made, changed or resumed; times before that are none of its own.
    pub since: Timestamp,
    /// The next times, five at most; none while it is paused.
    pub next: Vec<Timestamp>,
    /// The newest job that it made.
    pub last_job: Option<JobId>,
    pub last_state: Option<JobState>,
    /// When that job was due.
    pub last_due: Option<Timestamp>,
}

impl Schedule {
    /// What it makes and when, as an event says it.
    pub fn in_words(&self) -> String {
        let paused = if self.paused { ", paused" } else { "" };
        format!(
            "{} at {} ({}){paused}",
            self.kind.as_str(),
            self.cron.as_str(),
            self.zone
        )
    }
}

impl Filterable for Schedule {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "name",
            kind: FieldKind::Text,
        },
        Field {
            name: "kind",
            kind: FieldKind::Text,
        },
        Field {
            name: "zone",
            kind: FieldKind::Text,
        },
        Field {
            name: "paused",
            kind: FieldKind::Bool,
        },
        Field {
            name: "built_in",
            kind: FieldKind::Bool,
        },
        Field {
            name: "next",
            kind: FieldKind::Time,
        },
        Field {
            name: "last_state",
            kind: FieldKind::Text,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "name" => Value::text(self.name.as_str()),
            "kind" => Value::text(self.kind.as_str()),
            "zone" => Value::text(self.zone.as_str()),
            "paused" => Value::Bool(self.paused),
            "built_in" => Value::Bool(self.built_in),
            "next" => Value::maybe_time(self.next.first().copied()),
            "last_state" => Value::maybe_text(self.last_state.map(JobState::as_str)),
            _ => Value::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_can_be_made() {
        for it in BUILT_IN {
            assert!(it.kind.on_schedule());
            it.name.parse::<ScheduleName>().unwrap();
            it.cron.parse::<Cron>().unwrap();
        }
        assert!(BUILT_IN.is_sorted_by_key(|it| it.name));
    }
}
