//! The certificates of the listeners.

use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(&call.service().tls_show(&call.ctx).await?)
}

pub(super) async fn request(call: Call) -> Result<Response> {
    let request = call.json_or_default()?;
    reply::ok(&call.service().tls_request(&call.ctx, request).await?)
}

pub(super) async fn self_sign(call: Call) -> Result<Response> {
    let request = call.json()?;
    reply::ok(&call.service().tls_self_sign(&call.ctx, request).await?)
}

pub(super) async fn install(call: Call) -> Result<Response> {
    let request = call.json()?;
    reply::ok(&call.service().tls_install(&call.ctx, request).await?)
}

pub(super) async fn roll_back(call: Call) -> Result<Response> {
    reply::ok(&call.service().tls_roll_back(&call.ctx).await?)
}

pub(super) async fn set_client_ca(call: Call) -> Result<Response> {
    let request = call.json()?;
    reply::ok(&call.service().tls_set_client_ca(&call.ctx, request).await?)
}

pub(super) async fn remove_client_ca(call: Call) -> Result<Response> {
    reply::ok(&call.service().tls_remove_client_ca(&call.ctx).await?)
}
