//! Recipients of backups on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::recipient::Recipient;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRecipient {
    /// `age1…`, `ssh-ed25519 …`, `ssh-rsa …` (a comment behind it is its label if none is given), or
    /// one OpenPGP public key, armored, of up to 48 KiB.
    pub recipient: String,
    /// What it is for; up to 255 bytes.
    #[serde(default)]
    pub label: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecipientAdded {
    pub recipient: Recipient,
    /// The OpenPGP key was there, and what it says of itself (its end, its user ids) is new.
    pub renewed: bool,
}
