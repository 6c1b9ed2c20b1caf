//! The only door to what the server holds: verbs per noun. Each verb asks `access.rs`, then runs one
//! transaction with its event, or reads.

pub mod access;
pub mod audit;
pub mod backup;
pub mod caller;
pub mod client;
pub mod deposit;
pub mod drill;
pub mod feed;
pub mod gate;
pub mod group;
pub mod health;
pub mod host;
pub mod host_group;
pub mod job;
pub mod keyring;
mod metrics;
pub mod openpgp;
pub mod org;
pub mod org_key;
mod pace;
pub mod quota;
pub mod recipient;
pub mod role;
pub mod root;
pub mod schedule;
pub mod segment;
pub mod server;
pub mod session;
pub mod setting;
pub mod slot;
mod throttle;
pub mod tls;
pub mod token;
pub mod totp;
pub mod user;
pub mod user_certificate;

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore};

use crate::api::server::ServerInfo;
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::crypto::{self, chain::Signer};
use crate::error::{Error, Kind, Result};
use crate::folder::Folder;
use crate::model::audit::{Event, Object, Outcome};
use crate::model::id::{BootId, Fingerprint, InstanceId, OrgId};
use crate::model::page::{self, Cursor, Direction, Page, Part};
use crate::secret::Key;
use crate::store::{Change, Once, QUOTA_BYTES, QUOTA_OBJECTS, Rows, Start, Store};
use access::{Action, Target};
use caller::{Context, Identity};
use health::Board;
use job::JobRun;

/// What a list takes.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Filters (docs/formats/filter.md); all must hold.
    pub filters: Vec<String>,
    pub cursor: Option<String>,
    pub limit: Option<u32>,
    /// The last page, instead of one behind or before a cursor.
    pub last: bool,
}

/// Everything a running server holds.
pub struct Service {
    store: Store,
    keyring: keyring::Keyring,
    signer: Signer,
    tagger: crypto::chain::Tagger,
    board: Arc<Board>,
    settings: setting::Live,
    seal: slot::Seal,
    beside: Box<dyn root::Beside>,
    /// Held by whoever wraps something under the key-encryption key, until the store has it.
    root: tokio::sync::RwLock<()>,
    /// Held by whoever seals under an organization's key, until the store has it: a newer key waits.
    sealing_turn: tokio::sync::RwLock<()>,
    /// This process, as it holds jobs.
    boot: BootId,
    /// Told when there may be a job to begin.
    jobs_asked: Arc<Notify>,
    schedules_version: std::sync::atomic::AtomicU64,
    /// Held by whoever walks the audit from its beginning; events leave when nobody does.
    segment_turn: tokio::sync::RwLock<()>,
    segments_asked: Arc<Notify>,
    segment_fault: std::sync::Mutex<Option<String>>,
    /// Told when the server is to be sealed.
    sealing: Arc<Notify>,
    throttle: throttle::Throttle,
    paces: pace::Paces,
    metrics: metrics::Metrics,
    /// Argon2 takes 64 MiB; two log-ins are checked at a time.
    passwords: Semaphore,
    feeds: feed::Feeds,
    backups: backup::UnderWay,
    /// What the listeners show; changed by one at a time.
    tls: Arc<tls::shown::Shown>,
    tls_turn: tokio::sync::Mutex<()>,
    tls_watch: tls::shown::Watch,
    facts: Facts,
}

/// What does not change while the server runs.
#[derive(Clone)]
pub struct Facts {
    pub instance: InstanceId,
    pub server_fingerprint: Fingerprint,
    pub ca_pem: String,
    pub config: Config,
    /// As bound, ports filled in.
    pub client_listen: String,
    pub gui_listen: String,
    pub health_listen: String,
}

impl Facts {
    /// For anyone.
    fn info(&self, board: &Board, leaf_sha256: Fingerprint) -> ServerInfo {
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: board.health().server,
            instance: self.instance,
            fqdn: self.config.fqdn.clone(),
            server_fingerprint: self.server_fingerprint,
            leaf_sha256,
            time: clock::now(),
        }
    }
}

