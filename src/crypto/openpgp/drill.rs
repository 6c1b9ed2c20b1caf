//! A key that only ever opens what was just written, to see that it opens: small, made in milliseconds,
//! without a password, since it is kept as an envelope.

use pgp::composed::{
    Deserializable, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::ser::Serialize;
use pgp::types::Timestamp as KeyTime;
use rand::rngs::OsRng;

use super::public_key::PublicKey;
use super::unusable;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::secret::Secret;

/// Both halves of a key that was made.
pub struct Drill {
    /// A transferable secret key (RFC 9580, 10.2), binary: what [`reader`](super::reader) takes.
    pub secret: Secret<Vec<u8>>,
    pub public: PublicKey,
}

/// A new key on Curve25519 (Ed25519 that certifies, ECDH that is encrypted to), which has no end.
pub fn generate_drill(user_id: &str, now: Timestamp) -> Result<Drill> {
    let seconds = u32::try_from(now.0.div_euclid(Timestamp::SECOND)).map_err(unusable)?;
    let created = KeyTime::from_secs(seconds);
    let mut encrypting = SubkeyParamsBuilder::default();
    encrypting
        .key_type(KeyType::ECDH(ECCCurve::Curve25519Legacy))
        .can_encrypt(EncryptionCaps::All)
        .created_at(created);
    let mut params = SecretKeyParamsBuilder::default();
    params
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .created_at(created)
        .preferred_symmetric_algorithms([SymmetricKeyAlgorithm::AES256].into_iter().collect())
        .preferred_hash_algorithms([HashAlgorithm::Sha512].into_iter().collect())
        .primary_user_id(user_id.to_owned())
        .subkey(encrypting.build().map_err(unusable)?);
    let key = params.build().map_err(unusable)?;
    let key = key.generate(OsRng).map_err(unusable)?;
    Ok(Drill {
        secret: key.to_bytes().map(Secret::new).map_err(unusable)?,
        public: PublicKey(key.to_public_key()),
    })
}
/// The public half of a secret key that [`generate_drill`] made.
pub fn public_of(secret: &Secret<Vec<u8>>) -> Result<PublicKey> {
    let key = SignedSecretKey::from_bytes(secret.expose().as_slice()).map_err(unusable)?;
    Ok(PublicKey(key.to_public_key()))
}
