//! `supervisorctl`, for the services of Key Manager: one process here.

use clap::{Parser, Subcommand};

use super::{Line, not_needed};
use crate::cli::door::{Context, Global};
use crate::cli::{config, service};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::model::id::shown;

/// Start and stop, as Key Manager's operators type it; the same as `strongroom service`
#[derive(Parser, Debug)]
#[command(name = "supervisorctl", version, disable_help_subcommand = true)]
pub struct Supervisorctl {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Start the server
    Start(Names),
    /// Stop the server
    Stop(Names),
    /// Stop the server, and start it again
    Restart(Names),
    /// Say what runs
    Status {
        /// frontend: and backend: (part of one server); all of them if left out
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the end of the server's log
    Tail(Names),
}

#[derive(clap::Args, Debug)]
struct Names {
    /// frontend:, backend: or all
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// The two parts that the old names stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Frontend,
    Backend,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
        }
    }
}

impl Line for Supervisorctl {
    fn global(&mut self) -> &mut Global {
        &mut self.global
    }

    fn run(self, context: &Context) -> Result<()> {
        let Self { global: _, verb } = self;
        match verb {
            Verb::Status { names } => status(&names, context),
            Verb::Start(names) => on(
                &names,
                service::Verb::Start(service::StartArgs::default()),
                context,
            ),
            Verb::Stop(names) => on(&names, service::Verb::Stop, context),
            Verb::Restart(names) => on(
                &names,
                service::Verb::Restart(service::StartArgs::default()),
                context,
            ),
            Verb::Tail(names) => on(
                &names,
                service::Verb::Tail(service::TailArgs::default()),
                context,
            ),
        }
    }
}

/// The whole server, once, if one of the names means a part of it.
fn on(names: &Names, verb: service::Verb, context: &Context) -> Result<()> {
    let parts = parts(&names.names, context)?;
    if parts.is_empty() {
        return Ok(());
    }
    if parts.len() == 1 && !matches!(verb, service::Verb::Tail(_)) {
        context
            .out
            .talk("frontend and backend are one process here: this is for the whole server");
    }
    service::run(verb, &context.global, &context.out)
}

/// Which parts are meant; programs of the original that are part of the server are named and left out.
fn parts(names: &[String], context: &Context) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for name in names {
        let (group, program) = name.split_once(':').unwrap_or((name, ""));
        if ["api-executor", "host-executor", "graphfrontend"].contains(&program) {
            not_needed(context, name, "it is part of the server");
            continue;
        }
        match group {
            _ if !["", "*"].contains(&program) => {
                return Err(Error::invalid(
                    "name",
                    format!("`{}` is no program here", shown(name)),
                ));
            }
            "all" => parts.extend([Part::Frontend, Part::Backend]),
            "frontend" => parts.push(Part::Frontend),
            "backend" => parts.push(Part::Backend),
            "graphupdate" | "redis" => not_needed(context, name, "it is part of the server"),
            _ => {
                return Err(Error::invalid(
                    "name",
                    format!(
                        "`{}` is no service here; there are frontend:, backend: and all",
                        shown(name)
                    ),
                ));
            }
        }
    }
    parts.sort_by_key(|part| part.name());
    parts.dedup();
    Ok(parts)
}

fn status(names: &[String], context: &Context) -> Result<()> {
    let all = ["all".to_owned()];
    let parts = parts(if names.is_empty() { &all } else { names }, context)?;
    let runs = service::runs(&context.global)?.is_some();
    let frontend = config::read(&Folder::new(context.data_dir())).map(|it| it.roles.frontend);
    let mut lines = Vec::new();
    for part in parts {
        let on = runs && (part == Part::Backend || *frontend.as_ref().unwrap_or(&true));
        lines.push((part.name(), if on { "RUNNING" } else { "STOPPED" }));
    }
    if context.out.json {
        let states: serde_json::Map<String, serde_json::Value> = lines
            .iter()
            .map(|(name, state)| ((*name).to_owned(), (*state).into()))
            .collect();
        context.out.document(&states)?;
    } else {
        for (name, state) in lines {
            context.out.line(&format!("{name} {state}"))?;
        }
    }
    if runs {
        return Ok(());
    }
    Err(Error::unavailable(
        "not_running",
        "the server does not run; start it: strongroom service start",
    ))
}
