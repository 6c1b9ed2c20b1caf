//! `strongroom client register`: keys first, then the pinned server, then the request; each step is
//! on disk before the next, so that an interrupted registration goes on where it stopped.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Method;
use serde::Serialize;

use super::client::own_registration;
use crate::api::client::{Register, Registration, SignedRecipient};
use crate::cli::client::{Call, Client};
use crate::cli::connect::unreachable;
use crate::cli::door::{Context, normal_url, server_address, tls_route};
use crate::cli::files;
use crate::cli::home::{self, Home, Keys, Registered};
use crate::cli::span::Span;
use crate::clock::Timestamp;
use crate::crypto::{tls, x509};
use crate::error::{Error, Kind, Result};
use crate::model::client::ClientState;
use crate::model::id::Fingerprint;
use crate::model::org::OrgName;

const PROBE: Duration = Duration::from_secs(10);

/// What `client register` takes.
#[derive(clap::Args, Debug)]
pub struct RegisterArgs {
    /// The organization to register with
    #[arg(long, value_name = "NAME")]
    org: OrgName,
    /// A file with the organization's code (`-`: stdin); without it, the client waits for approval
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// What lists of clients show [default: the host's name]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Keep deposits that `deposit get` opened, still encrypted, for so long (such as 7d, 12h), and use
    /// them while the server is away; `client set-cache` changes it [default: nothing is kept]
    #[arg(long, value_name = "SPAN", value_parser = cache_span)]
    cache: Option<Span>,
}

/// What a kept deposit may be used for at most.
const LONGEST_CACHE: i64 = 366 * Timestamp::DAY;

/// For how long fetched deposits are kept.
pub fn cache_span(text: &str) -> Result<Span> {
    let span: Span = text.parse()?;
    match (1..=LONGEST_CACHE).contains(&span.micros()) {
        true => Ok(span),
        false => Err(Error::invalid(
            "cache",
            "deposits are kept for 1m to 366d; to keep none: strongroom client set-cache off",
        )),
    }
}

/// With `--json`.
#[derive(Serialize)]
struct Outcome<'a> {
    fingerprint: Fingerprint,
    org: &'a OrgName,
    state: ClientState,
    pending_until: Option<Timestamp>,
    server: &'a str,
    server_fingerprint: Fingerprint,
    recipient: &'a str,
    recovery_recipient: Option<&'a str>,
    cache: Option<Span>,
    home: String,
    identity: String,
}

pub async fn run(args: RegisterArgs, context: &Context) -> Result<()> {
    let server = context.global.server.as_deref().ok_or_else(|| {
        Error::invalid(
            "server",
            "with which server? Give --server https://HOST:PORT",
        )
    })?;
    let server = normal_url(server)?;
    let code = args
        .auth_file
        .as_deref()
        .map(files::read_secret)
        .transpose()?;
    let home = context.home()?;
    let before = home.load()?;
    if let Some(other) = before
        .as_ref()
        .filter(|it| it.registered && (it.server != server || it.org != args.org))
    {
        return Err(occupied(&home, &other.server, &other.org));
    }
    let host = host_name();
    let (keys, recipient) = home.make_keys(&host)?;
    let pinned = match context.global.server_fingerprint {
        Some(given) => given,
        None => match before.as_ref().filter(|it| it.server == server) {
            Some(confirmed) => confirmed.server_fingerprint,
            None => confirm_server(context, &server, &args.org)?,
        },
    };
    let config = tls::client_config(tls::Trust::Pinned(pinned), Some(keys.for_tls()))?;
    let mut client = context.client(tls_route(&server, config)?, None);
    keep_ca(&home, &mut client, pinned).await?;

    let mut registered = Registered::new(server, args.org, &keys, pinned, recipient);
    registered.cache = args.cache.or(before.as_ref().and_then(|it| it.cache));
    let known = match &before {
        Some(_) => known_already(&mut client, &home, &registered).await?,
        None => None,
    };
    let registration = match known {
        Some(found) => {
            context.out.talk(&format!(
                "{} is registered with {} as a client of {} already",
                home.dir.display(),
                registered.server,
                registered.org
            ));
            found
        }
        None => {
            let request = Register {
                org: registered.org.clone(),
                auth_code: code.map(|code| code.expose().clone()),
                description: args.description.unwrap_or(host),
                recipient: Some(sign(&keys, &registered.recipient)?),
            };
            if before.is_none_or(|it| !it.registered) {
                // Before the request, so that a lost answer loses no pinned server.
                home.save(&registered)?;
            }
            send(&mut client, &home, &registered, &request).await?
        }
    };
    registered.recovery_recipient = registration.recovery_recipient.clone();
    registered.registered = true;
    home.save(&registered)?;
    tell(context, &home, &registered, &registration)
}

/// Registers. A refusal because the key is registered is none, if it is registered so.
async fn send(
    client: &mut Client,
    home: &Home,
    registered: &Registered,
    request: &Register,
) -> Result<Registration> {
    let call = Call::new(Method::POST, "/v1/clients").json(request)?;
    match client.json(call).await {
        Err(taken) if taken.kind == Kind::Conflict => {
            known_already(client, home, registered).await?.ok_or(taken)
        }
        other => other,
    }
}

fn occupied(home: &Home, server: &str, org: &OrgName) -> Error {
    Error::conflict(
        "already_registered",
        format!(
            "{} is registered with {server} as a client of {org}; name another --home for another registration",
            home.dir.display()
        ),
    )
}

