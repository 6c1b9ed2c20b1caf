//! Copies of both databases, made by SQLite's backup interface while the store serves: of one moment
//! each, under a key of their own, so that they are never in the clear.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::access_log::last_head;
use super::event::{self, Head};
use super::open::Source;
use super::schema::{self, File};
use super::writer::MINIMUM_FREE;
use super::{Rewrap, Store, meta};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::folder;
use crate::os;
use crate::secret::Key;

/// Pages between two looks at whether it shall go on: 16 MiB.
const STEP: i32 = 4_096;
/// Pages that a connection keeps while it copies: each is read once.
const PAGES_KIB: u32 = 1 << 10;

/// What is asked now and then, with the pages that are done and all that are to do: whether to go on.
pub type GoesOn<'a> = &'a dyn Fn(u64, u64) -> bool;

/// What the copies hold.
pub struct Copied {
    pub schema: usize,
    pub access_schema: usize,
    pub revision: u64,
    pub epoch: u64,
    pub timeline: u64,
    pub changes: Head,
    pub access: Head,
    /// The newest one, its JSON and its signature.
    pub checkpoint: Option<(String, Vec<u8>)>,
    pub newest_deposit: Option<Timestamp>,
    /// Rows, by the name of the table.
    pub counts: BTreeMap<String, u64>,
}

impl Store {
    /// Writes both databases into `to`, under `key`. For a thread that may block.
    ///
    /// # Errors
    /// `no_room_for_copy` before anything is written; `cancelled`.
    pub fn copy(&self, to: &Path, key: &Key, goes_on: GoesOn<'_>) -> Result<Copied> {
        let [store, access] = &self.sources;
        let words = (
            "a backup begins with a copy of the store",
            ". Nothing was written",
        );
        check_room(to, &[store, access], words)?;
        // In this order: no release is in the one copy whose deposit is not in the other.
        let (access, access_schema) = copy_of(access, to, key, goes_on, |db| {
            Ok((last_head(db)?, schema::standing(db, File::Access)?.found))
        })?;
        let what = |db: &Connection| said(db, access, access_schema);
        copy_of(store, to, key, goes_on, what)
    }
}

/// Reads every page and index of copies that were made into `dir`.
///
/// # Errors
/// `copy_damaged`.
pub fn check(dir: &Path, key: &Key) -> Result<()> {
    for file in [File::Access, File::Store] {
        let source = Source::new(dir, file, key);
        let db = source.private()?;
        let found = meta::page_faults(&db)?;
        if !found.is_empty() {
            return Err(Error::new(
                Kind::Internal,
                "copy_damaged",
                format!(
                    "the copy of {} does not hold: {}; the store itself may be damaged: stop the server and run `strongroom doctor`",
                    file.name(),
                    found.join("; ")
                ),
            ));
        }
    }
    Ok(())
}

/// Wraps anew, in a copy that was made into `dir`, whatever lies under the key-encryption key.
pub fn rewrap(dir: &Path, key: &Key, rewrap: &Rewrap) -> Result<()> {
    let mut db = Source::new(dir, File::Store, key).private()?;
    let tx = db.transaction()?;
    meta::rewrap_rows(&tx, rewrap)?;
    tx.commit()?;
    db.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Whether there is room in `to` for copies of these files; `why` and `then` are said where there is not.
///
/// # Errors
/// `no_room_for_copy`.
pub(super) fn check_room(to: &Path, files: &[&Source], (why, then): (&str, &str)) -> Result<()> {
    let mut bytes = 0;
    for source in files {
        let metadata = std::fs::metadata(source.path())
            .map_err(|error| folder::failed("read", source.path(), error))?;
        // A log is not always there.
        let log = std::fs::metadata(source.log_path()).map_or(0, |it| it.len());
        bytes += metadata.len() + log;
    }
    let free = os::free_bytes(to).unwrap_or(0);
    let needed = bytes + MINIMUM_FREE;
    if free >= needed {
        return Ok(());
    }
    Err(Error::unavailable(
        "no_room_for_copy",
        format!(
            "{why}: that takes {} MiB free on the data disk, and {} are; free some space{then}",
            needed.div_ceil(1 << 20),
            free >> 20
        ),
    ))
}

/// Copies one database; `what` reads of the same moment.
fn copy_of<T>(
    source: &Source,
    to: &Path,
    key: &Key,
    goes_on: GoesOn<'_>,
    what: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    let from = source.reader(PAGES_KIB)?;
    // As long as it is open, others may write, and every page stays what it was.
    let moment = from.unchecked_transaction()?;
    let what = what(&moment)?;
    let mut copy = Source::new(to, source.file(), key).blank()?;
    let backup = Backup::new(&from, &mut copy)?;
    loop {
        match backup.step(STEP)? {
            StepResult::Done => break,
            StepResult::More => {}
            // The file is this connection's own.
            StepResult::Busy | StepResult::Locked => std::thread::yield_now(),
            other => return Err(Error::internal(format!("a copy ended with {other:?}"))),
        }
        let progress = backup.progress();
        let pages = |number: i32| u64::try_from(number).unwrap_or(0);
        let all = pages(progress.pagecount);
        if !goes_on(all - pages(progress.remaining).min(all), all) {
            return Err(cancelled());
        }
    }
    drop(backup);
    drop(moment);
    copy.close().map_err(|(_, error)| error)?;
    Ok(what)
}

/// Rows, by the name of the table.
pub(super) fn counts(db: &Connection) -> Result<BTreeMap<String, u64>> {
    let count = |sql: &str| -> Result<u64> {
        Ok(db
            .query_row(sql, (), |row| row.get::<_, i64>(0))?
            .unsigned_abs())
    };
    // Counters that every change keeps, where counting would read all.
    let counts = [
        ("orgs", "SELECT count(*) FROM orgs"),
        ("users", "SELECT count(*) FROM users"),
        ("clients", "SELECT coalesce(sum(clients), 0) FROM orgs"),
        ("deposits", "SELECT coalesce(sum(deposits), 0) FROM orgs"),
    ];
    counts
        .into_iter()
        .map(|(table, sql)| Ok((table.to_owned(), count(sql)?)))
        .collect()
}

fn said(db: &Connection, access: Head, access_schema: usize) -> Result<Copied> {
    let newest_deposit: Option<i64> = db.query_row(
        "SELECT max((SELECT max(modified) FROM deposits WHERE org = orgs.id)) FROM orgs",
        (),
        |row| row.get(0),
    )?;
    Ok(Copied {
        schema: schema::standing(db, File::Store)?.found,
        access_schema,
        revision: meta::revision(db)?,
        epoch: meta::number(db, "epoch")?,
        timeline: meta::number(db, "timeline")?,
        changes: event::head(db)?,
        access,
        checkpoint: event::newest_checkpoint(db)?,
        newest_deposit: newest_deposit.map(Timestamp),
        counts: counts(db)?,
    })
}

fn cancelled() -> Error {
    Error::conflict("cancelled", "it was cancelled; nothing of it is left")
}
