//! The only SQL. Verbs that are one transaction each, together with their event; no transaction type
//! leaves this room. One thread writes, a pool reads (docs/decisions/0002-store.md).

mod access_log;
mod backup;
mod ballast;
pub mod before;
mod callers;
mod check;
mod checkpoint;
mod client;
pub mod copy;
mod deposit;
mod event;
mod group;
mod host;
mod host_group;
mod idempotency;
mod inbox;
mod job;
mod list;
mod meta;
mod open;
mod org;
mod org_removal;
#[cfg(test)]
mod plans;
#[cfg(debug_assertions)]
pub mod planted;
mod quota;
mod reader;
mod readers;
mod recipient;
mod restored;
mod rotation;
mod schedule;
mod schema;
mod segment;
mod session;
mod setting;
mod token;
mod totp;
mod user;
mod user_certificate;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use access_log::AccessLog;
pub use client::{NewClient, Registrant};
pub use deposit::{
    Back, Body, Edit as DepositEdit, Expected, Head as DepositHead, NAME_TAKEN, NamedReader,
    OWNER_GONE, Put, Sealed, Stored, Unsealed, Which,
};
pub use event::{ChainState, ExportedCheckpoint, Head, Walked};
pub use host::HostEdit;
pub use job::{Claim, Ended, Held, JobRow, LaneCounts, NewJob, Reached};
pub use list::{Rows, Start};
pub use meta::{First, Rewrap, Wrapped, WrappedKey};
pub use org::{NewOrg, OrgRow, removed as org_removed};
pub use quota::{BYTES as QUOTA_BYTES, OBJECTS as QUOTA_OBJECTS};
pub use recipient::NewRecipient;
pub use restored::{Contents, Taken, Unwrap, known_schemas, rekey};
pub use rotation::{Rotation, StepKeys};
pub use schedule::{ScheduleEdit, ScheduleRow};
pub use segment::LeftSegment;
pub use session::{NewSession, SessionRow};
pub use token::{NewToken, TokenRow};
pub use totp::{Proof, TotpRow, none_to_confirm};
pub use user::{NewUser, UserRow};
pub use user_certificate::UserCertificateRow;

use crate::clock::Timestamp;
use crate::config::Cache;
use crate::crypto::chain::Tagger;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Event;
use crate::os;
use crate::secret::Key;
use schema::File;

/// The code of errors after which nothing more may be written.
const FATAL: &str = "store_failed";
/// The code of a statement that found no room; nothing was applied.
const DISK_FULL: &str = "disk_full";

/// A change as the writer needs it: its event, and what makes a retry harmless.
pub struct Change {
    pub event: Event,
    pub once: Option<Once>,
}

/// What a change may touch. Whoever says too much costs a little time; too little would let a
/// disabled client in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touches {
    Anything,
    /// Deposits and what hangs on them; no client, organization's name or user.
    Deposits,
    /// Jobs, schedules and their events alone.
    Jobs,
    /// Hosts and their groups.
    Hosts,
}

/// An idempotency key, as its caller's own.
#[derive(Clone, Debug)]
pub struct Once {
    /// Who used it: keys of different callers never meet.
    pub caller: String,
    pub key: String,
    pub request_hash: [u8; 32],
}

/// The files, open, with nothing running yet: keys can be read, so that the rest can be started.
pub struct Opened {
    store: open::Source,
    access: open::Source,
    db: Connection,
    access_db: Connection,
    dir: PathBuf,
    /// What is kept in memory.
    cache: Cache,
    #[cfg(debug_assertions)]
    planted: Option<planted::Planted>,
}

/// What a running store is started with.
pub struct Keys {
    /// Tags events (HMAC); one for each chain's thread.
    pub changes: Tagger,
    pub access: Tagger,
    /// Seals the answers that are kept for retries.
    pub answers: Key,
}

/// The running store. Dropped, it finishes what is queued and closes.
pub struct Store {
    // In this order: the writer ends first, then what only reads.
    writer: writer::Writer,
    _checkpointer: checkpoint::Checkpointer,
    readers: readers::Readers,
    access: AccessLog,
    callers: Arc<callers::Callers>,
    envelopes: Arc<deposit::Envelopes>,
    revision: Arc<AtomicU64>,
    commits: watch::Receiver<u64>,
    laying: deposit::Laying,
    answers: Key,
    dir: PathBuf,
    /// strongroom.db, then access.db.
    sources: [open::Source; 2],
}

impl Opened {
    /// Opens the files in `dir`; makes them if `create`, else their schema stays what it is until
    /// `upgrade`.
    pub fn open(dir: &Path, key: &Key, create: bool, now: Timestamp) -> Result<Self> {
        let store = open::Source::new(dir, File::Store, key);
        let access = open::Source::new(dir, File::Access, key);
        if create {
            for source in [&store, &access] {
                schema::migrate(&source.prepare(true)?, source.file(), now)?;
            }
        }
        #[cfg(debug_assertions)]
        let opened = {
            let planted = planted::Planted::chosen()?;
            let opened = Self::of(store, access, dir)?;
            if let Some(planted) = planted {
                planted.spoil(&opened.db)?;
            }
            Self { planted, ..opened }
        };
        #[cfg(not(debug_assertions))]
        let opened = Self::of(store, access, dir)?;
        Ok(opened)
    }

