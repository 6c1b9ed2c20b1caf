//! The store as it was before a migration: a copy in a folder beside `live`, read back before anything
//! is changed, to which `strongroom rollback` goes back. `copy.json` in it, written last, tells a copy
//! from anything else.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::copy::check_room;
use super::event::{self, Head};
use super::open::Source;
use super::schema::{self, File};
use super::{Opened, meta};
use crate::clock::Timestamp;
use crate::crypto::chain::Tagger;
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::audit::Event;
use crate::model::id::InstanceId;

const FORMAT: &str = "strongroom-copy/1";
const MARK: &str = "copy.json";
const SEAL: &str = "seal.json";
const MOST_BYTES: u64 = 4_096;

/// Which state of the store a copy holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    format: String,
    pub instance: InstanceId,
    /// Of strongroom.db, and of access.db.
    pub schema: usize,
    pub access_schema: usize,
    pub revision: u64,
    /// The head of the chain of changes, its hash in hex.
    pub events: u64,
    pub head: String,
    pub made: Timestamp,
    /// The program that made it, and brought the store to its schema after that.
    pub program: String,
}

/// A copy that is whole.
pub struct Copy {
    pub path: PathBuf,
    pub mark: Mark,
}

impl Mark {
    fn of(db: &Connection, access: &Connection, now: Timestamp) -> Result<Self> {
        let Head { number, hash } = event::head(db)?;
        Ok(Self {
            format: FORMAT.to_owned(),
            instance: meta::instance(db)?,
            schema: schema::standing(db, File::Store)?.found,
            access_schema: schema::standing(access, File::Access)?.found,
            revision: meta::revision(db)?,
            events: number,
            head: hex::encode(hash),
            made: now,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// How many events a later state has that this one has not.
    pub fn lost(&self, live: &Self) -> u64 {
        live.events.saturating_sub(self.events)
    }

    /// Whether it is of the same state, whenever it was made, and whether or not access.db was brought
    /// to a newer schema since.
    fn fits(&self, other: &Self) -> bool {
        (self.instance, self.schema, self.revision, self.events)
            == (other.instance, other.schema, other.revision, other.events)
            && self.head == other.head
    }
}

/// The newest copy; none if there is none.
///
/// # Errors
/// `copy_damaged` if its `copy.json` cannot be understood.
pub fn newest(folder: &Folder) -> Result<Option<Copy>> {
    for migration in folder.befores()?.into_iter().rev() {
        if let Some(copy) = at(&folder.before(migration))? {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

fn at(path: &Path) -> Result<Option<Copy>> {
    let file = path.join(MARK);
    if !file.exists() {
        return Ok(None);
    }
    let damaged = || {
        let text = format!("{} is damaged, or of a newer format", file.display());
        Error::unavailable("copy_damaged", text)
    };
    let mark: Mark = serde_json::from_slice(&folder::read(&file, MOST_BYTES)?)
        .map_err(|error| damaged().because(error))?;
    if mark.format != FORMAT {
        return Err(damaged());
    }
    Ok(Some(Copy {
        path: path.to_owned(),
        mark,
    }))
}

/// Puts away what a rollback left that was cut off between its steps: under a copy's name, but without
/// `copy.json`, lies what it took out of service.
pub fn settle(folder: &Folder) -> Result<()> {
    let mark = folder.live().join(MARK);
    if mark.exists() {
        // What lies there now was a copy, and is the store.
        folder::remove(&mark)?;
    }
    for migration in folder.befores()? {
        let path = folder.before(migration);
        if path.join(MARK).exists() {
            continue;
        }
        // A copy never held the slots; what was served did.
        match path.join(SEAL).exists() {
            true => {
                folder::remove_folder(&folder.undone())?;
                folder::rename(&path, &folder.undone())?;
            }
            false => folder::remove_folder(&path)?,
        }
    }
    Ok(())
}

impl Opened {
    /// Whether a file has an older schema than this program's.
    pub fn is_behind(&self) -> Result<bool> {
        Ok(schema::standing(&self.db, File::Store)?.is_behind()
            || schema::standing(&self.access_db, File::Access)?.is_behind())
    }

    /// Brings the store to this program's schema, where it is not there yet: first a copy is made and
    /// checked, then each file is changed in one transaction. Cut off anywhere, it is done again, or
    /// goes on.
    ///
    /// # Errors
    /// `no_room_for_copy`, `copy_failed`; nothing is changed then.
    pub fn upgrade(self, folder: &Folder, now: Timestamp) -> Result<Self> {
        settle(folder)?;
        if !self.is_behind()? {
            tidy(folder)?;
            return Ok(self);
        }
        let mark = Mark::of(&self.db, &self.access_db, now)?;
        let Self {
            store,
            access,
            db,
            access_db,
            dir,
            ..
        } = self;
        // Closed, so that nothing of them is in a log or in memory; and SQLite would lose its locks on
        // a file that this process opens and closes beside it.
        for db in [db, access_db] {
            db.close().map_err(|(_, error)| error)?;
        }
        let copy = folder.before(mark.schema + 1);
        if at(&copy)?.is_some_and(|there| there.mark.fits(&mark)) {
            log::info!("the copy of the store that an earlier start made is there");
        } else {
            make(folder, &store, &access, &mark, &copy)?;
        }
        let opened = Self {
            #[cfg(debug_assertions)]
            planted: self.planted,
            ..Self::of(store, access, &dir)?
        };
        // In this order: the copy is found by the schema of strongroom.db.
        schema::migrate(&opened.access_db, File::Access, now)?;
        schema::migrate(&opened.db, File::Store, now)?;
        tidy(folder)?;
        let to = schema::standing(&opened.db, File::Store)?.found;
        log::warn!(from = mark.schema, to, copy = copy.display().to_string().as_str(); "the store has this program's schema now; `strongroom rollback` goes back to the copy");
        Ok(opened)
    }
}

/// Keeps the newest copy alone.
fn tidy(folder: &Folder) -> Result<()> {
    folder::remove_folder(&folder.before_unfinished())?;
    let copies = folder.befores()?;
    for older in copies.iter().rev().skip(1) {
        folder::remove_folder(&folder.before(*older))?;
    }
    Ok(())
}

/// Copies both files, reads the copies back, and only then gives them their name.
fn make(folder: &Folder, store: &Source, access: &Source, mark: &Mark, to: &Path) -> Result<()> {
    let unfinished = folder.before_unfinished();
    folder::remove_folder(&unfinished)?;
    let words = (
        "the store has an older schema, and before it is changed a copy is made",
        ", and start again. Nothing was changed; the program of before still opens it",
    );
    check_room(folder.root(), &[store, access], words)?;
    log::info!(to = to.display().to_string().as_str(); "the store has an older schema; a copy of it is made first");
    let made = (|| {
        folder::make_folder(&unfinished)?;
        for source in [store, access] {
            folder::copy(source.path(), &unfinished.join(source.file().name()))?;
        }
        let copy = Copy {
            path: unfinished.clone(),
            mark: mark.clone(),
        };
        let opened = Opened::of(
            store.elsewhere(&unfinished),
            access.elsewhere(&unfinished),
            &unfinished,
        )?;
        copy.check(&opened)?;
        opened.close()?;
        let text =
            serde_json::to_vec_pretty(mark).map_err(|error| Error::internal(error.to_string()))?;
        folder::replace(&unfinished.join(MARK), &text)?;
        folder::remove_folder(to)?;
        folder::rename(&unfinished, to)
    })();
    made.map_err(|error| {
        // Best effort: the next start begins with it.
        let _ = folder::remove_folder(&unfinished);
        let text = format!(
            "the store has an older schema, and no copy of it could be made before it is changed: {}. Nothing was changed; the program of before still opens it",
            error.public
        );
        Error::unavailable("copy_failed", text).because(error)
    })
}

impl Copy {
    /// Reads every page of the copy, opened, and compares it with its mark. It may have events since:
    /// a rollback that was cut off entered itself.
    ///
    /// # Errors
    /// `copy_damaged`.
    pub fn check(&self, opened: &Opened) -> Result<()> {
        let damaged = |what: &str| {
            let text = format!("{} is damaged: {what}", self.path.display());
            Error::unavailable("copy_damaged", text)
        };
        let found = self
            .faults(opened)
            .map_err(|error| damaged(&error.public).because(error))?;
        match found.is_empty() {
            true => Ok(()),
            false => Err(damaged(&found.join("; "))),
        }
    }

    fn faults(&self, opened: &Opened) -> Result<Vec<String>> {
        let mut found = meta::page_faults(&opened.db)?;
        found.extend(meta::page_faults(&opened.access_db)?);
        if !found.is_empty() {
            return Ok(found);
        }
        let there = Mark::of(&opened.db, &opened.access_db, self.mark.made)?;
        let head: Option<Vec<u8>> = opened
            .db
            .query_row(
                "SELECT hash FROM events WHERE number = ?1",
                [i64::try_from(self.mark.events).unwrap_or(i64::MAX)],
                |row| row.get(0),
            )
            .optional()?;
        let same = |mark: &Mark| (mark.instance, mark.schema, mark.access_schema);
        if same(&there) != same(&self.mark)
            || there.revision < self.mark.revision
            || head.map(hex::encode).unwrap_or_default() != self.mark.head
        {
            found.push("it holds another state of the store than it should".to_owned());
        }
        Ok(found)
    }
}

impl Opened {
    /// Which state this is, and when its last event was.
    pub fn state(&self, now: Timestamp) -> Result<(Mark, Timestamp)> {
        let last = self.db.query_row(
            "SELECT time FROM events ORDER BY number DESC LIMIT 1",
            (),
            |row| row.get(0),
        )?;
        Ok((Mark::of(&self.db, &self.access_db, now)?, Timestamp(last)))
    }

    /// Enters an event in the chain of changes, whatever the schema: the chain is the same in all.
    pub fn enter(&mut self, tagger: &Tagger, event: Event) -> Result<()> {
        let revision = meta::revision(&self.db)? + 1;
        let tx = self.db.transaction()?;
        event::append(&tx, event::head(&tx)?, tagger, event)?;
        tx.execute(
            "UPDATE meta SET value = ?1 WHERE name = 'revision'",
            [revision.to_string()],
        )?;
        Ok(tx.commit()?)
    }

    /// Closes both files, so that nothing of them lies in a log.
    pub fn close(self) -> Result<()> {
        for db in [self.db, self.access_db] {
            db.close().map_err(|(_, error)| error)?;
        }
        Ok(())
    }
}
