//! Who is connected, how far each connection is, and which must go. One sweep twice a second looks
//! at all of them, so that a connection costs no timer and a request costs none either.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::Limits;
use crate::service::caller::network;

/// Between two sweeps; deadlines are met to within one.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// How many idle connections go at once when a listener is full.
const ROOM: usize = 64;

/// The open connections of one listener.
pub(super) struct Connections {
    limits: Limits,
    ticks: Arc<AtomicU32>,
    stopping: AtomicBool,
    next: AtomicU64,
    open: Mutex<Open>,
    emptied: Notify,
}

#[derive(Default)]
struct Open {
    watched: HashMap<u64, Arc<Watch>>,
    by_address: HashMap<IpAddr, u32>,
}

/// One connection's place among them, given back when it is dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    id: u64,
    address: Option<IpAddr>,
    pub(super) watch: Arc<Watch>,
}

/// How far a connection is.
pub(super) struct Watch {
    ticks: Arc<AtomicU32>,
    stage: AtomicU8,
    /// The tick at which the stage began, or an answer's bytes last left.
    since: AtomicU32,
    /// The tick from which on bytes wait to be taken; 0: none do.
    blocked: AtomicU32,
    /// Requests taken on whose answers have not all left.
    busy: AtomicU32,
    /// Of these, the ones that wait for us.
    ours: AtomicU32,
    /// The tick at which the peer last took a piece of an answer.
    taken: AtomicU32,
    multiplexed: AtomicBool,
    order: AtomicU8,
    ordered: Notify,
}

const HANDSHAKE: u8 = 0;
/// Between requests.
const IDLE: u8 = 1;
/// A request's first bytes are there, its headers are not complete.
const HEAD: u8 = 2;
const BUSY: u8 = 3;
/// We closed, the peer did not yet.
const LINGER: u8 = 4;

/// Bytes that are waited for before there are buffers.
const FIRST: usize = 16;

