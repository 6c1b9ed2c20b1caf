//! Schedules, and the times at which they made a job.

use rusqlite::{Connection, OptionalExtension, Row};

use super::job::{self, NewJob, write_line};
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::cron::{Cron, ZoneName};
use crate::model::id::JobId;
use crate::model::job::{Job, JobKind, JobState};
use crate::model::schedule::{MOST, Schedule, ScheduleName, is_built_in};

/// Times that are kept of each schedule. A clock that is put back further than these reach may make a
/// job for one of them again.
const RUNS_KEPT: u32 = 5_000;

/// A schedule with what its jobs are made with.
#[derive(Clone)]
pub struct ScheduleRow {
    /// Without its next times: those are the service's to work out.
    pub schedule: Schedule,
    /// JSON.
    pub parameters: String,
}

/// What of a schedule is to be another.
#[derive(Default)]
pub struct ScheduleEdit {
    pub cron: Option<Cron>,
    pub zone: Option<ZoneName>,
    pub paused: Option<bool>,
}

const SELECT: &str = "SELECT s.name, s.kind, s.cron, s.zone, s.paused, s.created, s.since, r.due, r.job, j.state, s.parameters FROM schedules s
    LEFT JOIN schedule_runs r ON r.schedule = s.name AND r.due = (SELECT max(due) FROM schedule_runs WHERE schedule = s.name)
    LEFT JOIN jobs j ON j.id = r.job";

fn read(row: &Row<'_>) -> Result<ScheduleRow> {
    let name: ScheduleName = row.get::<_, String>(0)?.parse()?;
    let kind: String = row.get(1)?;
    let state: Option<String> = row.get(9)?;
    let id = |id| JobId(uuid::Uuid::from_bytes(id));
    Ok(ScheduleRow {
        schedule: Schedule {
            built_in: is_built_in(name.as_str()),
            name,
            kind: JobKind::find(&kind)
                .ok_or_else(|| Error::internal("a schedule of another kind"))?,
            cron: row.get::<_, String>(2)?.parse()?,
            zone: row.get::<_, String>(3)?.parse()?,
            paused: row.get(4)?,
            created: Timestamp(row.get(5)?),
            since: Timestamp(row.get(6)?),
            next: Vec::new(),
            last_due: row.get::<_, Option<i64>>(7)?.map(Timestamp),
            last_job: row.get::<_, Option<[u8; 16]>>(8)?.map(id),
            last_state: JobState::ALL
                .into_iter()
                .find(|it| Some(it.as_str()) == state.as_deref()),
        },
        parameters: row.get(10)?,
    })
}

fn there(db: &Connection, name: &ScheduleName) -> Result<ScheduleRow> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE s.name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    rows.next()?.map(read).transpose()?.ok_or_else(|| {
        Error::not_found(format!(
            "no schedule is named `{name}`; `strongroom schedule list` shows them"
        ))
    })
}

fn insert(db: &Connection, new: &Schedule) -> Result<usize> {
    Ok(db.execute(
        "INSERT OR IGNORE INTO schedules (name, kind, cron, zone, parameters, paused, created, since) VALUES (?1, ?2, ?3, ?4, '{}', ?5, ?6, ?7)",
        (
            new.name.as_str(),
            new.kind.as_str(),
            new.cron.as_str(),
            new.zone.as_str(),
            new.paused,
            new.created.0,
            new.since.0,
        ),
    )?)
}

