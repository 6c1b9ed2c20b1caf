//! The one thread that writes. It drains its queue, runs each command in a savepoint of one
//! transaction, commits once, then answers all. It alone gives numbers that must be in commit order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};

use super::callers::Callers;
use super::deposit::{Envelopes, Which};
use super::event::Head;
#[cfg(debug_assertions)]
use super::planted::Planted;
use super::quota::Counts;
use super::readers::{spawn, stopping};
use super::{DISK_FULL, FATAL, Once, Touches, idempotency};
use crate::clock;
use crate::crypto::chain::Tagger;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Event;
use crate::os;
use crate::secret::Key;

/// A group ends at so many commands or bytes.
const GROUP_COMMANDS: usize = 64;
const GROUP_BYTES: usize = 4 << 20;
const QUEUE: usize = 4_096;
/// Above so many pages of WAL the writer itself waits for a full checkpoint: 256 MiB.
const RESTART_PAGES: u64 = 65_536;
/// Below so much free space writes are refused.
pub const MINIMUM_FREE: u64 = 256 << 20;

/// What a command sees: the open transaction, and the chain that its event goes to.
pub(super) struct Tx<'a> {
    pub db: &'a Connection,
    head: &'a mut Head,
    tagger: &'a Tagger,
    answers: &'a Key,
    /// Deposits whose newest version is another after this.
    outdated: Vec<Which>,
    /// What is added to the counters of organizations and clients, and not written yet.
    pub counts: Counts,
    #[cfg(debug_assertions)]
    planted: Option<Planted>,
}

impl Tx<'_> {
    /// Every command that changes a deposit's row or its newest version says so here.
    pub fn outdates(&mut self, names: [Which; 2]) {
        #[cfg(debug_assertions)]
        if self.planted == Some(Planted::StaleRead) {
            return;
        }
        self.outdated.extend(names);
    }

    /// Whether this retrieval is not counted, as a planted defect wants it.
    #[cfg(debug_assertions)]
    pub fn counts_nothing(&self, request: &crate::model::id::RequestId) -> bool {
        self.planted == Some(Planted::FreeRetrieval) && request.0.as_bytes()[15].is_multiple_of(8)
    }

    /// Writes the counters; what ends the group if that fails.
    fn count(&mut self) -> Option<Error> {
        let error = self.counts.write(self.db).err()?;
        if error.code == DISK_FULL {
            return Some(disk_full());
        }
        log::error!(error = format!("{error:?}").as_str(); "the store's counters could not be written");
        Some(Error::new(Kind::Unknown, FATAL, "the store failed"))
    }

    /// Appends an event to the chain of changes.
    pub fn append(&mut self, event: Event) -> Result<()> {
        #[cfg(debug_assertions)]
        if self.planted.is_some_and(|planted| planted.drops(&event)) {
            return Ok(());
        }
        *self.head = super::event::append(self.db, *self.head, self.tagger, event)?;
        Ok(())
    }
}

/// A command in the queue: run inside the transaction, answered after it.
trait Command: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    fn answer(self: Box<Self>, committed: Result<()>);
    fn bytes(&self) -> usize;
    fn touches(&self) -> Touches;
}

enum Ran {
    Changed,
    /// Refused, or an answer from before: nothing to keep.
    Nothing,
    /// The disk is full: nothing of the group is kept.
    Full,
    /// The store itself failed; nothing more may be written.
    Failed,
}

impl Ran {
    fn of(error: &Error) -> Self {
        match error.code {
            FATAL => Self::Failed,
            DISK_FULL => Self::Full,
            _ => Self::Nothing,
        }
    }
}

