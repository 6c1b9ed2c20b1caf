//! One slot: a key made from a secret, which wraps the root key.
//!
//! ```text
//! passphrase ─ Argon2id(salt, cost) ┐
//! key file ─── HKDF(salt) ──────────┤
//! credential ─ HKDF(salt) ──────────┤
//! recovery ─── age ─ HKDF(salt) ────┴─ slot key ─┬─ "seal-slot-check/v1" ─ check value, stored
//!                                                └─ "seal-slot-wrap/v1" ── AES-256-GCM ─ wrapped R
//! ```
//!
//! **Reuse rule:** the salt is drawn in [`Slot::make`] for one wrapping; the wrapping key is
//! therefore used once, and its nonce is zero. A slot is never wrapped anew under its old salt.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::format::{self, Bytes};
use super::{NewSlot, SlotSecret, damaged};
use crate::clock::Timestamp;
use crate::crypto::{agefile, kdf, push_field, random, sha256};
use crate::error::{Error, Result};
use crate::model::id::{InstanceId, SlotId, shown};
use crate::secret::{Key, Secret};

pub const PASSPHRASE: &str = "passphrase";
pub const KEY_FILE: &str = "key_file";
pub const CREDENTIAL: &str = "credential";
pub const RECOVERY: &str = "recovery";

/// The parameter of a credential.
pub const NAME: &str = "name";
/// The parameters of a recovery slot: an age recipient, and an age file for it, in hex.
pub const RECIPIENT: &str = "recipient";
pub const SEALED: &str = "sealed";

const SALT: usize = 32;
const CHECK: usize = 32;
const WRAPPED: usize = 32 + 16;

/// As written. The fields are the same for every kind; what a kind needs beyond them is in
/// `parameters`, so that a program that does not know the kind still keeps and tags it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub id: SlotId,
    pub kind: String,
    pub label: String,
    pub created: Timestamp,
    pub parameters: Map<String, Value>,
    salt: Bytes,
    /// Tells a wrong secret from a damaged slot.
    check: Bytes,
    /// The root key, AES-256-GCM.
    wrapped: Bytes,
    /// SHA-256 of the rest: tells damage without any secret.
    checksum: Bytes,
}

impl Slot {
    pub fn make(
        instance: InstanceId,
        root: &Key,
        new: &NewSlot,
        label: &str,
        cost: kdf::Cost,
        now: Timestamp,
    ) -> Result<Self> {
        let salt = random::<SALT>();
        let mut slot = Self {
            id: SlotId::new(),
            kind: new.kind.to_owned(),
            label: label.to_owned(),
            created: now,
            parameters: parameters(new, cost),
            salt: Bytes(salt.to_vec()),
            check: Bytes(Vec::new()),
            wrapped: Bytes(Vec::new()),
            checksum: Bytes(Vec::new()),
        };
        let slot_key = slot.slot_key(&new.secret)?;
        slot.check = Bytes(check_value(&slot_key).expose().to_vec());
        slot.wrapped = Bytes(wrap(&slot_key, root, &slot.aad(instance))?);
        slot.checksum = Bytes(slot.sum().to_vec());
        Ok(slot)
    }

    /// Whether this version can open it.
    pub fn known(&self) -> bool {
        matches!(
            self.kind.as_str(),
            PASSPHRASE | KEY_FILE | CREDENTIAL | RECOVERY
        )
    }

    /// Refuses a slot that is not as it was written, without any secret.
    pub fn check(&self, number: usize) -> Result<()> {
        let wrong = |what: &str| {
            Err(damaged(format!(
                "slot {number} (\"{}\", created {}) {what}",
                shown(&self.label),
                self.created
            )))
        };
        if self.checksum.0 != self.sum() {
            return wrong("does not match its checksum");
        }
        if !format::is_kind(&self.kind) {
            return wrong("has a kind that is no lower-case word");
        }
        if format::check_label(&self.label).is_err() {
            return wrong("has a label that is too long or has control characters");
        }
        if !self.parameters.values().all(is_exact) {
            return wrong("has a parameter with a fraction");
        }
        if !self.known() {
            return Ok(());
        }
        if (self.salt.0.len(), self.check.0.len(), self.wrapped.0.len()) != (SALT, CHECK, WRAPPED) {
            return wrong("has a salt, check value or wrapped key of the wrong length");
        }
        if let Err(why) = self.cost() {
            return wrong(&format!("has parameters that are not right: {why}"));
        }
        Ok(())
    }

