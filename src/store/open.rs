//! Opens the encrypted files: the key, the switches that durability rests on, read back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use zeroize::Zeroizing;

use super::DISK_FULL;
use super::schema::{self, File};
use super::wal;
use crate::error::{Error, Result};
use crate::secret::Key;

/// The oldest SQLite whose WAL is sound: earlier ones can lose a commit when two connections
/// checkpoint and write at once.
const OLDEST: i32 = 3_051_003;

/// Where a file lies and what opens it; makes any number of connections.
pub(super) struct Source {
    path: PathBuf,
    file: File,
    key: Key,
}

impl Source {
    pub fn new(dir: &Path, file: File, key: &Key) -> Self {
        Self {
            path: dir.join(file.name()),
            file,
            key: Key::new(*key.expose()),
        }
    }

    /// Makes the file if there is none, and finishes what an unclean end left in the WAL. Its schema
    /// stays what it is.
    ///
    /// # Errors
    /// `store_damaged` if the file does not open with the key, `wal_foreign`, `schema_newer`.
    pub fn prepare(&self, create: bool) -> Result<Connection> {
        if rusqlite::version_number() < OLDEST {
            return Err(Error::internal(format!(
                "SQLite {} is older than 3.51.3",
                rusqlite::version()
            )));
        }
        if !create && !self.path.exists() {
            return Err(Error::unavailable(
                "store_missing",
                format!(
                    "{} is missing; restore a backup, or give the data folder that holds it",
                    self.path.display()
                ),
            ));
        }
        wal::check(&self.path, &self.key)?;
        let db = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let (busy, log, done): (i64, i64, i64) = db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .map_err(|error| self.damaged(error))?;
        if busy != 0 || log != done {
            return Err(Error::unavailable(
                "store_busy",
                format!(
                    "the write-ahead log of {} could not be taken over; does another program hold it?",
                    self.path.display()
                ),
            ));
        }
        schema::standing(&db, self.file)?;
        Ok(db)
    }

    /// Encrypts the file anew, in place: nothing of it is written anywhere else, so cut off it is lost.
    ///
    /// # Errors
    /// `store_damaged` where a page is not as it was written.
    pub fn rekey(&self, to: &Key) -> Result<()> {
        let db = self.keyed(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // A log would hold every page a second time.
        for mode in ["delete", "off"] {
            db.pragma_update(None, "journal_mode", mode)
                .map_err(|error| self.damaged(error))?;
            self.hold_to(&db, "journal_mode", mode)?;
        }
        let hex = Zeroizing::new(hex::encode(to.expose()));
        let rekey = Zeroizing::new(format!("PRAGMA rekey = \"x'{}'\";", hex.as_str()));
        db.execute_batch(&rekey)
            .map_err(|error| self.damaged(error))?;
        db.close().map_err(|(_, error)| error)?;
        std::fs::File::open(&self.path)
            .and_then(|file| file.sync_all())
            .map_err(|error| crate::folder::failed("sync", &self.path, error))
    }

    /// The same, for another owner.
    pub fn again(&self) -> Self {
        Self {
            path: self.path.clone(),
            file: self.file,
            key: Key::new(*self.key.expose()),
        }
    }

    /// The same file in another folder.
    pub fn elsewhere(&self, dir: &Path) -> Self {
        Self::new(dir, self.file, &self.key)
    }

    pub fn file(&self) -> File {
        self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its write-ahead log.
    pub fn log_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        name.into()
    }

    /// One more connection, that may write.
    pub fn writer(&self) -> Result<Connection> {
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// One more connection, that only reads, and keeps at most `pages_kib` KiB of pages.
    pub fn reader(&self, pages_kib: u32) -> Result<Connection> {
        let db = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.pragma_update(None, "query_only", true)?;
        db.pragma_update(None, "cache_size", -i64::from(pages_kib))?;
        Ok(db)
    }

    /// An empty file for a copy, which nobody relies on until it was read back: nothing is kept for a
    /// crash.
    pub fn blank(&self) -> Result<Connection> {
        let db = self.keyed(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;")?;
        Ok(db)
    }

    /// A copy that nobody else has open, to read it through.
    pub fn private(&self) -> Result<Connection> {
        let db = self.keyed(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -8192;")?;
        Ok(db)
    }

    fn open(&self, flags: OpenFlags) -> Result<Connection> {
        let db = self.keyed(flags)?;
        db.busy_timeout(Duration::from_secs(10))?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;
             PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -8192;",
        )
        .map_err(|error| self.damaged(error))?;
        db.set_prepared_statement_cache_capacity(128);
        self.hold_to(&db, "journal_mode", "wal")?;
        self.hold_to(&db, "synchronous", "2")?;
        self.hold_to(&db, "cipher_hmac_algorithm", "HMAC_SHA256")?;
        Ok(db)
    }

    /// Opened with the key, and nothing set but the form of its pages.
    fn keyed(&self, flags: OpenFlags) -> Result<Connection> {
        #[allow(
            clippy::disallowed_methods,
            reason = "the only place that opens a database"
        )]
        let db = Connection::open_with_flags(&self.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| {
            Error::unavailable(
                "store_unreadable",
                format!(
                    "{} cannot be opened: {}",
                    self.path.display(),
                    reason(&error)
                ),
            )
            .because(error)
        })?;
        let hex = Zeroizing::new(hex::encode(self.key.expose()));
        let key = Zeroizing::new(format!(
            "PRAGMA cipher_log_level = NONE; PRAGMA key = \"x'{}'\";",
            hex.as_str()
        ));
        db.execute_batch(&key)?;
        db.execute_batch("PRAGMA cipher_page_size = 4096; PRAGMA cipher_hmac_algorithm = HMAC_SHA256; PRAGMA cipher_kdf_algorithm = PBKDF2_HMAC_SHA256;")?;
        // The first read tells whether the key fits.
        db.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))
            .map_err(|error| self.damaged(error))?;
        Ok(db)
    }

    /// A switch that did not take would only be noticed after a power cut.
    fn hold_to(&self, db: &Connection, pragma: &str, expected: &str) -> Result<()> {
        let found: String = db.query_row(&format!("PRAGMA {pragma}"), (), |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().unwrap_or_default().to_owned(),
            })
        })?;
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(Error::unavailable(
            "store_unsafe",
            format!(
                "{}: {pragma} is {found}, not {expected}; the file system may not support it",
                self.path.display()
            ),
        ))
    }

    fn damaged(&self, error: rusqlite::Error) -> Error {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            let text = format!(
                "the data disk is full, and {} cannot take over its write-ahead log; free some space, and start again. Nothing is lost",
                self.path.display()
            );
            return Error::unavailable(DISK_FULL, text).because(error);
        }
        let text = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => {
                format!(
                    "{} does not open with this folder's key: it is damaged, or belongs to another instance; restore a backup",
                    self.path.display()
                )
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                format!("{} is damaged; restore a backup", self.path.display())
            }
            // The disk's fault, or the system's.
            _ => {
                let text = format!("{} cannot be used: {}", self.path.display(), reason(&error));
                return Error::unavailable("store_unreadable", text).because(error);
            }
        };
        Error::unavailable("store_damaged", text).because(error)
    }
}

/// SQLite's own words for what went wrong; they name no data.
fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => code.to_string(),
        other => other.to_string(),
    }
}
