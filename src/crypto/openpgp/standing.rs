//! Whether a public key can be encrypted to, and with which of its parts: judged by the signatures
//! that the key made itself, each checked, the newest of a kind counting.

use std::fmt;

use pgp::composed::SignedPublicSubKey;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicSubkey, Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{
    EcdhPublicParams, KeyDetails, KeyVersion, PublicParams, SignedUser, Tag, Timestamp as KeyTime,
};

use super::public_key::PublicKey;
use crate::clock::Timestamp;
use crate::model::id::RecipientId;
use crate::model::recipient::{Recipient, RecipientKind};

const LEAST_RSA_BITS: usize = 2_048;
/// A key that was just made where the clock goes ahead of ours counts.
const SKEW: i64 = 600 * Timestamp::SECOND;
/// A user id beyond it is passed over.
const LONGEST_USER_ID: usize = 512;

/// Why nothing can be encrypted to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Revoked,
    Expired(Timestamp),
    NotYet(Timestamp),
    /// No part of it is for encryption.
    SignOnly,
    /// Its algorithm, which is none that is encrypted to here.
    Algorithm(String),
    /// It has no user id that it signed itself.
    Unsigned,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("is revoked"),
            Self::Expired(end) => write!(f, "has expired ({end})"),
            Self::NotYet(start) => write!(f, "is dated in the future ({start})"),
            Self::SignOnly => f.write_str("is for signing only, no part of it is for encryption"),
            Self::Algorithm(which) => write!(
                f,
                "is of a kind that is not encrypted to here ({which}); RSA of 2,048 bits or more, Curve25519 and P-256 are"
            ),
            Self::Unsigned => f.write_str("has no user id that it signed itself"),
        }
    }
}

/// What is known of a key at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Those that it signed, and did not take back.
    pub user_ids: Vec<String>,
    /// Of its subkeys, as the key's own fingerprint is written.
    pub subkeys: Vec<String>,
    /// From then on nothing can be encrypted to it.
    pub expires: Option<Timestamp>,
    pub trouble: Option<Trouble>,
}

/// The part that is encrypted to.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Primary,
    Sub(&'a PublicSubkey),
}

/// A part that can be encrypted to, and until when.
struct Fit<'a> {
    part: Part<'a>,
    created: KeyTime,
    ends: Option<Timestamp>,
}

impl PublicKey {
    pub fn standing(&self, now: Timestamp) -> Standing {
        let subkeys = self.0.public_subkeys.iter();
        let judged = self.judge(now);
        Standing {
            user_ids: self.user_ids(now),
            subkeys: subkeys
                .map(|it| hex::encode_upper(it.fingerprint().as_bytes()))
                .collect(),
            expires: match &judged {
                Ok((_, ends)) => *ends,
                Err(Trouble::Expired(end)) => Some(*end),
                Err(_) => None,
            },
            trouble: judged.err(),
        }
    }

    /// As a recipient that someone is about to add.
    pub fn recipient(&self, now: Timestamp) -> Recipient {
        let standing = self.standing(now);
        Recipient {
            id: RecipientId::new(),
            kind: RecipientKind::Openpgp,
            recipient: self.fingerprint(),
            label: String::new(),
            user_ids: standing.user_ids,
            subkeys: standing.subkeys,
            added: now,
            added_by: String::new(),
            expires: standing.expires,
            // That it has expired follows from its end.
            trouble: standing
                .trouble
                .filter(|it| !matches!(it, Trouble::Expired(_)))
                .map(|it| it.to_string()),
        }
    }

