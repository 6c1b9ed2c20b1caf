//! Backups.

use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use uuid::Uuid;

use super::super::call::Call;
use super::super::reply;
use crate::api::backup::{ID, LENGTH, NAME, WITHOUT_OWNER};
use crate::error::{Error, Result};
use crate::service::backup::WantedDeposit;

fn id(call: &Call) -> Result<Uuid> {
    let text = call.raw("id").unwrap_or_default();
    text.parse()
        .map_err(|_| Error::not_found("a backup's id is a UUID, as `backup list` shows it"))
}

pub(super) async fn begin(call: Call) -> Result<Response> {
    let request = call.json()?;
    let leaving = call.service().backup_begin(&call.ctx, request).await?;
    let mut response = reply::pieces("application/octet-stream", leaving.pieces);
    for (name, value) in [
        (ID, leaving.id.to_string()),
        (NAME, leaving.name),
        (LENGTH, leaving.length.to_string()),
    ] {
        response = reply::with(response, HeaderName::from_static(name), &value)?;
    }
    Ok(response)
}

pub(super) async fn make(call: Call) -> Result<Response> {
    let request = call.json_or_default()?;
    let job = call.service().backup_job(&call.ctx, request).await?;
    reply::json(StatusCode::ACCEPTED, &job)
}

pub(super) async fn drill(call: Call) -> Result<Response> {
    let job = call.service().drill_job(&call.ctx).await?;
    reply::json(StatusCode::ACCEPTED, &job)
}

pub(super) async fn verify(mut call: Call) -> Result<Response> {
    let (id, file) = (id(&call)?, call.take_file()?);
    let verified = call.service().backup_verify(&call.ctx, Some(id), file);
    reply::ok(&verified.await?)
}

pub(super) async fn verify_any(mut call: Call) -> Result<Response> {
    let file = call.take_file()?;
    let verified = call.service().backup_verify(&call.ctx, None, file);
    reply::ok(&verified.await?)
}

pub(super) async fn extract(mut call: Call) -> Result<Response> {
    let wanted = |name: &'static str| Error::invalid(name, format!("give `{name}` in the query"));
    let org = call.query.parsed("org")?.ok_or_else(|| wanted("org"))?;
    let name = call
        .query
        .parsed("deposit")?
        .ok_or_else(|| wanted("deposit"))?;
    let wanted = WantedDeposit {
        org,
        name,
        without_owner: call.query.flag(WITHOUT_OWNER)?,
    };
    let file = call.take_file()?;
    let put = call.service().backup_extract(&call.ctx, wanted, file);
    reply::ok(&put.await?)
}

pub(super) async fn keep(call: Call) -> Result<Response> {
    let kept = call
        .service()
        .backup_keep(&call.ctx, id(&call)?, call.json()?);
    reply::ok(&kept.await?)
}

pub(super) async fn failed(call: Call) -> Result<Response> {
    let id = id(&call)?;
    call.service()
        .backup_failed(&call.ctx, id, call.json()?)
        .await?;
    Ok(reply::nothing())
}

pub(super) async fn removed(call: Call) -> Result<Response> {
    let removed = call
        .service()
        .backup_removed(&call.ctx, id(&call)?, call.json()?);
    reply::ok(&removed.await?)
}

pub(super) async fn list(call: Call) -> Result<Response> {
    let removed_too = call.query.flag("removed")?;
    reply::ok(&call.service().backup_list(&call.ctx, removed_too).await?)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    reply::ok(&call.service().backup_show(&call.ctx, id(&call)?).await?)
}
