//! New keys. Private keys are PKCS#8, DER.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};

use super::random;
use crate::error::{Error, Result};
use crate::secret::{Key, Secret};

/// 32 random bytes of key.
pub fn key() -> Key {
    Secret::new(random())
}

/// A new Ed25519 signing key.
pub fn ed25519() -> Result<Secret<Vec<u8>>> {
    Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
        .map(|document| Secret::new(document.as_ref().to_vec()))
        .map_err(|_| Error::internal("no Ed25519 key could be made"))
}

/// A new P-256 signing key.
pub fn p256() -> Result<Secret<Vec<u8>>> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map(|document| Secret::new(document.as_ref().to_vec()))
        .map_err(|_| Error::internal("no P-256 key could be made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_new_and_load() {
        assert!(!key().matches(key().expose()));
        let (one, two) = (ed25519().unwrap(), ed25519().unwrap());
        assert!(!one.matches(two.expose()));
        assert!(Ed25519KeyPair::from_pkcs8_maybe_unchecked(one.expose()).is_ok());
        let (one, two) = (p256().unwrap(), p256().unwrap());
        assert!(!one.matches(two.expose()));
        assert!(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, one.expose()).is_ok());
    }
}
