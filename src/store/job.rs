//! Jobs: claimed by a lease under a generation, so that none is lost with its worker and no late worker
//! writes over a newer one.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::list::{Rows, Start, walk};
use super::writer::Tx;
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Event;
use crate::model::filter::Filter;
use crate::model::id::{BootId, JobId, OrgId};
use crate::model::job::{Job, JobKind, JobLine, JobState, LONGEST_LINE, Lane, MOST_LINES, cut};

/// The longest wait before another attempt; a time beyond it is a clock's that was put back.
pub const LONGEST_WAIT: i64 = Timestamp::HOUR;
/// Rows that one command prunes.
const PRUNED_AT_ONCE: u32 = 200;

/// A job to be made.
#[derive(Clone)]
pub struct NewJob {
    pub id: JobId,
    pub kind: JobKind,
    pub target: String,
    pub org: Option<OrgId>,
    /// JSON, checked and capped by the service.
    pub parameters: String,
    pub schedule: Option<String>,
    pub parent: Option<JobId>,
    pub created: Timestamp,
    pub created_by: String,
}

/// A job with what rights on it depend on.
#[derive(Clone, Serialize, Deserialize)]
pub struct JobRow {
    pub job: Job,
    pub org: Option<OrgId>,
    /// How often its worker was lost since it last came on.
    pub lost: u32,
}

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

const COLUMNS: &str = "id, kind, lane, state, target, parameters, schedule, parent, created, created_by, not_before, started, ended, attempts, generation, cancelled, released, done, total, unit, outcome, org, lost";

fn read(row: &Row<'_>) -> Result<JobRow> {
    let word = |at: usize| -> Result<String> { Ok(row.get::<_, String>(at)?) };
    let odd = |what: &str| Error::internal(format!("a job of another {what}"));
    let kind = JobKind::find(&word(1)?).ok_or_else(|| odd("kind"))?;
    let (lane, state) = (word(2)?, word(3)?);
    let number = |at: usize| -> Result<u64> { Ok(row.get::<_, i64>(at)?.unsigned_abs()) };
    let time = |at: usize| -> Result<Option<Timestamp>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp))
    };
    let parameters = serde_json::from_str(&word(5)?);
    Ok(JobRow {
        job: Job {
            id: JobId(uuid::Uuid::from_bytes(row.get(0)?)),
            kind,
            lane: Lane::ALL
                .into_iter()
                .find(|it| it.as_str() == lane)
                .ok_or_else(|| odd("lane"))?,
            state: JobState::ALL
                .into_iter()
                .find(|it| it.as_str() == state)
                .ok_or_else(|| odd("state"))?,
            target: word(4)?,
            parameters: parameters.map_err(|error| Error::internal(error.to_string()))?,
            schedule: row.get(6)?,
            parent: row
                .get::<_, Option<[u8; 16]>>(7)?
                .map(|id| JobId(uuid::Uuid::from_bytes(id))),
            created: Timestamp(row.get(8)?),
            created_by: word(9)?,
            not_before: time(10)?.filter(|time| time.0 > 0),
            started: time(11)?,
            ended: time(12)?,
            attempts: row.get(13)?,
            generation: number(14)?,
            cancelling: row.get(15)?,
            released: row.get(16)?,
            done: number(17)?,
            total: number(18)?,
            unit: word(19)?,
            outcome: word(20)?,
        },
        org: row
            .get::<_, Option<[u8; 16]>>(21)?
            .map(|id| OrgId(uuid::Uuid::from_bytes(id))),
        lost: row.get(22)?,
    })
}

pub(super) fn find(db: &Connection, id: JobId) -> Result<Option<JobRow>> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(read).transpose()
}

fn there(db: &Connection, id: JobId) -> Result<JobRow> {
    find(db, id)?.ok_or_else(|| {
        Error::not_found(format!(
            "no job has the id {id}, or it ended long ago; `strongroom job list` shows those that are kept"
        ))
    })
}

/// Makes a job, as part of a command.
pub(super) fn insert(db: &Connection, new: &NewJob) -> Result<Job> {
    db.prepare_cached(
        "INSERT INTO jobs (id, kind, lane, target, org, parameters, schedule, parent, created, created_by, state, released, not_before, started, ended, attempts, lost, generation, lease_until, boot, cancelled, done, total, unit, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'queued', 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL, 0, 0, 0, '', '')",
    )?
    .execute((
        new.id.as_bytes(),
        new.kind.as_str(),
        new.kind.lane().as_str(),
        &new.target,
        new.org.map(|org| *org.as_bytes()),
        &new.parameters,
        &new.schedule,
        new.parent.map(|id| *id.as_bytes()),
        new.created.0,
        &new.created_by,
    ))?;
    Ok(there(db, new.id)?.job)
}

