//! Organizations: add, list, show, how clients become active, the recovery recipient.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::access::{self, Action, Target};
use super::caller::{Context, Identity};
use super::{ListQuery, Service, by_text, object, org_object, paged, position, short_text};
use crate::api::org::{
    AddContacts, AddOrg, OrgWithCode, SetAuth, SetOrgExpiry, SetRecoveryRecipient,
};
use crate::clock;
use crate::crypto::envelope::Aad;
use crate::crypto::{self, agefile};
use crate::error::{Error, Kind, Result};
use crate::model::filter::Filter;
use crate::model::id::OrgId;
use crate::model::org::{Contact, Org, OrgName, Registration};
use crate::model::page::{Page, Part};
use crate::model::quota::Quota;
use crate::secret::Secret;
use crate::store::{Change, NewOrg, OrgRow, Rows, Start};

/// What the key that seals registration codes is for.
pub(super) const CODES: &str = "registration-code/v1";
const LIST: &str = "orgs";
const MOST_CONTACTS: usize = 100;

pub(super) fn code_aad(org: &OrgId) -> Aad<'_> {
    Aad {
        table: "orgs",
        column: "auth_code",
        org: Some(*org),
        object: org.as_bytes(),
        version: 1,
    }
}

fn once_each(contacts: Vec<Contact>) -> Vec<Contact> {
    let mut once = Vec::with_capacity(contacts.len());
    for contact in contacts {
        if !once.contains(&contact) {
            once.push(contact);
        }
    }
    once
}

impl Service {
    /// Makes its first key and a registration code.
    pub async fn org_add(&self, ctx: &Context, request: AddOrg) -> Result<OrgWithCode> {
        let id = OrgId::new();
        self.allow(
            ctx,
            Action::OrgChange,
            &Target::Server,
            "org.add",
            object("org", "", &request.name),
        )?;
        if request.contacts.len() > MOST_CONTACTS {
            return Err(Error::invalid(
                "contacts",
                format!("an organization has up to {MOST_CONTACTS} contacts"),
            ));
        }
        let now = clock::now();
        if request.expires.is_some_and(|end| end <= now) {
            return Err(Error::invalid(
                "expires",
                "a new organization ends in the future, or never: leave `expires` out",
            ));
        }
        let auth_code = STANDARD.encode(crypto::random::<16>());
        let _root = self.root.read().await;
        let new = NewOrg {
            key: self.keyring.make(id, 1)?,
            auth_code: Some(self.seal_code(id, &auth_code)?),
            org: Org {
                id,
                name: request.name.clone(),
                contacts: once_each(request.contacts),
                registration: Registration::Code,
                recovery_recipient: None,
                created: now,
                expires: request.expires,
                clients: 0,
                deposits: 0,
                bytes: 0,
                quota: Quota::default(),
            },
        };
        let org = self
            .store
            .add_org(
                self.change(ctx, "org.add", org_object(id, &request.name), now),
                new,
            )
            .await?;
        // A retry was answered with the first organization: its code, not this one.
        let row = self.store.org(&org.name)?;
        Ok(OrgWithCode {
            auth_code: self.open_code(&row)?,
            org,
        })
    }

    pub async fn org_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Org>> {
        let (start, limit) = position(LIST, &query, by_text)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        self.somewhere(ctx, Action::OrgRead)
            .inspect_err(|error| self.refused(ctx, "org.list", object("org", "", ""), error))?;
        let rows = match access::decide(&ctx.identity, Action::OrgRead, &Target::Server) {
            Ok(()) => self.store.orgs(start, filter, limit).await?,
            Err(_) => self.own_orgs(ctx, &start, &filter, limit)?,
        };
        let name = |org: &Org| vec![Part::Text(org.name.to_string())];
        Ok(paged(LIST, &query, rows, name))
    }

