//! Groups of clients.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(
        &call
            .service()
            .group_list(&call.ctx, &org, call.query.list()?)
            .await?,
    )
}

pub(super) async fn add(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::json(
        StatusCode::CREATED,
        &call
            .service()
            .group_add(&call.ctx, &org, call.json()?)
            .await?,
    )
}

pub(super) async fn show(call: Call) -> Result<Response> {
    let (org, group) = (call.param("org")?, call.param("group")?);
    reply::ok(&call.service().group_show(&call.ctx, &org, &group).await?)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let (org, group) = (call.param("org")?, call.param("group")?);
    call.service().group_remove(&call.ctx, &org, &group).await?;
    Ok(reply::nothing())
}

pub(super) async fn add_member(call: Call) -> Result<Response> {
    member(call, true).await
}

pub(super) async fn remove_member(call: Call) -> Result<Response> {
    member(call, false).await
}

async fn member(call: Call, is_in: bool) -> Result<Response> {
    let (org, group) = (call.param("org")?, call.param("group")?);
    let member = call.param("fingerprint")?;
    reply::ok(
        &call
            .service()
            .group_member(&call.ctx, (&org, &group), member, is_in)
            .await?,
    )
}
