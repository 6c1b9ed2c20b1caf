//! Deposits' bytes: found while still sealed, counted or noted, and only then opened.

use std::sync::Arc;

use super::reach::Whose;
use super::{Which, label, of};
use crate::api::deposit::GrantRetrievals;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Object;
use crate::model::deposit::{Deposit, Encryption, Policy};
use crate::model::id::DepositId;
use crate::service::access::Action;
use crate::service::caller::{Context, Identity};
use crate::service::{Service, object};
use crate::store;

/// A deposit that the caller may fetch, still sealed.
pub struct Found {
    sealed: Arc<store::Sealed>,
    object: Object,
}

impl Found {
    /// What it takes up once it is open.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.sealed.size).unwrap_or(usize::MAX)
    }
}

/// A deposit that was released.
pub struct Fetched {
    sealed: Arc<store::Sealed>,
    /// As it is after this retrieval.
    policy: Policy,
    pub body: store::Unsealed,
}

impl Fetched {
    pub fn meta(&self) -> Meta<'_> {
        Meta {
            id: self.sealed.head.id,
            version: self.sealed.version,
            encryption: self.sealed.encryption,
            content_type: self.sealed.content_type(),
            policy: self.policy,
        }
    }
}

/// What is told beside a deposit's bytes.
pub struct Meta<'a> {
    pub id: DepositId,
    pub version: u32,
    pub encryption: Encryption,
    pub content_type: &'a str,
    pub policy: Policy,
}

impl Service {
    /// Finds it and asks whether the caller may have it; nothing is opened yet.
    pub fn deposit_find(
        &self,
        ctx: &Context,
        which: &Which,
        version: Option<u32>,
    ) -> Result<Found> {
        let (key, known_org) = self.locate(ctx, which, "deposit.get")?;
        let sealed = self.store.sealed_deposit(&key, version).or_else(|error| {
            self.unless_unknown(ctx, Action::DepositFetch, "deposit.get", error)
        })?;
        let org = self.org_name(known_org, sealed.head.org)?;
        let object = object("deposit", sealed.head.id, label(&org, which));
        self.check_owned(
            ctx,
            Action::DepositFetch,
            "deposit.get",
            Whose {
                id: sealed.head.id,
                org: &org,
                org_id: sealed.head.org,
                owner: sealed.head.owner,
            },
            which,
            object.clone(),
        )
        .map_err(|error| match (error.kind, version) {
            // In the words of one that is not there.
            (Kind::NotFound, Some(version)) => {
                Error::not_found(format!("{}, or it has no version {version}", error.public))
            }
            _ => error,
        })?;
        if let Some(since) = sealed.head.deleted {
            return Err(Error::new(
                Kind::NotFound,
                "in_bin",
                format!("this deposit lies in the bin since {since}; undelete it to read it"),
            ));
        }
        sealed
            .head
            .policy
            .check(clock::now())
            .inspect_err(|error| self.refused(ctx, "deposit.get", object.clone(), error))?;
        Ok(Found { sealed, object })
    }

    /// The same after a while: the caller, too, is looked up anew.
    pub fn deposit_find_again(
        &self,
        ctx: &Context,
        which: &Which,
        version: Option<u32>,
    ) -> Result<Found> {
        if !self.is_still_let_in(ctx)? {
            return Err(match ctx.identity {
                Identity::Client { .. } => Error::denied(
                    "client_disabled",
                    "this client was disabled, removed, or its organization ended while the request waited",
                ),
                _ => Error::denied(
                    "denied",
                    "the caller was disabled, or his rights are others, since the request came",
                ),
            });
        }
        self.deposit_find(ctx, which, version)
    }

    /// Opens what was found. From here on it counts as released.
    pub async fn deposit_get(&self, ctx: &Context, found: Found) -> Result<Fetched> {
        let Found { sealed, object } = found;
        let mut policy = sealed.head.policy;
        let open = || {
            self.store.open_deposit(&sealed, |version| {
                self.keyring.org(&self.store, sealed.head.org, version)
            })
        };
        let body = if sealed.is_limited() {
            let left = self.take_retrieval(ctx, &sealed, object).await?;
            policy.max_retrievals = policy.max_retrievals.and(left);
            policy.retrieved = 0;
            open()?
        } else {
            let body = open()?;
            let mut event = ctx.event("deposit.get", object, clock::now());
            event.detail = format!("version {}", sealed.version);
            self.release(event).await?;
            body
        };
        Ok(Fetched {
            sealed,
            policy,
            body,
        })
    }

    /// Counts a retrieval, for good, before anything is opened. A repeated request is another one.
    async fn take_retrieval(
        &self,
        ctx: &Context,
        sealed: &store::Sealed,
        object: Object,
    ) -> Result<Option<u32>> {
        let now = clock::now();
        let change = store::Change {
            event: ctx.event("deposit.get", object.clone(), now),
            once: None,
        };
        self.store
            .take_retrieval(change, sealed.head.id, sealed.version, now)
            .await
            .inspect_err(|error| {
                if error.kind == Kind::Denied {
                    self.refused(ctx, "deposit.get", object, error);
                }
            })
    }

    /// Allows more retrievals of a limited deposit.
    pub async fn deposit_grant(
        &self,
        ctx: &Context,
        which: &Which,
        request: GrantRetrievals,
    ) -> Result<Deposit> {
        let head = match self.reach_deposit(ctx, which, Action::DepositChange, "deposit.grant") {
            Ok(head) => head,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let change = self.change(ctx, "deposit.grant", of(&head.deposit), clock::now());
        self.store
            .grant_retrievals(
                change,
                store::Which::Id(head.deposit.id),
                request.retrievals,
            )
            .await
    }
}
