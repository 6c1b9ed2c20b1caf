//! `strongroom deposit get`: fetched, opened here, handed out; or, while the server is away, the copy
//! that the home kept. What counts as fetched is not lost by a failure afterwards.

use std::path::{Path, PathBuf};

use hyper::HeaderMap;
use serde::Serialize;

use super::deposit::Target;
use crate::api::deposit::{DEPOSIT_ID, ENCRYPTION, RETRIEVALS_LEFT, VERSION};
use crate::cli::cache::{self, Cache, Found, with_version};
use crate::cli::client::Call;
use crate::cli::door::{Context, Door};
use crate::cli::files;
use crate::cli::print;
use crate::clock::{self, Timestamp};
use crate::crypto::{agefile, random};
use crate::error::{Error, Result};
use crate::model::deposit::Encryption;
use crate::model::id::shown;
use crate::secret::Secret;

#[derive(clap::Args, Debug)]
pub struct GetArgs {
    #[command(flatten)]
    target: Target,
    /// This version, instead of the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// Write a file, readable by its owner alone, instead of stdout (`-`: stdout, whatever the bytes)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Hand out the bytes as they are stored
    #[arg(long, conflicts_with = "identity")]
    raw: bool,
    /// Open with this age identity or SSH private key, instead of the home's
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// A deposit's bytes as they are stored.
struct Answer {
    encryption: String,
    version: String,
    id: String,
    stored: Secret<Vec<u8>>,
    source: Source,
}

enum Source {
    Server(HeaderMap),
    Copy(Kept),
}

/// A copy that stands for the server's answer: since when, and why.
#[derive(Serialize)]
struct Kept {
    fetched: Timestamp,
    away: String,
}

/// With `--json`, where the bytes go into a file.
#[derive(Serialize)]
struct Outcome<'a> {
    deposit: String,
    version: Option<u32>,
    file: String,
    bytes: usize,
    /// Null: it came from the server.
    kept: Option<&'a Kept>,
}

impl Answer {
    fn is_limited(&self) -> bool {
        matches!(&self.source, Source::Server(headers) if headers.contains_key(RETRIEVALS_LEFT))
    }
}

pub async fn get(args: GetArgs, context: &Context) -> Result<()> {
    let (mut door, path) = args.target.open(context)?;
    check_before(&args, context)?;
    let answer = fetch(&args, &mut door, &path, context).await?;
    let handed_out = open(&args, &answer, context).and_then(|opened| {
        if let (Some(cache), Source::Server(headers)) = (&door.cache, &answer.source) {
            keep(&args, cache, &path, headers, &answer, context);
        }
        hand_out(
            &args,
            &answer,
            opened.as_ref().unwrap_or(&answer.stored),
            context,
        )
    });
    match handed_out {
        Err(error) if answer.is_limited() => Err(rescued(&error, &args, &answer, context)),
        result => result,
    }
}

/// What would fail afterwards fails before: a retrieval may be one of a few.
fn check_before(args: &GetArgs, context: &Context) -> Result<()> {
    if let Some(path) = file_of(args) {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::metadata(folder).map_err(|error| files::cannot("write", path, error))?;
    }
    if args.identity.is_some() && !args.raw {
        identity(args, context)?;
    }
    Ok(())
}

/// The file that was asked for; none is stdout.
fn file_of(args: &GetArgs) -> Option<&Path> {
    args.output
        .as_deref()
        .filter(|path| *path != Path::new("-"))
}

/// From the server; from what the home keeps, if the server is away.
async fn fetch(args: &GetArgs, door: &mut Door, path: &str, context: &Context) -> Result<Answer> {
    // Not asked for twice: each time may be one of a few.
    let call = Call::get(with_version(path, args.version)).once();
    let reply = match (door.client.send(call).await, &door.cache) {
        (Err(error), Some(cache)) if cache::is_away(&error) => {
            return copy(args, cache, path, error, context);
        }
        (reply, _) => reply?,
    };
    let text = |name: &str| reply.header(name).map(shown);
    if let Some(left) = text(RETRIEVALS_LEFT) {
        context
            .out
            .talk(&format!("it may be fetched {left} more times"));
    }
    Ok(Answer {
        encryption: text(ENCRYPTION).unwrap_or_else(|| "none".to_owned()),
        version: text(VERSION).unwrap_or_default(),
        id: text(DEPOSIT_ID).unwrap_or_default(),
        stored: Secret::new(reply.body),
        source: Source::Server(reply.headers),
    })
}