    /// A page of the caller's own organizations alone: a walk over all of them would tell, by where it
    /// stops, what the others are called and how they are set.
    fn own_orgs(
        &self,
        ctx: &Context,
        start: &Start<String>,
        filter: &Filter<Org>,
        limit: usize,
    ) -> Result<Rows<Org>> {
        let backwards = start.backwards();
        let mut names = self.granted_orgs(ctx);
        names.retain(|name| {
            let beyond = match start {
                Start::Beginning | Start::End => true,
                Start::After(key) => name.as_str() > key.as_str(),
                Start::Before(key) => name.as_str() < key.as_str(),
            };
            beyond && access::decide(&ctx.identity, Action::OrgRead, &Target::Org(name)).is_ok()
        });
        if backwards {
            names.reverse();
        }
        let mut items = Vec::new();
        let mut more = None;
        for name in names {
            let org = match self.store.org(&name) {
                Ok(row) => row.org,
                Err(error) if error.kind == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !filter.matches(&org) {
                continue;
            }
            if items.len() == limit {
                more = items.last().cloned();
                break;
            }
            items.push(org);
        }
        if backwards {
            items.reverse();
        }
        Ok(Rows {
            items,
            backwards,
            more,
            complete: true,
        })
    }

    pub async fn org_show(&self, ctx: &Context, name: &OrgName) -> Result<OrgWithCode> {
        self.allow(
            ctx,
            Action::OrgRead,
            &Target::Org(name),
            "org.show",
            object("org", "", name),
        )?;
        let row = self.store.org(name)?;
        let may_see = access::decide(&ctx.identity, Action::OrgCode, &Target::Org(name)).is_ok();
        let auth_code = if may_see { self.open_code(&row)? } else { None };
        if auth_code.is_some() {
            self.release(ctx.event("org.show_code", org_object(row.org.id, name), clock::now()))
                .await?;
        }
        Ok(OrgWithCode {
            org: row.org,
            auth_code,
        })
    }

    /// With all that is in it, for good. Takes every right on it: what is destroyed is everybody's.
    pub async fn org_remove(&self, ctx: &Context, name: &OrgName) -> Result<Org> {
        for action in [
            Action::OrgChange,
            Action::ClientChange,
            Action::DepositChange,
        ] {
            let tried = object("org", "", name);
            self.allow(ctx, action, &Target::Org(name), "org.rm", tried)?;
        }
        let row = match self.store.org(name) {
            Ok(row) => row,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let now = clock::now();
        // Nobody wraps its key anew meanwhile.
        let _root = self.root.read().await;
        let change = self.change(ctx, "org.rm", org_object(row.org.id, name), now);
        let org = self.store.remove_org(change, name.clone(), now).await?;
        self.keyring.forget(org.id);
        Ok(org)
    }

    /// Deletes what removed organizations had; each time a bounded part of it.
    pub async fn sweep_removed_orgs(&self) -> Result<()> {
        const BATCHES: usize = 500;
        for _ in 0..BATCHES {
            let event = |org, name: &str| {
                Service::own_context().event("org.purge", org_object(org, name), clock::now())
            };
            if !self.store.sweep_removed(event).await? {
                break;
            }
        }
        Ok(())
    }

    /// Blank: clients become active without a code.
    pub async fn org_set_auth(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: SetAuth,
    ) -> Result<OrgWithCode> {
        self.allow(
            ctx,
            Action::OrgCode,
            &Target::Org(name),
            "org.set_auth",
            object("org", "", name),
        )?;
        let request = Secret::new(request.auth_code);
        short_text("auth_code", request.expose(), 255)?;
        let row = self.store.org(name)?;
        let _root = self.root.read().await;
        let code = match request.expose().trim() {
            "" => None,
            code => Some(self.seal_code(row.org.id, code)?),
        };
        let mut change = self.change(
            ctx,
            "org.set_auth",
            org_object(row.org.id, name),
            clock::now(),
        );
        change.event.detail = if code.is_some() {
            "a new code"
        } else {
            "no code needed"
        }
        .to_owned();
        let org = self.store.set_org_auth(change, name.clone(), code).await?;
        Ok(OrgWithCode {
            org,
            auth_code: (!request.expose().trim().is_empty())
                .then(|| request.expose().trim().to_owned()),
        })
    }

    pub async fn org_set_recovery_recipient(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: SetRecoveryRecipient,
    ) -> Result<Org> {
        self.allow(
            ctx,
            Action::OrgChange,
            &Target::Org(name),
            "org.set_recovery_recipient",
            object("org", "", name),
        )?;
        if let Some(recipient) = &request.recipient {
            agefile::check_recipient(recipient)?;
        }
        let row = self.store.org(name)?;
        let mut change = self.change(
            ctx,
            "org.set_recovery_recipient",
            org_object(row.org.id, name),
            clock::now(),
        );
        change.event.detail = request
            .recipient
            .clone()
            .unwrap_or_else(|| "none".to_owned());
        self.store
            .set_recovery_recipient(change, name.clone(), request.recipient)
            .await
    }

    pub async fn org_add_contacts(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: AddContacts,
    ) -> Result<Org> {
        let change = self.contact_change(ctx, name, "org.add_contacts")?;
        if request.contacts.is_empty() {
            return Err(Error::invalid(
                "contacts",
                "give at least one contact, such as root@kts01",
            ));
        }
        self.store
            .add_contacts(change, name.clone(), request.contacts, MOST_CONTACTS)
            .await
    }

    pub async fn org_remove_contact(
        &self,
        ctx: &Context,
        name: &OrgName,
        contact: Contact,
    ) -> Result<Org> {
        let change = self.contact_change(ctx, name, "org.remove_contact")?;
        self.store
            .remove_contact(change, name.clone(), contact)
            .await
    }

    fn contact_change(&self, ctx: &Context, name: &OrgName, verb: &str) -> Result<Change> {
        self.allow(
            ctx,
            Action::OrgContacts,
            &Target::Org(name),
            verb,
            object("org", "", name),
        )?;
        let row = self.store.org(name)?;
        Ok(self.change(ctx, verb, org_object(row.org.id, name), clock::now()))
    }

    /// Its clients are refused from then on; a time that has passed ends it at once.
    pub async fn org_set_expiry(
        &self,
        ctx: &Context,
        name: &OrgName,
        request: SetOrgExpiry,
    ) -> Result<Org> {
        self.allow(
            ctx,
            Action::OrgChange,
            &Target::Org(name),
            "org.set_expiry",
            object("org", "", name),
        )?;
        let row = self.store.org(name)?;
        let mut change = self.change(
            ctx,
            "org.set_expiry",
            org_object(row.org.id, name),
            clock::now(),
        );
        change.event.detail = request
            .expires
            .map_or_else(|| "never".to_owned(), |end| end.to_string());
        self.store
            .set_org_expiry(change, name.clone(), request.expires)
            .await
    }

    /// The organizations that the caller has some grant on, by name, each once.
    pub(super) fn granted_orgs(&self, ctx: &Context) -> Vec<OrgName> {
        let mut orgs: Vec<OrgName> = match &ctx.identity {
            Identity::User { grants, .. } | Identity::Token { grants, .. } => grants
                .iter()
                .filter_map(|grant| grant.org.clone())
                .collect(),
            _ => Vec::new(),
        };
        orgs.sort_unstable();
        orgs.dedup();
        orgs
    }

    fn seal_code(&self, org: OrgId, code: &str) -> Result<Vec<u8>> {
        self.keyring
            .seal_for(CODES, &code_aad(&org), code.as_bytes())
    }

    /// The registration code in clear; none where registration is open.
    pub(super) fn open_code(&self, row: &OrgRow) -> Result<Option<String>> {
        let Some(sealed) = &row.auth_code else {
            return Ok(None);
        };
        let code = self
            .keyring
            .open_for(CODES, &code_aad(&row.org.id), sealed)?;
        Ok(Some(String::from_utf8_lossy(code.expose()).into_owned()))
    }
}
