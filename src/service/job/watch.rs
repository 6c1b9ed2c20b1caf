//! One job as it goes, for whoever may see it.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::Service;
use super::super::access::Action;
use super::super::caller::Context;
use super::super::feed::{Feed, Heard, Pieces, SIGN_OF_LIFE, sent};
use crate::api::job::JobNews;
use crate::error::{Kind, Result};
use crate::model::id::JobId;

impl Service {
    /// How a job goes, from the line behind `after` on, for so many seconds or until it is over;
    /// server-sent events, whose ids are the numbers of lines.
    pub async fn job_watch(
        self: &Arc<Self>,
        ctx: &Context,
        id: JobId,
        after: Option<u64>,
        seconds: u32,
    ) -> Result<Pieces> {
        self.job_seen(ctx, id, Action::JobRead, "job.watch")?;
        let (mut feed, out) = self.feed(ctx, seconds)?;
        let (service, ctx) = (Arc::clone(self), ctx.clone());
        tokio::spawn(async move {
            let after = after.unwrap_or(0);
            let told = service.tell_job(&ctx, (id, after), &mut feed).await;
            feed.ends(told).await;
        });
        Ok(out)
    }

    async fn tell_job(
        &self,
        ctx: &Context,
        (id, mut after): (JobId, u64),
        feed: &mut Feed,
    ) -> Result<()> {
        let mut last = None;
        let mut told = Instant::now();
        loop {
            feed.looks();
            if !self.is_still_let_in(ctx)? {
                return Ok(());
            }
            // Read before its lines: those of its end are then there.
            let job = match self.store.job(id) {
                Err(error) if error.kind == Kind::NotFound => return Ok(()),
                row => row?.job,
            };
            let log = self.store.job_log(id, after)?;
            after = log.last().map_or(after, |line| line.number);
            let is_over = job.state.is_over();
            if !log.is_empty() || last.as_ref() != Some(&job) {
                let news = JobNews {
                    job: job.clone(),
                    log,
                };
                if !feed.tell(sent(after, "job", &news)?).await {
                    return Ok(());
                }
                (last, told) = (Some(job), Instant::now());
            }
            if is_over || feed.is_over() {
                return Ok(());
            }
            match feed.waits(told).await {
                Heard::News => {}
                Heard::End => return Ok(()),
                Heard::Nothing => {
                    if !feed.tell(SIGN_OF_LIFE.to_vec()).await {
                        return Ok(());
                    }
                    told = Instant::now();
                }
            }
        }
    }
}
