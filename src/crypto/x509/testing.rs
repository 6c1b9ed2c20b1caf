//! Certificates as the world has them, for tests: rcgen makes only version 3.

use rcgen::{KeyPair, PublicKeyData, RsaKeySize};

use crate::model::id::Fingerprint;
use crate::secret::Secret;

#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    P256,
    P384,
    Ed25519,
    Rsa2048,
}

impl KeyKind {
    pub const ALL: [KeyKind; 4] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa2048];
}

/// A certificate and its key. Nobody checks the signature on a client's certificate, so it is zeros.
pub struct TestCertificate {
    pub der: Vec<u8>,
    pub key_pem: Secret<String>,
    spki: Vec<u8>,
}

impl TestCertificate {
    /// A new key; the certificate is still to be made.
    pub fn key(kind: KeyKind) -> Self {
        let key = match kind {
            KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            KeyKind::Rsa2048 => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
            }
        }
        .unwrap();
        Self {
            der: Vec::new(),
            key_pem: Secret::new(key.serialize_pem()),
            spki: key.subject_public_key_info(),
        }
    }

    /// A certificate for this key that ended in 2001.
    pub fn expired(&self, version: u8) -> Self {
        let sha256_with_rsa = der(
            0x30,
            &[&hex::decode("06092a864886f70d01010b").unwrap()[..], &[5, 0]],
        );
        let name = der(
            0x30,
            &[&der(
                0x31,
                &[&der(
                    0x30,
                    &[&[6, 3, 0x55, 4, 3], &der(0x0c, &[b"old.example"])],
                )],
            )],
        );
        let validity = der(
            0x30,
            &[
                &der(0x17, &[b"000101000000Z"]),
                &der(0x17, &[b"010101000000Z"]),
            ],
        );
        let version = match version {
            1 => Vec::new(),
            version => der(0xa0, &[&[2, 1, version - 1]]),
        };
        let tbs = der(
            0x30,
            &[
                &version,
                &[2, 1, 1],
                &sha256_with_rsa,
                &name,
                &validity,
                &name,
                &self.spki,
            ],
        );
        let signature = der(0x03, &[&[0; 257]]);
        Self {
            der: der(0x30, &[&tbs, &sha256_with_rsa, &signature]),
            key_pem: Secret::new(self.key_pem.expose().clone()),
            spki: self.spki.clone(),
        }
    }

    pub fn cert_pem(&self) -> String {
        super::identity::certificate_pem(&self.der)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(crate::crypto::sha256(&self.spki))
    }
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    match content.len() {
        0..=127 => out.push(length[1]),
        128..=255 => out.extend([0x81, length[1]]),
        _ => out.extend([0x82, length[0], length[1]]),
    }
    out.extend(content);
    out
}
