//! Quotas of organizations and clients.

use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn of_org(call: Call) -> Result<Response> {
    let org = call.param("org")?;
    reply::ok(&call.service().org_quota(&call.ctx, &org).await?)
}

pub(super) async fn set_of_org(call: Call) -> Result<Response> {
    let (org, request) = (call.param("org")?, call.json()?);
    let set = call.service().org_set_quota(&call.ctx, &org, request);
    reply::ok(&set.await?)
}

pub(super) async fn of_client(call: Call) -> Result<Response> {
    let client = call.param("fingerprint")?;
    reply::ok(&call.service().client_quota(&call.ctx, client).await?)
}

pub(super) async fn set_of_client(call: Call) -> Result<Response> {
    let (client, request) = (call.param("fingerprint")?, call.json()?);
    let set = call.service().client_set_quota(&call.ctx, client, request);
    reply::ok(&set.await?)
}
