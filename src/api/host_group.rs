//! Host groups on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::host::{HostSetting, HostSettings};
use crate::model::host_group::HostGroupPath;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHostGroup {
    pub path: HostGroupPath,
    #[serde(default)]
    pub own: HostSettings,
}

/// What is left out stays.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditHostGroup {
    /// Those that are given become its own.
    #[serde(default)]
    pub own: HostSettings,
    /// These are those of the group that it lies in again.
    #[serde(default)]
    pub inherit: Vec<HostSetting>,
}
