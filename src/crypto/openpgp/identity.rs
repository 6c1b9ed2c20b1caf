//! The server's OpenPGP identity: an RSA key of 4,096 bits that signs, and that people compare by its
//! fingerprint.

use std::time::{Duration, UNIX_EPOCH};

use openssl::bn::BigNumRef;
use openssl::rsa::Rsa;
use pgp::composed::{ArmorOptions, Deserializable, KeyDetails, SignedPublicKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{Features, KeyFlags, PubKeyInner, PublicKey, SecretKey, UserId};
use pgp::ser::Serialize;
use pgp::types::{
    KeyDetails as _, KeyVersion, Mpi, Password, PlainSecretParams, PublicParams, RsaPublicParams,
    SecretParams, Timestamp as KeyTime,
};
use rand::rngs::OsRng;

use super::unusable;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::secret::Secret;

const BITS: u32 = 4_096;
const MAX_ARMORED: usize = 64 << 10;

/// A key that was made: its secret half to be wrapped, its public half for everyone.
pub struct Made {
    /// A transferable secret key (RFC 9580, 10.2), binary, without a password.
    pub secret: Secret<Vec<u8>>,
    pub public: Public,
}

/// What anyone may know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// `4096R/` and 40 upper-case hex digits.
    pub fingerprint: String,
    pub armored: String,
}

/// A new key with one user id. Takes a processor for a second or more.
pub fn generate(user_id: &str, now: Timestamp) -> Result<Made> {
    let key = secret_key(now)?;
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(true);
    let mut features = Features::default();
    features.set_seipd_v1(true);
    let user_id = UserId::from_str(Default::default(), user_id).map_err(unusable)?;
    let details = KeyDetails::new(
        Some(user_id),
        Vec::new(),
        Vec::new(),
        flags,
        features,
        [SymmetricKeyAlgorithm::AES256, SymmetricKeyAlgorithm::AES128]
            .into_iter()
            .collect(),
        [HashAlgorithm::Sha512, HashAlgorithm::Sha256]
            .into_iter()
            .collect(),
        Default::default(),
        Default::default(),
    );
    let signed = details
        .sign(OsRng, &key, key.public_key(), &Password::empty())
        .map_err(unusable)?;
    let key = SignedSecretKey::new(key, signed, Vec::new(), Vec::new());
    let secret = key.to_bytes().map(Secret::new).map_err(unusable)?;
    let public = public_of(&key.to_public_key())?;
    Ok(Made { secret, public })
}

/// The public half of a key that [`generate`] made.
pub fn public_half(secret: &Secret<Vec<u8>>) -> Result<Public> {
    let key = SignedSecretKey::from_bytes(secret.expose().as_slice()).map_err(unusable)?;
    public_of(&key.to_public_key())
}

/// A public half as it lies in a file.
///
/// # Errors
/// It is damaged.
pub fn read_public(armored: &str) -> Result<Public> {
    if armored.len() > MAX_ARMORED {
        return Err(unusable("longer than 64 KiB"));
    }
    let (key, _) = SignedPublicKey::from_string(armored).map_err(unusable)?;
    public_of(&key)
}

fn public_of(key: &SignedPublicKey) -> Result<Public> {
    let fingerprint = key.fingerprint();
    Ok(Public {
        fingerprint: format!("{BITS}R/{}", hex::encode_upper(fingerprint.as_bytes())),
        armored: key
            .to_armored_string(ArmorOptions::default())
            .map_err(unusable)?,
    })
}

/// OpenSSL makes the numbers, which takes it a tenth of the time; the packet is made of them.
fn secret_key(now: Timestamp) -> Result<SecretKey> {
    let rsa = Rsa::generate(BITS).map_err(unusable)?;
    let (Some(p), Some(q)) = (rsa.p(), rsa.q()) else {
        return Err(unusable("an RSA key without primes"));
    };
    let mut public = Vec::new();
    mpi(rsa.n(), &mut public)?;
    mpi(rsa.e(), &mut public)?;
    let public =
        PublicParams::RSA(RsaPublicParams::try_from_reader(public.as_slice()).map_err(unusable)?);
    // d, p, q, and the inverse of p modulo q, which is computed anew when they are read.
    let mut secret = Vec::with_capacity(2 << 10);
    for number in [rsa.d(), p, q, p] {
        mpi(number, &mut secret)?;
    }
    let secret = Secret::new(secret);
    let params = PlainSecretParams::try_from_reader_no_checksum(
        secret.expose().as_slice(),
        KeyVersion::V4,
        PublicKeyAlgorithm::RSA,
        &public,
    )
    .map_err(unusable)?;
    let seconds = u64::try_from(now.0.div_euclid(Timestamp::SECOND)).unwrap_or(0);
    let created = KeyTime::try_from(UNIX_EPOCH + Duration::from_secs(seconds)).map_err(unusable)?;
    let inner = PubKeyInner::new(
        KeyVersion::V4,
        PublicKeyAlgorithm::RSA,
        created,
        None,
        public,
    )
    .map_err(unusable)?;
    let public = PublicKey::from_inner(inner).map_err(unusable)?;
    SecretKey::new(public, SecretParams::Plain(params)).map_err(unusable)
}

fn mpi(number: &BigNumRef, to: &mut Vec<u8>) -> Result<()> {
    let bytes = Secret::new(number.to_vec());
    Mpi::from_slice(bytes.expose())
        .to_writer(to)
        .map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_tells_the_same_fingerprint() {
        let made = generate(
            "Strongroom kts01.example.com",
            Timestamp(1_700_000_000_000_000),
        );
        let made = made.unwrap();
        let digits = made.public.fingerprint.strip_prefix("4096R/").unwrap();
        assert_eq!(digits.len(), 40);
        assert!(
            digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        );
        assert_eq!(public_half(&made.secret).unwrap(), made.public);
        let read = read_public(&made.public.armored).unwrap();
        assert_eq!(read.fingerprint, made.public.fingerprint);
        assert!(read_public("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx").is_err());
    }
}
