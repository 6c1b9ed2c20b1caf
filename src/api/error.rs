//! What every refusal looks like.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Kind;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    pub kind: Kind,
    /// Stable; programs match on it.
    pub code: String,
    /// What happened, on what, and what to do next.
    pub message: String,
    /// The request's field at fault, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub request_id: String,
}
