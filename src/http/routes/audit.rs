//! The audit: list, verify, export, and the segments that left.

use axum::response::Response;

use super::super::call::Call;
use super::super::reply;
use crate::error::Result;

pub(super) async fn list(call: Call) -> Result<Response> {
    reply::ok(
        &call
            .service()
            .audit_list(&call.ctx, call.query.list()?)
            .await?,
    )
}

pub(super) async fn verify(call: Call) -> Result<Response> {
    reply::ok(&call.service().audit_verify(&call.ctx).await?)
}

pub(super) async fn export(call: Call) -> Result<Response> {
    let pieces = call.service().audit_export(&call.ctx).await?;
    Ok(reply::pieces("application/x-ndjson", pieces))
}

pub(super) async fn segments(call: Call) -> Result<Response> {
    reply::ok(&call.service().audit_segments(&call.ctx).await?)
}

pub(super) async fn segment(call: Call) -> Result<Response> {
    let file = call.raw("file").unwrap_or_default();
    let pieces = call.service().audit_segment(&call.ctx, file).await?;
    Ok(reply::pieces("application/x-ndjson", pieces))
}