/// The copy that the home kept.
///
/// # Errors
/// Why the server gave none; with a hint, if there is a copy that is too old.
fn copy(
    args: &GetArgs,
    cache: &Cache,
    path: &str,
    away: Error,
    context: &Context,
) -> Result<Answer> {
    match cache.find(path, args.version, clock::now()) {
        Found::Kept { head, body } => {
            context.out.warn(&format!(
                "the server is away; this is version {} as fetched {}",
                head.version, head.fetched
            ));
            context.out.detail(&away.public);
            Ok(Answer {
                encryption: Encryption::Age.as_str().to_owned(),
                version: head.version.to_string(),
                id: head.id.to_string(),
                stored: Secret::new(body),
                source: Source::Copy(Kept {
                    fetched: head.fetched,
                    away: away.public,
                }),
            })
        }
        Found::TooOld(head) => Err(with_more(
            &away,
            &format!(
                "the copy of version {} that was fetched {} is too old to be used ({} by this machine's clock)",
                head.version,
                head.fetched,
                cache.span()
            ),
        )),
        Found::Nothing => Err(away),
    }
}

/// Keeps what was opened here. What cannot be kept is said, and fails nothing.
fn keep(
    args: &GetArgs,
    cache: &Cache,
    path: &str,
    headers: &HeaderMap,
    answer: &Answer,
    context: &Context,
) {
    // What is not opened may be anything; what is limited is looked at, so that no copy of before stays.
    if args.raw && !answer.is_limited() {
        return;
    }
    let asked = with_version(path, args.version);
    if let Err(error) = cache.keep(&asked, headers, answer.stored.expose(), clock::now()) {
        context.out.warn(&format!(
            "no copy is kept for when the server is away: {error}"
        ));
    }
}

/// The plaintext; none where the bytes are handed out as they are stored.
fn open(args: &GetArgs, answer: &Answer, context: &Context) -> Result<Option<Secret<Vec<u8>>>> {
    match answer.encryption.as_str() {
        "age" if !args.raw => {
            agefile::decrypt(&identity(args, context)?, answer.stored.expose()).map(Some)
        }
        "age" | "none" => Ok(None),
        other => Err(Error::invalid(
            "encryption",
            format!(
                "the deposit is encrypted by `{}`, which this program does not know; --raw hands it out as it is",
                shown(other)
            ),
        )),
    }
}

fn hand_out(
    args: &GetArgs,
    answer: &Answer,
    bytes: &Secret<Vec<u8>>,
    context: &Context,
) -> Result<()> {
    let Some(path) = file_of(args) else {
        return context.out.bytes(bytes.expose(), args.output.is_some());
    };
    files::replace(path, bytes.expose())?;
    let outcome = Outcome {
        deposit: args.target.which.to_string(),
        version: answer.version.parse().ok(),
        file: path.display().to_string(),
        bytes: bytes.expose().len(),
        kept: match &answer.source {
            Source::Server(_) => None,
            Source::Copy(kept) => Some(kept),
        },
    };
    context.out.talk(&format!(
        "{} holds version {} of {}: {} bytes",
        outcome.file, answer.version, outcome.deposit, outcome.bytes
    ));
    context.out.document(&outcome).map(|_| ())
}

/// A retrieval that counted is not lost: its bytes, as they are stored, are left in a new file.
fn rescued(error: &Error, args: &GetArgs, answer: &Answer, context: &Context) -> Error {
    let name = format!(
        "{}.v{}.{}",
        answer.id,
        answer.version,
        hex::encode(random::<4>())
    );
    let beside = file_of(args).map(|path| path.with_file_name(&name));
    let at_home = context.home().map(|home| home.dir.join(&name)).ok();
    let here = Some(PathBuf::from(&name));
    let left = [beside, at_home, here]
        .into_iter()
        .flatten()
        .find(|path| files::create(path, answer.stored.expose()).is_ok());
    let more = match (left, answer.encryption.as_str()) {
        (Some(path), "age") => format!(
            "this was one of its retrievals, so what came lies, still encrypted, in {0}: age -d -i IDENTITY {0}",
            path.display()
        ),
        (Some(path), _) => format!(
            "this was one of its retrievals, so what came lies as it was stored in {}",
            path.display()
        ),
        (None, _) => {
            "this was one of its retrievals, and what came could not be left anywhere".to_owned()
        }
    };
    with_more(error, &more)
}

fn with_more(error: &Error, more: &str) -> Error {
    // A reader that went away must hear of it, too.
    let code = if error.code == print::CLOSED {
        "output"
    } else {
        error.code
    };
    let mut told = Error::new(error.kind, code, format!("{error}; {more}"));
    told.field = error.field;
    told.retry_after = error.retry_after;
    told
}

fn identity(args: &GetArgs, context: &Context) -> Result<Secret<Vec<u8>>> {
    if let Some(path) = &args.identity {
        return files::read(path, files::LONGEST_SMALL_FILE);
    }
    let home = context.home()?;
    if home.has_identity() {
        return home.identity();
    }
    Err(Error::invalid(
        "identity",
        format!(
            "the deposit is encrypted with age, and {} holds no identity; give --identity FILE, or --raw to have it as it is stored",
            home.dir.display()
        ),
    ))
}
