//! A job: work that outlives the request or the schedule that it comes from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{JobId, shown};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Parameters of a job, as JSON, in bytes.
pub const MOST_PARAMETERS: usize = 4_096;
/// One line of a job's log, and how many of them are kept: the newest.
pub const LONGEST_LINE: usize = 1_000;
pub const MOST_LINES: u64 = 1_000;

/// As much of a text as fits, in bytes.
pub fn cut(text: &str, most: usize) -> &str {
    let fits = |at: &usize| text.is_char_boundary(*at);
    let end = (0..=most.min(text.len())).rev().find(fits);
    &text[..end.unwrap_or(0)]
}

/// What is to be done. Each has a file in `src/sched/jobs/`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Seals an organization's deposits anew under its newest key.
    OrgKeyRotation,
    /// Looks at the ends of all certificates.
    CertificateCheck,
    /// Signs where the audit's chains stand.
    AuditCheckpoint,
    /// Drops what is kept for a time alone.
    Pruning,
    /// Reads every page of the store and checks it.
    StoreCheck,
    /// Takes a backup into the folder that the settings name, and rolls older ones away.
    Backup,
    /// Proves that the newest backup would bring everything back.
    Drill,
}

impl JobKind {
    pub const ALL: [JobKind; 7] = [
        Self::OrgKeyRotation,
        Self::CertificateCheck,
        Self::AuditCheckpoint,
        Self::Pruning,
        Self::StoreCheck,
        Self::Backup,
        Self::Drill,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrgKeyRotation => "org_key_rotation",
            Self::CertificateCheck => "certificate_check",
            Self::AuditCheckpoint => "audit_checkpoint",
            Self::Pruning => "pruning",
            Self::StoreCheck => "store_check",
            Self::Backup => "backup",
            Self::Drill => "drill",
        }
    }

    pub fn lane(self) -> Lane {
        match self {
            Self::OrgKeyRotation => Lane::Management,
            Self::CertificateCheck
            | Self::AuditCheckpoint
            | Self::Pruning
            | Self::StoreCheck
            | Self::Backup
            | Self::Drill => Lane::Upkeep,
        }
    }

    /// Whether a schedule can make it: it needs to be told nothing.
    pub fn on_schedule(self) -> bool {
        match self {
            Self::OrgKeyRotation => false,
            Self::CertificateCheck
            | Self::AuditCheckpoint
            | Self::Pruning
            | Self::StoreCheck
            | Self::Backup
            | Self::Drill => true,
        }
    }

    /// After so many attempts that went wrong it has failed.
    pub fn most_attempts(self) -> u32 {
        match self {
            // Half a day: what keeps a newer key from being in force everywhere is worth the patience.
            Self::OrgKeyRotation => 20,
            Self::CertificateCheck | Self::AuditCheckpoint | Self::Pruning => 5,
            // It takes long, and damage does not go away.
            Self::StoreCheck | Self::Backup | Self::Drill => 2,
        }
    }

    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// # Errors
    /// A kind that there is not, or that no schedule can make; it names those that one can.
    pub fn for_schedule(text: &str) -> Result<Self> {
        Self::find(text)
            .filter(|kind| kind.on_schedule())
            .ok_or_else(|| {
                let known: Vec<&str> = Self::ALL
                    .into_iter()
                    .filter(|kind| kind.on_schedule())
                    .map(Self::as_str)
                    .collect();
                Error::invalid(
                    "kind",
                    format!(
                        "no schedule makes jobs of the kind `{}`; it takes one of {}",
                        shown(text),
                        known.join(", ")
                    ),
                )
            })
    }
}

/// Jobs of one lane do not take the place of those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Work on hosts and on keys, as many at once as `backend.maximum_processes` says.
    Management,
    /// Backups, drills and upkeep.
    Upkeep,
}

