//! The key-encryption key, and the organizations' keys that it unwrapped.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::crypto::envelope::{self, Aad};
use crate::crypto::keygen;
use crate::error::{Error, Result};
use crate::model::id::OrgId;
use crate::secret::{Arena, Key, Locked};
use crate::store::{Store, WrappedKey};

/// The version of the key-encryption key that wraps from now on.
const KEK: u32 = 1;

pub struct Keyring {
    arena: Arena,
    kek: Locked,
    orgs: RwLock<HashMap<(OrgId, u32), Locked>>,
}

fn aad(org: &OrgId, version: u32) -> Aad<'_> {
    Aad {
        table: "org_keys",
        column: "wrapped",
        org: Some(*org),
        object: org.as_bytes(),
        version: u64::from(version),
    }
}

impl Keyring {
    pub fn new(kek: Key) -> Self {
        let arena = Arena::default();
        Self {
            kek: arena.keep(kek),
            arena,
            orgs: RwLock::new(HashMap::new()),
        }
    }

    /// A first key for a new organization, wrapped.
    pub fn make(&self, org: OrgId) -> Result<WrappedKey> {
        let key = keygen::key();
        let wrapped = envelope::seal(&self.kek, KEK, &aad(&org, 1), key.expose())?;
        Ok(WrappedKey {
            name: org.to_string(),
            version: 1,
            wrapped,
        })
    }

    /// The organization's newest key and its version.
    pub fn newest(&self, store: &Store, org: OrgId) -> Result<(u32, Locked)> {
        // Versions only grow, so the newest known is the newest until keys rotate.
        if let Some(key) = self.known(org, 1) {
            return Ok((1, key));
        }
        let newest = store
            .org_keys(org)?
            .into_iter()
            .map(|key| key.version)
            .max()
            .ok_or_else(|| missing(org))?;
        Ok((newest, self.org(store, org, newest)?))
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
            .ok_or_else(|| missing(org))?;
        let opened = envelope::open(&self.kek, &aad(&org, version), &wrapped.wrapped)?;
        let key = Key::from_slice(opened.expose()).ok_or_else(|| missing(org))?;
        let key = self.arena.keep(key);
        self.orgs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((org, version), key.clone());
        Ok(key)
    }

    /// A key of its own for one purpose.
    pub fn purpose(&self, info: &str) -> Key {
        crate::crypto::kdf::derive(&self.kek, info)
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

fn missing(org: OrgId) -> Error {
    Error::internal(format!(
        "organization {org} has no key of the version asked for"
    ))
}
