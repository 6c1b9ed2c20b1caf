//! One small HTTP/1.1 client for the admin socket and for TLS. Every wait has a deadline, every
//! answer a greatest length. A change carries an idempotency key, so that it is sent once more, and
//! no more, when the connection is lost.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::print::clean;
use crate::api::error::ErrorBody;
use crate::api::{IDEMPOTENCY_KEY, REASON, REQUEST_ID};
use crate::error::{Error, Kind, Result};
use crate::model::page::{MAX_LIMIT, Page};
use crate::secret::Secret;

const CONNECT: Duration = Duration::from_secs(10);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Until the answer begins; a few verbs ask for more.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two pieces of an answer.
const PIECE: Duration = Duration::from_secs(30);
/// A full page of the longest events stays far below.
const LONGEST_ANSWER: usize = 64 << 20;

/// Where requests go.
pub enum Route {
    /// The admin socket of a data folder.
    Socket { path: PathBuf, data_dir: PathBuf },
    Tls {
        host: String,
        port: u16,
        config: Arc<rustls::ClientConfig>,
    },
}

pub struct Client {
    route: Route,
    token: Option<Secret<String>>,
    reason: Option<String>,
    verbose: bool,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// One request.
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    wait: Duration,
}

/// One answer that is no refusal.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why there is no answer.
enum Failure {
    /// No connection: nothing was sent.
    Unsent(Error),
    /// The connection ended before the answer did.
    Lost(String),
    /// The answer did not come in time, or is none.
    Final(Error),
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            wait: ANSWER,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The body is wiped when it was sent, for it may hold a secret.
    pub fn body(mut self, bytes: Vec<u8>) -> Self {
        self.body = Bytes::from_owner(Zeroizing::new(bytes));
        self
    }

    pub fn json(self, value: &impl Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::internal(format!("a request as JSON: {error}")))?;
        Ok(self.header("content-type", "application/json").body(bytes))
    }

    /// For verbs that take long before they answer.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    fn changes(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }
}

