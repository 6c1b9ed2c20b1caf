//! Releases and refusals: queued before the answer leaves, on disk within 100 ms, in a file of its
//! own, so that reading does not wait for the disk and does not empty the readers' caches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::ballast::Ballast;
use super::event::{Backwards, ChainState, Head, Walked, head_by};
use super::inbox::{Inbox, Taken, Task};
use super::open::Source;
use super::reader::Reader;
use super::readers::{PAGES_KIB, spawn, stopping};
use super::segment::{self, LeftSegment};
use super::writer::MINIMUM_FREE;
use super::{DISK_FULL, FATAL};
use crate::clock::Timestamp;
use crate::crypto::chain::{Tagger, event_hash};
use crate::error::{Error, Kind, Result};
use crate::model::audit::{Chain, ChainedEvent, Event};
use crate::model::filter::Filter;
use crate::os;

/// How long events gather into a segment.
const GATHER: Duration = Duration::from_millis(40);
/// A segment ends at so many bytes.
const SEGMENT_BYTES: usize = 256 << 10;
/// Below so much free space nothing is released: what was, must still find room.
const LEAST_FREE: u64 = MINIMUM_FREE / 4;
/// Between two tries, while the file takes nothing.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks at the reserve, while nothing happens.
const LOOK: Duration = Duration::from_secs(5);
/// Tries when the server stops and the file takes nothing.
const LAST_TRIES: u32 = 10;
/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(5);

pub struct AccessLog {
    inbox: Arc<Inbox>,
    state: Arc<State>,
    reader: Arc<Mutex<Reader>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// The file does not take events: nothing is released.
    broken: AtomicBool,
    /// Whether the space is reserved that finishes the log on a full disk.
    reserve: AtomicBool,
    /// Nothing more comes; a full disk is not waited for any longer.
    stopping: AtomicBool,
}

impl AccessLog {
    pub(super) fn start(db: Connection, source: &Source, setup: Setup) -> Result<Self> {
        let head = last_head(&db)?;
        let state = Arc::new(State::default());
        let inbox = Arc::new(Inbox::default());
        let reader = Reader::open(Arc::new(source.again()), PAGES_KIB)?;
        let reader = Arc::new(Mutex::new(reader));
        let mut work = Work {
            db,
            ballast: Ballast::new(&setup.dir),
            dir: setup.dir,
            tagger: setup.tagger,
            head,
            state: Arc::clone(&state),
        };
        // Known before anyone asks how the log is.
        work.look_for_room();
        let (on_fatal, ended) = (setup.on_fatal, Arc::clone(&state));
        let entries = Arc::clone(&inbox);
        let thread = spawn("access-log", move || {
            let run = catch_unwind(AssertUnwindSafe(|| work.run(&entries)));
            if !matches!(run, Ok(Ok(()))) {
                ended.broken.store(true, Ordering::Relaxed);
                on_fatal("the access log failed");
            }
            entries.abandon();
        })?;
        Ok(Self {
            inbox,
            state,
            reader,
            thread: Some(thread),
        })
    }

    /// Takes an event for the log. After `Ok` it is on disk within 100 ms; or, if the disk is full,
    /// as soon as there is room, and until then nothing more is released; or the process ends.
    ///
    /// # Errors
    /// `audit_unavailable` if the log is behind or its file does not take events: whatever was to
    /// be released must not be.
    pub fn record(&self, event: Event) -> Result<()> {
        if self.state.broken.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        if self.inbox.put(event) {
            Ok(())
        } else {
            Err(unavailable())
        }
    }

    /// Waits until all that was recorded is on disk.
    ///
    /// # Errors
    /// `audit_unavailable` if that takes longer than five seconds.
    pub async fn flush(&self) -> Result<()> {
        let answer = self.inbox.flush().ok_or_else(unavailable)?;
        tokio::time::timeout(FLUSH, answer)
            .await
            .map_err(|_| unavailable())?
            .map_err(|_| stopping())?
    }

    /// False while releases are refused.
    pub fn works(&self) -> bool {
        !self.state.broken.load(Ordering::Relaxed)
    }

    /// False while there is no room for the reserve that finishes the log on a full disk.
    pub fn has_reserve(&self) -> bool {
        self.state.reserve.load(Ordering::Relaxed)
    }

    pub fn head(&self) -> Result<Head> {
        self.reader().read(last_head)
    }

    /// For a few rows, here and now.
    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The segments that left, oldest first.
    pub(super) fn segments(&self) -> Result<Vec<LeftSegment>> {
        self.reader().read(segment::all)
    }

    /// About how much disk the log takes.
    pub(super) fn used_bytes(&self) -> Result<u64> {
        self.reader().read(segment::used_bytes)
    }

    /// When the first event was that is still here.
    pub(super) fn begin(&self) -> Result<Option<Timestamp>> {
        self.reader().read(|db| {
            segment::first_time(db, "SELECT first_time FROM segments ORDER BY first LIMIT 1")
        })
    }

    /// Enters a segment that left.
    pub(super) async fn put_segment(&self, left: LeftSegment) -> Result<()> {
        let done = self.done(move |db| segment::add(db, &left).map(|()| true));
        done.await.map(drop)
    }

    /// Deletes some of the events up to this one, which left; false if there was none.
    pub(super) async fn drop_left(&self, to: u64) -> Result<bool> {
        self.done(move |db| segment::drop_rows(db, to)).await
    }

