//! The worker's side of jobs. A kind of job is an `async fn(&mut JobRun) -> Result<String>` in
//! `src/sched/jobs/`; what it needs of the server it does through verbs, and through its `JobRun`:
//!
//! - `check` between two steps: an error where it was cancelled or the server stops. It is passed on with
//!   `?`; the job ends as cancelled, or goes on at the next start.
//! - `progress` as often as it likes; the store hears of it once a second, and of the last one at the end.
//! - `say` adds a line to its log. Neither the log nor parameters hold a secret.
//! - `blocking` runs what would hold up others, in a thread of its own; `Stop` tells it when to break off.
//! - `parameters` are those that it was made with.
//! - `make_child` makes a job of its own.
//!
//! A verb makes a job with its change: `Service::new_job`, then a command of the store that inserts it
//! (`Store::add_job`, or with what else it changes); the answer is 202 with the job. A new kind is a variant
//! of `model::job::JobKind`, a file in `src/sched/jobs/`, and perhaps a row of `model::schedule::BUILT_IN`.
//!
//! It may run twice, and goes by what the store says. The text that it returns is its outcome. An error
//! that may pass (unavailable, internal) leads to another attempt, any other to its failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::super::{Service, object};
use super::short;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::model::id::JobId;
use crate::model::job::{Job, JobKind, JobState, Lane};
use crate::store::{Claim, Ended, Held, JobRow, NewJob, Reached};

/// How long a worker that says nothing holds its job.
pub const LEASE: Duration = Duration::from_secs(60);
/// Between two looks whether it was cancelled, for steps that take long.
const LOOK: Duration = Duration::from_secs(1);
/// Between two reports of progress.
const REPORT: Duration = Duration::from_secs(1);
/// The first wait before another attempt; each is twice the one before.
const FIRST_WAIT: i64 = 10 * Timestamp::SECOND;
const LONGEST_WAIT: i64 = Timestamp::HOUR;
/// A job whose worker was lost so often without coming on has failed.
const MOST_LOST: u32 = 10;
/// The code of the error that ends a cancelled job.
const CANCELLED: &str = "job_cancelled";
const STOPPING: &str = "job_stopping";

/// A job in the hands of its worker.
pub struct JobRun {
    service: Arc<Service>,
    job: Job,
    held: Held,
    stop: Stop,
    reached: Reached,
    /// When the store last heard of it.
    reported: Option<Instant>,
    unreported: bool,
}

/// Says to whatever runs long whether the server stops or the job was cancelled.
#[derive(Clone)]
pub struct Stop {
    server: watch::Receiver<bool>,
    cancelled: Arc<AtomicBool>,
}

impl Stop {
    pub fn is_asked(&self) -> bool {
        *self.server.borrow() || self.cancelled.load(Ordering::Relaxed)
    }
}

impl JobRun {
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    pub fn job(&self) -> &Job {
        &self.job
    }