/// What is dropped of a peer that goes on sending after we closed.
const MOST_DROPPED: usize = 32 << 20;

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Stay,
    /// Finish what was taken on, then close.
    Finish,
    /// Close at once.
    Leave,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            ticks: Arc::new(AtomicU32::new(1)),
            stopping: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            emptied: Notify::new(),
        })
    }

    /// A place for a new connection, none where there is no room. A full listener sends idle
    /// connections away and goes a little over its number until they are gone.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let address = address.map(network);
        let mut open = self.lock();
        if let Some(address) = address {
            let count = open.by_address.get(&address).copied().unwrap_or(0);
            if count >= self.limits.per_address && !address.is_loopback() {
                return None;
            }
        }
        let full = open.watched.len() >= self.limits.connections;
        if full && (open.watched.len() >= self.limits.connections + ROOM || !open.make_room()) {
            return None;
        }
        if let Some(address) = address {
            *open.by_address.entry(address).or_insert(0) += 1;
        }
        let id = self.next.fetch_add(1, Relaxed);
        let watch = Arc::new(Watch::new(Arc::clone(&self.ticks)));
        open.watched.insert(id, Arc::clone(&watch));
        Some(Place {
            connections: Arc::clone(self),
            id,
            address,
            watch,
        })
    }

    /// Tells every connection that is past a limit to go.
    pub(super) fn sweep(&self) {
        let now = self.ticks.fetch_add(1, Relaxed).wrapping_add(1);
        let stopping = self.stopping.load(Relaxed);
        for watch in self.lock().watched.values() {
            watch.order(watch.verdict(now, stopping, &self.limits));
        }
    }

    /// No descriptors are left: idle connections go.
    pub(super) fn make_room(&self) {
        self.lock().make_room();
    }

    /// Tells all to finish, waits until the last is gone or `drain` has passed, then drops the rest.
    /// Returns how many were dropped. `sweep` must go on meanwhile.
    pub(super) async fn finish(&self) -> usize {
        self.stopping.store(true, Relaxed);
        let everyone = |order| {
            self.lock()
                .watched
                .values()
                .for_each(|watch| watch.order(order))
        };
        everyone(Order::Finish);
        let emptied = async {
            loop {
                let emptied = self.emptied.notified();
                if self.lock().watched.is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        if tokio::time::timeout(self.limits.drain, emptied)
            .await
            .is_ok()
        {
            return 0;
        }
        let left = self.lock().watched.len();
        everyone(Order::Leave);
        left
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Sends the longest idle connections away; false if none is idle.
    fn make_room(&mut self) -> bool {
        let mut idle: Vec<(u32, &Arc<Watch>)> = self
            .watched
            .values()
            .filter(|watch| watch.stage() == IDLE && watch.told() == Order::Stay)
            .map(|watch| (watch.since.load(Relaxed), watch))
            .collect();
        if idle.len() > ROOM {
            idle.select_nth_unstable_by_key(ROOM, |(since, _)| *since);
            idle.truncate(ROOM);
        }
        idle.iter()
            .for_each(|(_, watch)| watch.order(Order::Finish));
        !idle.is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.watched.remove(&self.id);
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
        if open.watched.is_empty() {
            self.connections.emptied.notify_waiters();
        }
    }
}

impl Watch {
    fn new(ticks: Arc<AtomicU32>) -> Self {
        let now = ticks.load(Relaxed);
        Self {
            ticks,
            stage: AtomicU8::new(HANDSHAKE),
            since: AtomicU32::new(now),
            blocked: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            ours: AtomicU32::new(0),
            taken: AtomicU32::new(now),
            multiplexed: AtomicBool::new(false),
            order: AtomicU8::new(0),
            ordered: Notify::new(),
        }
    }

    /// The handshake is done. On a multiplexed connection bytes that come in begin no request.
    pub(super) fn opened(&self, multiplexed: bool) {
        self.multiplexed.store(multiplexed, Relaxed);
        self.enter(IDLE);
    }

    /// A request is taken on until the guard goes; it waits for us until the guard says otherwise.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        self.busy.fetch_add(1, Relaxed);
        self.ours.fetch_add(1, Relaxed);
        self.enter(BUSY);
        Work {
            watch: Arc::clone(self),
            ours: true,
        }
    }

    /// Returns when there is an order that is not `Stay`.
    pub(super) async fn ordered(&self) -> Order {
        self.ordered.notified().await;
        self.told()
    }

    /// Of a multiplexed connection one request may end while another begins: who is busy is not idle.
    fn stage(&self) -> u8 {
        match self.stage.load(Relaxed) {
            IDLE if self.busy.load(Relaxed) > 0 => BUSY,
            stage => stage,
        }
    }

    fn enter(&self, stage: u8) {
        self.stage.store(stage, Relaxed);
        self.since.store(self.ticks.load(Relaxed), Relaxed);
    }

    fn came(&self) {
        if self.stage.load(Relaxed) == IDLE && !self.multiplexed.load(Relaxed) {
            self.enter(HEAD);
        }
    }

    fn left(&self) {
        self.blocked.store(0, Relaxed);
        if self.stage.load(Relaxed) == IDLE {
            self.since.store(self.ticks.load(Relaxed), Relaxed);
        }
    }

    fn waits(&self) {
        if self.blocked.load(Relaxed) == 0 {
            self.blocked.store(self.ticks.load(Relaxed), Relaxed);
        }
    }

    fn told(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::Stay,
            1 => Order::Finish,
            _ => Order::Leave,
        }
    }

    /// Orders only grow harder; a repeated one wakes nobody.
    fn order(&self, order: Order) {
        let harder = match order {
            Order::Stay => return,
            Order::Finish => 1,
            Order::Leave => 2,
        };
        if self.order.fetch_max(harder, Relaxed) < harder {
            self.ordered.notify_one();
        }
    }

    fn verdict(&self, now: u32, stopping: bool, limits: &Limits) -> Order {
        let passed = |since: u32, limit: Duration| TICK * now.wrapping_sub(since) > limit;
        let since = self.since.load(Relaxed);
        let blocked = self.blocked.load(Relaxed);
        if blocked != 0 && passed(blocked, limits.stalled) {
            return Order::Leave;
        }
        match self.stage() {
            HANDSHAKE if stopping || passed(since, limits.handshake) => Order::Leave,
            HEAD if stopping || passed(since, limits.head) => Order::Leave,
            BUSY if self.ours.load(Relaxed) == 0
                && passed(self.taken.load(Relaxed), limits.stalled) =>
            {
                Order::Leave
            }
            LINGER if stopping || passed(since, limits.linger) => Order::Leave,
            IDLE if stopping && passed(since, 2 * TICK) => Order::Leave,
            IDLE if passed(since, limits.idle + limits.head) => Order::Leave,
            IDLE if passed(since, limits.idle) => Order::Finish,
            _ => Order::Stay,
        }
    }
}

/// While it lives, its connection is at work.
pub(super) struct Work {
    watch: Arc<Watch>,
    ours: bool,
}

impl Work {
    /// Whether the request waits for us now, or for the peer, who takes a piece of the answer at
    /// each call.
    pub(super) fn waits_for_us(&mut self, ours: bool) {
        self.watch
            .taken
            .store(self.watch.ticks.load(Relaxed), Relaxed);
        match (self.ours, ours) {
            (false, true) => self.watch.ours.fetch_add(1, Relaxed),
            (true, false) => self.watch.ours.fetch_sub(1, Relaxed),
            (true, true) | (false, false) => return,
        };
        self.ours = ours;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.waits_for_us(false);
        if self.watch.busy.fetch_sub(1, Relaxed) == 1 && self.watch.stage.load(Relaxed) == BUSY {
            self.watch.enter(IDLE);
        }
    }
}

