//! A backup takes the place of what a folder holds, or makes an empty folder a server. Nobody serves
//! meanwhile.
//!
//! Everything is built and checked in `live.new`, which then takes the name of `live` in one step: cut off
//! anywhere, the one or the other is there, whole. `node.json` opens both until it is settled.

mod build;
mod place;
mod root;

use std::io::Read;
use std::path::PathBuf;

use self::build::Built;
use self::place::Place;
use self::root::unlocked;
use super::node::Node;
use crate::backup::manifest::{Manifest, Slot};
use crate::backup::read::Reader;
use crate::backup::unpack;
use crate::clock::Timestamp;
use crate::crypto::seal::{SealFile, SlotSecret};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::model::audit::{Actor, Event, Object, Outcome};
use crate::model::id::{Fingerprint, InstanceId, RequestId, SlotId};
use crate::os;
use crate::secret::Secret;
use crate::service::drill;
use crate::store::before::Mark;

pub use self::place::settle;

/// What becomes of the server that was backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// It goes on, under its name.
    Same,
    /// It goes on, under another name.
    New,
    /// Another server that holds the same: clients do not know it.
    Clone,
}

pub struct Wanted {
    pub folder: Folder,
    /// Of a slot; of the slot that is made where the backup holds its root key.
    pub secret: Option<SlotSecret>,
    pub slot: Option<SlotId>,
    /// What decrypted the backup; where a recovery slot is for it, it opens that too.
    pub identity: Option<Secret<Vec<u8>>>,
    pub becomes: As,
    /// The name that clients reach it by from now on.
    pub fqdn: Option<String>,
}

/// What a restore is at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The backup, and writing what is in it.
    Reading,
    /// Its databases get the key of this node.
    Rekeying,
    Verifying,
    /// An older schema becomes this program's.
    Migrating,
    /// It takes the place of what is there.
    Replacing,
}

/// Told of each step as it begins.
pub type Steps<'a> = &'a dyn Fn(Step);

/// A backup that was unpacked and checked; nothing of the folder's own is changed yet.
pub struct Plan {
    place: Place,
    manifest: Manifest,
    built: Built,
    node: Node,
    becomes: As,
    /// What lies in `live` now; an error where it cannot be read. None: nothing lies there.
    live: Option<Result<Live>>,
    /// Slots of the backup that the folder does not have any more.
    back: Vec<String>,
}

/// What is to be replaced.
pub struct Live {
    pub mark: Mark,
    /// When its last event was.
    pub last: Timestamp,
    timeline: u64,
}

/// What was done.
pub struct Done {
    pub instance: InstanceId,
    pub server_fingerprint: Fingerprint,
    pub fqdn: String,
    pub epoch: u64,
    pub timeline: u64,
    /// Where what was replaced lies.
    pub kept: Option<PathBuf>,
}

