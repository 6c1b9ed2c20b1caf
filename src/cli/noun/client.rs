//! `strongroom client`.

use std::path::PathBuf;

use hyper::Method;

use super::ListArgs;
use super::group;
use super::quota::{self, QuotaArgs};
use super::register::{self, RegisterArgs};
use crate::api::client::{Decision, Registration};
use crate::cli::bundle;
use crate::cli::cache;
use crate::cli::client::{Call, Client as Http};
use crate::cli::door::Context;
use crate::cli::files;
use crate::cli::print::Printer;
use crate::cli::span::Span;
use crate::error::{Error, Result};
use crate::model::client::{Client, ClientState};
use crate::model::id::Fingerprint;
use crate::model::org::OrgName;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Make keys in --home and register them with the server at --server
    ///
    /// The private keys stay in --home; the organization's code is the only secret that is sent. Asks
    /// to compare the server's fingerprint, unless --server-fingerprint gives it. Repeat it after an
    /// interruption: it goes on where it stopped.
    Register(RegisterArgs),
    /// Save --home into one file, encrypted with age
    Backup {
        /// The new file
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// age1…, or an SSH public key; each of them alone opens the file
        #[arg(long = "recipient", value_name = "RECIPIENT", required = true)]
        recipients: Vec<String>,
    },
    /// Put a saved home back; replaces nothing
    Restore {
        /// What `client backup` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The age identity, or SSH private key, that opens it
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
    /// For how long --home keeps deposits that it fetched, for reads while the server is away
    ///
    /// `deposit get` keeps what it opened as it came from the server, still encrypted, and uses it when
    /// nobody answers: says so, with the version and the time it was fetched. Never kept: what was stored
    /// with `put --raw` or is fetched with `get --raw`, and deposits whose retrievals are limited. A refusal
    /// deletes the copy. Reads of copies are in no audit. The server is not asked for any of this.
    SetCache {
        /// Such as 7d, 12h or 30m, from when each deposit was fetched; `off` deletes all that is kept
        #[arg(value_name = "SPAN|off", value_parser = cache_or_off)]
        span: CacheSpan,
    },
    /// All clients, or those of one organization
    List {
        /// Only this organization's
        #[arg(long, value_name = "NAME")]
        org: Option<OrgName>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// One client; without a fingerprint, the one in --home as the server knows it
    Show {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Option<Fingerprint>,
    },
    /// Let a pending client in
    Approve {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Fingerprint,
    },
    /// Turn a pending client away; --reason is shown to it
    Deny {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Fingerprint,
    },
    /// Let a disabled client in again
    Enable {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Fingerprint,
    },
    /// Refuse an active client, from its next request on, until it is enabled
    Disable {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Fingerprint,
    },
    /// Set how much a client may keep and ask for, or show that and what is used of it
    ///
    /// A limit that is not named stays; `none` takes it away. What is there already stays, also above a
    /// new limit: it can be read and deleted. Its organization's quota holds beside it.
    Quota {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Fingerprint,
        #[command(flatten)]
        limits: QuotaArgs,
    },
    /// Remove a client that owns no deposits any more; its key may then register anew
    Rm {
        /// As `client list` shows it, 64 hex digits
        #[arg(value_name = "FINGERPRINT")]
        client: Fingerprint,
    },
    /// Groups of clients, with which owners share deposits
    #[command(subcommand)]
    Group(group::Verb),
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Register(args) => register::run(args, context).await,
        Verb::Backup { output, recipients } => backup(context, &output, &recipients),
        Verb::Restore { file, identity } => restore(context, &file, &identity),
        Verb::SetCache { span } => set_cache(context, span.0),
        Verb::List { org, list } => {
            let org = org
                .map(|org| ("org", org.to_string()))
                .into_iter()
                .collect();
            let mut client = context.admin()?;
            list.run(&mut client, "/v1/clients", org, out, COLUMNS, row)
                .await
        }
        Verb::Show { client: None } => show_own(context).await,
        Verb::Show {
            client: Some(client),
        } => {
            let found: Client = context.admin()?.json(Call::get(path(client))).await?;
            out.record(&found, &fields(out, &found))
        }
        Verb::Group(verb) => group::run(verb, context).await,
        Verb::Approve { client } => decide(context, client, "approve").await,
        Verb::Deny { client } => decide(context, client, "deny").await,
        Verb::Enable { client } => decide(context, client, "enable").await,
        Verb::Disable { client } => decide(context, client, "disable").await,
        Verb::Quota { client, limits } => {
            let (whom, path) = (
                format!("client {client}"),
                format!("{}/quota", path(client)),
            );
            quota::run(limits, &whom, &path, &mut context.admin()?, out).await
        }
        Verb::Rm { client } => {
            let mut server = context.admin()?;
            out.confirm(&format!(
                "Remove client {client}? It would have to register anew."
            ))?;
            server.send(Call::new(Method::DELETE, path(client))).await?;
            out.talk(&format!("client {client} is removed"));
            Ok(())
        }
    }
}

