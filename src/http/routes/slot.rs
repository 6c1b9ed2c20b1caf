//! Slots.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(&call.service().slot_list(&call.ctx).await?)
}

pub(super) async fn add(call: Call) -> Result<Response> {
    let slot = call.service().slot_add(&call.ctx, call.json()?).await?;
    reply::json(StatusCode::CREATED, &slot)
}

pub(super) async fn replace(call: Call) -> Result<Response> {
    let id = call.param("id")?;
    let slot = call.service().slot_replace(&call.ctx, id, call.json()?);
    reply::ok(&slot.await?)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let id = call.param("id")?;
    let slot = call.service().slot_remove(&call.ctx, id, call.json()?);
    reply::ok(&slot.await?)
}

pub(super) async fn test(call: Call) -> Result<Response> {
    let id = call.param("id")?;
    let slot = call.service().slot_test(&call.ctx, id, call.json()?);
    reply::ok(&slot.await?)
}

pub(super) async fn rotate_root(call: Call) -> Result<Response> {
    let rotated = call.service().root_rotate(&call.ctx, call.json()?);
    reply::ok(&rotated.await?)
}
