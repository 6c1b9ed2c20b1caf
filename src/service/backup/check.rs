//! A backup that is handed back: decrypted in full, its digests compared. Nothing of it is kept.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Pieces;
use crate::api::backup::VerifiedBackup;
use crate::backup::{manifest, read};
use crate::crypto::{Sha256, agefile, openpgp};
use crate::error::{Error, Result};
use crate::model::backup::Form;
use crate::model::id::InstanceId;
use crate::secret::Secret;

/// What opens this server's own backups.
pub struct Identities {
    pub age: Secret<Vec<u8>>,
    pub openpgp: Secret<Vec<u8>>,
}

/// A backup that holds.
pub struct Found {
    pub verified: VerifiedBackup,
    /// Of its manifest.
    pub binding: [u8; 32],
}

/// # Errors
/// `other_backup` where this server's identity does not open it, or it is of another instance; what the
/// reader finds.
pub fn check(pieces: Pieces, identities: &Identities, instance: InstanceId) -> Result<Found> {
    let file = Shared(Arc::new(Mutex::new(Handed {
        pieces,
        piece: Vec::new(),
        at: 0,
        sum: Sha256::new(),
        bytes: 0,
        fault: None,
    })));
    let whole = opened(file.clone(), identities);
    let mut file = file.get();
    // What the caller did wrong comes before what it looked like.
    if let Some(fault) = file.fault.take() {
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
    let sum = std::mem::take(&mut file.sum);
    Ok(Found {
        binding: manifest::binding(&manifest_bytes),
        verified: VerifiedBackup {
            id: manifest.id,
            created: manifest.created,
            fqdn: manifest.fqdn,
            form,
            bytes: file.bytes,
            sha256: hex::encode(sum.finish()),
            revision: manifest.revision,
            newest_deposit: manifest.newest_deposit,
            deposits: manifest.counts.get("deposits").copied().unwrap_or(0),
            recipients: manifest.recipients,
        },
    })
}

fn opened(mut file: Shared, identities: &Identities) -> Result<(Form, read::Whole)> {
    let mut begin = Vec::new();
    file.by_ref()
        .take(read::BEGINNING as u64)
        .read_to_end(&mut begin)
        .map_err(|error| Error::invalid("body", "the backup breaks off").because(error))?;
    let form = read::Form::of(&begin);
    let whole = BufReader::with_capacity(128 << 10, io::Cursor::new(begin).chain(file));
    match form {
        read::Form::Age => {
            let clear = agefile::reader(&identities.age, whole).map_err(not_ours)?;
            Ok((Form::Age, read::all(clear)?))
        }
        read::Form::Openpgp => {
            let clear = openpgp::reader(&identities.openpgp, whole).map_err(not_ours)?;
            Ok((Form::Gpg, read::all(clear)?))
        }
        // What is none is found out by reading it.
        read::Form::Tar | read::Form::Unknown => Ok((Form::Clear, read::all(whole)?)),
        read::Form::AgePassphrase | read::Form::AgeArmored => Err(Error::conflict(
            "other_backup",
            "this is encrypted, and not as this server encrypts its backups; decrypt it with age, and give the tar",
        )),
    }
}

fn not_ours(error: Error) -> Error {
    match error.code {
        "no_identity_matches" => Error::conflict(
            "other_backup",
            "this server's own identity does not open it: another server wrote it, or it was encrypted anew; decrypt it with age or gpg, and give the tar",
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

/// The file, for a reader that keeps it, and for what is asked afterwards.
#[derive(Clone)]
struct Shared(Arc<Mutex<Handed>>);

impl Shared {
    fn get(&self) -> MutexGuard<'_, Handed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Shared {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.get().read(into)
    }
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