impl Store {
    /// All of them, by name.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} ORDER BY s.name"))?;
            let mut rows = statement.query(())?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        })
    }

    pub fn schedule(&self, name: &ScheduleName) -> Result<ScheduleRow> {
        self.readers.point(|db| there(db, name))
    }

    /// Adds those that are not there yet.
    pub async fn seed_schedules(&self, built_in: Vec<Schedule>) -> Result<()> {
        let known = self.schedules()?;
        let missing: Vec<Schedule> = built_in
            .into_iter()
            .filter(|it| known.iter().all(|row| row.schedule.name != it.name))
            .collect();
        // An idle server writes nothing.
        if missing.is_empty() {
            return Ok(());
        }
        self.upkeep(Touches::Jobs, 512, move |tx| {
            for it in &missing {
                insert(tx.db, it)?;
            }
            Ok(())
        })
        .await
    }

    /// # Errors
    /// `name_taken`, `too_many_schedules`.
    pub async fn add_schedule(&self, change: Change, new: Schedule) -> Result<()> {
        self.change_that(Touches::Jobs, change, 512, move |tx, _| {
            let count: i64 = tx
                .db
                .query_row("SELECT count(*) FROM schedules", (), |row| row.get(0))?;
            if usize::try_from(count).is_ok_and(|count| count >= MOST) {
                return Err(Error::conflict(
                    "too_many_schedules",
                    format!(
                        "there are {MOST} schedules, as many as there may be; remove one first"
                    ),
                ));
            }
            match insert(tx.db, &new)? {
                0 => Err(Error::conflict(
                    "name_taken",
                    format!(
                        "a schedule is named `{}` already; `strongroom schedule edit` changes it",
                        new.name
                    ),
                )),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Changes when it comes, and whether. Times before that are none of its own any more.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn edit_schedule(
        &self,
        change: Change,
        name: ScheduleName,
        edit: ScheduleEdit,
    ) -> Result<()> {
        let now = change.event.time;
        self.change_that(Touches::Jobs, change, 512, move |tx, event| {
            let mut to = there(tx.db, &name)?.schedule;
            to.cron = edit.cron.unwrap_or(to.cron);
            to.zone = edit.zone.unwrap_or(to.zone);
            to.paused = edit.paused.unwrap_or(to.paused);
            event.detail = to.in_words();
            tx.db.execute(
                "UPDATE schedules SET cron = ?2, zone = ?3, paused = ?4, since = ?5 WHERE name = ?1",
                (
                    to.name.as_str(),
                    to.cron.as_str(),
                    to.zone.as_str(),
                    to.paused,
                    now.0,
                ),
            )?;
            Ok(())
        })
        .await
    }

    /// Its jobs stay.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_schedule(&self, change: Change, name: ScheduleName) -> Result<()> {
        self.change_that(Touches::Jobs, change, 512, move |tx, _| {
            there(tx.db, &name)?;
            for sql in [
                "DELETE FROM schedules WHERE name = ?1",
                "DELETE FROM schedule_runs WHERE schedule = ?1",
            ] {
                tx.db.execute(sql, [name.as_str()])?;
            }
            Ok(())
        })
        .await
    }

    /// Makes the job that was due at a time, once. None: it was made before, or the job of an earlier
    /// time is not over yet, and does for this one, too.
    pub async fn make_due_job(&self, due: Timestamp, new: NewJob) -> Result<Option<Job>> {
        let name = new
            .schedule
            .clone()
            .ok_or_else(|| Error::internal("a job that is due without a schedule"))?;
        self.upkeep(Touches::Jobs, 512, move |tx| {
            // It may have been removed or paused meanwhile.
            let live = tx
                .db
                .prepare_cached("SELECT 1 FROM schedules WHERE name = ?1 AND paused = 0")?
                .exists([&name])?;
            let made = tx
                .db
                .prepare_cached("SELECT 1 FROM schedule_runs WHERE schedule = ?1 AND due = ?2")?
                .exists((&name, due.0))?;
            if made || !live {
                return Ok(None);
            }
            let open: Option<[u8; 16]> = tx
                .db
                .prepare_cached("SELECT id FROM jobs WHERE schedule = ?1 AND state IN ('pending', 'queued', 'held', 'running') ORDER BY id DESC LIMIT 1")?
                .query_row([&name], |row| row.get(0))
                .optional()?;
            let open = open.map(|id| JobId(uuid::Uuid::from_bytes(id)));
            tx.db
                .prepare_cached("INSERT INTO schedule_runs (schedule, due, job) VALUES (?1, ?2, ?3)")?
                .execute((&name, due.0, open.unwrap_or(new.id).as_bytes()))?;
            tx.db
                .prepare_cached("DELETE FROM schedule_runs WHERE schedule = ?1 AND due <= (SELECT due FROM schedule_runs WHERE schedule = ?1 ORDER BY due DESC LIMIT 1 OFFSET ?2)")?
                .execute((&name, RUNS_KEPT))?;
            if let Some(open) = open {
                write_line(tx.db, open, new.created, &format!("due again at {due}, while it is not over; it does for both"))?;
                return Ok(None);
            }
            let made = job::insert(tx.db, &new)?;
            write_line(tx.db, new.id, new.created, &format!("due at {due}"))?;
            Ok(Some(made))
        })
        .await
    }

    /// The newest job of a schedule that came to an end by itself, where it failed.
    pub fn failed_of_schedule(&self, name: &str) -> Result<Option<(JobId, String)>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, outcome, state FROM jobs WHERE schedule = ?1 AND state IN ('succeeded', 'failed') ORDER BY id DESC LIMIT 1",
            )?;
            let newest = statement
                .query_row([name], |row| {
                    let id = JobId(uuid::Uuid::from_bytes(row.get(0)?));
                    Ok((id, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
                })
                .optional()?;
            Ok(newest
                .filter(|(_, _, state)| state == JobState::Failed.as_str())
                .map(|(id, outcome, _)| (id, outcome)))
        })
    }
}