impl Reply {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::new(
                Kind::Internal,
                "answer",
                format!("the server's answer is not what this version ({}) expects: {error}; use the program of the server's version", env!("CARGO_PKG_VERSION")),
            )
        })
    }

    /// A header's text; none if there is none, or if it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub fn new(
        route: Route,
        token: Option<Secret<String>>,
        reason: Option<String>,
        verbose: bool,
    ) -> Self {
        Self {
            route,
            token,
            reason,
            verbose,
            connection: None,
        }
    }

    /// Sends, and reads an answer that is JSON.
    pub async fn json<T: DeserializeOwned>(&mut self, call: Call) -> Result<T> {
        self.send(call).await?.json()
    }

    /// Sends, and reads the whole answer.
    pub async fn send(&mut self, call: Call) -> Result<Reply> {
        let key = new_key(&call);
        let mut first = None;
        loop {
            let failure = match self.once(&call, key.as_deref()).await {
                Ok(reply) => return self.refusal_or(reply),
                Err(failure) => failure,
            };
            self.connection = None;
            match (failure, first.take()) {
                (Failure::Lost(why), None) => first = Some(why),
                (Failure::Unsent(error), None) | (Failure::Final(error), _) => return Err(error),
                (Failure::Lost(why), Some(_)) | (Failure::Unsent(_), Some(why)) => {
                    return Err(self.lost(&call, &why));
                }
            }
        }
    }

    /// Sends, and hands the answer on piece by piece. Never sent twice.
    pub async fn stream(
        &mut self,
        call: Call,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let key = new_key(&call);
        let response = match self.begin(&call, key.as_deref()).await {
            Ok(response) => response,
            Err(Failure::Lost(why)) => return Err(self.lost(&call, &why)),
            Err(Failure::Unsent(error) | Failure::Final(error)) => return Err(error),
        };
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let body = match self.pieces(&mut body, LONGEST_ANSWER).await {
                Ok(body) => body,
                Err(_) => Vec::new(),
            };
            return self
                .refusal_or(Reply {
                    status: head.status,
                    headers: head.headers,
                    body,
                })
                .map(|_| ());
        }
        while let Some(piece) = next_piece(&mut body)
            .await
            .map_err(|failure| match failure {
                Failure::Lost(why) => self.lost(&call, &why),
                Failure::Unsent(error) | Failure::Final(error) => error,
            })?
        {
            take(&piece)?;
        }
        Ok(())
    }

    /// Follows a list's cursors to its end, or until `limit` items came. True: there are more.
    pub async fn pages<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, String)],
        limit: Option<u64>,
        mut take: impl FnMut(&[T]) -> Result<()>,
    ) -> Result<bool> {
        let mut left = limit.unwrap_or(u64::MAX);
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", left.clamp(1, u64::from(MAX_LIMIT)).to_string()));
            query.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
            let page: Page<T> = self.json(Call::get(with_query(path, &query))).await?;
            let fits = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(page.items.len());
            take(&page.items[..fits])?;
            left -= fits as u64;
            let cut = fits < page.items.len();
            if page.next.is_some() && page.next == cursor {
                return Err(Error::new(
                    Kind::Internal,
                    "answer",
                    "the server's list does not go on: it gave the same cursor twice",
                ));
            }
            cursor = page.next;
            if left == 0 || cursor.is_none() {
                return Ok(cut || cursor.is_some());
            }
        }
    }

    async fn once(
        &mut self,
        call: &Call,
        key: Option<&str>,
    ) -> std::result::Result<Reply, Failure> {
        let response = self.begin(call, key).await?;
        let (head, mut body) = response.into_parts();
        let body = self.pieces(&mut body, LONGEST_ANSWER).await?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn pieces(
        &self,
        body: &mut Incoming,
        longest: usize,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = next_piece(body).await? {
            if bytes.len() + piece.len() > longest {
                return Err(Failure::Final(Error::new(
                    Kind::Internal,
                    "answer",
                    format!("the server's answer is longer than {longest} bytes"),
                )));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Sends, and waits until the answer begins.
    async fn begin(
        &mut self,
        call: &Call,
        key: Option<&str>,
    ) -> std::result::Result<Response<Incoming>, Failure> {
        let request = self.request(call, key).map_err(Failure::Final)?;
        let mut connection = match self.kept().await {
            Some(kept) => kept,
            None => self.connect().await.map_err(Failure::Unsent)?,
        };
        let response = match timeout(call.wait, connection.send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::Lost(error_chain(&error))),
            Err(_) => {
                return Err(Failure::Final(self.lost(
                    call,
                    &format!("no answer within {} s", call.wait.as_secs()),
                )));
            }
        };
        self.connection = Some(connection);
        Ok(response)
    }

    /// The connection of the request before, if it still takes one.
    async fn kept(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut kept = self.connection.take()?;
        let ready = timeout(CONNECT, kept.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(kept)
    }

    fn request(&self, call: &Call, key: Option<&str>) -> Result<Request<Full<Bytes>>> {
        let host = match &self.route {
            Route::Socket { .. } => "localhost".to_owned(),
            Route::Tls { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Route::Tls { host, port, .. } => format!("{host}:{port}"),
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header("host", host)
            .header(
                "user-agent",
                concat!("strongroom/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(reason) = self.reason.as_deref().filter(|_| call.changes()) {
            request = request.header(REASON, percent(reason));
        }
        if let Some(token) = &self.token {
            let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
            let mut value = HeaderValue::from_str(&bearer).map_err(|_| {
                Error::invalid(
                    "token",
                    "the token file holds more than a token: one line of visible characters",
                )
            })?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        request
            .body(Full::new(call.body.clone()))
            .map_err(|error| Error::invalid("request", format!("this cannot be sent: {error}")))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        match &self.route {
            Route::Socket { path, data_dir } => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await;
                let stream = stream
                    .map_err(|_| self.late("the admin socket takes no connection"))?
                    .map_err(|error| no_socket(&error, path, data_dir))?;
                speak(stream).await
            }
            Route::Tls { host, port, config } => {
                let unreachable = |why: String| {
                    Error::unavailable(
                        "unreachable",
                        format!(
                            "no server answers at {host}:{port}: {why}; see whether it runs, and whether the address is right"
                        ),
                    )
                };
                let stream = timeout(CONNECT, TcpStream::connect((host.as_str(), *port)))
                    .await
                    .map_err(|_| {
                        unreachable(format!("no connection within {} s", CONNECT.as_secs()))
                    })?
                    .map_err(|error| unreachable(error.to_string()))?;
                let _ = stream.set_nodelay(true);
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    Error::invalid(
                        "server",
                        format!("`{}` is not a host's name or address", clean(host)),
                    )
                })?;
                let tls = TlsConnector::from(Arc::clone(config)).connect(name, stream);
                let stream = timeout(HANDSHAKE, tls)
                    .await
                    .map_err(|_| self.late("the TLS handshake does not end"))?
                    .map_err(|error| no_tls(host, *port, error))?;
                speak(stream).await
            }
        }
    }

    fn late(&self, what: &str) -> Error {
        Error::unavailable(
            "too_late",
            format!("{what}; the server is overloaded or something else listens there"),
        )
    }

    fn lost(&self, call: &Call, why: &str) -> Error {
        if call.changes() {
            Error::new(
                Kind::Unknown,
                "answer_lost",
                format!(
                    "the server's answer was lost ({why}); the change may have been made: look before you repeat it"
                ),
            )
        } else {
            Error::unavailable(
                "connection_lost",
                format!("the connection to the server was lost: {why}"),
            )
        }
    }

    /// The answer, or the refusal in it.
    fn refusal_or(&self, reply: Reply) -> Result<Reply> {
        if reply.status.is_success() {
            return Ok(reply);
        }
        let after = reply
            .header("retry-after")
            .and_then(|text| text.parse().ok());
        let id = reply.header(REQUEST_ID).map(clean).unwrap_or_default();
        let mut error = match serde_json::from_slice::<ErrorBody>(&reply.body) {
            Ok(body) => {
                let detail = body.error;
                let mut text = clean(&detail.message);
                if detail.kind == Kind::Internal || self.verbose {
                    let _ = write!(text, " (request {})", clean(&detail.request_id));
                }
                let mut error = Error::new(
                    detail.kind,
                    known(&detail.code, CODES).unwrap_or("server"),
                    text,
                );
                error.field = detail
                    .field
                    .as_deref()
                    .and_then(|field| known(field, FIELDS));
                error
            }
            Err(_) => Error::new(
                kind_of(reply.status),
                "server",
                format!(
                    "the server answered {} without saying why (request {id}); see whether this is a Strongroom server",
                    reply.status
                ),
            ),
        };
        error.retry_after = error.retry_after.or(after);
        Err(error)
    }
}

/// Codes that this program or its users act on; any other stands as `server`.
const CODES: &[&str] = &[
    "already_registered",
    "audit_unavailable",
    "conflict",
    "denied",
    "internal",
    "invalid",
    "key_reused",
    "limited",
    "name_taken",
    "not_found",
    "not_registered",
    "precondition_failed",
    "sealed",
    "too_large",
    "unauthenticated",
    "unavailable",
];

const FIELDS: &[&str] = &[
    "auth_code",
    "contacts",
    "cursor",
    "description",
    "expires",
    "filter",
    "fingerprint",
    "id",
    "labels",
    "limit",
    "name",
    "org",
    "password",
    "recipient",
    "role",
    "scopes",
    "time",
    "user",
    "value",
    "version",
];

fn known(text: &str, table: &'static [&'static str]) -> Option<&'static str> {
    table.iter().find(|known| **known == text).copied()
}

fn kind_of(status: StatusCode) -> Kind {
    match status.as_u16() {
        401 => Kind::Unauthenticated,
        403 => Kind::Denied,
        404 => Kind::NotFound,
        405 => Kind::MethodNotAllowed,
        409 => Kind::Conflict,
        412 => Kind::PreconditionFailed,
        413 => Kind::TooLarge,
        415 => Kind::UnsupportedType,
        429 => Kind::Limited,
        502..=504 => Kind::Unavailable,
        400..=499 => Kind::Invalid,
        _ => Kind::Internal,
    }
}

/// HTTP/1.1 over a stream; the task ends with the connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| {
            Error::unavailable(
                "connection_lost",
                format!("the connection to the server was lost: {error}"),
            )
        })?;
    // What goes wrong on it is told by the request that it carries.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn next_piece(body: &mut Incoming) -> std::result::Result<Option<Bytes>, Failure> {
    loop {
        let frame = timeout(PIECE, body.frame())
            .await
            .map_err(|_| Failure::Lost(format!("nothing came for {} s", PIECE.as_secs())))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::Lost(error_chain(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Names each change, so that the server knows it again.
fn new_key(call: &Call) -> Option<String> {
    call.changes()
        .then(|| hex::encode(crate::crypto::random::<16>()))
}

fn no_socket(error: &std::io::Error, path: &std::path::Path, data_dir: &std::path::Path) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
            Error::unavailable(
                "not_running",
                format!(
                    "no server runs on {0}; start it: strongroom serve --data-dir {0}",
                    data_dir.display()
                ),
            )
        }
        ErrorKind::PermissionDenied => Error::denied(
            "socket",
            format!(
                "{} is not for this account; root and the server's own account may use it",
                path.display()
            ),
        ),
        _ if path.as_os_str().len() > 100 => Error::invalid(
            "data_dir",
            format!(
                "the path {} is too long for a socket; name the folder by a shorter one",
                path.display()
            ),
        ),
        _ => Error::unavailable(
            "not_running",
            format!("cannot connect to {}: {error}", path.display()),
        ),
    }
}

