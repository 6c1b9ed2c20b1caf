//! Backups: put together here, encrypted, and handed to whoever asked, who writes the file under his own
//! rights and hands it back to be decrypted in full and checked. Only then does it count.

mod audience;
mod check;
mod draft;
mod drill;
mod extract;
mod health;
mod here;
mod keys;
mod leave;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::spawn_blocking;
use uuid::Uuid;

pub use self::extract::WantedDeposit;

use self::audience::Audience;
use self::draft::Draft;
use self::leave::Drill;
use super::access::{Action, Target};
use super::caller::Context;
use super::{Service, object, short_text, to_its_end};
use crate::api::backup::{BackupEnd, Backups, CreateBackup, KeepBackup, VerifiedBackup};
use crate::backup::{Manifest, manifest, write};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::model::audit::Object;
use crate::model::backup::{Backup, Form};
use crate::secret::Secret;
use crate::store::copy::GoesOn;

/// Another one is put together or leaves.
const TURN: Duration = Duration::from_secs(600);
/// A backup that left, and of which nothing was heard for so long, failed.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// So many may be on their way.
const MOST_PENDING: usize = 16;
/// How long is known that there was one whose file is gone.
const REMEMBERED: i64 = 400 * Timestamp::DAY;
const LONGEST_PATH: usize = 4_096;
const LONGEST_WHY: usize = 1_000;

/// What comes from a caller, piece by piece.
pub type Pieces = mpsc::Receiver<Result<Vec<u8>>>;

/// A backup on its way to the caller.
pub struct Leaving {
    pub id: Uuid,
    /// What its file is to be called.
    pub name: String,
    /// About how many bytes there will be.
    pub length: u64,
    pub pieces: Pieces,
}

/// Backups that are under way, and what went wrong with the last one.
#[derive(Default)]
pub struct UnderWay {
    /// Held by the one that is put together or leaves.
    turn: Arc<tokio::sync::Mutex<()>>,
    pending: Mutex<BTreeMap<Uuid, Pending>>,
    fault: Mutex<Option<String>>,
}

/// What is to become of one.
struct Wanted {
    audience: Audience,
    drill: Drill,
    self_contained: bool,
}

impl Wanted {
    fn draft(&self, service: &Service, now: Timestamp, goes_on: GoesOn<'_>) -> Result<Draft> {
        let to = (&self.audience, self.drill.told());
        Draft::make(service, (to.0, &to.1), self.self_contained, now, goes_on)
    }
}

/// One that does not count yet.
struct Pending {
    manifest: Manifest,
    /// Of the manifest, as it was written.
    binding: [u8; 32],
    form: Form,
    /// What opens it, if no key of the server does.
    passphrase: Option<Arc<Secret<String>>>,
    since: Instant,
    stage: Stage,
}

enum Stage {
    Leaving,
    Left,
    Verified(Box<VerifiedBackup>),
}

impl UnderWay {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<Uuid, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// `not_found`: never begun, given up, or the server was started since.
    fn with<T>(&self, id: Uuid, run: impl FnOnce(&mut Pending) -> Result<T>) -> Result<T> {
        match self.pending().get_mut(&id) {
            Some(pending) => run(pending),
            None => Err(Error::not_found(format!(
                "no backup {id} is under way; it was given up, or the server was started since: begin another"
            ))),
        }
    }
}

/// Takes away what a crash left.
pub fn tidy(folder: &Folder) -> Result<()> {
    draft::tidy(folder)
}

fn backup_object(id: impl ToString, name: impl ToString) -> Object {
    object("backup", id, name)
}

