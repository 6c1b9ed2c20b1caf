//! Groups of hosts.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    let query = call.query.list()?;
    reply::ok(&call.service().host_group_list(&call.ctx, query).await?)
}

pub(super) async fn add(call: Call) -> Result<Response> {
    let added = call.service().host_group_add(&call.ctx, call.json()?);
    reply::json(StatusCode::CREATED, &added.await?)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    let path = call.param("path")?;
    reply::ok(&call.service().host_group_show(&call.ctx, &path).await?)
}

pub(super) async fn edit(call: Call) -> Result<Response> {
    let (path, request) = (call.param("path")?, call.json()?);
    let service = call.service();
    reply::ok(&service.host_group_edit(&call.ctx, &path, request).await?)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let path = call.param("path")?;
    call.service().host_group_remove(&call.ctx, &path).await?;
    Ok(reply::nothing())
}
