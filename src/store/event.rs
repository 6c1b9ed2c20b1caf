//! The chain of changes: its head, pages of it, the whole of it in order, and signed checkpoints.

use rusqlite::{Connection, OptionalExtension};

use super::readers::Budget;
use super::{Change, Store, segment};
use crate::clock::Timestamp;
use crate::crypto::chain::{self, Tagger};
use crate::error::{Error, Result};
use crate::model::audit::{Chain, ChainedEvent, Event};
use crate::model::filter::Filter;

/// The last event's number and hash; zero and zeros before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub number: u64,
    pub hash: [u8; 32],
}

/// An event as it is stored.
pub struct ChainState {
    pub number: u64,
    pub canonical: Vec<u8>,
    pub hash: [u8; 32],
    /// HMAC of the hash; in the access log only at the end of each segment, which it covers.
    pub tag: Option<[u8; 32]>,
}

/// A signed checkpoint as it is stored.
#[derive(Clone)]
pub struct ExportedCheckpoint {
    /// Its place among those that the store keeps; 0 elsewhere.
    pub number: u64,
    pub time: Timestamp,
    /// Its JSON (docs/formats/audit.md).
    pub body: String,
    pub signature: Vec<u8>,
}

/// Events walked by one list, newest first, and where to go on.
pub struct Walked {
    pub events: Vec<ChainedEvent>,
    /// The number to continue below; none at the beginning of the chain.
    pub below: Option<u64>,
    /// False if the budget ended the walk.
    pub complete: bool,
    /// When the last event was that the walk looked at.
    pub last: Option<Timestamp>,
}

impl Walked {
    /// Of a chain that nobody asked for.
    pub fn nothing() -> Self {
        Self {
            events: Vec::new(),
            below: None,
            complete: true,
            last: None,
        }
    }
}