impl Lane {
    pub const ALL: [Lane; 2] = [Self::Management, Self::Upkeep];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Upkeep => "upkeep",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// An attempt went wrong; the next one waits for its time.
    Pending,
    /// Waits for a worker.
    Queued,
    /// Would run, but its lane is held.
    Held,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    pub const ALL: [JobState; 7] = [
        Self::Pending,
        Self::Queued,
        Self::Held,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_over(self) -> bool {
        match self {
            Self::Pending | Self::Queued | Self::Held | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    pub id: JobId,
    pub kind: JobKind,
    pub lane: Lane,
    pub state: JobState,
    /// What it works on, such as an organization's name; empty: the server.
    pub target: String,
    /// What it was told beside that.
    pub parameters: serde_json::Value,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// The job that made it.
    pub parent: Option<JobId>,
    pub created: Timestamp,
    pub created_by: String,
    /// It waits until then.
    pub not_before: Option<Timestamp>,
    /// When its first attempt began.
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Attempts that were begun; one that the end of the server cut off goes on as the same.
    pub attempts: u32,
    /// Grows with each worker that takes it up; what an earlier one reports is refused.
    pub generation: u64,
    /// It is to end before its next step.
    pub cancelling: bool,
    /// Runs although its lane is held.
    pub released: bool,
    pub done: u64,
    /// 0: not known.
    pub total: u64,
    /// Of what.
    pub unit: String,
    /// What came of it, or of the last attempt.
    pub outcome: String,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobLine {
    pub number: u64,
    pub time: Timestamp,
    pub text: String,
}

impl Filterable for Job {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "id",
            kind: FieldKind::Text,
        },
        Field {
            name: "kind",
            kind: FieldKind::Word(&[
                "org_key_rotation",
                "certificate_check",
                "audit_checkpoint",
                "pruning",
                "store_check",
                "backup",
                "drill",
            ]),
        },
        Field {
            name: "lane",
            kind: FieldKind::Word(&["management", "upkeep"]),
        },
        Field {
            name: "state",
            kind: FieldKind::Word(&[
                "pending",
                "queued",
                "held",
                "running",
                "succeeded",
                "failed",
                "cancelled",
            ]),
        },
        Field {
            name: "target",
            kind: FieldKind::Text,
        },
        Field {
            name: "schedule",
            kind: FieldKind::Text,
        },
        Field {
            name: "parent",
            kind: FieldKind::Text,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "created_by",
            kind: FieldKind::Text,
        },
        Field {
            name: "started",
            kind: FieldKind::Time,
        },
        Field {
            name: "ended",
            kind: FieldKind::Time,
        },
        Field {
            name: "attempts",
            kind: FieldKind::Number,
        },
        Field {
            name: "outcome",
            kind: FieldKind::Text,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "kind" => Value::text(self.kind.as_str()),
            "lane" => Value::text(self.lane.as_str()),
            "state" => Value::text(self.state.as_str()),
            "target" => Value::text(&self.target),
            "schedule" => Value::maybe_text(self.schedule.as_deref()),
            "parent" => self.parent.map_or(Value::Absent, Value::shown),
            "created" => Value::Time(self.created),
            "created_by" => Value::text(&self.created_by),
            "started" => Value::maybe_time(self.started),
            "ended" => Value::maybe_time(self.ended),
            "attempts" => Value::number(u64::from(self.attempts)),
            "outcome" => Value::text(&self.outcome),
            _ => Value::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("aä", 2), cut("aä", 3), cut("", 3)), ("a", "aä", ""));
    }

    #[test]
    fn filters_know_every_kind_and_state() {
        let words = |name: &str| {
            let field = Job::FIELDS.iter().find(|field| field.name == name).unwrap();
            match field.kind {
                FieldKind::Word(words) => words,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(words("kind"), JobKind::ALL.map(JobKind::as_str));
        assert_eq!(words("lane"), Lane::ALL.map(Lane::as_str));
        assert_eq!(words("state"), JobState::ALL.map(JobState::as_str));
        for kind in JobKind::ALL {
            let json = serde_json::to_value(kind).unwrap();
            assert_eq!(json, kind.as_str());
            assert_eq!(JobKind::find(kind.as_str()), Some(kind));
        }
        let error = JobKind::for_schedule("org_key_rotation").unwrap_err();
        assert!(error.public.contains("store_check"), "{error}");
    }
}
