//! `seal.json`: the root key R, wrapped once by each slot; any one slot opens it.
//!
//! Three things can be wrong, and each has its own error: the secret (`wrong_passphrase`,
//! `wrong_key_file`), the file (`seal_damaged`), and the place (`seal_foreign`, another instance's
//! file). A file of a newer format is `seal_newer`. Slots of kinds that this version does not know
//! are kept, listed, covered by the tag, and cannot be opened. The bytes are described in
//! `docs/formats/seal.md`. This room neither reads nor writes files.

mod format;
mod slot;

use serde_json::{Map, Value};

use self::format::Document;
pub use self::format::{FORMAT, MAX_BYTES, MAX_SLOTS};
use self::slot::Slot;
use super::chain::Tagger;
use super::{agefile, kdf, keygen};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::id::{InstanceId, SlotId, shown};
use crate::secret::{Key, Secret};

/// A passphrase is at most this long; so is a key file.
pub const MAX_SECRET: usize = 1 << 20;
/// A key file is at least this long. It is not stretched: it must be random.
pub const MIN_KEY_FILE: usize = 16;
/// A label is at most this long, in bytes.
pub const MAX_LABEL: usize = 128;

/// What opens a slot.
pub enum SlotSecret {
    Passphrase(Secret<Vec<u8>>),
    /// Also a systemd credential, which is a key file that systemd hands over.
    KeyFile(Secret<Vec<u8>>),
    /// The age identity of a recovery slot's recipient.
    Identity(Secret<Vec<u8>>),
    /// What that identity finds in the slot ([`recover`]).
    Recovered(Secret<Vec<u8>>),
}

