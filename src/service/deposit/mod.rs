//! Deposits: put, list, versions, the bin.

mod reach;
mod readers;
mod release;
mod watch;

pub(in crate::service) use reach::Place;
pub use release::{Found, Meta};

use super::access::{Action, Target};
use super::caller::{Context, Identity};
use super::{ListQuery, Service, by_id, by_text, object, paged, position, short_text};
use crate::api::deposit::EditDeposit;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::model::audit::Object;
use crate::model::deposit::{Deposit, DepositName, DepositVersion, Encryption, Labels, SetPolicy};
use crate::model::filter::Filter;
use crate::model::id::{ClientId, DepositId};
use crate::model::org::OrgName;
use crate::model::page::{Cursor, Page, Part};
use crate::secret::Secret;
use crate::store;

const LIST: &str = "deposits/name";
const LIST_ALL: &str = "deposits/id";
const LIST_CHANGED: &str = "deposits/modified";
const MOST_LABELS: usize = 64;

/// Which deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// In the caller's own organization.
    Name(DepositName),
    /// In a named organization.
    In(OrgName, DepositName),
    Id(DepositId),
}

/// `If-Match` and `If-None-Match`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    #[default]
    Anything,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match: "3"`
    Version(u32),
}

impl Expect {
    fn for_store(self) -> store::Expected {
        match self {
            Self::Anything => store::Expected::Anything,
            Self::Absent => store::Expected::Absent,
            Self::Present => store::Expected::Present,
            Self::Version(version) => store::Expected::Version(version),
        }
    }
}

pub struct PutDeposit {
    pub expect: Expect,
    pub encryption: Encryption,
    /// None keeps what is there; a new deposit's is `application/octet-stream` then.
    pub content_type: Option<String>,
    /// None keeps what is there.
    pub description: Option<String>,
    /// None keeps what is there.
    pub labels: Option<Labels>,
    pub policy: SetPolicy,
    /// What it was before, where it is not there any more.
    pub back: Option<store::Back>,
    pub body: Secret<Vec<u8>>,
}

pub struct Stored {
    pub deposit: Deposit,
    /// True: new; false: another version of what was there.
    pub created: bool,
}

impl Service {
    /// How long a deposit may be, now; what age adds to it comes on top.
    pub fn deposit_max_bytes(&self) -> usize {
        self.settings.deposit_max_bytes()
    }

    pub fn deposit_too_large(&self) -> Error {
        let mut error = Error::new(
            Kind::TooLarge,
            "too_large",
            format!(
                "a deposit has up to {} bytes here; an administrator may allow up to 16777216 (setting deposit.max_bytes)",
                self.deposit_max_bytes()
            ),
        );
        error.field = Some("body");
        error
    }

    /// Where a deposit is, or would be, that the caller may write.
    pub(in crate::service) fn writable(
        &self,
        ctx: &Context,
        which: &Which,
        verb: &str,
    ) -> Result<(Place, Option<ClientId>)> {
        let place = self.place(ctx, which, verb)?;
        let owner = match &ctx.identity {
            Identity::Client { id, .. } => Some(*id),
            _ => None,
        };
        let target = Target::Owned {
            org: &place.org_name,
            org_id: place.org,
            owner,
            reader: false,
        };
        self.allow(ctx, Action::DepositChange, &target, verb, named(&place))?;
        Ok((place, owner))
    }

    pub async fn deposit_put(
        &self,
        ctx: &Context,
        which: &Which,
        request: PutDeposit,
    ) -> Result<Stored> {
        let (place, owner) = self.writable(ctx, which, "deposit.put")?;
        self.check_put(&request)?;
        let _turn = self.sealing_turn.read().await;
        let (key_version, key) = self.keyring.newest(&self.store, place.org)?;
        let now = clock::now();
        let object_tried = named(&place);
        let change = self.change(ctx, "deposit.put", object_tried.clone(), now);
        let put = store::Put {
            id: DepositId::new(),
            org: place.org,
            name: place.name,
            owner,
            created_by: created_by(ctx),
            expect: request.expect.for_store(),
            encryption: request.encryption,
            content_type: request.content_type,
            description: request.description,
            labels: request.labels,
            policy: request.policy,
            back: request.back,
            body: store::Body {
                bytes: request.body,
                key,
                key_version,
            },
            now,
        };
        let stored = self
            .store
            .put_deposit(change, put)
            .await
            .inspect_err(|error| {
                if [store::NAME_TAKEN, store::QUOTA_OBJECTS, store::QUOTA_BYTES]
                    .contains(&error.code)
                {
                    self.refused(ctx, "deposit.put", object_tried, error);
                }
            })?;
        Ok(Stored {
            deposit: stored.deposit,
            created: stored.created,
        })
    }

    fn check_put(&self, request: &PutDeposit) -> Result<()> {
        let most = request.encryption.longest_body(self.deposit_max_bytes());
        if request.body.expose().len() > most {
            return Err(self.deposit_too_large());
        }
        if let Some(content_type) = &request.content_type {
            short_text("content_type", content_type, 255)?;
        }
        if let Some(description) = &request.description {
            short_text("description", description, 1_000)?;
        }
        check_labels(request.labels.as_ref())
    }

    pub async fn deposit_show(&self, ctx: &Context, which: &Which) -> Result<Deposit> {
        Ok(self
            .reach_deposit(ctx, which, Action::DepositRead, "deposit.show")?
            .deposit)
    }

    pub async fn deposit_edit(
        &self,
        ctx: &Context,
        which: &Which,
        expect: Expect,
        request: EditDeposit,
    ) -> Result<Deposit> {
        let head = match self.reach_deposit(ctx, which, Action::DepositChange, "deposit.edit") {
            Ok(head) => head,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        if let Some(description) = &request.description {
            short_text("description", description, 1_000)?;
        }
        check_labels(request.labels.as_ref())?;
        let edit = store::DepositEdit {
            policy: request.policy(),
            description: request.description,
            labels: request.labels,
        };
        let now = clock::now();
        let change = self.change(ctx, "deposit.edit", of(&head.deposit), now);
        self.store
            .edit_deposit(
                change,
                store::Which::Id(head.deposit.id),
                expect.for_store(),
                edit,
                now,
            )
            .await
    }

    /// A version of a deposit that the caller was shown.
    ///
    /// # Errors
    /// `NotFound`, also where it lies in the bin.
    pub fn deposit_version(&self, deposit: &Deposit, version: u32) -> Result<DepositVersion> {
        if deposit.deleted.is_some() {
            return Err(Error::not_found("the deposit lies in the bin"));
        }
        self.store.deposit_version(deposit.id, version)
    }

    pub async fn deposit_versions(
        &self,
        ctx: &Context,
        which: &Which,
    ) -> Result<Vec<DepositVersion>> {
        let head = self.reach_deposit(ctx, which, Action::DepositRead, "deposit.versions")?;
        self.store.deposit_versions(head.deposit.id)
    }

    /// Within an organization by name, or by time where the filter bounds `modified`; over all of
    /// them in the order they were made.
    pub async fn deposit_list(
        &self,
        ctx: &Context,
        org: Option<&OrgName>,
        shared: bool,
        query: ListQuery,
    ) -> Result<Page<Deposit>> {
        let filter = Filter::parse(&query.filters, clock::now())?;
        if shared {
            return self.deposits_shared(ctx, query, filter).await;
        }
        let (org, owner) = match &ctx.identity {
            Identity::Client {
                id,
                org: own,
                org_name,
                ..
            } => {
                if let Some(other) = org.filter(|asked| *asked != org_name) {
                    let error =
                        Error::denied("denied", format!("this client belongs to `{org_name}`"));
                    self.refused(ctx, "deposit.list", object("org", "", other), &error);
                    return Err(error);
                }
                (Some(*own), Some(*id))
            }
            _ => (
                self.scope(ctx, org, Action::DepositRead, "deposit.list")?
                    .map(|(org, _)| org),
                None,
            ),
        };
        let Some(org) = org else {
            let (start, limit) = position(LIST_ALL, &query, by_id)?;
            let rows = self.store.deposits_by_id(start, filter, limit).await?;
            let id = |deposit: &Deposit| vec![Part::Id(*deposit.id.as_bytes())];
            return Ok(paged(LIST_ALL, &query, rows, id));
        };
        if by_time(&filter, owner) {
            let key = |cursor: &Cursor| Ok((cursor.number(0)?, cursor.id(1)?));
            let (start, limit) = position(LIST_CHANGED, &query, key)?;
            let rows = self.store.deposits_by_time(org, start, filter, limit);
            let key = |deposit: &Deposit| {
                let (modified, id) = (deposit.modified.0, *deposit.id.as_bytes());
                vec![Part::Number(modified), Part::Id(id)]
            };
            return Ok(paged(LIST_CHANGED, &query, rows.await?, key));
        }
        let (start, limit) = position(LIST, &query, by_text)?;
        let rows = self
            .store
            .deposits_by_name(org, owner, start, filter, limit);
        let name = |deposit: &Deposit| vec![Part::Text(deposit.name.to_string())];
        Ok(paged(LIST, &query, rows.await?, name))
    }

    /// Into the bin.
    pub async fn deposit_remove(
        &self,
        ctx: &Context,
        which: &Which,
        expect: Expect,
    ) -> Result<Deposit> {
        let head = match self.reach_deposit(ctx, which, Action::DepositChange, "deposit.rm") {
            Ok(head) => head,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let now = clock::now();
        let change = self.change(ctx, "deposit.rm", of(&head.deposit), now);
        self.store
            .remove_deposit(
                change,
                store::Which::Id(head.deposit.id),
                expect.for_store(),
                now,
            )
            .await
    }

    pub async fn deposit_undelete(&self, ctx: &Context, which: &Which) -> Result<Deposit> {
        let head = match self.reach_deposit(ctx, which, Action::DepositChange, "deposit.undelete") {
            Ok(head) => head,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let change = self.change(ctx, "deposit.undelete", of(&head.deposit), clock::now());
        self.store
            .undelete_deposit(change, store::Which::Id(head.deposit.id))
            .await
    }

    /// Purges what has been in the bin longer than it stays there; each time a bounded part of it.
    pub async fn empty_bin(&self, now: Timestamp) -> Result<()> {
        const BATCHES: usize = 200;
        let Some(time) = self.settings.bin_time() else {
            return Ok(());
        };
        for _ in 0..BATCHES {
            let event = move |deposit: &Deposit| {
                let mut event = Service::own_context().event("deposit.purge", of(deposit), now);
                let since = deposit.deleted.unwrap_or(now);
                event.detail = format!("in the bin since {since}");
                event
            };
            if self.store.purge_old(now.plus(-time), event).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Out of the bin, for good.
    pub async fn deposit_purge(&self, ctx: &Context, which: &Which) -> Result<()> {
        let head = match self.reach_deposit(ctx, which, Action::DepositChange, "deposit.purge") {
            Ok(head) => head,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let change = self.change(ctx, "deposit.purge", of(&head.deposit), clock::now());
        self.store
            .purge_deposit(change, store::Which::Id(head.deposit.id))
            .await
    }
}

/// Whether a list is best walked by the time of change: that is bounded, and nothing narrower is.
fn by_time(filter: &Filter<Deposit>, owner: Option<ClientId>) -> bool {
    let bounded = filter.after("modified").is_some() || filter.before("modified").is_some();
    let named = filter.equals("name").is_some() || filter.prefix("name").is_some();
    bounded && !named && filter.label_equals().is_none() && owner.is_none()
}

fn check_labels(labels: Option<&Labels>) -> Result<()> {
    if labels.is_some_and(|labels| labels.len() > MOST_LABELS) {
        return Err(Error::invalid(
            "labels",
            format!("a deposit has up to {MOST_LABELS} labels"),
        ));
    }
    Ok(())
}

fn created_by(ctx: &Context) -> String {
    let actor = ctx.actor();
    format!("{} {}", actor.kind, actor.name)
}

fn named(place: &Place) -> Object {
    object("deposit", "", format!("{}/{}", place.org_name, place.name))
}

fn of(deposit: &Deposit) -> Object {
    object(
        "deposit",
        deposit.id,
        format!("{}/{}", deposit.org, deposit.name),
    )
}

fn label(org: &OrgName, which: &Which) -> String {
    match which {
        Which::Name(name) | Which::In(_, name) => format!("{org}/{name}"),
        Which::Id(_) => org.to_string(),
    }
}
