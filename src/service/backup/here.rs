//! Backups that the server writes itself: by schedule, or because someone asked for a job.

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::Arc;

use super::audience::Audience;
use super::check::{self, Found};
use super::{Service, Wanted, backup_object, detail, ended};
use crate::api::backup::CreateBackup;
use crate::backup::file::Folder;
use crate::backup::rolling::stays;
use crate::backup::{manifest, write};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::model::backup::Backup;
use crate::model::id::RecipientId;
use crate::model::job::{Job, JobKind};
use crate::service::access::{Action, Target};
use crate::service::caller::Context;
use crate::service::job::JobRun;

const VERB: &str = "backup.create";

impl Service {
    /// Makes the job that takes a backup into the folder that the settings name.
    pub async fn backup_job(&self, ctx: &Context, request: CreateBackup) -> Result<Job> {
        let any = backup_object("", "");
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, any)?;
        if request.self_contained {
            let any = backup_object("", "");
            self.allow(ctx, Action::SlotChange, &Target::Server, VERB, any)?;
        }
        if request.age_passphrase.is_some() {
            return Err(Error::invalid(
                "age_passphrase",
                "a job keeps no passphrase; `strongroom backup create --age-passphrase-file F` takes one at once",
            ));
        }
        Audience::of(self, &request, clock::now()).await?;
        let parameters =
            serde_json::to_value(&request).map_err(|error| Error::internal(error.to_string()))?;
        self.make_job(ctx, VERB, JobKind::Backup, &parameters).await
    }

    /// Makes the job that proves the newest backup.
    pub async fn drill_job(&self, ctx: &Context) -> Result<Job> {
        const VERB: &str = "backup.drill";
        let any = backup_object("", "");
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, any)?;
        let nothing = serde_json::Value::Object(Default::default());
        self.make_job(ctx, VERB, JobKind::Drill, &nothing).await
    }

    async fn make_job(
        &self,
        ctx: &Context,
        verb: &str,
        kind: JobKind,
        parameters: &serde_json::Value,
    ) -> Result<Job> {
        let new = self.new_job(ctx, kind, None, parameters)?;
        let mut change = self.change(ctx, verb, backup_object("", ""), clock::now());
        change.event.detail = format!("job {}", new.id);
        let job = self.store.add_job(change, new).await?;
        self.jobs_asked.notify_one();
        Ok(job)
    }

    /// The first recipient was added: the first backup is not waited for.
    pub(in crate::service) async fn first_backup(&self, ctx: &Context, added: RecipientId) {
        match self.store.backups(true) {
            Ok(known) if known.is_empty() => {}
            Ok(_) | Err(_) => return,
        }
        let request = CreateBackup {
            stored: vec![added],
            ..CreateBackup::default()
        };
        let made = async {
            let parameters = serde_json::to_value(&request)
                .map_err(|error| Error::internal(error.to_string()))?;
            let own = Self::own_context();
            let own = Context {
                request: ctx.request,
                ..own
            };
            self.make_job(&own, VERB, JobKind::Backup, &parameters)
                .await
        };
        if let Err(error) = made.await {
            log::warn!(error:? = error; "the first backup waits for its schedule");
        }
    }

    /// The work of a job.
    pub async fn backup_here(self: &Arc<Self>, run: &mut JobRun) -> Result<String> {
        let request: CreateBackup = run.parameters()?;
        let asked = !request.recipients.is_empty() || !request.stored.is_empty();
        let audience = match Audience::of(self, &request, clock::now()).await {
            Err(error) if error.code == "no_recipient" && !asked => {
                self.report_backups();
                return Ok("no backup was taken: there is no recipient yet".to_owned());
            }
            audience => audience?,
        };
        let taken = self.taken_here(run, audience, request.self_contained).await;
        let ctx = Self::own_context();
        match taken {
            Ok(backup) => {
                self.backup_counts();
                let old = self.not_held(None)?;
                let rolled = self.roll_here(run, old).await?;
                Ok(format!("{}; {rolled} older ones were removed", backup.path))
            }
            Err(error) if matches!(error.code, "cancelled" | "job_cancelled" | "job_stopping") => {
                // Which of the two it was, the run knows.
                run.check()?;
                Err(error)
            }
            Err(error) => {
                self.backup_fault(&ctx, "", &error.public).await;
                Err(error)
            }
        }
    }

    async fn taken_here(
        self: &Arc<Self>,
        run: &mut JobRun,
        audience: Audience,
        self_contained: bool,
    ) -> Result<Backup> {
        self.store.room()?;
        let drill = self.drill_of(&audience).await?;
        let turn = self.backup_turn().await?;
        let folder = self.backups_folder();
        let identities = self.drill_identities().await?;
        let (this, now, stop) = (Arc::clone(self), clock::now(), run.stop());
        run.progress(0, 3, "steps").await?;
        let written = run
            .blocking(move || {
                let _turn = turn;
                let goes_on = |_, _| !stop.is_asked();
                let wanted = Wanted {
                    audience,
                    drill,
                    self_contained,
                };
                let draft = wanted.draft(&this, now, &goes_on)?;
                let unnamed = Folder::open(&folder)?.begin()?;
                unnamed.check_room(draft.length())?;
                let out = BufWriter::with_capacity(256 << 10, unnamed);
                let sealed = super::leave::sealed(&draft, wanted.audience, wanted.drill, out)?;
                let unnamed = sealed
                    .and_then(|out| out.into_inner().map_err(io::Error::from))
                    .map_err(|error| not_written(&folder, &error))?;
                Ok((
                    draft.manifest.clone(),
                    manifest::binding(&draft.json),
                    draft.form,
                    unnamed,
                ))
            })
            .await?;
        let (said, binding, form, mut unnamed) = written;
        run.progress(1, 3, "steps").await?;
        #[cfg(debug_assertions)]
        if crate::backup::planted::rolls_before_verify()? {
            let old = self.not_held(Some(now))?;
            self.roll_here(run, old).await?;
        }
        let instance = self.facts.instance;
        let (unnamed, found) = run
            .blocking(move || {
                let sha256 = unnamed.sync()?;
                let found = check::check(unnamed.read_back()?, &identities, instance)?;
                is_the_same(&found, &binding, &sha256)?;
                Ok((unnamed, found))
            })
            .await?;
        run.progress(2, 3, "steps").await?;
        let name = write::file_name(&said.fqdn, now, form.ending());
        let path = run.blocking(move || unnamed.name(&name)).await?;
        let path = path.to_string_lossy().into_owned();
        let backup = Backup {
            id: said.id,
            created: said.created,
            verified: clock::now(),
            path,
            form,
            bytes: found.verified.bytes,
            sha256: found.verified.sha256,
            revision: said.revision,
            newest_deposit: said.newest_deposit,
            recipients: said.recipients,
            by_job: true,
            drilled: None,
            removed: None,
        };
        let own = Self::own_context();
        let object = backup_object(backup.id, &backup.path);
        let mut change = self.change(&own, VERB, object, backup.verified);
        change.event.detail = detail(&backup);
        let kept = self.store.keep_backup(change, backup).await?;
        run.progress(3, 3, "steps").await?;
        Ok(kept)
    }

    /// Where it writes them.
    fn backups_folder(&self) -> PathBuf {
        let set = self.settings.backup_folder();
        set.unwrap_or_else(|| self.seal.folder.backups())
    }

    /// Those that no rung of the ladder holds, beside one that is newer than all.
    fn not_held(&self, newer: Option<Timestamp>) -> Result<Vec<Backup>> {
        let folder = Folder::open(&self.backups_folder())?;
        let mut here = self.store.backups(false)?;
        here.retain(|it| it.by_job && folder.holds(it));
        let times = newer.into_iter().chain(here.iter().map(|it| it.created));
        let stays = stays(&times.collect::<Vec<_>>(), self.settings.backup_ladder());
        let stays = stays.into_iter().skip(usize::from(newer.is_some()));
        let old = here.into_iter().zip(stays).filter(|(_, stays)| !stays);
        Ok(old.map(|(old, _)| old).collect())
    }

    /// Removes them; how many.
    async fn roll_here(self: &Arc<Self>, run: &mut JobRun, old: Vec<Backup>) -> Result<usize> {
        let mut removed = 0;
        for old in old {
            run.check()?;
            let path = self.backups_folder();
            let gone = spawn_removal(path, old.clone()).await?;
            if !gone {
                run.say(format!(
                    "{} changed since it was verified, and is left alone",
                    old.path
                ))
                .await?;
                continue;
            }
            let now = clock::now();
            let object = backup_object(old.id, &old.path);
            let mut change = self.change(&Self::own_context(), "backup.rm", object, now);
            change.event.detail = "rolled away: later ones take its place".to_owned();
            self.store.remove_backup(change, old.id, now).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// False if it is not what it was.
async fn spawn_removal(folder: PathBuf, old: Backup) -> Result<bool> {
    let removed = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&folder)?;
        let unchanged = folder.is_unchanged(&old)?;
        if unchanged {
            folder.remove(&old)?;
        }
        Ok(unchanged)
    });
    removed.await.map_err(ended)?
}

fn is_the_same(found: &Found, binding: &[u8; 32], sha256: &str) -> Result<()> {
    match found.binding == *binding && found.verified.sha256 == sha256 {
        true => Ok(()),
        false => Err(Error::internal(
            "what was read back from the disk is not what was written to it; look at the disk",
        )),
    }
}

fn not_written(folder: &std::path::Path, error: &io::Error) -> Error {
    Error::unavailable(
        "backup_not_written",
        format!(
            "the backup could not be written into {}: {error}",
            folder.display()
        ),
    )
}
