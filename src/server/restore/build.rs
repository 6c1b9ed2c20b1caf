//! `live.new`, built from a backup and checked: after this only its name is missing.

use std::io::Read;
use std::path::Path;
#[cfg(debug_assertions)]
use std::path::PathBuf;

use super::root::{Root, Slots};
use super::{As, Node, SealFile, Step, Steps};
use crate::backup::manifest::{Manifest, damaged};
use crate::backup::read::{Reader, Small};
use crate::backup::unpack;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::crypto::chain::Tagger;
use crate::crypto::seal::{NewSlot, SlotSecret};
use crate::crypto::x509::InstanceIdentity;
use crate::crypto::{envelope, random};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::id::InstanceId;
use crate::secret::{Key, Secret};
use crate::server::tls::write_leaf;
use crate::server::unlock::{IDENTITY, IDENTITY_CERTIFICATE, audit_tagger, identity};
use crate::service::drill;
use crate::service::keyring::system_aad;
use crate::service::root::kek_of;
use crate::store::{self, Opened, Taken, WrappedKey};

/// The files of the leaf that the instance identity issued.
const LEAF: &[&str] = &["leaf.key", "leaf.pem", "leaf.pem.next"];

pub struct Making<'a> {
    pub folder: &'a Folder,
    pub manifest: &'a Manifest,
    pub small: &'a Small,
    pub node: &'a mut Node,
    /// Of the databases: in the backup, and on this node.
    pub keys: (&'a Key, &'a Key),
    pub becomes: As,
    pub steps: Steps<'a>,
}

/// What lies in `live.new`.
pub struct Built {
    pub instance: InstanceId,
    pub opened: Opened,
    pub seal: SealFile,
    pub kek: Key,
    pub tagger: Tagger,
    pub identity: InstanceIdentity,
    pub fqdn: String,
    kek_version: u32,
}

impl Making<'_> {
    /// Unpacks, checks, brings to this program's schema, and writes what lies beside the databases.
    pub fn make<R: Read>(self, mut reader: Reader<R>, root: Root, now: Timestamp) -> Result<Built> {
        let live = self.folder.unfinished();
        folder::remove_folder(&live)?;
        folder::make_folder(&live.join("tls"))?;
        let files = drill::with_root(&root.root, |openers| {
            unpack::tls(self.manifest, self.small, openers.backup)
        })?;
        let config = self.config(root.fqdn.as_deref())?;
        unpack::databases(&mut reader, &live)?;
        #[cfg(debug_assertions)]
        let live = self.swapped_too_early(live)?;
        reader.end()?;
        let opened = self.checked(&live, &root, now)?;
        let kek = kek_of(&root.root);
        let kek_version = opened.kek_version()?;
        let instance = self.node.instance;
        let seal = seal(instance, &opened, root, self.becomes, now)?;
        let identity = match self.becomes {
            As::Same | As::New => identity(&opened, &kek)?,
            As::Clone => InstanceIdentity::create(instance, now)?,
        };
        folder::replace(&live.join("seal.json"), &seal.to_json())?;
        folder::replace(&live.join("strongroom.toml"), config.as_bytes())?;
        if let Some(openpgp) = &self.small.openpgp {
            folder::replace(&live.join("openpgp.asc"), openpgp)?;
        }
        let fqdn = Config::parse(&config)?.fqdn;
        let renewed = self.becomes != As::Same;
        self.write_tls(&live.join("tls"), &files, renewed)?;
        if renewed {
            write_leaf(&live.join("tls"), &identity, &fqdn, now)?;
        }
        Ok(Built {
            instance,
            tagger: audit_tagger(&opened, &kek)
                .map_err(|error| damaged("the key of its audit does not open").because(error))?,
            opened,
            seal,
            kek,
            identity,
            fqdn,
            kek_version,
        })
    }

    /// Where it lies from now on, if a planted defect exchanges it before it was checked.
    #[cfg(debug_assertions)]
    fn swapped_too_early(&self, new: PathBuf) -> Result<PathBuf> {
        let live = self.folder.live();
        if !crate::backup::planted::swaps_before_check()? || !live.exists() {
            return Ok(new);
        }
        folder::exchange(&new, &live)?;
        Ok(live)
    }

    fn config(&self, fqdn: Option<&str>) -> Result<String> {
        let text = String::from_utf8(self.small.config.clone())
            .map_err(|_| damaged("its strongroom.toml is not UTF-8"))?;
        match fqdn {
            Some(fqdn) => Config::set(&text, "fqdn", fqdn),
            None => Config::parse(&text).map(|_| text),
        }
    }

    /// The databases under this node's key, read through, and of this program's schema.
    fn checked(&self, live: &Path, root: &Root, now: Timestamp) -> Result<Opened> {
        let unreadable = |error: Error| match error.code {
            // A full disk, or one that gives errors, is no damage of the backup's.
            "store_damaged" => damaged("a database in it cannot be read").because(error),
            _ => error,
        };
        (self.steps)(Step::Rekeying);
        store::rekey(live, self.keys.0, self.keys.1).map_err(unreadable)?;
        (self.steps)(Step::Verifying);
        let opened = Opened::open(live, self.keys.1, false, now).map_err(unreadable)?;
        drill::with_root(&root.root, |openers| {
            drill::check(&opened, self.manifest, openers.store)
        })?;
        if opened.is_behind()? {
            (self.steps)(Step::Migrating);
            opened.migrate(now)?;
            let found = opened.integrity()?;
            if !found.is_empty() {
                return Err(damaged(&format!(
                    "brought to this program's schema, its databases have faults: {}",
                    found.join("; ")
                )));
            }
        }
        Ok(opened)
    }

    fn write_tls(
        &self,
        tls: &Path,
        files: &[(String, Secret<Vec<u8>>)],
        without_leaf: bool,
    ) -> Result<()> {
        for (name, bytes) in files {
            if without_leaf && LEAF.contains(&name.as_str()) {
                continue;
            }
            folder::replace(&tls.join(name), bytes.expose())?;
        }
        folder::sync(tls)
    }
}

