//! From a slot's secret to an open store: seal.json, node.json, the system keys.

use std::path::PathBuf;

use crate::clock::Timestamp;
use crate::crypto::chain::{Signer, Tagger};
use crate::crypto::envelope;
use crate::crypto::seal::{MAX_SECRET, SealFile, SlotSecret};
use crate::crypto::x509::InstanceIdentity;
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::id::{InstanceId, SlotId};
use crate::secret::{Key, Secret};
use crate::service::keyring::system_aad;
use crate::service::root::{self, kek_of};
use crate::service::slot;
use crate::store::{Keys, Opened, WrappedKey};

use super::node::Node;

/// The names under which system keys lie in the store.
pub(super) const AUDIT: &str = "audit";
pub(super) const ANSWERS: &str = "answers";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const IDENTITY: &str = "identity";
pub(super) const IDENTITY_CERTIFICATE: &str = "identity_certificate";

/// A data folder with its root key at hand, and nothing running.
pub struct Unlocked {
    pub instance: InstanceId,
    pub slot: SlotId,
    /// Of the store as it was found, and as it is now.
    pub schema: (usize, usize),
    pub generation: u64,
    /// Set where a newer seal.json was there before.
    pub older: Option<Older>,
    pub kek: Key,
    pub kek_version: u32,
    pub opened: Opened,
    pub identity: InstanceIdentity,
    pub signer: Signer,
    /// For the service's own checks.
    pub tagger: Tagger,
    pub keys: Keys,
}

/// A seal.json that was put back from an older copy.
#[derive(Clone, Copy, Debug)]
pub struct Older {
    pub found: u64,
    /// The newest that the store or `node.json` knows.
    pub known: u64,
}

impl Older {
    fn of_an_old_root(self) -> Error {
        Error::unavailable(
            "seal_older",
            format!(
                "seal.json is of generation {}, from before the root key was made anew (generation {} was there since): what it opens opens nothing any more; put back the newest one",
                self.found, self.known
            ),
        )
    }

    pub fn refusal(self) -> Error {
        Error::conflict(
            "seal_older",
            format!(
                "seal.json is of generation {}, and generation {} was there before: it was put back from an older copy, in which a slot may open that was removed since. Put back the newest one; or, if it is lost, serve with --accept-old-seal, and look through `strongroom slot list`",
                self.found, self.known
            ),
        )
    }
}

/// Where systemd puts credentials for a service (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What systemd handed over for one of the folder's slots; none if it did not.
///
/// # Errors
/// The credential is there and cannot be read.
pub fn credential(folder: &Folder) -> Result<Option<SlotSecret>> {
    let Some(handed) = std::env::var_os(CREDENTIALS).map(PathBuf::from) else {
        return Ok(None);
    };
    let (seal, _) = slot::read(folder)?;
    for slot in seal.slots() {
        if let Some(path) = slot.credential().map(|name| handed.join(name))
            && path.exists()
        {
            let bytes = Secret::new(folder::read(&path, MAX_SECRET as u64)?);
            return Ok(Some(SlotSecret::KeyFile(bytes)));
        }
    }
    Ok(None)
}

