//! A backup on its way out: tar, encrypted as a whole, in pieces. Nothing of it is kept.

use std::io::{self, Write};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::draft::Draft;
use crate::api::backup::CreateBackup;
use crate::backup::write::write;
use crate::crypto::agefile;
use crate::error::{Error, Result};
use crate::model::backup::Form;

/// What leaves at once.
const PIECE: usize = 256 << 10;
/// Whoever takes nothing for so long has gone.
const STALL: Duration = Duration::from_secs(120);

/// All for whom it is encrypted.
pub fn recipients(request: &CreateBackup, drill: String) -> Vec<String> {
    let mut all = request.recipients.clone();
    all.push(drill);
    all
}

/// Writes the whole of it into `to`.
///
/// # Errors
/// `backup_not_taken` if nobody takes it.
pub fn leave(
    draft: &Draft,
    recipients: &[String],
    to: &Sender<Result<Vec<u8>>>,
    handle: &Handle,
) -> Result<()> {
    let mut out = Out {
        to,
        handle,
        piece: Vec::with_capacity(PIECE),
    };
    let tar = |to: &mut dyn Write| {
        let created = draft.manifest.created;
        write(&draft.json, &draft.database_key, &draft.parts, created, to)
    };
    let written = match draft.form {
        Form::Clear => tar(&mut out),
        Form::Age => {
            let mut sealed = agefile::writer(recipients, &mut out)?;
            tar(&mut sealed).and_then(|()| sealed.finish().map(drop))
        }
    };
    written.and_then(|()| out.send()).map_err(|error| {
        Error::unavailable(
            "backup_not_taken",
            format!("the backup did not leave in full: {error}"),
        )
    })
}

struct Out<'a> {
    to: &'a Sender<Result<Vec<u8>>>,
    handle: &'a Handle,
    piece: Vec<u8>,
}

impl Out<'_> {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sending = timeout(STALL, self.to.send(Ok(piece)));
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

impl Write for Out<'_> {
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
