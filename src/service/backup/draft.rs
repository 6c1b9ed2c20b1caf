//! What goes into a backup, put together while the server serves: the copy of the store under a key of
//! its own, the files beside it, the manifest of it all. It lies in a folder that goes with it.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::audience::Audience;
use crate::backup::Manifest;
use crate::backup::manifest::{
    self, ACCESS, CONFIG, FORMAT, MOST_SMALL, MOST_TLS, OPENPGP, PURPOSE, READER, ROOT_KEY, SEAL,
    STORE, TLS,
};
use crate::backup::write::{self, Part};
use crate::clock::Timestamp;
use crate::crypto::seal::{SealFile, SlotInfo};
use crate::crypto::{envelope, kdf, keygen};
use crate::error::{Error, Result};
use crate::folder::{self, Folder, failed};
use crate::model::audit::{Chain, Checkpoint, Head, SignedCheckpoint};
use crate::model::backup::Form;
use crate::secret::{Key, Secret};
use crate::service::Service;
use crate::service::root::{kek_of, rewrap};
use crate::store;
use crate::store::copy::{self, Copied, GoesOn};

/// What a folder is called in which one is put together.
const UNFINISHED: &str = "unfinished-";

/// A backup that is ready to leave.
pub struct Draft {
    pub manifest: Manifest,
    pub form: Form,
    pub json: Vec<u8>,
    pub database_key: Vec<u8>,
    pub parts: Vec<Part>,
    _folder: Unfinished,
}