/// What `server.rs` builds the service from.
pub struct Parts {
    pub store: Store,
    /// The key-encryption key.
    pub kek: Key,
    pub kek_version: u32,
    pub signer: Signer,
    pub tagger: crypto::chain::Tagger,
    pub board: Arc<Board>,
    pub settings: Vec<(String, String)>,
    /// Called with each setting's value, at the start and when it changes.
    pub apply: setting::Apply,
    /// Where seal.json lies.
    pub folder: Folder,
    pub beside: Box<dyn root::Beside>,
    /// Told when the server is to be sealed.
    pub sealing: Arc<Notify>,
    pub tls: Arc<tls::shown::Shown>,
    pub facts: Facts,
}

impl Service {
    pub fn new(parts: Parts) -> Result<Self> {
        Ok(Self {
            store: parts.store,
            keyring: keyring::Keyring::new(parts.kek, parts.kek_version),
            signer: parts.signer,
            tagger: parts.tagger,
            board: parts.board,
            settings: setting::Live::new(parts.settings, parts.apply)?,
            seal: slot::Seal::new(parts.folder),
            beside: parts.beside,
            root: tokio::sync::RwLock::default(),
            sealing_turn: tokio::sync::RwLock::default(),
            boot: BootId::new(),
            jobs_asked: Arc::default(),
            schedules_version: std::sync::atomic::AtomicU64::default(),
            segment_turn: tokio::sync::RwLock::default(),
            segments_asked: Arc::default(),
            segment_fault: std::sync::Mutex::default(),
            sealing: parts.sealing,
            throttle: throttle::Throttle::default(),
            paces: pace::Paces::default(),
            metrics: metrics::Metrics::default(),
            passwords: Semaphore::new(2),
            feeds: feed::Feeds::default(),
            backups: backup::UnderWay::default(),
            tls: parts.tls,
            tls_turn: tokio::sync::Mutex::default(),
            tls_watch: tls::shown::Watch::default(),
            facts: parts.facts,
        })
    }

    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// SHA-256 over length-prefixed parts: what an idempotency key is bound to.
    pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
        let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
        for part in parts {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        }
        crypto::sha256(&all)
    }

    /// Lets the caller through or records the refusal.
    fn allow(
        &self,
        ctx: &Context,
        action: Action,
        target: &Target<'_>,
        verb: &str,
        object: Object,
    ) -> Result<()> {
        access::decide(&ctx.identity, action, target)
            .inspect_err(|error| self.refused(ctx, verb, object, error))
    }

    /// Records that a request was turned away before it reached a verb.
    pub fn turned_away(&self, ctx: &Context, error: &Error) {
        self.refused(ctx, "request", object("server", "", ""), error);
    }

    /// Records a refusal; those of unknown callers once per address, reason and minute, those by a
    /// quota once per caller, reason and minute.
    fn refused(&self, ctx: &Context, verb: &str, object: Object, error: &Error) {
        let now = clock::now();
        let unknown = matches!(ctx.identity, Identity::Nobody | Identity::Key { .. });
        let often = match (unknown, error.code) {
            (true, _) => Some(ctx.neighbour()),
            (false, QUOTA_OBJECTS | QUOTA_BYTES | pace::QUOTA_REQUESTS) => {
                Some(ctx.idempotency_caller())
            }
            (false, _) => None,
        };
        if often.is_some_and(|who| !self.throttle.first_this_minute(&who, error.code, now)) {
            return;
        }
        let event = Event {
            outcome: Outcome::Refused,
            detail: error.code.to_owned(),
            ..ctx.event(verb, object, now)
        };
        // Nothing is released: a log that is behind must not turn a refusal into another one.
        if let Err(behind) = self.store.access().record(event) {
            log::warn!(request = ctx.request.to_string().as_str(), code = behind.code; "a refusal is missing from the audit");
        }
    }

    /// A change of this request, with its event.
    fn change(&self, ctx: &Context, verb: &str, object: Object, now: Timestamp) -> Change {
        Change {
            event: ctx.event(verb, object, now),
            once: once(ctx),
        }
    }

    /// A retry may find its object gone, perhaps by its own first try: then the first answer counts.
    fn or_first_answer<T: DeserializeOwned>(&self, ctx: &Context, error: Error) -> Result<T> {
        if error.kind == Kind::NotFound
            && let Some(once) = once(ctx)
            && let Some(answer) = self.store.first_answer(&once)?
        {
            return Ok(answer);
        }
        Err(error)
    }

    /// Records that a secret leaves; it must not leave if this fails.
    async fn release(&self, event: Event) -> Result<()> {
        self.store.access().record(event)?;
        if self.settings.audit_strict() {
            self.store.access().flush().await?;
        }
        Ok(())
    }

    /// What runs now and then, without anyone's asking.
    ///
    /// # Errors
    /// The first that a part met: each runs whatever became of those before it.
    pub async fn upkeep(&self) -> Result<()> {
        let now = clock::now();
        self.report_backups();
        self.throttle.forget(now);
        self.paces.forget(now);
        let parts = [
            self.empty_bin(now).await,
            self.sweep_removed_orgs().await,
            self.forget_backups(now).await,
        ];
        parts.into_iter().collect()
    }

    /// Drops what is kept for a time alone, part by part; `each` is asked before each of them.
    ///
    /// # Errors
    /// The first that a part met, after the others were tried.
    pub async fn prune(&self, each: impl Fn() -> Result<()>) -> Result<()> {
        let now = clock::now();
        let idle = now.plus(-self.settings.session_idle());
        each()?;
        let answers = self.prune_answers(now).await;
        each()?;
        let sessions = self.store.prune_sessions(idle).await.map(drop);
        let parts = self.store.drop_loose_parts().await.map(drop);
        each()?;
        let jobs = self.prune_jobs(now).await;
        answers.and(sessions).and(parts).and(jobs)
    }

    /// Reads every page of the store's files, one after the other; what is wrong with them, line by
    /// line.
    pub async fn check_store(&self, run: &mut JobRun) -> Result<Vec<String>> {
        const LOOK: Duration = Duration::from_millis(500);
        let files = self.store.files();
        let mut found = Vec::new();
        for file in 0..files {
            run.progress(file as u64, files as u64, "files").await?;
            let mut checking = self.store.check_pages(file)?;
            loop {
                run.check()?;
                if let Ok(faults) = tokio::time::timeout(LOOK, checking.ended()).await {
                    found.extend(faults?);
                    break;
                }
            }
        }
        run.progress(files as u64, files as u64, "files").await?;
        if let Some(first) = found.first() {
            self.board.red(
                "store",
                &format!("the store is damaged: {first}"),
                "stop the server, run `strongroom doctor`, restore a backup",
            );
        }
        Ok(found)
    }

    async fn prune_answers(&self, now: Timestamp) -> Result<()> {
        while self.store.prune_answers(now).await? > 0 {}
        Ok(())
    }

    /// Whether the disk has room for changes.
    ///
    /// # Errors
    /// `disk_nearly_full`.
    pub fn room(&self) -> Result<()> {
        self.store.room()
    }

    /// Tells the board how the store is.
    pub fn report(&self) {
        let access = self.store.access();
        if access.works() && access.has_reserve() {
            match self.why_none_leaves() {
                None => self.board.green("audit"),
                Some(why) => self.board.amber(
                    "audit",
                    &format!("old events cannot leave the store: {why}"),
                    "run `strongroom audit verify`; see the server's log",
                ),
            }
        } else if access.works() {
            self.board.amber(
                "audit",
                "there is no room for the 64 MiB that finish the log on a full disk",
                "free space on the data disk",
            );
        } else {
            self.board.red(
                "audit",
                "the access log does not take events, so nothing is released",
                "free space on the data disk; see the server's log",
            );
        }
        if !self.store.reads_hold() {
            self.board.red(
                "store",
                "a page of the store could not be read",
                "see the server's log and the disk's; stop the server, run `strongroom doctor`, restore a backup",
            );
        }
        if self.keyring.is_locked() {
            self.board.green("memory");
        } else {
            self.board.amber(
                "memory",
                "the system does not let the keys be kept out of swap",
                "raise the limit (LimitMEMLOCK=, ulimit -l), or turn swap off",
            );
        }
        match self.store.room() {
            Ok(()) => self.board.green("disk"),
            Err(full) => self
                .board
                .amber("disk", &full.public, "free space on the data disk"),
        }
    }
}

