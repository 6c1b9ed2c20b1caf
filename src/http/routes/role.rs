//! The roles that exist.

use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(&call.service().role_list(&call.ctx)?)
}
