//! Releases and refusals: queued before the answer leaves, on disk within 100 ms, in a file of its
//! own, so that reading does not wait for the disk and does not empty the readers' caches.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

use super::event::{ChainState, Head, Walked, chained};
use super::open::Source;
use super::readers::{Budget, spawn, stopping};
use super::writer::MINIMUM_FREE;
use crate::crypto::chain::{Tagger, event_hash};
use crate::error::{Error, Result};
use crate::model::audit::{Chain, ChainedEvent, Event};
use crate::model::filter::Filter;
use crate::os;

/// Events that may wait for the disk; more, and releases are refused.
const QUEUE: usize = 65_536;
/// So many are written at once, without waiting for more.
const MANY: usize = 4_096;
/// How long events gather into a segment.
const GATHER: Duration = Duration::from_millis(40);
/// A segment ends at so many bytes.
const SEGMENT_BYTES: usize = 256 << 10;

pub struct AccessLog {
    inbox: Arc<Inbox>,
    state: Arc<State>,
    reader: Arc<Mutex<Connection>>,
    thread: Option<JoinHandle<()>>,
}

/// Events on their way to the thread. It is woken for the first one, not for each: a wake-up costs
/// more than all the rest of a release.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    /// Answered when all events before them are on disk.
    flushes: Vec<oneshot::Sender<Result<()>>>,
    closed: bool,
}

#[derive(Default)]
struct State {
    /// The file does not take events: nothing is released.
    broken: AtomicBool,
    /// Number of the last event on disk, for waiting and for metrics.
    written: AtomicU64,
}

impl AccessLog {
    pub(super) fn start(
        db: Connection,
        source: &Source,
        dir: PathBuf,
        tagger: Tagger,
    ) -> Result<Self> {
        let head = last_head(&db)?;
        let state = Arc::new(State::default());
        state.written.store(head.number, Ordering::Relaxed);
        let inbox = Arc::new(Inbox::default());
        let reader = Arc::new(Mutex::new(source.reader()?));
        let mut work = Work {
            db,
            dir,
            tagger,
            head,
            state: Arc::clone(&state),
        };
        let entries = Arc::clone(&inbox);
        let thread = spawn("access-log", move || {
            let _ended = Ended(Arc::clone(&entries));
            work.run(&entries);
        })?;
        Ok(Self {
            inbox,
            state,
            reader,
            thread: Some(thread),
        })
    }