impl Plan {
    /// Reads the backup to its end, unpacks it beside what is there, and checks all of it.
    ///
    /// # Errors
    /// As reading a backup and as opening a slot; `backup_damaged`, `schema_newer`, `no_room`,
    /// `other_instance`, `folder_in_use`, `slot_secret_missing`.
    pub fn of(from: impl Read, wanted: Wanted, steps: Steps<'_>, now: Timestamp) -> Result<Self> {
        steps(Step::Reading);
        let place = Place::of(wanted.folder.clone())?;
        let mut reader = Reader::begin(from)?;
        let manifest = reader.manifest().clone();
        let small = reader.small()?;
        place.check_instance(&manifest, wanted.becomes)?;
        let becomes = wanted.becomes;
        let unlocked = unlocked(&manifest, &small, wanted)?;
        let root = &unlocked.root;
        let key = drill::with_root(root, |openers| {
            unpack::database_key(reader.manifest_bytes(), &small, openers.backup)
        })?;
        unpack::check_schemas(&manifest)?;
        let place = place.taken(&manifest, becomes)?;
        unpack::check_room(&manifest, place.folder().root())?;
        let (mut node, node_key) = place.node(&manifest, &unlocked, becomes)?;
        node.epoch = node.epoch.max(manifest.epoch).saturating_add(1);
        let live = place.live(root, now);
        let made = build::Making {
            folder: place.folder(),
            manifest: &manifest,
            small: &small,
            node: &mut node,
            keys: (&key, &node_key),
            becomes,
            steps,
        };
        let built = match made.make(reader, unlocked, now) {
            Ok(built) => built,
            Err(error) => {
                place.drop_unfinished(now);
                return Err(error);
            }
        };
        Ok(Self {
            back: place.back(&built.seal),
            place,
            manifest,
            built,
            node,
            becomes,
            live,
        })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn live(&self) -> Option<&Result<Live>> {
        self.live.as_ref()
    }

    /// Slots that open the server again, in words.
    pub fn back(&self) -> &[String] {
        &self.back
    }

    /// Takes away what was unpacked.
    pub fn give_up(self, now: Timestamp) {
        let Self { place, built, .. } = self;
        drop(built);
        place.drop_unfinished(now);
    }

    /// Puts it in the place of what is there. Cut off before the one step that counts, nothing is changed;
    /// after it, the next start, or the next restore, tidies up.
    pub fn apply(self, reason: &str, now: Timestamp) -> Result<Done> {
        let event = self.event(reason, now);
        let Self {
            place,
            manifest,
            built,
            mut node,
            becomes,
            live,
            ..
        } = self;
        let timelines = [
            manifest.timeline,
            live.and_then(Result::ok).map_or(0, |live| live.timeline),
        ];
        let taken = built.taken(&node, becomes, &timelines)?;
        let Built {
            mut opened,
            seal,
            kek,
            tagger,
            identity,
            fqdn,
            ..
        } = built;
        let swapped = (|| {
            opened.take(&tagger, event, &taken)?;
            opened.close()?;
            place.swap(&mut node, &seal, now)
        })();
        let kept = swapped.inspect_err(|_| place.drop_unfinished(now))?;
        let finished = place.finish(node, &kek, seal.generation(), now);
        finished.map_err(|error| {
            let text = format!(
                "the backup is restored, and what was to be tidied up is not: {}; the next start does it",
                error.public
            );
            Error::unavailable("restore_unfinished", text).because(error)
        })?;
        Ok(Done {
            instance: taken.instance,
            server_fingerprint: identity.fingerprint(),
            fqdn,
            epoch: taken.epoch,
            timeline: taken.timeline,
            kept,
        })
    }

    fn event(&self, reason: &str, now: Timestamp) -> Event {
        let manifest = &self.manifest;
        let mut detail = format!(
            "from backup {} of {}, revision {}",
            manifest.id, manifest.created, manifest.revision
        );
        if let Some(Ok(live)) = &self.live {
            let lost = live.mark.revision.saturating_sub(manifest.revision);
            detail.push_str(&format!(", {lost} changes given up"));
        }
        if self.becomes == As::Clone {
            detail.push_str(&format!(", a clone of instance {}", manifest.instance));
        }
        if !self.back.is_empty() {
            detail.push_str(&format!(", slots back: {}", self.back.join(", ")));
        }
        Event {
            time: now,
            request: RequestId::new(),
            actor: Actor {
                kind: "local".to_owned(),
                name: os::effective_uid().to_string(),
                source: "folder".to_owned(),
            },
            action: "server.restore".to_owned(),
            object: Object {
                kind: "server".to_owned(),
                id: self.built.instance.to_string(),
                name: String::new(),
            },
            outcome: Outcome::Done,
            detail,
            reason: reason.to_owned(),
        }
    }
}

/// In words, as the manifest lists them.
fn slots_said(slots: &[Slot]) -> String {
    let one = |slot: &Slot| {
        let (kind, label) = (
            crate::model::id::shown(&slot.kind),
            crate::model::id::shown(&slot.label),
        );
        format!("{kind} \"{label}\" ({})", slot.id)
    };
    let said: Vec<String> = slots.iter().map(one).collect();
    match said.is_empty() {
        true => "none that its manifest names".to_owned(),
        false => said.join(", "),
    }
}
