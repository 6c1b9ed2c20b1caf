//! Jobs: list, show, follow, cancel, try again, release; and whether the lanes are held.

mod run;
mod watch;

pub use run::{JobRun, Stop};

use std::sync::Arc;

use tokio::sync::Notify;

use super::access::{self, Action, Target};
use super::caller::Context;
use super::{ListQuery, Service, by_id, object, paged, position};
use crate::api::job::{CancelJobs, JobShown, JobsCancelled, LaneShown, Lanes, SetDrain};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::model::audit::Object;
use crate::model::filter::Filter;
use crate::model::id::{JobId, OrgId};
use crate::model::job::{Job, JobKind, Lane, MOST_PARAMETERS, cut};
use crate::model::org::OrgName;
use crate::model::page::{Page, Part};
use crate::store::{JobRow, NewJob};

const LIST: &str = "jobs";
/// Jobs of the lane of upkeep that run at once.
const MOST_UPKEEP: usize = 4;
/// The part of health that is about lanes.
const BOARD: &str = "jobs";
/// A job that is over is kept so long, and the newest of so many.
const KEPT: i64 = 90 * Timestamp::DAY;
const MOST_KEPT: u32 = 10_000;
/// An outcome, in bytes.
const LONGEST_OUTCOME: usize = 500;

/// How a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    drained: bool,
    most: usize,
    held: bool,
}

fn short(text: &str) -> String {
    cut(text, LONGEST_OUTCOME).to_owned()
}

fn of_job(job: &Job) -> Object {
    let name = match job.target.as_str() {
        "" => job.kind.as_str().to_owned(),
        target => format!("{} {target}", job.kind.as_str()),
    };
    object("job", job.id, name)
}

/// Who did it, as a job says it.
pub(super) fn by(ctx: &Context) -> String {
    let actor = ctx.actor();
    match actor.name.as_str() {
        "" => actor.kind,
        name => format!("{} {name}", actor.kind),
    }
}

impl Service {
    /// Told when there may be a job to begin.
    pub fn jobs_asked(&self) -> Arc<Notify> {
        Arc::clone(&self.jobs_asked)
    }

    /// A job to be made with a request's change. `parameters` are JSON, and hold no secret.
    ///
    /// # Errors
    /// Parameters that are too long.
    pub(super) fn new_job(
        &self,
        ctx: &Context,
        kind: JobKind,
        of: Option<(OrgId, &OrgName)>,
        parameters: &serde_json::Value,
    ) -> Result<NewJob> {
        let parameters = parameters.to_string();
        if parameters.len() > MOST_PARAMETERS {
            return Err(Error::invalid(
                "parameters",
                format!("a job takes up to {MOST_PARAMETERS} bytes of parameters"),
            ));
        }
        Ok(NewJob {
            id: JobId::new(),
            kind,
            target: of.map(|(_, name)| name.to_string()).unwrap_or_default(),
            org: of.map(|(id, _)| id),
            parameters,
            schedule: None,
            parent: None,
            created: clock::now(),
            created_by: by(ctx),
        })
    }

    pub async fn job_list(
        &self,
        ctx: &Context,
        org: Option<&OrgName>,
        query: ListQuery,
    ) -> Result<Page<Job>> {
        let (start, limit) = position(LIST, &query, by_id)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let org = self.scope(ctx, org, Action::JobRead, "job.list")?;
        let org = org.map(|(id, _)| id);
        let rows = self.store.jobs(org, start, filter, limit).await?;
        let id = |job: &Job| vec![Part::Id(*job.id.as_bytes())];
        Ok(paged(LIST, &query, rows, id))
    }

    pub async fn job_show(&self, ctx: &Context, id: JobId) -> Result<JobShown> {
        let row = self.job_seen(ctx, id, Action::JobRead, "job.show")?;
        Ok(JobShown {
            job: row.job,
            log: self.store.job_log(id, 0)?,
            children: self.store.job_children(id)?,
        })
    }

    /// The job, where the caller may do this to it. Of another organization's he learns nothing.
    fn job_seen(&self, ctx: &Context, id: JobId, action: Action, verb: &str) -> Result<JobRow> {
        let tried = || object("job", id, "");
        self.somewhere(ctx, Action::JobRead)
            .and_then(|()| self.somewhere(ctx, action))
            .inspect_err(|error| self.refused(ctx, verb, tried(), error))?;
        let row = self.store.job(id)?;
        let org = self.org_of_job(&row)?;
        let target = org.as_ref().map_or(Target::Server, Target::Org);
        if access::decide(&ctx.identity, Action::JobRead, &target).is_err() {
            let hidden = Error::not_found(format!("no job has the id {id}"));
            self.refused(ctx, verb, tried(), &hidden);
            return Err(hidden);
        }
        self.allow(ctx, action, &target, verb, tried())?;
        Ok(row)
    }

    /// The organization that a job is about; none where that is gone, and another has its name perhaps.
    fn org_of_job(&self, row: &JobRow) -> Result<Option<OrgName>> {
        let Some((org, Ok(name))) = row.org.map(|org| (org, row.job.target.parse())) else {
            return Ok(None);
        };
        match self.store.org(&name) {
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            found => Ok(Some(name).filter(|_| found.is_ok_and(|it| it.org.id == org))),
        }
    }

    pub async fn job_cancel(&self, ctx: &Context, id: JobId) -> Result<Job> {
        const VERB: &str = "job.cancel";
        let row = self.job_seen(ctx, id, Action::JobChange, VERB)?;
        let change = self.change(ctx, VERB, of_job(&row.job), clock::now());
        self.store.cancel_job(change, id, by(ctx)).await
    }

