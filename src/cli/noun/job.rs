//! `strongroom job`, `strongroom drain` and `strongroom resume`.

use std::time::Duration;

use hyper::Method;

use super::ListArgs;
use crate::api::job::{CancelJobs, JobNews, JobShown, JobsCancelled, Lanes, SetDrain};
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::feed::Feed;
use crate::cli::print::{Printer, bar};
use crate::error::{Error, Kind, Result};
use crate::model::id::JobId;
use crate::model::job::{Job, JobState};
use crate::model::org::OrgName;

const LOOK: Duration = Duration::from_millis(500);

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// The jobs, oldest first
    List {
        /// Only those of one organization
        #[arg(long, value_name = "NAME")]
        org: Option<OrgName>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// One job, with its log
    Show {
        /// As `job list` shows it
        id: JobId,
    },
    /// Follow a job until it is over; exit 1 if it fails
    Watch {
        /// As `job list` shows it
        id: JobId,
    },
    /// Cancel a job; one that runs ends before its next step
    Cancel {
        /// As `job list` shows it
        id: JobId,
    },
    /// Try a job again that failed or was cancelled
    Retry {
        /// As `job list` shows it
        id: JobId,
    },
    /// Let a held job run although its lane is held
    Release {
        /// As `job list` shows it
        id: JobId,
    },
}

#[derive(clap::Args, Debug)]
pub struct DrainArgs {
    /// Backups and upkeep, too
    #[arg(long)]
    all: bool,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::List { org, list } => {
            const COLUMNS: &[&str] = &[
                "id", "kind", "target", "state", "progress", "created", "ended", "outcome",
            ];
            let further = org.map(|org| ("org", org.to_string()));
            let further = further.into_iter().collect();
            list.run(&mut client, "/v1/jobs", further, out, COLUMNS, row)
                .await
        }
        Verb::Show { id } => show(&mut client, id, out).await,
        Verb::Watch { id } => watch(&mut client, id, context).await,
        Verb::Cancel { id } => {
            let job = change(&mut client, id, "cancel").await?;
            out.talk(&match job.state {
                JobState::Running => format!("job {id} ends before its next step"),
                _ => format!("job {id} is {}: {}", job.state.as_str(), job.outcome),
            });
            out.document(&job).map(drop)
        }
        Verb::Retry { id } => {
            let job = change(&mut client, id, "retry").await?;
            out.talk(&format!("job {id} is tried again"));
            out.document(&job).map(drop)
        }
        Verb::Release { id } => {
            let job = change(&mut client, id, "release").await?;
            out.talk(&format!("job {id} runs although its lane is held"));
            out.document(&job).map(drop)
        }
    }
}

async fn change(client: &mut Client, id: JobId, verb: &str) -> Result<Job> {
    let path = format!("/v1/jobs/{id}/{verb}");
    client.json(Call::new(Method::POST, path)).await
}

/// Cancels what waits and fits the filters; how many that were.
pub async fn cancel_waiting(filters: Vec<String>, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let call = Call::new(Method::POST, "/v1/jobs/cancel").json(&CancelJobs { filters })?;
    let done: JobsCancelled = client.json(call).await?;
    if context.out.document(&done)? {
        return Ok(());
    }
    context
        .out
        .line(&format!("{} jobs cancelled", done.cancelled))
}

fn progress(job: &Job) -> String {
    match (job.done, job.total) {
        (0, 0) => String::new(),
        (done, 0) => format!("{done} {}", job.unit),
        (done, total) => format!("{done} of {total} {}", job.unit),
    }
}

fn row(out: &Printer, job: &Job) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.kind.as_str().to_owned(),
        job.target.clone(),
        job.state.as_str().to_owned(),
        progress(job),
        out.time(job.created),
        out.maybe_time(job.ended),
        job.outcome.clone(),
    ]
}

async fn show(client: &mut Client, id: JobId, out: &Printer) -> Result<()> {
    let shown: JobShown = client.json(Call::get(format!("/v1/jobs/{id}"))).await?;
    let job = &shown.job;
    let ids = |ids: &[JobId]| {
        let ids: Vec<String> = ids.iter().map(JobId::to_string).collect();
        ids.join(" ")
    };
    let parameters = match job.parameters.as_object() {
        Some(fields) if !fields.is_empty() => job.parameters.to_string(),
        _ => String::new(),
    };
    let fields = [
        ("id", job.id.to_string()),
        ("kind", job.kind.as_str().to_owned()),
        ("target", job.target.clone()),
        ("parameters", parameters),
        ("lane", job.lane.as_str().to_owned()),
        ("state", job.state.as_str().to_owned()),
        ("outcome", job.outcome.clone()),
        ("progress", progress(job)),
        ("schedule", job.schedule.clone().unwrap_or_default()),
        ("made by", job.created_by.clone()),
        ("created", out.time(job.created)),
        ("not before", out.maybe_time(job.not_before)),
        ("started", out.maybe_time(job.started)),
        ("ended", out.maybe_time(job.ended)),
        ("attempts", job.attempts.to_string()),
        ("generation", job.generation.to_string()),
        (
            "parent",
            job.parent.map(|id| id.to_string()).unwrap_or_default(),
        ),
        ("children", ids(&shown.children)),
    ];
    out.record(&shown, &fields)?;
    if out.json {
        return Ok(());
    }
    for line in &shown.log {
        out.line(&format!("{}  {}", out.time(line.time), line.text))?;
    }
    Ok(())
}

