//! Backups that were taken, as the server remembers them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// What lies around the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Encrypted by age, to recipients.
    Age,
    /// Encrypted by OpenPGP.
    Gpg,
    /// Not encrypted as a whole.
    Clear,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::Age, Self::Gpg, Self::Clear];

    /// The word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Gpg => "gpg",
            Self::Clear => "clear",
        }
    }

    /// What the name of a file ends in.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Age => ".tar.age",
            Self::Gpg => ".tar.gpg",
            Self::Clear => ".tar",
        }
    }
}

impl std::str::FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| Error::internal("a backup has a form that is none"))
    }
}

/// One of those to whom a backup is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EncryptedTo {
    pub kind: EncryptedToKind,
    /// The recipient of age, the fingerprint of the OpenPGP key, or `passphrase`.
    pub text: String,
    /// Whether its identity opens everything, without a slot's secret.
    pub alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncryptedToKind {
    Age,
    Ssh,
    Openpgp,
    /// Nobody's key, but a passphrase.
    Passphrase,
    /// The server's own, with which it proves that its backups open.
    Drill,
}

/// A backup that was decrypted in full, checked, and got its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    pub id: Uuid,
    /// When the copy of the store was begun.
    pub created: Timestamp,
    pub verified: Timestamp,
    /// On the machine of whoever wrote it.
    pub path: String,
    pub form: Form,
    /// Of the file.
    pub bytes: u64,
    /// Of the file, 64 hex digits.
    pub sha256: String,
    /// Of the store, in it.
    pub revision: u64,
    /// When the newest version of a deposit in it was stored.
    pub newest_deposit: Option<Timestamp>,
    pub recipients: Vec<EncryptedTo>,
    /// Whether a job of the server took it: the ladder of those that stay goes by these alone.
    pub by_job: bool,
    /// When it was last proven that it would bring everything back.
    pub drilled: Option<Timestamp>,
    /// When its file went, to make room for later ones.
    pub removed: Option<Timestamp>,
}