impl Built {
    /// What its store becomes. `timelines`: those that are known to have been.
    pub fn taken(&self, node: &Node, becomes: As, timelines: &[u64]) -> Result<Taken> {
        let keys = match becomes {
            As::Same | As::New => Vec::new(),
            As::Clone => vec![
                self.wrap(IDENTITY, self.identity.pkcs8().expose())?,
                self.wrap(IDENTITY_CERTIFICATE, self.identity.ca_der())?,
            ],
        };
        Ok(Taken {
            instance: self.instance,
            epoch: node.epoch,
            timeline: timeline(timelines),
            seal_generation: self.seal.generation(),
            outgoing_held: becomes == As::Clone,
            keys,
        })
    }

    fn wrap(&self, name: &str, secret: &[u8]) -> Result<WrappedKey> {
        let wrapped = envelope::seal(&self.kek, self.kek_version, &system_aad(name), secret)?;
        // Opened once before it is relied on.
        envelope::open(&self.kek, &system_aad(name), &wrapped)?;
        Ok(WrappedKey {
            name: name.to_owned(),
            version: 1,
            wrapped,
        })
    }
}

/// Drawn, so that it is none that a server elsewhere goes on with; below 2^52, which every reader of JSON
/// keeps whole.
fn timeline(known: &[u64]) -> u64 {
    loop {
        let drawn = u64::from_be_bytes(random()) >> 12;
        if drawn != 0 && !known.contains(&drawn) {
            return drawn;
        }
    }
}

/// The seal.json that goes with it.
fn seal(
    instance: InstanceId,
    opened: &Opened,
    root: Root,
    becomes: As,
    now: Timestamp,
) -> Result<SealFile> {
    let Root { root, slots, .. } = root;
    match (slots, becomes) {
        (Slots::Kept(seal, ..), As::Same | As::New) => Ok(seal),
        (Slots::Kept(seal, secret, slot), As::Clone) => {
            seal.for_clone(instance, &root, (secret, slot), now)
        }
        (Slots::Made(secret), _) => {
            let (new, label) = match secret {
                SlotSecret::Passphrase(secret) => (NewSlot::passphrase(secret), "passphrase"),
                SlotSecret::KeyFile(secret) => (NewSlot::key_file(secret), "key file"),
                SlotSecret::Identity(_) | SlotSecret::Recovered(_) => {
                    return Err(Error::internal("no slot is made from an identity"));
                }
            };
            let mut seal = SealFile::new(instance);
            seal.add_slot(&root, &new, label, now)?;
            // Newer than all that ever was.
            let known = opened
                .seal_generation()?
                .max(u64::from(opened.kek_version()?));
            seal.advance(&root, known.saturating_add(1))?;
            Ok(seal)
        }
    }
}
