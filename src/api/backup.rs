//! Backups on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::model::backup::{Backup, EncryptedTo, Form};
use crate::model::id::RecipientId;

/// Answers: which backup it is, what its file is to be called, and about how long it will be.
pub const ID: &str = "strongroom-backup-id";
pub const NAME: &str = "strongroom-backup-name";
pub const LENGTH: &str = "strongroom-backup-length";

/// What comes back has no owner, where its own is not there any more.
pub const WITHOUT_OWNER: &str = "without_owner";

/// How a backup is to be encrypted. Without anything said: for the recipients that the store has.
#[derive(Serialize, Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBackup {
    /// Of age: `age1…`, `ssh-ed25519 …`, `ssh-rsa …`.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Ids of recipients that the store has; all of OpenPGP, or none.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub stored: Vec<RecipientId>,
    /// A passphrase of age, instead of recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_passphrase: Option<String>,
    /// With a root key of its own inside, so that its recipients restore it without a slot's secret.
    #[serde(default)]
    pub self_contained: bool,
    /// Not encrypted as a whole; a slot's secret is still needed.
    #[serde(default)]
    pub cleartext: bool,
}

/// What was found in a file that was sent back, or sent to be looked at.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerifiedBackup {
    pub id: Uuid,
    /// When the copy of the store was begun.
    pub created: Timestamp,
    pub fqdn: String,
    pub form: Form,
    /// Of the file.
    pub bytes: u64,
    /// 64 hex digits.
    pub sha256: String,
    pub revision: u64,
    /// When the newest version of a deposit was stored.
    pub newest_deposit: Option<Timestamp>,
    pub deposits: u64,
    pub recipients: Vec<EncryptedTo>,
}

/// Where a verified backup lies from now on.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepBackup {
    /// An absolute path.
    pub path: String,
}

/// Why a backup failed, or why its file is gone.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupEnd {
    pub why: String,
}

/// The newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Backups {
    pub backups: Vec<Backup>,
}
