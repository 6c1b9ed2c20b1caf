//! The folder that a backup is restored into: what lies there, the step that exchanges it, and what is left
//! to tidy up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::root::{Root, Slots};
use super::{As, Live, Node, SealFile};
use crate::backup::manifest::Manifest;
use crate::clock::Timestamp;
use crate::crypto::keygen;
use crate::error::{Error, Result};
use crate::folder::{self, Folder, Lock};
use crate::model::id::InstanceId;
use crate::os;
use crate::secret::Key;
use crate::service::root::kek_of;
use crate::service::slot;
use crate::store::Opened;

/// How many of the folders that were replaced stay.
const KEPT: usize = 2;
/// What may lie in a folder that holds no server yet.
const OURS: &[&str] = &[
    "attempts.json",
    "attempts.new",
    "audit",
    "backups",
    "log",
    "lost+found",
    "node.json",
    "node.new",
    "run",
];

pub struct Place {
    folder: Folder,
    lock: Option<Lock>,
    /// Whose data lies there, where that can be told.
    instance: Option<InstanceId>,
    /// None: there is none, or one that belongs to nothing.
    node: Option<Node>,
    holds: bool,
    /// To whom the folder belongs, if that is another account than this one.
    owner: Option<(u32, u32)>,
}

impl Place {
    /// Looks, and takes a folder that is there.
    pub fn of(folder: Folder) -> Result<Self> {
        let root = folder.root();
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Error::invalid(
                    "data_dir",
                    format!(
                        "{} is a file; a server's data is a folder: give another --data-dir",
                        root.display()
                    ),
                ));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    folder,
                    lock: None,
                    instance: None,
                    node: None,
                    holds: false,
                    owner: None,
                });
            }
            Err(error) => return Err(folder::failed("read", root, error)),
        }
        if !folder.live().exists() {
            check_ours(&folder)?;
        }
        folder.create()?;
        let lock = folder.lock()?;
        settle(&folder, crate::clock::now())?;
        let holds = folder.live().exists();
        let node = match Node::read(&folder) {
            Ok(node) => Some(node),
            // What is in it is lost, and nothing else is needed of it.
            Err(error) if error.code == "node_damaged" || !folder.node().exists() => None,
            Err(error) => return Err(error),
        };
        let seal = slot::read(&folder).ok().map(|(seal, _)| seal.instance());
        Ok(Self {
            lock: Some(lock),
            instance: seal.or(node.as_ref().map(|node| node.instance)),
            node,
            holds,
            owner: other_owner(&folder)?,
            folder,
        })
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// # Errors
    /// `other_instance`; `folder_not_empty` for a clone.
    pub fn check_instance(&self, manifest: &Manifest, becomes: As) -> Result<()> {
        let root = self.folder.root().display();
        if becomes == As::Clone && self.holds {
            return Err(Error::conflict(
                "folder_not_empty",
                format!("{root} holds a server; a clone needs a folder of its own"),
            ));
        }
        let there = self.instance.filter(|_| self.holds);
        if let Some(there) = there.filter(|there| *there != manifest.instance) {
            return Err(Error::conflict(
                "other_instance",
                format!(
                    "{root} holds instance {there}, and this backup is of instance {}; give another --data-dir, or move what is there away",
                    manifest.instance
                ),
            ));
        }
        Ok(())
    }

    /// Makes the folder, if it was not there, and takes it; somebody else may have made a server of it
    /// meanwhile.
    pub fn taken(self, manifest: &Manifest, becomes: As) -> Result<Self> {
        if self.lock.is_some() {
            return Ok(self);
        }
        self.folder.create()?;
        if let Some(parent) = self.folder.root().parent()
            && !parent.as_os_str().is_empty()
        {
            folder::sync(parent)?;
        }
        let place = Self::of(self.folder)?;
        place.check_instance(manifest, becomes)?;
        Ok(place)
    }

    /// What `node.json` is to be, and the key of the databases on this node: the one that it has, if the
    /// backup's root key opens it.
    pub fn node(&self, manifest: &Manifest, root: &Root, becomes: As) -> Result<(Node, Key)> {
        let kek = kek_of(&root.root);
        let there = self.node.as_ref().filter(|node| {
            self.holds && node.instance == manifest.instance && becomes != As::Clone
        });
        if let Some(node) = there {
            let mut node = node.clone();
            if let Ok(key) = node.open_database_key(&kek) {
                return Ok((node, key));
            }
            let key = keygen::key();
            let version = match &root.slots {
                Slots::Kept(seal, ..) => u32::try_from(seal.generation()).unwrap_or(u32::MAX),
                Slots::Made(_) => 1,
            };
            node.expect(&kek, version, &key)?;
            return Ok((node, key));
        }
        let instance = match becomes {
            As::Same | As::New => manifest.instance,
            As::Clone => InstanceId::new(),
        };
        let key = keygen::key();
        let mut node = Node::new(instance, &kek, &key, 0)?;
        let before = self.node.as_ref().filter(|it| it.instance == instance);
        node.epoch = before.map_or(node.epoch, |before| before.epoch);
        Ok((node, key))
    }

    /// What lies in `live`, if it lies under the same root key.
    pub fn live(&self, root: &Key, now: Timestamp) -> Option<Result<Live>> {
        self.holds.then(|| {
            let node = self.node.as_ref();
            let key = node.and_then(|node| node.open_database_key(&kek_of(root)).ok());
            let key = key.ok_or_else(|| {
                Error::conflict(
                    "root_rotated",
                    "it lies under another root key than the backup, or its node.json is lost",
                )
            })?;
            let live = Opened::open(&self.folder.live(), &key, false, now)?;
            let (mark, last) = live.state(now)?;
            Ok(Live {
                mark,
                last,
                timeline: live.timeline()?,
            })
        })
    }

    /// Slots of this file that the folder's own does not have, in words.
    pub fn back(&self, seal: &SealFile) -> Vec<String> {
        let Some(there) = slot::read(&self.folder).ok().filter(|_| self.holds) else {
            return Vec::new();
        };
        let there: Vec<_> = there.0.slots().into_iter().map(|slot| slot.id).collect();
        let back = seal.slots().into_iter();
        back.filter(|slot| !there.contains(&slot.id))
            .map(|slot| {
                let label = crate::model::id::shown(&slot.label);
                format!("{} \"{label}\" ({})", slot.kind, slot.id)
            })
            .collect()
    }

    /// Best effort: the next restore, or the next start, begins with it.
    pub fn drop_unfinished(&self, now: Timestamp) {
        let _ = settle(&self.folder, now);
    }

    /// Gives `live.new` its place. What was there lies where this says.
    pub fn swap(
        &self,
        node: &mut Node,
        seal: &SealFile,
        now: Timestamp,
    ) -> Result<Option<PathBuf>> {
        let (new, live) = (self.folder.unfinished(), self.folder.live());
        #[cfg(debug_assertions)]
        if self.holds && crate::backup::planted::swaps_before_check()? {
            folder::replace(&self.folder.restored(&live), b"")?;
            node.seal_generation = node.seal_generation.min(seal.generation());
            node.write(&self.folder)?;
            return Ok(Some(self.folder.previous(now)));
        }
        if self.holds {
            folder::replace(&self.folder.restored(&new), b"")?;
        }
        if let Some(owner) = self.owner {
            folder::give(&new, owner)?;
        }
        folder::sync(&new)?;
        // Neither the old file nor the new one may seem older than what this node knows.
        let generation = seal.generation();
        node.seal_generation = match self.holds {
            true => node.seal_generation.min(generation),
            false => generation,
        };
        node.write(&self.folder)?;
        if !self.holds {
            folder::rename(&new, &live)?;
            return Ok(None);
        }
        let kept = self.folder.previous(now);
        folder::exchange(&new, &live)?;
        Ok(Some(kept))
    }

    /// What is left to do once the backup has its place.
    pub fn finish(&self, mut node: Node, kek: &Key, generation: u64, now: Timestamp) -> Result<()> {
        settle(&self.folder, now)?;
        node.settle(kek)?;
        node.seal_generation = generation;
        node.write(&self.folder)?;
        if let Some(owner) = self.owner {
            for path in [
                self.folder.node(),
                self.folder.root().join("run"),
                self.folder.log(),
            ] {
                folder::give(&path, owner)?;
            }
        }
        let previous = self.folder.previous_ones()?;
        for older in previous.iter().rev().skip(KEPT) {
            folder::remove_folder(older)?;
        }
        Ok(())
    }
}

