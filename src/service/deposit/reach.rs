//! Which deposit is meant, and whether the caller may do this to it.

use super::{Which, of};
use crate::error::{Error, Result};
use crate::model::audit::Object;
use crate::model::deposit::DepositName;
use crate::model::id::{ClientId, DepositId, OrgId};
use crate::model::org::OrgName;
use crate::service::access::{self, Action, Target};
use crate::service::caller::{Context, Identity};
use crate::service::{Service, object};
use crate::store;

/// A place for a deposit: its organization, and its name there.
pub(in crate::service) struct Place {
    pub org: OrgId,
    pub org_name: OrgName,
    pub name: DepositName,
}

/// A deposit, as far as rights on it go.
pub(super) struct Whose<'a> {
    pub id: DepositId,
    pub org: &'a OrgName,
    pub org_id: OrgId,
    pub owner: Option<ClientId>,
}

impl Service {
    /// Where a new deposit would stand; by id only what is there already.
    pub(super) fn place(&self, ctx: &Context, which: &Which, verb: &str) -> Result<Place> {
        match which {
            Which::Id(_) => {
                let head = self.reach_deposit(ctx, which, Action::DepositChange, verb)?;
                Ok(Place {
                    org: head.org,
                    org_name: head.deposit.org,
                    name: head.deposit.name,
                })
            }
            Which::Name(name) | Which::In(_, name) => {
                let (org, org_name) = self.org_of(ctx, which, verb)?;
                Ok(Place {
                    org,
                    org_name,
                    name: name.clone(),
                })
            }
        }
    }

    /// The organization that a name is looked up in.
    pub(super) fn org_of(
        &self,
        ctx: &Context,
        which: &Which,
        verb: &str,
    ) -> Result<(OrgId, OrgName)> {
        let (own, asked) = match (&ctx.identity, which) {
            (Identity::Client { org, org_name, .. }, Which::Name(_)) => {
                return Ok((*org, org_name.clone()));
            }
            (Identity::Client { org, org_name, .. }, Which::In(asked, _)) => {
                (Some((*org, org_name)), asked)
            }
            (_, Which::In(asked, _)) => (None, asked),
            (_, Which::Name(name)) => {
                self.somewhere(ctx, Action::DepositRead)
                    .inspect_err(|error| {
                        self.refused(ctx, verb, object("deposit", "", name), error)
                    })?;
                return Err(Error::invalid(
                    "org",
                    "only a client has an organization of its own; name one: /v1/orgs/{org}/deposits/{name} (--org NAME)",
                ));
            }
            (_, Which::Id(_)) => return Err(Error::internal("an id was looked up as a name")),
        };
        match own {
            Some((org, name)) if name == asked => Ok((org, asked.clone())),
            Some(_) => {
                let error = Error::denied("denied", "a client reaches its own organization alone");
                self.refused(ctx, verb, object("org", "", asked), &error);
                Err(error)
            }
            None => {
                let target = Target::Org(asked);
                self.allow(
                    ctx,
                    Action::DepositRead,
                    &target,
                    verb,
                    object("org", "", asked),
                )?;
                Ok((self.store.org(asked)?.org.id, asked.clone()))
            }
        }
    }

    /// How the store finds it, and its organization's name if that is known already.
    pub(super) fn locate(
        &self,
        ctx: &Context,
        which: &Which,
        verb: &str,
    ) -> Result<(store::Which, Option<OrgName>)> {
        match which {
            Which::Id(id) => Ok((store::Which::Id(*id), None)),
            Which::Name(name) | Which::In(_, name) => {
                let (org, org_name) = self.org_of(ctx, which, verb)?;
                Ok((store::Which::Name(org, name.clone()), Some(org_name)))
            }
        }
    }

    pub(super) fn org_name(&self, known: Option<OrgName>, id: OrgId) -> Result<OrgName> {
        match known {
            Some(name) => Ok(name),
            None => Ok(self
                .store
                .org_by_id(id)?
                .ok_or_else(store::org_removed)?
                .org
                .name),
        }
    }

    /// A deposit's head, if the caller may do this to it.
    pub(super) fn reach_deposit(
        &self,
        ctx: &Context,
        which: &Which,
        action: Action,
        verb: &str,
    ) -> Result<store::DepositHead> {
        let (key, _) = self.locate(ctx, which, verb)?;
        let head = self
            .store
            .deposit(&key)
            .or_else(|error| self.unless_unknown(ctx, action, verb, error))?;
        self.check_owned(
            ctx,
            action,
            verb,
            Whose {
                id: head.deposit.id,
                org: &head.deposit.org,
                org_id: head.org,
                owner: head.owner,
            },
            which,
            of(&head.deposit),
        )?;
        Ok(head)
    }

    /// Refuses what is another's. By id, across organizations, it reads as if it were not there.
    pub(super) fn check_owned(
        &self,
        ctx: &Context,
        action: Action,
        verb: &str,
        whose: Whose<'_>,
        which: &Which,
        object: Object,
    ) -> Result<()> {
        let Whose {
            id,
            org,
            org_id,
            owner,
        } = whose;
        let reader = match &ctx.identity {
            Identity::Client {
                id: caller,
                org: own,
                ..
            } => *own == org_id && owner != Some(*caller) && self.store.is_reader(id, *caller)?,
            _ => false,
        };
        let target = Target::Owned {
            org,
            org_id,
            owner,
            reader,
        };
        let checked = self.allow(ctx, action, &target, verb, object);
        match (&ctx.identity, which) {
            (Identity::Client { org: own, .. }, Which::Id(id)) if *own != org_id => {
                checked.map_err(|_| Error::not_found(format!("no deposit has the id {id}")))
            }
            (Identity::Client { .. }, _) => checked.map_err(|_| {
                Error::denied(
                    "denied",
                    match reader {
                        true => "this deposit is shared with this client, which may fetch it and not change it",
                        false => "this deposit belongs to another client of the organization",
                    },
                )
            }),
            // Whoever looks into other organizations learns nothing of what they have.
            (_, Which::Id(id)) => checked.map_err(|error| {
                let sees = access::decide(&ctx.identity, Action::DepositRead, &Target::Org(org));
                match (sees, self.somewhere(ctx, action)) {
                    (Err(_), Ok(())) => Error::not_found(format!("no deposit has the id {id}")),
                    _ => error,
                }
            }),
            _ => checked,
        }
    }

    /// Callers that could not read anything learn that, not that something is missing.
    pub(super) fn unless_unknown<T>(
        &self,
        ctx: &Context,
        action: Action,
        verb: &str,
        error: Error,
    ) -> Result<T> {
        if !matches!(ctx.identity, Identity::Client { .. }) {
            self.somewhere(ctx, action)
                .inspect_err(|error| self.refused(ctx, verb, object("deposit", "", ""), error))?;
        }
        Err(error)
    }
}