impl SlotSecret {
    /// A passphrase as read from a file or standard input: one line end at its end is the editor's,
    /// not the passphrase's, and is dropped. All else counts, byte for byte.
    pub fn passphrase_from_file(bytes: Vec<u8>) -> Self {
        Self::Passphrase(without_line_end(bytes))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Passphrase(secret)
            | Self::KeyFile(secret)
            | Self::Identity(secret)
            | Self::Recovered(secret) => secret.expose(),
        }
    }

    /// Whether slots of this kind are for such a secret.
    fn opens(&self, kind: &str) -> bool {
        match self {
            Self::Passphrase(_) => kind == slot::PASSPHRASE,
            Self::KeyFile(_) => matches!(kind, slot::KEY_FILE | slot::CREDENTIAL),
            Self::Identity(_) | Self::Recovered(_) => kind == slot::RECOVERY,
        }
    }

    /// In words.
    fn name(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::KeyFile(_) => "key file",
            Self::Identity(_) | Self::Recovered(_) => "recovery identity",
        }
    }

    fn wrong_code(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "wrong_passphrase",
            Self::KeyFile(_) => "wrong_key_file",
            Self::Identity(_) | Self::Recovered(_) => "wrong_identity",
        }
    }

    /// Refuses what may not become a slot.
    fn check_new(&self) -> Result<()> {
        let length = self.check_length()?;
        match self {
            Self::Passphrase(_) if length == 0 => Err(Error::invalid(
                "passphrase",
                "the passphrase is empty; choose one that nobody guesses",
            )),
            Self::KeyFile(_) if length < MIN_KEY_FILE => Err(Error::invalid(
                "key_file",
                format!(
                    "the key file has {length} bytes; it must have {MIN_KEY_FILE} or more, all random (head -c 32 /dev/urandom)"
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_length(&self) -> Result<usize> {
        let length = self.bytes().len();
        if length > MAX_SECRET {
            return Err(Error::new(
                Kind::TooLarge,
                "secret_too_large",
                format!(
                    "the {} has {length} bytes; at most {MAX_SECRET} are read",
                    self.name()
                ),
            ));
        }
        Ok(length)
    }
}

/// A file's bytes without one line end at their end.
pub fn without_line_end(mut bytes: Vec<u8>) -> Secret<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.truncate(bytes.len() - 1);
        if bytes.last() == Some(&b'\r') {
            bytes.truncate(bytes.len() - 1);
        }
    }
    Secret::new(bytes)
}

/// What a new slot is made from.
pub struct NewSlot {
    kind: &'static str,
    secret: SlotSecret,
    /// What the kind needs beside the secret; of a passphrase what Argon2id costs, which is not known
    /// yet.
    parameters: Map<String, Value>,
}

impl NewSlot {
    pub fn passphrase(secret: Secret<Vec<u8>>) -> Self {
        Self {
            kind: slot::PASSPHRASE,
            secret: SlotSecret::Passphrase(secret),
            parameters: Map::new(),
        }
    }

    pub fn key_file(secret: Secret<Vec<u8>>) -> Self {
        Self {
            kind: slot::KEY_FILE,
            secret: SlotSecret::KeyFile(secret),
            parameters: Map::new(),
        }
    }

    /// Bytes that systemd hands over as the credential `name` (systemd.exec(5), `LoadCredential=`).
    ///
    /// # Errors
    /// `Invalid` for what is no name of a credential.
    pub fn credential(name: &str, secret: Secret<Vec<u8>>) -> Result<Self> {
        slot::check_credential_name(name)?;
        Ok(Self {
            kind: slot::CREDENTIAL,
            secret: SlotSecret::KeyFile(secret),
            parameters: Map::from_iter([(slot::NAME.to_owned(), name.into())]),
        })
    }

    /// Whoever has the identity of this age recipient opens it.
    ///
    /// # Errors
    /// `Invalid` for what is no recipient.
    pub fn recovery(recipient: &str) -> Result<Self> {
        let drawn = keygen::key();
        let sealed = agefile::encrypt(&[recipient.to_owned()], drawn.expose())?;
        Ok(Self {
            kind: slot::RECOVERY,
            secret: SlotSecret::Recovered(Secret::new(drawn.expose().to_vec())),
            parameters: Map::from_iter([
                (slot::RECIPIENT.to_owned(), recipient.into()),
                (slot::SEALED.to_owned(), hex::encode(sealed).into()),
            ]),
        })
    }

    /// What opens the slot that is made from this.
    pub fn secret(&self) -> &SlotSecret {
        &self.secret
    }
}

/// What the identity of a recovery slot's recipient finds in that slot; none if it is another's.
///
/// # Errors
/// `Invalid` where `identity` holds no age identity.
pub fn recover(
    kind: &str,
    parameters: &Map<String, Value>,
    identity: &Secret<Vec<u8>>,
) -> Result<Option<SlotSecret>> {
    agefile::check_identity(identity)?;
    let sealed = parameters.get(slot::SEALED).and_then(Value::as_str);
    let Some(sealed) = sealed.and_then(|hex| hex::decode(hex).ok()) else {
        return Ok(None);
    };
    if kind != slot::RECOVERY {
        return Ok(None);
    }
    match agefile::decrypt(identity, &sealed) {
        Ok(found) => Ok(Some(SlotSecret::Recovered(found))),
        Err(_) => Ok(None),
    }
}

/// One slot as `slot list` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotInfo {
    pub id: SlotId,
    /// Its place in the file, from 1; the number that messages use.
    pub number: usize,
    /// `passphrase`, `key_file`, `credential`, `recovery`, or a kind that this version does not know.
    pub kind: String,
    pub label: String,
    pub created: Timestamp,
    /// What the kind needs beside the secret (docs/formats/seal.md).
    pub parameters: Map<String, Value>,
    /// Whether this version of the program can open it.
    pub known: bool,
}

impl SlotInfo {
    /// The name of the systemd credential that opens it.
    pub fn credential(&self) -> Option<&str> {
        let name = self.parameters.get(slot::NAME).and_then(Value::as_str);
        name.filter(|_| self.kind == slot::CREDENTIAL)
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq)]
pub struct SealFile {
    document: Document,
}

impl SealFile {
    /// A file without slots, which is not yet fit to be written.
    pub fn new(instance: InstanceId) -> Self {
        Self {
            document: Document::new(instance),
        }
    }

    /// Reads a file. All lengths are capped, and each slot's checksum is verified; whether the file
    /// is genuine is known only after [`SealFile::open`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Document::parse(bytes).map(|document| Self { document })
    }

    /// The file as it is written.
    pub fn to_json(&self) -> Vec<u8> {
        self.document.to_json()
    }

    pub fn instance(&self) -> InstanceId {
        self.document.instance
    }

    /// Goes up by one with each change. Whoever keeps the highest one seen can refuse an older file.
    pub fn generation(&self) -> u64 {
        self.document.generation
    }

    pub fn slots(&self) -> Vec<SlotInfo> {
        self.numbered()
            .map(|(number, slot)| SlotInfo {
                id: slot.id,
                number,
                kind: slot.kind.clone(),
                label: slot.label.clone(),
                created: slot.created,
                parameters: slot.parameters.clone(),
                known: slot.known(),
            })
            .collect()
    }

    /// Refuses another instance's file.
    pub fn check_instance(&self, expected: InstanceId) -> Result<()> {
        let found = self.instance();
        if found != expected {
            return Err(Error::conflict(
                "seal_foreign",
                format!(
                    "seal.json belongs to another instance: expected {expected}, found {found}; put back this instance's own seal.json from a backup"
                ),
            ));
        }
        Ok(())
    }

    /// Adds a slot that `secret` opens, and makes the next generation. `root` must be the file's own
    /// root key. For a passphrase this calibrates Argon2id, which takes about a second.
    pub fn add_slot(
        &mut self,
        root: &Key,
        new: &NewSlot,
        label: &str,
        now: Timestamp,
    ) -> Result<SlotId> {
        // Before the calibration, so that a refusal comes at once.
        new.secret.check_new()?;
        let cost = match new.secret {
            SlotSecret::Passphrase(_) => kdf::calibrate()?,
            _ => kdf::Cost::LEAST,
        };
        self.add_slot_at_cost(root, new, label, cost, now)
    }

    /// [`SealFile::add_slot`] without the calibration. `cost` counts for passphrases only.
    pub(crate) fn add_slot_at_cost(
        &mut self,
        root: &Key,
        new: &NewSlot,
        label: &str,
        cost: kdf::Cost,
        now: Timestamp,
    ) -> Result<SlotId> {
        new.secret.check_new()?;
        format::check_label(label)?;
        self.verify_tag(root)?;
        if self.document.slots.len() >= MAX_SLOTS {
            return Err(Error::conflict(
                "slots_full",
                format!("seal.json has {MAX_SLOTS} slots, the most it can hold; remove one first"),
            ));
        }
        let slot = Slot::make(self.instance(), root, new, label, cost, now)?;
        let id = slot.id;
        self.document.slots.push(slot);
        self.retag(root);
        Ok(id)
    }

    /// Removes a slot and makes the next generation. The last slot that this version can open stays.
    pub fn remove_slot(&mut self, root: &Key, id: SlotId) -> Result<()> {
        self.verify_tag(root)?;
        let (number, _) = self.find(id)?;
        let others_open = self
            .document
            .slots
            .iter()
            .any(|slot| slot.id != id && slot.known());
        if !others_open {
            return Err(Error::conflict(
                "last_slot",
                format!("slot {number} is the last one that opens this server; add another first"),
            ));
        }
        self.document.slots.retain(|slot| slot.id != id);
        self.retag(root);
        Ok(())
    }

    /// Makes this the generation `to`, where an older file is to count as the newest. `root` must be the
    /// file's own root key.
    pub fn advance(&mut self, root: &Key, to: u64) -> Result<()> {
        self.verify_tag(root)?;
        self.document.generation = to.saturating_sub(1);
        self.retag(root);
        Ok(())
    }

    /// The next generation, for another root key: with a slot for each of these that one of `secrets`
    /// opens, and for each recovery recipient. Whoever has the secret of another slot has no slot in it.
    ///
    /// # Errors
    /// None of `secrets` opens any slot.
    pub fn rotated(
        &self,
        root: &Key,
        next: &Key,
        secrets: &[SlotSecret],
        now: Timestamp,
    ) -> Result<Self> {
        self.verify_tag(root)?;
        let mut file = Self::new(self.instance());
        for slot in &self.document.slots {
            let Some((new, cost)) = slot.again(secrets)? else {
                continue;
            };
            let made = Slot::make(self.instance(), next, &new, &slot.label, cost, now)?;
            file.document.slots.push(made);
        }
        file.document.generation = self.generation();
        file.retag(next);
        let file = Self::parse(&file.to_json())?;
        // A recovery slot is made for its recipient: what opened the old one is another secret.
        let same =
            |it: &&SlotSecret| matches!(it, SlotSecret::Passphrase(_) | SlotSecret::KeyFile(_));
        for secret in secrets.iter().filter(same) {
            let (opened, _) = file.open(secret, None)?;
            if !opened.matches(next.expose()) {
                return Err(Error::internal("a new slot opens to another root key"));
            }
        }
        Ok(file)
    }

    /// The file of another instance with the same root key: with the slot alone that `secret` opens.
    ///
    /// # Errors
    /// `secret` does not open the slot.
    pub fn for_clone(
        &self,
        instance: InstanceId,
        root: &Key,
        (secret, slot): (SlotSecret, SlotId),
        now: Timestamp,
    ) -> Result<Self> {
        self.verify_tag(root)?;
        let (number, slot) = self.find(slot)?;
        let secrets = [secret];
        let Some((new, cost)) = slot.again(&secrets)? else {
            return Err(self.wrong(&secrets[0], &[(number, slot)]));
        };
        let mut file = Self::new(instance);
        let made = Slot::make(instance, root, &new, &slot.label, cost, now)?;
        file.document.slots.push(made);
        file.document.generation = self.generation();
        file.retag(root);
        let file = Self::parse(&file.to_json())?;
        let (opened, _) = file.open(&secrets[0], None)?;
        match opened.matches(root.expose()) {
            true => Ok(file),
            false => Err(Error::internal("a new slot opens to another root key")),
        }
    }

    /// The root key, and the slot that gave it. Without `slot`, every slot of the secret's kind is
    /// tried. Afterwards the whole file is known to be as it was written by a holder of the root key.
    pub fn open(&self, secret: &SlotSecret, slot: Option<SlotId>) -> Result<(Key, SlotId)> {
        secret.check_length()?;
        let candidates: Vec<(usize, &Slot)> = match slot {
            Some(id) => vec![self.find(id)?],
            None => self
                .numbered()
                .filter(|(_, slot)| secret.opens(&slot.kind))
                .collect(),
        };
        if let Some((number, other)) = candidates.iter().find(|(_, it)| !secret.opens(&it.kind)) {
            return Err(self.other_kind(*number, other, secret));
        }
        for (number, slot) in &candidates {
            let Some(opener) = slot.opener(secret)? else {
                continue;
            };
            let root = opener.unwrap(self.instance()).ok_or_else(|| {
                damaged(format!(
                    "the {} is the one of {}, but the root key in it does not unwrap: the instance ({}), or the slot's id, kind or parameters were changed, or the slot comes from another instance's file",
                    secret.name(),
                    describe(*number, slot),
                    self.instance()
                ))
            })?;
            self.verify_tag(&root)?;
            return Ok((root, slot.id));
        }
        Err(self.wrong(secret, &candidates))
    }

    fn wrong(&self, secret: &SlotSecret, tried: &[(usize, &Slot)]) -> Error {
        if tried.is_empty() {
            let slots = list(self.numbered());
            return Error::denied(
                secret.wrong_code(),
                format!(
                    "no slot of seal.json opens with a {}; it has {}",
                    secret.name(),
                    if slots.is_empty() {
                        "none at all"
                    } else {
                        &slots
                    }
                ),
            );
        }
        let empty = if secret.bytes().is_empty() {
            " (it is empty)"
        } else {
            ""
        };
        let next = if self.document.slots.len() > tried.len() {
            "try another slot with --slot, or restore"
        } else {
            "try again, or restore from a backup whose secret you have"
        };
        Error::denied(
            secret.wrong_code(),
            format!(
                "{}{empty} does not open {}; {next}",
                secret.name(),
                list(tried.iter().copied())
            ),
        )
    }

    fn other_kind(&self, number: usize, slot: &Slot, secret: &SlotSecret) -> Error {
        let why = if slot.known() {
            "".to_owned()
        } else {
            format!(
                " of kind `{}`, which needs a newer Strongroom",
                shown(&slot.kind)
            )
        };
        Error::denied(
            secret.wrong_code(),
            format!(
                "{} is a slot{why} that no {} opens; choose another with --slot",
                describe(number, slot),
                secret.name()
            ),
        )
    }

    fn find(&self, id: SlotId) -> Result<(usize, &Slot)> {
        self.numbered()
            .find(|(_, slot)| slot.id == id)
            .ok_or_else(|| {
                Error::not_found(format!(
                    "seal.json has no slot {id}; it has {}",
                    list(self.numbered())
                ))
            })
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Slot)> {
        (1..).zip(&self.document.slots)
    }

    fn retag(&mut self, root: &Key) {
        self.document.generation += 1;
        let tag = tagger(root).tag(&self.document.tagged());
        self.document.tag = format::Bytes(tag.to_vec());
    }

    /// A file without slots has no tag yet.
    fn verify_tag(&self, root: &Key) -> Result<()> {
        if self.document.slots.is_empty() && self.document.generation == 0 {
            return Ok(());
        }
        if tagger(root).verify(&self.document.tagged(), &self.document.tag.0) {
            return Ok(());
        }
        Err(damaged(format!(
            "the root key opens, but the tag over the whole file (instance {}, generation {}, {} slots) is not its own: the generation or a slot was changed, removed, or brought in from another file",
            self.instance(),
            self.generation(),
            self.document.slots.len()
        )))
    }
}

fn tagger(root: &Key) -> Tagger {
    Tagger::new(&kdf::derive(root, "seal-tag/v1"))
}

/// `slot 2 ("laptop", created 2026-11-22T08:00:00Z)`
fn describe(number: usize, slot: &Slot) -> String {
    format!(
        "slot {number} (\"{}\", created {})",
        shown(&slot.label),
        slot.created
    )
}

fn list<'a>(slots: impl Iterator<Item = (usize, &'a Slot)>) -> String {
    slots
        .map(|(number, slot)| describe(number, slot))
        .collect::<Vec<_>>()
        .join(", ")
}

fn damaged(what: String) -> Error {
    Error::unavailable(
        "seal_damaged",
        format!("seal.json is damaged: {what}; put it back from a backup"),
    )
}

#[cfg(test)]
mod tests;
