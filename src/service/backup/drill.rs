//! Whether the newest backup would bring everything back.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{Service, backup_object, check};
use crate::backup::manifest::PURPOSE;
use crate::clock;
use crate::error::{Error, Result};
use crate::model::backup::Backup;
use crate::service::drill::{Drilled, Openers, drill};
use crate::service::job::JobRun;

/// Where it is unpacked; goes with the next start if it is cut off.
const FOLDER: &str = "unfinished-drill";

impl Service {
    /// The work of a job: unpacks it, opens it, compares it, takes it away again.
    pub async fn backup_drill(self: &Arc<Self>, run: &mut JobRun) -> Result<String> {
        let known = self.store.backups(false)?;
        if known.is_empty() {
            return Ok("there is no backup yet".to_owned());
        }
        let Some((backup, file)) = newest(&known) else {
            return Err(Error::conflict(
                "backup_unreadable",
                "the server can read none of the files of its backups; let one lie where its account can read it (the setting backup.folder, or --output), or verify them with `strongroom backup verify FILE`",
            ));
        };
        run.say(format!("{} of {}", backup.path, backup.created))
            .await?;
        let identities = self.drill_identities().await?;
        // One folder, and one copy of the store at a time.
        let turn = self.backup_turn().await?;
        let dir = self.seal.folder.backups().join(FOLDER);
        let (this, now) = (Arc::clone(self), clock::now());
        let drilled = run
            .blocking(move || {
                let _turn = turn;
                check::opened(file, &identities, |_, clear| {
                    let openers = Openers {
                        backup: &|aad, sealed| this.keyring.open_for(PURPOSE, aad, sealed),
                        store: &|aad, sealed| this.keyring.open_at(aad, sealed),
                    };
                    drill(clear, &dir, &openers, now)
                })
            })
            .await;
        let Drilled {
            manifest, org_keys, ..
        } = match drilled {
            Ok(drilled) => drilled,
            Err(error) => {
                let why = format!("{} would not restore: {}", backup.path, error.public);
                self.backup_fault(&Self::own_context(), &backup.id.to_string(), &why)
                    .await;
                return Err(error);
            }
        };
        if manifest.id != backup.id {
            return Err(Error::conflict(
                "other_backup",
                format!("{} is another backup than it was", backup.path),
            ));
        }
        let object = backup_object(backup.id, &backup.path);
        let change = self.change(&Self::own_context(), "backup.drill", object, now);
        self.store.backup_drilled(change, backup.id, now).await?;
        let deposits = manifest.counts.get("deposits").copied().unwrap_or(0);
        Ok(format!(
            "{} would bring back {deposits} deposits under {org_keys} keys, as of {}",
            backup.path, manifest.created
        ))
    }
}

/// The newest that this process can read.
fn newest(known: &[Backup]) -> Option<(Backup, File)> {
    known.iter().find_map(|it| {
        let file = File::open(Path::new(&it.path)).ok()?;
        Some((it.clone(), file))
    })
}
