//! Which schedules are due. What was missed, however often, is made up for once. A clock that jumps
//! makes nothing twice: the store knows the times that made a job.

use crate::clock::Timestamp;
use crate::error::Result;
use crate::service::Service;
use crate::service::schedule::Planned;

/// What is planned, with each one's next time.
#[derive(Default)]
pub(super) struct Due {
    plans: Vec<(Planned, Option<Timestamp>)>,
    version: Option<u64>,
    last: Option<Timestamp>,
}

impl Due {
    /// Makes the jobs that are due; returns without a look at the store if nothing is.
    pub async fn look(&mut self, service: &Service, now: Timestamp) -> Result<()> {
        let version = service.schedules_version();
        if self.version != Some(version) {
            let mut planned = service.planned()?;
            // Those that nobody changed go on from where they are.
            for plan in &mut planned {
                let same = |(it, _): &&(Planned, _)| it.name == plan.name && it.since == plan.since;
                if let Some((it, _)) = self.plans.iter().find(same) {
                    plan.handled = it.handled;
                }
            }
            self.plans = planned.into_iter().map(|it| from(it, now)).collect();
            self.version = Some(version);
        } else if self.last.is_some_and(|last| now < last) {
            let plans = std::mem::take(&mut self.plans).into_iter();
            self.plans = plans.map(|(it, _)| from(it, now)).collect();
        }
        self.last = Some(now);
        for (plan, next) in &mut self.plans {
            if next.is_none_or(|next| next > now) {
                continue;
            }
            if let Some(newest) = plan.cron.newest(&plan.zone, plan.handled, now) {
                if let Some(job) = service.make_due(&plan.name, newest).await? {
                    log::info!(schedule = plan.name.as_str(), job = job.to_string().as_str(); "a job is due");
                }
                plan.handled = newest;
            }
            *next = plan.cron.next(&plan.zone, plan.handled);
        }
        Ok(())
    }
}

/// A clock that was put back comes to the same times again.
fn from(mut plan: Planned, now: Timestamp) -> (Planned, Option<Timestamp>) {
    plan.handled = plan.handled.min(now);
    let next = plan.cron.next(&plan.zone, plan.handled);
    (plan, next)
}
