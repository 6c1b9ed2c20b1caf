//! An organization's key, made anew while it serves. The newer key seals from the moment that its
//! change is in the store; what lies under older ones is sealed anew by a job, goes on after a restart,
//! and stays readable throughout. When nothing lies under them any more, the older keys go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::access::{Action, Target};
use super::caller::Context;
use super::job::JobRun;
use super::{Service, object, once, org_object, to_its_end};
use crate::api::org_key::{KeyRotation, OrgKey};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::model::id::OrgId;
use crate::model::job::{JobKind, JobState};
use crate::model::org::OrgName;
use crate::store::{NewJob, Rotation, StepKeys};

/// The longest pause between two steps.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Service {
    pub async fn org_key(&self, ctx: &Context, name: &OrgName) -> Result<OrgKey> {
        let org = object("org", "", name);
        self.allow(ctx, Action::OrgRead, &Target::Org(name), "org.key", org)?;
        self.org_key_of(name)
    }

    fn org_key_of(&self, name: &OrgName) -> Result<OrgKey> {
        let id = self.store.org(name)?.org.id;
        let (version, created) = self.store.newest_org_key(id)?;
        let rotation = self.store.rotations(Some(id))?.into_iter().next();
        Ok(OrgKey {
            org: name.clone(),
            version,
            created,
            rotation: rotation.map(|it| KeyRotation {
                done: it.done,
                total: it.total,
                started: it.started,
                failed: it.failed,
                first_failed: it.first_failed,
                ended: it.ended,
                job: it.job.map(|(id, _)| id),
                job_state: it.job.map(|(_, state)| state),
            }),
        })
    }

    /// Goes on if the caller does not wait: the newer key must be known here as soon as it is stored.
    pub async fn org_rotate_key(self: &Arc<Self>, ctx: &Context, name: &OrgName) -> Result<OrgKey> {
        const VERB: &str = "org.rotate_key";
        let org = object("org", "", name);
        self.allow(ctx, Action::OrgChange, &Target::Server, VERB, org)?;
        let (this, ctx, name) = (Arc::clone(self), ctx.clone(), name.clone());
        to_its_end(async move { this.key_rotated(&ctx, VERB, &name).await }).await
    }

    async fn key_rotated(&self, ctx: &Context, verb: &str, name: &OrgName) -> Result<OrgKey> {
        let _root = self.root.read().await;
        // Whatever is being sealed under the older key is stored first.
        let _turn = self.sealing_turn.write().await;
        if let Some(once) = once(ctx)
            && let Some(first) = self.store.first_answer(&once)?
        {
            return Ok(first);
        }
        let row = self.store.org(name)?.org;
        let (newest, _) = self.store.newest_org_key(row.id)?;
        let version = newest
            .checked_add(1)
            .ok_or_else(|| Error::internal("the organization's key has too many versions"))?;
        let key = self.keyring.make(row.id, version)?;
        let now = clock::now();
        let mut change = self.change(ctx, verb, org_object(row.id, name), now);
        change.event.detail = format!("key {version}");
        let job = self.rotation_job(ctx, row.id, name, version)?;
        let answer = OrgKey {
            org: name.clone(),
            version,
            created: now,
            rotation: Some(KeyRotation {
                done: 0,
                total: row.deposits,
                started: now,
                failed: 0,
                first_failed: None,
                ended: false,
                job: Some(job.id),
                job_state: Some(JobState::Queued),
            }),
        };
        let begun = self.store.begin_rotation(change, key, job, answer).await?;
        self.keyring.newest_is(row.id, version);
        self.jobs_asked.notify_one();
        Ok(begun)
    }

    fn rotation_job(
        &self,
        ctx: &Context,
        org: OrgId,
        name: &OrgName,
        version: u32,
    ) -> Result<NewJob> {
        let parameters = json!({ "version": version });
        self.new_job(ctx, JobKind::OrgKeyRotation, Some((org, name)), &parameters)
    }

    /// Whatever was lost of a rotation, or of its job, its older keys are to go.
    pub async fn resume_rotations(&self) -> Result<()> {
        let resumed = self.store.resume_rotations(clock::now()).await?;
        if resumed > 0 {
            log::info!(organizations = resumed; "older keys are there without a rotation; it begins again");
        }
        let rotations = self.store.rotations(None)?;
        self.report_rotations(&rotations);
        let own = Self::own_context();
        let mut jobs = Vec::new();
        for it in rotations
            .iter()
            .filter(|it| !it.ended && it.job.is_none_or(|(_, state)| state == JobState::Succeeded))
        {
            jobs.push(self.rotation_job(&own, it.org, &it.org_name.parse()?, it.version)?);
        }
        if jobs.is_empty() {
            return Ok(());
        }
        self.store.make_rotation_jobs(jobs).await?;
        self.jobs_asked.notify_one();
        Ok(())
    }

    /// The job: step by step, until nothing lies under an older key.
    pub async fn rotate_org_key(&self, run: &mut JobRun) -> Result<String> {
        let org = run.org()?;
        loop {
            run.check()?;
            let began = Instant::now();
            let rotations = self.store.rotations(None)?;
            self.report_rotations(&rotations);
            let rotation = rotations.into_iter().find(|it| it.org == org && !it.ended);
            let Some(rotation) = rotation else {
                return Ok("nothing is to be sealed anew".to_owned());
            };
            if run.job().parameters["version"] != rotation.version {
                return Ok("a newer key has its own job".to_owned());
            }
            let (done, total) = (rotation.done, rotation.total);
            run.progress(done, total, "deposits").await?;
            self.store.room()?;
            let keys = self.step_keys(&rotation)?;
            if self.store.rotation_step(org, keys).await? {
                // Others have as much time as it took.
                tokio::time::sleep(began.elapsed().min(LONGEST_PAUSE)).await;
                continue;
            }
            if let Some(outcome) = self.rotation_ended(rotation).await? {
                run.progress(total, total, "deposits").await?;
                return Ok(outcome);
            }
        }
    }

    /// None: a newer rotation has begun meanwhile, or the organization is gone.
    async fn rotation_ended(&self, rotation: Rotation) -> Result<Option<String>> {
        let (org, version, failed) = (rotation.org, rotation.version, rotation.failed);
        let own = Self::own_context();
        let object = org_object(org, &rotation.org_name);
        let change = self.change(&own, "org.key_rotated", object, clock::now());
        match self.store.end_rotation(change, rotation).await {
            Err(error) if error.kind == Kind::NotFound => return Ok(None),
            ended => ended?,
        }
        self.report_rotations(&self.store.rotations(None)?);
        Ok(Some(match failed {
            0 => format!("all lies under key {version}; the older ones are destroyed"),
            some => format!(
                "all but {some} versions lies under key {version}; those do not open, and the older keys stay"
            ),
        }))
    }

    /// Says on the board whose rotation met what does not open.
    pub(super) fn report_rotations(&self, rotations: &[Rotation]) {
        const BOARD: &str = "organization keys";
        let given_up = |it: &&Rotation| {
            !it.ended
                && it.job.is_some_and(|(_, state)| {
                    matches!(state, JobState::Failed | JobState::Cancelled)
                })
        };
        match (rotations.iter().find(|it| it.failed > 0), rotations.iter().find(given_up)) {
            (None, None) => self.board.green(BOARD),
            (None, Some(it)) => self.board.amber(
                BOARD,
                &format!("what lies under older keys of {} is not sealed anew: its job failed, or was cancelled", it.org_name),
                &match it.job {
                    Some((id, _)) => format!("`strongroom job show {id}`, then `strongroom job retry {id}`"),
                    None => "`strongroom org rotate-key` again".to_owned(),
                },
            ),
            (Some(it), _) => self.board.amber(
                BOARD,
                &format!(
                    "{} versions of deposits in {} do not open, `{}` among them: their disk or row is damaged",
                    it.failed,
                    it.org_name,
                    it.first_failed.as_deref().unwrap_or_default()
                ),
                "store them anew, or purge them, then `strongroom org rotate-key` again: the older keys stay until then",
            ),
        }
    }

    fn step_keys(&self, rotation: &Rotation) -> Result<StepKeys> {
        let key = |version| self.keyring.org(&self.store, rotation.org, version);
        let mut older = Vec::new();
        for wrapped in self.store.org_keys(rotation.org)? {
            if wrapped.version < rotation.version {
                older.push((wrapped.version, key(wrapped.version)?));
            }
        }
        Ok(StepKeys {
            newest: (rotation.version, key(rotation.version)?),
            older,
        })
    }
}
