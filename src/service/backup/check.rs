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
    /// Of the one that is being taken.
    pub passphrase: Option<Arc<Secret<String>>>,
}

/// A backup that holds.
pub struct Found {
    pub verified: VerifiedBackup,
    /// Of its manifest.
    pub binding: [u8; 32],
}

/// A backup that comes from a caller.
///
/// # Errors
/// As `check`; what the caller did wrong.
pub fn check_pieces(
    pieces: Pieces,
    identities: &Identities,
    instance: InstanceId,
) -> Result<Found> {
    handed(pieces, |from| check(from, identities, instance))
}

/// The same, opened, for whatever reads its tar.
///
/// # Errors
/// As `opened`; what the caller did wrong.
pub fn opened_pieces<T>(
    pieces: Pieces,
    identities: &Identities,
    then: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    handed(pieces, |from| {
        opened(from, identities, |_, clear| then(clear))
    })
}

fn handed<T>(pieces: Pieces, then: impl FnOnce(Handed) -> Result<T>) -> Result<T> {
    let fault = Arc::new(Mutex::new(None));
    let from = Handed {
        pieces,
        piece: Vec::new(),
        at: 0,
        fault: Arc::clone(&fault),
    };
    let found = then(from);
    // That comes before what it looked like.
    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    fault.map_or(found, Err)
}

/// # Errors
/// `other_backup` where this server's identity does not open it, or it is of another instance; what the
/// reader finds.
pub fn check(
    from: impl Read + Send + 'static,
    identities: &Identities,
    instance: InstanceId,
) -> Result<Found> {
    let summed = Summed(Arc::new(Mutex::new(Sum {
        from: Box::new(from),
        sum: Sha256::new(),
        bytes: 0,
    })));
    let whole = opened(summed.clone(), identities, |form, clear| {
        Ok((form, read::all(clear)?))
    });
    let mut file = summed.get();
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

/// Finds out what a backup is encrypted with, opens it, and hands its tar on.
pub fn opened<T>(
    mut file: impl Read + Send + 'static,
    identities: &Identities,
    then: impl FnOnce(Form, &mut dyn Read) -> Result<T>,
) -> Result<T> {
    let mut begin = Vec::new();
    file.by_ref()
        .take(read::BEGINNING as u64)
        .read_to_end(&mut begin)
        .map_err(|error| Error::invalid("body", "the backup breaks off").because(error))?;
    let form = read::Form::of(&begin);
    let mut whole = BufReader::with_capacity(128 << 10, io::Cursor::new(begin).chain(file));
    if form == read::Form::AgePassphrase
        && let Some(passphrase) = &identities.passphrase
    {
        return then(
            Form::Age,
            &mut agefile::passphrase_reader(passphrase, whole)?,
        );
    }
    match form {
        read::Form::Age => {
            let clear = agefile::reader(&identities.age, whole);
            then(Form::Age, &mut clear.map_err(not_ours)?)
        }
        read::Form::Openpgp => {
            let clear = openpgp::reader(&identities.openpgp, whole);
            then(Form::Gpg, &mut clear.map_err(not_ours)?)
        }
        // What is none is found out by reading it.
        read::Form::Tar | read::Form::Unknown => then(Form::Clear, &mut whole),
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

/// What is read, summed up on its way; for a reader that keeps it, and for what is asked afterwards.
#[derive(Clone)]
struct Summed(Arc<Mutex<Sum>>);

struct Sum {
    from: Box<dyn Read + Send>,
    sum: Sha256,
    bytes: u64,
}

impl Summed {
    fn get(&self) -> MutexGuard<'_, Sum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Summed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut file = self.get();
        let read = file.from.read(into)?;
        file.sum.update(&into[..read]);
        file.bytes += read as u64;
        Ok(read)
    }
}

/// A file as it comes.
struct Handed {
    pieces: Pieces,
    piece: Vec<u8>,
    at: usize,
    fault: Arc<Mutex<Option<Error>>>,
}

impl Read for Handed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => (self.piece, self.at) = (piece, 0),
                Some(Err(error)) => {
                    *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
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
