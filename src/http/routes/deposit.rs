//! Deposits: bytes in, bytes out, and all about them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::super::body::AnswerRoom;
use super::super::call::Call;
use super::super::{headers, reply};
use crate::api::deposit::{
    DEPOSIT_ID, ENCRYPTION, EXPIRES, NOT_BEFORE, RETRIEVALS_LEFT, VERSION, Versions,
};
use crate::error::{Error, Result};
use crate::model::deposit::{ANY_TYPE, Deposit, Encryption};
use crate::service::deposit::{Found, Meta, PutDeposit, Which};
use crate::service::feed::LONGEST as LONGEST_FEED;

pub(super) async fn put(mut call: Call) -> Result<Response> {
    let which = call.which()?;
    let request = PutDeposit {
        expect: headers::expect(&call.headers)?,
        encryption: headers::encryption(&call.headers)?,
        content_type: headers::content_type(&call.headers)?,
        description: headers::description(&call.headers)?,
        labels: headers::labels(&call.headers)?,
        policy: headers::policy(&call.headers)?,
        back: None,
        body: call.take_bytes(),
    };
    let stored = call
        .service()
        .deposit_put(&call.ctx, &which, request)
        .await?;
    let code = if stored.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = format!("/v1/deposits/id/{}", stored.deposit.id);
    reply::with(
        described(code, &stored.deposit)?,
        header::LOCATION,
        &location,
    )
}

/// What is no longer has room without waiting.
const NEVER_WAITS: usize = 32 << 10;
/// Room is taken anew for a deposit that grew meanwhile, so often.
const TRIES: usize = 16;

pub(super) async fn get(call: Call) -> Result<Response> {
    let which = call.which()?;
    let version = call.query.number("version", u32::MAX)?;
    let (found, room) = found_with_room(&call, &which, version).await?;
    let fetched = call.service().deposit_get(&call.ctx, found).await?;
    let mut response = described_bytes(&fetched.meta())?;
    *response.body_mut() = room.body(Bytes::from_owner(fetched.body));
    Ok(response)
}

/// What is asked for, and room for its bytes. Before it is opened: what waits for room is still sealed,
/// and not released.
async fn found_with_room(
    call: &Call,
    which: &Which,
    version: Option<u32>,
) -> Result<(Found, AnswerRoom)> {
    let mut found = call.service().deposit_find(&call.ctx, which, version)?;
    for _ in 0..TRIES {
        let bytes = found.bytes();
        let room = call.answer_room(bytes).await?;
        if bytes <= NEVER_WAITS {
            return Ok((found, room));
        }
        // Whatever was answered meanwhile counts: a limit, a right that is gone, another version.
        found = call
            .service()
            .deposit_find_again(&call.ctx, which, version)?;
        if found.bytes() <= bytes {
            return Ok((found, room));
        }
    }
    Err(Error::unavailable(
        "busy",
        "the deposit grew again and again while the request waited; ask again",
    )
    .after(1))
}

/// As GET, but nothing is released: it reads metadata alone.
pub(super) async fn head(call: Call) -> Result<Response> {
    let which = call.which()?;
    let wanted = call.query.number("version", u32::MAX)?;
    let deposit = call.service().deposit_show(&call.ctx, &which).await?;
    let wanted = wanted.unwrap_or(deposit.version);
    let version = call.service().deposit_version(&deposit, wanted)?;
    let mut response = described_bytes(&Meta {
        id: deposit.id,
        version: version.version,
        encryption: version.encryption,
        content_type: &version.content_type,
        policy: deposit.policy(),
    })?;
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(version.size));
    Ok(response)
}

pub(super) async fn remove(call: Call) -> Result<Response> {
    let expect = headers::expect(&call.headers)?;
    let deposit = call
        .service()
        .deposit_remove(&call.ctx, &call.which()?, expect)
        .await?;
    described(StatusCode::OK, &deposit)
}

pub(super) async fn show(call: Call) -> Result<Response> {
    described(
        StatusCode::OK,
        &call
            .service()
            .deposit_show(&call.ctx, &call.which()?)
            .await?,
    )
}

pub(super) async fn edit(call: Call) -> Result<Response> {
    let expect = headers::expect(&call.headers)?;
    let deposit = call
        .service()
        .deposit_edit(&call.ctx, &call.which()?, expect, call.json()?)
        .await?;
    described(StatusCode::OK, &deposit)
}

