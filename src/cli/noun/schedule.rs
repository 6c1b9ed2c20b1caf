//! `strongroom schedule`.

use hyper::Method;

use super::ListArgs;
use crate::api::schedule::{AddSchedule, EditSchedule};
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::noun::job;
use crate::cli::print::Printer;
use crate::error::Result;
use crate::model::cron::{Cron, ZoneName};
use crate::model::job::{Job, JobKind, JobState};
use crate::model::schedule::{Schedule, ScheduleName};

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// All schedules, with their next times
    List(ListArgs),
    /// One schedule, with its next five times
    Show {
        /// As `schedule list` shows it
        name: ScheduleName,
    },
    /// Add a schedule, and show its next five times
    ///
    /// A time that daylight saving skips runs once after the gap; a time that comes twice runs once.
    Add {
        /// A letter or digit, then letters, digits, `.`, `_` or `-`; 64 at most
        name: ScheduleName,
        /// Minute, hour, day of month, month, day of week, as in crontab(5); or @hourly and the like
        #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
        cron: Cron,
        /// Where its clock is, such as Europe/Berlin
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        tz: ZoneName,
        /// What it makes: backup, drill, certificate_check, audit_checkpoint, pruning or store_check
        #[arg(long, value_name = "KIND", value_parser = JobKind::for_schedule)]
        kind: JobKind,
    },
    /// Change when a schedule comes
    Edit {
        /// As `schedule list` shows it
        name: ScheduleName,
        /// As `schedule add` takes it
        #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
        cron: Option<Cron>,
        /// Where its clock is, such as Europe/Berlin
        #[arg(long, value_name = "ZONE")]
        tz: Option<ZoneName>,
    },
    /// Remove a schedule; its jobs stay. Those that are built in can only be paused
    Rm {
        /// As `schedule list` shows it
        name: ScheduleName,
    },
    /// Let a schedule rest
    Pause {
        /// As `schedule list` shows it
        name: ScheduleName,
    },
    /// Let a paused schedule go on; what it missed is not made up for
    Resume {
        /// As `schedule list` shows it
        name: ScheduleName,
    },
    /// Make a schedule's job now
    Run {
        /// As `schedule list` shows it
        name: ScheduleName,
        /// Until the job is over; exit 1 if it fails
        #[arg(long)]
        wait: bool,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::List(list) => {
            const COLUMNS: &[&str] = &[
                "name", "kind", "cron", "zone", "state", "last", "next", "then",
            ];
            list.run(&mut client, "/v1/schedules", vec![], out, COLUMNS, row)
                .await
        }
        Verb::Show { name } => {
            let shown: Schedule = client.json(Call::get(path(&name))).await?;
            record(&shown, out)
        }
        Verb::Add {
            name,
            cron,
            tz,
            kind,
        } => {
            let zone = Some(tz);
            let request = AddSchedule {
                name,
                kind,
                cron,
                zone,
            };
            let call = Call::new(Method::POST, "/v1/schedules").json(&request)?;
            let added: Schedule = client.json(call).await?;
            out.talk(&format!("schedule {} is added", added.name));
            record(&added, out)
        }
        Verb::Edit { name, cron, tz } => {
            let request = EditSchedule { cron, zone: tz };
            let call = Call::new(Method::PATCH, path(&name)).json(&request)?;
            let edited: Schedule = client.json(call).await?;
            out.talk(&format!("schedule {name} is changed"));
            record(&edited, out)
        }
        Verb::Rm { name } => {
            out.confirm(&format!("Remove schedule {name}?"))?;
            client.send(Call::new(Method::DELETE, path(&name))).await?;
            out.talk(&format!("schedule {name} is removed"));
            Ok(())
        }
        Verb::Pause { name } => {
            let it = change(&mut client, &name, "pause").await?;
            out.talk(&format!(
                "schedule {name} rests until `strongroom schedule resume {name}`"
            ));
            out.document(&it).map(drop)
        }
        Verb::Resume { name } => {
            let it = change(&mut client, &name, "resume").await?;
            out.talk(&format!("schedule {name} goes on"));
            record(&it, out)
        }
        Verb::Run { name, wait } => {
            let call = Call::new(Method::POST, format!("{}/run", path(&name)));
            let made: Job = client.json(call).await?;
            if wait {
                return job::watch(&mut client, made.id, context).await;
            }
            out.talk(&format!(
                "job {} is made; `strongroom job watch {}` follows it",
                made.id, made.id
            ));
            out.document(&made).map(drop)
        }
    }
}

async fn change(client: &mut Client, name: &ScheduleName, verb: &str) -> Result<Schedule> {
    let call = Call::new(Method::POST, format!("{}/{verb}", path(name)));
    client.json(call).await
}

fn path(name: &ScheduleName) -> String {
    format!("/v1/schedules/{name}")
}

fn state(it: &Schedule) -> &'static str {
    match it.paused {
        true => "paused",
        false => "active",
    }
}

fn row(out: &Printer, it: &Schedule) -> Vec<String> {
    let then = it.next.iter().skip(1).map(|time| out.time(*time));
    vec![
        it.name.to_string(),
        it.kind.as_str().to_owned(),
        it.cron.as_str().to_owned(),
        it.zone.to_string(),
        state(it).to_owned(),
        it.last_state
            .map(JobState::as_str)
            .unwrap_or_default()
            .to_owned(),
        out.maybe_time(it.next.first().copied()),
        then.collect::<Vec<_>>().join(" "),
    ]
}

fn record(it: &Schedule, out: &Printer) -> Result<()> {
    let mut fields = vec![
        ("name", it.name.to_string()),
        ("kind", it.kind.as_str().to_owned()),
        ("cron", it.cron.as_str().to_owned()),
        ("zone", it.zone.to_string()),
        ("state", state(it).to_owned()),
        ("last due", out.maybe_time(it.last_due)),
        (
            "last job",
            it.last_job.map(|id| id.to_string()).unwrap_or_default(),
        ),
        (
            "last state",
            it.last_state
                .map(JobState::as_str)
                .unwrap_or_default()
                .to_owned(),
        ),
    ];
    fields.extend(it.next.iter().map(|time| ("next", out.time(*time))));
    out.record(it, &fields)
}
