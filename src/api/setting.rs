//! Settings on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingView {
    pub name: String,
    pub value: String,
    pub default: String,
    /// What it takes, such as `1024 to 16777216 (bytes)`.
    pub takes: String,
    pub description: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    pub settings: Vec<SettingView>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSetting {
    /// As text, whatever the setting's type.
    pub value: String,
}