/// Puts away what a restore left that was cut off: before it exchanged the folders, what it had unpacked;
/// after that, what it took out of service.
pub fn settle(folder: &Folder, now: Timestamp) -> Result<()> {
    let mark = folder.restored(&folder.live());
    let unfinished = folder.unfinished();
    if mark.exists() {
        if unfinished.exists() {
            if folder.node().exists() {
                // It still has what opens what is put away; once it is settled, it may not.
                let copy = unfinished.join("node.json");
                folder::copy(&folder.node(), &copy)?;
                if let Some(owner) = other_owner(folder)? {
                    folder::give(&copy, owner)?;
                }
            }
            // Copies of it from before an upgrade are copies of what was served then.
            for migration in folder.befores()? {
                let copy = folder.before(migration);
                if let Some(name) = copy.file_name() {
                    folder::rename(&copy, &unfinished.join(name))?;
                }
            }
            folder::rename(&unfinished, &folder.previous(now))?;
        }
        return folder::remove(&mark);
    }
    folder::remove_folder(&unfinished)
}

/// To whom a folder belongs that root works on.
fn other_owner(folder: &Folder) -> Result<Option<(u32, u32)>> {
    let root = folder.root();
    let metadata = fs::metadata(root).map_err(|error| folder::failed("read", root, error))?;
    let other = os::effective_uid() == 0 && metadata.uid() != 0;
    Ok(other.then(|| (metadata.uid(), metadata.gid())))
}

/// A folder in which somebody else keeps something is none of ours.
fn check_ours(folder: &Folder) -> Result<()> {
    let root = folder.root();
    let unreadable = |error| folder::failed("read", root, error);
    for entry in fs::read_dir(root).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        if !OURS.contains(&&*name) && !name.starts_with("live.") {
            return Err(Error::conflict(
                "folder_not_empty",
                format!(
                    "{} is no data folder, and it is not empty (`{}` lies there); give an empty folder, or one that is not there yet",
                    root.display(),
                    crate::model::id::shown(&name)
                ),
            ));
        }
    }
    Ok(())
}