    /// Takes an event for the log. After `Ok` it is on disk within 100 ms, or the process ends.
    ///
    /// # Errors
    /// `audit_unavailable` if the log is behind or its file does not take events: whatever was to
    /// be released must not be.
    pub fn record(&self, event: Event) -> Result<()> {
        if self.state.broken.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let mut waiting = self.inbox.lock();
        if waiting.closed {
            return Err(stopping());
        }
        if waiting.events.len() >= QUEUE {
            return Err(unavailable());
        }
        waiting.events.push(event);
        let count = waiting.events.len();
        drop(waiting);
        if count == 1 || count == MANY {
            self.inbox.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits until all that was recorded is on disk.
    pub async fn flush(&self) -> Result<()> {
        let answer = self.inbox.flush()?;
        answer.await.map_err(|_| stopping())?
    }

    /// False while releases are refused.
    pub fn works(&self) -> bool {
        !self.state.broken.load(Ordering::Relaxed)
    }

    pub fn head(&self) -> Result<Head> {
        last_head(&self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Events below `below`, newest first, that match.
    pub async fn list(
        &self,
        below: Option<u64>,
        filter: Filter<ChainedEvent>,
        limit: usize,
    ) -> Result<Walked> {
        self.on_reader(move |db| list(db, below, &filter, limit))
            .await
    }

    /// Events from `from` on, oldest first: at least one whole segment, about `limit` events.
    pub async fn from(&self, from: u64, limit: usize) -> Result<Vec<ChainState>> {
        self.on_reader(move |db| in_order(db, from, limit)).await
    }

    async fn on_reader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = Arc::clone(&self.reader);
        tokio::task::spawn_blocking(move || {
            read(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .map_err(|error| Error::internal(format!("reading the access log: {error}")))?
    }
}

impl Drop for AccessLog {
    /// Writes what is queued.
    fn drop(&mut self) {
        self.inbox.lock().closed = true;
        self.inbox.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn unavailable() -> Error {
    Error::unavailable(
        "audit_unavailable",
        "the audit log cannot take the event, so nothing is released; see the server's health",
    )
    .after(1)
}

/// However the thread ends, nothing more is taken for it, and nobody waits for it.
struct Ended(Arc<Inbox>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        waiting.flushes.clear();
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) -> Result<oneshot::Receiver<Result<()>>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(stopping());
        }
        waiting.flushes.push(reply);
        drop(waiting);
        self.arrived.notify_one();
        Ok(answer)
    }

    /// Waits for an event, lets more gather, and hands out all that are there; none at the end.
    fn take(&self) -> Option<Waiting> {
        let mut waiting = self.lock();
        while waiting.events.is_empty() && !waiting.pressing() {
            let woken = self.arrived.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let since = Instant::now();
        while waiting.events.len() < MANY && !waiting.pressing() {
            let left = GATHER.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            let woken = self.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let taken = Waiting {
            events: std::mem::take(&mut waiting.events),
            flushes: std::mem::take(&mut waiting.flushes),
            closed: waiting.closed,
        };
        let end = taken.closed && taken.events.is_empty() && taken.flushes.is_empty();
        (!end).then_some(taken)
    }
}

impl Waiting {
    /// Nothing more is waited for.
    fn pressing(&self) -> bool {
        self.closed || !self.flushes.is_empty()
    }
}

struct Work {
    db: Connection,
    dir: PathBuf,
    tagger: Tagger,
    head: Head,
    state: Arc<State>,
}

/// Events that are hashed and wait for one row.
struct Segment {
    first: u64,
    first_time: i64,
    last_time: i64,
    previous: [u8; 32],
    body: Vec<u8>,
}

impl Work {
    fn run(&mut self, inbox: &Inbox) {
        while let Some(taken) = inbox.take() {
            let mut open: Option<Segment> = None;
            for event in taken.events {
                let segment = open.get_or_insert_with(|| self.begin(&event));
                Self::add(&mut self.head, segment, event);
                if segment.body.len() >= SEGMENT_BYTES {
                    self.write_all(open.take());
                }
            }
            self.write_all(open);
            for reply in taken.flushes {
                let _ = reply.send(Ok(()));
            }
        }
    }

    fn begin(&self, event: &Event) -> Segment {
        Segment {
            first: self.head.number + 1,
            first_time: event.time.0,
            last_time: event.time.0,
            previous: self.head.hash,
            body: Vec::with_capacity(64 << 10),
        }
    }

    fn add(head: &mut Head, segment: &mut Segment, event: Event) {
        let event = event.clipped();
        let number = head.number + 1;
        let canonical = event.canonical(Chain::Access, number);
        *head = Head {
            number,
            hash: event_hash(&head.hash, &canonical),
        };
        segment.last_time = event.time.0;
        segment.body.extend_from_slice(
            &u32::try_from(canonical.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        segment.body.extend_from_slice(&canonical);
        segment.body.extend_from_slice(&head.hash);
    }

    /// Tries until it is written: what was released must be in the log. Meanwhile nothing more is.
    fn write_all(&mut self, segment: Option<Segment>) {
        let Some(segment) = segment else {
            return;
        };
        loop {
            match self.write(&segment) {
                Ok(()) => {
                    if self.state.broken.swap(
                        os::free_bytes(&self.dir).is_ok_and(|free| free < MINIMUM_FREE / 4),
                        Ordering::Relaxed,
                    ) {
                        log::info!("the access log takes events again");
                    }
                    self.state
                        .written
                        .store(self.head.number, Ordering::Release);
                    return;
                }
                Err(error) => {
                    if !self.state.broken.swap(true, Ordering::Relaxed) {
                        log::error!(error = format!("{error:?}").as_str(); "the access log does not take events; nothing is released until it does");
                    }
                    std::thread::park_timeout(Duration::from_millis(500));
                }
            }
        }
    }

    fn write(&self, segment: &Segment) -> Result<()> {
        self.db.prepare_cached("INSERT INTO segments (first, last, first_time, last_time, previous, hash, tag, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute((
            i64::try_from(segment.first).unwrap_or(i64::MAX),
            i64::try_from(self.head.number).unwrap_or(i64::MAX),
            segment.first_time,
            segment.last_time,
            segment.previous,
            self.head.hash,
            self.tagger.tag(&self.head.hash),
            &segment.body,
        ))?;
        // Sixteen megabytes of log at most; the reader never holds it for long.
        let (log, done) = super::checkpoint::run(&self.db, "NOOP")?;
        if log.saturating_sub(done) > 4_096 {
            super::checkpoint::run(&self.db, "PASSIVE")?;
        }
        Ok(())
    }
}

fn last_head(db: &Connection) -> Result<Head> {
    let found = db
        .prepare_cached("SELECT last, hash FROM segments ORDER BY first DESC LIMIT 1")?
        .query_row((), |row| {
            Ok(Head {
                number: row.get::<_, i64>(0)?.unsigned_abs(),
                hash: row.get(1)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or(Head {
        number: 0,
        hash: [0; 32],
    }))
}

/// The events of a segment: length, canonical form and hash of each. The tag is the last one's.
fn unpack(first: u64, tag: [u8; 32], body: &[u8]) -> Vec<ChainState> {
    let mut events = Vec::new();
    let (mut rest, mut number) = (body, first);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((canonical, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize)
        else {
            break;
        };
        let Some((hash, after)) = after.split_first_chunk::<32>() else {
            break;
        };
        events.push(ChainState {
            number,
            canonical: canonical.to_vec(),
            hash: *hash,
            tag: None,
        });
        (rest, number) = (after, number + 1);
    }
    if let Some(last) = events.last_mut() {
        last.tag = Some(tag);
    }
    events
}

fn list(
    db: &Connection,
    below: Option<u64>,
    filter: &Filter<ChainedEvent>,
    limit: usize,
) -> Result<Walked> {
    let mut budget = Budget::new();
    let mut walked = Walked {
        events: Vec::new(),
        below: None,
        complete: true,
    };
    let below = below.unwrap_or(i64::MAX as u64);
    let mut statement = db.prepare_cached(
        "SELECT first, tag, body FROM segments WHERE first < ?1 ORDER BY first DESC",
    )?;
    let mut rows = statement.query([i64::try_from(below).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)?.unsigned_abs();
        for state in unpack(
            first,
            row.get(1)?,
            row.get_ref(2)?.as_blob().unwrap_or_default(),
        )
        .into_iter()
        .rev()
        {
            if state.number >= below {
                continue;
            }
            if !budget.take() {
                walked.complete = false;
                walked.below = Some(state.number + 1);
                return Ok(walked);
            }
            let event = chained(Chain::Access, state.number, &state.canonical, &state.hash)?;
            if filter.matches(&event) {
                walked.events.push(event);
                if walked.events.len() == limit {
                    walked.below = (state.number > 1).then_some(state.number);
                    return Ok(walked);
                }
            }
        }
    }
    Ok(walked)
}

fn in_order(db: &Connection, from: u64, limit: usize) -> Result<Vec<ChainState>> {
    let mut events = Vec::new();
    let mut statement =
        db.prepare_cached("SELECT first, tag, body FROM segments WHERE last >= ?1 ORDER BY first")?;
    let mut rows = statement.query([i64::try_from(from).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)?.unsigned_abs();
        let segment = unpack(
            first,
            row.get(1)?,
            row.get_ref(2)?.as_blob().unwrap_or_default(),
        );
        events.extend(segment.into_iter().filter(|state| state.number >= from));
        if events.len() >= limit {
            break;
        }
    }
    Ok(events)
}
