//! A connection that only reads. SQLCipher gives up one that met a damaged page: from then on it hands out
//! pages of zeros, also where the file is whole. So nothing is believed that such a one read, and the next
//! read has a new one.

use std::sync::Arc;

use rusqlite::{Connection, MAIN_DB};

use super::FATAL;
use super::open::Source;
use crate::error::{Error, Kind, Result};

pub(super) struct Reader {
    source: Arc<Source>,
    pages_kib: u32,
    db: Connection,
}

impl Reader {
    /// One that keeps at most `pages_kib` KiB of pages.
    pub fn open(source: Arc<Source>, pages_kib: u32) -> Result<Self> {
        Ok(Self {
            db: source.reader(pages_kib)?,
            source,
            pages_kib,
        })
    }

    /// # Errors
    /// `store_failed` where a page was damaged, whatever `read` made of it.
    pub fn read<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let found = read(&self.db);
        match self.is_given_up() {
            true => Err(self.replace(found.err())),
            false => found,
        }
    }

    /// Gets a new connection; returns why what the old one read does not count.
    #[cold]
    fn replace(&mut self, said: Option<Error>) -> Error {
        log::error!(path:% = self.source.path().display(); "a page is damaged; the connection that met it is replaced");
        match self.source.reader(self.pages_kib) {
            Ok(db) => self.db = db,
            Err(error) => log::error!(error:%; "it could not be replaced"),
        }
        said.filter(|error| error.code == FATAL).unwrap_or_else(|| {
            Error::new(
                Kind::Internal,
                FATAL,
                "a page of the store is damaged; see the server's log",
            )
        })
    }

    /// SQLCipher bars a connection that it gives up from writing. Readers are opened as if they wrote
    /// (and are kept from it by `query_only`), so that this shows.
    fn is_given_up(&self) -> bool {
        self.db.is_readonly(MAIN_DB).unwrap_or(true)
    }
}
