//! Feeds: what is told as it happens, as server-sent events, to whoever follows; how many there may be,
//! and when one ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::Service;
use super::caller::Context;
use crate::error::{Error, Kind, Result};

/// Feeds at one time, and those of one caller.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;
/// A feed ends after this many seconds, and is asked for again: so nobody follows longer on a right that
/// is gone.
pub const LONGEST: u32 = 60;
/// Between two signs of life.
const QUIET: Duration = Duration::from_secs(10);
pub(super) const SIGN_OF_LIFE: &[u8] = b":\n\n";

/// What leaves, piece by piece.
pub type Pieces = mpsc::Receiver<Result<Vec<u8>>>;

/// Those that are open.
pub struct Feeds {
    room: Arc<Semaphore>,
    callers: Arc<Mutex<HashMap<String, usize>>>,
    end: watch::Sender<bool>,
}

/// A feed's place, until it ends.
struct Place {
    _room: OwnedSemaphorePermit,
    caller: String,
    callers: Arc<Mutex<HashMap<String, usize>>>,
}

/// One that is open, on the side of whoever tells.
pub(super) struct Feed {
    pieces: mpsc::Sender<Result<Vec<u8>>>,
    commits: watch::Receiver<u64>,
    end: watch::Receiver<bool>,
    over: Instant,
    _place: Place,
}

/// What a feed waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something was changed in the store.
    News,
    /// Nothing for a while.
    Nothing,
    /// The server stops, or nobody listens any more.
    End,
}

impl Feeds {
    /// # Errors
    /// `too_many_feeds`.
    fn place(&self, caller: String) -> Result<Place> {
        let full = |text: String| Error::new(Kind::Limited, "too_many_feeds", text).after(5);
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            full(format!(
                "{MOST} feeds are open, which is all there is room for"
            ))
        })?;
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = callers.entry(caller.clone()).or_default();
        if *open >= MOST_OF_ONE {
            return Err(full(format!(
                "this caller has {MOST_OF_ONE} feeds open, as many as one may have"
            )));
        }
        *open += 1;
        Ok(Place {
            _room: room,
            caller,
            callers: Arc::clone(&self.callers),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = callers.get_mut(&self.caller) {
            *open -= 1;
            if *open == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

impl Default for Feeds {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MOST)),
            callers: Arc::default(),
            end: watch::Sender::new(false),
        }
    }
}

impl Feed {
    /// What was changed up to now is looked at next.
    pub fn looks(&mut self) {
        self.commits.borrow_and_update();
    }

    pub fn is_over(&self) -> bool {
        *self.end.borrow() || Instant::now() >= self.over || self.pieces.is_closed()
    }

    /// False: nobody listens any more.
    pub async fn tell(&self, piece: Vec<u8>) -> bool {
        self.pieces.send(Ok(piece)).await.is_ok()
    }

    /// Until something is changed, or a sign of life is due that was last given at `told`.
    pub async fn waits(&mut self, told: Instant) -> Heard {
        let news = async {
            tokio::select! {
                news = self.commits.changed() => news.is_ok(),
                _ = self.end.changed() => false,
                () = self.pieces.closed() => false,
            }
        };
        match timeout_at(self.over.min(told + QUIET), news).await {
            Ok(true) => Heard::News,
            Ok(false) => Heard::End,
            Err(_) => Heard::Nothing,
        }
    }

    /// It ends, and whoever listens learns why if that is an error.
    pub async fn ends(self, told: Result<()>) {
        if let Err(error) = told {
            let _ = self.pieces.send(Err(error)).await;
        }
    }
}

impl Service {
    /// Opens one for so many seconds.
    ///
    /// # Errors
    /// `too_many_feeds`.
    pub(super) fn feed(&self, ctx: &Context, seconds: u32) -> Result<(Feed, Pieces)> {
        let place = self.feeds.place(ctx.idempotency_caller())?;
        let (pieces, out) = mpsc::channel(1);
        let feed = Feed {
            pieces,
            commits: self.store.commits(),
            end: self.feeds.end.subscribe(),
            over: Instant::now() + Duration::from_secs(seconds.min(LONGEST).into()),
            _place: place,
        };
        Ok((feed, out))
    }

    /// Ends all feeds: the server stops.
    pub fn end_feeds(&self) {
        self.feeds.end.send_replace(true);
    }
}

/// As the form of server-sent events has it; JSON has no line ends.
pub(super) fn sent(number: u64, event: &str, what: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_string(what).map_err(|error| Error::internal(error.to_string()))?;
    Ok(format!("id: {number}\nevent: {event}\ndata: {json}\n\n").into_bytes())
}