struct Pending<T, F> {
    run: Option<F>,
    event: Option<Event>,
    once: Option<Once>,
    touches: Touches,
    bytes: usize,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Pending<T, F>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    F: FnOnce(&mut Tx<'_>, &mut Option<Event>) -> Result<T> + Send + 'static,
{
    fn attempt(&mut self, tx: &mut Tx<'_>) -> Result<(T, bool)> {
        if let Some(once) = &self.once
            && let Some(answer) = idempotency::find(tx.db, tx.answers, once)?
        {
            return Ok((answer, false));
        }
        let run = self
            .run
            .take()
            .ok_or_else(|| Error::internal("a command ran twice"))?;
        let value = run(tx, &mut self.event)?;
        if let Some(event) = self.event.take() {
            tx.append(event)?;
        }
        if let Some(once) = &self.once {
            idempotency::keep(tx.db, tx.answers, once, &value, clock::now())?;
        }
        Ok((value, true))
    }
}

impl<T, F> Command for Pending<T, F>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    F: FnOnce(&mut Tx<'_>, &mut Option<Event>) -> Result<T> + Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        let before = (*tx.head, tx.counts.clone());
        let result = savepoint(tx.db, "SAVEPOINT command").and_then(|()| {
            catch_unwind(AssertUnwindSafe(|| self.attempt(tx)))
                .unwrap_or_else(|_| Err(Error::internal("a command of the store panicked")))
        });
        let ran = match result {
            Ok((value, changed)) => {
                self.outcome = Some(Ok(value));
                match changed {
                    true => Ran::Changed,
                    false => Ran::Nothing,
                }
            }
            Err(error) => {
                (*tx.head, tx.counts) = before;
                let ran = Ran::of(&error);
                if matches!(ran, Ran::Failed) {
                    log::error!(error = format!("{error:?}").as_str(); "a command found the store failing");
                }
                self.outcome = Some(Err(error));
                ran
            }
        };
        let end = match ran {
            Ran::Changed => savepoint(tx.db, "RELEASE command"),
            Ran::Nothing => savepoint(tx.db, "ROLLBACK TO command")
                .and_then(|()| savepoint(tx.db, "RELEASE command")),
            Ran::Full | Ran::Failed => return ran,
        };
        match end {
            Ok(()) => ran,
            Err(error) => {
                let ran = if error.code == DISK_FULL {
                    Ran::Full
                } else {
                    Ran::Failed
                };
                self.outcome = Some(Err(error));
                ran
            }
        }
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            // Also what was refused: perhaps because of another of the group, which is undone now.
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(Error::internal("a command was not run")),
        };
        let _ = self.reply.send(outcome);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn touches(&self) -> Touches {
        self.touches
    }
}

fn savepoint(db: &Connection, sql: &str) -> Result<()> {
    db.prepare_cached(sql)?.execute(())?;
    Ok(())
}

/// The way to the writer.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Command>>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is started with.
pub(super) struct Setup {
    pub db: Connection,
    pub dir: PathBuf,
    pub head: Head,
    pub tagger: Tagger,
    pub answers: Key,
    pub revision: Arc<AtomicU64>,
    /// Tells those who follow the changes.
    pub commits: watch::Sender<u64>,
    pub callers: Arc<Callers>,
    pub envelopes: Arc<Envelopes>,
    /// Pages in the WAL, as the checkpointer last saw them.
    pub wal_pages: Arc<AtomicU64>,
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
    #[cfg(debug_assertions)]
    pub planted: Option<Planted>,
}

impl Writer {
    pub fn start(setup: Setup) -> Result<Self> {
        let (queue, commands) = mpsc::channel(QUEUE);
        let on_fatal = Arc::clone(&setup.on_fatal);
        let thread = spawn("writer", move || {
            if catch_unwind(AssertUnwindSafe(|| work(setup, commands))).is_err() {
                on_fatal("the writer ended by a panic");
            }
        })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Queues a command and waits for its commit.
    pub async fn change<T, F>(
        &self,
        touches: Touches,
        event: Option<Event>,
        once: Option<Once>,
        bytes: usize,
        run: F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&mut Tx<'_>, &mut Option<Event>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Pending {
            run: Some(run),
            event,
            once,
            touches,
            bytes,
            outcome: None,
            reply,
        });
        let Some(queue) = &self.queue else {
            return Err(stopping());
        };
        queue.send(command).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| outcome_unknown())?
    }
}

impl Drop for Writer {
    /// Finishes what is queued.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn outcome_unknown() -> Error {
    Error::new(
        Kind::Unknown,
        "outcome_unknown",
        "the store failed while this was written; it may or may not be there. Try again with the same idempotency key once the server is back",
    )
}

fn work(mut setup: Setup, mut commands: mpsc::Receiver<Box<dyn Command>>) {
    let mut space = Space {
        dir: setup.dir.clone(),
        checked: None,
        free: u64::MAX,
    };
    while let Some(first) = commands.blocking_recv() {
        let mut group = vec![first];
        let mut bytes = group[0].bytes();
        while group.len() < GROUP_COMMANDS && bytes < GROUP_BYTES {
            match commands.try_recv() {
                Ok(next) => {
                    bytes += next.bytes();
                    group.push(next);
                }
                Err(_) => break,
            }
        }
        if let Err(full) = space.check(&setup.db) {
            if full.code == FATAL {
                (setup.on_fatal)("a checkpoint of the store failed");
            }
            for command in group {
                command.answer(Err(same(&full)));
            }
            continue;
        }
        let committed = commit(&mut setup, &mut group);
        let fatal = committed.as_ref().is_err_and(|error| error.code == FATAL);
        if fatal {
            (setup.on_fatal)("a write, sync or commit of the store failed");
        }
        if group
            .iter()
            .any(|command| command.touches() == Touches::Anything)
        {
            setup.callers.outdate();
        }
        for command in group {
            command.answer(match &committed {
                Ok(()) => Ok(()),
                Err(error) if error.code == FATAL => Err(outcome_unknown()),
                Err(error) => Err(same(error)),
            });
        }
        if fatal {
            return;
        }
        if setup.wal_pages.load(Ordering::Relaxed) > RESTART_PAGES {
            setup.wal_pages.store(0, Ordering::Relaxed);
            if let Err(error) = super::checkpoint::run(&setup.db, "RESTART")
                && error.code == FATAL
            {
                (setup.on_fatal)("a checkpoint of the store failed");
                return;
            }
        }
    }
}

