//! The audit: list, verify, export.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc::Receiver;

use super::super::call::Call;
use super::super::reply;
use crate::error::{Error, Result};

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
    Ok(reply::text(
        "application/x-ndjson",
        Body::new(Pieces(pieces)),
    ))
}

/// The export as it comes. An error breaks the answer off, so that no reader takes it for whole.
struct Pieces(Receiver<Result<Vec<u8>>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                if let Err(error) = &piece {
                    log::error!(error:? = error; "an audit export broke off");
                }
                piece.map(|bytes| Frame::data(bytes.into()))
            })
        })
    }
}
