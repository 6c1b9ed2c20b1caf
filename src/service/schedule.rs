//! Schedules: they make jobs, and nothing else. Those that are built in may be edited and paused.

use std::sync::atomic::Ordering;

use super::access::{Action, Target};
use super::caller::Context;
use super::{ListQuery, Service, by_text, object, paged, position};
use crate::api::schedule::{AddSchedule, EditSchedule};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::model::audit::Object;
use crate::model::cron::{Cron, ZoneName};
use crate::model::filter::Filter;
use crate::model::id::JobId;
use crate::model::job::{Job, JobKind};
use crate::model::page::{Page, Part};
use crate::model::schedule::{BUILT_IN, Schedule, ScheduleName};
use crate::store::{NewJob, Rows, ScheduleEdit, ScheduleRow, Start};

const LIST: &str = "schedules";
/// The part of health that is about them.
const BOARD: &str = "schedules";
/// How many of its next times a schedule shows.
const SHOWN: usize = 5;

/// A schedule as the driver goes by it.
#[derive(Clone, Debug)]
pub struct Planned {
    pub name: ScheduleName,
    pub cron: Cron,
    pub zone: ZoneName,
    /// Times up to here made their job, or are none of its own.
    pub handled: Timestamp,
    /// When it was last changed.
    pub since: Timestamp,
}

fn of(name: &ScheduleName) -> Object {
    object("schedule", name, name)
}

fn shown(row: ScheduleRow, now: Timestamp) -> Schedule {
    let mut schedule = row.schedule;
    if !schedule.paused {
        schedule.next = schedule.cron.upcoming(&schedule.zone, now, SHOWN);
    }
    schedule
}

impl Service {
    pub async fn schedule_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Schedule>> {
        let all = object("schedule", "", "");
        let verb = "schedule.list";
        self.allow(ctx, Action::ScheduleRead, &Target::Server, verb, all)?;
        let now = clock::now();
        let (start, limit) = position(LIST, &query, by_text)?;
        let filter = Filter::<Schedule>::parse(&query.filters, now)?;
        let mut found: Vec<Schedule> = self
            .store
            .schedules()?
            .into_iter()
            .map(|row| shown(row, now))
            .filter(|it| match &start {
                Start::Beginning | Start::End => true,
                Start::After(key) => it.name.as_str() > key.as_str(),
                Start::Before(key) => it.name.as_str() < key.as_str(),
            })
            .filter(|it| filter.matches(it))
            .collect();
        let backwards = start.backwards();
        if backwards {
            found.reverse();
        }
        let beyond = found.len() > limit;
        found.truncate(limit);
        let more = found.last().filter(|_| beyond).cloned();
        if backwards {
            found.reverse();
        }
        let rows = Rows {
            items: found,
            backwards,
            more,
            complete: true,
        };
        let name = |it: &Schedule| vec![Part::Text(it.name.to_string())];
        Ok(paged(LIST, &query, rows, name))
    }

    pub async fn schedule_show(&self, ctx: &Context, name: &ScheduleName) -> Result<Schedule> {
        let verb = "schedule.show";
        self.allow(ctx, Action::ScheduleRead, &Target::Server, verb, of(name))?;
        Ok(shown(self.store.schedule(name)?, clock::now()))
    }

    pub async fn schedule_add(&self, ctx: &Context, request: AddSchedule) -> Result<Schedule> {
        const VERB: &str = "schedule.add";
        self.may_schedule(ctx, VERB, &request.name)?;
        JobKind::for_schedule(request.kind.as_str())?;
        let now = clock::now();
        let new = Schedule {
            zone: request.zone.map_or_else(ZoneName::utc, Ok)?,
            name: request.name,
            kind: request.kind,
            cron: request.cron,
            paused: false,
            built_in: false,
            created: now,
            since: now,
            next: Vec::new(),
            last_job: None,
            last_state: None,
            last_due: None,
        };
        let name = new.name.clone();
        let mut change = self.change(ctx, VERB, of(&name), now);
        change.event.detail = new.in_words();
        self.store.add_schedule(change, new).await?;
        self.schedules_changed(&name)
    }

    /// Times before the change are none of the new line's.
    pub async fn schedule_edit(
        &self,
        ctx: &Context,
        name: &ScheduleName,
        request: EditSchedule,
    ) -> Result<Schedule> {
        const VERB: &str = "schedule.edit";
        self.may_schedule(ctx, VERB, name)?;
        if request.cron.is_none() && request.zone.is_none() {
            return Err(Error::invalid(
                "cron",
                "there is nothing to change; give `cron`, `zone` or both",
            ));
        }
        let edit = ScheduleEdit {
            cron: request.cron,
            zone: request.zone,
            paused: None,
        };
        self.schedule_to(ctx, VERB, name, edit).await
    }

    /// Lets it rest, or go on; what it missed while it was paused is not made up for.
    pub async fn schedule_pause(
        &self,
        ctx: &Context,
        name: &ScheduleName,
        paused: bool,
    ) -> Result<Schedule> {
        let verb = match paused {
            true => "schedule.pause",
            false => "schedule.resume",
        };
        self.may_schedule(ctx, verb, name)?;
        let edit = ScheduleEdit {
            paused: Some(paused),
            ..ScheduleEdit::default()
        };
        self.schedule_to(ctx, verb, name, edit).await
    }