fn once(ctx: &Context) -> Option<Once> {
    ctx.idempotency.as_ref().map(|idempotency| Once {
        caller: ctx.idempotency_caller(),
        key: idempotency.key.clone(),
        request_hash: idempotency.request_hash,
    })
}

/// Goes on if the caller does not wait: half of it must not be left.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|error| Error::internal(error.to_string()))?
}

/// An object of an event.
fn object(kind: &str, id: impl ToString, name: impl ToString) -> Object {
    Object {
        kind: kind.to_owned(),
        id: id.to_string(),
        name: name.to_string(),
    }
}

/// An organization's object.
fn org_object(id: OrgId, name: impl ToString) -> Object {
    object("org", id, name)
}

/// Where a list's page begins: by text, by id, or however `key` reads a cursor.
fn position<K>(
    list: &'static str,
    query: &ListQuery,
    key: impl Fn(&Cursor) -> Result<K>,
) -> Result<(Start<K>, usize)> {
    let limit = page::limit(query.limit)? as usize;
    let text = match (query.cursor.as_deref(), query.last) {
        (None, false) => return Ok((Start::Beginning, limit)),
        (None, true) => return Ok((Start::End, limit)),
        (Some(text), false) => text,
        (Some(_), true) => {
            return Err(Error::invalid(
                "page",
                "give either `cursor` or `page=last`",
            ));
        }
    };
    let cursor = Cursor::parse(list, text)?;
    let start = match cursor.direction {
        Direction::Next => Start::After(key(&cursor)?),
        Direction::Previous => Start::Before(key(&cursor)?),
    };
    Ok((start, limit))
}

