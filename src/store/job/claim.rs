//! The worker's side: a job is held by one at a time, under a generation; what an earlier holder reports
//! is refused.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use super::change::drained;
use super::{JobRow, NewJob, find, insert, there, write_line};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Event;
use crate::model::id::{BootId, JobId};
use crate::model::job::{Job, JobState, Lane};
use crate::store::{Store, Touches};

/// The longest wait before another attempt; a time beyond it is a clock's that was put back.
pub const LONGEST_WAIT: i64 = Timestamp::HOUR;
/// Who holds a job: what he reports counts as long as nobody else took it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: JobId,
    pub generation: u64,
}

/// What a worker asks for.
#[derive(Clone, Copy)]
pub struct Claim {
    pub lane: Lane,
    pub boot: BootId,
    /// So many of the lane run at once.
    pub most: usize,
    /// The lane is held: only what was released by name runs.
    pub held: bool,
    pub now: Timestamp,
    pub lease_until: Timestamp,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    pub done: u64,
    pub total: u64,
    pub unit: String,
}

/// How an attempt ended.
pub struct Ended {
    pub state: JobState,
    pub outcome: String,
    /// When the next attempt may begin.
    pub not_before: Option<Timestamp>,
    pub now: Timestamp,
}

/// What there is in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    pub pending: u64,
    pub queued: u64,
    /// Of those queued, to run although the lane is held.
    pub released: u64,
    pub held: u64,
    pub running: u64,
    /// The earliest time of those pending.
    pub next: Option<Timestamp>,
}

/// # Errors
/// `fenced` where somebody else holds it by now, or nobody any more.
fn still_holds(db: &Connection, held: Held) -> Result<JobRow> {
    let fenced = || {
        Error::new(
            Kind::Conflict,
            "fenced",
            format!(
                "the job {} was taken up by another worker, or is over; generation {} does not hold it",
                held.id, held.generation
            ),
        )
    };
    let row = find(db, held.id)?.ok_or_else(fenced)?;
    let holds = row.job.state == JobState::Running && row.job.generation == held.generation;
    holds.then_some(row).ok_or_else(fenced)
}

