//! The public keys of others, as they send them: one or a ring of them, binary or armored. What others
//! signed at a key, and pictures, are left away, since nothing here trusts them.

use std::io::Read;

use pgp::armor::{BlockType, Dearmor};
use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey};
use pgp::packet::{PacketParser, Signature};
use pgp::types::{KeyDetails, Tag};

use super::unusable;
use crate::error::{Error, Result};

/// One key, armored, with its own signatures alone.
pub const LONGEST: usize = 48 << 10;
/// A ring as it comes: keys from key servers carry much that is left away.
pub const LONGEST_RING: usize = 1 << 20;
/// Keys of one ring.
const MOST_KEYS: usize = 256;
/// Of user ids and of subkeys, each.
const MOST_PARTS: usize = 64;
/// Every one may have to be checked, and that takes a processor.
const MOST_SIGNATURES: usize = 256;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const BEGIN_SECRET: &str = "-----BEGIN PGP PRIVATE KEY BLOCK-----";

/// A transferable public key (RFC 9580, 10.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(pub(super) SignedPublicKey);

/// What a ring held.
#[derive(Debug, Default)]
pub struct Ring {
    pub keys: Vec<PublicKey>,
    /// Why others were left: kinds that are not read, damage, too much of something.
    pub left: Vec<Error>,
}

impl PublicKey {
    /// The one key of a text, armored.
    ///
    /// # Errors
    /// There is none, more than one, or a secret key.
    pub fn parse(armored: &str) -> Result<Self> {
        let mut ring = Ring::read(armored.as_bytes())?;
        if let Some(why) = ring.left.pop() {
            return Err(why);
        }
        match (ring.keys.pop(), ring.keys.len()) {
            (Some(key), 0) => Ok(key),
            _ => Err(wrong("holds several keys; give one at a time")),
        }
    }

    /// 40 upper-case hex digits.
    pub fn fingerprint(&self) -> String {
        hex::encode_upper(self.0.fingerprint().as_bytes())
    }

    /// As it is kept.
    ///
    /// # Errors
    /// It is longer than [`LONGEST`].
    pub fn armored(&self) -> Result<String> {
        let text = self
            .0
            .to_armored_string(ArmorOptions::default())
            .map_err(unusable)?;
        match text.len() {
            ..=LONGEST => Ok(text),
            _ => Err(self.too_much("is longer than 48 KiB")),
        }
    }

    /// Without what others signed, and bounded.
    fn of(mut key: SignedPublicKey) -> Result<Self> {
        let own = |key: &SignedPublicKey, it: &Signature| {
            it.issuer_fingerprint().contains(&&key.fingerprint())
                || it.issuer_key_id().contains(&&key.legacy_key_id())
        };
        let whole = key.clone();
        key.details.user_attributes.clear();
        for signatures in [
            &mut key.details.revocation_signatures,
            &mut key.details.direct_signatures,
        ] {
            signatures.retain(|it| own(&whole, it));
        }
        for user in &mut key.details.users {
            user.signatures.retain(|it| own(&whole, it));
        }
        key.details.users.retain(|user| !user.signatures.is_empty());
        let key = Self(key);
        key.bounded()?;
        Ok(key)
    }

    fn bounded(&self) -> Result<()> {
        let details = &self.0.details;
        let users = details.users.iter().map(|it| it.signatures.len());
        let subkeys = self.0.public_subkeys.iter().map(|it| it.signatures.len());
        let signatures = details.revocation_signatures.len()
            + details.direct_signatures.len()
            + users.chain(subkeys).sum::<usize>();
        if details.users.len() > MOST_PARTS || self.0.public_subkeys.len() > MOST_PARTS {
            return Err(self.too_much("has more than 64 user ids or subkeys"));
        }
        if signatures > MOST_SIGNATURES {
            return Err(self.too_much("has more than 256 signatures of its own"));
        }
        Ok(())
    }

    fn too_much(&self, what: &str) -> Error {
        wrong(&format!(
            "holds the key {}, which {what}; make it smaller with: gpg --export-options export-minimal --export {0}",
            self.fingerprint()
        ))
    }
}

impl Ring {
    /// # Errors
    /// There is no key in it at all, or a secret one.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > LONGEST_RING {
            return Err(wrong("is longer than 1 MiB; export fewer keys at once"));
        }
        let mut ring = Self::default();
        // Around armored keys there may be words in any encoding.
        let text = String::from_utf8_lossy(bytes);
        if text.contains(BEGIN_SECRET) {
            return Err(secret());
        }
        if !text.contains(BEGIN) {
            ring.take(bytes)?;
        }
        for (at, _) in text.match_indices(BEGIN) {
            ring.room()?;
            match dearmor(&text.as_bytes()[at..]) {
                Ok(binary) => ring.take(&binary)?,
                Err(why) => ring.left.push(why),
            }
        }
        match ring.keys.is_empty() && ring.left.is_empty() {
            true => Err(wrong("holds no OpenPGP public key")),
            false => Ok(ring),
        }
    }

    /// # Errors
    /// It is full.
    fn room(&self) -> Result<()> {
        match self.keys.len() + self.left.len() {
            ..MOST_KEYS => Ok(()),
            _ => Err(wrong("holds more than 256 keys; export fewer at once")),
        }
    }

    /// The keys of one run of packets.
    fn take(&mut self, binary: &[u8]) -> Result<()> {
        if has_secret(binary) {
            return Err(secret());
        }
        let keys = SignedPublicKey::from_bytes_many(binary)
            .map_err(|why| wrong("cannot be read as OpenPGP").because(why.to_string()))?;
        for key in keys {
            self.room()?;
            let read = key.map_err(|why| {
                wrong("holds what is no whole OpenPGP public key of a kind that is read here")
                    .because(why.to_string())
            });
            match read.and_then(PublicKey::of) {
                Ok(key) if self.keys.contains(&key) => {}
                Ok(key) => self.keys.push(key),
                Err(why) => self.left.push(why),
            }
        }
        Ok(())
    }
}

fn dearmor(armored: &[u8]) -> Result<Vec<u8>> {
    let damaged = || wrong("is damaged: its armor does not end, or is no base64");
    let mut reader = Dearmor::new(armored);
    reader.read_header().map_err(|_| damaged())?;
    if reader.typ != Some(BlockType::PublicKey) {
        return Err(damaged());
    }
    let mut binary = Vec::new();
    reader.read_to_end(&mut binary).map_err(|_| damaged())?;
    Ok(binary)
}

/// By the packets' tags: what a secret key's packet holds is not looked at.
fn has_secret(binary: &[u8]) -> bool {
    let mut packets = PacketParser::new(binary);
    while let Some(Ok(mut packet)) = packets.next_ref() {
        if matches!(
            packet.packet_header().tag(),
            Tag::SecretKey | Tag::SecretSubkey
        ) {
            return true;
        }
        if std::io::copy(&mut packet, &mut std::io::sink()).is_err() {
            return false;
        }
    }
    false
}

fn secret() -> Error {
    Error::invalid(
        "recipient",
        "this holds a secret OpenPGP key, and what is encrypted to needs the public one alone: gpg --export NAME; treat the secret key as exposed if others could read it",
    )
}

fn wrong(what: &str) -> Error {
    Error::invalid("recipient", format!("what was given {what}"))
}
