//! One small HTTP/1.1 client for the admin socket and for TLS. Every wait has a deadline, every
//! answer a greatest length. A change carries an idempotency key, so that it is sent once more, and
//! no more, when the connection is lost.

use std::fmt::Write as _;
use std::fs::File;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::connect::{self, CONNECT, Connection, Route};
use super::refusal;
use super::sent::Sent;
use crate::api::{IDEMPOTENCY_KEY, REASON};
use crate::error::{Error, Kind, Result};
use crate::model::page::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use crate::secret::Secret;

/// Until the answer begins; a few verbs ask for more.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two pieces of an answer.
const PIECE: Duration = Duration::from_secs(30);
/// How long a quota of requests makes a command wait, before it gives up.
const MOST_WAITED: Duration = Duration::from_secs(30);
/// A full page of the longest events stays far below.
const LONGEST_ANSWER: usize = 64 << 20;

pub struct Client {
    route: Route,
    token: Option<Secret<String>>,
    reason: Option<String>,
    verbose: bool,
    connection: Option<Connection>,
    listener: Option<Listener>,
}

/// Told of each answer: whether it is to a change, the path, and the refusal if it is one.
pub type Listener = Box<dyn Fn(bool, &str, Option<&Error>)>;

/// One request.
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// Sent instead of `body`.
    file: Option<File>,
    wait: Duration,
    /// Sent anew where the answer was lost.
    again: bool,
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

/// An answer that comes piece by piece.
pub struct Answer {
    pub headers: HeaderMap,
    body: Incoming,
    call: Call,
}

impl Answer {
    /// The next piece; none when it has ended whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        next_piece(&mut self.body)
            .await
            .map_err(|failure| match failure {
                Failure::Lost(why) => lost(&self.call, &why),
                Failure::Unsent(error) | Failure::Final(error) => error,
            })
    }

    /// A header's text; none if there is none, or if it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            file: None,
            wait: ANSWER,
            again: true,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Never sent twice, whatever became of the answer.
    pub fn once(mut self) -> Self {
        self.again = false;
        self
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

    /// A file of any length, from its beginning.
    pub fn file(mut self, file: File) -> Self {
        self.file = Some(file);
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
            listener: None,
        }
    }

    pub fn listened_to_by(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Sends, and reads an answer that is JSON.
    pub async fn json<T: DeserializeOwned>(&mut self, call: Call) -> Result<T> {
        self.send(call).await?.json()
    }

    /// Sends, and reads the whole answer. Whoever asks more often than his quota allows is made to
    /// wait, and asks again: nothing was done.
    pub async fn send(&mut self, call: Call) -> Result<Reply> {
        let key = new_key(&call);
        let began = Instant::now();
        loop {
            match self.send_keyed(&call, key.as_deref()).await {
                Err(error) if error.code == "quota_requests" && began.elapsed() < MOST_WAITED => {
                    let seconds = error.retry_after.unwrap_or(1).clamp(1, 5);
                    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
                }
                answered => return answered,
            }
        }
    }

    async fn send_keyed(&mut self, call: &Call, key: Option<&str>) -> Result<Reply> {
        let mut first = None;
        loop {
            let failure = match self.once(call, key).await {
                Ok(reply) => return self.refusal_or(call, reply),
                Err(failure) => failure,
            };
            self.connection = None;
            match (failure, first.take()) {
                (Failure::Lost(why), None) if !call.again => return Err(lost(call, &why)),
                (Failure::Lost(why), None) => first = Some(why),
                (Failure::Unsent(error), None) | (Failure::Final(error), _) => return Err(error),
                (Failure::Lost(why), Some(_)) | (Failure::Unsent(_), Some(why)) => {
                    return Err(lost(call, &why));
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
        let mut answer = self.open(call).await?;
        while let Some(piece) = answer.next().await? {
            take(&piece)?;
        }
        Ok(())
    }

    /// Sends, and waits until the answer begins. Never sent twice.
    pub async fn open(&mut self, call: Call) -> Result<Answer> {
        let key = new_key(&call);
        let response = match self.begin(&call, key.as_deref()).await {
            Ok(response) => response,
            Err(Failure::Lost(why)) => return Err(lost(&call, &why)),
            Err(Failure::Unsent(error) | Failure::Final(error)) => return Err(error),
        };
        let (head, mut body) = response.into_parts();
        if head.status.is_success() {
            let headers = head.headers;
            return Ok(Answer {
                headers,
                body,
                call,
            });
        }
        // A refusal whose words are lost is a refusal by its status.
        let body = self
            .pieces(&mut body, LONGEST_ANSWER)
            .await
            .unwrap_or_default();
        let reply = Reply {
            status: head.status,
            headers: head.headers,
            body,
        };
        match self.refusal_or(&call, reply) {
            Err(refusal) => Err(refusal),
            Ok(_) => Err(Error::internal("a refusal was none")),
        }
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

    /// The last page of a list; what the server's budget cut off is asked for again.
    pub async fn last_page<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, String)],
        limit: Option<u64>,
    ) -> Result<Page<T>> {
        let wanted = limit.unwrap_or(u64::from(DEFAULT_LIMIT));
        if wanted > u64::from(MAX_LIMIT) {
            return Err(Error::invalid(
                "limit",
                format!("--last takes a --limit of up to {MAX_LIMIT}"),
            ));
        }
        let mut query = query.to_vec();
        query.push(("limit", wanted.to_string()));
        let mut at = ("page", "last".to_owned());
        let mut found: Option<Page<T>> = None;
        loop {
            let asked: Vec<_> = query.iter().cloned().chain([at.clone()]).collect();
            let mut page: Page<T> = self.json(Call::get(with_query(path, &asked))).await?;
            if let Some(after) = found.take() {
                page.items.extend(after.items);
            }
            let room = usize::try_from(wanted).unwrap_or(usize::MAX);
            let beyond = page.items.len().saturating_sub(room);
            page.items.drain(..beyond);
            match &page.previous {
                Some(cursor) if page.items.len() < room => at = ("cursor", cursor.clone()),
                _ => return Ok(page),
            }
            found = Some(page);
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
            None => self.route.connect().await.map_err(Failure::Unsent)?,
        };
        let response = match timeout(call.wait, connection.send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_) => {
                return Err(Failure::Final(lost(
                    call,
                    &format!("no answer within {} s", call.wait.as_secs()),
                )));
            }
        };
        self.connection = Some(connection);
        Ok(response)
    }

    /// The connection of the request before, if it still takes one.
    async fn kept(&mut self) -> Option<Connection> {
        let mut kept = self.connection.take()?;
        let ready = timeout(CONNECT, kept.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(kept)
    }

    fn request(&self, call: &Call, key: Option<&str>) -> Result<Request<Sent>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header("host", self.route.host())
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
        let body = match &call.file {
            None => Sent::Whole(Full::new(call.body.clone())),
            Some(file) => Sent::file(file).map_err(|error| {
                Error::invalid("file", format!("the file cannot be read: {error}"))
            })?,
        };
        request
            .body(body)
            .map_err(|error| Error::invalid("request", format!("this cannot be sent: {error}")))
    }

    /// The answer, or the refusal in it.
    fn refusal_or(&self, call: &Call, reply: Reply) -> Result<Reply> {
        let answer = match reply.status.is_success() {
            true => Ok(reply),
            false => Err(refusal::error_of(&reply, self.verbose)),
        };
        if let Some(listener) = &self.listener {
            listener(call.changes(), &call.path, answer.as_ref().err());
        }
        answer
    }
}

