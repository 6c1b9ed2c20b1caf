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
use crate::crypto::openpgp::{LONGEST_RING, Ring};
use crate::error::{Error, Kind, Result};
use crate::model::id::shown;
use crate::model::recipient::{Name, Recipient, named, unclear};

/// gpg may wait for another one that works on the same keyring.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of what gpg says, so much is passed on.
const LONGEST_WORDS: u64 = 600;

/// The OpenPGP recipient that `name` means: one that was imported, else a key of the caller's gpg
/// keyring, which is imported then.
///
/// # Errors
/// None is meant, or several, or one that nothing can be encrypted to.
pub async fn resolve(client: &mut Client, name: &str) -> Result<Recipient> {
    let now = clock::now();
    let known = recipients(client).await?;
    if let Some(found) = named(name, &known, now)? {
        return Ok(found.clone());
    }
    let ring = one(name)?;
    let Some(key) = ring.keys.first() else {
        return Err(Error::internal("a ring of one key without a key"));
    };
    let it = key.recipient(now);
    if it.why_not(now).is_some() {
        return Err(unclear(name, &[&it], now));
    }
    let request = AddRecipient {
        recipient: key.armored()?,
        label: None,
    };
    let call = Call::new(Method::POST, "/v1/recipients").json(&request)?;
    match client.json::<RecipientAdded>(call).await {
        Ok(added) => Ok(added.recipient),
        // By another name, or by someone else meanwhile.
        Err(why) if why.code == "recipient_known" => {
            let known = recipients(client).await?;
            let same = known.into_iter().find(|one| one.recipient == it.recipient);
            same.ok_or(why)
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
///
/// # Errors
/// gpg is not there or does not answer; it has no such key, or several.
pub fn one(name: &str) -> Result<Ring> {
    let mut ring = export(name)?;
    match (ring.keys.len(), ring.left.pop()) {
        (1, _) => Ok(ring),
        (0, Some(why)) => Err(why),
        _ => {
            let now = clock::now();
            let found: Vec<Recipient> = ring.keys.iter().map(|key| key.recipient(now)).collect();
            Err(unclear(name, &found.iter().collect::<Vec<_>>(), now))
        }
    }
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
