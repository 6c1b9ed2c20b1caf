//! Every choice of algorithm, size and format that protects something is made in this room; the
//! rest of the program asks for "seal this" or "who signed that". No I/O, no store, no clock.
//!
//! AES-256-GCM, HKDF-SHA-256, HMAC-SHA-256, Ed25519 and P-256 come from aws-lc-rs, Argon2id from
//! `argon2`, TLS from rustls over aws-lc-rs, files for people from `age`.

pub mod agefile;
pub mod chain;
pub mod envelope;
mod headed;
pub mod kdf;
pub mod keygen;
pub mod openpgp;
pub mod pages;
pub mod seal;
pub mod tls;
pub mod totp;
pub mod x509;

use std::io::{self, Read};

use aws_lc_rs::{digest, rand};

/// Random bytes from the operating system, through AWS-LC's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without a random source nothing here is safe; AWS-LC itself aborts before it returns an error.
    rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// SHA-256, for names of things (fingerprints, hashed tokens) and for checksums.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// The same of what comes piece by piece.
pub struct Sha256(digest::Context);

impl Sha256 {
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

/// Bytes and digest of all that `from` gives.
pub fn sha256_of(from: &mut impl Read) -> io::Result<(u64, [u8; 32])> {
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Ok((bytes, sum.finish()));
        }
        sum.update(&piece[..read]);
        bytes += read as u64;
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends `field` with its length before it (u32, big-endian), so that no two lists of fields
/// have the same bytes. Fields are ours, or capped long before; 4 GiB is out of reach.
fn push_field(to: &mut Vec<u8>, field: &[u8]) {
    to.extend_from_slice(&(field.len() as u32).to_be_bytes());
    to.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        assert_eq!(
            hex::encode(sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut pieces = Sha256::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), sha256(b"abc"));
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<32>(), random::<32>());
    }

    #[test]
    fn fields_cannot_run_into_each_other() {
        let mut left = Vec::new();
        push_field(&mut left, b"ab");
        push_field(&mut left, b"c");
        let mut right = Vec::new();
        push_field(&mut right, b"a");
        push_field(&mut right, b"bc");
        assert_ne!(left, right);
    }
}
