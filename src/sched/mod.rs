//! Works off jobs, as many of each lane at once as it may have. It decides nothing: what a job does,
//! and who may ask for it, stands behind the service's verbs.

mod due;
mod jobs;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::timeout;

use self::due::Due;
use crate::clock;
use crate::error::{Error, Result};
use crate::model::id::JobId;
use crate::model::job::Lane;
use crate::service::Service;
use crate::service::job::JobRun;

/// Between two looks at what there is to do; whoever makes a job asks for one at once.
const LOOK: Duration = Duration::from_secs(1);
/// The longest that a store without a change is not looked at.
const BLIND: Duration = Duration::from_secs(30);
/// How long jobs have to end between two steps when the server stops.
const PATIENCE: Duration = Duration::from_secs(20);

/// The scheduler at work. Whoever started it stops it.
pub struct Sched {
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
}

impl Sched {
    pub fn start(service: &Arc<Service>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let driver = Driver {
            service: Arc::clone(service),
            stopping,
            running: JoinSet::new(),
            jobs: HashMap::new(),
            due: Due::default(),
            seen: None,
        };
        Self {
            stop,
            driver: tokio::spawn(driver.drive()),
        }
    }

    /// Lets jobs end between two steps, and waits for them. What does not is taken up at the next start.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if timeout(PATIENCE, &mut self.driver).await.is_err() {
            log::warn!("a job did not end in time; it is taken up again at the next start");
            self.driver.abort();
            let _ = self.driver.await;
        }
    }
}

struct Driver {
    service: Arc<Service>,
    stopping: watch::Receiver<bool>,
    running: JoinSet<()>,
    jobs: HashMap<Id, JobId>,
    due: Due,
    /// How the store was when it was last looked at, and when that was.
    seen: Option<(u64, Instant)>,
}

impl Driver {
    async fn drive(mut self) {
        let asked = self.service.jobs_asked();
        let mut said = None;
        let mut resumed = false;
        while !*self.stopping.borrow() {
            let looked = match resumed {
                true => self.look().await,
                false => self.begin().await,
            };
            let well = looked.is_ok();
            // Said once, not each second.
            if let Err(error) = looked
                && said != Some(error.code)
            {
                said = Some(error.code);
                log::warn!(error:? = error; "jobs do not begin; trying again");
            }
            if well {
                said = None;
                if !resumed {
                    resumed = true;
                    continue;
                }
            }
            tokio::select! {
                () = asked.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                Some(ended) = self.running.join_next_with_id() => self.forget(ended),
                _ = self.stopping.changed() => {}
            }
        }
        while let Some(ended) = self.running.join_next_with_id().await {
            self.forget(ended);
        }
    }

    fn forget(&mut self, ended: std::result::Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.jobs.remove(&id);
    }

    /// What the end of the process before left.
    async fn begin(&self) -> Result<()> {
        self.service.take_back_jobs([]).await?;
        self.service.seed_schedules().await?;
        self.service.resume_rotations().await
    }

    async fn look(&mut self) -> Result<()> {
        self.due.look(&self.service, clock::now()).await?;
        // What waits for its time alone comes without a change.
        let revision = self.service.revision();
        let fresh = |(seen, at): (u64, Instant)| seen == revision && at.elapsed() < BLIND;
        if self.seen.is_some_and(fresh) && !self.service.jobs_wait()? {
            return Ok(());
        }
        self.work_off().await?;
        self.service.report_jobs()?;
        self.seen = Some((revision, Instant::now()));
        Ok(())
    }

    async fn work_off(&mut self) -> Result<()> {
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.forget(ended);
        }
        let alive: Vec<JobId> = self.jobs.values().copied().collect();
        self.service.take_back_jobs(alive).await?;
        self.service.settle_lanes().await?;
        for lane in Lane::ALL {
            while !*self.stopping.borrow()
                && let Some(run) = self.service.claim_job(lane, &self.stopping).await?
            {
                let id = run.job().id;
                let task = self.running.spawn(work(run));
                self.jobs.insert(task.id(), id);
            }
        }
        Ok(())
    }
}

/// One attempt at a job, whatever becomes of it.
async fn work(mut run: JobRun) {
    let mut holding = std::pin::pin!(run.hold_on());
    let result = tokio::select! {
        // A panic is the end of the attempt, not of the job.
        result = caught(jobs::run(&mut run)) => result,
        () = &mut holding => return,
    };
    tokio::select! {
        () = run.end(result) => {}
        () = &mut holding => {}
    }
}

async fn caught(attempt: impl Future<Output = Result<String>>) -> Result<String> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let mut attempt = std::pin::pin!(attempt);
    std::future::poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(cx)))
            .unwrap_or_else(|_| Err(Error::internal("a job panicked")).into())
    })
    .await
}
