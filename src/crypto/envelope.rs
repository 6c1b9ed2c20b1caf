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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::crypto::keygen;

    fn place<'a>(org: OrgId, object: &'a [u8]) -> Aad<'a> {
        Aad {
            table: "deposits",
            column: "body",
            org: Some(org),
            object,
            version: 1,
        }
    }

    fn code<T>(result: Result<T>) -> &'static str {
        result.err().map_or("opened", |error| error.code)
    }

    #[test]
    fn opens_where_it_was_sealed_and_nowhere_else() {
        let (parent, org, object) = (keygen::key(), OrgId::new(), random::<16>());
        let home = place(org, &object);
        let envelope = seal(&parent, 7, &home, b"secret").unwrap();
        assert_eq!(envelope.len(), OVERHEAD + 6);
        assert_eq!(key_id(&envelope).unwrap(), 7);
        assert_eq!(open(&parent, &home, &envelope).unwrap().expose(), b"secret");

        let other_object = random::<16>();
        let elsewhere = [
            Aad {
                table: "deposit",
                ..place(org, &object)
            },
            Aad {
                column: "bodies",
                ..place(org, &object)
            },
            // The same letters, cut elsewhere.
            Aad {
                table: "depositsb",
                column: "ody",
                ..place(org, &object)
            },
            Aad {
                org: Some(OrgId::new()),
                ..place(org, &object)
            },
            Aad {
                org: None,
                ..place(org, &object)
            },
            Aad {
                object: &other_object,
                ..place(org, &object)
            },
            Aad {
                object: &object[..15],
                ..place(org, &object)
            },
            Aad {
                version: 2,
                ..place(org, &object)
            },
        ];
        for (number, aad) in elsewhere.iter().enumerate() {
            let result = open(&parent, aad, &envelope);
            assert_eq!(code(result), "envelope_damaged", "place {number}");
        }
        assert_eq!(
            code(open(&keygen::key(), &home, &envelope)),
            "envelope_damaged"
        );
    }

    #[test]
    fn the_same_message_is_never_sealed_alike() {
        let (parent, object) = (keygen::key(), random::<16>());
        let home = place(OrgId::new(), &object);
        let one = seal(&parent, 1, &home, b"secret").unwrap();
        let two = seal(&parent, 1, &home, b"secret").unwrap();
        assert_ne!(one[HEADER..HEADER + SALT], two[HEADER..HEADER + SALT]);
        assert_ne!(one[HEADER + SALT..], two[HEADER + SALT..]);
    }

    #[test]
    fn cut_off_anywhere_it_is_refused() {
        let (parent, object) = (keygen::key(), random::<16>());
        let home = place(OrgId::new(), &object);
        let envelope = seal(&parent, 1, &home, b"secret").unwrap();
        for length in 0..envelope.len() {
            let result = open(&parent, &home, &envelope[..length]);
            assert_eq!(code(result), "envelope_damaged", "{length} bytes");
        }
        let longer = [&envelope[..], &[0]].concat();
        assert_eq!(code(open(&parent, &home, &longer)), "envelope_damaged");
    }

    #[test]
    fn any_bit_flipped_is_refused() {
        let (parent, object) = (keygen::key(), random::<16>());
        let home = place(OrgId::new(), &object);
        let envelope = seal(&parent, 1, &home, b"secret").unwrap();
        for at in 0..envelope.len() {
            for bit in 0..8 {
                let mut flipped = envelope.clone();
                flipped[at] ^= 1 << bit;
                let expected = match at {
                    4 | 5 => "envelope_newer",
                    _ => "envelope_damaged",
                };
                assert_eq!(code(open(&parent, &home, &flipped)), expected, "{at}/{bit}");
            }
        }
    }

    #[test]
    fn another_version_is_refused_by_name_whatever_its_length() {
        let error = key_id(b"SRE\0\x02").unwrap_err();
        assert_eq!(error.code, "envelope_newer");
        assert!(error.public.contains("version 2"), "{error}");
    }

    #[derive(Deserialize)]
    struct Vector {
        #[serde(with = "hex_text")]
        parent: Vec<u8>,
        key_id: u32,
        table: String,
        column: String,
        org: Option<String>,
        #[serde(with = "hex_text")]
        object: Vec<u8>,
        version: u64,
        #[serde(with = "hex_text")]
        salt: Vec<u8>,
        #[serde(with = "hex_text")]
        plaintext: Vec<u8>,
        #[serde(with = "hex_text")]
        envelope: Vec<u8>,
    }

    mod hex_text {
        use serde::{Deserialize, Deserializer};

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
            hex::decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
        }
    }

    /// A released format stays: made by another implementation, from the format's page alone.
    #[test]
    fn version_1_reads_and_writes_as_released() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/data/envelope-v1.json")).unwrap();
        assert_eq!(vectors.len(), 2);
        for vector in vectors {
            let parent = Key::from_slice(&vector.parent).unwrap();
            let aad = Aad {
                table: &vector.table,
                column: &vector.column,
                org: vector.org.map(|org| org.parse().unwrap()),
                object: &vector.object,
                version: vector.version,
            };
            let opened = open(&parent, &aad, &vector.envelope).unwrap();
            assert_eq!(*opened.expose(), vector.plaintext);
            let salt = vector.salt.try_into().unwrap();
            let sealed = seal_with_salt(&parent, vector.key_id, &aad, &vector.plaintext, &salt);
            assert_eq!(sealed.unwrap(), vector.envelope);
            assert_eq!(key_id(&vector.envelope).unwrap(), vector.key_id);
        }
    }
}