/// Adds a line to a job's log; the oldest of too many go.
pub(super) fn write_line(db: &Connection, id: JobId, now: Timestamp, text: &str) -> Result<()> {
    let text = cut(text, LONGEST_LINE);
    let number: i64 = db
        .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM job_logs WHERE job = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))?;
    db.prepare_cached("INSERT INTO job_logs (job, number, time, text) VALUES (?1, ?2, ?3, ?4)")?
        .execute((id.as_bytes(), number, now.0, text))?;
    let most = i64::try_from(MOST_LINES).unwrap_or(i64::MAX);
    db.prepare_cached("DELETE FROM job_logs WHERE job = ?1 AND number <= ?2")?
        .execute((id.as_bytes(), number - most))?;
    Ok(())
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

/// The lanes that are drained, on this node.
fn drained(db: &Connection) -> Result<Vec<String>> {
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
    pub fn job(&self, id: JobId) -> Result<JobRow> {
        self.readers.point(|db| there(db, id))
    }

    /// In the order they were made.
    pub async fn jobs(
        &self,
        org: Option<OrgId>,
        start: Start<[u8; 16]>,
        filter: Filter<Job>,
        limit: usize,
    ) -> Result<Rows<Job>> {
        self.readers
            .scan(move |db| {
                let (low, high) = start.bounds();
                let take = |row: &Row<'_>| Ok(read(row)?.job);
                let range = format!("id > ?1 AND id < ?2 ORDER BY id {}", start.order());
                match org {
                    Some(org) => {
                        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE org = ?3 AND {range}");
                        let mut statement = db.prepare_cached(&sql)?;
                        let params = (low, high, org.as_bytes());
                        walk(&start, &mut statement, params, limit, &filter, take)
                    }
                    None => {
                        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE {range}");
                        let mut statement = db.prepare_cached(&sql)?;
                        walk(&start, &mut statement, (low, high), limit, &filter, take)
                    }
                }
            })
            .await
    }

    /// A job's log behind a line's number.
    pub fn job_log(&self, id: JobId, after: u64) -> Result<Vec<JobLine>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(
                "SELECT number, time, text FROM job_logs WHERE job = ?1 AND number > ?2 ORDER BY number",
            )?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let rows = statement.query_map((id.as_bytes(), after), |row| {
                Ok(JobLine {
                    number: row.get::<_, i64>(0)?.unsigned_abs(),
                    time: Timestamp(row.get(1)?),
                    text: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// What a job made.
    pub fn job_children(&self, id: JobId) -> Result<Vec<JobId>> {
        self.readers.point(|db| {
            let mut statement =
                db.prepare_cached("SELECT id FROM jobs WHERE parent = ?1 ORDER BY id LIMIT 1000")?;
            let rows = statement.query_map([id.as_bytes()], |row| {
                Ok(JobId(uuid::Uuid::from_bytes(row.get(0)?)))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

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

    /// Whether a job waits for its time.
    pub fn jobs_wait(&self) -> Result<bool> {
        self.readers.point(|db| {
            let mut any =
                db.prepare_cached("SELECT 1 FROM jobs WHERE state = 'pending' LIMIT 1")?;
            Ok(any.exists(())?)
        })
    }

    /// Makes a job, as a request's change.
    pub async fn add_job(&self, change: Change, new: NewJob) -> Result<Job> {
        self.change_that(
            Touches::Jobs,
            change,
            512 + new.parameters.len(),
            move |tx, _| insert(tx.db, &new),
        )
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
                    (lane, claim.now.0, claim.now.plus(LONGEST_WAIT).0, claim.held),
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

    /// Drops some of the jobs that ended before `before`, and of those beyond the newest `most`; false if
    /// none is left to drop.
    pub async fn prune_jobs(&self, before: Timestamp, most: u32) -> Result<bool> {
        const OLD: &str = "SELECT id FROM (SELECT id, ended FROM jobs WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT -1 OFFSET ?1)
            UNION SELECT id FROM jobs WHERE ended IS NOT NULL AND ended < ?2 LIMIT ?3";
        let bounds = (most, before.0, PRUNED_AT_ONCE);
        let any = self
            .readers
            .scan(move |db| Ok(db.prepare_cached(OLD)?.exists(bounds)?))
            .await?;
        if !any {
            return Ok(false);
        }
        self.upkeep(Touches::Jobs, 64 << 10, move |tx| {
            let ids: Vec<[u8; 16]> = tx
                .db
                .prepare_cached(OLD)?
                .query_map(bounds, |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for id in &ids {
                for sql in [
                    "DELETE FROM job_logs WHERE job = ?1",
                    "DELETE FROM jobs WHERE id = ?1",
                ] {
                    tx.db.prepare_cached(sql)?.execute([id])?;
                }
            }
            Ok(!ids.is_empty())
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
