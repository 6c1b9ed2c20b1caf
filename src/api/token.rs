//! API tokens on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::token::{Scope, Token};
use crate::model::user::UserName;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddToken {
    /// Whose rights it carries; the caller's own where left out.
    #[serde(default)]
    pub user: Option<UserName>,
    /// What it is for; up to 255 bytes.
    pub label: String,
    pub scopes: Vec<Scope>,
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct TokenAdded {
    pub token: Token,
    /// Shown this once; the server keeps its hash.
    pub secret: String,
}
