//! Clients: register, decide, remove.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::access::{self, Action, Target};
use super::caller::{Context, Identity};
use super::{ListQuery, Service, by_id, object, paged, position, short_text};
use crate::api::client::{Decision, Register, Registration, SignedRecipient};
use crate::clock;
use crate::crypto::{agefile, x509};
use crate::error::{Error, Kind, Result};
use crate::model::client::{Client, ClientState};
use crate::model::filter::Filter;
use crate::model::id::{ClientId, Fingerprint};
use crate::model::org::OrgName;
use crate::model::page::{Page, Part};
use crate::model::quota::Quota;
use crate::secret::Secret;
use crate::store::NewClient;

const LIST: &str = "clients";
/// The longest certificate that is kept.
const MOST_CERTIFICATE: usize = 16 << 10;

/// What an administrator decides about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approve,
    Deny,
    Enable,
    Disable,
}

impl Verdict {
    /// From which states it leads to which.
    fn step(self) -> (&'static [ClientState], ClientState, &'static str) {
        match self {
            Self::Approve => (
                &[ClientState::Pending],
                ClientState::Active,
                "client.approve",
            ),
            Self::Deny => (&[ClientState::Pending], ClientState::Denied, "client.deny"),
            Self::Enable => (
                &[ClientState::Disabled],
                ClientState::Active,
                "client.enable",
            ),
            Self::Disable => (
                &[ClientState::Active],
                ClientState::Disabled,
                "client.disable",
            ),
        }
    }
}

pub(super) fn client_object(client: &Client) -> crate::model::audit::Object {
    object(
        "client",
        client.fingerprint,
        format!("{}/{}", client.org, client.description),
    )
}

impl Service {
    /// `certificate` is the DER of the certificate that the connection presented.
    pub async fn client_register(
        &self,
        ctx: &Context,
        request: Register,
        certificate: &[u8],
    ) -> Result<Registration> {
        let (Identity::Key { fingerprint, .. } | Identity::Client { fingerprint, .. }) =
            &ctx.identity
        else {
            let error = match (&ctx.identity, certificate) {
                (Identity::User { .. }, [_, ..]) => Error::conflict(
                    "key_taken",
                    "this key is a user's; a client comes with one of its own",
                ),
                _ => Error::new(
                    Kind::Unauthenticated,
                    "no_certificate",
                    "registration needs the client's certificate on the connection (curl: --cert and --key)",
                ),
            };
            self.refused(
                ctx,
                "client.register",
                object("org", "", &request.org),
                &error,
            );
            return Err(error);
        };
        short_text("description", &request.description, 255)?;
        if certificate.len() > MOST_CERTIFICATE {
            return Err(Error::invalid(
                "certificate",
                format!("the certificate is longer than {MOST_CERTIFICATE} bytes"),
            ));
        }
        let recipient_proof = request
            .recipient
            .as_ref()
            .map(|signed| check_recipient(*fingerprint, certificate, signed))
            .transpose()?;
        let code = request.auth_code.map(Secret::new);
        let (state, row) = self.admission(ctx, &request.org, code.as_ref())?;
        let now = clock::now();
        let client = Client {
            id: ClientId::new(),
            org: request.org,
            fingerprint: *fingerprint,
            state,
            description: request.description,
            age_recipient: request.recipient.map(|signed| signed.recipient),
            created: now,
            pending_until: (state == ClientState::Pending)
                .then(|| now.plus(self.settings.pending())),
            registered_from: ctx.actor().source,
            reason: None,
            deposits: 0,
            bytes: 0,
            quota: Quota::default(),
        };
        let mut change = self.change(ctx, "client.register", client_object(&client), now);
        if let Some(once) = &mut change.once {
            // The first try made a client of this key; its retry is the same caller's.
            once.caller = format!("key {fingerprint}");
        }
        let client = self
            .store
            .add_client(
                change,
                NewClient {
                    client,
                    org: row.org.id,
                    certificate: certificate.to_vec(),
                    recipient_proof,
                },
            )
            .await
            .inspect_err(|error| {
                let tried = object("client", "", fingerprint);
                self.refused(ctx, "client.register", tried, error);
            })?;
        Ok(Registration {
            client,
            recovery_recipient: row.org.recovery_recipient,
        })
    }

