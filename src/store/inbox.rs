//! Events on their way to the thread of the access log. It is woken for the first of a segment, not
//! for each: waking a thread costs more than all the rest of a release.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::model::audit::Event;

/// Events that may wait for the disk; more, and releases are refused.
const MOST: usize = 65_536;
/// So many are handed out at once, without waiting for more.
const MANY: usize = 4_096;

type Run = Box<dyn FnOnce(&Connection) -> Result<bool> + Send>;

/// What else is to be done with the log's file, by its thread.
pub(super) struct Task {
    pub run: Run,
    pub reply: oneshot::Sender<Result<bool>>,
}

#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    flushes: Vec<oneshot::Sender<Result<()>>>,
    tasks: Vec<Task>,
    closed: bool,
}

/// What the thread is handed.
pub(super) struct Taken {
    pub events: Vec<Event>,
    /// To be answered when all events before them are on disk; these are in `events`, or were handed
    /// out earlier.
    pub flushes: Vec<oneshot::Sender<Result<()>>>,
    pub tasks: Vec<Task>,
    /// Nothing more comes.
    pub last: bool,
}

impl Inbox {
    /// False if there is no room, or nobody who takes it.
    pub fn put(&self, event: Event) -> bool {
        let mut waiting = self.lock();
        if waiting.closed || waiting.events.len() >= MOST {
            return false;
        }
        waiting.events.push(event);
        let count = waiting.events.len();
        drop(waiting);
        if count == 1 || count == MANY {
            self.arrived.notify_one();
        }
        true
    }

    /// Asks for an answer when all that was put is on disk; none if nobody takes it.
    pub fn flush(&self) -> Option<oneshot::Receiver<Result<()>>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.closed {
            return None;
        }
        waiting.flushes.push(reply);
        drop(waiting);
        self.arrived.notify_one();
        Some(answer)
    }

    /// Has something done to the log's file; none if nobody takes it.
    pub fn ask(
        &self,
        run: impl FnOnce(&Connection) -> Result<bool> + Send + 'static,
    ) -> Option<oneshot::Receiver<Result<bool>>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.closed {
            return None;
        }
        let run = Box::new(run);
        waiting.tasks.push(Task { run, reply });
        drop(waiting);
        self.arrived.notify_one();
        Some(answer)
    }

    /// Nothing more is taken in; what is there can still be handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The one who takes is gone: nobody waits for an answer any more.
    pub fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.flushes.clear();
        waiting.tasks.clear();
    }

    /// Waits up to `idle` for an event, then `gather` for more of them; none if none came.
    pub fn take(&self, idle: Duration, gather: Duration) -> Option<Taken> {
        let nothing = |waiting: &Waiting| waiting.events.is_empty() && !waiting.presses();
        let few = |waiting: &Waiting| waiting.events.len() < MANY && !waiting.presses();
        let mut waiting = self.wait(self.lock(), idle, nothing);
        if nothing(&waiting) {
            return None;
        }
        waiting = self.wait(waiting, gather, few);
        Some(Taken {
            events: std::mem::take(&mut waiting.events),
            flushes: std::mem::take(&mut waiting.flushes),
            tasks: std::mem::take(&mut waiting.tasks),
            last: waiting.closed,
        })
    }

    fn wait<'a>(
        &'a self,
        mut waiting: MutexGuard<'a, Waiting>,
        limit: Duration,
        goes_on: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        let since = Instant::now();
        while goes_on(&waiting) {
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            let woken = self.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Nothing more is waited for.
    fn presses(&self) -> bool {
        self.closed || !self.flushes.is_empty() || !self.tasks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::audit::{Actor, Object, Outcome};
    use crate::model::id::RequestId;

    fn event() -> Event {
        let text = String::new;
        Event {
            time: Timestamp(0),
            request: RequestId::new(),
            actor: Actor {
                kind: text(),
                name: text(),
                source: text(),
            },
            action: text(),
            object: Object {
                kind: text(),
                id: text(),
                name: text(),
            },
            outcome: Outcome::Done,
            detail: text(),
            reason: text(),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_put_before_a_flush_is_handed_out_with_it() {
        let inbox = Inbox::default();
        assert!(inbox.put(event()) && inbox.put(event()));
        let _answer = inbox.flush().unwrap();
        let taken = inbox.take(LONG, LONG).unwrap();
        assert_eq!((taken.events.len(), taken.flushes.len()), (2, 1));
        assert!(!taken.last);
        assert!(inbox.take(Duration::ZERO, LONG).is_none());
    }

    #[test]
    fn a_full_inbox_takes_no_more() {
        let inbox = Inbox::default();
        assert!((0..MOST).all(|_| inbox.put(event())));
        assert!(!inbox.put(event()));
        assert_eq!(inbox.take(LONG, LONG).unwrap().events.len(), MOST);
        assert!(inbox.put(event()));
    }

    #[test]
    fn a_closed_inbox_hands_out_what_is_there_and_takes_no_more() {
        let inbox = Inbox::default();
        assert!(inbox.put(event()));
        inbox.close();
        assert!(!inbox.put(event()) && inbox.flush().is_none());
        let taken = inbox.take(LONG, LONG).unwrap();
        assert!(taken.last && taken.events.len() == 1);
    }

    #[test]
    fn nobody_waits_for_one_who_is_gone() {
        let inbox = Inbox::default();
        let answer = inbox.flush().unwrap();
        inbox.abandon();
        assert!(answer.blocking_recv().is_err());
        assert!(!inbox.put(event()));
    }
}