    pub(in crate::service) fn org(&self) -> Result<crate::model::id::OrgId> {
        let org = self.service.store.job(self.job.id)?.org;
        org.ok_or_else(|| Error::internal("a job without its organization"))
    }

    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// What it was made with.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.job.parameters.clone()).map_err(|error| {
            Error::invalid(
                "parameters",
                "the job's parameters are none of its kind; cancel it, and make it anew",
            )
            .because(error)
        })
    }

    /// Asked between two steps.
    ///
    /// # Errors
    /// Where the job must end here: pass it on.
    pub fn check(&self) -> Result<()> {
        if *self.stop.server.borrow() {
            return Err(Error::unavailable(STOPPING, "the server stops"));
        }
        if self.stop.cancelled.load(Ordering::Relaxed)
            || self.service.store.job_is_cancelled(self.held)?
        {
            return Err(Error::conflict(CANCELLED, "the job was cancelled"));
        }
        Ok(())
    }

    /// How far it is; `total` 0: not known.
    pub async fn progress(&mut self, done: u64, total: u64, unit: &str) -> Result<()> {
        let unit = unit.to_owned();
        let reached = Reached { done, total, unit };
        self.unreported |= reached != self.reached;
        self.reached = reached;
        let lately = self.reported.is_some_and(|at| at.elapsed() < REPORT);
        if !self.unreported || lately {
            return Ok(());
        }
        self.report(Vec::new()).await
    }

    /// A line for its log.
    pub async fn say(&mut self, line: impl Into<String>) -> Result<()> {
        self.report(vec![line.into()]).await
    }

    /// Makes a job of this one's own, in the lane of its kind. Whoever cancels this one cancels it, too.
    pub async fn make_child(&self, kind: JobKind, parameters: &serde_json::Value) -> Result<JobId> {
        self.check()?;
        let own = Service::own_context();
        let org = self.service.store.job(self.job.id)?.org;
        let name = self.job.target.parse().ok();
        let of = org.zip(name.as_ref());
        let new = NewJob {
            parent: Some(self.job.id),
            created_by: format!("job {}", self.job.id),
            ..self.service.new_job(&own, kind, of, parameters)?
        };
        let id = self.service.store.add_child_job(self.held, new).await?.id;
        self.service.jobs_asked.notify_one();
        Ok(id)
    }

    /// A step that would hold up others.
    pub async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check()?;
        let done = tokio::task::spawn_blocking(step).await;
        done.map_err(|error| Error::internal(error.to_string()))?
    }

    async fn report(&mut self, lines: Vec<String>) -> Result<()> {
        let reached = Some(self.reached.clone());
        let now = clock::now();
        let store = &self.service.store;
        store.report_job(self.held, reached, lines, now).await?;
        (self.reported, self.unreported) = (Some(Instant::now()), false);
        Ok(())
    }

    /// Holds on to the job for as long as this is waited for; ends when somebody else has it.
    pub fn hold_on(&self) -> impl Future<Output = ()> + Send + use<> {
        let (service, held) = (Arc::clone(&self.service), self.held);
        let cancelled = Arc::clone(&self.stop.cancelled);
        async move {
            let mut renewed = Instant::now();
            loop {
                tokio::time::sleep(LOOK).await;
                match service.store.job_is_cancelled(held) {
                    Err(error) if error.code == "fenced" => return,
                    Ok(true) => cancelled.store(true, Ordering::Relaxed),
                    _ => {}
                }
                if renewed.elapsed() < LEASE / 3 {
                    continue;
                }
                match service.renew(held).await {
                    Ok(()) => renewed = Instant::now(),
                    Err(error) if error.code == "fenced" => return,
                    Err(error) => {
                        log::warn!(error:? = error; "a job's lease was not renewed; trying again")
                    }
                }
            }
        }
    }

    /// Enters how the attempt ended.
    pub async fn end(mut self, result: Result<String>) {
        // Of what is cut off nobody shall read that it is further, or less far, than it is.
        if self.unreported
            && let Err(error) = self.report(Vec::new()).await
        {
            log::debug!(error:? = error; "a job's last progress is not in the store");
        }
        let id = self.job.id;
        let mut wait = Duration::from_secs(1);
        // A full disk must not lose it; the store's end does, and then it is taken up at the next start.
        while let Err(error) = self.enter_end(&result).await {
            if error.code == "fenced" || error.kind == Kind::Unknown || *self.stop.server.borrow() {
                log::warn!(job = id.to_string().as_str(), error:? = error; "a job's end was not entered");
                return;
            }
            log::warn!(job = id.to_string().as_str(), error:? = error; "a job's end is not in the store; trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(30));
        }
    }

    async fn enter_end(&self, result: &Result<String>) -> Result<()> {
        let now = clock::now();
        let (service, job) = (&self.service, &self.job);
        let error = match result {
            Ok(outcome) => return self.over(JobState::Succeeded, outcome.clone(), now).await,
            Err(error) => error,
        };
        match error.code {
            STOPPING => return service.store.give_back_job(self.held, now).await,
            "fenced" => return Ok(()),
            CANCELLED => {
                let done = match &self.reached {
                    Reached { done: 0, .. } => "nothing was done".to_owned(),
                    Reached {
                        done,
                        total: 0,
                        unit,
                    } => format!("done: {done} {unit}"),
                    Reached { done, total, unit } => format!("done: {done} of {total} {unit}"),
                };
                let outcome = format!("cancelled; {done}");
                return self.over(JobState::Cancelled, outcome, now).await;
            }
            _ => {}
        }
        let passes = matches!(
            error.kind,
            Kind::Unavailable | Kind::Unknown | Kind::Internal | Kind::Limited
        );
        log::warn!(job = job.id.to_string().as_str(), kind = job.kind.as_str(), attempt = job.attempts, error:? = error; "a job went wrong");
        if !passes || job.attempts >= job.kind.most_attempts() {
            return self.over(JobState::Failed, short(&error.public), now).await;
        }
        let exponent = job.attempts.saturating_sub(1).min(16);
        let wait = (FIRST_WAIT << exponent).min(LONGEST_WAIT);
        let end = Ended {
            state: JobState::Pending,
            outcome: short(&error.public),
            not_before: Some(now.plus(wait)),
            now,
        };
        service.store.end_job(self.held, end, None).await
    }

    async fn over(&self, state: JobState, outcome: String, now: Timestamp) -> Result<()> {
        let own = Service::own_context();
        // An end that somebody is to look at.
        let event = (state == JobState::Failed).then(|| {
            own.event(
                "job.failed",
                object("job", self.job.id, self.job.kind.as_str()),
                now,
            )
        });
        let end = Ended {
            state,
            outcome,
            not_before: None,
            now,
        };
        self.service.store.end_job(self.held, end, event).await
    }
}

