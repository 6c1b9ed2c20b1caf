//! From a file as it lies somewhere to the tar inside: what it is encrypted by, and to whom, is found from
//! its first bytes.

use std::io::{Chain, Cursor, Read};

use super::manifest::not_a_backup;
use super::read::{BEGINNING, Form, Whole, all};
use crate::crypto::agefile;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// The code of the refusal of what gpg has to open first.
pub const OPENPGP: &str = "backup_openpgp";

/// What decrypts a backup as a whole.
#[derive(Clone, Copy, Default)]
pub struct Decrypts<'a> {
    /// Of one of its recipients.
    pub identity: Option<&'a Secret<Vec<u8>>>,
    pub passphrase: Option<&'a Secret<String>>,
}

/// The tar of a backup, decrypted where it is encrypted.
///
/// # Errors
/// `not_a_backup`; `backup_encrypted`, `backup_passphrase`, `backup_armored` and `backup_openpgp`, each with
/// what to do; what a wrong identity gives.
pub fn peel<'a>(mut from: impl Read + 'a, with: Decrypts<'_>) -> Result<Box<dyn Read + 'a>> {
    let mut first = Vec::with_capacity(BEGINNING);
    Read::by_ref(&mut from)
        .take(BEGINNING as u64)
        .read_to_end(&mut first)
        .map_err(|error| {
            let text = format!("the backup cannot be read: {error}");
            Error::new(Kind::Unavailable, "backup_unreadable", text)
        })?;
    let form = Form::of(&first);
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(first).chain(from);
    match form {
        Form::Tar => Ok(Box::new(whole)),
        Form::Age => match with.identity {
            Some(identity) => Ok(Box::new(agefile::reader(identity, whole)?)),
            None => Err(Error::denied(
                "backup_encrypted",
                "this backup is encrypted by age; give the identity of one of its recipients: --identity F",
            )),
        },
        Form::AgePassphrase => match with.passphrase {
            Some(passphrase) => Ok(Box::new(agefile::passphrase_reader(passphrase, whole)?)),
            None => Err(Error::denied(
                "backup_passphrase",
                "this backup is encrypted by age to a passphrase; give it: --age-passphrase-file F",
            )),
        },
        Form::AgeArmored => Err(refusal(
            "backup_armored",
            "this is an age file in letters, which no backup is; decrypt it by `age --decrypt`, and hand over what that writes",
        )),
        Form::Openpgp => Err(refusal(
            OPENPGP,
            "this backup is encrypted by OpenPGP; decrypt it by `gpg --decrypt`, and hand over what that writes",
        )),
        Form::Unknown => Err(not_a_backup()),
    }
}

/// Reads a backup to its end: every member is there, of the length and the digest that its manifest
/// says. Whether the manifest is the server's own shows only with its root key.
///
/// # Errors
/// As `peel`, and as reading a backup.
pub fn verify(from: impl Read, with: Decrypts<'_>) -> Result<Whole> {
    all(peel(from, with)?)
}

fn refusal(code: &'static str, text: &str) -> Error {
    Error::new(Kind::Invalid, code, text)
}
