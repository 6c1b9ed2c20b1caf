//! One job as it goes, for whoever may see it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::super::Service;
use super::super::access::Action;
use super::super::caller::Context;
use super::super::deposit::{FeedPlace, LONGEST_FEED, QUIET};
use crate::api::job::JobNews;
use crate::error::{Error, Kind, Result};
use crate::model::id::JobId;

type Pieces = mpsc::Sender<Result<Vec<u8>>>;

impl Service {
    /// How a job goes, from the line behind `after` on, for so many seconds or until it is over;
    /// server-sent events, whose ids are the numbers of lines.
    pub async fn job_watch(
        self: &Arc<Self>,
        ctx: &Context,
        id: JobId,
        after: Option<u64>,
        seconds: u32,
    ) -> Result<mpsc::Receiver<Result<Vec<u8>>>> {
        self.job_seen(ctx, id, Action::JobRead, "job.watch")?;
        let place = self.feeds.place(ctx.idempotency_caller())?;
        let (pieces, out) = mpsc::channel(1);
        let (service, ctx) = (Arc::clone(self), ctx.clone());
        let over = Instant::now() + Duration::from_secs(seconds.min(LONGEST_FEED).into());
        tokio::spawn(async move {
            let after = after.unwrap_or(0);
            let told = service.tell(&ctx, (id, after), over, &pieces, place);
            if let Err(error) = told.await {
                let _ = pieces.send(Err(error)).await;
            }
        });
        Ok(out)
    }

    async fn tell(
        &self,
        ctx: &Context,
        (id, mut after): (JobId, u64),
        over: Instant,
        pieces: &Pieces,
        _place: FeedPlace,
    ) -> Result<()> {
        let (mut commits, mut end) = (self.store.commits(), self.feeds.end());
        let mut last = None;
        let mut quiet = Instant::now() + QUIET;
        loop {
            commits.borrow_and_update();
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
                let piece = sent(
                    after,
                    &JobNews {
                        job: job.clone(),
                        log,
                    },
                )?;
                if pieces.send(Ok(piece)).await.is_err() {
                    return Ok(());
                }
                (last, quiet) = (Some(job), Instant::now() + QUIET);
            }
            if is_over || *end.borrow() || Instant::now() >= over {
                return Ok(());
            }
            let news = async {
                tokio::select! {
                    news = commits.changed() => news.is_ok(),
                    _ = end.changed() => false,
                    () = pieces.closed() => false,
                }
            };
            match timeout_at(over.min(quiet), news).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(_) => {
                    if pieces.send(Ok(b":\n\n".to_vec())).await.is_err() {
                        return Ok(());
                    }
                    quiet = Instant::now() + QUIET;
                }
            }
        }
    }
}

/// As the form of server-sent events has it; JSON has no line ends.
fn sent(number: u64, news: &JobNews) -> Result<Vec<u8>> {
    let json = serde_json::to_string(news).map_err(|error| Error::internal(error.to_string()))?;
    Ok(format!("id: {number}\nevent: job\ndata: {json}\n\n").into_bytes())
}