fn no_tls(host: &str, port: u16, error: std::io::Error) -> Error {
    let text = format!(
        "TLS with {host}:{port} failed: {}",
        clean(&error.to_string())
    );
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::InvalidCertificate(_)) => Error::denied(
            "server_fingerprint",
            format!("{text}; this is not the server that was pinned, or someone is in between"),
        ),
        _ => Error::unavailable("unreachable", text),
    }
    .because(error)
}

/// hyper says in `source` what it leaves out of its own text.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let _ = write!(text, ": {inner}");
        source = inner.source();
    }
    text
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A path with its query.
pub fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let mut out = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        let _ = write!(
            out,
            "{}{name}={}",
            if at == 0 { '?' } else { '&' },
            percent(value)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let route = Route::Socket {
            path: "/nowhere/run/admin.sock".into(),
            data_dir: "/nowhere".into(),
        };
        Client::new(route, None, Some("für 100 %".to_owned()), false)
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_refusal_keeps_its_kind_and_loses_its_control_characters() {
        let body = r#"{"error":{"kind":"conflict","code":"name_taken","message":"taken\u001b[2J","field":"name","request_id":"r1"}}"#;
        let error = client().refusal_or(reply(409, body)).err().unwrap();
        assert_eq!(
            (error.kind, error.code, error.field),
            (Kind::Conflict, "name_taken", Some("name"))
        );
        assert_eq!(error.public, "taken\\u{1b}[2J");
        let body = r#"{"error":{"kind":"internal","code":"odd","message":"m","request_id":"r1"}}"#;
        let error = client().refusal_or(reply(500, body)).err().unwrap();
        assert_eq!(
            (error.code, error.public.as_str()),
            ("server", "m (request r1)")
        );
        let error = client().refusal_or(reply(404, "<html>")).err().unwrap();
        assert_eq!(error.kind, Kind::NotFound);
    }

    #[test]
    fn a_change_carries_key_and_reason_and_a_reading_neither() {
        let put = Call::new(Method::PUT, "/v1/x");
        let key = new_key(&put);
        let request = client().request(&put, key.as_deref()).unwrap();
        assert_eq!(request.headers()[REASON], "f%C3%BCr%20100%20%25");
        assert_eq!(request.headers()[IDEMPOTENCY_KEY].len(), 32);
        let get = Call::get("/v1/x");
        assert!(new_key(&get).is_none());
        assert!(
            !client()
                .request(&get, None)
                .unwrap()
                .headers()
                .contains_key(REASON)
        );
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            with_query(
                "/v1/clients",
                &[("filter", "a='b&c'".to_owned()), ("limit", "3".to_owned())]
            ),
            "/v1/clients?filter=a%3D%27b%26c%27&limit=3"
        );
    }

    #[test]
    fn a_missing_socket_says_how_to_start_the_server() {
        let error = no_socket(
            &ErrorKind::NotFound.into(),
            "/d/run/admin.sock".as_ref(),
            "/d".as_ref(),
        );
        assert_eq!(error.kind, Kind::Unavailable);
        assert_eq!(
            error.public,
            "no server runs on /d; start it: strongroom serve --data-dir /d"
        );
    }
}
