//! Quotas: who sets them, and whoever asks too often.

use super::access::{Action, Target};
use super::caller::{Context, Identity};
use super::client::client_object;
use super::{Service, object, org_object};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::id::Fingerprint;
use crate::model::org::OrgName;
use crate::model::quota::{QuotaUse, SetQuota};

fn said(request: &SetQuota) -> Result<()> {
    if request.is_empty() {
        return Err(Error::invalid(
            "body",
            "give at least one of `objects`, `bytes` and `requests`: a number, or null for no limit",
        ));
    }
    Ok(())
}

impl Service {
    pub async fn org_quota(&self, ctx: &Context, name: &OrgName) -> Result<QuotaUse> {
        let tried = object("org", "", name);
        self.allow(ctx, Action::OrgRead, &Target::Org(name), "org.quota", tried)?;
        let org = self.store.org(name)?.org;
        Ok(QuotaUse {
            quota: org.quota,
            used: org.used(),
        })
    }

    /// Who administers the organization alone does not: it bounds what he may use, too.
    pub async fn org_set_quota(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: SetQuota,
    ) -> Result<QuotaUse> {
        let tried = object("org", "", name);
        self.allow(
            ctx,
            Action::OrgChange,
            &Target::Org(name),
            "org.set_quota",
            tried,
        )?;
        said(&request)?;
        let id = match self.store.org(name) {
            Ok(row) => row.org.id,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let change = self.change(ctx, "org.set_quota", org_object(id, name), clock::now());
        self.store
            .set_org_quota(change, name.clone(), request)
            .await
    }

    pub async fn client_quota(&self, ctx: &Context, client: Fingerprint) -> Result<QuotaUse> {
        let known = self
            .reach(ctx, client, Action::ClientRead, "client.quota")?
            .client;
        Ok(QuotaUse {
            quota: known.quota,
            used: known.used(),
        })
    }

    pub async fn client_set_quota(
        &self,
        ctx: &Context,
        client: Fingerprint,
        request: SetQuota,
    ) -> Result<QuotaUse> {
        let verb = "client.set_quota";
        let known = match self.reach(ctx, client, Action::ClientChange, verb) {
            Ok(known) => known.client,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        said(&request)?;
        let change = self.change(ctx, verb, client_object(&known), clock::now());
        self.store.set_client_quota(change, client, request).await
    }

    /// Counts a request of a client.
    ///
    /// # Errors
    /// `quota_requests`: it has to wait.
    pub fn keep_pace(&self, ctx: &Context) -> Result<()> {
        match &ctx.identity {
            Identity::Client { id, org, pace, .. } => {
                self.paces.take(*id, *org, *pace, clock::now())
            }
            _ => Ok(()),
        }
    }
}
