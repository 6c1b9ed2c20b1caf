//! The table of routes: what the router, the description and the tests are made from.

mod audit;
mod backup;
mod client;
mod deposit;
mod group;
mod host;
mod host_group;
mod job;
mod legacy;
mod org;
mod org_key;
mod quota;
mod recipient;
mod role;
mod schedule;
mod seal;
mod server;
mod session;
mod setting;
mod slot;
mod tls;
mod token;
mod user;
mod user_certificate;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, on};

use super::call::{self, Call, Knocking};
use super::{App, reply};
use crate::api::backup as backup_api;
use crate::api::deposit::{
    DEPOSIT_ID, DESCRIPTION, ENCRYPTION, EXPIRES, LABELS, LAST_EVENT_ID, MAX_RETRIEVALS,
    NOT_BEFORE, RETRIEVALS_LEFT, VERSION,
};
use crate::error::{Error, Kind, Result};
use crate::service::access::Action;
use crate::service::caller::Listener;

/// One method of one path.
pub struct Route {
    pub method: Verb,
    pub path: &'static str,
    pub action: Action,
    pub on: &'static [Listener],
    pub takes: Takes,
    /// Query parameters; any other is refused.
    pub query: &'static [&'static str],
    /// Request headers, beside those that any request may carry.
    pub headers: &'static [&'static str],
    pub gives: &'static [Gives],
    pub summary: &'static str,
    /// False: the same as another path, or a page for people.
    pub described: bool,
    pub(super) run: Run,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;

/// What answers.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// Of an open server; a sealed one refuses.
    Open(fn(Call) -> Answering),
    Always(fn(Knocking) -> Answering),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    Head,
    Put,
    Post,
    Patch,
    Delete,
}

/// What a request's body is. The names are those of schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Json(&'static str),
    MaybeJson(&'static str),
    /// A deposit's bytes, of any type.
    Bytes,
    /// A file of any length, read as it comes.
    File,
    /// What a browser sends.
    Form,
}