impl Service {
    async fn renew(&self, held: Held) -> Result<()> {
        let until = clock::now().plus(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX));
        self.store.renew_job(held, until).await.map(drop)
    }

    /// What former workers held, this process's among them where they are none of `alive`.
    pub async fn take_back_jobs(&self, alive: impl IntoIterator<Item = JobId>) -> Result<()> {
        let alive = alive.into_iter().collect();
        let lost = self
            .store
            .take_back_jobs(self.boot, alive, clock::now())
            .await?;
        if lost > 0 {
            log::info!(jobs = lost; "jobs whose worker ended are taken up again");
        }
        Ok(())
    }

    /// Commits since the store was made: without another there is no other job.
    pub fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// Whether there are jobs that wait for their time.
    pub fn jobs_wait(&self) -> Result<bool> {
        self.store.jobs_wait()
    }

    /// The next job of a lane that may run, in the caller's hands from now on.
    pub async fn claim_job(
        self: &Arc<Self>,
        lane: Lane,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Option<JobRun>> {
        let counts = self.store.lane_counts(lane)?;
        let standing = self.standing(lane)?;
        let now = clock::now();
        let due = |time: Timestamp| time <= now || time > now.plus(LONGEST_WAIT);
        let ready = counts.queued > 0 || counts.next.is_some_and(due);
        let full = !standing.held && counts.running >= standing.most as u64;
        // An idle server writes nothing.
        if !ready || full || (standing.held && counts.released == 0) {
            return Ok(None);
        }
        let claim = Claim {
            lane,
            boot: self.boot,
            most: standing.most,
            held: standing.held,
            now,
            lease_until: now.plus(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)),
        };
        let Some(row) = self.store.claim_job(claim).await? else {
            return Ok(None);
        };
        Ok(self.in_hand(row, stopping).await)
    }

    /// None: its worker was lost too often, and it has failed.
    async fn in_hand(
        self: &Arc<Self>,
        row: JobRow,
        stopping: &watch::Receiver<bool>,
    ) -> Option<JobRun> {
        let (lost, job) = (row.lost, row.job);
        let run = JobRun {
            service: Arc::clone(self),
            held: Held {
                id: job.id,
                generation: job.generation,
            },
            reached: Reached {
                done: job.done,
                total: job.total,
                unit: job.unit.clone(),
            },
            job,
            stop: Stop {
                server: stopping.clone(),
                cancelled: Arc::default(),
            },
            reported: None,
            unreported: false,
        };
        if lost < MOST_LOST {
            return Some(run);
        }
        let why = format!("the server ended {lost} times while this ran, without its coming on");
        run.end(Err(Error::conflict("worker_lost", why))).await;
        None
    }
}
