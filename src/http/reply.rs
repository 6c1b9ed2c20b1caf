//! Answers. The only place that maps kinds of error to status codes.

use std::pin::Pin;
use std::sync::Arc;
use std::task;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame};
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use super::door;
use crate::api;
use crate::api::error::{ErrorBody, ErrorDetail};
use crate::error::{Error, Kind, Result};
use crate::model::id::{RequestId, shown};
use crate::service::caller::Listener;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Kind::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Limited => StatusCode::TOO_MANY_REQUESTS,
        Kind::Sealed | Kind::Unavailable | Kind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) fn json<T: Serialize>(code: StatusCode, value: &T) -> Result<Response> {
    let body = serde_json::to_vec(value).map_err(|error| {
        Error::internal("an answer could not be written as JSON").because(error)
    })?;
    Ok(of(code, JSON, Body::from(body)))
}

pub(super) fn ok<T: Serialize>(value: &T) -> Result<Response> {
    json(StatusCode::OK, value)
}

pub(super) fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

pub(super) fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    of(
        StatusCode::OK,
        HeaderValue::from_static(content_type),
        body.into(),
    )
}

/// An answer whose end is not known yet.
pub(super) fn pieces(content_type: &'static str, pieces: Receiver<Result<Vec<u8>>>) -> Response {
    text(content_type, Body::new(Pieces(pieces)))
}

/// An answer as it comes. An error breaks it off, so that no reader takes it for whole.
struct Pieces(Receiver<Result<Vec<u8>>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                if let Err(error) = &piece {
                    log::error!(error:? = error; "an answer broke off");
                }
                piece.map(|bytes| Frame::data(bytes.into()))
            })
        })
    }
}

pub(super) fn of(code: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Adds a header whose value is made of numbers, ids and checked texts.
pub(super) fn with(mut response: Response, name: HeaderName, value: &str) -> Result<Response> {
    let value = HeaderValue::from_str(value).map_err(|error| {
        Error::internal(format!("the header {name} could not be written")).because(error)
    })?;
    response.headers_mut().insert(name, value);
    Ok(response)
}

/// A refusal. The door writes its body, where the request's id is known, and logs its cause once.
pub(super) fn refusal(error: Error) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status(error.kind);
    let headers = response.headers_mut();
    if error.kind == Kind::Unauthenticated {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"strongroom\""),
        );
    }
    let wait = match (error.retry_after, error.kind) {
        (Some(seconds), _) => Some(seconds),
        (None, Kind::Limited) => Some(1),
        (None, _) => None,
    };
    if let Some(seconds) = wait {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(Arc::new(error));
    response
}

/// The refusal of a method that the path does not have.
pub(super) fn method_refusal(method: &Method, allowed: &str) -> Response {
    let mut response = refusal(Error::new(
        Kind::MethodNotAllowed,
        "method_not_allowed",
        format!(
            "this path does not take {}; it takes {allowed}",
            shown(method.as_str())
        ),
    ));
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// What every answer gets on its way out.
pub(super) fn finish(response: &mut Response, id: RequestId, method: &Method, listener: Listener) {
    if let Some(error) = response.extensions().get::<Arc<Error>>().cloned() {
        let body = error_body(&error, id);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if *method != Method::HEAD {
            *response.body_mut() = Body::from(body);
        }
    }
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static(api::REQUEST_ID),
        door::id_header(id),
    );
    door::protective(headers, listener);
}

fn error_body(error: &Error, id: RequestId) -> Vec<u8> {
    let body = ErrorBody {
        error: ErrorDetail {
            kind: error.kind,
            code: error.code.to_owned(),
            message: error.public.clone(),
            field: error.field.map(str::to_owned),
            request_id: id.to_string(),
        },
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_carry_what_their_status_asks_for() {
        let refused = |kind| refusal(Error::new(kind, "code", "public"));
        let limited = refused(Kind::Limited);
        assert_eq!(limited.status(), 429);
        assert_eq!(limited.headers()[header::RETRY_AFTER], "1");
        assert!(
            refused(Kind::Unauthenticated)
                .headers()
                .contains_key(header::WWW_AUTHENTICATE)
        );
        assert_eq!(
            refusal(Error::unavailable("busy", "x").after(7)).headers()[header::RETRY_AFTER],
            "7"
        );
    }

    #[test]
    fn the_private_cause_stays_out_of_the_answer() {
        let error = Error::internal("the cellar is flooded");
        let id = RequestId::new();
        let body = String::from_utf8(error_body(&error, id)).unwrap();
        assert!(
            !body.contains("cellar") && body.contains(&id.to_string()),
            "{body}"
        );
        let read: ErrorBody = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (read.error.kind, read.error.code.as_str()),
            (Kind::Internal, "internal")
        );
    }
}