    /// Which state a registration with this code leads to. A wrong code is refused, counted, and
    /// slows its address down for this organization.
    fn admission(
        &self,
        ctx: &Context,
        org: &OrgName,
        code: Option<&Secret<String>>,
    ) -> Result<(ClientState, crate::store::OrgRow)> {
        let now = clock::now();
        let row = self.store.org(org);
        // By name for those that are there only: else each name tried would be a new start.
        let mut who = format!("register {}", ctx.neighbour());
        if row.is_ok() {
            who.push_str(&format!(" {org}"));
        }
        let refused =
            |error: &Error| self.refused(ctx, "client.register", object("org", "", org), error);
        let attempt = self.throttle.attempt(who, now).inspect_err(refused)?;
        let row = match row {
            Err(error) if error.kind == Kind::NotFound => {
                attempt.failed(now);
                refused(&error);
                return Err(error);
            }
            row => row?,
        };
        if row.org.is_over(now) {
            attempt.failed(now);
            let error = access::org_over(org);
            refused(&error);
            return Err(error);
        }
        let expected = self.open_code(&row)?.map(Secret::new);
        let given = code.filter(|code| !code.expose().is_empty());
        match (expected, given) {
            (None, _) => Ok((ClientState::Active, row)),
            (Some(_), None) => Ok((ClientState::Pending, row)),
            (Some(expected), Some(given)) if expected.matches(given.expose().as_bytes()) => {
                attempt.succeeded();
                Ok((ClientState::Active, row))
            }
            (Some(_), Some(_)) => {
                attempt.failed(now);
                let error = Error::denied(
                    "wrong_code",
                    format!(
                        "this is not the registration code of `{org}`; ask its administrator, or register without one and wait for an approval"
                    ),
                );
                refused(&error);
                Err(error)
            }
        }
    }

    /// The caller's own registration, in any state.
    pub async fn client_self(&self, ctx: &Context) -> Result<Registration> {
        self.allow(
            ctx,
            Action::OwnClient,
            &Target::Server,
            "client.self",
            object("client", "", ""),
        )?;
        let (Identity::Key { fingerprint, .. } | Identity::Client { fingerprint, .. }) =
            &ctx.identity
        else {
            return Err(Error::new(
                Kind::Unauthenticated,
                "no_certificate",
                "this needs the client's certificate on the connection",
            ));
        };
        let known = self.store.client_by_key(fingerprint)?;
        let Some(known) = known.filter(|known| !known.client.is_over(clock::now())) else {
            return Err(Error::not_found(
                "this certificate's key belongs to no client; register it first",
            ));
        };
        let org = self.store.org(&known.client.org)?.org;
        Ok(Registration {
            client: known.client,
            recovery_recipient: org.recovery_recipient,
        })
    }

    pub async fn client_list(
        &self,
        ctx: &Context,
        org: Option<&OrgName>,
        query: ListQuery,
    ) -> Result<Page<Client>> {
        let (start, limit) = position(LIST, &query, by_id)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let org = self.scope(ctx, org, Action::ClientRead, "client.list")?;
        let org = org.map(|(id, _)| id);
        let rows = self.store.clients(org, start, filter, limit).await?;
        let id = |client: &Client| vec![Part::Id(*client.id.as_bytes())];
        Ok(paged(LIST, &query, rows, id))
    }

    pub async fn client_show(&self, ctx: &Context, client: Fingerprint) -> Result<Client> {
        Ok(self
            .reach(ctx, client, Action::ClientRead, "client.show")?
            .client)
    }

