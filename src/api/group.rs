//! Groups of clients on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::client::Client;
use crate::model::group::{Group, GroupName};

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddGroup {
    pub name: GroupName,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupWithMembers {
    #[serde(flatten)]
    pub group: Group,
    /// In the order in which they were added.
    pub clients: Vec<Client>,
}
