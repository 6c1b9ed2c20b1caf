//! `ktadmin`: makes a data folder; the database is inside the server.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::ssh_mgr_setup::ask_new_secret;
use super::{Line, instead, not_needed};
use crate::cli::door::{Context, Global};
use crate::cli::init::{self, Wanted};
use crate::cli::{Printer, files};
use crate::error::{Error, Result};

/// A data folder, as Key Trustee Server's command makes it
#[derive(Parser, Debug)]
#[command(name = "ktadmin", version, disable_help_subcommand = true)]
pub struct Ktadmin {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a data folder: the same as `strongroom init`, and asks for what is missing
    Init(InitArgs),
    /// Start or stop the database: not needed, it is part of the server
    Db(DbArgs),
}

#[derive(clap::Args, Debug)]
struct InitArgs {
    /// The host name by which clients reach this server
    #[arg(long, value_name = "HOST")]
    fqdn: Option<String>,
    /// A file with the passphrase of the first slot (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Make a second slot, which this file's bytes open
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file with the password of the user `superuser`; made and printed once if left out
    #[arg(long, value_name = "FILE")]
    superuser_password_file: Option<PathBuf>,
    /// The active server of which this would be the twin
    #[arg(long, value_name = "HOST", hide = true)]
    master: Option<String>,
    /// The role of a twin
    #[arg(long, hide = true)]
    passive: bool,
}

#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("way").required(true).args(["start", "stop"])))]
struct DbArgs {
    /// Accepted: the database starts with `strongroom serve`
    #[arg(long)]
    start: bool,
    /// Accepted: the database stops with the server
    #[arg(long)]
    stop: bool,
    /// Accepted: the store lies in the data folder
    #[arg(long, value_name = "DIR")]
    pg_rootdir: Option<PathBuf>,
    /// Accepted
    #[arg(long)]
    background: bool,
}

impl Line for Ktadmin {
    fn global(&mut self) -> &mut Global {
        &mut self.global
    }

    fn run(self, context: &Context) -> Result<()> {
        match self.verb {
            Verb::Init(args) => init(args, context),
            Verb::Db(args) => {
                db(&args, context);
                Ok(())
            }
        }
    }
}

fn init(args: InitArgs, context: &Context) -> Result<()> {
    if args.passive || args.master.is_some() {
        return Err(instead(
            "there is no passive twin yet; what there is: one server, and a copy of its data folder, which starts on another machine once this one is stopped (docs/operating.md, Moving the data folder)",
        ));
    }
    let missing = |what: &str, option: &str| {
        Error::invalid(
            "init",
            format!("{what} is missing, and nobody is there to ask; give {option}"),
        )
    };
    let out = &context.out;
    let fqdn = match args.fqdn {
        Some(fqdn) => fqdn,
        None => ask_fqdn(out)?.ok_or_else(|| missing("the host's name", "--fqdn HOST"))?,
    };
    let passphrase = match &args.passphrase_file {
        Some(path) => init::passphrase_bytes(path)?,
        None => ask_new_secret(out, "Passphrase that opens the server")?
            .map(init::bytes)
            .ok_or_else(|| missing("the passphrase", "--passphrase-file FILE"))?,
    };
    let wanted = Wanted {
        fqdn,
        passphrase,
        key_file: args.key_file,
        password: args
            .superuser_password_file
            .as_deref()
            .map(files::read_secret)
            .transpose()?,
    };
    init::make(wanted, &context.global, out)
}

/// The host's name, or what is typed instead; none if nobody is there to answer.
pub fn ask_fqdn(out: &Printer) -> Result<Option<String>> {
    let known = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let known = known.trim();
    let typed = out.ask_text(&format!("Host name by which clients reach it [{known}]:"))?;
    Ok(typed.map(|typed| match typed.as_str() {
        "" => known.to_owned(),
        _ => typed,
    }))
}

fn db(args: &DbArgs, context: &Context) {
    if args.start {
        not_needed(
            context,
            "db --start",
            "the database is inside the server; start that: strongroom service start",
        );
    } else {
        not_needed(
            context,
            "db --stop",
            "the database is inside the server; stop that: strongroom service stop",
        );
    }
    if let Some(folder) = &args.pg_rootdir {
        let what = format!("--pg-rootdir {}", folder.display());
        not_needed(
            context,
            &what,
            "the store lies in the data folder, live/strongroom.db",
        );
    }
    if args.background {
        not_needed(context, "--background", "nothing is started here");
    }
}
