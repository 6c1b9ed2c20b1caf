//! Reads every page of the files while they are in use, each in a thread of its own, since nothing can
//! break off SQLCipher's part of it.

use rusqlite::InterruptHandle;
use tokio::sync::oneshot;

use super::readers::{PAGES_KIB, spawn};
use super::{Store, meta};
use crate::error::{Error, Result};

/// One file's check. Dropped, it ends as soon as SQLite lets it.
pub struct PageCheck {
    found: oneshot::Receiver<Result<Vec<String>>>,
    interrupt: InterruptHandle,
}

impl PageCheck {
    /// What is wrong, line by line.
    pub async fn ended(&mut self) -> Result<Vec<String>> {
        (&mut self.found)
            .await
            .map_err(|_| Error::internal("the check of a file ended without an answer"))?
    }
}

impl Drop for PageCheck {
    fn drop(&mut self) {
        self.interrupt.interrupt();
    }
}

impl Store {
    /// How many files there are to check.
    pub fn files(&self) -> usize {
        self.sources.len()
    }

    /// Begins to check one of the files, the first being 0.
    pub fn check_pages(&self, file: usize) -> Result<PageCheck> {
        let source = self
            .sources
            .get(file)
            .ok_or_else(|| Error::internal("the store has fewer files"))?;
        let db = source.reader(PAGES_KIB)?;
        let interrupt = db.get_interrupt_handle();
        let (reply, found) = oneshot::channel();
        let name = source.file().name();
        let check = move || {
            let faults = meta::page_faults(&db).map(|faults| {
                let lines = faults.into_iter().map(|line| format!("{name}: {line}"));
                lines.collect()
            });
            drop(db);
            let _ = reply.send(faults);
        };
        // Not waited for: it holds up nobody's end.
        drop(spawn("check", check)?);
        Ok(PageCheck { found, interrupt })
    }
}
