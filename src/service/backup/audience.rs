//! For whom a backup is encrypted: those who were named, else those whom the store has.

use std::sync::Arc;

use crate::api::backup::CreateBackup;
use crate::clock::Timestamp;
use crate::crypto::agefile;
use crate::crypto::openpgp::PublicKey;
use crate::crypto::seal::SealFile;
use crate::error::{Error, Result};
use crate::model::backup::{EncryptedTo, EncryptedToKind, Form};
use crate::model::filter::Filter;
use crate::model::id::RecipientId;
use crate::model::recipient::Recipient;
use crate::secret::Secret;
use crate::service::Service;
use crate::service::recipient::RecipientKey;
use crate::store::Start;

/// The most that one backup is for, beside the server itself.
const MOST: usize = 100;

/// Whoever opens it, beside the server itself.
pub enum Audience {
    /// Recipients of age.
    Age(Vec<String>),
    Openpgp(Vec<PublicKey>),
    /// Whoever knows a passphrase of age.
    Passphrase(Arc<Secret<String>>),
    /// Not encrypted as a whole.
    Nobody,
}

impl Audience {
    /// # Errors
    /// `no_recipient` where nobody was named, and the store has none; what is wrong with one.
    pub async fn of(service: &Service, request: &CreateBackup, now: Timestamp) -> Result<Self> {
        let named = !request.recipients.is_empty() || !request.stored.is_empty();
        if let Some(passphrase) = &request.age_passphrase {
            if named || request.cleartext {
                return Err(Error::invalid(
                    "age_passphrase",
                    "a file that has a passphrase has no recipient beside it; give one or the other",
                ));
            }
            let passphrase = Secret::new(passphrase.clone());
            // Whether age takes it, before anything is copied.
            agefile::passphrase_writer(&passphrase, std::io::sink())?;
            return Ok(Self::Passphrase(Arc::new(passphrase)));
        }
        if request.cleartext && request.self_contained {
            return Err(Error::invalid(
                "self_contained",
                "a self-contained backup holds the key to everything in it, so it is never in the clear; give a recipient",
            ));
        }
        if request.cleartext {
            return match named {
                true => Err(Error::invalid(
                    "cleartext",
                    "a backup is for recipients or in the clear, not both",
                )),
                false => Ok(Self::Nobody),
            };
        }
        if request.recipients.len() + request.stored.len() > MOST {
            return Err(Error::invalid(
                "recipients",
                format!("a backup is for {MOST} recipients at most"),
            ));
        }
        let ids = match named {
            true => request.stored.clone(),
            false => preferred(&known(service, now).await?, now),
        };
        let mut age = request.recipients.clone();
        age.iter().try_for_each(|it| agefile::check_recipient(it))?;
        let mut openpgp = Vec::new();
        for id in ids {
            match service.recipient_key(id, now)?.1 {
                RecipientKey::Age(text) => age.push(text),
                RecipientKey::Openpgp(key) => openpgp.push(*key),
            }
        }
        match (age.is_empty(), openpgp.is_empty()) {
            (false, true) => Ok(Self::Age(age)),
            (true, false) => Ok(Self::Openpgp(openpgp)),
            (false, false) => Err(Error::invalid(
                "recipients",
                "a file is encrypted by age or by OpenPGP, not by both; take a backup for each",
            )),
            (true, true) => Err(Error::conflict(
                "no_recipient",
                "nobody is named who is to open it, and the store has no recipient that works: name one (--recipient age1…, or an SSH public key; --gpg-recipient NAME), or keep one for all backups (strongroom recipient add age1…); --cleartext makes one that the secret of a slot opens",
            )),
        }
    }

    pub fn form(&self) -> Form {
        match self {
            Self::Age(_) | Self::Passphrase(_) => Form::Age,
            Self::Openpgp(_) => Form::Gpg,
            Self::Nobody => Form::Clear,
        }
    }

    /// What the manifest says. One that is also a recovery slot opens everything alone.
    pub fn told(&self, drill: &str, seal: Option<&SealFile>) -> Vec<EncryptedTo> {
        // Without slots, whoever decrypts it has all that it takes.
        let all = seal.is_none();
        let slots = seal.map(SealFile::slots).unwrap_or_default();
        let recovery: Vec<String> = slots
            .iter()
            .filter_map(|slot| slot.parameters.get("recipient")?.as_str())
            .map(str::to_owned)
            .collect();
        let mut told: Vec<EncryptedTo> = match self {
            Self::Nobody => return Vec::new(),
            Self::Passphrase(_) => {
                let text = "passphrase".to_owned();
                let kind = EncryptedToKind::Passphrase;
                return vec![EncryptedTo {
                    kind,
                    text,
                    alone: all,
                }];
            }
            Self::Age(texts) => texts
                .iter()
                .map(|text| EncryptedTo {
                    kind: match text.starts_with("ssh-") {
                        true => EncryptedToKind::Ssh,
                        false => EncryptedToKind::Age,
                    },
                    alone: all || recovery.iter().any(|it| same(it, text)),
                    text: text.clone(),
                })
                .collect(),
            Self::Openpgp(keys) => keys
                .iter()
                .map(|key| EncryptedTo {
                    kind: EncryptedToKind::Openpgp,
                    text: key.fingerprint(),
                    alone: all,
                })
                .collect(),
        };
        told.push(EncryptedTo {
            kind: EncryptedToKind::Drill,
            text: drill.to_owned(),
            alone: all,
        });
        told
    }
}

/// The comment behind an SSH key does not count.
fn same(one: &str, other: &str) -> bool {
    let key = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().take(2);
        words.map(str::to_owned).collect()
    };
    key(one) == key(other)
}

async fn known(service: &Service, now: Timestamp) -> Result<Vec<Recipient>> {
    let all = service
        .store
        .recipients(Start::Beginning, Filter::parse(&[], now)?, MOST)
        .await?;
    Ok(all.items)
}

/// Those of age and SSH, of which a file may have many; else those of OpenPGP.
fn preferred(known: &[Recipient], now: Timestamp) -> Vec<RecipientId> {
    use crate::model::recipient::RecipientKind::{Age, Openpgp, Ssh};
    let ids = |kinds: &[crate::model::recipient::RecipientKind]| -> Vec<RecipientId> {
        let works = |it: &&Recipient| it.why_not(now).is_none() && kinds.contains(&it.kind);
        known.iter().filter(works).map(|it| it.id).collect()
    };
    match ids(&[Age, Ssh]) {
        none if none.is_empty() => ids(&[Openpgp]),
        some => some,
    }
}