/// One error for each of a group; the cause stays with the first.
fn same(error: &Error) -> Error {
    let copy = Error::new(error.kind, error.code, error.public.clone());
    match error.retry_after {
        Some(seconds) => copy.after(seconds),
        None => copy,
    }
}

/// One transaction over the whole group. After an error nothing of it is there, unless it is fatal.
fn commit(setup: &mut Setup, group: &mut Vec<Box<dyn Command>>) -> Result<()> {
    let before = setup.head;
    savepoint(&setup.db, "BEGIN IMMEDIATE")?;
    let mut tx = Tx {
        db: &setup.db,
        head: &mut setup.head,
        tagger: &setup.tagger,
        answers: &setup.answers,
        outdated: Vec::new(),
        counts: Counts::default(),
        #[cfg(debug_assertions)]
        planted: setup.planted,
    };
    let mut changed = false;
    let mut failure = None;
    for command in group.iter_mut() {
        // All but deposits' own commands find the counters as they are.
        if command.touches() == Touches::Anything {
            failure = tx.count();
        }
        if failure.is_some() {
            break;
        }
        match command.run(&mut tx) {
            Ran::Changed => changed = true,
            Ran::Nothing => {}
            Ran::Full => {
                failure = Some(disk_full());
            }
            Ran::Failed => failure = Some(Error::new(Kind::Unknown, FATAL, "the store failed")),
        }
        if failure.is_some() {
            break;
        }
    }
    if failure.is_none() && changed {
        failure = tx.count();
    }
    let outdated = tx.outdated;
    if failure.is_some() || !changed {
        return undo(setup, before).and(failure.map_or(Ok(()), Err));
    }
    #[cfg(debug_assertions)]
    if setup.planted == Some(Planted::EarlyAnswer) {
        for command in group.drain(..) {
            command.answer(Ok(()));
        }
    }
    // Until the commit has ended, whichever way.
    let _outdated = setup.envelopes.outdate(outdated);
    let revision = setup.revision.load(Ordering::Relaxed) + 1;
    let ended = setup
        .db
        .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")
        .and_then(|mut statement| statement.execute([revision.to_string()]))
        .and_then(|_| setup.db.prepare_cached("COMMIT")?.execute(()));
    match ended {
        Ok(_) => {
            setup.revision.store(revision, Ordering::Release);
            setup.commits.send_replace(revision);
            Ok(())
        }
        // The frame that completes a transaction is written last, and a write without room was cut
        // short: nothing on the disk reads as committed, and the next group writes over it.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
            undo(setup, before).and(Err(disk_full()))
        }
        // What a failed COMMIT left on the disk is not known: a later sync may still bring it there.
        Err(error) => {
            log::error!(error = error.to_string().as_str(); "the store's commit failed");
            Err(Error::new(Kind::Unknown, FATAL, "the store's commit failed").because(error))
        }
    }
}

/// Back to before the group. A transaction that cannot be undone must not be built upon.
fn undo(setup: &mut Setup, before: Head) -> Result<()> {
    setup.head = before;
    // After a full disk SQLite may have rolled back by itself.
    if setup.db.is_autocommit() {
        return Ok(());
    }
    savepoint(&setup.db, "ROLLBACK").map_err(|error| {
        log::error!(error = format!("{error:?}").as_str(); "the store's transaction could not be rolled back");
        Error::new(Kind::Unknown, FATAL, "the store failed")
    })
}

fn disk_full() -> Error {
    Error::unavailable(
        DISK_FULL,
        "the data disk is full; nothing of this was applied. Free some space",
    )
    .after(10)
}

/// Free space, asked for at most ten times a second.
struct Space {
    dir: PathBuf,
    checked: Option<Instant>,
    free: u64,
}

impl Space {
    /// Below the minimum the log is written back and cut off first: only a write would do that, and
    /// there would be none.
    fn check(&mut self, db: &Connection) -> Result<()> {
        let fresh = self.measure();
        if fresh && enough(self.free).is_err() {
            if let Err(error) = super::checkpoint::run(db, "TRUNCATE")
                && error.code == FATAL
            {
                return Err(error);
            }
            self.free = os::free_bytes(&self.dir).unwrap_or(0);
        }
        enough(self.free)
    }

    /// Whether it was measured just now.
    fn measure(&mut self) -> bool {
        if self
            .checked
            .is_none_or(|at| at.elapsed() > Duration::from_millis(100))
        {
            self.free = os::free_bytes(&self.dir).unwrap_or(0);
            self.checked = Some(Instant::now());
            return true;
        }
        false
    }
}

/// Whether there is room for writing.
pub(super) fn enough(free: u64) -> Result<()> {
    if free >= MINIMUM_FREE {
        return Ok(());
    }
    Err(Error::unavailable(
        "disk_nearly_full",
        format!(
            "{} MiB are free on the data disk, {} MiB are needed for writing; free some space. Reading goes on",
            free >> 20,
            MINIMUM_FREE >> 20
        ),
    )
    .after(10))
}
