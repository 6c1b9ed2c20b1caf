//! A backup that is handed back: decrypted in full, its digests compared. Nothing of it is kept.

use std::io::{self, BufReader, Read};

use super::Pieces;
use crate::api::backup::VerifiedBackup;
use crate::backup::{manifest, read};
use crate::crypto::{Sha256, agefile};
use crate::error::{Error, Result};
use crate::model::backup::Form;
use crate::model::id::InstanceId;
use crate::secret::Secret;

/// A backup that holds.
pub struct Found {
    pub verified: VerifiedBackup,
    /// Of its manifest.
    pub binding: [u8; 32],
}

/// # Errors
/// `other_backup` where this server's identity does not open it, or it is of another instance; what the
/// reader finds.
pub fn check(pieces: Pieces, identity: &Secret<Vec<u8>>, instance: InstanceId) -> Result<Found> {
    let mut file = Handed {
        pieces,
        piece: Vec::new(),
        at: 0,
        sum: Sha256::new(),
        bytes: 0,
        fault: None,
    };
    let whole = opened(&mut file, identity);
    // What the caller did wrong comes before what it looked like.
    if let Some(fault) = file.fault {
        return Err(fault);
    }
    let (form, whole) = whole?;
    let read::Whole {
        manifest,
        manifest_bytes,
        ..
    } = whole;
    if manifest.instance != instance {
        return Err(Error::conflict(
            "other_backup",
            format!(
                "this is a backup of instance {}; this server is {instance}",
                manifest.instance
            ),
        ));
    }
    Ok(Found {
        binding: manifest::binding(&manifest_bytes),
        verified: VerifiedBackup {
            id: manifest.id,
            created: manifest.created,
            fqdn: manifest.fqdn,
            form,
            bytes: file.bytes,
            sha256: hex::encode(file.sum.finish()),
            revision: manifest.revision,
            newest_deposit: manifest.newest_deposit,
            deposits: manifest.counts.get("deposits").copied().unwrap_or(0),
            recipients: manifest.recipients,
        },
    })
}

fn opened(file: &mut Handed, identity: &Secret<Vec<u8>>) -> Result<(Form, read::Whole)> {
    let mut begin = Vec::new();
    file.by_ref()
        .take(read::BEGINNING as u64)
        .read_to_end(&mut begin)
        .map_err(|error| Error::invalid("body", "the backup breaks off").because(error))?;
    let form = read::Form::of(&begin);
    let whole = io::Cursor::new(begin).chain(file);
    match form {
        read::Form::Age => {
            let whole = BufReader::with_capacity(128 << 10, whole);
            let clear = agefile::reader(identity, whole).map_err(not_ours)?;
            Ok((Form::Age, read::all(clear)?))
        }
        // What is none is found out by reading it.
        read::Form::Tar | read::Form::Unknown => Ok((Form::Clear, read::all(whole)?)),
        read::Form::AgePassphrase | read::Form::AgeArmored | read::Form::Openpgp => {
            Err(Error::conflict(
                "other_backup",
                "this is encrypted, and not as this server encrypts its backups; decrypt it with age or gpg, and give the tar",
            ))
        }
    }
}

fn not_ours(error: Error) -> Error {
    match error.code {
        "no_identity_matches" => Error::conflict(
            "other_backup",
            "this server's own identity does not open it: another server wrote it, or it was encrypted anew; decrypt it with age, and give the tar",
        ),
        _ => error,
    }
}

/// A file as it comes, summed up on its way.
struct Handed {
    pieces: Pieces,
    piece: Vec<u8>,
    at: usize,
    sum: Sha256,
    bytes: u64,
    fault: Option<Error>,
}

impl Read for Handed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => {
                    self.sum.update(&piece);
                    self.bytes += piece.len() as u64;
                    (self.piece, self.at) = (piece, 0);
                }
                Some(Err(error)) => {
                    self.fault = Some(error);
                    return Err(io::Error::other("the caller broke off"));
                }
            }
        }
        let taken = into.len().min(self.piece.len() - self.at);
        into[..taken].copy_from_slice(&self.piece[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}
