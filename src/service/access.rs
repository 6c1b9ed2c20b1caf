//! Who may do what, as a pure function. Every route names its action; a test walks every route with
//! every role and with none.

use super::caller::Identity;
use crate::error::{Error, Kind, Result};
use crate::model::client::ClientState;
use crate::model::id::{ClientId, OrgId};
use crate::model::org::OrgName;
use crate::model::role::{Grant, Role};
use crate::model::token::Scope;

/// What a caller wants to do. One variant per right, not per route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Server information, identity, API description, log-in: open to anyone.
    Public,
    /// Register a key as a client; needs a proven key.
    Register,
    /// A client's own registration; needs a proven key.
    OwnClient,
    /// A user's own session and password.
    OwnUser,
    /// What a user logs in with: password and second factor.
    OwnFactor,
    StatusRead,
    Metrics,
    OrgRead,
    OrgChange,
    /// See or set an organization's registration code.
    OrgCode,
    /// Who is told of an organization's registrations.
    OrgContacts,
    ClientRead,
    ClientChange,
    /// A deposit's metadata.
    DepositRead,
    /// A deposit's bytes.
    DepositFetch,
    DepositChange,
    UserRead,
    UserChange,
    TokenRead,
    TokenChange,
    SettingRead,
    SettingChange,
    SlotRead,
    /// Which secrets open the server.
    SlotChange,
    /// Closing the store.
    Seal,
    TlsRead,
    /// What the listeners show, and whose certificates count.
    TlsChange,
    AuditRead,
    /// Which backups there are.
    BackupRead,
    /// Take a backup that a slot's secret opens.
    BackupCreate,
    RecipientRead,
    /// To whom backups are encrypted.
    RecipientChange,
    /// Jobs and lanes.
    JobRead,
    JobChange,
    ScheduleRead,
    ScheduleChange,
    /// Hosts and their groups.
    HostRead,
    HostChange,
}

impl Action {
    pub const ALL: [Action; 38] = [
        Self::Public,
        Self::Register,
        Self::OwnClient,
        Self::OwnUser,
        Self::OwnFactor,
        Self::StatusRead,
        Self::Metrics,
        Self::OrgRead,
        Self::OrgChange,
        Self::OrgCode,
        Self::OrgContacts,
        Self::ClientRead,
        Self::ClientChange,
        Self::DepositRead,
        Self::DepositFetch,
        Self::DepositChange,
        Self::UserRead,
        Self::UserChange,
        Self::TokenRead,
        Self::TokenChange,
        Self::SettingRead,
        Self::SettingChange,
        Self::SlotRead,
        Self::SlotChange,
        Self::Seal,
        Self::TlsRead,
        Self::TlsChange,
        Self::AuditRead,
        Self::BackupRead,
        Self::BackupCreate,
        Self::RecipientRead,
        Self::RecipientChange,
        Self::JobRead,
        Self::JobChange,
        Self::ScheduleRead,
        Self::ScheduleChange,
        Self::HostRead,
        Self::HostChange,
    ];
}

/// What it is done to, as far as rights depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Nothing that belongs to an organization.
    Server,
    /// An organization, and what is in it that no client owns.
    Org(&'a OrgName),
    /// A client's object: a deposit's owner, or the client itself.
    Owned {
        org: &'a OrgName,
        org_id: OrgId,
        owner: Option<ClientId>,
        /// The caller is one that the deposit is shared with.
        reader: bool,
    },
}

/// Whether `who` may do `action` to `target`.
///
/// # Errors
/// `Unauthenticated` where anyone known could, `Denied` where this caller may not.
pub fn decide(who: &Identity, action: Action, target: &Target<'_>) -> Result<()> {
    let allowed = match who {
        Identity::Nobody => action == Action::Public,
        Identity::Key { .. } => matches!(
            action,
            Action::Public | Action::Register | Action::OwnClient
        ),
        Identity::Client { id, org, .. } => client_may(action, target, *id, *org),
        Identity::User { grants, .. } => {
            matches!(action, Action::Public | Action::OwnUser | Action::OwnFactor)
                || grants
                    .iter()
                    .any(|grant| grant_allows(grant, action, target))
        }
        Identity::Token { grants, scopes, .. } => {
            action == Action::Public
                // Whoever made a token for metrics meant them, whatever else its user may.
                || (action == Action::Metrics && scopes.contains(&Scope::Metrics))
                || (scopes.iter().any(|scope| scope_allows(*scope, action))
                    && grants
                        .iter()
                        .any(|grant| grant_allows(grant, action, target)))
        }
        Identity::Local { role, .. } => action == Action::Public || role_allows(*role, action),
        Identity::Server => true,
    };
    match (allowed, who) {
        (true, Identity::User { proven: false, .. }) if wants_proof(action) => Err(Error::denied(
            "step_up_required",
            "this takes a proof of who you are within the last 15 minutes: give password and code again (POST /v1/sessions/current/prove)",
        )),
        (true, _) => Ok(()),
        (false, Identity::Nobody) => Err(Error::new(
            Kind::Unauthenticated,
            "unauthenticated",
            "this needs a client certificate, a token or a log-in; see /v1/openapi.json for what each path takes",
        )),
        (
            false,
            Identity::Key {
                org_over: Some(org),
                ..
            },
        ) => Err(org_over(org)),
        (false, Identity::Key { state, .. }) => Err(inactive(*state)),
        (false, _) => Err(Error::denied(
            "denied",
            "the caller's role does not allow this here",
        )),
    }
}

