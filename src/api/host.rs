//! Hosts on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::deposit::{LabelKey, LabelValue, Labels};
use crate::model::host::{Address, HostName, HostSetting, HostSettings};
use crate::model::host_group::HostGroupPath;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    pub name: HostName,
    /// Its name if left out.
    #[serde(default)]
    pub address: Option<Address>,
    #[serde(default)]
    pub group: Option<HostGroupPath>,
    #[serde(default)]
    pub labels: Labels,
    /// What it does not take from its group.
    #[serde(default)]
    pub own: HostSettings,
}

/// What is left out stays.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditHost {
    #[serde(default)]
    pub address: Option<Address>,
    #[serde(default)]
    pub group: Option<HostGroupPath>,
    /// It is to be in no group.
    #[serde(default)]
    pub ungroup: bool,
    /// Labels that are set, and those that go: null. The others stay.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub labels: BTreeMap<LabelKey, Option<LabelValue>>,
    /// Those that are given become its own.
    #[serde(default)]
    pub own: HostSettings,
    /// These are its group's again.
    #[serde(default)]
    pub inherit: Vec<HostSetting>,
}