impl Store {
    /// What waits and runs in a lane.
    pub fn lane_counts(&self, lane: Lane) -> Result<LaneCounts> {
        self.readers.point(|db| {
            let mut counts = LaneCounts::default();
            for state in JobState::ALL.into_iter().filter(|state| !state.is_over()) {
                let mut statement = db.prepare_cached(
                    "SELECT count(*), coalesce(sum(released), 0), min(not_before) FROM jobs WHERE state = ?1 AND lane = ?2",
                )?;
                let (count, released, next): (i64, i64, Option<i64>) = statement
                    .query_row((state.as_str(), lane.as_str()), |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?;
                let count = count.unsigned_abs();
                match state {
                    JobState::Pending => {
                        counts.pending = count;
                        counts.next = next.map(Timestamp);
                    }
                    JobState::Queued => {
                        counts.queued = count;
                        counts.released = released.unsigned_abs();
                    }
                    JobState::Held => counts.held = count,
                    JobState::Running => counts.running = count,
                    JobState::Succeeded | JobState::Failed | JobState::Cancelled => {}
                }
            }
            Ok(counts)
        })
    }

    /// Whether a job waits for its time.
    pub fn jobs_wait(&self) -> Result<bool> {
        self.readers.point(|db| {
            let mut any =
                db.prepare_cached("SELECT 1 FROM jobs WHERE state = 'pending' LIMIT 1")?;
            Ok(any.exists(())?)
        })
    }

    /// Makes a job of another one's own.
    ///
    /// # Errors
    /// `fenced`.
    pub async fn add_child_job(&self, parent: Held, new: NewJob) -> Result<Job> {
        self.upkeep(Touches::Jobs, 512 + new.parameters.len(), move |tx| {
            still_holds(tx.db, parent)?;
            insert(tx.db, &new)
        })
        .await
    }

    /// Takes back what a worker held that is no more: one of another process, or one whose lease ended
    /// and that is none of `alive`. Returns how many.
    pub async fn take_back_jobs(
        &self,
        boot: BootId,
        alive: HashSet<JobId>,
        now: Timestamp,
    ) -> Result<usize> {
        let lost = move |db: &Connection| -> Result<Vec<JobId>> {
            let mut statement = db.prepare_cached(
                "SELECT id FROM jobs WHERE state = 'running' AND lane IN ('management', 'upkeep') AND (boot <> ?1 OR lease_until < ?2)",
            )?;
            let rows = statement.query_map((boot.as_bytes(), now.0), |row| {
                Ok(JobId(uuid::Uuid::from_bytes(row.get(0)?)))
            })?;
            let found: Vec<JobId> = rows.collect::<Result<_, _>>()?;
            Ok(found.into_iter().filter(|id| !alive.contains(id)).collect())
        };
        // An idle server writes nothing.
        if self.readers.point(&lost)?.is_empty() {
            return Ok(0);
        }
        self.upkeep(Touches::Jobs, 512, move |tx| {
            let found = lost(tx.db)?;
            for id in &found {
                // The attempt that was cut off goes on as the same.
                tx.db
                    .prepare_cached("UPDATE jobs SET state = 'queued', boot = NULL, lease_until = NULL, lost = lost + 1, attempts = max(attempts - 1, 0), generation = generation + 1 WHERE id = ?1")?
                    .execute([id.as_bytes()])?;
                write_line(tx.db, *id, now, "its worker ended in the middle of it; it is taken up again")?;
            }
            Ok(found.len())
        })
        .await
    }

    /// The oldest job of a lane that may run, for this worker alone from now on.
    pub async fn claim_job(&self, claim: Claim) -> Result<Option<JobRow>> {
        self.upkeep(Touches::Jobs, 512, move |tx| {
            let lane = claim.lane.as_str();
            // It may have been drained since the worker asked.
            let held = claim.held || drained(tx.db)?.iter().any(|word| word == lane);
            let running: i64 = tx
                .db
                .prepare_cached("SELECT count(*) FROM jobs WHERE state = 'running' AND lane = ?1")?
                .query_row([lane], |row| row.get(0))?;
            if !held && usize::try_from(running).is_ok_and(|running| running >= claim.most) {
                return Ok(None);
            }
            let id: Option<[u8; 16]> = tx
                .db
                .prepare_cached(
                    "SELECT id FROM jobs WHERE state IN ('queued', 'pending') AND lane = ?1 AND (not_before <= ?2 OR not_before > ?3) AND (released = 1 OR ?4 = 0) ORDER BY id LIMIT 1",
                )?
                .query_row(
                    (lane, claim.now.0, claim.now.plus(LONGEST_WAIT).0, held),
                    |row| row.get(0),
                )
                .optional()?;
            let Some(id) = id else {
                return Ok(None);
            };
            tx.db
                .prepare_cached("UPDATE jobs SET state = 'running', boot = ?2, lease_until = ?3, generation = generation + 1, attempts = attempts + 1, not_before = 0, started = coalesce(started, ?4) WHERE id = ?1")?
                .execute((id, claim.boot.as_bytes(), claim.lease_until.0, claim.now.0))?;
            let row = there(tx.db, JobId(uuid::Uuid::from_bytes(id)))?;
            let line = format!("attempt {} begins, generation {}", row.job.attempts, row.job.generation);
            write_line(tx.db, row.job.id, claim.now, &line)?;
            Ok(Some(row))
        })
        .await
    }

    /// Holds on to a job; says whether it is to end before its next step.
    ///
    /// # Errors
    /// `fenced`.
    pub async fn renew_job(&self, held: Held, lease_until: Timestamp) -> Result<bool> {
        self.upkeep(Touches::Jobs, 64, move |tx| {
            let row = still_holds(tx.db, held)?;
            tx.db
                .prepare_cached("UPDATE jobs SET lease_until = ?2 WHERE id = ?1")?
                .execute((held.id.as_bytes(), lease_until.0))?;
            Ok(row.job.cancelling)
        })
        .await
    }

    /// Whether a job is to end before its next step.
    ///
    /// # Errors
    /// `fenced`.
    pub fn job_is_cancelled(&self, held: Held) -> Result<bool> {
        self.readers
            .point(|db| Ok(still_holds(db, held)?.job.cancelling))
    }

    /// Says how far a job is, and adds lines to its log.
    ///
    /// # Errors
    /// `fenced`.
    pub async fn report_job(
        &self,
        held: Held,
        reached: Option<Reached>,
        lines: Vec<String>,
        now: Timestamp,
    ) -> Result<()> {
        self.upkeep(Touches::Jobs, 256, move |tx| {
            still_holds(tx.db, held)?;
            if let Some(reached) = &reached {
                let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
                tx.db
                    .prepare_cached("UPDATE jobs SET lost = CASE WHEN done < ?2 THEN 0 ELSE lost END, done = ?2, total = ?3, unit = ?4 WHERE id = ?1")?
                    .execute((held.id.as_bytes(), number(reached.done), number(reached.total), &reached.unit))?;
            }
            for line in &lines {
                write_line(tx.db, held.id, now, line)?;
            }
            Ok(())
        })
        .await
    }

    /// An attempt's end. A failure for good is an event.
    ///
    /// # Errors
    /// `fenced`.
    pub async fn end_job(&self, held: Held, end: Ended, event: Option<Event>) -> Result<()> {
        self.writer
            .change(Touches::Jobs, event, None, 512, move |tx, event| {
                still_holds(tx.db, held)?;
                let over = end.state.is_over().then_some(end.now.0);
                tx.db
                    .prepare_cached("UPDATE jobs SET state = ?2, outcome = ?3, ended = ?4, not_before = ?5, boot = NULL, lease_until = NULL WHERE id = ?1")?
                    .execute((
                        held.id.as_bytes(),
                        end.state.as_str(),
                        &end.outcome,
                        over,
                        end.not_before.map_or(0, |time| time.0),
                    ))?;
                let said = match (end.state, end.not_before) {
                    (JobState::Pending, Some(time)) => {
                        format!("went wrong: {}; the next attempt begins at {time}", end.outcome)
                    }
                    (state, _) => match end.outcome.as_str() {
                        "" => state.as_str().to_owned(),
                        outcome => format!("{}: {outcome}", state.as_str()),
                    },
                };
                if let Some(event) = event {
                    event.detail = end.outcome;
                }
                write_line(tx.db, held.id, end.now, &said)
            })
            .await
    }

    /// Gives a job back that the server's end cuts off.
    pub async fn give_back_job(&self, held: Held, now: Timestamp) -> Result<()> {
        self.upkeep(Touches::Jobs, 256, move |tx| {
            still_holds(tx.db, held)?;
            tx.db
                .prepare_cached("UPDATE jobs SET state = 'queued', boot = NULL, lease_until = NULL, attempts = max(attempts - 1, 0) WHERE id = ?1")?
                .execute([held.id.as_bytes()])?;
            write_line(tx.db, held.id, now, "the server stops; it goes on at the next start")
        })
        .await
    }
}