    /// Cancels those that wait, all of them unless filters say which; what runs goes on.
    pub async fn job_cancel_waiting(
        &self,
        ctx: &Context,
        request: CancelJobs,
    ) -> Result<JobsCancelled> {
        const VERB: &str = "job.cancel";
        let jobs = || object("job", "", "");
        self.allow(ctx, Action::JobChange, &Target::Server, VERB, jobs())?;
        let now = clock::now();
        let filter = Filter::parse(&request.filters, now)?;
        let change = self.change(ctx, VERB, jobs(), now);
        let cancelled = self.store.cancel_jobs(change, filter, by(ctx)).await?;
        Ok(JobsCancelled { cancelled })
    }

    pub async fn job_retry(&self, ctx: &Context, id: JobId) -> Result<Job> {
        const VERB: &str = "job.retry";
        let row = self.job_seen(ctx, id, Action::JobChange, VERB)?;
        let change = self.change(ctx, VERB, of_job(&row.job), clock::now());
        let job = self.store.retry_job(change, id, by(ctx)).await?;
        self.jobs_asked.notify_one();
        Ok(job)
    }

    pub async fn job_release(&self, ctx: &Context, id: JobId) -> Result<Job> {
        const VERB: &str = "job.release";
        let row = self.job_seen(ctx, id, Action::JobChange, VERB)?;
        let change = self.change(ctx, VERB, of_job(&row.job), clock::now());
        let job = self.store.release_job(change, id, by(ctx)).await?;
        self.jobs_asked.notify_one();
        Ok(job)
    }

    pub async fn lanes(&self, ctx: &Context) -> Result<Lanes> {
        let jobs = object("job", "", "");
        self.allow(ctx, Action::JobRead, &Target::Server, "job.lanes", jobs)?;
        self.lanes_shown()
    }

    fn lanes_shown(&self) -> Result<Lanes> {
        let shown = |lane| -> Result<LaneShown> {
            let (standing, counts) = (self.standing(lane)?, self.store.lane_counts(lane)?);
            Ok(LaneShown {
                drained: standing.drained,
                most: standing.most as u64,
                running: counts.running,
                waiting: counts.queued + counts.pending + counts.held,
            })
        };
        Ok(Lanes {
            management: shown(Lane::Management)?,
            upkeep: shown(Lane::Upkeep)?,
        })
    }

    /// Lets no further job begin, over restarts, until `resume`. What runs goes on.
    pub async fn drain(&self, ctx: &Context, request: SetDrain) -> Result<Lanes> {
        let drained: &[Lane] = match request.all {
            true => &Lane::ALL,
            false => &[Lane::Management],
        };
        self.set_drained(ctx, "server.drain", drained).await
    }

    pub async fn resume(&self, ctx: &Context) -> Result<Lanes> {
        self.set_drained(ctx, "server.resume", &[]).await
    }

    /// Drains these lanes, too; none: no lane any more.
    async fn set_drained(
        &self,
        ctx: &Context,
        verb: &str,
        lanes: &'static [Lane],
    ) -> Result<Lanes> {
        let server = || object("server", self.facts.instance, &self.facts.config.fqdn);
        self.allow(ctx, Action::JobChange, &Target::Server, verb, server())?;
        let change = self.change(ctx, verb, server(), clock::now());
        self.store.set_drained(change, lanes).await?;
        self.jobs_asked.notify_one();
        self.lanes_shown()
    }

    fn standing(&self, lane: Lane) -> Result<Standing> {
        let drained = self.store.is_drained(lane)?;
        let most = match lane {
            Lane::Management => self.settings.maximum_processes(),
            Lane::Upkeep => MOST_UPKEEP,
        };
        Ok(Standing {
            drained,
            most,
            held: drained || most == 0,
        })
    }

    /// Brings the states of what waits, and the board, in line with how the lanes stand.
    pub async fn settle_lanes(&self) -> Result<()> {
        for lane in Lane::ALL {
            let held = self.standing(lane)?.held;
            let counts = self.store.lane_counts(lane)?;
            let wrong = match held {
                true => counts.pending > 0 || counts.queued > counts.released,
                false => counts.held > 0,
            };
            if wrong {
                self.store.hold_jobs(lane, held).await?;
            }
        }
        let [management, upkeep] = [
            self.standing(Lane::Management)?,
            self.standing(Lane::Upkeep)?,
        ];
        let all = "new jobs do not begin, backups and upkeep neither: the server is drained";
        let some = "new jobs on hosts and keys do not begin: the server is drained";
        match (upkeep.drained, management.drained, management.most) {
            (true, _, _) => self.board.amber(BOARD, all, "`strongroom resume`"),
            (false, true, _) => self.board.amber(BOARD, some, "`strongroom resume`"),
            (false, false, 0) => self.board.amber(
                BOARD,
                "new jobs on hosts and keys do not begin: backend.maximum_processes is 0",
                "`strongroom setting set backend.maximum_processes 20`",
            ),
            (false, false, _) => self.board.green(BOARD),
        }
        Ok(())
    }

    /// Drops the jobs of long ago; returns whether there were any.
    pub(super) async fn prune_jobs(&self, now: Timestamp) -> Result<()> {
        while self.store.prune_jobs(now.plus(-KEPT), MOST_KEPT).await? {}
        Ok(())
    }
}
