//! Certificates by which API users come.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    let user = call.param("user")?;
    reply::ok(
        &call
            .service()
            .user_certificate_list(&call.ctx, &user)
            .await?,
    )
}

pub(super) async fn add(call: Call) -> Result<Response> {
    let (user, request) = (call.param("user")?, call.json()?);
    let added = call
        .service()
        .user_certificate_add(&call.ctx, &user, request);
    reply::json(StatusCode::CREATED, &added.await?)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let (user, fingerprint) = (call.param("user")?, call.param("fingerprint")?);
    call.service()
        .user_certificate_remove(&call.ctx, &user, fingerprint)
        .await?;
    Ok(reply::nothing())
}
