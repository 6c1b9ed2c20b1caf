//! Log-in, on the GUI's listener.

use axum::http::{StatusCode, header};
use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::api::session::COOKIE;
use crate::error::Result;

/// The session's cookie goes to this host alone, over TLS alone, from its own pages alone, and no
/// script reads it.
const GUARDED: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

pub(super) async fn open(call: Call) -> Result<Response> {
    let opened = call
        .service()
        .session_open(call.ctx.source, call.ctx.request, call.json()?)
        .await?;
    let response = reply::json(StatusCode::CREATED, &opened.session)?;
    reply::with(
        response,
        header::SET_COOKIE,
        &format!("{COOKIE}={}; {GUARDED}", opened.cookie.expose()),
    )
}

pub(super) async fn prove(call: Call) -> Result<Response> {
    let opened = call
        .service()
        .session_prove(&call.ctx, call.cookie()?, call.json()?)
        .await?;
    let response = reply::ok(&opened.session)?;
    reply::with(
        response,
        header::SET_COOKIE,
        &format!("{COOKIE}={}; {GUARDED}", opened.cookie.expose()),
    )
}

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .session_show(&call.ctx, call.cookie()?)
            .await?,
    )
}

pub(super) async fn close(call: Call) -> Result<Response> {
    call.service()
        .session_close(&call.ctx, call.cookie()?)
        .await?;
    reply::with(
        reply::nothing(),
        header::SET_COOKIE,
        &format!("{COOKIE}=; Max-Age=0; {GUARDED}"),
    )
}