impl Service {
    /// Puts a backup together and lets it leave.
    ///
    /// # Errors
    /// `no_recipient`, `backup_runs`, `no_room_for_copy`, `copy_damaged`.
    pub async fn backup_begin(
        self: &Arc<Self>,
        ctx: &Context,
        request: CreateBackup,
    ) -> Result<Leaving> {
        const VERB: &str = "backup.create";
        let any = backup_object("", "");
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, any)?;
        if request.self_contained {
            // It holds the key to everything.
            let any = backup_object("", "");
            self.allow(ctx, Action::SlotChange, &Target::Server, VERB, any)?;
        }
        let audience = Audience::of(self, &request, clock::now()).await?;
        let self_contained = request.self_contained;
        self.store.room()?;
        let drill = self.drill_of(&audience).await?;
        let turn = self.backup_turn().await?;
        self.give_up_old_ones(ctx).await;
        let (to, pieces) = mpsc::channel(4);
        // Goes on if the caller does not wait, so that it is known what became of it.
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        let begun = to_its_end(async move {
            let wanted = Wanted {
                audience,
                drill,
                self_contained,
            };
            this.begin(ctx, wanted, turn, to).await
        });
        let (id, name, length) = begun.await?;
        Ok(Leaving {
            id,
            name,
            length,
            pieces,
        })
    }

    /// One at a time is put together, leaves, or is tried out.
    async fn backup_turn(&self) -> Result<OwnedMutexGuard<()>> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.backups.turn).lock_owned());
        turn.await.map_err(|_| {
            Error::unavailable(
                "backup_runs",
                "another backup has been under way for ten minutes; try again when it is done",
            )
        })
    }

    /// Puts it together, and begins to write it into `to`.
    async fn begin(
        self: Arc<Self>,
        ctx: Context,
        wanted: Wanted,
        turn: OwnedMutexGuard<()>,
        to: mpsc::Sender<Result<Vec<u8>>>,
    ) -> Result<(Uuid, String, u64)> {
        let (this, now) = (Arc::clone(&self), clock::now());
        let made = spawn_blocking(move || {
            let goes_on = |_, _| !to.is_closed();
            let draft = wanted.draft(&this, now, &goes_on)?;
            Ok::<_, Error>((draft, wanted, to))
        });
        let made = made.await.map_err(ended).and_then(|made| made);
        let made = made.and_then(|made| self.expect(&made.0, &made.1).map(|()| made));
        let (draft, wanted, to) = match made {
            Ok(made) => made,
            Err(error) => {
                self.backup_fault(&ctx, "", &error.public).await;
                return Err(error);
            }
        };
        let id = draft.manifest.id;
        let name = write::file_name(&draft.manifest.fqdn, now, draft.form.ending());
        let length = draft.length();
        let handle = tokio::runtime::Handle::current();
        spawn_blocking(move || {
            let _turn = turn;
            let left = leave::leave(&draft, wanted.audience, wanted.drill, &to, &handle);
            self.left(&ctx, id, left, &to, &handle);
        });
        Ok((id, name, length))
    }

    fn expect(&self, draft: &Draft, wanted: &Wanted) -> Result<()> {
        let mut pending = self.backups.pending();
        if pending.len() >= MOST_PENDING {
            return Err(Error::unavailable(
                "backup_runs",
                format!("{MOST_PENDING} backups are under way; try again when they are done"),
            ));
        }
        pending.insert(
            draft.manifest.id,
            Pending {
                manifest: draft.manifest.clone(),
                binding: manifest::binding(&draft.json),
                form: draft.form,
                passphrase: match &wanted.audience {
                    Audience::Passphrase(passphrase) => Some(Arc::clone(passphrase)),
                    Audience::Age(_) | Audience::Openpgp(_) | Audience::Nobody => None,
                },
                since: Instant::now(),
                stage: Stage::Leaving,
            },
        );
        Ok(())
    }

    /// It left whole, or did not.
    fn left(
        &self,
        ctx: &Context,
        id: Uuid,
        left: Result<()>,
        to: &mpsc::Sender<Result<Vec<u8>>>,
        handle: &tokio::runtime::Handle,
    ) {
        match left {
            Ok(()) => {
                if let Some(pending) = self.backups.pending().get_mut(&id) {
                    pending.stage = Stage::Left;
                    pending.since = Instant::now();
                }
            }
            Err(error) => {
                self.backups.pending().remove(&id);
                handle.block_on(self.backup_fault(ctx, &id.to_string(), &error.public));
                // Nobody takes it for whole.
                let _ = to.blocking_send(Err(error));
            }
        }
    }

    /// Decrypts what came back in full, and compares it with what left. Without `id`, any backup of this
    /// instance.
    pub async fn backup_verify(
        self: &Arc<Self>,
        ctx: &Context,
        id: Option<Uuid>,
        pieces: Pieces,
    ) -> Result<VerifiedBackup> {
        const VERB: &str = "backup.verify";
        let any = backup_object(id.map(|it| it.to_string()).unwrap_or_default(), "");
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, any)?;
        let expected = match id {
            None => None,
            Some(id) => Some(self.backups.with(id, |pending| match pending.stage {
                Stage::Leaving => Err(not_yet("has not left in full")),
                Stage::Left | Stage::Verified(_) => {
                    Ok((pending.binding, pending.form, pending.passphrase.clone()))
                }
            })?),
        };
        let mut identities = self.drill_identities().await?;
        identities.passphrase = expected.as_ref().and_then(|it| it.2.clone());
        let instance = self.facts.instance;
        let checked = spawn_blocking(move || check::check_pieces(pieces, &identities, instance));
        let found = checked.await.map_err(ended)??;
        let (Some(id), Some((binding, form, _))) = (id, expected) else {
            return Ok(found.verified);
        };
        if (found.binding, found.verified.form) != (binding, form) {
            return Err(Error::conflict(
                "other_backup",
                "what came back is another backup than the one that left",
            ));
        }
        self.backups.with(id, |pending| {
            pending.stage = Stage::Verified(Box::new(found.verified.clone()));
            pending.since = Instant::now();
            Ok(())
        })?;
        Ok(found.verified)
    }

    /// From now on it counts: its file is verified, and has its name.
    pub async fn backup_keep(
        self: &Arc<Self>,
        ctx: &Context,
        id: Uuid,
        request: KeepBackup,
    ) -> Result<Backup> {
        const VERB: &str = "backup.create";
        let any = backup_object(id, &request.path);
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, any)?;
        short_text("path", &request.path, LONGEST_PATH)?;
        if !Path::new(&request.path).is_absolute() {
            return Err(Error::invalid("path", "give an absolute path"));
        }
        let now = clock::now();
        let verified = self.backups.with(id, |pending| match &pending.stage {
            Stage::Leaving | Stage::Left => Err(not_yet("was not verified")),
            Stage::Verified(found) => Ok(Backup {
                id,
                created: found.created,
                verified: now,
                path: request.path.clone(),
                form: found.form,
                bytes: found.bytes,
                sha256: found.sha256.clone(),
                revision: found.revision,
                newest_deposit: found.newest_deposit,
                recipients: pending.manifest.recipients.clone(),
                by_job: false,
                drilled: None,
                removed: None,
            }),
        });
        let backup = match verified {
            Ok(backup) => backup,
            // What counts is under way no more.
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let mut change = self.change(ctx, VERB, backup_object(id, &backup.path), now);
        change.event.detail = detail(&backup);
        // Whoever breaks off would leave one that counts under way, and after an hour that is a failure.
        let this = Arc::clone(self);
        to_its_end(async move {
            let kept = this.store.keep_backup(change, backup).await?;
            this.backups.pending().remove(&id);
            this.backup_counts();
            Ok(kept)
        })
        .await
    }

    /// One came through: what went wrong before is over.
    fn backup_counts(&self) {
        *self.backups.fault() = None;
        self.report_backups();
    }

    /// Whoever wrote it says that it is no backup.
    pub async fn backup_failed(&self, ctx: &Context, id: Uuid, request: BackupEnd) -> Result<()> {
        let any = backup_object(id, "");
        self.allow(
            ctx,
            Action::BackupCreate,
            &Target::Server,
            "backup.create",
            any,
        )?;
        short_text("why", &request.why, LONGEST_WHY)?;
        if self.backups.pending().remove(&id).is_some() {
            self.backup_fault(ctx, &id.to_string(), &request.why).await;
        }
        Ok(())
    }

    /// Its file was removed.
    pub async fn backup_removed(
        &self,
        ctx: &Context,
        id: Uuid,
        request: BackupEnd,
    ) -> Result<Backup> {
        const VERB: &str = "backup.rm";
        let any = backup_object(id, "");
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, any)?;
        short_text("why", &request.why, LONGEST_WHY)?;
        let backup = self.store.backup(id)?;
        let now = clock::now();
        let mut change = self.change(ctx, VERB, backup_object(id, &backup.path), now);
        change.event.detail = request.why;
        self.store.remove_backup(change, id, now).await
    }

    pub async fn backup_list(&self, ctx: &Context, removed_too: bool) -> Result<Backups> {
        let any = backup_object("", "");
        self.allow(ctx, Action::BackupRead, &Target::Server, "backup.list", any)?;
        Ok(Backups {
            backups: self.store.backups(removed_too)?,
        })
    }

    pub async fn backup_show(&self, ctx: &Context, id: Uuid) -> Result<Backup> {
        let any = backup_object(id, "");
        self.allow(ctx, Action::BackupRead, &Target::Server, "backup.show", any)?;
        self.store.backup(id)
    }

    /// Those of which nothing was heard for long.
    async fn give_up_old_ones(&self, ctx: &Context) {
        let old: Vec<Uuid> = {
            let mut pending = self.backups.pending();
            let old = |it: &Pending| it.since.elapsed() > PATIENCE;
            let ids = pending.iter().filter(|(_, it)| old(it)).map(|(id, _)| *id);
            let ids: Vec<Uuid> = ids.collect();
            pending.retain(|_, it| !old(it));
            ids
        };
        for id in old {
            let why = "it left, and whoever took it did not say what became of it";
            self.backup_fault(ctx, &id.to_string(), why).await;
        }
    }

    /// In the audit, in the log and in health, until one comes through.
    async fn backup_fault(&self, ctx: &Context, id: &str, why: &str) {
        log::error!(backup = id, why; "a backup failed");
        *self.backups.fault() = Some(why.to_owned());
        self.report_backups();
        let mut change = self.change(ctx, "backup.failed", backup_object(id, ""), clock::now());
        change.once = None;
        change.event.detail = why.to_owned();
        if let Err(error) = self.store.note(change).await {
            log::error!(error:? = error; "that a backup failed is not in the audit");
        }
    }

    pub(super) async fn forget_backups(&self, now: Timestamp) -> Result<()> {
        self.store.forget_backups(now.plus(-REMEMBERED)).await
    }
}

fn detail(backup: &Backup) -> String {
    let recipients: Vec<&str> = backup
        .recipients
        .iter()
        .map(|it| it.text.as_str())
        .collect();
    let to = match recipients.is_empty() {
        true => "in the clear".to_owned(),
        false => format!("to {}", recipients.join(", ")),
    };
    format!(
        "{}, {} bytes, SHA-256 {}, revision {}",
        to, backup.bytes, backup.sha256, backup.revision
    )
}

fn not_yet(what: &str) -> Error {
    Error::conflict("backup_unfinished", format!("this backup {what}"))
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::internal(error.to_string())
}