/// How a job that somebody waits for is shown: a bar on a terminal, lines elsewhere.
struct Shown<'a> {
    out: &'a Printer,
    /// stderr is a terminal, and talk is wanted.
    bar: bool,
    drawn: bool,
    said: String,
}

impl Shown<'_> {
    fn take(&mut self, news: &JobNews) -> Result<()> {
        for line in &news.log {
            self.clear();
            self.out
                .talk(&format!("{}  {}", self.out.time(line.time), line.text));
        }
        let job = &news.job;
        let said = match job.state {
            JobState::Running if job.total > 0 => bar(job.done, job.total, &progress(job)),
            JobState::Running => format!("running {}", progress(job)),
            state => state.as_str().to_owned(),
        };
        if said == self.said {
            return Ok(());
        }
        if self.bar && !job.state.is_over() {
            self.out.redraw(&said);
            self.drawn = true;
        } else if !self.bar && !progress(job).is_empty() {
            self.out.talk(&progress(job));
        }
        self.said = said;
        Ok(())
    }

    /// Takes the bar away, so that a line can stand there.
    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            self.out.redraw("");
            self.said.clear();
        }
    }
}

/// Follows a job to its end, over a restart of the server, too.
pub async fn watch(client: &mut Client, id: JobId, context: &Context) -> Result<()> {
    let out = &context.out;
    let mut shown = Shown {
        out,
        bar: out.redraws() && !out.json,
        drawn: false,
        said: String::new(),
    };
    let mut last: Option<Job> = None;
    let each = |_, news: &JobNews| {
        last = Some(news.job.clone());
        if !out.json {
            shown.take(news)?;
        }
        Ok(news.job.state.is_over())
    };
    let path = format!("/v1/watch/jobs/{id}");
    Feed::default().follow(client, &path, out, each).await?;
    shown.clear();
    let Some(job) = last else {
        return Ok(());
    };
    out.document(&job)?;
    match job.state {
        JobState::Failed | JobState::Cancelled => Err(Error::new(
            Kind::Internal,
            "job_not_done",
            format!(
                "job {id} {}: {}; `strongroom job retry {id}` tries it again",
                job.state.as_str(),
                job.outcome
            ),
        )),
        _ => Ok(()),
    }
}

/// Waits for what runs; what waits stays where it is.
pub async fn drain(args: DrainArgs, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    let call = Call::new(Method::POST, "/v1/drain").json(&SetDrain { all: args.all })?;
    let mut lanes: Lanes = client.json(call).await?;
    out.talk(match args.all {
        true => "no further job begins, until `strongroom resume`",
        false => "no further job on hosts and keys begins, until `strongroom resume`",
    });
    let mut said = 0;
    loop {
        let running = match args.all {
            true => lanes.management.running + lanes.upkeep.running,
            false => lanes.management.running,
        };
        if running == 0 {
            break;
        }
        if running != said {
            out.talk(&format!("{running} still run"));
            said = running;
        }
        tokio::time::sleep(LOOK).await;
        lanes = client.json(Call::get("/v1/lanes")).await?;
    }
    report(&lanes, out)
}

pub async fn resume(context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let lanes: Lanes = client.json(Call::new(Method::POST, "/v1/resume")).await?;
    context.out.talk("jobs begin again");
    report(&lanes, &context.out)
}

fn report(lanes: &Lanes, out: &Printer) -> Result<()> {
    let both = [("management", &lanes.management), ("upkeep", &lanes.upkeep)];
    const COLUMNS: &[&str] = &["lane", "drained", "most", "running", "waiting"];
    out.table(lanes, &both, COLUMNS, |_, (name, lane)| {
        vec![
            (*name).to_owned(),
            lane.drained.to_string(),
            lane.most.to_string(),
            lane.running.to_string(),
            lane.waiting.to_string(),
        ]
    })
}
