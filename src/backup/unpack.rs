//! From a backup into a folder: its databases, what lies beside them, and whether what they hold is what
//! its manifest says.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::manifest::{ACCESS, DATABASE_KEY, Manifest, STORE, TLS, aad, binding, damaged};
use super::read::{Reader, Small};
use crate::crypto::envelope::Aad;
use crate::error::{Error, Result};
use crate::folder;
use crate::os;
use crate::secret::{Key, Secret};
use crate::store::{Contents, Opened, known_schemas};

/// Opens an envelope, for the purpose that it was sealed for.
pub type Open<'a> = dyn Fn(&Aad<'_>, &[u8]) -> Result<Secret<Vec<u8>>> + 'a;

/// What stays free on a disk beside what is put there.
const LEFT_FREE: u64 = 64 << 20;

/// The key of the databases. That it opens also proves the manifest: its digest is bound to it.
///
/// # Errors
/// `backup_damaged`.
pub fn database_key(manifest: &[u8], small: &Small, open: &Open<'_>) -> Result<Key> {
    let binding = binding(manifest);
    let opened = open(&aad(DATABASE_KEY, &binding), &small.database_key).map_err(|error| {
        damaged("the key of its databases does not open under its root key, so that its manifest was changed, or its parts come from different backups").because(error)
    })?;
    Key::from_slice(opened.expose())
        .ok_or_else(|| damaged("the key of its databases has another length"))
}

/// The files of `tls/`, opened.
///
/// # Errors
/// `backup_damaged`.
pub fn tls(
    manifest: &Manifest,
    small: &Small,
    open: &Open<'_>,
) -> Result<Vec<(String, Secret<Vec<u8>>)>> {
    let mut files = Vec::new();
    for (name, sealed) in &small.tls {
        let member = format!("{TLS}{name}");
        let opened = open(&aad(&member, manifest.id.as_bytes()), sealed)
            .map_err(|error| damaged(&format!("`{member}` does not open")).because(error))?;
        files.push((name.clone(), opened));
    }
    Ok(files)
}

/// Refuses a backup that a newer program wrote, before anything of it is unpacked.
///
/// # Errors
/// `schema_newer`.
pub fn check_schemas(manifest: &Manifest) -> Result<()> {
    let known = known_schemas();
    if manifest.schema <= known.0 && manifest.access_schema <= known.1 {
        return Ok(());
    }
    Err(Error::unavailable(
        "schema_newer",
        format!(
            "this backup has schema {} (access log: {}) and was written by program {}; this program knows up to {} (access log: {}): restore it with that program, or a newer one",
            manifest.schema,
            manifest.access_schema,
            crate::model::id::shown(&manifest.program),
            known.0,
            known.1
        ),
    ))
}

/// Refuses a disk that has no room for it.
///
/// # Errors
/// `no_room`.
pub fn check_room(manifest: &Manifest, dir: &Path) -> Result<()> {
    // Brought to another schema, a database may be written a second time.
    let behind = (manifest.schema, manifest.access_schema) != known_schemas();
    let bytes = manifest.bytes().saturating_mul(if behind { 2 } else { 1 });
    let needed = bytes.saturating_add(LEFT_FREE);
    let free = os::free_bytes(dir).map_err(|error| folder::failed("read", dir, error))?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::unavailable(
        "no_room",
        format!(
            "unpacking this backup takes {} MiB free in {}, and {} are; free some space, or give another folder. Nothing was changed",
            needed.div_ceil(1 << 20),
            dir.display(),
            free >> 20
        ),
    ))
}

/// Writes both databases into a folder that is there, and waits until they are on the disk.
///
/// # Errors
/// As reading a backup; what the file system says.
pub fn databases<R: Read>(reader: &mut Reader<R>, dir: &Path) -> Result<()> {
    for name in [ACCESS, STORE] {
        let path = dir.join(name);
        let failed = |error| folder::failed("write", &path, error);
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        reader.stream(name, &mut |piece| file.write_all(piece).map_err(failed))?;
        file.sync_all().map_err(failed)?;
    }
    folder::sync(dir)
}

/// Compares what an unpacked store holds with what the manifest says of it.
///
/// # Errors
/// `backup_damaged`, naming the first difference.
pub fn compare(opened: &Opened, manifest: &Manifest) -> Result<()> {
    let found = opened.contents()?;
    let said = Contents {
        instance: manifest.instance,
        epoch: manifest.epoch,
        timeline: manifest.timeline,
        schema: manifest.schema,
        access_schema: manifest.access_schema,
        revision: manifest.revision,
        heads: manifest.heads.clone(),
        counts: manifest.counts.clone(),
    };
    if found == said {
        return Ok(());
    }
    let parts = [
        ("its instance", found.instance == said.instance),
        (
            "its epoch and timeline",
            (found.epoch, found.timeline) == (said.epoch, said.timeline),
        ),
        (
            "its schema",
            (found.schema, found.access_schema) == (said.schema, said.access_schema),
        ),
        ("its revision", found.revision == said.revision),
        ("the heads of its audit", found.heads == said.heads),
        ("the rows of its tables", found.counts == said.counts),
    ];
    let differ: Vec<&str> = parts
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(what, _)| what)
        .collect();
    Err(damaged(&format!(
        "what its databases hold is not what its manifest says of them: {}",
        differ.join(", ")
    )))
}
