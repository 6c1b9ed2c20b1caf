//! Whether a backup would bring everything back: unpacked, opened with the keys that are at hand, compared
//! with what it says of itself, and taken away again. A restore does the same before it relies on one.

use std::io::Read;
use std::path::Path;

use super::keyring;
use crate::backup::manifest::{Manifest, PURPOSE, damaged};
use crate::backup::read::{Opener, Reader};
use crate::backup::unpack::{self, Open};
use crate::clock::Timestamp;
use crate::crypto::{envelope, kdf};
use crate::error::{Error, Result};
use crate::folder;
use crate::secret::{Key, Secret};
use crate::service::root::kek_of;
use crate::store::Opened;

/// What opens a backup's envelopes.
pub struct Openers<'a> {
    /// Those in the tar, under the key that a backup's purpose has.
    pub backup: &'a Open<'a>,
    /// Those in the store, under the key-encryption key.
    pub store: &'a Open<'a>,
}

/// A backup that would bring everything back.
pub struct Drilled {
    pub manifest: Manifest,
    /// Of the tar.
    pub bytes: u64,
    /// Keys of organizations that opened.
    pub org_keys: usize,
}

/// The root key of a backup that holds it.
///
/// # Errors
/// `backup_damaged`.
pub fn root_inside(root: &Secret<Vec<u8>>) -> Result<Key> {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    let text = root.expose().trim_ascii_end();
    hex::decode_to_slice(text, &mut key[..]).map_err(|_| damaged("its root.key is no root key"))?;
    Ok(Key::new(*key))
}

/// Hands on what opens everything under a root key.
pub fn with_root<T>(root: &Key, then: impl FnOnce(&Openers<'_>) -> T) -> T {
    let kek = kek_of(root);
    let own = kdf::derive(&kek, PURPOSE);
    then(&Openers {
        backup: &|aad, sealed| envelope::open(&own, aad, sealed),
        store: &|aad, sealed| envelope::open(&kek, aad, sealed),
    })
}

/// Reads every page of an unpacked store, compares it with its manifest, and opens what lies under its
/// keys; how many keys organizations have.
///
/// # Errors
/// `backup_damaged`.
pub fn check(opened: &Opened, manifest: &Manifest, store: &Open<'_>) -> Result<usize> {
    let found = opened
        .integrity()
        .map_err(|error| damaged("a database in it cannot be read").because(error))?;
    if !found.is_empty() {
        return Err(damaged(&format!(
            "the databases in it have faults: {}",
            found.join("; ")
        )));
    }
    unpack::compare(opened, manifest)?;
    let unwrap = |org, version, wrapped: &[u8]| {
        let key = store(&keyring::aad(&org, version), wrapped)?;
        Key::from_slice(key.expose())
            .ok_or_else(|| Error::internal(format!("the key of {org} has another length")))
    };
    opened.open_each_key(&unwrap).map_err(|error| {
        damaged(&format!("a key in it does not open: {}", error.public)).because(error)
    })
}

/// Unpacks a backup (its tar, without encryption) into a folder that is made for it and taken away again,
/// and checks all of it. A backup that holds its root key is opened with that one.
///
/// # Errors
/// As reading a backup; `backup_damaged`, `no_room`.
pub fn drill(
    from: impl Read,
    dir: &Path,
    openers: &Openers<'_>,
    now: Timestamp,
) -> Result<Drilled> {
    folder::remove_folder(dir)?;
    folder::make_folder(dir)?;
    let drilled = drill_in(from, dir, openers, now);
    let removed = folder::remove_folder(dir);
    let drilled = drilled?;
    removed.map(|()| drilled)
}

fn drill_in(from: impl Read, dir: &Path, openers: &Openers<'_>, now: Timestamp) -> Result<Drilled> {
    let mut reader = Reader::begin(from)?;
    let small = reader.small()?;
    let root = match &small.opener {
        Opener::Root(root) => Some(root_inside(root)?),
        Opener::Seal(_) => None,
    };
    let all = |openers: &Openers<'_>| {
        let manifest = reader.manifest().clone();
        let key = unpack::database_key(reader.manifest_bytes(), &small, openers.backup)?;
        unpack::tls(&manifest, &small, openers.backup)?;
        unpack::check_schemas(&manifest)?;
        unpack::check_room(&manifest, dir)?;
        unpack::databases(&mut reader, dir)?;
        let bytes = reader.end()?;
        let opened = Opened::open(dir, &key, false, now)?;
        let org_keys = check(&opened, &manifest, openers.store)?;
        opened.close()?;
        Ok(Drilled {
            manifest,
            bytes,
            org_keys,
        })
    };
    match root {
        Some(root) => with_root(&root, all),
        None => all(openers),
    }
}
