//! Hosts.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    let query = call.query.list()?;
    reply::ok(&call.service().host_list(&call.ctx, query).await?)
}

pub(super) async fn add(call: Call) -> Result<Response> {
    let added = call.service().host_add(&call.ctx, call.json()?);
    reply::json(StatusCode::CREATED, &added.await?)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    let name = call.param("host")?;
    reply::ok(&call.service().host_show(&call.ctx, &name).await?)
}

pub(super) async fn edit(call: Call) -> Result<Response> {
    let (name, request) = (call.param("host")?, call.json()?);
    let service = call.service();
    reply::ok(&service.host_edit(&call.ctx, &name, request).await?)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let name = call.param("host")?;
    call.service().host_remove(&call.ctx, &name).await?;
    Ok(reply::nothing())
}