/// A folder that goes with whoever holds it.
pub struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes it, empty. `name` begins as those do that the next start takes away.
    pub fn new(folder: PathBuf, name: &str) -> Result<Self> {
        folder::make_folder(&folder)?;
        let path = folder.join(name);
        folder::remove_folder(&path)?;
        folder::make_folder(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is taken away by the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes away what a crash left.
pub fn tidy(folder: &Folder) -> Result<()> {
    let path = folder.backups();
    if !path.exists() {
        return Ok(());
    }
    let unreadable = |error| failed("read", &path, error);
    for entry in fs::read_dir(&path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            folder::remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

impl Draft {
    /// The key, the files and the slots are of one moment with the store's copy.
    pub fn make(
        service: &Service,
        (audience, drill): (&Audience, &str),
        self_contained: bool,
        now: Timestamp,
        goes_on: GoesOn<'_>,
    ) -> Result<Self> {
        let folder = &service.seal.folder;
        let id = Uuid::now_v7();
        let dir = Unfinished::new(folder.backups(), &format!("{UNFINISHED}{id}"))?;
        let key = keygen::key();

        // Neither the root key nor a listener's certificate is another one before all is there.
        let root = service.root.blocking_read();
        let (version, kek) = service.keyring.kek()?;
        let seal = folder::read(&folder.seal(), MOST_SMALL)?;
        let copied = service.store.copy(&dir.0, &key, goes_on)?;
        drop(root);
        let (opener, slots, kek) = match self_contained {
            false => {
                let slots = SealFile::parse(&seal)?;
                (Part::of_bytes(SEAL, seal), Some(slots), kek)
            }
            true => {
                let own = keygen::key();
                let own_kek = kek_of(&own);
                let copied_kek = Secret::new(*own_kek.expose());
                copy::rewrap(&dir.0, &key, &rewrap(kek, copied_kek, version))?;
                let text = Zeroizing::new(format!("{}\n", hex::encode(own.expose())));
                let root = Part::of_bytes(ROOT_KEY, text.as_bytes().to_vec());
                (root, None, own_kek)
            }
        };
        let sealing = (version, kdf::derive(&kek, PURPOSE));
        let mut parts = vec![opener];
        parts.extend(beside(service, folder, &sealing, id)?);

        copy::check(&dir.0, &key)?;
        for name in [ACCESS, STORE] {
            parts.push(Part::of_file(name, dir.0.join(name))?);
        }
        let manifest = Manifest {
            members: parts.iter().map(|part| part.member.clone()).collect(),
            slots: slots.as_ref().map(slots_of).unwrap_or_default(),
            recipients: audience.told(drill, slots.as_ref()),
            self_contained,
            ..said(service, id, now, copied)?
        };
        let json = manifest.to_json()?;
        let binding = manifest::binding(&json);
        let aad = manifest::aad(manifest::DATABASE_KEY, &binding);
        let database_key = envelope::seal(&sealing.1, sealing.0, &aad, key.expose())?;
        Ok(Self {
            manifest,
            form: audience.form(),
            json,
            database_key,
            parts,
            _folder: dir,
        })
    }

    /// Of the whole stream, in bytes, before it is encrypted.
    pub fn length(&self) -> u64 {
        write::length(&self.json, &self.database_key, &self.manifest)
    }
}

/// The files beside the store; those of `tls/` sealed, since there are keys among them.
fn beside(
    service: &Service,
    folder: &Folder,
    (version, key): &(u32, Key),
    id: Uuid,
) -> Result<Vec<Part>> {
    let mut parts = vec![Part::of_bytes(
        CONFIG,
        folder::read(&folder.config(), MOST_SMALL)?,
    )];
    if folder.openpgp().exists() {
        let public = folder::read(&folder.openpgp(), MOST_SMALL)?;
        parts.push(Part::of_bytes(OPENPGP, public));
    }
    let _turn = service.tls_turn.blocking_lock();
    let mut names = names_in(&folder.tls())?;
    names.sort();
    if names.len() > MOST_TLS {
        let text = format!("{} has more than {MOST_TLS} files", folder.tls().display());
        return Err(Error::internal(text));
    }
    for name in names {
        let plain = folder::read(&folder.tls().join(&name), MOST_SMALL)?;
        let plain = Secret::new(plain);
        let name = format!("{TLS}{name}");
        let aad = manifest::aad(&name, id.as_bytes());
        let sealed = envelope::seal(key, *version, &aad, plain.expose())?;
        parts.push(Part::of_bytes(&name, sealed));
    }
    Ok(parts)
}

fn names_in(path: &Path) -> Result<Vec<String>> {
    let unreadable = |error| failed("read", path, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is being written lies beside, under a name that begins with a dot.
        if entry.file_type().map_err(unreadable)?.is_file() && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

fn slots_of(seal: &SealFile) -> Vec<manifest::Slot> {
    let slot = |it: SlotInfo| manifest::Slot {
        id: it.id,
        kind: it.kind,
        label: it.label,
    };
    seal.slots().into_iter().map(slot).collect()
}

/// What the manifest says of the store.
fn said(service: &Service, id: Uuid, now: Timestamp, copied: Copied) -> Result<Manifest> {
    let head = |chain, head: store::Head| Head {
        chain,
        number: head.number,
        hash: head.hash,
    };
    let checkpoint = copied
        .checkpoint
        .map(|(body, signature)| {
            let checkpoint: Checkpoint =
                serde_json::from_str(&body).map_err(|error| Error::internal(error.to_string()))?;
            let signature: [u8; 64] = signature
                .try_into()
                .map_err(|_| Error::internal("a checkpoint's signature has another length"))?;
            Ok::<_, Error>(SignedCheckpoint::new(checkpoint, &signature))
        })
        .transpose()?;
    Ok(Manifest {
        format: FORMAT.to_owned(),
        min_reader: READER,
        id,
        created: now,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        instance: service.facts.instance,
        node: service.beside.node()?,
        fqdn: service.facts.config.fqdn.clone(),
        epoch: copied.epoch,
        timeline: copied.timeline,
        schema: copied.schema,
        access_schema: copied.access_schema,
        revision: copied.revision,
        heads: vec![
            head(Chain::Changes, copied.changes),
            head(Chain::Access, copied.access),
        ],
        checkpoint,
        newest_deposit: copied.newest_deposit,
        counts: copied.counts,
        slots: Vec::new(),
        recipients: Vec::new(),
        self_contained: false,
        bound_to_hsm: Vec::new(),
        members: Vec::new(),
    })
}