    pub async fn schedule_remove(&self, ctx: &Context, name: &ScheduleName) -> Result<()> {
        const VERB: &str = "schedule.rm";
        self.may_schedule(ctx, VERB, name)?;
        let row = match self.store.schedule(name) {
            Ok(row) => row,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        if row.schedule.built_in {
            return Err(Error::conflict(
                "built_in",
                format!(
                    "the schedule `{name}` is built in, and stays; `strongroom schedule pause {name}` lets it rest"
                ),
            ));
        }
        let change = self.change(ctx, VERB, of(name), clock::now());
        self.store.remove_schedule(change, name.clone()).await?;
        self.schedules_version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Makes its job now, whatever the time.
    pub async fn schedule_run(&self, ctx: &Context, name: &ScheduleName) -> Result<Job> {
        const VERB: &str = "schedule.run";
        self.may_schedule(ctx, VERB, name)?;
        let row = self.store.schedule(name)?;
        let new = self.job_of(ctx, &row)?;
        let mut change = self.change(ctx, VERB, of(name), clock::now());
        change.event.detail = format!("job {}", new.id);
        let job = self.store.add_job(change, new).await?;
        self.jobs_asked.notify_one();
        Ok(job)
    }

    fn may_schedule(&self, ctx: &Context, verb: &str, name: &ScheduleName) -> Result<()> {
        self.allow(ctx, Action::ScheduleChange, &Target::Server, verb, of(name))
    }

    async fn schedule_to(
        &self,
        ctx: &Context,
        verb: &str,
        name: &ScheduleName,
        edit: ScheduleEdit,
    ) -> Result<Schedule> {
        let change = self.change(ctx, verb, of(name), clock::now());
        let store = &self.store;
        store.edit_schedule(change, name.clone(), edit).await?;
        self.schedules_changed(name)
    }

    fn schedules_changed(&self, name: &ScheduleName) -> Result<Schedule> {
        self.schedules_version.fetch_add(1, Ordering::Release);
        Ok(shown(self.store.schedule(name)?, clock::now()))
    }

    fn job_of(&self, ctx: &Context, row: &ScheduleRow) -> Result<NewJob> {
        let parameters = serde_json::from_str(&row.parameters)
            .map_err(|error| Error::internal(error.to_string()))?;
        let kind = row.schedule.kind;
        Ok(NewJob {
            schedule: Some(row.schedule.name.to_string()),
            ..self.new_job(ctx, kind, None, &parameters)?
        })
    }

    /// Grows whenever `planned` may be another.
    pub fn schedules_version(&self) -> u64 {
        self.schedules_version.load(Ordering::Acquire)
    }

    /// Adds the schedules that are built in and not there yet.
    pub async fn seed_schedules(&self) -> Result<()> {
        let now = clock::now();
        let mut all = Vec::new();
        for it in BUILT_IN {
            all.push(Schedule {
                name: it.name.parse()?,
                kind: it.kind,
                cron: it.cron.parse()?,
                zone: ZoneName::utc()?,
                paused: false,
                built_in: true,
                created: now,
                since: now,
                next: Vec::new(),
                last_job: None,
                last_state: None,
                last_due: None,
            });
        }
        self.store.seed_schedules(all).await
    }

    /// The schedules that are not paused.
    pub fn planned(&self) -> Result<Vec<Planned>> {
        let rows = self.store.schedules()?.into_iter();
        let live = rows.map(|row| row.schedule).filter(|it| !it.paused);
        Ok(live
            .map(|it| Planned {
                handled: it.last_due.map_or(it.since, |due| due.max(it.since)),
                since: it.since,
                name: it.name,
                cron: it.cron,
                zone: it.zone,
            })
            .collect())
    }

    /// Makes a schedule's job for a time; none where it has made it before, or has one that is not over.
    pub async fn make_due(&self, name: &ScheduleName, due: Timestamp) -> Result<Option<JobId>> {
        let row = match self.store.schedule(name) {
            Err(error) if error.kind == Kind::NotFound => return Ok(None),
            row => row?,
        };
        let mut new = self.job_of(&Self::own_context(), &row)?;
        new.created_by = format!("schedule {name}");
        let made = self.store.make_due_job(due, new).await?;
        if made.is_some() {
            self.jobs_asked.notify_one();
        }
        Ok(made.map(|job| job.id))
    }

    /// Says on the board what jobs left behind.
    pub fn report_jobs(&self) -> Result<()> {
        self.report_rotations(&self.store.rotations(None)?);
        self.report_schedules()
    }

    /// Says on the board which of the schedules that are built in failed, until it succeeds.
    fn report_schedules(&self) -> Result<()> {
        for it in BUILT_IN {
            if let Some((id, outcome)) = self.store.failed_of_schedule(it.name)? {
                let what = format!("the schedule {} failed: {outcome}", it.name);
                let next = format!(
                    "`strongroom job show {id}`; `strongroom schedule run {}` tries it again",
                    it.name
                );
                match it.kind {
                    JobKind::StoreCheck => self.board.red(BOARD, &what, &next),
                    _ => self.board.amber(BOARD, &what, &next),
                }
                return Ok(());
            }
        }
        self.board.green(BOARD);
        Ok(())
    }
}
