//! Schedules.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    let query = call.query.list()?;
    reply::ok(&call.service().schedule_list(&call.ctx, query).await?)
}

pub(super) async fn add(call: Call) -> Result<Response> {
    let added = call.service().schedule_add(&call.ctx, call.json()?);
    reply::json(StatusCode::CREATED, &added.await?)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    let name = call.param("schedule")?;
    reply::ok(&call.service().schedule_show(&call.ctx, &name).await?)
}

pub(super) async fn edit(call: Call) -> Result<Response> {
    let (name, request) = (call.param("schedule")?, call.json()?);
    let service = call.service();
    reply::ok(&service.schedule_edit(&call.ctx, &name, request).await?)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let name = call.param("schedule")?;
    call.service().schedule_remove(&call.ctx, &name).await?;
    Ok(reply::nothing())
}

pub(super) async fn pause(call: Call) -> Result<Response> {
    paused(call, true).await
}

pub(super) async fn resume(call: Call) -> Result<Response> {
    paused(call, false).await
}

async fn paused(call: Call, paused: bool) -> Result<Response> {
    let name = call.param("schedule")?;
    let service = call.service();
    reply::ok(&service.schedule_pause(&call.ctx, &name, paused).await?)
}

pub(super) async fn run(call: Call) -> Result<Response> {
    let name = call.param("schedule")?;
    let job = call.service().schedule_run(&call.ctx, &name).await?;
    reply::json(StatusCode::ACCEPTED, &job)
}