    /// Has something done by the one that writes the file.
    async fn done(
        &self,
        run: impl FnOnce(&Connection) -> Result<bool> + Send + 'static,
    ) -> Result<bool> {
        let answer = self.inbox.ask(run).ok_or_else(unavailable)?;
        answer.await.map_err(|_| stopping())?
    }

    async fn on_reader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = Arc::clone(&self.reader);
        tokio::task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.read(read)
        })
        .await
        .map_err(|error| Error::internal(format!("reading the access log: {error}")))?
    }
}

impl Drop for AccessLog {
    /// Writes what is queued.
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        self.inbox.close();
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

/// What the thread is started with.
pub(super) struct Setup {
    pub dir: PathBuf,
    pub tagger: Tagger,
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

struct Work {
    db: Connection,
    ballast: Ballast,
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
    /// Ends when the inbox is closed and empty.
    ///
    /// # Errors
    /// `FATAL`: the file failed, and what is queued is lost with the process.
    fn run(&mut self, inbox: &Inbox) -> Result<()> {
        loop {
            let broken = self.state.broken.load(Ordering::Relaxed);
            let idle = if broken { RETRY } else { LOOK };
            match inbox.take(idle, GATHER) {
                None => self.look_for_room(),
                Some(taken) => {
                    let last = taken.last;
                    self.work_off(taken)?;
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn work_off(&mut self, taken: Taken) -> Result<()> {
        let mut open: Option<Segment> = None;
        for event in taken.events {
            let segment = open.get_or_insert_with(|| self.begin(&event));
            Self::add(&mut self.head, segment, event);
            if segment.body.len() >= SEGMENT_BYTES {
                self.write_all(open.take())?;
            }
        }
        self.write_all(open)?;
        for reply in taken.flushes {
            let _ = reply.send(Ok(()));
        }
        for Task { run, reply } in taken.tasks {
            let outcome = run(&self.db);
            let failed = outcome.as_ref().is_err_and(|error| error.code == FATAL);
            let _ = reply.send(outcome);
            if failed {
                return Err(Error::new(
                    Kind::Internal,
                    FATAL,
                    "the access log's file failed",
                ));
            }
            self.shorten_log()?;
        }
        Ok(())
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
    fn write_all(&mut self, segment: Option<Segment>) -> Result<()> {
        let Some(segment) = segment else {
            return Ok(());
        };
        let mut left = LAST_TRIES;
        loop {
            if self.state.stopping.load(Ordering::Relaxed) {
                left -= 1;
            }
            match self.write(&segment) {
                Ok(()) => break,
                Err(error) if error.kind != Kind::Unavailable || left == 0 => {
                    log::error!(error = format!("{error:?}").as_str(), events = self.head.number + 1 - segment.first; "the access log failed, and these events are lost");
                    return Err(error);
                }
                Err(error) => {
                    if !self.state.broken.swap(true, Ordering::Relaxed) {
                        log::error!(error = format!("{error:?}").as_str(); "the access log does not take events; nothing is released until it does");
                    }
                    // The first time there is the reserve to write it to.
                    if error.code != DISK_FULL || !self.ballast.give_up() {
                        std::thread::park_timeout(RETRY);
                    }
                }
            }
        }
        self.look_for_room();
        self.shorten_log()
    }

    /// Nothing is released while there is hardly room for its event, and no reserve.
    fn look_for_room(&mut self) {
        self.ballast.take();
        let held = self.ballast.held();
        self.state.reserve.store(held, Ordering::Relaxed);
        // Once the reserve was used, what it freed is no room.
        let least = match self.ballast.used() {
            true => MINIMUM_FREE,
            false => LEAST_FREE,
        };
        let broken = !held && os::free_bytes(&self.dir).is_ok_and(|free| free < least);
        match (self.state.broken.swap(broken, Ordering::Relaxed), broken) {
            (true, false) => log::info!("the access log takes events again"),
            (false, true) => log::error!(
                "the data disk is nearly full; nothing is released until there is room again"
            ),
            (true, true) | (false, false) => {}
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
        Ok(())
    }

    /// Sixteen megabytes of log at most; the reader never holds it for long.
    fn shorten_log(&self) -> Result<()> {
        let (log, done) = super::checkpoint::run(&self.db, "NOOP")?;
        if log.saturating_sub(done) > 4_096
            && let Err(error) = super::checkpoint::run(&self.db, "PASSIVE")
            && error.code == FATAL
        {
            return Err(error);
        }
        Ok(())
    }
}

pub(super) fn last_head(db: &Connection) -> Result<Head> {
    head_by(
        db,
        "SELECT last, hash FROM segments ORDER BY first DESC LIMIT 1",
    )
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
    let mut walk = Backwards::new(db, Chain::Access, filter, limit)?;
    let below = below.and_then(|below| i64::try_from(below).ok());
    let below = below.unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(
        "SELECT first, tag, body FROM segments WHERE first < ?1 ORDER BY first DESC",
    )?;
    let mut rows = statement.query([below])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)?.unsigned_abs();
        let body = row.get_ref(2)?.as_blob().unwrap_or_default();
        for state in unpack(first, row.get(1)?, body).into_iter().rev() {
            if state.number < below.unsigned_abs()
                && !walk.step(state.number, &state.canonical, &state.hash)?
            {
                return Ok(walk.end());
            }
        }
    }
    Ok(walk.end())
}

fn in_order(db: &Connection, from: u64, limit: usize) -> Result<Vec<ChainState>> {
    let mut events = Vec::new();
    let mut statement =
        db.prepare_cached("SELECT first, tag, body FROM segments WHERE first >= coalesce((SELECT max(first) FROM segments WHERE first <= ?1), 0) ORDER BY first")?;
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
