//! The envelope around every secret column of the store and every wrapped key: AES-256-GCM under a
//! key that is made for one message and bound to where the message stands.
//!
//! ```text
//! offset  bytes
//!      0      4  magic "SRE\0"
//!      4      1  version, 1
//!      5      1  algorithm, 1 = HKDF-SHA-256 and AES-256-GCM
//!      6      4  key id, big-endian: which version of the parent key
//!     10     32  salt, random
//!     42      n  ciphertext, as long as the plaintext
//!   42+n     16  tag
//! ```
//!
//! The message key is HKDF-SHA-256(parent, salt, "env/v1"). **Reuse rule:** a salt is drawn inside
//! [`seal`] for each message and nobody can hand one in, so a message key encrypts exactly one
//! message, and the nonce can be zero. The associated data says which row, column, organization and
//! version the message belongs to (`docs/formats/envelope.md`): moved elsewhere, it does not open.

use aws_lc_rs::aead::{self, AES_256_GCM, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::{push_field, random};
use crate::error::{Error, Kind, Result};
use crate::model::id::OrgId;
use crate::secret::{Key, Secret};

const MAGIC: [u8; 4] = *b"SRE\0";
const VERSION: u8 = 1;
/// HKDF-SHA-256 and AES-256-GCM.
const ALGORITHM: u8 = 1;
const CONTEXT: &[u8] = b"env/v1";

const HEADER: usize = 10;
const SALT: usize = 32;
const TAG: usize = 16;

/// How much longer an envelope is than what it holds.
pub const OVERHEAD: usize = HEADER + SALT + TAG;

/// Where the message belongs. Opening it anywhere else fails.
pub struct Aad<'a> {
    pub table: &'a str,
    pub column: &'a str,
    pub org: Option<OrgId>,
    /// The row: its id, as a rule 16 bytes of UUID.
    pub object: &'a [u8],
    /// The secret's version; 0 where a row has none.
    pub version: u64,
}

/// Encrypts `plaintext` for the place `aad`. `key_id` says which version of the parent key this is,
/// and is authenticated.
pub fn seal(parent: &Key, key_id: u32, aad: &Aad, plaintext: &[u8]) -> Result<Vec<u8>> {
    seal_with_salt(parent, key_id, aad, plaintext, &random::<SALT>())
}

/// Decrypts an envelope that [`seal`] made for the same place under the same parent key.
pub fn open(parent: &Key, aad: &Aad, envelope: &[u8]) -> Result<Secret<Vec<u8>>> {
    let (header, salt, ciphertext, tag) = split(envelope)?;
    let mut plaintext = vec![0; ciphertext.len()];
    let opened = message_key(parent, salt)?.open_separate_gather(
        zero_nonce(),
        aead::Aad::from(aad.encode(header)),
        ciphertext,
        tag,
        &mut plaintext,
    );
    let plaintext = Secret::new(plaintext);
    opened.map_err(|_| damaged(aad))?;
    Ok(plaintext)
}

/// Which version of the parent key opens this envelope. Not proven until [`open`] succeeds.
pub fn key_id(envelope: &[u8]) -> Result<u32> {
    let (header, ..) = split(envelope)?;
    Ok(u32::from_be_bytes([
        header[6], header[7], header[8], header[9],
    ]))
}

/// Only [`seal`] and the known-answer test call this: see the reuse rule.
fn seal_with_salt(
    parent: &Key,
    key_id: u32,
    aad: &Aad,
    plaintext: &[u8],
    salt: &[u8; SALT],
) -> Result<Vec<u8>> {
    let mut envelope = Vec::with_capacity(OVERHEAD + plaintext.len());
    envelope.extend_from_slice(&MAGIC);
    envelope.extend_from_slice(&[VERSION, ALGORITHM]);
    envelope.extend_from_slice(&key_id.to_be_bytes());
    let associated = aad.encode(&envelope);
    envelope.extend_from_slice(salt);
    envelope.extend_from_slice(plaintext);
    let tag = message_key(parent, salt)?
        .seal_in_place_separate_tag(
            zero_nonce(),
            aead::Aad::from(associated),
            &mut envelope[HEADER + SALT..],
        )
        .map_err(|_| Error::internal("AES-256-GCM did not encrypt"))?;
    envelope.extend_from_slice(tag.as_ref());
    Ok(envelope)
}

/// The key of the one message that has this salt.
fn message_key(parent: &Key, salt: &[u8]) -> Result<LessSafeKey> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(parent.expose())
        .expand(&[CONTEXT], hkdf::HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut key[..]))
        .and_then(|()| UnboundKey::new(&AES_256_GCM, &key[..]))
        .map(LessSafeKey::new)
        .map_err(|_| Error::internal("HKDF-SHA-256 or AES-256-GCM took no 32-byte key"))
}

/// Zero, since the key is for one message.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

impl Aad<'_> {
    /// "env/v1", header, table, column, organization (empty without one), object, version.
    fn encode(&self, header: &[u8]) -> Vec<u8> {
        let org: &[u8] = match &self.org {
            Some(org) => org.as_bytes(),
            None => &[],
        };
        let mut bytes = Vec::with_capacity(
            7 * 4
                + CONTEXT.len()
                + HEADER
                + self.table.len()
                + self.column.len()
                + org.len()
                + self.object.len()
                + 8,
        );
        for field in [
            CONTEXT,
            header,
            self.table.as_bytes(),
            self.column.as_bytes(),
            org,
            self.object,
            &self.version.to_be_bytes(),
        ] {
            push_field(&mut bytes, field);
        }
        bytes
    }
}

/// Header, salt, ciphertext, tag; or why these bytes are no envelope that we read.
fn split(envelope: &[u8]) -> Result<(&[u8], &[u8], &[u8], &[u8])> {
    let malformed = |why: String| {
        Err(Error::new(
            Kind::Internal,
            "envelope_damaged",
            "a stored value is damaged; restore it from a backup",
        )
        .because(why))
    };
    if !envelope.starts_with(&MAGIC) {
        return malformed(format!(
            "no envelope: {} bytes that do not begin with its magic",
            envelope.len()
        ));
    }
    // The version decides how long the rest must be, so it is judged first.
    if let Some(version) = envelope.get(4).filter(|version| **version != VERSION) {
        return Err(newer(format!(
            "version {version}, and this program reads version {VERSION}"
        )));
    }
    if envelope.len() < OVERHEAD {
        return malformed(format!(
            "an envelope of {} bytes; the shortest has {OVERHEAD}",
            envelope.len()
        ));
    }
    if envelope[5] != ALGORITHM {
        return Err(newer(format!(
            "algorithm {}, and this program knows algorithm {ALGORITHM}",
            envelope[5]
        )));
    }
    let (header, rest) = envelope.split_at(HEADER);
    let (salt, rest) = rest.split_at(SALT);
    let (ciphertext, tag) = rest.split_at(rest.len() - TAG);
    Ok((header, salt, ciphertext, tag))
}

fn newer(found: String) -> Error {
    Error::new(
        Kind::Internal,
        "envelope_newer",
        format!(
            "a stored value has an envelope of {found}; it was damaged, or written by a newer Strongroom: run that one"
        ),
    )
}

fn damaged(aad: &Aad) -> Error {
    Error::new(
        Kind::Internal,
        "envelope_damaged",
        format!(
            "the stored {}.{} of {} (version {}) does not open: it was changed, moved here from elsewhere, or belongs to another key; restore it from a backup",
            aad.table,
            aad.column,
            hex::encode(aad.object),
            aad.version
        ),
    )
}