/// What the server knows of this key; none if nothing, as after an interrupted or removed
/// registration.
async fn known_already(
    client: &mut Client,
    home: &Home,
    registered: &Registered,
) -> Result<Option<Registration>> {
    match own_registration(client).await {
        Ok(found) if found.client.org == registered.org => Ok(Some(found)),
        Ok(found) => Err(occupied(home, &registered.server, &found.client.org)),
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Unauthenticated) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The recipient, vouched for by the certificate's key.
fn sign(keys: &Keys, recipient: &str) -> Result<SignedRecipient> {
    let statement = x509::recipient_statement(keys.fingerprint, recipient);
    let signature = x509::sign_with_key_pem(&keys.key, &statement)?;
    Ok(SignedRecipient {
        recipient: recipient.to_owned(),
        signature: BASE64.encode(signature),
    })
}

/// Keeps the instance identity's certificate for curl, if it is the pinned one.
async fn keep_ca(home: &Home, client: &mut Client, pinned: Fingerprint) -> Result<()> {
    let pem = client.send(Call::get("/v1/server/ca.pem")).await?.body;
    let is_pinned = std::str::from_utf8(&pem)
        .is_ok_and(|pem| home::fingerprint_of_pem(pem).is_ok_and(|found| found == pinned));
    if !is_pinned {
        return Err(Error::denied(
            "server_fingerprint",
            format!("the server gave a ca.pem that is not of the pinned identity {pinned}"),
        ));
    }
    files::replace(&home.file(home::SERVER_CA), &pem)
}

/// Shows what the server presents, and has a person compare it. `--yes` does not answer this.
fn confirm_server(context: &Context, server: &str, org: &OrgName) -> Result<Fingerprint> {
    let (host, port) = server_address(server)?;
    let unreachable = |why: std::io::Error| unreachable(&host, port, &why.to_string());
    let mut stream = connect(&host, port).map_err(unreachable)?;
    stream
        .set_read_timeout(Some(PROBE))
        .and_then(|()| stream.set_write_timeout(Some(PROBE)))
        .map_err(unreachable)?;
    let shown = tls::probe(&host, &mut stream)?.identity.ok_or_else(|| {
        Error::denied("server_fingerprint", format!(
            "{server} shows no instance identity that could be pinned; see whether this is the client listener of a Strongroom server (port 11371)"
        ))
    })?;
    context.out.warn(&format!(
        "{server} shows this server fingerprint:\n  {shown}\nCompare it with what `strongroom status` shows on the server."
    ));
    match context.out.ask("Are they the same?")? {
        Some(true) => Ok(shown),
        Some(false) => Err(Error::denied(
            "not_confirmed",
            "not confirmed; nothing was sent. The keys that were made stay for the next time",
        )),
        None => Err(Error::invalid(
            "server_fingerprint",
            format!(
                "nobody is there to compare the fingerprint; look it up on the server (strongroom status) and type:\n  strongroom client register --server {server} --org {org} --server-fingerprint HEX"
            ),
        )),
    }
}

/// The first of the host's addresses that answers.
fn connect(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PROBE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tell(
    context: &Context,
    home: &Home,
    registered: &Registered,
    registration: &Registration,
) -> Result<()> {
    let client = &registration.client;
    let dir = home.dir.display();
    let outcome = Outcome {
        fingerprint: registered.fingerprint,
        org: &registered.org,
        state: client.state,
        pending_until: client
            .pending_until
            .filter(|_| client.state == ClientState::Pending),
        server: &registered.server,
        server_fingerprint: registered.server_fingerprint,
        recipient: &registered.recipient,
        recovery_recipient: registered.recovery_recipient.as_deref(),
        cache: registered.cache,
        home: dir.to_string(),
        identity: home.file(home::IDENTITY).display().to_string(),
    };
    let out = &context.out;
    out.record(
        &outcome,
        &[
            ("fingerprint", outcome.fingerprint.to_string()),
            ("org", outcome.org.to_string()),
            ("state", outcome.state.as_str().to_owned()),
            ("pending until", out.maybe_time(outcome.pending_until)),
            ("server", outcome.server.to_owned()),
            ("server fingerprint", outcome.server_fingerprint.to_string()),
            ("recipient", outcome.recipient.to_owned()),
            (
                "recovery recipient",
                outcome.recovery_recipient.unwrap_or_default().to_owned(),
            ),
            (
                "cache",
                outcome.cache.map(|it| it.to_string()).unwrap_or_default(),
            ),
            ("identity", outcome.identity.clone()),
        ],
    )?;
    out.talk(&match client.state {
        ClientState::Active => "The client is active: strongroom deposit put NAME FILE stores its first deposit.".to_owned(),
        ClientState::Pending => format!(
            "The client waits for its approval; an administrator runs on the server: strongroom client approve {}",
            outcome.fingerprint
        ),
        ClientState::Denied | ClientState::Disabled => format!(
            "The client is {} and may do nothing; ask the server's administrators.",
            outcome.state.as_str()
        ),
    });
    out.talk(&format!(
        "Its identity lies in {}. Without it nothing opens that this client encrypts{}; save it now:\n  strongroom client backup --home {dir} --output FILE --recipient age1…",
        outcome.identity,
        if outcome.recovery_recipient.is_some() { ", but for the holder of the recovery recipient" } else { "" }
    ));
    Ok(())
}

/// What this machine calls itself.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(64)
        .collect();
    if name.is_empty() {
        "client".to_owned()
    } else {
        name
    }
}
