//! An organization's key, made anew while it serves. The newer key seals from the moment that its
//! change is in the store; what lies under older ones is sealed anew in the background, goes on after a
//! restart, and stays readable throughout. When nothing lies under them any more, the older keys go.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::access::{Action, Target};
use super::caller::Context;
use super::{Service, object, once, org_object, to_its_end};
use crate::api::org_key::{KeyRotation, OrgKey};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::model::org::OrgName;
use crate::store::{Rotation, StepKeys};

/// After a step that did not come through.
const AGAIN: Duration = Duration::from_secs(10);

/// Works off rotations as long as the server runs, and keeps it from nothing.
pub async fn rotate_all(service: Weak<Service>, begun: Arc<Notify>) {
    let mut resumed = false;
    loop {
        let Some(open) = service.upgrade() else {
            return;
        };
        let began = Instant::now();
        let step = match resumed {
            true => open.rotation_step().await,
            false => open.resume_rotations().await,
        };
        drop(open);
        resumed |= step.is_ok();
        match step {
            // Others have as much time as it took.
            Ok(true) => tokio::time::sleep(began.elapsed().min(AGAIN)).await,
            Ok(false) => begun.notified().await,
            Err(error) => {
                log::warn!(error:? = error; "deposits are not sealed anew; trying again");
                let _ = tokio::time::timeout(AGAIN, begun.notified()).await;
            }
        }
    }
}

impl Service {
    /// Told when there is a rotation to work off.
    pub fn rotating(&self) -> Arc<Notify> {
        Arc::clone(&self.rotating)
    }

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
            }),
        };
        let begun = self
            .store
            .begin_rotation(change, row.id, key, answer)
            .await?;
        self.keyring.newest_is(row.id, version);
        self.rotating.notify_one();
        Ok(begun)
    }

    /// Whatever was lost of a rotation, its older keys are to go.
    async fn resume_rotations(&self) -> Result<bool> {
        let resumed = self.store.resume_rotations(clock::now()).await?;
        if resumed > 0 {
            log::info!(organizations = resumed; "older keys are there without a rotation; it begins again");
        }
        Ok(true)
    }

    /// One step of the oldest rotation; false if there is none.
    async fn rotation_step(&self) -> Result<bool> {
        let rotations = self.store.rotations(None)?;
        self.report_rotations(&rotations);
        let Some(rotation) = rotations.into_iter().find(|it| !it.ended) else {
            return Ok(false);
        };
        self.store.room()?;
        let keys = self.step_keys(&rotation)?;
        if self.store.rotation_step(rotation.org, keys).await? {
            return Ok(true);
        }
        let own = Self::own_context();
        let org = org_object(rotation.org, &rotation.org_name);
        let change = self.change(&own, "org.key_rotated", org, clock::now());
        let ended = self.store.end_rotation(change, rotation).await;
        match ended {
            // A newer one has begun meanwhile, or the organization is gone.
            Err(error) if error.kind == Kind::NotFound => Ok(true),
            ended => ended.map(|()| true),
        }
    }

    /// Says on the board whose rotation met what does not open.
    fn report_rotations(&self, rotations: &[Rotation]) {
        const BOARD: &str = "organization keys";
        match rotations.iter().find(|it| it.failed > 0) {
            None => self.board.green(BOARD),
            Some(it) => self.board.amber(
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
