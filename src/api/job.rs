//! Jobs on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::id::JobId;
use crate::model::job::{Job, JobLine};

/// A job with its log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobShown {
    pub job: Job,
    /// The newest thousand lines.
    pub log: Vec<JobLine>,
    /// What it made.
    pub children: Vec<JobId>,
}

/// What a feed tells of a job: how it is, and the lines that are new since.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobNews {
    pub job: Job,
    pub log: Vec<JobLine>,
}

#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelJobs {
    /// Which of those that wait (docs/formats/filter.md); all must hold, and none means all.
    #[serde(default)]
    pub filters: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobsCancelled {
    pub cancelled: u64,
}

#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDrain {
    /// Backups, drills and upkeep, too.
    #[serde(default)]
    pub all: bool,
}

/// Whether jobs begin, and what there is of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lanes {
    pub management: LaneShown,
    pub upkeep: LaneShown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneShown {
    /// `strongroom drain` holds it.
    pub drained: bool,
    /// How many may run at once; 0 holds the lane.
    pub most: u64,
    pub running: u64,
    /// Queued, pending and held.
    pub waiting: u64,
}