/// The key of lists in the order of a name.
fn by_text(cursor: &Cursor) -> Result<String> {
    cursor.text(0).map(str::to_owned)
}

/// The key of lists in the order in which things were made.
fn by_id(cursor: &Cursor) -> Result<[u8; 16]> {
    cursor.id(0)
}

/// A page out of rows, with the cursors to its neighbours. `key` is a row's place in the order.
fn paged<T>(
    list: &'static str,
    query: &ListQuery,
    rows: Rows<T>,
    key: impl Fn(&T) -> Vec<Part>,
) -> Page<T> {
    let cursor = |direction, row: &T| {
        let position = key(row);
        Cursor {
            list,
            direction,
            position,
        }
        .encode()
    };
    let next = |row| cursor(Direction::Next, row);
    let previous = |row| cursor(Direction::Previous, row);
    let (next, previous) = match rows.backwards {
        false => (
            rows.more.as_ref().map(next),
            rows.items
                .first()
                .filter(|_| query.cursor.is_some())
                .map(previous),
        ),
        true => (
            rows.items.last().filter(|_| !query.last).map(next),
            rows.more.as_ref().map(previous),
        ),
    };
    Page {
        items: rows.items,
        next,
        previous,
        complete: rows.complete,
    }
}

/// A text that a person gave: trimmed of nothing, but bounded and without control characters.
fn short_text(field: &'static str, text: &str, most: usize) -> Result<()> {
    if text.len() > most || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("{field} takes up to {most} bytes without control characters"),
        ));
    }
    Ok(())
}

/// Refuses passwords that are too short to be one or too long to be meant.
fn password_fits(length: usize) -> Result<()> {
    if (12..=1_024).contains(&length) {
        return Ok(());
    }
    Err(Error::invalid(
        "password",
        "a password has 12 to 1,024 bytes",
    ))
}

fn limited(seconds: u32) -> Error {
    Error::new(
        Kind::Limited,
        "too_many_attempts",
        format!("too many failed attempts from this address; try again in {seconds} seconds"),
    )
    .after(seconds)
}
