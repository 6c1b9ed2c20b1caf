//! Every request passes here once, on its way in and out: its id, its panics, its log line, its
//! count.

use std::any::Any;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use rustls_pki_types::CertificateDer;
use tower::Service as _;

use super::body::Unread;
use super::connections::{Watch, Work};
use super::{App, reply};
use crate::error::Error;
use crate::model::id::{Fingerprint, RequestId};
use crate::service::caller::{Listener, Source};

/// Who is at the other end, as far as the connection proves it.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) address: Option<IpAddr>,
    /// Of the certificate's public key, whose possession the handshake proved.
    pub(super) key: Option<Fingerprint>,
    /// What the handshake presented, the key's own certificate first.
    pub(super) presented: Arc<[CertificateDer<'static>]>,
    pub(super) uid: Option<u32>,
}

/// A request as it arrived; travels with it.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) request: RequestId,
    pub(super) source: Source,
    pub(super) peer: Arc<Peer>,
}

pub(super) struct Door {
    pub(super) app: Arc<App>,
    pub(super) router: axum::Router,
    pub(super) peer: Arc<Peer>,
    pub(super) watch: Arc<Watch>,
}

impl Door {
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        multiplexed: bool,
    ) -> Result<Response<Answer>, Infallible> {
        let started = Instant::now();
        let mut work = self.watch.work();
        let arrival = Arrival {
            request: RequestId::new(),
            source: Source {
                listener: self.app.listener,
                address: self.peer.address,
            },
            peer: Arc::clone(&self.peer),
        };
        let asked = Asked {
            method: request.method().clone(),
            uri: request.uri().clone(),
        };
        let (mut parts, body) = request.into_parts();
        let id = arrival.request;
        let source = arrival.source;
        parts.extensions.insert(arrival);
        let (body, unread) = Unread::share(body, &parts.headers, multiplexed);

        let mut response = match check_host(&parts) {
            Ok(()) => self.route(Request::from_parts(parts, body)).await,
            Err(error) => reply::refusal(error),
        };
        if let Some(unread) = unread {
            unread.drain(&self.watch);
        }

        let status = response.status().as_u16();
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.app.gate.request_answered(status, micros);
        reply::finish(&mut response, id, &asked.method, source.listener);
        asked.log(&mut response, id, source, micros);
        work.waits_for_us(false);
        Ok(response.map(|body| Answer { body, work }))
    }

    async fn route(&self, request: Request<Body>) -> Response<Body> {
        match caught(self.router.clone().call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            // The payload may hold a secret; the panic hook logs the place.
            Err(_) => reply::refusal(Error::internal("a handler panicked")),
        }
    }
}

/// HTTP/1.1 has one `Host` in each request (RFC 9112, 3.2): where a proxy stands before us, another
/// number of them means that it may have read another request than we do.
fn check_host(parts: &Parts) -> Result<(), Error> {
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    if parts.version != Version::HTTP_11 || hosts == 1 {
        return Ok(());
    }
    Err(Error::invalid(
        "host",
        "an HTTP/1.1 request has the header host, once",
    ))
}

/// What was asked, for the log: never the query or a header, which may hold secrets.
struct Asked {
    method: Method,
    uri: Uri,
}

impl Asked {
    fn log(&self, response: &mut Response<Body>, request: RequestId, source: Source, micros: u64) {
        let status = response.status().as_u16();
        let refused = response.extensions_mut().remove::<Arc<Error>>();
        let level = match (&refused, status) {
            (Some(_), 500) => log::Level::Error,
            (Some(_), 503) => log::Level::Warn,
            (Some(_), _) => log::Level::Info,
            (None, _) => log::Level::Debug,
        };
        if !log::log_enabled!(level) {
            return;
        }
        let listener = match source.listener {
            Listener::Client => "client",
            Listener::Gui => "gui",
            Listener::Socket => "socket",
        };
        let address = source
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        let path = crate::model::id::shown(self.uri.path());
        let method = self.method.as_str();
        match refused {
            None => {
                log::log!(level, request:% = request, listener, address, method, path, status, micros; "request")
            }
            Some(error) => {
                let cause = error.cause().map(ToString::to_string).unwrap_or_default();
                log::log!(level, request:% = request, listener, address, method, path, status, micros, code = error.code, cause; "request refused");
            }
        }
    }
}

/// Runs a future to its end or its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// An answer's body. Its connection counts as at work until hyper has taken all of it.
pub(super) struct Answer {
    body: Body,
    work: Work,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.work.waits_for_us(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request's id as a header's value.
pub(super) fn id_header(id: RequestId) -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.0.hyphenated().encode_lower(&mut buffer))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Headers that every answer carries, so that no cache keeps one and no browser runs one.
pub(super) fn protective(headers: &mut axum::http::HeaderMap, listener: Listener) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if listener != Listener::Gui {
        return;
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox",
    ));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
}
