//! The caller's own gpg keyring, where a name means no recipient that was imported: gpg finds the key,
//! and it becomes a recipient, through the API as any other.

use std::io::{self, ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;

use super::client::{Call, Client};
use super::print::clean;
use crate::api::recipient::{AddRecipient, RecipientAdded};
use crate::clock;
use crate::crypto::openpgp::{LONGEST_RING, PublicKey, Ring};
use crate::error::{Error, Kind, Result};
use crate::model::id::shown;
use crate::model::recipient::{Name, Recipient, named, unclear};

/// gpg may wait for another one that works on the same keyring.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of what gpg says, so much is passed on.
const LONGEST_WORDS: u64 = 600;

/// What became of a key of the caller's keyring.
pub enum Taken {
    Added(Recipient),
    /// It was a recipient, and says something new of itself.
    Renewed(Recipient),
    Known(Recipient),
}

/// The OpenPGP recipient that `name` means: one that was imported, else a key of the caller's gpg
/// keyring, which is imported then.
///
/// # Errors
/// None is meant, or several, or one that nothing can be encrypted to.
pub async fn resolve(client: &mut Client, name: &str) -> Result<Recipient> {
    let now = clock::now();
    if let Some(found) = named(name, &recipients(client).await?, now)? {
        return Ok(found.clone());
    }
    let (Taken::Added(it) | Taken::Renewed(it) | Taken::Known(it)) =
        take(client, name, None).await?;
    match it.why_not(now) {
        None => Ok(it),
        Some(_) => Err(unclear(name, &[&it], now)),
    }
}

/// Makes the one key that `name` means in the caller's keyring a recipient, whatever was imported before.
///
/// # Errors
/// It means none or several, or a new one that nothing can be encrypted to.
pub async fn take(client: &mut Client, name: &str, label: Option<String>) -> Result<Taken> {
    let key = one(name)?;
    let request = AddRecipient {
        recipient: key.armored()?,
        label,
    };
    let call = Call::new(Method::POST, "/v1/recipients").json(&request)?;
    match client.json::<RecipientAdded>(call).await {
        Ok(added) if added.renewed => Ok(Taken::Renewed(added.recipient)),
        Ok(added) => Ok(Taken::Added(added.recipient)),
        Err(why) if why.code == "recipient_known" => {
            let mut known = recipients(client).await?.into_iter();
            let same = known.find(|it| it.recipient == key.fingerprint());
            same.map(Taken::Known).ok_or(why)
        }
        Err(why) => Err(why),
    }
}

/// All recipients of the server.
pub async fn recipients(client: &mut Client) -> Result<Vec<Recipient>> {
    let mut all = Vec::new();
    let each = |items: &[Recipient]| {
        all.extend_from_slice(items);
        Ok(())
    };
    client.pages("/v1/recipients", &[], None, each).await?;
    Ok(all)
}

/// The one key that a name means in the caller's keyring, in whatever state it is.
fn one(name: &str) -> Result<PublicKey> {
    let Ring { mut keys, mut left } = export(name)?;
    match (keys.len(), keys.pop(), left.pop()) {
        (1, Some(key), _) => return Ok(key),
        (_, None, Some(why)) => return Err(why),
        (_, last, _) => keys.extend(last),
    }
    let now = clock::now();
    let found: Vec<Recipient> = keys.iter().map(|key| key.recipient(now)).collect();
    Err(unclear(name, &found.iter().collect::<Vec<_>>(), now))
}

/// What `gpg --export` has for a name, as whoever calls this program.
fn export(name: &str) -> Result<Ring> {
    Name::parse(name)?;
    let child = Command::new("gpg")
        .args(["--batch", "--no-tty", "--export-options", "export-minimal"])
        .args(["--export", "--", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let ended = match child {
        Ok(child) => watch(child),
        Err(error) => Err(error),
    };
    let (status, bytes, words) = ended.map_err(|error| not_asked(name, &error))?;
    if bytes.is_empty() {
        return Err(Error::not_found(format!(
            "`{}` means no recipient that was imported, and no key of your gpg keyring ({status}: {}); import the key's file: strongroom recipient import FILE",
            shown(name),
            clean(words.trim())
        )));
    }
    Ring::read(&bytes)
}

fn not_asked(name: &str, error: &io::Error) -> Error {
    let why = match error.kind() {
        ErrorKind::NotFound => "gpg is not on the PATH; install gnupg, or".to_owned(),
        _ => format!("gpg cannot be asked ({error});"),
    };
    Error::new(
        Kind::Unavailable,
        "gpg_missing",
        format!(
            "`{}` is to be looked for in your gpg keyring, and {why} import the key's file: strongroom recipient import FILE",
            shown(name)
        ),
    )
}

/// Reads what a child says, and ends it if it does not end.
fn watch(mut child: Child) -> io::Result<(ExitStatus, Vec<u8>, String)> {
    let (out, words) = (child.stdout.take(), child.stderr.take());
    let out = std::thread::spawn(move || read_all(out, LONGEST_RING as u64 + 1));
    let words = std::thread::spawn(move || read_all(words, LONGEST_WORDS));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "it did not answer within a minute",
            ));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    };
    let gone = |_| io::Error::other("what it said was lost");
    let words = words.join().map_err(gone)?;
    let words = String::from_utf8_lossy(&words).into_owned();
    Ok((status, out.join().map_err(gone)?, words))
}

/// Up to `most` bytes are kept; what follows is read and dropped, so that the child is not held up.
fn read_all(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let _ = from.by_ref().take(most).read_to_end(&mut kept);
        let _ = io::copy(&mut from, &mut io::sink());
    }
    kept
}
