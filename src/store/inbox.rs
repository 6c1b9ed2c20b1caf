//! Events on their way to the access log's thread. It is woken for the first one, not for each: a
//! wake-up costs more than all the rest of a release.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Result;
use crate::model::audit::Event;

/// Events that may wait; more are refused.
const MOST: usize = 65_536;
/// So many are taken at once, without waiting for more.
const MANY: usize = 4_096;
/// How long events gather.
const GATHER: Duration = Duration::from_millis(40);

#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
pub(super) struct Waiting {
    pub events: Vec<Event>,
    /// Answered when all events before them are on disk.
    pub flushes: Vec<oneshot::Sender<Result<()>>>,
    /// Nothing more comes.
    pub closed: bool,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl Inbox {
    pub fn put(&self, event: Event) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.events.len() >= MOST {
            return Err(Refused::Full);
        }
        waiting.events.push(event);
        let count = waiting.events.len();
        drop(waiting);
        if count == 1 || count == MANY {
            self.arrived.notify_one();
        }
        Ok(())
    }

    pub fn flush(&self) -> Result<oneshot::Receiver<Result<()>>, Refused> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        waiting.flushes.push(reply);
        drop(waiting);
        self.arrived.notify_one();
        Ok(answer)
    }

    /// Nothing more is taken; what waits is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Nobody will take anything any more, and nobody need wait for it.
    pub fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.flushes.clear();
    }

    /// Waits for an event, though not longer than `longest`, lets more gather, and hands out all
    /// that are there.
    pub fn take(&self, longest: Duration) -> Waiting {
        let quiet = |waiting: &mut Waiting| waiting.events.is_empty() && !waiting.pressing();
        let woken = self.arrived.wait_timeout_while(self.lock(), longest, quiet);
        let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        let since = Instant::now();
        while !waiting.events.is_empty() && waiting.events.len() < MANY && !waiting.pressing() {
            let left = GATHER.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            let woken = self.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Waiting {
            events: std::mem::take(&mut waiting.events),
            flushes: std::mem::take(&mut waiting.flushes),
            closed: waiting.closed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Nothing more is waited for.
    fn pressing(&self) -> bool {
        self.closed || !self.flushes.is_empty()
    }
}