fn lost(call: &Call, why: &str) -> Error {
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

async fn next_piece(body: &mut Incoming) -> std::result::Result<Option<Bytes>, Failure> {
    loop {
        let frame = timeout(PIECE, body.frame())
            .await
            .map_err(|_| Failure::Lost(format!("nothing came for {} s", PIECE.as_secs())))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A connection that ended, or one that TLS broke off.
fn broken(error: &hyper::Error) -> Failure {
    let why = error_chain(error);
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(tls) = inner.downcast_ref().and_then(connect::tls_error) {
            return Failure::Final(connect::tls_failed("the connection broke off", tls));
        }
        source = inner.source();
    }
    Failure::Lost(why)
}

/// Names each change, so that the server knows it again.
fn new_key(call: &Call) -> Option<String> {
    call.changes()
        .then(|| hex::encode(crate::crypto::random::<16>()))
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
            data_dir: Some("/nowhere".into()),
        };
        Client::new(route, None, Some("für 100 %".to_owned()), false)
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

    /// A server's side of a socket: each element is what one connection does after it read a
    /// request's head: an answer, or none, and the connection ends. What it read comes back.
    async fn served(
        answers: Vec<Option<&'static str>>,
        call: Call,
    ) -> (Result<Reply>, Vec<String>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let folder = crate::cli::files::TestFolder::new();
        let path = folder.0.join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let mut heads = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.windows(4).any(|it| it == b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                heads.push(String::from_utf8(head).unwrap());
                if let Some(answer) = answer {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
            heads
        });
        let route = Route::Socket {
            path,
            data_dir: Some(folder.0.clone()),
        };
        let result = Client::new(route, None, None, false).send(call).await;
        let heads = server.await.unwrap();
        (result, heads)
    }

    fn key_of(head: &str) -> &str {
        head.lines()
            .find_map(|line| line.strip_prefix("idempotency-key: "))
            .unwrap_or("")
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn a_change_whose_connection_is_lost_is_sent_once_more_with_its_key() {
        let put = || Call::new(Method::PUT, "/v1/x").body(b"secret".to_vec());
        let (result, heads) = served(vec![None, Some(OK)], put()).await;
        assert_eq!(result.unwrap_or_else(|e| panic!("{e}")).body, b"{}");
        assert_eq!(key_of(&heads[0]).len(), 32);
        assert_eq!(key_of(&heads[0]), key_of(&heads[1]));
        // An answer that is cut off is lost, too.
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}";
        let (result, heads) = served(vec![Some(cut), None], put()).await;
        assert_eq!(result.err().map(|error| error.kind), Some(Kind::Unknown));
        assert_eq!(heads.len(), 2);
    }

    #[tokio::test]
    async fn a_reading_that_is_lost_twice_changed_nothing() {
        let (result, _) = served(vec![None, None], Call::get("/v1/x")).await;
        assert_eq!(
            result.err().map(|error| error.kind),
            Some(Kind::Unavailable)
        );
    }

    #[tokio::test]
    async fn a_refusal_before_the_body_was_read_is_heard() {
        let refusal =
            "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let put = Call::new(Method::PUT, "/v1/x").body(vec![0; 4 << 20]);
        let (result, heads) = served(vec![Some(refusal)], put).await;
        assert_eq!(result.err().map(|error| error.kind), Some(Kind::TooLarge));
        assert_eq!(heads.len(), 1);
    }
}
