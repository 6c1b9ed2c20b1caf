//! Reads: a small pool of connections for point reads on the caller's thread, and two threads for
//! whatever may touch over 100 rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::FATAL;
use super::open::Source;
use super::reader::Reader;
use crate::error::{Error, Result};

/// Lists stop here and hand out a cursor.
pub const SCAN_ROWS: usize = 20_000;
pub const SCAN_TIME: Duration = Duration::from_millis(50);
/// Scans that wait; more are refused.
const SCAN_QUEUE: usize = 256;
const SCAN_THREADS: usize = 2;
/// Pages that a connection keeps which is not of the pool.
pub const PAGES_KIB: u32 = 8 << 10;

type Scan = Box<dyn FnOnce(&mut Reader) + Send>;

pub(super) struct Readers {
    pool: Arc<Pool>,
    scans: Option<mpsc::SyncSender<Scan>>,
    threads: Vec<JoinHandle<()>>,
    failed: Arc<AtomicBool>,
}

struct Pool {
    idle: Mutex<Vec<Reader>>,
    returned: Condvar,
}

/// How far a scan may go.
pub(super) struct Budget {
    rows: usize,
    until: Instant,
}

impl Budget {
    pub fn new() -> Self {
        Self {
            rows: SCAN_ROWS,
            until: Instant::now() + SCAN_TIME,
        }
    }

    /// Counts a row; false when the budget is used up.
    pub fn take(&mut self) -> bool {
        if self.rows == 0 || (self.rows.is_multiple_of(64) && Instant::now() > self.until) {
            return false;
        }
        self.rows -= 1;
        true
    }
}

impl Readers {
    /// `pages_mib`: what all connections of the pool keep of pages, together.
    pub fn start(source: &Source, pages_mib: u32) -> Result<Self> {
        let size = std::thread::available_parallelism().map_or(4, usize::from) + 2;
        let pages = (pages_mib << 10) / u32::try_from(size).unwrap_or(u32::MAX);
        let source = Arc::new(source.again());
        let idle = (0..size)
            .map(|_| Reader::open(Arc::clone(&source), pages))
            .collect::<Result<Vec<_>>>()?;
        let pool = Arc::new(Pool {
            idle: Mutex::new(idle),
            returned: Condvar::new(),
        });
        let (scans, queue) = mpsc::sync_channel::<Scan>(SCAN_QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for number in 0..SCAN_THREADS {
            let queue = Arc::clone(&queue);
            let mut reader = Reader::open(Arc::clone(&source), PAGES_KIB)?;
            let run = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match next {
                        // A scan that panics loses its answer, not the thread.
                        Ok(scan) => {
                            if catch_unwind(AssertUnwindSafe(|| scan(&mut reader))).is_err() {
                                log::error!("a scan of the store panicked");
                            }
                        }
                        Err(_) => return,
                    }
                }
            };
            threads.push(spawn(&format!("scan-{number}"), run)?);
        }
        Ok(Self {
            pool,
            scans: Some(scans),
            threads,
            failed: Arc::default(),
        })
    }

    /// False once a read met a damaged page, or a disk that gave an error.
    pub fn hold(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// A read of a few rows, here and now.
    pub fn point<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let reader = {
            let mut idle = self
                .pool
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            loop {
                match idle.pop() {
                    Some(reader) => break reader,
                    None => {
                        idle = self
                            .pool
                            .returned
                            .wait(idle)
                            .unwrap_or_else(PoisonError::into_inner)
                    }
                }
            }
        };
        // Goes back even if `read` panics.
        struct Lent<'a>(&'a Pool, Option<Reader>);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                if let Some(reader) = self.1.take() {
                    self.0
                        .idle
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(reader);
                    self.0.returned.notify_one();
                }
            }
        }
        let mut lent = Lent(&self.pool, Some(reader));
        match &mut lent.1 {
            Some(reader) => noted(&self.failed, reader.read(read)),
            None => Err(Error::internal("a reader was lent without a connection")),
        }
    }

    /// A read that may touch many rows.
    pub async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let failed = Arc::clone(&self.failed);
        let scan: Scan = Box::new(move |reader| {
            // Nobody waits any more: the caller went away.
            if !reply.is_closed() {
                let _ = reply.send(noted(&failed, reader.read(read)));
            }
        });
        let Some(scans) = &self.scans else {
            return Err(stopping());
        };
        scans.try_send(scan).map_err(|_| {
            Error::unavailable(
                "busy",
                "too many searches run at once; try again in a moment",
            )
            .after(1)
        })?;
        answer
            .await
            .map_err(|_| Error::internal("a scan of the store did not answer"))?
    }
}

fn noted<T>(failed: &AtomicBool, found: Result<T>) -> Result<T> {
    if found.as_ref().is_err_and(|error| error.code == FATAL) {
        failed.store(true, Ordering::Relaxed);
    }
    found
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.scans = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(super) fn stopping() -> Error {
    Error::unavailable(
        "stopping",
        "the server is stopping; try again when it is back",
    )
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| {
            Error::unavailable("no_threads", "the system gives no more threads").because(error)
        })
}
