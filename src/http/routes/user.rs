//! Users, their passwords and their grants.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::{Error, Result};
use crate::model::id::shown;
use crate::model::role::{Grant, Role};

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .user_list(&call.ctx, call.query.list()?)
            .await?,
    )
}

pub(super) async fn add(call: Call) -> Result<Response> {
    reply::json(
        StatusCode::CREATED,
        &call.service().user_add(&call.ctx, call.json()?).await?,
    )
}

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .user_show(&call.ctx, &call.param("user")?)
            .await?,
    )
}

pub(super) async fn edit(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .user_edit(&call.ctx, &call.param("user")?, call.json()?)
            .await?,
    )
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    call.service()
        .user_remove(&call.ctx, &call.param("user")?)
        .await?;
    Ok(reply::nothing())
}

pub(super) async fn set_password(call: Call) -> Result<Response> {
    call.service()
        .user_set_password(&call.ctx, &call.param("user")?, call.json()?)
        .await?;
    Ok(reply::nothing())
}

pub(super) async fn totp_enroll(call: Call) -> Result<Response> {
    let user = call.param("user")?;
    reply::json(
        StatusCode::CREATED,
        &call
            .service()
            .totp_enroll(&call.ctx, &user, call.json()?)
            .await?,
    )
}

pub(super) async fn totp_confirm(call: Call) -> Result<Response> {
    let user = call.param("user")?;
    reply::ok(
        &call
            .service()
            .totp_confirm(&call.ctx, &user, call.json()?)
            .await?,
    )
}

pub(super) async fn totp_remove(call: Call) -> Result<Response> {
    let user = call.param("user")?;
    call.service()
        .totp_remove(&call.ctx, &user, call.json()?)
        .await?;
    Ok(reply::nothing())
}

pub(super) async fn reset(call: Call) -> Result<Response> {
    let user = call.param("user")?;
    reply::ok(
        &call
            .service()
            .user_reset(&call.ctx, &user, call.json()?)
            .await?,
    )
}

pub(super) async fn grant(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .user_grant(&call.ctx, &call.param("user")?, call.json()?)
            .await?,
    )
}

pub(super) async fn revoke(call: Call) -> Result<Response> {
    let grant = Grant {
        role: role(call.query.text("role"))?,
        org: call.query.parsed("org")?,
    };
    reply::ok(
        &call
            .service()
            .user_revoke(&call.ctx, &call.param("user")?, grant)
            .await?,
    )
}

fn role(text: Option<&str>) -> Result<Role> {
    let text = text.unwrap_or_default();
    Role::ALL
        .into_iter()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| {
            let known = Role::ALL.map(Role::as_str).join(", ");
            Error::invalid(
                "role",
                format!("`role` takes one of {known}, not `{}`", shown(text)),
            )
        })
}