/// A stream that tells its watch what comes and goes.
pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    /// The peer sends nothing more.
    ended: bool,
    /// Bytes that came after we closed.
    dropped: usize,
    /// What came first, and how much of it is not handed on yet.
    first: [u8; FIRST],
    waiting: std::ops::Range<usize>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            watch,
            ended: false,
            dropped: 0,
            first: [0; FIRST],
            waiting: 0..0,
        }
    }

    /// Waits for the first bytes, so that a connection on which nothing comes costs no buffers.
    pub(super) async fn begun(&mut self) -> io::Result<()>
    where
        S: AsyncRead + Unpin,
    {
        let mut first = [0; FIRST];
        let came = self.read(&mut first).await?;
        self.first = first;
        self.waiting = 0..came;
        Ok(())
    }

    fn wrote(&self, done: &Poll<io::Result<usize>>) {
        match done {
            Poll::Ready(_) => self.watch.left(),
            Poll::Pending => self.watch.waits(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = self.waiting.clone();
        if !waiting.is_empty() {
            let end = waiting.end.min(waiting.start + buffer.remaining());
            buffer.put_slice(&self.first[waiting.start..end]);
            self.waiting.start = end;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.came();
        } else if done.is_ready() && buffer.remaining() > 0 {
            self.ended = true;
        }
        done
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&done);
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        match done {
            Poll::Ready(_) => self.watch.blocked.store(0, Relaxed),
            Poll::Pending => self.watch.waits(),
        }
        done
    }

    /// Closes, and lingers until the peer has closed too: a socket that is dropped while bytes come
    /// in resets the connection, and the peer may never read the answer that refused them.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.stage.load(Relaxed) != LINGER {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            // Who is sent away was refused nothing, and others wait for the place.
            if self.watch.told() != Order::Stay {
                return Poll::Ready(Ok(()));
            }
            self.watch.enter(LINGER);
        }
        let mut space = [MaybeUninit::uninit(); 4_096];
        while !self.ended && self.dropped < MOST_DROPPED {
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(self.as_mut().poll_read(cx, &mut buffer))?;
            self.dropped += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(duration: Duration) -> u32 {
        u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap()
    }

    #[test]
    fn each_stage_has_its_deadline() {
        let limits = Limits::default();
        let connections = Connections::new(limits);
        let place = connections.admit(None).unwrap();
        let verdict = |passed: Duration| place.watch.verdict(1 + ticks(passed), false, &limits);
        let second = Duration::from_secs(1);
        assert_eq!(verdict(limits.handshake), Order::Stay);
        assert_eq!(verdict(limits.handshake + second), Order::Leave);
        place.watch.opened(false);
        assert_eq!(verdict(limits.idle), Order::Stay);
        assert_eq!(verdict(limits.idle + second), Order::Finish);
        place.watch.came();
        assert_eq!(verdict(limits.head + second), Order::Leave);
        let mut work = place.watch.work();
        assert_eq!(verdict(limits.idle * 10), Order::Stay);
        work.waits_for_us(false);
        assert_eq!(verdict(limits.stalled), Order::Stay);
        assert_eq!(verdict(limits.stalled + second), Order::Leave);
        work.waits_for_us(true);
        assert_eq!(verdict(limits.idle * 10), Order::Stay);
        place.watch.waits();
        assert_eq!(verdict(limits.stalled + second), Order::Leave);
        place.watch.left();
        drop(work);
        assert_eq!(verdict(second), Order::Stay);
        assert_eq!(place.watch.verdict(4, true, &limits), Order::Leave);
    }

    #[test]
    fn a_full_listener_sends_the_longest_idle_away_and_an_address_has_its_share() {
        let limits = Limits {
            connections: 2,
            per_address: 1,
            ..Limits::default()
        };
        let connections = Connections::new(limits);
        let from = |address: &str| connections.admit(Some(address.parse().unwrap()));
        let first = from("192.0.2.1").unwrap();
        assert!(from("192.0.2.1").is_none());
        drop(first);
        let first = from("192.0.2.1").unwrap();
        let _second = from("2001:db8::1").unwrap();
        assert!(from("2001:db8::2").is_none(), "one /64");
        assert!(from("192.0.2.3").is_none(), "full, and nobody is idle");
        first.watch.opened(false);
        let _third = from("192.0.2.3").unwrap();
        assert_eq!(first.watch.told(), Order::Finish);
        let _loopback = (from("127.0.0.1"), from("127.0.0.1"));
    }
}
