//! An organization's key, under which its deposits lie.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::id::JobId;
use crate::model::job::JobState;
use crate::model::org::OrgName;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OrgKey {
    pub org: OrgName,
    /// What is stored from now on lies under this version.
    pub version: u32,
    pub created: Timestamp,
    /// There while older deposits are sealed anew under it.
    pub rotation: Option<KeyRotation>,
}

/// How far it is, in deposits.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyRotation {
    pub done: u64,
    /// As they were counted when it began.
    pub total: u64,
    pub started: Timestamp,
    /// Versions that do not open.
    pub failed: u64,
    /// The first deposit that has one.
    pub first_failed: Option<String>,
    /// It went through; because of what does not open, the older keys stay.
    pub ended: bool,
    /// The job that works on it.
    pub job: Option<JobId>,
    pub job_state: Option<JobState>,
}
