//! An organization's key.

use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .org_key(&call.ctx, &call.param("org")?)
            .await?,
    )
}

pub(super) async fn rotate(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(&call.service().org_rotate_key(&call.ctx, &org).await?)
}