async fn decide(context: &Context, client: Fingerprint, verb: &str) -> Result<()> {
    let request = Decision {
        reason: context.global.reason.clone(),
    };
    let call = Call::new(Method::POST, format!("{}/{verb}", path(client))).json(&request)?;
    let found: Client = context.admin()?.json(call).await?;
    let out = &context.out;
    out.talk(&format!(
        "client {client} of {} is {}",
        found.org,
        found.state.as_str()
    ));
    out.document(&found).map(|_| ())
}

async fn show_own(context: &Context) -> Result<()> {
    let mut door = context.own(false)?;
    if door.acting.is_none() {
        let home = context.home()?.dir;
        return Err(Error::invalid(
            "fingerprint",
            format!(
                "which client? Give its fingerprint, or a --home with a registered client ({} holds none)",
                home.display()
            ),
        ));
    }
    let found = own_registration(&mut door.client).await?;
    let out = &context.out;
    let mut fields = fields(out, &found.client);
    fields.push((
        "recovery recipient",
        found.recovery_recipient.clone().unwrap_or_default(),
    ));
    out.record(&found, &fields)
}

/// What the server knows of the client that asks.
pub async fn own_registration(client: &mut Http) -> Result<Registration> {
    client.json(Call::get("/v1/clients/self")).await
}

fn backup(context: &Context, output: &std::path::Path, recipients: &[String]) -> Result<()> {
    let home = context.home()?;
    if home.load()?.is_none() {
        return Err(Error::invalid(
            "home",
            format!("{} holds no client; name its --home", home.dir.display()),
        ));
    }
    let sealed = bundle::seal(&home, recipients)?;
    files::create(output, &sealed)?;
    context.out.talk(&format!(
        "{} holds all of {}; keep it, and what opens it, on another machine. Back: strongroom client restore {0} --home DIR --identity FILE",
        output.display(),
        home.dir.display()
    ));
    Ok(())
}

fn restore(context: &Context, file: &std::path::Path, identity: &std::path::Path) -> Result<()> {
    let home = context.home()?;
    let sealed = files::read(file, bundle::LONGEST)?;
    let identity = files::read(identity, files::LONGEST_SMALL_FILE)?;
    bundle::restore(&home, sealed.expose(), &identity)?;
    let dir = home.dir.display();
    context.out.talk(&format!(
        "{dir} is back; see whether the server knows it: strongroom client show --home {dir}"
    ));
    Ok(())
}

/// A span, or none for `off`.
#[derive(Clone, Copy, Debug)]
pub struct CacheSpan(Option<Span>);

fn cache_or_off(text: &str) -> Result<CacheSpan> {
    match text {
        "off" => Ok(CacheSpan(None)),
        span => register::cache_span(span).map(|span| CacheSpan(Some(span))),
    }
}

fn set_cache(context: &Context, span: Option<Span>) -> Result<()> {
    let home = context.home()?;
    let dir = home.dir.display();
    let Some(mut registered) = home.load()? else {
        return Err(Error::invalid(
            "home",
            format!("{dir} holds no client; name its --home"),
        ));
    };
    registered.cache = span;
    // Saved first: a command that runs meanwhile keeps nothing behind the deletion.
    home.save(&registered)?;
    match span {
        Some(span) => context.out.talk(&format!(
            "deposits that {dir} fetches from now on are kept, encrypted, and used for {span} while the server is away"
        )),
        None => {
            cache::forget_all(&home)?;
            context
                .out
                .talk(&format!("{dir} keeps no deposits, and those that it kept are deleted"));
        }
    }
    context.out.document(&registered).map(|_| ())
}

fn path(client: Fingerprint) -> String {
    format!("/v1/clients/{client}")
}

const COLUMNS: &[&str] = &[
    "org",
    "state",
    "description",
    "fingerprint",
    "created",
    "from",
    "deposits",
    "bytes",
];

fn row(out: &Printer, client: &Client) -> Vec<String> {
    vec![
        client.org.to_string(),
        client.state.as_str().to_owned(),
        client.description.clone(),
        client.fingerprint.to_string(),
        out.time(client.created),
        client.registered_from.clone(),
        client.deposits.to_string(),
        client.bytes.to_string(),
    ]
}

fn fields(out: &Printer, client: &Client) -> Vec<(&'static str, String)> {
    let until = match client.state {
        ClientState::Pending => out.maybe_time(client.pending_until),
        ClientState::Active | ClientState::Denied | ClientState::Disabled => String::new(),
    };
    vec![
        ("fingerprint", client.fingerprint.to_string()),
        ("id", client.id.to_string()),
        ("org", client.org.to_string()),
        ("state", client.state.as_str().to_owned()),
        ("reason", client.reason.clone().unwrap_or_default()),
        ("pending until", until),
        ("description", client.description.clone()),
        (
            "age recipient",
            client.age_recipient.clone().unwrap_or_default(),
        ),
        ("created", out.time(client.created)),
        ("registered from", client.registered_from.clone()),
        ("deposits", client.deposits.to_string()),
        ("bytes", client.bytes.to_string()),
        ("quota", client.quota.to_string()),
    ]
}
