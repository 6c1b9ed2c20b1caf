//! Groups of hosts.

use super::access::{Action, Target};
use super::caller::Context;
use super::{ListQuery, Service, by_text, object, paged, position};
use crate::api::host_group::{AddHostGroup, EditHostGroup};
use crate::clock;
use crate::error::Result;
use crate::model::audit::Object;
use crate::model::filter::Filter;
use crate::model::host_group::{HostGroup, HostGroupPath};
use crate::model::page::{Page, Part};

const LIST: &str = "host_groups";

fn of(path: &HostGroupPath) -> Object {
    object("host_group", path, path)
}

impl Service {
    pub async fn host_group_list(
        &self,
        ctx: &Context,
        query: ListQuery,
    ) -> Result<Page<HostGroup>> {
        const VERB: &str = "host_group.list";
        let (start, limit) = position(LIST, &query, by_text)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let all = object("host_group", "", "");
        self.allow(ctx, Action::HostRead, &Target::Server, VERB, all)?;
        let rows = self.store.host_groups(start, filter, limit).await?;
        let path = |group: &HostGroup| vec![Part::Text(group.path.to_string())];
        Ok(paged(LIST, &query, rows, path))
    }

    pub async fn host_group_show(&self, ctx: &Context, path: &HostGroupPath) -> Result<HostGroup> {
        const VERB: &str = "host_group.show";
        self.allow(ctx, Action::HostRead, &Target::Server, VERB, of(path))?;
        self.store.host_group(path)
    }

    pub async fn host_group_add(&self, ctx: &Context, request: AddHostGroup) -> Result<HostGroup> {
        const VERB: &str = "host_group.add";
        let path = request.path;
        self.may_host_group(ctx, VERB, &path)?;
        request.own.check()?;
        let change = self.change(ctx, VERB, of(&path), clock::now());
        self.store.add_host_group(change, path, request.own).await
    }

    pub async fn host_group_edit(
        &self,
        ctx: &Context,
        path: &HostGroupPath,
        request: EditHostGroup,
    ) -> Result<HostGroup> {
        const VERB: &str = "host_group.edit";
        self.may_host_group(ctx, VERB, path)?;
        request.own.check()?;
        let change = self.change(ctx, VERB, of(path), clock::now());
        let store = &self.store;
        let (own, inherit) = (request.own, request.inherit);
        store
            .edit_host_group(change, path.clone(), own, inherit)
            .await
    }

    pub async fn host_group_remove(&self, ctx: &Context, path: &HostGroupPath) -> Result<()> {
        const VERB: &str = "host_group.rm";
        self.may_host_group(ctx, VERB, path)?;
        let change = self.change(ctx, VERB, of(path), clock::now());
        self.store.remove_host_group(change, path.clone()).await
    }

    fn may_host_group(&self, ctx: &Context, verb: &str, path: &HostGroupPath) -> Result<()> {
        self.allow(ctx, Action::HostChange, &Target::Server, verb, of(path))
    }
}
