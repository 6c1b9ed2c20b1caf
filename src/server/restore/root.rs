//! What opens a backup beside its encryption: a slot of its seal.json, or the root key in it.

use super::{As, SealFile, Wanted, slots_said};
use crate::backup::manifest::{Manifest, damaged};
use crate::backup::read::{Opener, Small};
use crate::crypto::seal::{MIN_KEY_FILE, SlotSecret};
use crate::error::{Error, Result};
use crate::model::backup::EncryptedToKind;
use crate::model::id::SlotId;
use crate::secret::Key;
use crate::service::drill;

/// A backup's root key, and where its slots come from.
pub struct Root {
    pub root: Key,
    pub slots: Slots,
    /// The name that the server gets, if it gets another.
    pub fqdn: Option<String>,
}

pub enum Slots {
    /// Its own seal.json, with what opened which slot of it.
    Kept(SealFile, SlotSecret, SlotId),
    /// One that is made.
    Made(SlotSecret),
}

/// Opens it at once, before anything large is read.
pub fn unlocked(manifest: &Manifest, small: &Small, wanted: Wanted) -> Result<Root> {
    let fqdn = match (wanted.becomes, wanted.fqdn) {
        (As::Same, Some(_)) => {
            return Err(Error::invalid(
                "fqdn",
                "a server that goes on as the same keeps its name; with another it is --as new, or --as clone",
            ));
        }
        (As::Same, None) => None,
        (As::New | As::Clone, Some(fqdn)) => Some(fqdn),
        (As::New | As::Clone, None) => Some(host_name()?),
    };
    let seal = match &small.opener {
        Opener::Root(root) => {
            let root = drill::root_inside(root)?;
            let secret = new_slot(wanted.secret)?;
            return Ok(Root {
                root,
                slots: Slots::Made(secret),
                fqdn,
            });
        }
        Opener::Seal(seal) => SealFile::parse(seal)?,
    };
    if seal.instance() != manifest.instance {
        return Err(damaged(
            "its seal.json is of another instance than its manifest",
        ));
    }
    let (secret, given) = match (wanted.secret, wanted.identity) {
        (Some(secret), _) => (secret, true),
        (None, Some(identity)) => (SlotSecret::Identity(identity), false),
        (None, None) => return Err(missing(manifest, "")),
    };
    let (root, slot) = match seal.open(&secret, wanted.slot) {
        Err(error) if !given && error.code == "wrong_identity" => {
            return Err(
                missing(manifest, "the identity is that of no recovery slot: ").because(error),
            );
        }
        opened => opened?,
    };
    Ok(Root {
        root,
        slots: Slots::Kept(seal, secret, slot),
        fqdn,
    })
}

/// What a slot is made from, where the backup brings none.
fn new_slot(secret: Option<SlotSecret>) -> Result<SlotSecret> {
    match secret {
        Some(SlotSecret::Passphrase(secret)) if !secret.expose().is_empty() => {
            Ok(SlotSecret::Passphrase(secret))
        }
        Some(SlotSecret::KeyFile(secret)) if secret.expose().len() >= MIN_KEY_FILE => {
            Ok(SlotSecret::KeyFile(secret))
        }
        _ => Err(Error::denied(
            "slot_secret_missing",
            format!(
                "this backup holds its root key and no slot; give what opens the server from now on: --passphrase-file F, or --key-file F with {MIN_KEY_FILE} random bytes or more"
            ),
        )),
    }
}

fn missing(manifest: &Manifest, why: &str) -> Error {
    let alone: Vec<String> = manifest
        .recipients
        .iter()
        .filter(|recipient| recipient.alone && recipient.kind != EncryptedToKind::Drill)
        .map(|recipient| crate::model::id::shown(&recipient.text))
        .collect();
    let alone = match alone.is_empty() {
        true => String::new(),
        false => format!("; the identity of {} is enough alone", alone.join(", ")),
    };
    Error::denied(
        "slot_secret_missing",
        format!(
            "{why}what is in this backup lies under the root key of its server; give what opens one of its slots (--passphrase-file F, --key-file F or --slot-identity F): {}{alone}",
            slots_said(&manifest.slots)
        ),
    )
}

/// The name that this machine has.
fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    match name.is_empty() {
        true => Err(Error::invalid(
            "fqdn",
            "this machine has no name; give the one that clients reach it by: --fqdn HOST",
        )),
        false => Ok(name.to_owned()),
    }
}
