//! Organizations.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .org_list(&call.ctx, call.query.list()?)
            .await?,
    )
}

pub(super) async fn add(call: Call) -> Result<Response> {
    reply::json(
        StatusCode::CREATED,
        &call.service().org_add(&call.ctx, call.json()?).await?,
    )
}

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .org_show(&call.ctx, &call.param("org")?)
            .await?,
    )
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(&call.service().org_remove(&call.ctx, &org).await?)
}

pub(super) async fn set_auth(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .org_set_auth(&call.ctx, &call.param("org")?, call.json()?)
            .await?,
    )
}

pub(super) async fn set_recovery_recipient(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(
        &call
            .service()
            .org_set_recovery_recipient(&call.ctx, &org, call.json()?)
            .await?,
    )
}

pub(super) async fn add_contacts(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(
        &call
            .service()
            .org_add_contacts(&call.ctx, &org, call.json()?)
            .await?,
    )
}

pub(super) async fn remove_contact(call: Call) -> Result<Response> {
    let (org, contact) = (call.param("org")?, call.param("contact")?);
    reply::ok(
        &call
            .service()
            .org_remove_contact(&call.ctx, &org, contact)
            .await?,
    )
}

pub(super) async fn set_expiry(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(
        &call
            .service()
            .org_set_expiry(&call.ctx, &org, call.json()?)
            .await?,
    )
}
