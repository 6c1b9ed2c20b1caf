//! Clients: register, decide, remove.

use axum::http::{StatusCode, header};
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;
use crate::model::client::ClientState;
use crate::service::client::Verdict;

pub(super) async fn register(call: Call) -> Result<Response> {
    let registration = call
        .service()
        .client_register(&call.ctx, call.json()?, call.certificate())
        .await?;
    let code = match registration.client.state {
        ClientState::Pending => StatusCode::ACCEPTED,
        ClientState::Active | ClientState::Denied | ClientState::Disabled => StatusCode::CREATED,
    };
    reply::with(
        reply::json(code, &registration)?,
        header::LOCATION,
        "/v1/clients/self",
    )
}

pub(super) async fn own(call: Call) -> Result<Response> {
    reply::ok(&call.service().client_self(&call.ctx).await?)
}

pub(super) async fn list(call: Call) -> Result<Response> {
    let org = call.query.parsed("org")?;
    reply::ok(
        &call
            .service()
            .client_list(&call.ctx, org.as_ref(), call.query.list()?)
            .await?,
    )
}

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .client_show(&call.ctx, call.param("fingerprint")?)
            .await?,
    )
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    call.service()
        .client_remove(&call.ctx, call.param("fingerprint")?)
        .await?;
    Ok(reply::nothing())
}

pub(super) async fn approve(call: Call) -> Result<Response> {
    decide(call, Verdict::Approve).await
}

pub(super) async fn deny(call: Call) -> Result<Response> {
    decide(call, Verdict::Deny).await
}

pub(super) async fn enable(call: Call) -> Result<Response> {
    decide(call, Verdict::Enable).await
}

pub(super) async fn disable(call: Call) -> Result<Response> {
    decide(call, Verdict::Disable).await
}

async fn decide(call: Call, verdict: Verdict) -> Result<Response> {
    let client = call.param("fingerprint")?;
    reply::ok(
        &call
            .service()
            .client_decide(&call.ctx, client, verdict, call.json_or_default()?)
            .await?,
    )
}
