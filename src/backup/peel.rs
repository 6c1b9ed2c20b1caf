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

/// The tar of a backup, decrypted with an age identity where it is encrypted.
///
/// # Errors
/// `not_a_backup`; `backup_encrypted`, `backup_passphrase`, `backup_armored` and `backup_openpgp`, each with
/// what to do; what a wrong identity gives.
pub fn peel<'a>(
    mut from: impl Read + 'a,
    identity: Option<&Secret<Vec<u8>>>,
) -> Result<Box<dyn Read + 'a>> {
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
    match (form, identity) {
        (Form::Tar, _) => Ok(Box::new(whole)),
        (Form::Age, Some(identity)) => Ok(Box::new(agefile::reader(identity, whole)?)),
        (Form::Age, None) => Err(Error::denied(
            "backup_encrypted",
            "this backup is encrypted by age; give the identity of one of its recipients: --identity F",
        )),
        (Form::AgePassphrase, _) => Err(refusal(
            "backup_passphrase",
            "this backup is encrypted by age to a passphrase; decrypt it by `age --decrypt`, and hand over what that writes",
        )),
        (Form::AgeArmored, _) => Err(refusal(
            "backup_armored",
            "this is an age file in letters, which no backup is; decrypt it by `age --decrypt`, and hand over what that writes",
        )),
        (Form::Openpgp, _) => Err(refusal(
            OPENPGP,
            "this backup is encrypted by OpenPGP; decrypt it by `gpg --decrypt`, and hand over what that writes",
        )),
        (Form::Unknown, _) => Err(not_a_backup()),
    }
}

/// Reads a backup to its end: every member is there, of the length and the digest that its manifest
/// says. Whether the manifest is the server's own shows only with its root key.
///
/// # Errors
/// As `peel`, and as reading a backup.
pub fn verify(from: impl Read, identity: Option<&Secret<Vec<u8>>>) -> Result<Whole> {
    all(peel(from, identity)?)
}

fn refusal(code: &'static str, text: &str) -> Error {
    Error::new(Kind::Invalid, code, text)
}
