//! Recipients of backups.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .recipient_list(&call.ctx, call.query.list()?)
            .await?,
    )
}

pub(super) async fn add(call: Call) -> Result<Response> {
    reply::json(
        StatusCode::CREATED,
        &call
            .service()
            .recipient_add(&call.ctx, call.json()?)
            .await?,
    )
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    call.service()
        .recipient_remove(&call.ctx, call.param("id")?)
        .await?;
    Ok(reply::nothing())
}
