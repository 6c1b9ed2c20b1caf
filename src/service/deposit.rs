//! Deposits: put, get, list, versions, the bin.

use std::sync::Arc;

use super::access::{self, Action, Target};
use super::caller::{Context, Identity};
use super::{ListQuery, Service, by_id, by_text, object, paged, position, short_text};
use crate::api::deposit::EditDeposit;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Object;
use crate::model::deposit::{Deposit, DepositName, DepositVersion, Encryption, Labels};
use crate::model::filter::Filter;
use crate::model::id::{ClientId, DepositId, OrgId};
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
    pub body: Secret<Vec<u8>>,
}

pub struct Stored {
    pub deposit: Deposit,
    /// True: new; false: another version of what was there.
    pub created: bool,
}

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
    pub body: store::Unsealed,
}

impl Fetched {
    pub fn meta(&self) -> Meta<'_> {
        Meta {
            id: self.sealed.head.id,
            version: self.sealed.version,
            encryption: self.sealed.encryption,
            content_type: self.sealed.content_type(),
        }
    }
}

/// What is told beside a deposit's bytes.
pub struct Meta<'a> {
    pub id: DepositId,
    pub version: u32,
    pub encryption: Encryption,
    pub content_type: &'a str,
}

/// A place for a deposit: its organization, and its name there.
struct Place {
    org: OrgId,
    org_name: OrgName,
    name: DepositName,
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

    pub async fn deposit_put(
        &self,
        ctx: &Context,
        which: &Which,
        request: PutDeposit,
    ) -> Result<Stored> {
        let place = self.place(ctx, which, "deposit.put")?;
        let owner = match &ctx.identity {
            Identity::Client { id, .. } => Some(*id),
            _ => None,
        };
        let target = Target::Owned {
            org: &place.org_name,
            org_id: place.org,
            owner,
        };
        self.allow(
            ctx,
            Action::DepositChange,
            &target,
            "deposit.put",
            named(&place),
        )?;
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
                if error.code == store::NAME_TAKEN {
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
            (&org, sealed.head.org, sealed.head.owner),
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
        Ok(Found { sealed, object })
    }

    /// Opens what was found. From here on it counts as released.
    pub async fn deposit_get(&self, ctx: &Context, found: Found) -> Result<Fetched> {
        let Found { sealed, object } = found;
        let body = self.store.open_deposit(&sealed, |version| {
            self.keyring.org(&self.store, sealed.head.org, version)
        })?;
        let mut event = ctx.event("deposit.get", object, clock::now());
        event.detail = format!("version {}", sealed.version);
        self.release(event).await?;
        Ok(Fetched { sealed, body })
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
        let now = clock::now();
        let change = self.change(ctx, "deposit.edit", of(&head.deposit), now);
        self.store
            .edit_deposit(
                change,
                store::Which::Id(head.deposit.id),
                expect.for_store(),
                request.description,
                request.labels,
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
        query: ListQuery,
    ) -> Result<Page<Deposit>> {
        let filter = Filter::parse(&query.filters, clock::now())?;
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

    /// Where a new deposit would stand; by id only what is there already.
    fn place(&self, ctx: &Context, which: &Which, verb: &str) -> Result<Place> {
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
    fn org_of(&self, ctx: &Context, which: &Which, verb: &str) -> Result<(OrgId, OrgName)> {
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
    fn locate(
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

    fn org_name(&self, known: Option<OrgName>, id: OrgId) -> Result<OrgName> {
        match known {
            Some(name) => Ok(name),
            None => Ok(self
                .store
                .org_by_id(id)?
                .ok_or_else(|| Error::internal("a deposit's organization is not there"))?
                .org
                .name),
        }
    }

    /// A deposit's head, if the caller may do this to it.
    fn reach_deposit(
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
            (&head.deposit.org, head.org, head.owner),
            which,
            of(&head.deposit),
        )?;
        Ok(head)
    }

    /// Refuses what is another's. By id, across organizations, it reads as if it were not there.
    fn check_owned(
        &self,
        ctx: &Context,
        action: Action,
        verb: &str,
        whose: (&OrgName, OrgId, Option<ClientId>),
        which: &Which,
        object: Object,
    ) -> Result<()> {
        let (org, org_id, owner) = whose;
        let checked = self.allow(
            ctx,
            action,
            &Target::Owned { org, org_id, owner },
            verb,
            object,
        );
        match (&ctx.identity, which) {
            (Identity::Client { org: own, .. }, Which::Id(id)) if *own != org_id => {
                checked.map_err(|_| Error::not_found(format!("no deposit has the id {id}")))
            }
            (Identity::Client { .. }, _) => checked.map_err(|_| {
                Error::denied(
                    "denied",
                    "this deposit belongs to another client of the organization",
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
    fn unless_unknown<T>(
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