/// What a session left open must not do: make users, tokens and slots, change what guards them, let
/// everyone register, destroy an organization, name one more who opens every backup.
fn wants_proof(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        OwnFactor
            | UserChange
            | TokenChange
            | SettingChange
            | SlotChange
            | TlsChange
            | Seal
            | OrgChange
            | OrgCode
            | RecipientChange
    )
}

/// Whether the caller has himself every right that `grant` gives. Nobody gives, or takes over, more
/// than he has: not by a grant, not by a password, not by a token.
pub fn covers(who: &Identity, grant: &Grant) -> bool {
    let target = grant.org.as_ref().map_or(Target::Server, Target::Org);
    Action::ALL
        .into_iter()
        .filter(|action| role_allows(grant.role, *action))
        .all(|action| decide(who, action, &target).is_ok())
}

/// What a client reads whose organization has ended.
pub fn org_over(org: &OrgName) -> Error {
    Error::denied(
        "org_over",
        format!(
            "the organization `{org}` has ended; what is stored in it is kept. Ask its administrator"
        ),
    )
}

/// What the holder of a key reads that opens nothing, or nothing any more.
fn inactive(state: Option<ClientState>) -> Error {
    match state {
        Some(ClientState::Pending) => {
            Error::denied("client_pending", "this client waits for its approval")
        }
        Some(ClientState::Denied) => Error::denied(
            "client_denied",
            "this client's registration was denied; ask an administrator of its organization",
        ),
        Some(ClientState::Disabled) => Error::denied(
            "client_disabled",
            "this client is disabled; ask an administrator of its organization",
        ),
        Some(ClientState::Active) | None => Error::new(
            Kind::Unauthenticated,
            "not_registered",
            "this certificate's key belongs to no client; register it: strongroom client register",
        ),
    }
}

/// A client works on its own deposits, and fetches those that are shared with it; it sees others of its
/// organization not at all.
fn client_may(action: Action, target: &Target<'_>, id: ClientId, org: OrgId) -> bool {
    match action {
        Action::Public | Action::OwnClient => true,
        Action::DepositRead | Action::DepositFetch => {
            matches!(target, Target::Owned { org_id, owner, reader, .. } if *org_id == org && (*owner == Some(id) || *reader))
        }
        Action::DepositChange => {
            matches!(target, Target::Owned { org_id, owner, .. } if *org_id == org && *owner == Some(id))
        }
        _ => false,
    }
}

fn grant_allows(grant: &Grant, action: Action, target: &Target<'_>) -> bool {
    let within = match (&grant.org, target) {
        (None, _) => true,
        (Some(granted), Target::Org(org) | Target::Owned { org, .. }) => granted == *org,
        (Some(_), Target::Server) => false,
    };
    within && role_allows(grant.role, action)
}

fn role_allows(role: Role, action: Action) -> bool {
    use Action::*;
    match role {
        Role::Superuser => !matches!(action, Register | OwnClient | OwnUser | OwnFactor),
        Role::Administrator => !matches!(
            action,
            Register
                | OwnClient
                | OwnUser
                | OwnFactor
                | DepositFetch
                | DepositChange
                | SlotChange
                | Seal
                | TlsChange
                | AuditRead
        ),
        Role::OrgAdministrator => matches!(
            action,
            OrgRead | OrgCode | OrgContacts | ClientRead | ClientChange | DepositRead | JobRead
        ),
        Role::KeyOperator => matches!(action, OrgRead | DepositRead | DepositFetch | DepositChange),
        Role::Auditor => only_reads(action),
    }
}

/// Looks at everything but bytes and codes.
fn only_reads(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        StatusRead
            | Metrics
            | OrgRead
            | ClientRead
            | DepositRead
            | UserRead
            | TokenRead
            | SettingRead
            | SlotRead
            | TlsRead
            | AuditRead
            | BackupRead
            | RecipientRead
            | JobRead
            | ScheduleRead
            | HostRead
    )
}

fn scope_allows(scope: Scope, action: Action) -> bool {
    use Action::*;
    match scope {
        Scope::All => true,
        Scope::Read => only_reads(action),
        Scope::Deposits => matches!(action, DepositRead | DepositFetch | DepositChange),
        Scope::Metrics => action == Action::Metrics,
    }
}
