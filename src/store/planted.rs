//! Defects that the crash tests must catch before they may be believed. Compiled into development
//! builds alone; a release does not hold this file.

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::model::audit::Event;

/// Names the defect. Read once, when the store opens.
const VARIABLE: &str = "STRONGROOM_PLANTED_DEFECT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// `synchronous=OFF`: a commit does not wait for the disk.
    SyncOff,
    /// Changes are answered before their commit.
    EarlyAnswer,
    /// Some changes have no event; the chain that is left is sound.
    DropEvent,
    /// A deposit that was fetched is kept over its changes.
    StaleRead,
    /// Some retrievals of a limited deposit are not counted.
    FreeRetrieval,
    /// Older backups are removed before the one that takes their place was verified.
    RollBeforeVerify,
    /// A restore exchanges `live` before it checked what it unpacked.
    SwapBeforeCheck,
}

impl Planted {
    /// # Errors
    /// The variable names no defect that is known.
    pub fn chosen() -> Result<Option<Self>> {
        match std::env::var(VARIABLE).ok().as_deref() {
            None | Some("") => Ok(None),
            Some("sync-off") => Ok(Some(Self::SyncOff)),
            Some("early-answer") => Ok(Some(Self::EarlyAnswer)),
            Some("drop-event") => Ok(Some(Self::DropEvent)),
            Some("stale-read") => Ok(Some(Self::StaleRead)),
            Some("free-retrieval") => Ok(Some(Self::FreeRetrieval)),
            Some("roll-before-verify") => Ok(Some(Self::RollBeforeVerify)),
            Some("swap-before-check") => Ok(Some(Self::SwapBeforeCheck)),
            Some(other) => Err(Error::invalid(
                "planted_defect",
                format!(
                    "{VARIABLE} is `{other}`; it takes sync-off, early-answer, drop-event, stale-read, free-retrieval, roll-before-verify or swap-before-check"
                ),
            )),
        }
    }

    pub fn warning(self) -> String {
        format!(
            "{VARIABLE} is set: this program was told to be wrong ({self:?}); use it for nothing but its tests"
        )
    }

    /// What the writer's connection is spoilt with.
    pub fn spoil(self, db: &Connection) -> Result<()> {
        if self == Self::SyncOff {
            db.pragma_update(None, "synchronous", "OFF")?;
        }
        Ok(())
    }

    /// One change of a deposit in sixteen loses its event.
    pub fn drops(self, event: &Event) -> bool {
        self == Self::DropEvent
            && event.object.kind == "deposit"
            && event.request.0.as_bytes()[15].is_multiple_of(16)
    }
}
