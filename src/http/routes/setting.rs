//! Settings.

use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(&call.service().setting_list(&call.ctx).await?)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    let name = call.raw("setting").unwrap_or_default();
    reply::ok(&call.service().setting_show(&call.ctx, name).await?)
}

pub(super) async fn set(call: Call) -> Result<Response> {
    let name = call.raw("setting").unwrap_or_default();
    reply::ok(
        &call
            .service()
            .setting_set(&call.ctx, name, call.json()?)
            .await?,
    )
}