/// Opens the folder with a slot's secret. An older seal.json opens, too: whether it may is the caller's
/// to judge; with `accept_old_seal` it becomes the newest. With `settle`, a rotation of the root key that
/// was cut off is finished or dropped in the folder, else in memory alone.
///
/// # Errors
/// One of its own for a wrong secret, a damaged file, and a file of another instance.
pub fn unlock(
    folder: &Folder,
    secret: &SlotSecret,
    slot: Option<SlotId>,
    accept_old_seal: bool,
    settle: bool,
    now: Timestamp,
) -> Result<Unlocked> {
    let Opener {
        mut node,
        mut seal,
        mut root,
        slot: mut opened_by,
        database_key,
    } = Opener::of(folder, secret, slot)?;
    let mut opened = Opened::open(&folder.live(), &database_key, false, now)?;
    let found = opened.instance()?;
    if found != node.instance {
        return Err(Error::unavailable(
            "store_foreign",
            format!(
                "strongroom.db belongs to instance {found}, this folder to {}",
                node.instance
            ),
        ));
    }
    let kek_version = opened.kek_version()?;
    if folder.seal_next().exists() {
        // It counts if the store's keys were wrapped anew for it.
        if u64::from(kek_version) > seal.generation() {
            if let Some(next) = root::next(folder, secret)? {
                SystemKeys::of(&opened, &kek_of(&next.root))?.key(AUDIT)?;
                if settle {
                    folder::rename(&folder.seal_next(), &folder.seal())?;
                }
                (seal, root, opened_by) = (next.file, next.root, next.slot);
            }
        } else if settle {
            folder::remove(&folder.seal_next())?;
        }
    }
    let kek = kek_of(&root);
    let found = seal.generation();
    let known = node.seal_generation.max(opened.seal_generation()?);
    let older = (found < known).then_some(Older { found, known });
    let system = SystemKeys::of(&opened, &kek)?;
    let audit = match (system.key(AUDIT), older) {
        (Err(why), Some(older)) if u64::from(kek_version) > older.found => {
            return Err(older.of_an_old_root().because(why));
        }
        (audit, _) => audit?,
    };
    // Only now is it certain that this key-encryption key counts.
    if node.settle(&kek)?
        && settle
        && let Err(error) = node.write(folder)
    {
        log::warn!(error:? = error; "node.json still holds what a rotation of the root key left");
    }
    let schema = opened.schema()?.0;
    if settle {
        opened = opened.upgrade(folder, now)?;
    }
    if older.is_some() && accept_old_seal {
        // Newer than all that ever was, so that no other copy counts as the newest.
        seal.advance(&root, known + 1)?;
        folder::replace(&folder.seal(), &seal.to_json())?;
    }
    let identity = InstanceIdentity::load(
        system.open(IDENTITY)?,
        system.open(IDENTITY_CERTIFICATE)?.expose(),
    )?;
    let signer = Signer::from_pkcs8(&system.open(CHECKPOINT)?)?;
    let keys = Keys {
        changes: Tagger::new(&audit),
        access: Tagger::new(&audit),
        answers: system.key(ANSWERS)?,
    };
    Ok(Unlocked {
        instance: node.instance,
        slot: opened_by,
        schema: (schema, opened.schema()?.0),
        generation: seal.generation(),
        kek_version,
        older,
        opened,
        identity,
        signer,
        tagger: Tagger::new(&audit),
        keys,
        kek,
    })
}

/// What the files beside the store give, with a slot's secret.
pub(super) struct Opener {
    pub node: Node,
    pub seal: SealFile,
    pub root: Key,
    pub slot: SlotId,
    pub database_key: Key,
}

impl Opener {
    pub fn of(folder: &Folder, secret: &SlotSecret, slot: Option<SlotId>) -> Result<Self> {
        let node = Node::read(folder)?;
        let (seal, _) = slot::read(folder)?;
        seal.check_instance(node.instance)?;
        let (root, slot) = seal.open(secret, slot)?;
        let database_key = match node.open_database_key(&kek_of(&root)) {
            // A rotation was cut off between its files, or these come from different times.
            Err(why) => match root::next(folder, secret) {
                Ok(Some(next)) => node.open_database_key(&kek_of(&next.root))?,
                Ok(None) | Err(_) => return Err(why),
            },
            opened => opened?,
        };
        Ok(Self {
            node,
            seal,
            root,
            slot,
            database_key,
        })
    }
}

/// What tags the audit's events.
pub(super) fn audit_tagger(opened: &Opened, kek: &Key) -> Result<Tagger> {
    Ok(Tagger::new(&SystemKeys::of(opened, kek)?.key(AUDIT)?))
}

/// The instance's certificate authority.
pub(super) fn identity(opened: &Opened, kek: &Key) -> Result<InstanceIdentity> {
    let system = SystemKeys::of(opened, kek)?;
    InstanceIdentity::load(
        system.open(IDENTITY)?,
        system.open(IDENTITY_CERTIFICATE)?.expose(),
    )
}

struct SystemKeys<'a> {
    kek: &'a Key,
    keys: Vec<WrappedKey>,
}

impl<'a> SystemKeys<'a> {
    fn of(opened: &Opened, kek: &'a Key) -> Result<Self> {
        Ok(Self {
            kek,
            keys: opened.system_keys()?,
        })
    }

    fn open(&self, name: &str) -> Result<Secret<Vec<u8>>> {
        let wrapped = self
            .keys
            .iter()
            .find(|key| key.name == name)
            .ok_or_else(|| {
                Error::unavailable(
                    "store_damaged",
                    format!("the store lacks its system key `{name}`; restore a backup"),
                )
            })?;
        envelope::open(self.kek, &system_aad(name), &wrapped.wrapped)
    }

    fn key(&self, name: &str) -> Result<Key> {
        Key::from_slice(self.open(name)?.expose()).ok_or_else(|| {
            Error::unavailable(
                "store_damaged",
                format!("the store's system key `{name}` has another length"),
            )
        })
    }
}