    pub async fn client_decide(
        &self,
        ctx: &Context,
        client: Fingerprint,
        verdict: Verdict,
        request: Decision,
    ) -> Result<Client> {
        let (from, to, verb) = verdict.step();
        let known = match self.reach(ctx, client, Action::ClientChange, verb) {
            Ok(known) => known,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        if let Some(reason) = &request.reason {
            short_text("reason", reason, 255)?;
        }
        let now = clock::now();
        let mut change = self.change(ctx, verb, client_object(&known.client), now);
        if change.event.reason.is_empty() {
            change.event.reason = request.reason.clone().unwrap_or_default();
        }
        let reason = request.reason.filter(|_| to != ClientState::Active);
        self.store
            .set_client_state(change, client, from, to, reason, now)
            .await
    }

    pub async fn client_remove(&self, ctx: &Context, client: Fingerprint) -> Result<()> {
        let known = match self.reach(ctx, client, Action::ClientChange, "client.rm") {
            Ok(known) => known,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let change = self.change(ctx, "client.rm", client_object(&known.client), clock::now());
        self.store.remove_client(change, client).await
    }

    /// A client that the caller may do this to. Callers without any right on it learn nothing of
    /// its being there: to them it reads as one that is not.
    pub(super) fn reach(
        &self,
        ctx: &Context,
        fingerprint: Fingerprint,
        action: Action,
        verb: &str,
    ) -> Result<crate::store::Registrant> {
        let missing = || Error::not_found(format!("no client has the fingerprint {fingerprint}"));
        let object = object("client", fingerprint, "");
        let Some(known) = self.store.client_by_key(&fingerprint)? else {
            self.somewhere(ctx, action)
                .inspect_err(|error| self.refused(ctx, verb, object, error))?;
            return Err(missing());
        };
        let target = Target::Org(&known.client.org);
        self.allow(ctx, action, &target, verb, object)
            .map_err(|error| {
                let sees = access::decide(&ctx.identity, Action::ClientRead, &target);
                match (sees, self.somewhere(ctx, action)) {
                    (Err(_), Ok(())) => missing(),
                    _ => error,
                }
            })?;
        Ok(known)
    }

    /// Whether the caller has the right on everything or on at least one organization.
    pub(super) fn somewhere(&self, ctx: &Context, action: Action) -> Result<()> {
        let everywhere = access::decide(&ctx.identity, action, &Target::Server);
        if everywhere.is_ok()
            || self
                .granted_orgs(ctx)
                .iter()
                .any(|org| access::decide(&ctx.identity, action, &Target::Org(org)).is_ok())
        {
            return Ok(());
        }
        everywhere
    }

    /// What a list goes over: the organization asked for, the caller's only one, or all.
    pub(super) fn scope(
        &self,
        ctx: &Context,
        asked: Option<&OrgName>,
        action: Action,
        verb: &str,
    ) -> Result<Option<(crate::model::id::OrgId, OrgName)>> {
        let mut own = self.granted_orgs(ctx);
        own.retain(|org| access::decide(&ctx.identity, action, &Target::Org(org)).is_ok());
        let everywhere = access::decide(&ctx.identity, action, &Target::Server).is_ok();
        let only = match (asked, own.as_slice()) {
            (Some(org), _) => Some(org.clone()),
            (None, [only]) if !everywhere => Some(only.clone()),
            (None, [_, ..]) if !everywhere => {
                let own: Vec<&str> = own.iter().map(OrgName::as_str).collect();
                return Err(Error::invalid(
                    "org",
                    format!(
                        "which organization? Name one (org=, --org): {}",
                        own.join(", ")
                    ),
                ));
            }
            (None, _) => None,
        };
        let Some(name) = only else {
            self.allow(ctx, action, &Target::Server, verb, object("org", "", ""))?;
            return Ok(None);
        };
        self.allow(
            ctx,
            action,
            &Target::Org(&name),
            verb,
            object("org", "", &name),
        )?;
        Ok(Some((self.store.org(&name)?.org.id, name)))
    }
}

/// The recipient's proof, if the certificate's key signed it.
fn check_recipient(
    fingerprint: Fingerprint,
    certificate: &[u8],
    signed: &SignedRecipient,
) -> Result<Vec<u8>> {
    agefile::check_recipient(&signed.recipient)?;
    let proof = STANDARD
        .decode(&signed.signature)
        .map_err(|_| Error::invalid("signature", "the recipient's signature is not base64"))?;
    x509::verify_by_certificate(
        certificate,
        &x509::recipient_statement(fingerprint, &signed.recipient),
        &proof,
    )
    .map_err(|error| {
        Error::invalid(
            "signature",
            "the recipient is not signed by the certificate's key",
        )
        .because(error)
    })?;
    Ok(proof)
}
