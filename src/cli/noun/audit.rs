//! `strongroom audit`.

use std::path::PathBuf;
use std::time::Duration;

use super::ListArgs;
use super::audit_export::{self, Against};
use crate::api::audit::{ChainVerification, Segment, Segments, Verification};
use crate::cli::client::{Call, percent};
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::error::{Error, Kind, Result};
use crate::model::audit::{ChainedEvent, Outcome};

/// Reading through years of events takes a while.
const LONG: Duration = Duration::from_secs(3_600);

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Events, newest first
    List(ListArgs),
    /// Check that no event was changed, removed, inserted or cut off; exit 1 if one was
    Verify(VerifyArgs),
    /// Print all events, one JSON document a line (--json or not)
    Export(ExportArgs),
    /// List what left the store for files in the data folder's audit/
    Segments,
}

#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    /// Print this segment instead: a file as `audit segments` lists it
    #[arg(long, value_name = "FILE")]
    segment: Option<String>,
}

/// Without options: the running server's own audit.
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    /// Check this export instead; needs no server
    #[arg(long, value_name = "FILE", requires = "public_key")]
    export: Option<PathBuf>,
    /// The Ed25519 key that signs checkpoints: 64 hex digits as `audit verify --json` shows them, or
    /// a file with them
    #[arg(long, value_name = "KEY", requires = "export")]
    public_key: Option<String>,
    /// A signed checkpoint that was kept elsewhere: a last line of an earlier export (repeatable)
    #[arg(long, value_name = "FILE", requires = "export")]
    against: Vec<PathBuf>,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    if let Verb::Verify(VerifyArgs {
        export: Some(export),
        public_key: Some(key),
        against,
    }) = &verb
    {
        return report(
            &audit_export::verify(export, Against::read(key, against)?)?,
            out,
        );
    }
    let mut client = context.admin()?;
    match verb {
        Verb::List(list) => {
            list.begins_with_the_newest()?;
            list.run(&mut client, "/v1/audit", vec![], out, COLUMNS, row)
                .await
        }
        Verb::Verify(_) => {
            let found: Verification = client
                .json(Call::get("/v1/audit/verify").wait(LONG))
                .await?;
            report(&found, out)
        }
        Verb::Export(ExportArgs { segment }) => {
            let path = match segment {
                Some(file) => format!("/v1/audit/segments/{}", percent(&file)),
                None => "/v1/audit/export".to_owned(),
            };
            let mut rest = Vec::new();
            client
                .stream(Call::get(&path).wait(LONG), |piece| {
                    out.json_lines(&mut rest, piece)
                })
                .await?;
            out.json_lines(&mut rest, b"\n")
        }
        Verb::Segments => {
            let found: Segments = client.json(Call::get("/v1/audit/segments")).await?;
            let columns = &[
                "file", "chain", "first", "last", "from", "to", "bytes", "here",
            ];
            out.table(&found, &found.segments, columns, segment)
        }
    }
}

/// Shows what was found; a fault fails the command.
fn report(found: &Verification, out: &Printer) -> Result<()> {
    let columns = &[
        "chain",
        "first",
        "events",
        "proven to",
        "checkpoint",
        "fault",
        "head",
    ];
    out.table(found, &found.chains, columns, chain)?;
    match found.chains.iter().find_map(|chain| chain.fault.as_deref()) {
        None => Ok(()),
        Some(fault) => Err(Error::new(
            Kind::Internal,
            "audit_broken",
            format!(
                "the audit does not hold: {fault}; keep a copy of the data folder before anything else"
            ),
        )),
    }
}

fn segment(out: &Printer, segment: &Segment) -> Vec<String> {
    vec![
        segment.file.clone(),
        segment.chain.as_str().to_owned(),
        segment.first.to_string(),
        segment.last.to_string(),
        out.time(segment.first_time),
        out.time(segment.last_time),
        segment.bytes.to_string(),
        if segment.here { "yes" } else { "no" }.to_owned(),
    ]
}

fn chain(out: &Printer, chain: &ChainVerification) -> Vec<String> {
    vec![
        chain.chain.as_str().to_owned(),
        chain.first.to_string(),
        chain.events.to_string(),
        chain.proven_to.to_string(),
        out.maybe_time(chain.checkpoint_time),
        chain.fault.clone().unwrap_or_else(|| "none".to_owned()),
        chain.head.clone(),
    ]
}

/// On a terminal a fingerprint is cut to what tells it from others; exact elsewhere.
fn actor(out: &Printer, event: &ChainedEvent) -> String {
    let actor = &event.event.actor;
    let is_fingerprint =
        actor.name.len() == 64 && actor.name.bytes().all(|b| b.is_ascii_hexdigit());
    match actor.name.get(..16) {
        Some(start) if out.terminal && is_fingerprint => format!("{} {start}…", actor.kind),
        _ => format!("{} {}", actor.kind, actor.name)
            .trim_end()
            .to_owned(),
    }
}

const COLUMNS: &[&str] = &[
    "time", "chain", "number", "actor", "source", "action", "object", "outcome", "detail", "reason",
];

fn row(out: &Printer, event: &ChainedEvent) -> Vec<String> {
    let it = &event.event;
    let outcome = match it.outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
    };
    let object = if it.object.name.is_empty() {
        &it.object.id
    } else {
        &it.object.name
    };
    vec![
        out.time(it.time),
        event.chain.as_str().to_owned(),
        event.number.to_string(),
        actor(out, event),
        it.actor.source.clone(),
        it.action.clone(),
        format!("{} {object}", it.object.kind).trim_end().to_owned(),
        outcome.to_owned(),
        it.detail.clone(),
        it.reason.clone(),
    ]
}
