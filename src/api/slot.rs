//! Slots of seal.json on the wire. Secrets are base64: they are bytes, not text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::id::SlotId;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Slot {
    pub id: SlotId,
    /// Its place in the file, from 1.
    pub number: u32,
    /// `passphrase`, `key_file`, `credential`, `recovery`, or a kind that this version does not know.
    pub kind: String,
    pub label: String,
    pub created: Timestamp,
    /// What the kind needs beside its secret: a passphrase what Argon2id costs, a credential its
    /// `name`, a recovery slot its `recipient` and an age file for it, in hex.
    #[schema(value_type = Object)]
    pub parameters: Map<String, Value>,
    /// Whether this version can open it.
    pub known: bool,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Slots {
    /// Goes up with each change.
    pub generation: u64,
    pub slots: Vec<Slot>,
}

/// What opens a slot, in base64.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotSecret {
    Passphrase(String),
    /// Also what is in a systemd credential.
    KeyFile(String),
    /// What the age file of a recovery slot holds. Whoever has the identity decrypts it, so that the
    /// identity stays where it is.
    Recovered(String),
}

/// What a new slot is made from; secrets in base64.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewSlot {
    Passphrase(String),
    KeyFile(String),
    Credential(Credential),
    Recovery(Recovery),
}

/// Bytes that systemd hands to the server.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// As in `LoadCredential=`: a letter or digit, then up to 127 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// 16 bytes or more, all random.
    pub secret: String,
}

/// Whoever has the recipient's identity opens it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// `age1…`, `ssh-ed25519 …` or `ssh-rsa …`
    pub recipient: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSlot {
    /// For people: up to 128 bytes without control characters.
    pub label: String,
    /// What is to open the new slot.
    pub secret: NewSlot,
    /// What opens a slot that is there.
    pub opener: SlotSecret,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceSlot {
    /// None keeps the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub secret: NewSlot,
    pub opener: SlotSecret,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRoot {
    /// Each opens a slot, which is there again afterwards; and so are recovery slots. All others go.
    pub openers: Vec<SlotSecret>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RootRotated {
    pub generation: u64,
    pub slots: Vec<Slot>,
    /// Slots whose secret was not given: they open the server no more.
    pub gone: Vec<Slot>,
}

/// What opens a slot that is there.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenSlot {
    pub opener: SlotSecret,
}