    /// Opens what is there.
    fn of(store: open::Source, access: open::Source, dir: &Path) -> Result<Self> {
        let (db, access_db) = (store.prepare(false)?, access.prepare(false)?);
        Ok(Self {
            store,
            access,
            db,
            access_db,
            dir: dir.to_owned(),
            cache: Cache {
                deposits_mib: 1,
                pages_mib: 8,
            },
            #[cfg(debug_assertions)]
            planted: None,
        })
    }

    /// Lets so much of deposits, sealed as they are, and of pages stay in memory; little unless said.
    pub fn keep(&mut self, cache: &Cache) {
        self.cache = cache.clone();
    }

    /// The defect that a test asked for.
    #[cfg(debug_assertions)]
    pub fn planted(&self) -> Option<planted::Planted> {
        self.planted
    }

    /// Starts the threads. `on_fatal` ends the process: it is called when a write, sync or commit
    /// failed, or the writer died.
    pub fn start(
        mut self,
        keys: Keys,
        on_fatal: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Store> {
        let on_fatal: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(on_fatal);
        if self.is_behind()? {
            return Err(Error::internal("a store was started before its upgrade"));
        }
        deposit::drop_orphans(&mut self.db)?;
        let head = event::head(&self.db)?;
        let revision = Arc::new(AtomicU64::new(meta::revision(&self.db)?));
        let (told, commits) = watch::channel(revision.load(Ordering::Relaxed));
        let wal_pages = Arc::new(AtomicU64::new(0));
        let callers = Arc::new(callers::Callers::default());
        let envelopes = Arc::new(deposit::Envelopes::new(
            u64::from(self.cache.deposits_mib) << 20,
        ));
        let readers = readers::Readers::start(&self.store, self.cache.pages_mib)?;
        let access = AccessLog::start(
            self.access_db,
            &self.access,
            access_log::Setup {
                dir: self.dir.clone(),
                tagger: keys.access,
                on_fatal: Arc::clone(&on_fatal),
            },
        )?;
        let checkpointer = checkpoint::Checkpointer::start(
            self.store.writer()?,
            Arc::clone(&wal_pages),
            Arc::clone(&on_fatal),
        )?;
        let writer = writer::Writer::start(writer::Setup {
            db: self.db,
            dir: self.dir.clone(),
            head,
            tagger: keys.changes,
            answers: Key::new(*keys.answers.expose()),
            revision: Arc::clone(&revision),
            commits: told,
            callers: Arc::clone(&callers),
            envelopes: Arc::clone(&envelopes),
            wal_pages,
            on_fatal,
            #[cfg(debug_assertions)]
            planted: self.planted,
        })?;
        Ok(Store {
            writer,
            _checkpointer: checkpointer,
            readers,
            access,
            callers,
            envelopes,
            revision,
            commits,
            laying: deposit::Laying::default(),
            answers: keys.answers,
            dir: self.dir,
            sources: [self.store, self.access],
        })
    }
}

impl Store {
    /// Commits since the store was made.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Changes with each commit, after it.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Whether the disk has room for changes.
    ///
    /// # Errors
    /// `disk_nearly_full`, as changes are refused with.
    pub fn room(&self) -> Result<()> {
        writer::enough(os::free_bytes(&self.dir).unwrap_or(0))
    }

    /// False once a read met a damaged page, or a disk that gave an error. What else there is is
    /// still served.
    pub fn reads_hold(&self) -> bool {
        self.readers.hold()
    }

    /// Where releases and refusals go.
    pub fn access(&self) -> &AccessLog {
        &self.access
    }

    /// One change: runs in the writer with its event, answers after the commit. `run` may fill in
    /// what only the transaction knows.
    async fn change<T, F>(&self, change: Change, bytes: usize, run: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&mut writer::Tx<'_>, &mut Event) -> Result<T> + Send + 'static,
    {
        self.change_that(Touches::Anything, change, bytes, run)
            .await
    }

    /// The same, of deposits and nothing else.
    async fn change_deposits<T, F>(&self, change: Change, bytes: usize, run: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&mut writer::Tx<'_>, &mut Event) -> Result<T> + Send + 'static,
    {
        self.change_that(Touches::Deposits, change, bytes, run)
            .await
    }

    async fn change_that<T, F>(
        &self,
        touches: Touches,
        change: Change,
        bytes: usize,
        run: F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&mut writer::Tx<'_>, &mut Event) -> Result<T> + Send + 'static,
    {
        let (event, once) = (Some(change.event), change.once);
        let run = move |tx: &mut writer::Tx<'_>, event: &mut Option<Event>| match event {
            Some(event) => run(tx, event),
            None => Err(Error::internal("a change lost its event")),
        };
        self.writer.change(touches, event, once, bytes, run).await
    }

    /// Upkeep that changes nothing an auditor asks about, without an event.
    async fn upkeep<T, F>(&self, touches: Touches, bytes: usize, run: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&mut writer::Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer
            .change(touches, None, None, bytes, move |tx, _| run(tx))
            .await
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::unavailable(
                DISK_FULL,
                "the data disk is full; nothing of this was applied. Free some space",
            )
            .because(error),
            Some(
                ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase,
            ) => Error::new(
                Kind::Internal,
                FATAL,
                "the store failed; see the server's log",
            )
            .because(error),
            Some(ErrorCode::DatabaseBusy) => {
                Error::unavailable("store_busy", "the store is busy; try again").because(error)
            }
            _ => Error::internal(error.to_string()),
        }
    }
}
