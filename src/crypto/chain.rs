//! What holds the audit together: each event's hash covers the one before it, a tag under K_audit
//! keeps whoever has only the database from making a chain anew, and signed checkpoints keep
//! whoever has K_audit from cutting the end off.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};

use crate::error::{Error, Kind, Result};
use crate::secret::{Key, Secret};

/// SHA-256(previous ‖ canonical). The first event's `previous` is 32 zero bytes. Unambiguous without
/// a length, since the first part always has 32 bytes.
pub fn event_hash(previous: &[u8; 32], canonical: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(previous);
    context.update(canonical);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// HMAC-SHA-256 of an event's hash. For more than one event, keep a [`Tagger`].
pub fn event_tag(k_audit: &Key, hash: &[u8; 32]) -> [u8; 32] {
    Tagger::new(k_audit).tag(hash)
}

/// HMAC-SHA-256 under one key, whose schedule is computed once.
pub struct Tagger(hmac::Key);

impl Tagger {
    pub fn new(key: &Key) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    pub fn tag(&self, message: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.0, message).as_ref());
        tag
    }

    /// Whether `tag` is the message's, in constant time.
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, message, tag).is_ok()
    }
}

/// An Ed25519 key that signs checkpoints.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// From PKCS#8, as `keygen::ed25519` makes it.
    pub fn from_pkcs8(der: &Secret<Vec<u8>>) -> Result<Self> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.expose())
            .map(Self)
            .map_err(|why| Error::internal(format!("the signing key does not load: {why}")))
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }

    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }
}

/// Whether the holder of `public_key` signed exactly this message.
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<()> {
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(message, signature)
        .map_err(|_| {
            Error::new(
                Kind::Denied,
                "signature_wrong",
                format!(
                    "the signature is not by the Ed25519 key {} over this content",
                    hex::encode(public_key)
                ),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{keygen, sha256};

    #[test]
    fn an_events_hash_covers_the_one_before() {
        let first = event_hash(&[0; 32], b"first");
        assert_eq!(first, sha256(&[&[0; 32], b"first".as_slice()].concat()));
        let second = event_hash(&first, b"second");
        assert_ne!(second, event_hash(&[0; 32], b"second"));
        assert_ne!(second, event_hash(&first, b"secone"));
    }

    /// RFC 4231, test case 1, with its 20-byte key filled up with zeros as HMAC does itself.
    #[test]
    fn tags_are_hmac_sha256() {
        let mut key = [0; 32];
        key[..20].copy_from_slice(&[0x0b; 20]);
        let tagger = Tagger::new(&Secret::new(key));
        let tag = tagger.tag(b"Hi There");
        assert_eq!(
            hex::encode(tag),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert!(tagger.verify(b"Hi There", &tag));
        assert!(!tagger.verify(b"Hi there", &tag));
        assert!(!tagger.verify(b"Hi There", &tag[..31]));
        let hash = [3; 32];
        assert_eq!(event_tag(&Secret::new(key), &hash), tagger.tag(&hash));
    }

    #[test]
    fn a_checkpoint_verifies_with_its_key_alone() {
        let signer = Signer::from_pkcs8(&keygen::ed25519().unwrap()).unwrap();
        let signature = signer.sign(b"heads");
        verify(&signer.public_key(), b"heads", &signature).unwrap();
        assert!(verify(&signer.public_key(), b"head", &signature).is_err());
        assert!(verify(&signer.public_key(), b"heads", &signature[..63]).is_err());
        let other = Signer::from_pkcs8(&keygen::ed25519().unwrap()).unwrap();
        let error = verify(&other.public_key(), b"heads", &signature).unwrap_err();
        assert_eq!(error.code, "signature_wrong");
        assert!(Signer::from_pkcs8(&Secret::new(vec![0; 48])).is_err());
    }

    /// RFC 8032, test 2.
    #[test]
    fn signatures_are_ed25519() {
        let public =
            hex::decode("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = hex::decode(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        let public = public.unwrap().try_into().unwrap();
        verify(&public, &[0x72], &signature.unwrap()).unwrap();
    }
}
