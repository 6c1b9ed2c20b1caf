//! Organizations: add, list, show, how clients become active, the recovery recipient.

use super::caller::Context;
use super::{ListQuery, Service};
use crate::api::org::{AddOrg, OrgWithCode, SetAuth, SetRecoveryRecipient};
use crate::error::Result;
use crate::model::org::{Org, OrgName};
use crate::model::page::Page;

impl Service {
    pub async fn org_add(&self, ctx: &Context, request: AddOrg) -> Result<OrgWithCode> {
        todo!()
    }
    pub async fn org_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Org>> {
        todo!()
    }
    pub async fn org_show(&self, ctx: &Context, name: &OrgName) -> Result<OrgWithCode> {
        todo!()
    }
    pub async fn org_set_auth(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: SetAuth,
    ) -> Result<OrgWithCode> {
        todo!()
    }
    pub async fn org_set_recovery_recipient(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: SetRecoveryRecipient,
    ) -> Result<Org> {
        todo!()
    }
}
