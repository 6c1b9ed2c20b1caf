//! Back to the store of before its last upgrade. Nobody serves meanwhile.

use std::path::PathBuf;

use super::unlock::{Opener, audit_tagger};
use crate::clock::Timestamp;
use crate::crypto::chain::Tagger;
use crate::crypto::seal::SlotSecret;
use crate::error::{Error, Result};
use crate::folder::{self, Folder, Lock};
use crate::model::audit::{Actor, Event, Object, Outcome};
use crate::model::id::{RequestId, SlotId};
use crate::os;
use crate::service::root::kek_of;
use crate::store::Opened;
use crate::store::before::{self, Copy, Mark};

/// What would be done.
pub struct Plan {
    folder: Folder,
    _lock: Lock,
    copy: Copy,
    opened: Opened,
    tagger: Tagger,
    /// What lies in `live` now; an error where it cannot be read.
    live: Result<(Mark, Timestamp)>,
}

impl Plan {
    /// Finds the copy and reads all of it. Nothing is changed.
    ///
    /// # Errors
    /// `no_copy`, `copy_damaged`, `root_rotated`, `folder_in_use`, and what opening a slot gives.
    pub fn of(
        folder: Folder,
        secret: &SlotSecret,
        slot: Option<SlotId>,
        now: Timestamp,
    ) -> Result<Self> {
        let lock = folder.lock()?;
        before::settle(&folder)?;
        let copy = before::newest(&folder)?.ok_or_else(|| no_copy(&folder))?;
        let opener = Opener::of(&folder, secret, slot)?;
        let live = Opened::open(&folder.live(), &opener.database_key, false, now)
            .and_then(|live| live.state(now));
        let opened = Opened::open(&copy.path, &opener.database_key, false, now)?;
        copy.check(&opened)?;
        let tagger = audit_tagger(&opened, &kek_of(&opener.root)).map_err(rotated)?;
        Ok(Self {
            folder,
            _lock: lock,
            copy,
            opened,
            tagger,
            live,
        })
    }

    pub fn copy(&self) -> &Copy {
        &self.copy
    }

    pub fn live(&self) -> &Result<(Mark, Timestamp)> {
        &self.live
    }

    /// Where what lies in `live` now is kept.
    pub fn kept(&self) -> PathBuf {
        self.folder.undone()
    }

    /// Goes back. Cut off before the one step that counts, nothing is changed; after it, the next
    /// start, or the next rollback, tidies up.
    pub fn apply(mut self, reason: &str, now: Timestamp) -> Result<()> {
        let event = self.event(reason, now);
        self.opened.enter(&self.tagger, event)?;
        self.opened.close()?;
        let (live, copy) = (self.folder.live(), &self.copy.path);
        // Whatever else lies there has no schema: the newest slots, addresses and certificates go along.
        folder::copy_folder(&live, copy, &|name| {
            name.starts_with("strongroom.db") || name.starts_with("access.db")
        })?;
        folder::exchange(copy, &live)?;
        before::settle(&self.folder)
    }

    fn event(&self, reason: &str, now: Timestamp) -> Event {
        let mark = &self.copy.mark;
        let lost = match &self.live {
            Ok((live, _)) => format!(", {} changes given up", mark.lost(live)),
            Err(_) => String::new(),
        };
        Event {
            time: now,
            request: RequestId::new(),
            actor: Actor {
                kind: "local".to_owned(),
                name: os::effective_uid().to_string(),
                source: "folder".to_owned(),
            },
            action: "server.rollback".to_owned(),
            object: Object {
                kind: "server".to_owned(),
                id: mark.instance.to_string(),
                name: String::new(),
            },
            outcome: Outcome::Done,
            detail: format!(
                "to schema {}, revision {}, of {}{lost}",
                mark.schema, mark.revision, mark.made
            ),
            reason: reason.to_owned(),
        }
    }
}

fn no_copy(folder: &Folder) -> Error {
    Error::not_found(format!(
        "{} has no copy from before an upgrade; a backup is the way back",
        folder.root().display()
    ))
}

fn rotated(why: Error) -> Error {
    Error::conflict(
        "root_rotated",
        "the root key was made anew since the copy was made, and what is in the copy lies under the old one; a backup of the whole folder from before is the way back",
    )
    .because(why)
}
