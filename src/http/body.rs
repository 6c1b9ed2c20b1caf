//! Request bodies: capped before memory is taken, in time, within the room that all bodies share.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connections::{Watch, Work};
use super::{Bodies, Limits};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// How long a body waits for room before its sender is told to come back.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// What is read of a body that was refused, so that its sender can take the answer, which a reset
/// connection would lose.
const DRAIN_BYTES: usize = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A body in memory, with the room that it takes.
pub(super) struct Read {
    pub(super) bytes: Secret<Vec<u8>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Read {
    pub(super) fn nothing() -> Self {
        Self {
            bytes: Secret::new(Vec::new()),
            _room: None,
        }
    }
}

/// Reads all of a body of up to `cap` bytes.
///
/// # Errors
/// `TooLarge` before anything is read where the length is announced; `TooSlow`; `Unavailable` where
/// bodies already fill the room; `Invalid` where it breaks off.
pub(super) async fn read(
    mut body: Body,
    cap: usize,
    limits: &Limits,
    room: &Arc<Semaphore>,
) -> Result<Read> {
    let hint = body.size_hint();
    if hint.lower() > cap as u64 {
        return Err(too_large(cap));
    }
    let announced = hint.exact().and_then(|length| usize::try_from(length).ok());
    let mut bytes = Wiped(Vec::new());
    let mut held: Option<OwnedSemaphorePermit> = None;
    let start = Instant::now();
    loop {
        let earned = Duration::from_secs((bytes.0.len() / limits.body_rate.max(1)) as u64);
        let frame = match timeout_at(start + limits.body + earned, body.frame()).await {
            Err(_) => return Err(too_slow(limits, bytes.0.len())),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(broken(error)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.0.len() + data.len();
        if length > cap {
            return Err(too_large(cap));
        }
        reserve(&mut held, length, room).await?;
        bytes.make_room(length, announced, cap);
        bytes.0.extend_from_slice(&data);
    }
    Ok(Read {
        bytes: Secret::new(std::mem::take(&mut bytes.0)),
        _room: held,
    })
}

/// Hands a body of any length on as it comes. It may not stall: each piece has the time that a whole
/// body has.
///
/// # Errors
/// Within the pieces: `TooSlow`, `Invalid` where it breaks off.
pub(super) fn pieces(mut body: Body, limits: Limits) -> Receiver<Result<Vec<u8>>> {
    let (to, pieces) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut got = 0;
        loop {
            let frame = match timeout_at(Instant::now() + limits.body, body.frame()).await {
                Err(_) => Err(too_slow(&limits, got)),
                Ok(None) => return,
                Ok(Some(Err(error))) => Err(broken(error)),
                Ok(Some(Ok(frame))) => Ok(frame),
            };
            let ends = frame.is_err();
            let piece = match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    got += data.len();
                    Ok(data.into())
                }
                Ok(Err(_)) => continue,
                Err(error) => Err(error),
            };
            if to.send(piece).await.is_err() || ends {
                return;
            }
        }
    });
    pieces
}

/// Bytes that are wiped when they are given up half-way, and when they move.
struct Wiped(Vec<u8>);

impl Wiped {
    /// Room for `length` bytes without leaving copies behind: the announced length at once (its
    /// pages are touched as bytes come), else twice as much as before.
    fn make_room(&mut self, length: usize, announced: Option<usize>, cap: usize) {
        if length <= self.0.capacity() {
            return;
        }
        let capacity = announced
            .unwrap_or(length * 2)
            .clamp(length, cap.max(length));
        let mut larger = Vec::with_capacity(capacity);
        larger.extend_from_slice(&self.0);
        drop(Secret::new(std::mem::replace(&mut self.0, larger)));
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        drop(Secret::new(std::mem::take(&mut self.0)));
    }
}

/// Grows what is held to cover `length` bytes. The first unit is free, and bounded by the number of
/// connections: a log-in or a registration is no longer, and needs no room that others can fill.
async fn reserve(
    held: &mut Option<OwnedSemaphorePermit>,
    length: usize,
    room: &Arc<Semaphore>,
) -> Result<()> {
    let wanted = length.div_ceil(Bodies::UNIT).saturating_sub(1);
    let missing = wanted.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    if missing == 0 {
        return Ok(());
    }
    let missing = u32::try_from(missing).unwrap_or(u32::MAX);
    let waiting = Arc::clone(room).acquire_many_owned(missing);
    match tokio::time::timeout(ROOM_WAIT, waiting).await {
        Ok(Ok(permit)) => match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        },
        Ok(Err(_)) | Err(_) => return Err(no_room()),
    }
    Ok(())
}

fn no_room() -> Error {
    Error::unavailable(
        "busy",
        "the server holds as many bodies as it may at once; try again in a moment",
    )
    .after(1)
}