    /// The newest part that can be encrypted to.
    pub(super) fn part(&self, now: Timestamp) -> Result<Part<'_>, Trouble> {
        self.judge(now).map(|(part, _)| part)
    }

    /// The part, and when the last of those that do will have ended.
    fn judge(&self, now: Timestamp) -> Result<(Part<'_>, Option<Timestamp>), Trouble> {
        let key_ends = self.primary(now)?;
        let mut fits = Vec::new();
        let mut troubles = Vec::new();
        let subkeys = self.0.public_subkeys.iter();
        for tried in subkeys
            .map(|it| self.sub(it, now))
            .chain([self.primary_encrypts(now)])
        {
            match tried {
                Ok(fit) => fits.push(fit),
                Err(trouble) => troubles.push(trouble),
            }
        }
        let last_ends = fits
            .iter()
            .map(|fit| fit.ends)
            .max_by_key(|end| latest(*end));
        let Some((best, last_ends)) = fits.iter().max_by_key(|fit| fit.created).zip(last_ends)
        else {
            return Err(worth_telling(troubles));
        };
        let ends = [key_ends, last_ends].into_iter().flatten().min();
        Ok((best.part, ends))
    }

    /// Whether the key as a whole counts; until when.
    fn primary(&self, now: Timestamp) -> Result<Option<Timestamp>, Trouble> {
        let key = &self.0.primary_key;
        if key.version() != KeyVersion::V4 {
            return Err(Trouble::Algorithm(format!(
                "version {} of OpenPGP keys",
                u8::from(key.version())
            )));
        }
        let created = time(key.created_at());
        if created > now.plus(SKEW) {
            return Err(Trouble::NotYet(created));
        }
        let details = &self.0.details;
        let revoked = details
            .revocation_signatures
            .iter()
            .any(|it| it.typ() == Some(SignatureType::KeyRevocation) && it.verify_key(key).is_ok());
        if revoked {
            return Err(Trouble::Revoked);
        }
        let bound = self.bindings(now).ok_or(Trouble::Unsigned)?;
        match end_of(key.created_at(), &bound) {
            Some(end) if end <= now => Err(Trouble::Expired(end)),
            end => Ok(end),
        }
    }

    /// What says when the key ends, and what it is for: its signature at itself if there is one, and
    /// the newest at a user id, for what the other leaves out.
    fn bindings(&self, now: Timestamp) -> Option<Vec<&Signature>> {
        let key = &self.0.primary_key;
        let direct = newest(&self.0.details.direct_signatures, now, |it| {
            it.typ() == Some(SignatureType::Key) && it.verify_key(key).is_ok()
        });
        let users = self.0.details.users.iter();
        let named = users
            .filter_map(|user| self.names(user, now))
            .max_by_key(|it| it.created());
        // Without a user id that stands, it is nobody's.
        named.map(|named| direct.into_iter().chain([named]).collect())
    }

    /// The signature by which the key has this user id, unless it took it back.
    fn names<'a>(&self, user: &'a SignedUser, now: Timestamp) -> Option<&'a Signature> {
        let key = &self.0.primary_key;
        let checked = |it: &Signature| it.verify_certification(key, Tag::UserId, &user.id).is_ok();
        let taken_back = user
            .signatures
            .iter()
            .filter(|it| it.typ() == Some(SignatureType::CertRevocation) && checked(it))
            .filter_map(Signature::created)
            .max();
        newest(&user.signatures, now, |it| {
            it.is_certification()
                && it.typ() != Some(SignatureType::CertRevocation)
                && taken_back.is_none_or(|back| it.created() > Some(back))
                && checked(it)
        })
    }

    fn user_ids(&self, now: Timestamp) -> Vec<String> {
        let users = self.0.details.users.iter();
        users
            .filter(|user| user.id.id().len() <= LONGEST_USER_ID)
            .filter(|user| self.names(user, now).is_some())
            .map(|user| String::from_utf8_lossy(user.id.id()).into_owned())
            .collect()
    }

    fn primary_encrypts(&self, now: Timestamp) -> Result<Fit<'_>, Trouble> {
        let key = &self.0.primary_key;
        let bound = self.bindings(now).ok_or(Trouble::Unsigned)?;
        for_encryption(&bound, key.public_params())?;
        Ok(Fit {
            part: Part::Primary,
            created: key.created_at(),
            ends: None,
        })
    }

    fn sub<'a>(&self, sub: &'a SignedPublicSubKey, now: Timestamp) -> Result<Fit<'a>, Trouble> {
        let primary = &self.0.primary_key;
        let checked = |it: &Signature| it.verify_subkey_binding(primary, &sub.key).is_ok();
        // One that is not bound is not this key's, whatever it is for.
        let bound = newest(&sub.signatures, now, |it| {
            it.typ() == Some(SignatureType::SubkeyBinding) && checked(it)
        });
        let bound = bound.ok_or(Trouble::SignOnly)?;
        for_encryption(&[bound], sub.key.public_params())?;
        let revoked = sub
            .signatures
            .iter()
            .any(|it| it.typ() == Some(SignatureType::SubkeyRevocation) && checked(it));
        if revoked {
            return Err(Trouble::Revoked);
        }
        let created = time(sub.key.created_at());
        if created > now.plus(SKEW) {
            return Err(Trouble::NotYet(created));
        }
        match end_of(sub.key.created_at(), &[bound]) {
            Some(end) if end <= now => Err(Trouble::Expired(end)),
            ends => Ok(Fit {
                part: Part::Sub(&sub.key),
                created: sub.key.created_at(),
                ends,
            }),
        }
    }
}