    /// What this slot is made from again, under another salt: its secret if it is one of these, or its
    /// recipient.
    pub fn again(&self, secrets: &[SlotSecret]) -> Result<Option<(NewSlot, kdf::Cost)>> {
        let text = |name: &str| self.parameters.get(name).and_then(Value::as_str);
        if self.kind == RECOVERY {
            let recipient = text(RECIPIENT).unwrap_or_default();
            return Ok(Some((NewSlot::recovery(recipient)?, kdf::Cost::LEAST)));
        }
        for secret in secrets.iter().filter(|secret| secret.opens(&self.kind)) {
            if self.opener(secret)?.is_none() {
                continue;
            }
            let bytes = Secret::new(secret.bytes().to_vec());
            let new = match (self.kind.as_str(), text(NAME)) {
                (PASSPHRASE, _) => NewSlot::passphrase(bytes),
                (CREDENTIAL, Some(name)) => NewSlot::credential(name, bytes)?,
                _ => NewSlot::key_file(bytes),
            };
            return Ok(Some((new, self.cost()?.unwrap_or(kdf::Cost::LEAST))));
        }
        Ok(None)
    }

    /// The slot's key, if `secret` is the slot's; no answer if it is another secret.
    pub fn opener(&self, secret: &SlotSecret) -> Result<Option<Opener<'_>>> {
        if let SlotSecret::Identity(identity) = secret {
            return match super::recover(&self.kind, &self.parameters, identity)? {
                Some(found) => self.opener(&found),
                None => Ok(None),
            };
        }
        let slot_key = self.slot_key(secret)?;
        Ok(check_value(&slot_key)
            .matches(&self.check.0)
            .then_some(Opener {
                slot: self,
                slot_key,
            }))
    }

    fn slot_key(&self, secret: &SlotSecret) -> Result<Key> {
        let Ok(salt) = <&[u8; SALT]>::try_from(self.salt.0.as_slice()) else {
            return Err(damaged(format!("slot {} has no salt", self.id)));
        };
        match secret {
            SlotSecret::Passphrase(secret) => {
                let cost = self.cost()?.unwrap_or(kdf::Cost::LEAST);
                kdf::argon2id(cost, secret.expose(), salt)
            }
            SlotSecret::KeyFile(secret)
            | SlotSecret::Identity(secret)
            | SlotSecret::Recovered(secret) => {
                let purpose = match self.kind.as_str() {
                    CREDENTIAL => "seal-slot-credential/v1",
                    RECOVERY => "seal-slot-recovery/v1",
                    _ => "seal-slot-key-file/v1",
                };
                Ok(kdf::derive_salted(secret.expose(), salt, purpose))
            }
        }
    }

    /// Argon2id's cost, for a passphrase. Refuses parameters that are not those of the kind.
    fn cost(&self) -> Result<Option<kdf::Cost>> {
        let expected: &[&str] = match self.kind.as_str() {
            PASSPHRASE => return self.passphrase_cost().map(Some),
            CREDENTIAL => &[NAME],
            RECOVERY => &[RECIPIENT, SEALED],
            _ => &[],
        };
        let text = |name: &str| self.parameters.get(name).and_then(Value::as_str);
        if self.parameters.len() != expected.len() || expected.iter().any(|it| text(it).is_none()) {
            return Err(Error::invalid(
                "parameters",
                format!(
                    "expected {}",
                    if expected.is_empty() {
                        "none".to_owned()
                    } else {
                        expected.join(" and ")
                    }
                ),
            ));
        }
        if let Some(name) = text(NAME) {
            check_credential_name(name)?;
        }
        if let Some(recipient) = text(RECIPIENT) {
            agefile::check_recipient(recipient)?;
        }
        if text(SEALED).is_some_and(|sealed| hex::decode(sealed).is_err()) {
            return Err(Error::invalid("parameters", "`sealed` is not hex digits"));
        }
        Ok(None)
    }

    fn passphrase_cost(&self) -> Result<kdf::Cost> {
        let Parameters {
            kdf,
            memory_kib,
            passes,
            lanes,
        } = serde_json::from_value(Value::Object(self.parameters.clone()))
            .map_err(|why| Error::invalid("parameters", why.to_string()))?;
        if kdf != ARGON2ID {
            return Err(Error::invalid(
                "parameters",
                format!("the function is `{}`; expected {ARGON2ID}", shown(&kdf)),
            ));
        }
        let cost = kdf::Cost {
            memory_kib,
            passes,
            lanes,
        };
        cost.check()?;
        Ok(cost)
    }

    /// What the wrapped root key is bound to.
    fn aad(&self, instance: InstanceId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [
            b"seal-slot/v1".as_slice(),
            instance.as_bytes(),
            self.id.as_bytes(),
            self.kind.as_bytes(),
            &format::canonical(&self.parameters, ""),
        ] {
            push_field(&mut bytes, field);
        }
        bytes
    }

    fn sum(&self) -> [u8; 32] {
        sha256(&format::canonical(self, "checksum"))
    }
}