/// A status, what the body is, and headers beside the request's id.
#[derive(Clone, Copy, Debug)]
pub struct Gives(pub u16, pub Content, pub &'static [&'static str]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Nothing,
    Json(&'static str),
    Text(&'static str),
    /// As the deposit's own type says.
    Bytes,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub fn changes(self) -> bool {
        !matches!(self, Self::Get | Self::Head)
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Head => MethodFilter::HEAD,
            Self::Put => MethodFilter::PUT,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

const CLIENT: &[Listener] = &[Listener::Client];
const GUI: &[Listener] = &[Listener::Gui];
const SOCKET: &[Listener] = &[Listener::Socket];
const NET: &[Listener] = &[Listener::Client, Listener::Gui];
const NEAR: &[Listener] = &[Listener::Gui, Listener::Socket];
const ALL: &[Listener] = &[Listener::Client, Listener::Gui, Listener::Socket];

const LIST: &[&str] = &["filter", "cursor", "limit", "page"];
const LIST_OR_SHARED: &[&str] = &["org", "shared", "filter", "cursor", "limit", "page"];
const LIST_IN_ORG: &[&str] = &["org", "filter", "cursor", "limit", "page"];
const EVENTS: &[&str] = &["filter", "cursor", "limit"];

const fn route(
    method: Verb,
    path: &'static str,
    action: Action,
    summary: &'static str,
    run: Run,
) -> Route {
    Route {
        method,
        path,
        action,
        on: ALL,
        takes: Takes::Nothing,
        query: &[],
        headers: &[],
        gives: &[],
        summary,
        described: true,
        run,
    }
}

impl Route {
    /// # Errors
    /// Another listener serves it.
    pub(super) fn check_listener(&self, listener: Listener) -> Result<()> {
        if self.on.contains(&listener) {
            return Ok(());
        }
        let names: Vec<&str> = self
            .on
            .iter()
            .map(|listener| match listener {
                Listener::Client => "the clients' listener (11371 unless set otherwise)",
                Listener::Gui => "the GUI's listener (8443 unless set otherwise)",
                Listener::Socket => "the admin socket",
            })
            .collect();
        Err(Error::new(
            Kind::NotFound,
            "other_listener",
            format!("this path is not served here; ask {}", names.join(" or ")),
        ))
    }

    const fn on(mut self, listeners: &'static [Listener]) -> Self {
        self.on = listeners;
        self
    }

    const fn takes(mut self, takes: Takes) -> Self {
        self.takes = takes;
        self
    }

    const fn query(mut self, query: &'static [&'static str]) -> Self {
        self.query = query;
        self
    }

    const fn headers(mut self, headers: &'static [&'static str]) -> Self {
        self.headers = headers;
        self
    }

    const fn gives(mut self, gives: &'static [Gives]) -> Self {
        self.gives = gives;
        self
    }

    const fn undescribed(mut self) -> Self {
        self.described = false;
        self
    }
}

/// A handler as the table holds it.
macro_rules! run {
    ($($handler:tt)+) => { Run::Open(|call| Box::pin($($handler)+(call))) };
}

/// The same for one that a sealed server has, too.
macro_rules! always {
    ($($handler:tt)+) => { Run::Always(|knocking| Box::pin($($handler)+(knocking))) };
}

/// The answers of most routes: one status, one schema.
macro_rules! json {
    ($code:literal, $schema:literal) => {
        &[Gives($code, Content::Json($schema), &[])]
    };
}

const NOTHING: &[Gives] = &[Gives(204, Content::Nothing, &[])];
const BODY_HEADERS: &[&str] = &[
    "etag",
    ENCRYPTION,
    DEPOSIT_ID,
    VERSION,
    NOT_BEFORE,
    EXPIRES,
    RETRIEVALS_LEFT,
];
const PUT_HEADERS: &[&str] = &[
    "if-match",
    "if-none-match",
    ENCRYPTION,
    LABELS,
    DESCRIPTION,
    NOT_BEFORE,
    EXPIRES,
    MAX_RETRIEVALS,
];
const STORED: &[Gives] = &[
    Gives(200, Content::Json("Deposit"), &["etag", "location"]),
    Gives(201, Content::Json("Deposit"), &["etag", "location"]),
];
const DEPOSIT: &[Gives] = &[Gives(200, Content::Json("Deposit"), &["etag"])];

/// The ways to one deposit: by name, by name in an organization, by id.
macro_rules! deposit_routes {
    ($path:literal) => {
        [
            route(
                Verb::Put,
                $path,
                Action::DepositChange,
                "Store a deposit, or a new version of it",
                run!(deposit::put),
            )
            .takes(Takes::Bytes)
            .headers(PUT_HEADERS)
            .gives(STORED),
            route(
                Verb::Get,
                $path,
                Action::DepositFetch,
                "A deposit's bytes, of its newest or of one version",
                run!(deposit::get),
            )
            .query(&["version"])
            .gives(&[Gives(200, Content::Bytes, BODY_HEADERS)]),
            route(
                Verb::Head,
                $path,
                Action::DepositRead,
                "What a GET would say of the bytes, without releasing them",
                run!(deposit::head),
            )
            .query(&["version"])
            .gives(&[Gives(200, Content::Nothing, BODY_HEADERS)]),
            route(
                Verb::Delete,
                $path,
                Action::DepositChange,
                "Move a deposit into the bin",
                run!(deposit::remove),
            )
            .headers(&["if-match"])
            .gives(DEPOSIT),
            route(
                Verb::Get,
                concat!($path, "/metadata"),
                Action::DepositRead,
                "All about a deposit but its bytes",
                run!(deposit::show),
            )
            .gives(DEPOSIT),
            route(
                Verb::Patch,
                concat!($path, "/metadata"),
                Action::DepositChange,
                "Change what may change without a new version",
                run!(deposit::edit),
            )
            .takes(Takes::Json("EditDeposit"))
            .headers(&["if-match"])
            .gives(DEPOSIT),
            route(
                Verb::Get,
                concat!($path, "/versions"),
                Action::DepositRead,
                "A deposit's versions, newest first",
                run!(deposit::versions),
            )
            .gives(json!(200, "Versions")),
            route(
                Verb::Post,
                concat!($path, "/undelete"),
                Action::DepositChange,
                "Take a deposit out of the bin",
                run!(deposit::undelete),
            )
            .gives(DEPOSIT),
            route(
                Verb::Post,
                concat!($path, "/grant"),
                Action::DepositChange,
                "Allow more retrievals of a deposit that is limited",
                run!(deposit::grant),
            )
            .takes(Takes::MaybeJson("GrantRetrievals"))
            .gives(DEPOSIT),
            route(
                Verb::Get,
                concat!($path, "/readers"),
                Action::DepositRead,
                "Who may fetch a deposit beside its owner, and how to encrypt to them",
                run!(deposit::readers),
            )
            .gives(json!(200, "Readers")),
            route(
                Verb::Post,
                concat!($path, "/share"),
                Action::DepositChange,
                "Let a client or a group read a deposit; its bytes stay as they are",
                run!(deposit::share),
            )
            .takes(Takes::Json("ShareDeposit"))
            .gives(json!(200, "Readers")),
            route(
                Verb::Post,
                concat!($path, "/unshare"),
                Action::DepositChange,
                "Take a reader's right away; its bytes stay as they are",
                run!(deposit::unshare),
            )
            .takes(Takes::Json("ShareDeposit"))
            .gives(json!(200, "Readers")),
            route(
                Verb::Post,
                concat!($path, "/purge"),
                Action::DepositChange,
                "Delete a deposit in the bin for good",
                run!(deposit::purge),
            )
            .gives(NOTHING),
        ]
    };
}

static BY_NAME: [Route; 13] = deposit_routes!("/v1/deposits/{name}");
static BY_ORG: [Route; 13] = deposit_routes!("/v1/orgs/{org}/deposits/{name}");
static BY_ID: [Route; 13] = deposit_routes!("/v1/deposits/id/{uuid}");

/// `id` is a legal name of a deposit: these are its parts, not deposits whose id is `versions`.
static NAMED_ID: &[Route] = &[
    route(
        Verb::Get,
        "/v1/deposits/id/metadata",
        Action::DepositRead,
        "",
        run!(deposit::show),
    )
    .undescribed(),
    route(
        Verb::Patch,
        "/v1/deposits/id/metadata",
        Action::DepositChange,
        "",
        run!(deposit::edit),
    )
    .takes(Takes::Json("EditDeposit"))
    .undescribed(),
    route(
        Verb::Get,
        "/v1/deposits/id/versions",
        Action::DepositRead,
        "",
        run!(deposit::versions),
    )
    .undescribed(),
    route(
        Verb::Post,
        "/v1/deposits/id/undelete",
        Action::DepositChange,
        "",
        run!(deposit::undelete),
    )
    .undescribed(),
    route(
        Verb::Post,
        "/v1/deposits/id/grant",
        Action::DepositChange,
        "",
        run!(deposit::grant),
    )
    .takes(Takes::MaybeJson("GrantRetrievals"))
    .undescribed(),
    route(
        Verb::Get,
        "/v1/deposits/id/readers",
        Action::DepositRead,
        "",
        run!(deposit::readers),
    )
    .undescribed(),
    route(
        Verb::Post,
        "/v1/deposits/id/share",
        Action::DepositChange,
        "",
        run!(deposit::share),
    )
    .takes(Takes::Json("ShareDeposit"))
    .undescribed(),
    route(
        Verb::Post,
        "/v1/deposits/id/unshare",
        Action::DepositChange,
        "",
        run!(deposit::unshare),
    )
    .takes(Takes::Json("ShareDeposit"))
    .undescribed(),
    route(
        Verb::Post,
        "/v1/deposits/id/purge",
        Action::DepositChange,
        "",
        run!(deposit::purge),
    )
    .undescribed(),
];

static OTHERS: &[Route] = &[
    route(
        Verb::Get,
        "/",
        Action::Public,
        "The server's OpenPGP fingerprint; on the GUI's listener also a page for people",
        always!(legacy::root),
    )
    .on(NET)
    .query(&["a"])
    .undescribed(),
    route(
        Verb::Get,
        "/v1/server/openpgp-key",
        Action::Public,
        "The server's OpenPGP key, its public half, armored",
        always!(server::openpgp_key),
    )
    .gives(&[Gives(200, Content::Text("application/pgp-keys"), &[])]),
    route(
        Verb::Get,
        "/style.css",
        Action::Public,
        "How the page looks",
        always!(server::style),
    )
    .on(GUI)
    .undescribed(),
    route(
        Verb::Get,
        "/v1/server",
        Action::Public,
        "What the server says of itself",
        always!(server::info),
    )
    .gives(json!(200, "ServerInfo")),
    route(
        Verb::Get,
        "/v1/server/ca.pem",
        Action::Public,
        "The instance identity's certificate, for curl's --cacert",
        always!(server::ca_pem),
    )
    .gives(&[Gives(200, Content::Text("application/x-pem-file"), &[])]),
    route(
        Verb::Get,
        "/v1/openapi.json",
        Action::Public,
        "This description",
        always!(server::openapi),
    )
    .gives(json!(200, "")),
    route(
        Verb::Get,
        "/v1/status",
        Action::StatusRead,
        "How the server is, part by part",
        run!(server::status),
    )
    .gives(json!(200, "Status")),
    route(
        Verb::Get,
        "/metrics",
        Action::Metrics,
        "Metrics for Prometheus",
        run!(server::metrics),
    )
    .on(NEAR)
    .gives(&[Gives(200, Content::Text("text/plain; version=0.0.4"), &[])]),
    route(
        Verb::Post,
        "/v1/clients",
        Action::Register,
        "Register the key of the connection's certificate as a client",
        run!(client::register),
    )
    .on(CLIENT)
    .takes(Takes::Json("Register"))
    .gives(&[
        Gives(201, Content::Json("ClientRegistration"), &["location"]),
        Gives(202, Content::Json("ClientRegistration"), &["location"]),
    ]),
    route(
        Verb::Get,
        "/v1/clients/self",
        Action::OwnClient,
        "The caller's own registration",
        run!(client::own),
    )
    .on(CLIENT)
    .gives(json!(200, "ClientRegistration")),
    route(
        Verb::Get,
        "/v1/clients",
        Action::ClientRead,
        "The clients",
        run!(client::list),
    )
    .query(LIST_IN_ORG)
    .gives(json!(200, "Page_Client")),
    route(
        Verb::Get,
        "/v1/clients/{fingerprint}",
        Action::ClientRead,
        "One client",
        run!(client::show),
    )
    .gives(json!(200, "Client")),
    route(
        Verb::Delete,
        "/v1/clients/{fingerprint}",
        Action::ClientChange,
        "Remove a client's registration",
        run!(client::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/clients/{fingerprint}/approve",
        Action::ClientChange,
        "Make a pending client active",
        run!(client::approve),
    )
    .takes(Takes::MaybeJson("Decision"))
    .gives(json!(200, "Client")),
    route(
        Verb::Post,
        "/v1/clients/{fingerprint}/deny",
        Action::ClientChange,
        "Deny a pending client",
        run!(client::deny),
    )
    .takes(Takes::MaybeJson("Decision"))
    .gives(json!(200, "Client")),
    route(
        Verb::Post,
        "/v1/clients/{fingerprint}/enable",
        Action::ClientChange,
        "Let a disabled client in again",
        run!(client::enable),
    )
    .takes(Takes::MaybeJson("Decision"))
    .gives(json!(200, "Client")),
    route(
        Verb::Post,
        "/v1/clients/{fingerprint}/disable",
        Action::ClientChange,
        "Refuse an active client from its next request on",
        run!(client::disable),
    )
    .takes(Takes::MaybeJson("Decision"))
    .gives(json!(200, "Client")),
    route(
        Verb::Get,
        "/v1/clients/{fingerprint}/quota",
        Action::ClientRead,
        "A client's quota, and what is used of it",
        run!(quota::of_client),
    )
    .gives(json!(200, "QuotaUse")),
    route(
        Verb::Put,
        "/v1/clients/{fingerprint}/quota",
        Action::ClientChange,
        "Set a client's quota; limits that are left out stay",
        run!(quota::set_of_client),
    )
    .takes(Takes::Json("SetQuota"))
    .gives(json!(200, "QuotaUse")),
    route(
        Verb::Get,
        "/v1/orgs",
        Action::OrgRead,
        "The organizations",
        run!(org::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Org")),
    route(
        Verb::Post,
        "/v1/orgs",
        Action::OrgChange,
        "Add an organization",
        run!(org::add),
    )
    .takes(Takes::Json("AddOrg"))
    .gives(json!(201, "OrgWithCode")),
    route(
        Verb::Get,
        "/v1/orgs/{org}",
        Action::OrgRead,
        "One organization, with its code for whoever may see it",
        run!(org::show),
    )
    .gives(json!(200, "OrgWithCode")),
    route(
        Verb::Delete,
        "/v1/orgs/{org}",
        Action::OrgChange,
        "Destroy an organization with all its clients and deposits, for good",
        run!(org::remove),
    )
    .gives(json!(200, "Org")),
    route(
        Verb::Put,
        "/v1/orgs/{org}/auth",
        Action::OrgCode,
        "Set an organization's registration code",
        run!(org::set_auth),
    )
    .takes(Takes::Json("SetAuth"))
    .gives(json!(200, "OrgWithCode")),
    route(
        Verb::Put,
        "/v1/orgs/{org}/recovery-recipient",
        Action::OrgChange,
        "Set or clear an organization's recovery recipient",
        run!(org::set_recovery_recipient),
    )
    .takes(Takes::Json("SetRecoveryRecipient"))
    .gives(json!(200, "Org")),
    route(
        Verb::Post,
        "/v1/orgs/{org}/contacts",
        Action::OrgContacts,
        "Add contacts; those that are there already stay",
        run!(org::add_contacts),
    )
    .takes(Takes::Json("AddContacts"))
    .gives(json!(200, "Org")),
    route(
        Verb::Delete,
        "/v1/orgs/{org}/contacts/{contact}",
        Action::OrgContacts,
        "Remove a contact",
        run!(org::remove_contact),
    )
    .gives(json!(200, "Org")),
    route(
        Verb::Put,
        "/v1/orgs/{org}/expiry",
        Action::OrgChange,
        "Set when an organization ends; its clients are refused from then on, its data is kept",
        run!(org::set_expiry),
    )
    .takes(Takes::Json("SetOrgExpiry"))
    .gives(json!(200, "Org")),
    route(
        Verb::Get,
        "/v1/orgs/{org}/quota",
        Action::OrgRead,
        "An organization's quota, and what is used of it",
        run!(quota::of_org),
    )
    .gives(json!(200, "QuotaUse")),
    route(
        Verb::Put,
        "/v1/orgs/{org}/quota",
        Action::OrgChange,
        "Set an organization's quota; limits that are left out stay",
        run!(quota::set_of_org),
    )
    .takes(Takes::Json("SetQuota"))
    .gives(json!(200, "QuotaUse")),
    route(
        Verb::Get,
        "/v1/orgs/{org}/groups",
        Action::DepositRead,
        "An organization's groups of clients",
        run!(group::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Group")),
    route(
        Verb::Post,
        "/v1/orgs/{org}/groups",
        Action::DepositChange,
        "Add a group",
        run!(group::add),
    )
    .takes(Takes::Json("AddGroup"))
    .gives(json!(201, "Group")),
    route(
        Verb::Get,
        "/v1/orgs/{org}/groups/{group}",
        Action::DepositRead,
        "One group, and who is in it",
        run!(group::show),
    )
    .gives(json!(200, "GroupWithMembers")),
    route(
        Verb::Delete,
        "/v1/orgs/{org}/groups/{group}",
        Action::DepositChange,
        "Remove a group that reads no deposits",
        run!(group::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Put,
        "/v1/orgs/{org}/groups/{group}/members/{fingerprint}",
        Action::DepositChange,
        "Put a client into a group",
        run!(group::add_member),
    )
    .gives(json!(200, "Group")),
    route(
        Verb::Delete,
        "/v1/orgs/{org}/groups/{group}/members/{fingerprint}",
        Action::DepositChange,
        "Take a client out of a group",
        run!(group::remove_member),
    )
    .gives(json!(200, "Group")),
    route(
        Verb::Get,
        "/v1/orgs/{org}/deposits",
        Action::DepositRead,
        "An organization's deposits",
        run!(deposit::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Deposit")),
    route(
        Verb::Get,
        "/v1/deposits",
        Action::DepositRead,
        "The caller's deposits, those shared with it, or an organization's",
        run!(deposit::list),
    )
    .query(LIST_OR_SHARED)
    .gives(json!(200, "Page_Deposit")),
    route(
        Verb::Get,
        "/v1/watch/deposits",
        Action::DepositRead,
        "Changes of the deposits that the caller sees, as server-sent events; ends after a minute, to be asked for anew",
        run!(deposit::watch),
    )
    .query(&["wait"])
    .headers(&[LAST_EVENT_ID])
    .gives(&[Gives(200, Content::Text("text/event-stream"), &[])]),
    route(
        Verb::Get,
        "/v1/users",
        Action::UserRead,
        "The users",
        run!(user::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_User")),
    route(
        Verb::Post,
        "/v1/users",
        Action::UserChange,
        "Add a user",
        run!(user::add),
    )
    .takes(Takes::Json("AddUser"))
    .gives(json!(201, "User")),
    route(
        Verb::Get,
        "/v1/users/{user}",
        Action::UserRead,
        "One user",
        run!(user::show),
    )
    .gives(json!(200, "User")),
    route(
        Verb::Patch,
        "/v1/users/{user}",
        Action::UserChange,
        "Disable or enable a user",
        run!(user::edit),
    )
    .takes(Takes::Json("EditUser"))
    .gives(json!(200, "User")),
    route(
        Verb::Delete,
        "/v1/users/{user}",
        Action::UserChange,
        "Remove a user",
        run!(user::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Put,
        "/v1/users/{user}/password",
        Action::OwnUser,
        "Set a password; ends the user's sessions",
        run!(user::set_password),
    )
    .takes(Takes::Json("SetPassword"))
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/users/{user}/totp",
        Action::OwnUser,
        "Begin a second factor: a secret for an authenticator app, shown this once",
        run!(user::totp_enroll),
    )
    .takes(Takes::Json("EnrollTotp"))
    .gives(json!(201, "TotpEnrolled")),
    route(
        Verb::Post,
        "/v1/users/{user}/totp/confirm",
        Action::OwnUser,
        "Put a second factor in force with its first code; the recovery codes are shown this once",
        run!(user::totp_confirm),
    )
    .takes(Takes::Json("ConfirmTotp"))
    .gives(json!(200, "RecoveryCodes")),
    route(
        Verb::Post,
        "/v1/users/{user}/totp/remove",
        Action::OwnUser,
        "Take a second factor away, with its recovery codes; ends the user's sessions",
        run!(user::totp_remove),
    )
    .takes(Takes::Json("RemoveTotp"))
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/users/{user}/reset",
        Action::UserChange,
        "The way back in: a new password, shown this once; ends the user's sessions, tokens and certificates",
        run!(user::reset),
    )
    .on(SOCKET)
    .takes(Takes::Json("ResetUser"))
    .gives(json!(200, "UserReset")),
    route(
        Verb::Post,
        "/v1/users/{user}/grants",
        Action::UserChange,
        "Grant a role",
        run!(user::grant),
    )
    .takes(Takes::Json("Grant"))
    .gives(json!(200, "User")),
    route(
        Verb::Delete,
        "/v1/users/{user}/grants",
        Action::UserChange,
        "Take a role back",
        run!(user::revoke),
    )
    .query(&["role", "org"])
    .gives(json!(200, "User")),
    route(
        Verb::Get,
        "/v1/orgs/{org}/key",
        Action::OrgRead,
        "The version of an organization's key, and how far its rotation is",
        run!(org_key::show),
    )
    .gives(json!(200, "OrgKey")),
    route(
        Verb::Post,
        "/v1/orgs/{org}/key/rotate",
        Action::OrgChange,
        "Make an organization's key anew; what lies under the old one is sealed anew in the background",
        run!(org_key::rotate),
    )
    .gives(json!(200, "OrgKey")),
    route(
        Verb::Get,
        "/v1/users/{user}/certificates",
        Action::UserRead,
        "The certificates by which a user comes",
        run!(user_certificate::list),
    )
    .gives(json!(200, "UserCertificates")),
    route(
        Verb::Post,
        "/v1/users/{user}/certificates",
        Action::UserChange,
        "Let a user come with a certificate",
        run!(user_certificate::add),
    )
    .takes(Takes::Json("AddUserCertificate"))
    .gives(json!(201, "UserCertificate")),
    route(
        Verb::Delete,
        "/v1/users/{user}/certificates/{fingerprint}",
        Action::UserChange,
        "Let a certificate's key in no more",
        run!(user_certificate::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Get,
        "/v1/roles",
        Action::UserRead,
        "The roles that exist",
        run!(role::list),
    )
    .gives(json!(200, "Roles")),
    route(
        Verb::Get,
        "/v1/tokens",
        Action::TokenRead,
        "The API tokens, without their secrets",
        run!(token::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Token")),
    route(
        Verb::Post,
        "/v1/tokens",
        Action::TokenChange,
        "Add an API token; its secret is shown this once",
        run!(token::add),
    )
    .takes(Takes::Json("AddToken"))
    .gives(json!(201, "TokenAdded")),
    route(
        Verb::Delete,
        "/v1/tokens/{id}",
        Action::TokenChange,
        "Remove an API token",
        run!(token::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Get,
        "/v1/recipients",
        Action::RecipientRead,
        "To whom backups are encrypted",
        run!(recipient::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Recipient")),
    route(
        Verb::Post,
        "/v1/recipients",
        Action::RecipientChange,
        "Add a recipient of backups: an age recipient, an SSH key or an OpenPGP public key",
        run!(recipient::add),
    )
    .takes(Takes::Json("AddRecipient"))
    .gives(json!(201, "RecipientAdded")),
    route(
        Verb::Delete,
        "/v1/recipients/{id}",
        Action::RecipientChange,
        "Remove a recipient of backups; those that are made from then on are not encrypted to it",
        run!(recipient::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/sessions",
        Action::Public,
        "Log in; the answer sets the session's cookie",
        run!(session::open),
    )
    .on(GUI)
    .takes(Takes::Json("LogIn"))
    .gives(&[Gives(201, Content::Json("Session"), &["set-cookie"])]),
    route(
        Verb::Get,
        "/v1/sessions/current",
        Action::OwnUser,
        "The caller's session",
        run!(session::show),
    )
    .on(GUI)
    .gives(json!(200, "Session")),
    route(
        Verb::Post,
        "/v1/sessions/current/prove",
        Action::OwnUser,
        "Give password and code again; the session goes on under a new cookie",
        run!(session::prove),
    )
    .on(GUI)
    .takes(Takes::Json("Prove"))
    .gives(&[Gives(200, Content::Json("Session"), &["set-cookie"])]),
    route(
        Verb::Delete,
        "/v1/sessions/current",
        Action::OwnUser,
        "Log out",
        run!(session::close),
    )
    .on(GUI)
    .gives(&[Gives(204, Content::Nothing, &["set-cookie"])]),
    route(
        Verb::Get,
        "/v1/settings",
        Action::SettingRead,
        "The settings",
        run!(setting::list),
    )
    .gives(json!(200, "Settings")),
    route(
        Verb::Get,
        "/v1/settings/{setting}",
        Action::SettingRead,
        "One setting",
        run!(setting::show),
    )
    .gives(json!(200, "SettingView")),
    route(
        Verb::Put,
        "/v1/settings/{setting}",
        Action::SettingChange,
        "Change a setting; it takes effect at once",
        run!(setting::set),
    )
    .takes(Takes::Json("SetSetting"))
    .gives(json!(200, "SettingView")),
    route(
        Verb::Post,
        "/v1/seal",
        Action::Seal,
        "Close the store and forget the keys, until something opens the server again",
        run!(seal::seal),
    )
    .on(NEAR)
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/unseal",
        Action::Public,
        "Open a sealed server with what opens one of its slots",
        always!(seal::unseal),
    )
    .on(NEAR)
    .takes(Takes::Json("Unseal"))
    .gives(json!(200, "Unsealed")),
    route(
        Verb::Get,
        "/v1/unseal",
        Action::Public,
        "The slots of a server that may be sealed, for those who may unseal it here",
        always!(seal::slots),
    )
    .on(SOCKET)
    .gives(json!(200, "Slots")),
    route(
        Verb::Post,
        "/unseal",
        Action::Public,
        "Open a sealed server from its page",
        always!(seal::form),
    )
    .on(GUI)
    .takes(Takes::Form)
    .undescribed(),
    route(
        Verb::Post,
        "/v1/root/rotate",
        Action::SlotChange,
        "Make the root key anew, and the slots whose secrets are given",
        run!(slot::rotate_root),
    )
    .on(NEAR)
    .takes(Takes::Json("RotateRoot"))
    .gives(json!(200, "RootRotated")),
    route(
        Verb::Get,
        "/v1/slots",
        Action::SlotRead,
        "The slots of seal.json",
        run!(slot::list),
    )
    .on(NEAR)
    .gives(json!(200, "Slots")),
    route(
        Verb::Post,
        "/v1/slots",
        Action::SlotChange,
        "Make another slot",
        run!(slot::add),
    )
    .on(NEAR)
    .takes(Takes::Json("AddSlot"))
    .gives(json!(201, "Slot")),
    route(
        Verb::Put,
        "/v1/slots/{id}",
        Action::SlotChange,
        "Give a slot another secret, and another id",
        run!(slot::replace),
    )
    .on(NEAR)
    .takes(Takes::Json("ReplaceSlot"))
    .gives(json!(200, "Slot")),
    route(
        Verb::Delete,
        "/v1/slots/{id}",
        Action::SlotChange,
        "Remove a slot; the last one that opens the server stays",
        run!(slot::remove),
    )
    .on(NEAR)
    .takes(Takes::Json("OpenSlot"))
    .gives(json!(200, "Slot")),
    route(
        Verb::Post,
        "/v1/slots/{id}/test",
        Action::SlotChange,
        "See whether a secret opens a slot",
        run!(slot::test),
    )
    .on(NEAR)
    .takes(Takes::Json("OpenSlot"))
    .gives(json!(200, "Slot")),
    route(
        Verb::Get,
        "/v1/tls",
        Action::TlsRead,
        "What the listeners show, and how they speak TLS",
        run!(tls::show),
    )
    .on(NEAR)
    .gives(json!(200, "Tls")),
    route(
        Verb::Post,
        "/v1/tls/csr",
        Action::TlsChange,
        "A signing request for a certificate authority",
        run!(tls::request),
    )
    .on(NEAR)
    .takes(Takes::MaybeJson("NewRequest"))
    .gives(json!(200, "SigningRequest")),
    route(
        Verb::Post,
        "/v1/tls/self-signed",
        Action::TlsChange,
        "Show a certificate that signs itself",
        run!(tls::self_sign),
    )
    .on(NEAR)
    .takes(Takes::Json("SelfSign"))
    .gives(json!(200, "InstalledCertificate")),
    route(
        Verb::Put,
        "/v1/tls/certificate",
        Action::TlsChange,
        "Show an operator's certificate",
        run!(tls::install),
    )
    .on(NEAR)
    .takes(Takes::Json("Install"))
    .gives(json!(200, "InstalledCertificate")),
    route(
        Verb::Post,
        "/v1/tls/rollback",
        Action::TlsChange,
        "Show what was shown before",
        run!(tls::roll_back),
    )
    .on(NEAR)
    .gives(json!(200, "Tls")),
    route(
        Verb::Put,
        "/v1/tls/client-ca",
        Action::TlsChange,
        "Set whose certificates API users may come with",
        run!(tls::set_client_ca),
    )
    .on(NEAR)
    .takes(Takes::Json("SetClientCa"))
    .gives(json!(200, "Tls")),
    route(
        Verb::Delete,
        "/v1/tls/client-ca",
        Action::TlsChange,
        "Let API users come without certificates alone",
        run!(tls::remove_client_ca),
    )
    .on(NEAR)
    .gives(json!(200, "Tls")),
    route(
        Verb::Get,
        "/v1/backups",
        Action::BackupRead,
        "The backups that count, newest first",
        run!(backup::list),
    )
    .on(NEAR)
    .query(&["removed"])
    .gives(json!(200, "Backups")),
    route(
        Verb::Post,
        "/v1/backups",
        Action::BackupCreate,
        "Let the server take a backup into the folder that the settings name",
        run!(backup::make),
    )
    .on(NEAR)
    .takes(Takes::MaybeJson("CreateBackup"))
    .gives(json!(202, "Job")),
    route(
        Verb::Post,
        "/v1/backups/drill",
        Action::BackupCreate,
        "Prove that the newest backup would bring everything back",
        run!(backup::drill),
    )
    .on(NEAR)
    .gives(json!(202, "Job")),
    route(
        Verb::Post,
        "/v1/backups/stream",
        Action::BackupCreate,
        "Take a backup: the answer is its file, which counts once it was verified and kept",
        run!(backup::begin),
    )
    .on(NEAR)
    .takes(Takes::Json("CreateBackup"))
    .gives(&[Gives(
        200,
        Content::Bytes,
        &[backup_api::ID, backup_api::NAME, backup_api::LENGTH],
    )]),
    route(
        Verb::Post,
        "/v1/backups/verify",
        Action::BackupCreate,
        "Decrypt a backup of this server in full, and compare its digests",
        run!(backup::verify_any),
    )
    .on(NEAR)
    .takes(Takes::File)
    .gives(json!(200, "VerifiedBackup")),
    route(
        Verb::Post,
        "/v1/backups/extract",
        Action::BackupCreate,
        "Put a deposit out of a backup back, as a new version",
        run!(backup::extract),
    )
    .on(NEAR)
    .query(&["org", "deposit", backup_api::WITHOUT_OWNER])
    .takes(Takes::File)
    .gives(json!(200, "Deposit")),
    route(
        Verb::Get,
        "/v1/backups/{id}",
        Action::BackupRead,
        "A backup",
        run!(backup::show),
    )
    .on(NEAR)
    .gives(json!(200, "Backup")),
    route(
        Verb::Post,
        "/v1/backups/{id}/verify",
        Action::BackupCreate,
        "Give the file back that left, to be decrypted in full",
        run!(backup::verify),
    )
    .on(NEAR)
    .takes(Takes::File)
    .gives(json!(200, "VerifiedBackup")),
    route(
        Verb::Post,
        "/v1/backups/{id}/keep",
        Action::BackupCreate,
        "Say that a verified file has its name: it counts from then on",
        run!(backup::keep),
    )
    .on(NEAR)
    .takes(Takes::Json("KeepBackup"))
    .gives(json!(200, "Backup")),
    route(
        Verb::Post,
        "/v1/backups/{id}/failed",
        Action::BackupCreate,
        "Say that a backup that left came to nothing",
        run!(backup::failed),
    )
    .on(NEAR)
    .takes(Takes::Json("BackupEnd"))
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/backups/{id}/removed",
        Action::BackupCreate,
        "Say that a backup's file was removed; the newest one stays",
        run!(backup::removed),
    )
    .on(NEAR)
    .takes(Takes::Json("BackupEnd"))
    .gives(json!(200, "Backup")),
    route(
        Verb::Get,
        "/v1/jobs",
        Action::JobRead,
        "The jobs, in the order they were made",
        run!(job::list),
    )
    .query(LIST_IN_ORG)
    .gives(json!(200, "Page_Job")),
    route(
        Verb::Post,
        "/v1/jobs/cancel",
        Action::JobChange,
        "Cancel the jobs that wait; those that run go on",
        run!(job::cancel_waiting),
    )
    .takes(Takes::MaybeJson("CancelJobs"))
    .gives(json!(200, "JobsCancelled")),
    route(
        Verb::Get,
        "/v1/jobs/{id}",
        Action::JobRead,
        "One job, with its log",
        run!(job::show),
    )
    .gives(json!(200, "JobShown")),
    route(
        Verb::Post,
        "/v1/jobs/{id}/cancel",
        Action::JobChange,
        "Cancel a job; one that runs ends before its next step",
        run!(job::cancel),
    )
    .gives(json!(200, "Job")),
    route(
        Verb::Post,
        "/v1/jobs/{id}/retry",
        Action::JobChange,
        "Try a job again that failed or was cancelled",
        run!(job::retry),
    )
    .gives(json!(200, "Job")),
    route(
        Verb::Post,
        "/v1/jobs/{id}/release",
        Action::JobChange,
        "Let a held job run although its lane is held",
        run!(job::release),
    )
    .gives(json!(200, "Job")),
    route(
        Verb::Get,
        "/v1/watch/jobs/{id}",
        Action::JobRead,
        "A job as it goes, as server-sent events (JobNews), until it is over or for a minute",
        run!(job::watch),
    )
    .headers(&[LAST_EVENT_ID])
    .query(&["wait"])
    .gives(&[Gives(200, Content::Text("text/event-stream"), &[])]),
    route(
        Verb::Get,
        "/v1/lanes",
        Action::JobRead,
        "Whether jobs begin, and how many run and wait",
        run!(job::lanes),
    )
    .gives(json!(200, "Lanes")),
    route(
        Verb::Post,
        "/v1/drain",
        Action::JobChange,
        "Let no further job begin until resumed",
        run!(job::drain),
    )
    .takes(Takes::MaybeJson("SetDrain"))
    .gives(json!(200, "Lanes")),
    route(
        Verb::Post,
        "/v1/resume",
        Action::JobChange,
        "Let jobs begin again",
        run!(job::resume),
    )
    .gives(json!(200, "Lanes")),
    route(
        Verb::Get,
        "/v1/schedules",
        Action::ScheduleRead,
        "The schedules, with their next times",
        run!(schedule::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Schedule")),
    route(
        Verb::Post,
        "/v1/schedules",
        Action::ScheduleChange,
        "Add a schedule",
        run!(schedule::add),
    )
    .takes(Takes::Json("AddSchedule"))
    .gives(json!(201, "Schedule")),
    route(
        Verb::Get,
        "/v1/schedules/{schedule}",
        Action::ScheduleRead,
        "One schedule, with its next times",
        run!(schedule::show),
    )
    .gives(json!(200, "Schedule")),
    route(
        Verb::Patch,
        "/v1/schedules/{schedule}",
        Action::ScheduleChange,
        "Change when a schedule comes",
        run!(schedule::edit),
    )
    .takes(Takes::Json("EditSchedule"))
    .gives(json!(200, "Schedule")),
    route(
        Verb::Delete,
        "/v1/schedules/{schedule}",
        Action::ScheduleChange,
        "Remove a schedule that is not built in",
        run!(schedule::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Post,
        "/v1/schedules/{schedule}/pause",
        Action::ScheduleChange,
        "Let a schedule rest",
        run!(schedule::pause),
    )
    .gives(json!(200, "Schedule")),
    route(
        Verb::Post,
        "/v1/schedules/{schedule}/resume",
        Action::ScheduleChange,
        "Let a paused schedule go on",
        run!(schedule::resume),
    )
    .gives(json!(200, "Schedule")),
    route(
        Verb::Post,
        "/v1/schedules/{schedule}/run",
        Action::ScheduleChange,
        "Make a schedule's job now",
        run!(schedule::run),
    )
    .gives(json!(202, "Job")),
    route(
        Verb::Get,
        "/v1/hosts",
        Action::HostRead,
        "The hosts",
        run!(host::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_Host")),
    route(
        Verb::Post,
        "/v1/hosts",
        Action::HostChange,
        "Add a host",
        run!(host::add),
    )
    .takes(Takes::Json("AddHost"))
    .gives(json!(201, "Host")),
    route(
        Verb::Get,
        "/v1/hosts/{host}",
        Action::HostRead,
        "One host",
        run!(host::show),
    )
    .gives(json!(200, "Host")),
    route(
        Verb::Patch,
        "/v1/hosts/{host}",
        Action::HostChange,
        "Change a host",
        run!(host::edit),
    )
    .takes(Takes::Json("EditHost"))
    .gives(json!(200, "Host")),
    route(
        Verb::Delete,
        "/v1/hosts/{host}",
        Action::HostChange,
        "Remove a host",
        run!(host::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Get,
        "/v1/host-groups",
        Action::HostRead,
        "The host groups",
        run!(host_group::list),
    )
    .query(LIST)
    .gives(json!(200, "Page_HostGroup")),
    route(
        Verb::Post,
        "/v1/host-groups",
        Action::HostChange,
        "Add a host group",
        run!(host_group::add),
    )
    .takes(Takes::Json("AddHostGroup"))
    .gives(json!(201, "HostGroup")),
    route(
        Verb::Get,
        "/v1/host-groups/{path}",
        Action::HostRead,
        "One host group",
        run!(host_group::show),
    )
    .gives(json!(200, "HostGroup")),
    route(
        Verb::Patch,
        "/v1/host-groups/{path}",
        Action::HostChange,
        "Change a host group",
        run!(host_group::edit),
    )
    .takes(Takes::Json("EditHostGroup"))
    .gives(json!(200, "HostGroup")),
    route(
        Verb::Delete,
        "/v1/host-groups/{path}",
        Action::HostChange,
        "Remove a host group",
        run!(host_group::remove),
    )
    .gives(NOTHING),
    route(
        Verb::Get,
        "/v1/audit",
        Action::AuditRead,
        "Events, newest first",
        run!(audit::list),
    )
    .query(EVENTS)
    .gives(json!(200, "Page_ChainedEvent")),
    route(
        Verb::Get,
        "/v1/audit/verify",
        Action::AuditRead,
        "Whether the events are all there, and unchanged",
        run!(audit::verify),
    )
    .gives(json!(200, "Verification")),
    route(
        Verb::Get,
        "/v1/audit/export",
        Action::AuditRead,
        "All events, one JSON document a line",
        run!(audit::export),
    )
    .gives(&[Gives(200, Content::Text("application/x-ndjson"), &[])]),
    route(
        Verb::Get,
        "/v1/audit/segments",
        Action::AuditRead,
        "The segments of events that left the store",
        run!(audit::segments),
    )
    .gives(json!(200, "Segments")),
    route(
        Verb::Get,
        "/v1/audit/segments/{file}",
        Action::AuditRead,
        "A segment's events, one JSON document a line",
        run!(audit::segment),
    )
    .gives(&[Gives(200, Content::Text("application/x-ndjson"), &[])]),
];

/// Every route there is.
pub fn all() -> impl Iterator<Item = &'static Route> {
    OTHERS
        .iter()
        .chain(&BY_NAME)
        .chain(&BY_ORG)
        .chain(&BY_ID)
        .chain(NAMED_ID)
}

/// All routes, on any listener: one that another listener serves says so.
pub(super) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in all() {
        let app = Arc::clone(app);
        let handler = move |request: Request| call::run(Arc::clone(&app), route, request);
        router = router.route(route.path, on(route.method.filter(), handler));
    }
    // Both apply to the routes that are there by now.
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
}

async fn no_such_path() -> Response {
    reply::refusal(Error::not_found(
        "there is no such path; /v1/openapi.json lists what there is",
    ))
}

async fn no_such_method(path: MatchedPath, request: Request) -> Response {
    reply::method_refusal(request.method(), &allowed(path.as_str()))
}

/// The methods of a path, as `allow` lists them.
fn allowed(path: &str) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for route in all().filter(|route| route.path == path) {
        methods.push(route.method.as_str());
        if route.method == Verb::Get {
            methods.push(Verb::Head.as_str());
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_methods() {
        assert_eq!(allowed("/v1/deposits/{name}"), "DELETE, GET, HEAD, PUT");
        assert_eq!(allowed("/v1/sessions"), "POST");
        assert_eq!(allowed("/v1/clients"), "GET, HEAD, POST");
        assert_eq!(allowed("/v2"), "");
    }

    #[test]
    fn the_deposit_named_id_takes_what_every_deposit_takes() {
        let tails = |start: &str| {
            let mut tails: Vec<(&str, String)> = all()
                .filter_map(|route| Some((route, route.path.strip_prefix(start)?)))
                .filter(|(_, tail)| tail.starts_with('/') && !tail.contains('{'))
                .map(|(route, tail)| (route.method.as_str(), tail.to_owned()))
                .collect();
            tails.sort_unstable();
            tails
        };
        assert_eq!(tails("/v1/deposits/id"), tails("/v1/deposits/{name}"));
        assert_eq!(tails("/v1/deposits/id").len(), 9);
    }
}