/// The head that a query finds (its number and its hash), or the one before the first event.
pub(super) fn head_by(db: &Connection, query: &str) -> Result<Head> {
    let found = db
        .prepare_cached(query)?
        .query_row((), |row| {
            Ok(Head {
                number: row.get::<_, i64>(0)?.unsigned_abs(),
                hash: row.get(1)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or(Head {
        number: 0,
        hash: [0; 32],
    }))
}

pub(super) fn head(db: &Connection) -> Result<Head> {
    head_by(
        db,
        "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1",
    )
}

/// The body and the signature of the newest checkpoint.
pub(super) fn newest_checkpoint(db: &Connection) -> Result<Option<(String, Vec<u8>)>> {
    Ok(db
        .query_row(
            "SELECT body, signature FROM checkpoints ORDER BY number DESC LIMIT 1",
            (),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?)
}

/// Adds an event to the chain; returns its new head.
pub(super) fn append(db: &Connection, head: Head, tagger: &Tagger, event: Event) -> Result<Head> {
    let event = event.clipped();
    let number = head.number + 1;
    let canonical = event.canonical(Chain::Changes, number);
    let hash = chain::event_hash(&head.hash, &canonical);
    let tag = tagger.tag(&hash);
    db.prepare_cached("INSERT INTO events (number, time, object, body, hash, tag) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute((
        i64::try_from(number).unwrap_or(i64::MAX),
        event.time.0,
        &event.object.id,
        &canonical,
        hash,
        tag,
    ))?;
    Ok(Head { number, hash })
}

/// A walk towards older events, until a page is full or the budget is used up.
pub(super) struct Backwards<'a> {
    chain: Chain,
    filter: &'a Filter<ChainedEvent>,
    limit: usize,
    /// The first event that did not leave in a segment.
    first: u64,
    budget: Budget,
    walked: Walked,
}

impl<'a> Backwards<'a> {
    pub fn new(
        db: &Connection,
        chain: Chain,
        filter: &'a Filter<ChainedEvent>,
        limit: usize,
    ) -> Result<Self> {
        Ok(Self {
            chain,
            filter,
            limit,
            first: segment::left_to(db)? + 1,
            budget: Budget::new(),
            walked: Walked::nothing(),
        })
    }

    /// Looks at the next older event; false when the walk is over.
    pub fn step(&mut self, number: u64, canonical: &[u8], hash: &[u8; 32]) -> Result<bool> {
        if number < self.first {
            return Ok(false);
        }
        if !self.budget.take() {
            self.walked.complete = false;
            self.walked.below = Some(number + 1);
            return Ok(false);
        }
        let event = chained(self.chain, number, canonical, hash)?;
        self.walked.last = Some(event.event.time);
        if self.filter.matches(&event) {
            self.walked.events.push(event);
            if self.walked.events.len() == self.limit {
                self.walked.below = (number > self.first).then_some(number);
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn end(self) -> Walked {
        self.walked
    }
}

impl Store {
    pub fn changes_head(&self) -> Result<Head> {
        self.readers.point(head)
    }

    /// The last change that left in a segment; 0 if none did.
    pub fn changes_left(&self) -> Result<u64> {
        self.readers.point(segment::left_to)
    }

    /// Changes below `below`, newest first, that match.
    pub async fn changes(
        &self,
        below: Option<u64>,
        filter: Filter<ChainedEvent>,
        limit: usize,
    ) -> Result<Walked> {
        self.readers
            .scan(move |db| {
                let mut walk = Backwards::new(db, Chain::Changes, &filter, limit)?;
                let mut statement = db.prepare_cached(
                    "SELECT number, body, hash FROM events WHERE number < ?1 ORDER BY number DESC",
                )?;
                let below = below.and_then(|below| i64::try_from(below).ok());
                let mut rows = statement.query([below.unwrap_or(i64::MAX)])?;
                while let Some(row) = rows.next()? {
                    let number = row.get::<_, i64>(0)?.unsigned_abs();
                    let canonical = row.get_ref(1)?.as_blob().unwrap_or_default();
                    if !walk.step(number, canonical, &row.get(2)?)? {
                        break;
                    }
                }
                Ok(walk.end())
            })
            .await
    }

    /// Changes from `from` on, oldest first, at most `limit`: for verify and export.
    pub async fn changes_from(&self, from: u64, limit: usize) -> Result<Vec<ChainState>> {
        self.readers
            .scan(move |db| {
                let mut statement = db.prepare_cached("SELECT number, body, hash, tag FROM events WHERE number >= ?1 ORDER BY number LIMIT ?2")?;
                let rows = statement.query_map((i64::try_from(from).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
                    Ok(ChainState { number: row.get::<_, i64>(0)?.unsigned_abs(), canonical: row.get(1)?, hash: row.get(2)?, tag: Some(row.get(3)?) })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Keeps a checkpoint, with the event that says so.
    pub async fn put_checkpoint(
        &self,
        change: Change,
        checkpoint: ExportedCheckpoint,
    ) -> Result<()> {
        self.change(change, checkpoint.body.len(), move |tx, _| {
            tx.db.execute("INSERT INTO checkpoints SELECT coalesce(max(number), 0) + 1, ?1, ?2, ?3 FROM checkpoints", (checkpoint.time.0, &checkpoint.body, &checkpoint.signature))?;
            Ok(())
        })
        .await
    }

    /// All checkpoints, oldest first.
    pub async fn checkpoints(&self) -> Result<Vec<ExportedCheckpoint>> {
        self.readers
            .scan(|db| {
                let mut statement = db.prepare_cached(
                    "SELECT number, time, body, signature FROM checkpoints ORDER BY number",
                )?;
                let rows = statement.query_map((), |row| {
                    Ok(ExportedCheckpoint {
                        number: row.get::<_, i64>(0)?.unsigned_abs(),
                        time: Timestamp(row.get(1)?),
                        body: row.get(2)?,
                        signature: row.get(3)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

/// An event out of its stored form.
fn chained(chain: Chain, number: u64, canonical: &[u8], hash: &[u8; 32]) -> Result<ChainedEvent> {
    let (_, _, event): (Chain, u64, Event) =
        Event::parse_canonical(canonical).map_err(|error| {
            Error::internal(format!(
                "event {number} of {} does not read: {error}",
                chain.as_str()
            ))
        })?;
    Ok(ChainedEvent {
        chain,
        number,
        event,
        hash: hex::encode(hash),
    })
}
