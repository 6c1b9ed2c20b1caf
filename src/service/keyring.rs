//! The key-encryption key, and the organizations' keys that it unwrapped.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::crypto::envelope::{self, Aad};
use crate::crypto::{kdf, keygen};
use crate::error::{Error, Result};
use crate::model::id::OrgId;
use crate::secret::{Arena, Key, Locked, Secret};
use crate::store::{Store, WrappedKey};

pub struct Keyring {
    arena: Arena,
    /// The newest first, then the one before the last rotation.
    keks: RwLock<Vec<Kek>>,
    orgs: RwLock<HashMap<(OrgId, u32), Locked>>,
    /// Which version seals.
    newest: RwLock<HashMap<OrgId, u32>>,
}

/// A key-encryption key.
#[derive(Clone)]
struct Kek {
    version: u32,
    key: Locked,
}

/// Where a system key stands in the store.
pub fn system_aad(name: &str) -> Aad<'_> {
    Aad {
        table: "system_keys",
        column: "wrapped",
        org: None,
        object: name.as_bytes(),
        version: 1,
    }
}

/// Where an organization's key stands in the store.
pub(super) fn aad(org: &OrgId, version: u32) -> Aad<'_> {
    Aad {
        table: "org_keys",
        column: "wrapped",
        org: Some(*org),
        object: org.as_bytes(),
        version: u64::from(version),
    }
}

impl Keyring {
    pub fn new(kek: Key, version: u32) -> Self {
        let arena = Arena::default();
        let key = arena.keep(kek);
        Self {
            keks: RwLock::new(vec![Kek { version, key }]),
            arena,
            orgs: RwLock::new(HashMap::new()),
            newest: RwLock::new(HashMap::new()),
        }
    }

    /// A key for an organization, wrapped; opened once before it is relied on.
    pub fn make(&self, org: OrgId, version: u32) -> Result<WrappedKey> {
        let key = keygen::key();
        let kek = self.newest_kek()?;
        let wrapped = envelope::seal(&kek.key, kek.version, &aad(&org, version), key.expose())?;
        envelope::open(&kek.key, &aad(&org, version), &wrapped)?;
        Ok(WrappedKey {
            name: org.to_string(),
            version,
            wrapped,
        })
    }

    /// The organization's newest key and its version. Whoever seals with it holds `Service::sealing_turn`
    /// until the store has what he sealed.
    pub fn newest(&self, store: &Store, org: OrgId) -> Result<(u32, Locked)> {
        let known = self
            .newest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&org)
            .copied();
        if let Some(version) = known
            && let Some(key) = self.known(org, version)
        {
            return Ok((version, key));
        }
        let keys = store.org_keys(org)?;
        let newest = keys.into_iter().map(|key| key.version).max();
        let newest = newest.ok_or_else(|| lost(store, org))?;
        let key = self.org(store, org, newest)?;
        self.newest_is(org, newest);
        Ok((newest, key))
    }

    /// From now on this version seals.
    pub fn newest_is(&self, org: OrgId, version: u32) {
        self.newest
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(org, version);
    }

    /// The organization's key of a version.
    pub fn org(&self, store: &Store, org: OrgId, version: u32) -> Result<Locked> {
        if let Some(key) = self.known(org, version) {
            return Ok(key);
        }
        let wrapped = store
            .org_keys(org)?
            .into_iter()
            .find(|key| key.version == version)
            .ok_or_else(|| lost(store, org))?;
        let opened = self.open(|kek| envelope::open(kek, &aad(&org, version), &wrapped.wrapped))?;
        let key = Key::from_slice(opened.expose()).ok_or_else(|| missing(org))?;
        let key = self.arena.keep(key);
        self.orgs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((org, version), key.clone());
        Ok(key)
    }

    /// Forgets the keys of an organization that was removed.
    pub fn forget(&self, org: OrgId) {
        self.orgs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, _), _| *known != org);
        self.newest
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&org);
    }

    /// Wraps one of the server's own keys.
    pub fn seal_system(&self, name: &str, plain: &Secret<Vec<u8>>) -> Result<Vec<u8>> {
        let kek = self.newest_kek()?;
        envelope::seal(&kek.key, kek.version, &system_aad(name), plain.expose())
    }

    pub fn open_system(&self, name: &str, wrapped: &[u8]) -> Result<Secret<Vec<u8>>> {
        self.open(|kek| envelope::open(kek, &system_aad(name), wrapped))
    }

    /// The key of a purpose, and the version of the key-encryption key that it comes from.
    pub fn key_for(&self, purpose: &str) -> Result<(u32, Key)> {
        let kek = self.newest_kek()?;
        Ok((kek.version, kdf::derive(&kek.key, purpose)))
    }

    /// Opens what lies under the key-encryption key itself.
    pub fn open_at(&self, aad: &Aad<'_>, wrapped: &[u8]) -> Result<Secret<Vec<u8>>> {
        self.open(|kek| envelope::open(kek, aad, wrapped))
    }

    /// Seals for a purpose that has a key of its own.
    pub fn seal_for(&self, purpose: &str, aad: &Aad<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        let kek = self.newest_kek()?;
        envelope::seal(&kdf::derive(&kek.key, purpose), kek.version, aad, plain)
    }

    /// Opens what was sealed for a purpose.
    pub fn open_for(&self, purpose: &str, aad: &Aad<'_>, sealed: &[u8]) -> Result<Secret<Vec<u8>>> {
        self.open(|kek| envelope::open(&kdf::derive(kek, purpose), aad, sealed))
    }

    /// Takes in the next key-encryption key. The one before stays beside it: what was read before the
    /// rows were wrapped anew is opened with it.
    pub fn begin(&self, kek: &Key, version: u32) {
        let key = self.arena.keep(Secret::new(*kek.expose()));
        let mut keks = self.write();
        keks.truncate(1);
        keks.insert(0, Kek { version, key });
    }

    /// The rows were not wrapped anew: the one before counts again.
    pub fn undo(&self) {
        let mut keks = self.write();
        if keks.len() > 1 {
            keks.remove(0);
        }
    }

    fn newest_kek(&self) -> Result<Kek> {
        let keks = self.keks.read().unwrap_or_else(PoisonError::into_inner);
        keks.first()
            .cloned()
            .ok_or_else(|| Error::internal("the server has no key-encryption key"))
    }

    /// Opens with the newest key-encryption key, or the one before.
    fn open<T>(&self, open: impl Fn(&Key) -> Result<T>) -> Result<T> {
        let keks = self
            .keks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut opened = Err(Error::internal("the server has no key-encryption key"));
        for kek in &keks {
            opened = open(&kek.key);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Kek>> {
        self.keks.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the system keeps the keys out of swap.
    pub fn is_locked(&self) -> bool {
        self.arena.is_locked()
    }

    fn known(&self, org: OrgId, version: u32) -> Option<Locked> {
        self.orgs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(org, version))
            .cloned()
    }
}

/// A key that is not there: its organization was removed meanwhile, or the store lacks it.
fn lost(store: &Store, org: OrgId) -> Error {
    match store.org_by_id(org) {
        Ok(None) => crate::store::org_removed(),
        _ => missing(org),
    }
}

fn missing(org: OrgId) -> Error {
    Error::internal(format!(
        "organization {org} has no key of the version asked for"
    ))
}
