//! Schedules on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::cron::{Cron, ZoneName};
use crate::model::job::JobKind;
use crate::model::schedule::ScheduleName;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSchedule {
    pub name: ScheduleName,
    pub kind: JobKind,
    /// Five fields as crontab(5) has them, or `@hourly` and the like.
    pub cron: Cron,
    /// Where its clock is; UTC if left out.
    #[serde(default)]
    pub zone: Option<ZoneName>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditSchedule {
    #[serde(default)]
    pub cron: Option<Cron>,
    #[serde(default)]
    pub zone: Option<ZoneName>,
}
