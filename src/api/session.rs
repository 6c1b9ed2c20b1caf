//! Log-in on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::role::Grant;
use crate::model::user::UserName;

/// The cookie that carries the session.
pub const COOKIE: &str = "__Host-strongroom";
/// A request that changes something within a session repeats `Session::csrf` here.
pub const CSRF: &str = "strongroom-csrf";

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    pub user: UserName,
    pub password: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub user: UserName,
    pub grants: Vec<Grant>,
    pub expires: Timestamp,
    pub csrf: String,
}
