//! A backup on its way out: tar, encrypted as a whole, in pieces. Nothing of it is kept.

use std::io::{self, Write};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::audience::Audience;
use super::draft::Draft;
use crate::backup::write::write;
use crate::crypto::agefile;
use crate::crypto::openpgp::{self, PublicKey};
use crate::error::{Error, Result};

/// What leaves at once.
const PIECE: usize = 256 << 10;
/// Whoever takes nothing for so long has gone.
const STALL: Duration = Duration::from_secs(120);

/// The server's own, to whom each backup is encrypted, too.
pub enum Drill {
    Age(String),
    Openpgp(Box<PublicKey>),
}

impl Drill {
    /// What the manifest calls it.
    pub fn told(&self) -> String {
        match self {
            Self::Age(recipient) => recipient.clone(),
            Self::Openpgp(key) => key.fingerprint(),
        }
    }
}

/// Writes the whole of it to whoever asked for it.
///
/// # Errors
/// `backup_not_taken` if nobody takes it.
pub fn leave(
    draft: &Draft,
    audience: Audience,
    drill: Drill,
    to: &Sender<Result<Vec<u8>>>,
    handle: &Handle,
) -> Result<()> {
    let out = Out {
        to: to.clone(),
        handle: handle.clone(),
        piece: Vec::with_capacity(PIECE),
    };
    let mut out = sealed(draft, audience, drill, out)?.map_err(not_taken)?;
    out.send().map_err(not_taken)
}

/// Writes the whole of it, encrypted, into `to`, and gives that back; within, what writing met.
///
/// # Errors
/// One that it cannot be encrypted to.
pub fn sealed<W: Write + Send + 'static>(
    draft: &Draft,
    audience: Audience,
    drill: Drill,
    mut to: W,
) -> Result<io::Result<W>> {
    let created = draft.manifest.created;
    let tar =
        |to: &mut dyn Write| write(&draft.json, &draft.database_key, &draft.parts, created, to);
    Ok(match (audience, drill) {
        (Audience::Age(mut recipients), Drill::Age(drill)) => {
            recipients.push(drill);
            let mut sealed = agefile::writer(&recipients, to)?;
            tar(&mut sealed).and_then(|()| sealed.finish())
        }
        (Audience::Openpgp(mut keys), Drill::Openpgp(drill)) => {
            keys.push(*drill);
            let mut sealed = openpgp::writer(&keys, created, to)?;
            tar(&mut sealed).and_then(|()| sealed.finish())
        }
        (Audience::Passphrase(passphrase), _) => {
            let mut sealed = agefile::passphrase_writer(&passphrase, to)?;
            tar(&mut sealed).and_then(|()| sealed.finish())
        }
        (Audience::Nobody, _) => tar(&mut to).map(|()| to),
        (Audience::Age(_) | Audience::Openpgp(_), _) => {
            return Err(Error::internal("a backup is verified by another key"));
        }
    })
}

fn not_taken(error: io::Error) -> Error {
    Error::unavailable(
        "backup_not_taken",
        format!("the backup did not leave in full: {error}"),
    )
}

struct Out {
    to: Sender<Result<Vec<u8>>>,
    handle: Handle,
    piece: Vec<u8>,
}

impl Out {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // The clock of a timeout is the runtime's, and this may be any thread.
        let sending = async { timeout(STALL, self.to.send(Ok(piece))).await };
        match self.handle.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::other("whoever asked for it has gone")),
            Err(_) => Err(io::Error::other(format!(
                "whoever asked for it took nothing for {} s",
                STALL.as_secs()
            ))),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = room.min(bytes.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