pub(super) async fn versions(call: Call) -> Result<Response> {
    let versions = call
        .service()
        .deposit_versions(&call.ctx, &call.which()?)
        .await?;
    reply::ok(&Versions { versions })
}

pub(super) async fn list(call: Call) -> Result<Response> {
    let org = match call.raw("org") {
        Some(org) => Some(org.parse()?),
        None => call.query.parsed("org")?,
    };
    let shared = match (call.query.text("shared"), &org) {
        (None | Some("false"), _) => false,
        (Some("true"), None) => true,
        _ => {
            return Err(Error::invalid(
                "shared",
                "`shared` takes true or false, and no organization beside it",
            ));
        }
    };
    reply::ok(
        &call
            .service()
            .deposit_list(&call.ctx, org.as_ref(), shared, call.query.list()?)
            .await?,
    )
}

pub(super) async fn undelete(call: Call) -> Result<Response> {
    described(
        StatusCode::OK,
        &call
            .service()
            .deposit_undelete(&call.ctx, &call.which()?)
            .await?,
    )
}

pub(super) async fn watch(call: Call) -> Result<Response> {
    let after = headers::last_event(&call.headers)?;
    let seconds = call.query.number("wait", LONGEST_FEED)?;
    let pieces = call
        .service()
        .deposit_watch(&call.ctx, after, seconds.unwrap_or(LONGEST_FEED))
        .await?;
    Ok(reply::pieces("text/event-stream", pieces))
}

pub(super) async fn readers(call: Call) -> Result<Response> {
    let which = call.which()?;
    reply::ok(&call.service().deposit_readers(&call.ctx, &which).await?)
}

pub(super) async fn share(call: Call) -> Result<Response> {
    let (which, request) = (call.which()?, call.json()?);
    reply::ok(
        &call
            .service()
            .deposit_share(&call.ctx, &which, request)
            .await?,
    )
}

pub(super) async fn unshare(call: Call) -> Result<Response> {
    let (which, request) = (call.which()?, call.json()?);
    reply::ok(
        &call
            .service()
            .deposit_unshare(&call.ctx, &which, request)
            .await?,
    )
}

pub(super) async fn grant(call: Call) -> Result<Response> {
    let request = call.json_or_default()?;
    let deposit = call
        .service()
        .deposit_grant(&call.ctx, &call.which()?, request)
        .await?;
    described(StatusCode::OK, &deposit)
}

pub(super) async fn purge(call: Call) -> Result<Response> {
    call.service()
        .deposit_purge(&call.ctx, &call.which()?)
        .await?;
    Ok(reply::nothing())
}

fn described(code: StatusCode, deposit: &Deposit) -> Result<Response> {
    reply::with(
        reply::json(code, deposit)?,
        header::ETAG,
        &headers::etag(deposit.version),
    )
}

/// What is known of a deposit's bytes, without them. A browser is told to keep them, not to show
/// them.
fn described_bytes(meta: &Meta<'_>) -> Result<Response> {
    let content_type =
        HeaderValue::from_str(meta.content_type).unwrap_or(HeaderValue::from_static(ANY_TYPE));
    let mut response = reply::of(StatusCode::OK, content_type, Body::empty());
    let encryption = match meta.encryption {
        Encryption::None => HeaderValue::from_static("none"),
        Encryption::Age => HeaderValue::from_static("age"),
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(ENCRYPTION), encryption);
    headers.insert(
        HeaderName::from_static(VERSION),
        HeaderValue::from(meta.version),
    );
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    );
    if let Some(left) = meta.policy.left() {
        headers.insert(
            HeaderName::from_static(RETRIEVALS_LEFT),
            HeaderValue::from(left),
        );
    }
    let mut response = reply::with(
        response,
        HeaderName::from_static(DEPOSIT_ID),
        &meta.id.to_string(),
    )?;
    let times = [
        (NOT_BEFORE, meta.policy.not_before),
        (EXPIRES, meta.policy.expires),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            response = reply::with(response, HeaderName::from_static(name), &time.to_string())?;
        }
    }
    reply::with(response, header::ETAG, &headers::etag(meta.version))
}
