//! Jobs and their lanes.

use axum::response::Response;

use super::super::call::Call;
use super::super::{headers, reply};
use crate::error::Result;
use crate::service::feed::LONGEST as LONGEST_FEED;

pub(super) async fn list(call: Call) -> Result<Response> {
    let org = call.query.parsed("org")?;
    let query = call.query.list()?;
    let service = call.service();
    reply::ok(&service.job_list(&call.ctx, org.as_ref(), query).await?)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .job_show(&call.ctx, call.param("id")?)
            .await?,
    )
}

pub(super) async fn watch(call: Call) -> Result<Response> {
    let (id, after) = (call.param("id")?, headers::last_event(&call.headers)?);
    let seconds = call.query.number("wait", LONGEST_FEED)?;
    let seconds = seconds.unwrap_or(LONGEST_FEED);
    let pieces = call.service().job_watch(&call.ctx, id, after, seconds);
    Ok(reply::pieces("text/event-stream", pieces.await?))
}

pub(super) async fn cancel(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .job_cancel(&call.ctx, call.param("id")?)
            .await?,
    )
}

pub(super) async fn cancel_waiting(call: Call) -> Result<Response> {
    let request = call.json_or_default()?;
    let service = call.service();
    reply::ok(&service.job_cancel_waiting(&call.ctx, request).await?)
}

pub(super) async fn retry(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .job_retry(&call.ctx, call.param("id")?)
            .await?,
    )
}

pub(super) async fn release(call: Call) -> Result<Response> {
    let service = call.service();
    reply::ok(&service.job_release(&call.ctx, call.param("id")?).await?)
}

pub(super) async fn lanes(call: Call) -> Result<Response> {
    reply::ok(&call.service().lanes(&call.ctx).await?)
}

pub(super) async fn drain(call: Call) -> Result<Response> {
    let request = call.json_or_default()?;
    reply::ok(&call.service().drain(&call.ctx, request).await?)
}

pub(super) async fn resume(call: Call) -> Result<Response> {
    reply::ok(&call.service().resume(&call.ctx).await?)
}