/// What someone can do who knows the format and has no secret.
#[cfg(test)]
impl Slot {
    pub(super) fn mend_checksum(&mut self) {
        self.checksum = Bytes(self.sum().to_vec());
    }

    pub(super) fn swap_wrapped(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.wrapped, &mut other.wrapped);
    }
}

/// A slot and its right key.
pub struct Opener<'a> {
    slot: &'a Slot,
    slot_key: Key,
}

impl Opener<'_> {
    /// The root key, if the slot stands in the file of its own instance and is as it was written.
    pub fn unwrap(&self, instance: InstanceId) -> Option<Key> {
        let mut bytes = Zeroizing::new(self.slot.wrapped.0.clone());
        let root = wrapping_key(&self.slot_key)
            .ok()?
            .open_in_place(zero_nonce(), Aad::from(self.slot.aad(instance)), &mut bytes)
            .ok()?;
        Key::from_slice(root)
    }
}

const ARGON2ID: &str = "argon2id";

/// The parameters of a passphrase.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

fn parameters(new: &NewSlot, cost: kdf::Cost) -> Map<String, Value> {
    match new.secret {
        SlotSecret::Passphrase(_) => Map::from_iter([
            ("kdf".to_owned(), ARGON2ID.into()),
            ("memory_kib".to_owned(), cost.memory_kib.into()),
            ("passes".to_owned(), cost.passes.into()),
            ("lanes".to_owned(), cost.lanes.into()),
        ]),
        _ => new.parameters.clone(),
    }
}

/// systemd takes any file name; these are the ones that need no quotes anywhere.
pub fn check_credential_name(name: &str) -> Result<()> {
    let fits = (1..=128).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fits {
        return Ok(());
    }
    Err(Error::invalid(
        "name",
        format!(
            "`{}` is not a credential's name: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ -",
            shown(name)
        ),
    ))
}

/// Only values that have one way to be written, at any depth.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
    }
}

fn check_value(slot_key: &Key) -> Key {
    kdf::derive(slot_key, "seal-slot-check/v1")
}

fn wrapping_key(slot_key: &Key) -> Result<LessSafeKey> {
    UnboundKey::new(
        &AES_256_GCM,
        kdf::derive(slot_key, "seal-slot-wrap/v1").expose(),
    )
    .map(LessSafeKey::new)
    .map_err(|_| Error::internal("AES-256-GCM took no 32-byte key"))
}

/// Zero, since the wrapping key is used once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn wrap(slot_key: &Key, root: &Key, aad: &[u8]) -> Result<Vec<u8>> {
    // Encrypted where it lies, and never moved: no copy of the root key is left behind.
    let mut wrapped = Vec::with_capacity(WRAPPED);
    wrapped.extend_from_slice(root.expose());
    wrapping_key(slot_key)?
        .seal_in_place_append_tag(zero_nonce(), Aad::from(aad), &mut wrapped)
        .map_err(|_| Error::internal("AES-256-GCM did not encrypt"))?;
    Ok(wrapped)
}
