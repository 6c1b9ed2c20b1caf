//! Segments of the audit that left the store: what is known of each, and the deletion of their events
//! after that. Those of the chain of changes stand in `strongroom.db`, those of the other in `access.db`,
//! so that a file never lacks events that it does not account for.

use rusqlite::{Connection, OptionalExtension};

use super::event::ExportedCheckpoint;
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::audit::Chain;

/// Events of the chain of changes deleted by one transaction.
const EVENTS_AT_ONCE: u32 = 1_000;
/// Rows of the access log deleted by one transaction; each has up to 256 KiB.
const ROWS_AT_ONCE: u32 = 16;
/// As every connection sets it.
const PAGE: u64 = 4_096;
/// Events whose length is looked at, at each end of the chain of changes.
const SAMPLE: u32 = 500;

/// A segment of a chain that left.
#[derive(Clone)]
pub struct LeftSegment {
    pub first: u64,
    pub last: u64,
    pub first_time: Timestamp,
    pub last_time: Timestamp,
    /// Of this chain alone, at the segment's last event; its time is when the segment was made.
    pub checkpoint: ExportedCheckpoint,
    /// Its name in the data folder's `audit/`.
    pub file: String,
    /// Of the file.
    pub bytes: u64,
    pub sha256: [u8; 32],
}

fn number(it: u64) -> i64 {
    i64::try_from(it).unwrap_or(i64::MAX)
}

/// The last event that left; 0 if none did.
pub(super) fn left_to(db: &Connection) -> Result<u64> {
    let last: i64 = db
        .prepare_cached("SELECT coalesce(max(last), 0) FROM audit_segments")?
        .query_row((), |row| row.get(0))?;
    Ok(last.unsigned_abs())
}

pub(super) fn all(db: &Connection) -> Result<Vec<LeftSegment>> {
    let mut statement = db.prepare_cached("SELECT first, last, first_time, last_time, made, checkpoint, signature, file, bytes, sha256 FROM audit_segments ORDER BY first")?;
    let rows = statement.query_map((), |row| {
        Ok(LeftSegment {
            first: row.get::<_, i64>(0)?.unsigned_abs(),
            last: row.get::<_, i64>(1)?.unsigned_abs(),
            first_time: Timestamp(row.get(2)?),
            last_time: Timestamp(row.get(3)?),
            checkpoint: ExportedCheckpoint {
                number: 0,
                time: Timestamp(row.get(4)?),
                body: row.get(5)?,
                signature: row.get(6)?,
            },
            file: row.get(7)?,
            bytes: row.get::<_, i64>(8)?.unsigned_abs(),
            sha256: row.get(9)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn add(db: &Connection, segment: &LeftSegment) -> Result<()> {
    db.execute(
        "INSERT INTO audit_segments (first, last, first_time, last_time, made, checkpoint, signature, file, bytes, sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        (
            number(segment.first),
            number(segment.last),
            segment.first_time.0,
            segment.last_time.0,
            segment.checkpoint.time.0,
            &segment.checkpoint.body,
            &segment.checkpoint.signature,
            &segment.file,
            number(segment.bytes),
            segment.sha256,
        ),
    )?;
    Ok(())
}

/// Deletes some of the access log's rows up to this event; false if there was none.
pub(super) fn drop_rows(db: &Connection, to: u64) -> Result<bool> {
    let dropped = db.prepare_cached("DELETE FROM segments WHERE first IN (SELECT first FROM segments WHERE first <= ?1 AND last <= ?1 ORDER BY first LIMIT ?2)")?
        .execute((number(to), ROWS_AT_ONCE))?;
    Ok(dropped > 0)
}

/// What a file holds of pages that are in use.
pub(super) fn used_bytes(db: &Connection) -> Result<u64> {
    let pragma = |name: &str| {
        db.query_row(&format!("PRAGMA {name}"), (), |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
    };
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages * PAGE)
}

/// When something was that a query finds, or that there is nothing.
pub(super) fn first_time(db: &Connection, query: &str) -> Result<Option<Timestamp>> {
    let found = db.prepare_cached(query)?.query_row((), |row| row.get(0));
    Ok(found.optional()?.map(Timestamp))
}

impl Store {
    /// When the first event of a chain was that is still here.
    pub fn audit_begin(&self, chain: Chain) -> Result<Option<Timestamp>> {
        match chain {
            Chain::Changes => self
                .readers
                .point(|db| first_time(db, "SELECT time FROM events ORDER BY number LIMIT 1")),
            Chain::Access => self.access.begin(),
        }
    }

    /// The segments of a chain that left, oldest first.
    pub async fn segments(&self, chain: Chain) -> Result<Vec<LeftSegment>> {
        match chain {
            Chain::Changes => self.readers.scan(all).await,
            Chain::Access => self.access.segments(),
        }
    }

    /// Enters a segment whose file is on the disk: from now on its events are to be deleted.
    pub async fn put_segment(
        &self,
        change: Change,
        chain: Chain,
        segment: LeftSegment,
    ) -> Result<()> {
        match chain {
            Chain::Changes => {
                let bytes = segment.checkpoint.body.len();
                self.change(change, bytes, move |tx, _| add(tx.db, &segment))
                    .await
            }
            // Two files: its event first, since nothing may leave without one.
            Chain::Access => {
                self.note(change).await?;
                self.access.put_segment(segment).await
            }
        }
    }

    /// Deletes some of the events up to this one, which left; false if there was none.
    pub async fn drop_left(&self, chain: Chain, to: u64) -> Result<bool> {
        if chain == Chain::Access {
            return self.access.drop_left(to).await;
        }
        // An idle server writes nothing.
        let any = self.readers.point(|db| {
            Ok(db
                .prepare_cached("SELECT 1 FROM events WHERE number <= ?1 LIMIT 1")?
                .exists([number(to)])?)
        })?;
        if any {
            self.upkeep(Touches::Deposits, 64 << 10, move |tx| {
                tx.db.prepare_cached("DELETE FROM events WHERE number IN (SELECT number FROM events WHERE number <= ?1 ORDER BY number LIMIT ?2)")?
                    .execute((number(to), EVENTS_AT_ONCE))?;
                Ok(())
            })
            .await?;
        }
        Ok(any)
    }

    /// About how much disk a chain takes.
    pub async fn audit_bytes(&self, chain: Chain) -> Result<u64> {
        if chain == Chain::Access {
            return self.access.used_bytes();
        }
        self.readers
            .scan(|db| {
                let (first, last): (i64, i64) = db.query_row("SELECT coalesce((SELECT min(number) FROM events), 1), coalesce((SELECT max(number) FROM events), 0)", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
                let mean: f64 = db.query_row("SELECT coalesce(avg(n), 0.0) FROM (SELECT * FROM (SELECT length(body) + 2 * length(object) + 110 AS n FROM events ORDER BY number LIMIT ?1) UNION ALL SELECT * FROM (SELECT length(body) + 2 * length(object) + 110 FROM events ORDER BY number DESC LIMIT ?1))", [SAMPLE], |row| row.get(0))?;
                Ok(((last - first + 1) as f64 * mean) as u64)
            })
            .await
    }

    /// Forgets checkpoints that left with the segments they vouch for.
    pub async fn drop_checkpoints(&self, to: u64) -> Result<()> {
        self.upkeep(Touches::Deposits, 0, move |tx| {
            tx.db
                .execute("DELETE FROM checkpoints WHERE number <= ?1", [number(to)])?;
            Ok(())
        })
        .await
    }
}
