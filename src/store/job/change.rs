//! What operators do to jobs and lanes.

use rusqlite::{Connection, OptionalExtension};

use super::{COLUMNS, JobRow, read, there, write_line};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::JobId;
use crate::model::job::{Job, JobState, Lane};
use crate::store::writer::Tx;
use crate::store::{Change, Store, Touches};

/// The lanes that are drained, on this node.
pub(super) fn drained(db: &Connection) -> Result<Vec<String>> {
    let words: Option<String> = db
        .prepare_cached("SELECT value FROM meta WHERE name = 'drained'")?
        .query_row((), |row| row.get(0))
        .optional()?;
    let words = words.unwrap_or_default();
    Ok(words.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Ends a job that nobody runs, or asks its worker to.
fn cancel(tx: &Tx<'_>, row: &JobRow, by: &str, now: Timestamp) -> Result<()> {
    let id = row.job.id;
    if row.job.state == JobState::Running {
        tx.db
            .prepare_cached("UPDATE jobs SET cancelled = 1 WHERE id = ?1")?
            .execute([id.as_bytes()])?;
        return write_line(
            tx.db,
            id,
            now,
            &format!("{by} cancels it; it ends before its next step"),
        );
    }
    let outcome = match row.job.started {
        None => "cancelled before it began; nothing was done".to_owned(),
        Some(_) => format!(
            "cancelled between two attempts; done: {} of {} {}",
            row.job.done, row.job.total, row.job.unit
        ),
    };
    tx.db
        .prepare_cached("UPDATE jobs SET state = 'cancelled', cancelled = 1, ended = ?2, outcome = ?3, not_before = 0, generation = generation + 1 WHERE id = ?1")?
        .execute((id.as_bytes(), now.0, &outcome))?;
    write_line(tx.db, id, now, &format!("{by} cancelled it"))
}

/// The jobs that these made and that are not over, all the way down.
fn open_children(db: &Connection, of: JobId) -> Result<Vec<JobRow>> {
    let mut found: Vec<JobRow> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let mut statement = db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE parent = ?1 AND state IN ('pending', 'queued', 'held', 'running')"
        ))?;
        let mut rows = statement.query([parent.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let row = read(row)?;
            parents.push(row.job.id);
            found.push(row);
        }
    }
    Ok(found)
}

impl Store {
    pub fn is_drained(&self, lane: Lane) -> Result<bool> {
        self.readers
            .point(|db| Ok(drained(db)?.contains(&lane.as_str().to_owned())))
    }

    /// Drains these lanes beside those that are; none: all are open again.
    pub async fn set_drained(&self, change: Change, lanes: &'static [Lane]) -> Result<()> {
        self.change_that(Touches::Jobs, change, 64, move |tx, event| {
            let mut words = drained(tx.db)?;
            match lanes {
                [] => words.clear(),
                some => words.extend(some.iter().map(|lane| lane.as_str().to_owned())),
            }
            words.sort_unstable();
            words.dedup();
            event.detail = words.join(" ");
            tx.db.execute("INSERT INTO meta (name, value) VALUES ('drained', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value", [&event.detail])?;
            Ok(())
        })
        .await
    }

    /// Puts a lane's waiting jobs into the state that fits it; returns how many.
    pub async fn hold_jobs(&self, lane: Lane, hold: bool) -> Result<usize> {
        self.upkeep(Touches::Jobs, 256, move |tx| {
            let sql = match hold {
                true => "UPDATE jobs SET state = 'held' WHERE state IN ('queued', 'pending') AND lane = ?1 AND released = 0",
                false => "UPDATE jobs SET state = 'queued' WHERE state = 'held' AND lane = ?1",
            };
            Ok(tx.db.execute(sql, [lane.as_str()])?)
        })
        .await
    }

    /// # Errors
    /// `NotFound`; `wrong_state` where it is over.
    pub async fn cancel_job(&self, change: Change, id: JobId, by: String) -> Result<Job> {
        let now = change.event.time;
        self.change_that(Touches::Jobs, change, 512, move |tx, event| {
            let row = there(tx.db, id)?;
            if row.job.state.is_over() {
                return Err(wrong_state(
                    &row.job,
                    "only one that is not over can be cancelled",
                ));
            }
            let children = open_children(tx.db, id)?;
            cancel(tx, &row, &by, now)?;
            for child in &children {
                cancel(tx, child, &by, now)?;
            }
            event.detail = format!("was {}", row.job.state.as_str());
            Ok(there(tx.db, id)?.job)
        })
        .await
    }

    /// Cancels what waits and fits the filter; what runs is left alone. Returns how many.
    pub async fn cancel_jobs(
        &self,
        change: Change,
        filter: Filter<Job>,
        by: String,
    ) -> Result<u64> {
        let now = change.event.time;
        self.change_that(Touches::Jobs, change, 512, move |tx, event| {
            let mut found = Vec::new();
            for state in ["pending", "queued", "held"] {
                let mut statement = tx
                    .db
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE state = ?1"))?;
                let mut rows = statement.query([state])?;
                while let Some(row) = rows.next()? {
                    found.push(read(row)?);
                }
            }
            found.retain(|row| filter.matches(&row.job));
            for row in &found {
                cancel(tx, row, &by, now)?;
            }
            event.detail = format!("{} jobs", found.len());
            Ok(found.len() as u64)
        })
        .await
    }

    /// Puts a job that failed or was cancelled back into the queue.
    ///
    /// # Errors
    /// `NotFound`, `wrong_state`.
    pub async fn retry_job(&self, change: Change, id: JobId, by: String) -> Result<Job> {
        let now = change.event.time;
        self.change_that(Touches::Jobs, change, 512, move |tx, event| {
            let row = there(tx.db, id)?;
            if !matches!(row.job.state, JobState::Failed | JobState::Cancelled) {
                return Err(wrong_state(&row.job, "only one that failed or was cancelled is tried again"));
            }
            tx.db.execute(
                "UPDATE jobs SET state = 'queued', attempts = 0, lost = 0, cancelled = 0, released = 0, not_before = 0, ended = NULL, outcome = '', generation = generation + 1 WHERE id = ?1",
                [id.as_bytes()],
            )?;
            write_line(tx.db, id, now, &format!("{by} tries it again"))?;
            event.detail = format!("was {}", row.job.state.as_str());
            Ok(there(tx.db, id)?.job)
        })
        .await
    }

    /// Lets a held job run although its lane is held.
    ///
    /// # Errors
    /// `NotFound`, `wrong_state`.
    pub async fn release_job(&self, change: Change, id: JobId, by: String) -> Result<Job> {
        let now = change.event.time;
        self.change_that(Touches::Jobs, change, 512, move |tx, _| {
            let row = there(tx.db, id)?;
            if row.job.state != JobState::Held {
                return Err(wrong_state(
                    &row.job,
                    "only one that is held can be released",
                ));
            }
            tx.db.execute(
                "UPDATE jobs SET state = 'queued', released = 1 WHERE id = ?1",
                [id.as_bytes()],
            )?;
            write_line(
                tx.db,
                id,
                now,
                &format!("{by} releases it: it runs although its lane is held"),
            )?;
            Ok(there(tx.db, id)?.job)
        })
        .await
    }
}

fn wrong_state(job: &Job, why: &str) -> Error {
    Error::conflict(
        "wrong_state",
        format!("the job {} is {}; {why}", job.id, job.state.as_str()),
    )
}