/// The newest signature that counts now and is what `fits` asks; the check, which is dear, comes last.
fn newest(
    signatures: &[Signature],
    now: Timestamp,
    fits: impl Fn(&Signature) -> bool,
) -> Option<&Signature> {
    let mut in_time: Vec<&Signature> = signatures
        .iter()
        .filter(|it| it.hash_alg() != Some(HashAlgorithm::Md5) && counts(it, now))
        .collect();
    in_time.sort_by_key(|it| std::cmp::Reverse(it.created()));
    in_time.into_iter().find(|it| fits(it))
}

fn counts(signature: &Signature, now: Timestamp) -> bool {
    let Some(created) = signature.created() else {
        return false;
    };
    let ends = signature
        .signature_expiration_time()
        .and_then(|span| after(created, span.as_secs()));
    time(created) <= now.plus(SKEW) && ends.is_none_or(|end| end > now)
}

/// Whether the first signature that speaks of it says that a part is for encryption, and whether its
/// algorithm is one of ours.
fn for_encryption(bound: &[&Signature], params: &PublicParams) -> Result<(), Trouble> {
    let says = |it: &Signature| {
        it.config().is_some_and(|config| {
            config
                .hashed_subpackets()
                .any(|it| matches!(it.data, SubpacketData::KeyFlags(_)))
        })
    };
    // Keys from before there were flags are for whatever their algorithm does.
    if let Some(bound) = bound.iter().find(|it| says(it)) {
        let flags = bound.key_flags();
        if !flags.encrypt_comms() && !flags.encrypt_storage() {
            return Err(Trouble::SignOnly);
        }
    }
    match params {
        PublicParams::RSA(_) => match rsa_bits(params) {
            bits @ ..LEAST_RSA_BITS => Err(Trouble::Algorithm(format!("RSA of {bits} bits"))),
            _ => Ok(()),
        },
        PublicParams::X25519(_)
        | PublicParams::ECDH(
            EcdhPublicParams::Curve25519Legacy { .. } | EcdhPublicParams::P256 { .. },
        ) => Ok(()),
        PublicParams::ECDH(other) => Err(Trouble::Algorithm(format!("ECDH on {}", other.curve()))),
        PublicParams::DSA(_)
        | PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => Err(Trouble::SignOnly),
        PublicParams::Elgamal(_) => Err(Trouble::Algorithm("ElGamal".to_owned())),
        PublicParams::X448(_) => Err(Trouble::Algorithm("X448".to_owned())),
        _ => Err(Trouble::Algorithm("an unknown algorithm".to_owned())),
    }
}

/// The length of the modulus: it comes first, as a number with its bits before it.
fn rsa_bits(params: &PublicParams) -> usize {
    match params.to_bytes().as_deref() {
        Ok([high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// Of several parts that do not do, the one that its owner can mend first.
fn worth_telling(troubles: Vec<Trouble>) -> Trouble {
    let rank = |it: &Trouble| match it {
        Trouble::Expired(_) => 5,
        Trouble::NotYet(_) => 4,
        Trouble::Revoked => 3,
        Trouble::Algorithm(_) => 2,
        Trouble::Unsigned => 1,
        Trouble::SignOnly => 0,
    };
    let told = troubles.into_iter().max_by_key(rank);
    told.unwrap_or(Trouble::SignOnly)
}

/// As the first signature that speaks of it says.
fn end_of(created: KeyTime, bound: &[&Signature]) -> Option<Timestamp> {
    let span = bound.iter().find_map(|it| it.key_expiration_time())?;
    after(created, span.as_secs())
}

/// None: never, which is written as zero seconds.
fn after(created: KeyTime, seconds: u32) -> Option<Timestamp> {
    (seconds > 0).then(|| time(created).plus(i64::from(seconds) * Timestamp::SECOND))
}

fn time(time: KeyTime) -> Timestamp {
    Timestamp(i64::from(time.as_secs()) * Timestamp::SECOND)
}

/// Later than any time, if there is no end.
fn latest(end: Option<Timestamp>) -> i64 {
    end.map_or(i64::MAX, |end| end.0)
}
