//! Roles on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::role::Role;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleInfo {
    pub role: Role,
    pub description: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Roles {
    pub roles: Vec<RoleInfo>,
}
