//! Groups of clients. Who is in a group reads what owners shared with it: so they are changed by those who
//! may read deposits themselves, not by those who decide about clients alone.

use super::access::{Action, Target};
use super::caller::Context;
use super::{ListQuery, Service, by_text, object, paged, position};
use crate::api::group::{AddGroup, GroupWithMembers};
use crate::clock;
use crate::error::Result;
use crate::model::audit::Object;
use crate::model::filter::Filter;
use crate::model::group::{Group, GroupName};
use crate::model::id::{Fingerprint, OrgId};
use crate::model::org::OrgName;
use crate::model::page::{Page, Part};

const LIST: &str = "groups";

fn group_object(org: &OrgName, name: &GroupName) -> Object {
    object("group", "", format!("{org}/{name}"))
}

impl Service {
    pub async fn group_add(
        &self,
        ctx: &Context,
        org: &OrgName,
        request: AddGroup,
    ) -> Result<Group> {
        let name = request.name;
        let id = self.group_org(ctx, org, &name, Action::DepositChange, "group.add")?;
        let now = clock::now();
        let change = self.change(ctx, "group.add", group_object(org, &name), now);
        self.store.add_group(change, id, name, now).await
    }

    pub async fn group_remove(&self, ctx: &Context, org: &OrgName, name: &GroupName) -> Result<()> {
        let id = self.group_org(ctx, org, name, Action::DepositChange, "group.rm")?;
        let object = group_object(org, name);
        let change = self.change(ctx, "group.rm", object, clock::now());
        self.store.remove_group(change, id, name.clone()).await
    }

    pub async fn group_list(
        &self,
        ctx: &Context,
        org: &OrgName,
        query: ListQuery,
    ) -> Result<Page<Group>> {
        let (start, limit) = position(LIST, &query, by_text)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let target = Target::Org(org);
        let tried = object("org", "", org);
        self.allow(ctx, Action::DepositRead, &target, "group.list", tried)?;
        let id = self.store.org(org)?.org.id;
        let rows = self.store.groups(id, start, filter, limit).await?;
        let name = |group: &Group| vec![Part::Text(group.name.to_string())];
        Ok(paged(LIST, &query, rows, name))
    }

    pub async fn group_show(
        &self,
        ctx: &Context,
        org: &OrgName,
        name: &GroupName,
    ) -> Result<GroupWithMembers> {
        let id = self.group_org(ctx, org, name, Action::DepositRead, "group.show")?;
        let (group, clients) = self.store.group(id, name)?;
        Ok(GroupWithMembers { group, clients })
    }

    /// Puts a client of the organization into a group, or takes it out.
    pub async fn group_member(
        &self,
        ctx: &Context,
        (org, name): (&OrgName, &GroupName),
        member: Fingerprint,
        is_in: bool,
    ) -> Result<Group> {
        let verb = match is_in {
            true => "group.add_member",
            false => "group.remove_member",
        };
        let id = self.group_org(ctx, org, name, Action::DepositChange, verb)?;
        let now = clock::now();
        let change = self.change(ctx, verb, group_object(org, name), now);
        self.store
            .set_member(change, (id, name.clone()), member, is_in, now)
            .await
    }

    /// The organization, if the caller may do this to its groups.
    fn group_org(
        &self,
        ctx: &Context,
        org: &OrgName,
        name: &GroupName,
        action: Action,
        verb: &str,
    ) -> Result<OrgId> {
        let object = group_object(org, name);
        self.allow(ctx, action, &Target::Org(org), verb, object)?;
        Ok(self.store.org(org)?.org.id)
    }
}
