//! Hosts: what is known of a machine before anything logs in there.

use super::access::{Action, Target};
use super::caller::Context;
use super::{ListQuery, Service, by_text, object, paged, position};
use crate::api::host::{AddHost, EditHost};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::audit::Object;
use crate::model::filter::Filter;
use crate::model::host::{Address, Host, HostName, HostRow, HostState, few_labels};
use crate::model::id::HostId;
use crate::model::page::{Page, Part};
use crate::store::HostEdit;

const LIST: &str = "hosts";

fn of(name: &HostName) -> Object {
    object("host", name, name)
}

impl Service {
    pub async fn host_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Host>> {
        let (start, limit) = position(LIST, &query, by_text)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let all = object("host", "", "");
        self.allow(ctx, Action::HostRead, &Target::Server, "host.list", all)?;
        let rows = self.store.hosts(start, filter, limit).await?;
        let name = |host: &Host| vec![Part::Text(host.name.to_string())];
        Ok(paged(LIST, &query, rows, name))
    }

    pub async fn host_show(&self, ctx: &Context, name: &HostName) -> Result<Host> {
        self.allow(
            ctx,
            Action::HostRead,
            &Target::Server,
            "host.show",
            of(name),
        )?;
        self.store.host(name)
    }

    pub async fn host_add(&self, ctx: &Context, request: AddHost) -> Result<Host> {
        const VERB: &str = "host.add";
        self.may_host(ctx, VERB, &request.name)?;
        few_labels(&request.labels)?;
        request.own.check()?;
        let now = clock::now();
        let id = HostId::new();
        let address: Address = match request.address {
            Some(address) => address,
            None => request.name.as_str().parse().map_err(|_| {
                Error::invalid(
                    "address",
                    format!(
                        "the name `{}` is no address; give `address`, too",
                        request.name
                    ),
                )
            })?,
        };
        let change = self.change(ctx, VERB, object("host", id, &request.name), now);
        let new = HostRow {
            id,
            name: request.name,
            address,
            group: request.group,
            labels: request.labels,
            state: HostState::Created,
            own: request.own,
            created: now,
            changed: now,
        };
        self.store.add_host(change, new).await
    }

    pub async fn host_edit(
        &self,
        ctx: &Context,
        name: &HostName,
        request: EditHost,
    ) -> Result<Host> {
        const VERB: &str = "host.edit";
        self.may_host(ctx, VERB, name)?;
        request.own.check()?;
        let group = match (request.group, request.ungroup) {
            (Some(_), true) => {
                return Err(Error::invalid(
                    "group",
                    "give either `group` or `ungroup`, not both",
                ));
            }
            (None, true) => Some(None),
            (group, false) => group.map(Some),
        };
        let edit = HostEdit {
            address: request.address,
            group,
            labels: request.labels,
            settings: request.own,
            inherit: request.inherit,
        };
        let change = self.change(ctx, VERB, of(name), clock::now());
        self.store.edit_host(change, name.clone(), edit).await
    }

    pub async fn host_remove(&self, ctx: &Context, name: &HostName) -> Result<()> {
        const VERB: &str = "host.rm";
        self.may_host(ctx, VERB, name)?;
        let change = self.change(ctx, VERB, of(name), clock::now());
        self.store.remove_host(change, name.clone()).await
    }

    fn may_host(&self, ctx: &Context, verb: &str, name: &HostName) -> Result<()> {
        self.allow(ctx, Action::HostChange, &Target::Server, verb, of(name))
    }
}
