//! How the server is, part by part.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    Green,
    /// Works, and needs someone's attention.
    Amber,
    /// Does not work.
    Red,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subsystem {
    pub name: String,
    pub state: Light,
    pub since: Timestamp,
    /// Why it is not green; empty when it is.
    pub reason: String,
    /// What to do next; empty when nothing.
    pub next_step: String,
}

/// What the whole server does for its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    Starting,
    Sealed,
    Serving,
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub server: ServerState,
    /// The worst of the subsystems.
    pub state: Light,
    pub subsystems: Vec<Subsystem>,
}