fn too_large(cap: usize) -> Error {
    let text =
        format!("the body is longer than {cap} bytes, which is the most that this path takes");
    let mut error = Error::new(Kind::TooLarge, "too_large", text);
    error.field = Some("body");
    error
}

fn too_slow(limits: &Limits, got: usize) -> Error {
    Error::new(
        Kind::TooSlow,
        "too_slow",
        format!(
            "only {got} bytes of the body came in time; it has {} seconds, and one more for each {} bytes",
            limits.body.as_secs(),
            limits.body_rate
        ),
    )
}

fn broken(error: axum::Error) -> Error {
    Error::invalid(
        "body",
        "the body breaks off or is not framed as its headers say",
    )
    .because(error)
}

/// Room for an answer's body. A large one keeps it until it has left.
pub(super) struct AnswerRoom(Option<OwnedSemaphorePermit>);

impl AnswerRoom {
    pub(super) async fn wait(bytes: usize, room: &Arc<Semaphore>) -> Result<Self> {
        const FREE: usize = 64 << 10;
        let mut held = None;
        if bytes > FREE {
            reserve(&mut held, bytes, room).await?;
        }
        Ok(Self(held))
    }

    pub(super) fn body(self, bytes: Bytes) -> Body {
        match self.0 {
            None => Body::from(bytes),
            room => Body::new(Held {
                bytes: Some(bytes),
                _room: room,
            }),
        }
    }
}

struct Held {
    bytes: Option<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    /// In pieces, so that the connection copies one at a time.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        const PIECE: usize = 64 << 10;
        let piece = match &mut self.bytes {
            Some(bytes) if bytes.len() > PIECE => bytes.split_to(PIECE),
            bytes => match bytes.take() {
                Some(bytes) => bytes,
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Keeps hold of a body that its handler may leave unread.
pub(super) struct Unread(Arc<Mutex<Incoming>>);

impl Unread {
    /// The body for the handler, and a hold on it where leaving it unread could cost the answer: in
    /// HTTP/1.1 by a reset of the connection, in HTTP/2 by one of the stream (curl then takes no
    /// answer), but not where a sender over HTTP/1.1 waits for `100 Continue`.
    pub(super) fn share(
        body: Incoming,
        headers: &HeaderMap,
        multiplexed: bool,
    ) -> (Body, Option<Self>) {
        if body.is_end_stream() {
            return (Body::empty(), None);
        }
        if !multiplexed && headers.contains_key(header::EXPECT) {
            return (Body::new(body), None);
        }
        let shared = Arc::new(Mutex::new(body));
        (Body::new(Shared(Arc::clone(&shared))), Some(Self(shared)))
    }

    /// Reads on for a little while, while the answer leaves.
    pub(super) fn drain(self, watch: &Arc<Watch>) {
        if self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_end_stream()
        {
            return;
        }
        let work = watch.work();
        tokio::spawn(async move {
            // Whichever comes first ends the hold, and with it the connection if bytes are left.
            let _ = tokio::time::timeout(DRAIN_TIME, swallow(Shared(self.0), work)).await;
        });
    }
}

async fn swallow(mut body: Shared, _work: Work) {
    let mut got = 0;
    while let Some(Ok(frame)) = body.frame().await {
        got += frame.data_ref().map_or(0, Bytes::len);
        if got > DRAIN_BYTES {
            return;
        }
    }
}

struct Shared(Arc<Mutex<Incoming>>);

impl Shared {
    fn with<T>(&self, f: impl FnOnce(Pin<&mut Incoming>) -> T) -> T {
        f(Pin::new(
            &mut self.0.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.with(|body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_of(body: Body, cap: usize, room: usize) -> Result<Vec<u8>> {
        let limits = Limits {
            body: Duration::from_millis(50),
            ..Limits::default()
        };
        let room = Arc::new(Semaphore::new(room));
        read(body, cap, &limits, &room)
            .await
            .map(|read| read.bytes.expose().clone())
    }

    struct Never;

    impl HttpBody for Never {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_is_capped_announced_or_not_and_must_come_in_time() {
        let announced = |length: usize| Body::from(vec![7; length]);
        assert_eq!(read_of(announced(10), 10, 1).await.unwrap(), vec![7; 10]);
        let kind = |result: Result<Vec<u8>>| result.err().map(|error| error.kind);
        assert_eq!(
            kind(read_of(announced(11), 10, 1).await),
            Some(Kind::TooLarge)
        );
        assert_eq!(
            kind(read_of(Body::new(Never), 10, 1).await),
            Some(Kind::TooSlow)
        );
    }

    #[tokio::test]
    async fn large_answers_leave_in_pieces_and_give_their_room_back() {
        let room = Arc::new(Semaphore::new(64));
        let body = AnswerRoom::wait(200_000, &room).await.unwrap();
        let body = body.body(vec![9; 200_000].into());
        assert!(room.available_permits() < 64);
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let read = body.collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), 200_000);
        drop(read);
        assert_eq!(room.available_permits(), 64);
    }
}
