//! 64 MiB on the data disk that nobody uses. When the disk is full they are given up, so that the
//! audit of what was released can still be written; until they are back nothing is released.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::writer::MINIMUM_FREE;
use crate::os;

const BYTES: u64 = 64 << 20;

pub(super) struct Ballast {
    path: PathBuf,
    held: bool,
    /// Given up, and not taken back since.
    used: bool,
}

impl Ballast {
    /// Beside the store, where it is not part of a backup.
    pub fn new(live: &Path) -> Self {
        let path = live.parent().unwrap_or(live).join("run/ballast");
        let mut ballast = Self {
            path,
            held: false,
            used: false,
        };
        ballast.take();
        ballast
    }

    pub fn held(&self) -> bool {
        self.held
    }

    /// Whether it was given up because the disk was full.
    pub fn used(&self) -> bool {
        self.used
    }

    /// Takes the space, if that leaves enough for writing.
    pub fn take(&mut self) {
        if self.held {
            return;
        }
        let there = fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == BYTES);
        let room = os::free_bytes(self.path.parent().unwrap_or(&self.path))
            .is_ok_and(|free| free >= MINIMUM_FREE + BYTES);
        self.held = there || (room && self.reserve().is_ok());
        if self.held {
            self.used = false;
        } else {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the space up; false if there is nothing left to give.
    pub fn give_up(&mut self) -> bool {
        let gave = std::mem::take(&mut self.held);
        self.used |= gave;
        let _ = fs::remove_file(&self.path);
        gave
    }

    fn reserve(&self) -> std::io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        os::reserve(&file, BYTES)
    }
}
