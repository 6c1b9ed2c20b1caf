//! Moves the write-ahead log into the database, off the write path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::readers::spawn;
use super::{DISK_FULL, FATAL};
use crate::error::{Error, Kind, Result};

/// 16 MiB.
const PASSIVE_PAGES: u64 = 4_096;
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Checkpointer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub fn start(
        db: Connection,
        wal_pages: Arc<AtomicU64>,
        on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn("checkpoint", move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(PAUSE);
                let outcome = run(&db, "NOOP").and_then(|(log, done)| {
                    wal_pages.store(log, Ordering::Relaxed);
                    if log.saturating_sub(done) > PASSIVE_PAGES {
                        run(&db, "PASSIVE").map(|_| ())
                    } else {
                        Ok(())
                    }
                });
                match outcome {
                    Err(error) if error.code == FATAL => {
                        log::error!(error = format!("{error:?}").as_str(); "a checkpoint of the store failed");
                        on_fatal("a checkpoint of the store failed");
                        return;
                    }
                    // A full disk: the log keeps all, and this tries again.
                    Err(_) | Ok(()) => {}
                }
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Pages in the log, and of those the ones that are in the database too.
///
/// # Errors
/// `DISK_FULL` if the database had no room to grow: the log still holds everything, and the next
/// checkpoint goes on. `FATAL` for anything else but a lock held elsewhere.
pub(super) fn run(db: &Connection, mode: &str) -> Result<(u64, u64)> {
    let found = db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match found {
        Ok((log, done)) => Ok((
            u64::try_from(log).unwrap_or(0),
            u64::try_from(done).unwrap_or(0),
        )),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Ok((0, 0))
        }
        Err(error) => {
            let code = match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => DISK_FULL,
                _ => FATAL,
            };
            Err(Error::new(Kind::Internal, code, "a checkpoint of the store failed").because(error))
        }
    }
}
