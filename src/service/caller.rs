//! Who is asking, from where, in which request.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::clock::Timestamp;
use crate::model::audit::{Actor, Event, Object, Outcome};
use crate::model::client::ClientState;
use crate::model::id::{ClientId, Fingerprint, OrgId, RequestId, TokenId, UserId};
use crate::model::org::OrgName;
use crate::model::quota::Pace;
use crate::model::role::{Grant, Role};
use crate::model::token::Scope;
use crate::model::user::UserName;
use crate::secret::Secret;

/// The listeners differ in what they believe: 11371 certificates and tokens, 8443 cookies and
/// tokens, the socket the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Client,
    Gui,
    Socket,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub listener: Listener,
    /// None on the socket.
    pub address: Option<IpAddr>,
}

/// What counts as one address: of IPv6 the /64, since a host commands all of it.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

/// What a request shows to prove who it is from. `http` fills in what its listener believes.
#[derive(Default)]
pub struct Credentials {
    /// SHA-256 of the public key whose possession the TLS handshake proved.
    pub key: Option<Fingerprint>,
    /// The certificates that came with it, the key's own first.
    pub presented: Arc<[CertificateDer<'static>]>,
    /// From `Authorization: Bearer …`.
    pub token: Option<Secret<String>>,
    /// From the session cookie.
    pub session: Option<Secret<String>>,
    /// The peer of the admin socket.
    pub uid: Option<u32>,
}

/// Who it is, as far as that is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Nobody,
    /// Holds this key; no active client has it. The state is that of the client that is not active.
    Key {
        fingerprint: Fingerprint,
        state: Option<ClientState>,
        /// Its active client's organization has ended.
        org_over: Option<OrgName>,
    },
    Client {
        id: ClientId,
        org: OrgId,
        org_name: OrgName,
        fingerprint: Fingerprint,
        pace: Pace,
    },
    User {
        id: UserId,
        name: UserName,
        grants: Vec<Grant>,
        /// Has no second factor, or showed it lately.
        proven: bool,
    },
    Token {
        id: TokenId,
        user: UserId,
        user_name: UserName,
        grants: Vec<Grant>,
        scopes: Vec<Scope>,
    },
    /// On the admin socket.
    Local {
        uid: u32,
        role: Role,
    },
    /// The server's own upkeep.
    Server,
}

/// An `Idempotency-Key` with a hash of the request that it came with.
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub key: String,
    pub request_hash: [u8; 32],
}

/// One request, as verbs see it.
#[derive(Clone, Debug)]
pub struct Context {
    pub identity: Identity,
    pub source: Source,
    pub request: RequestId,
    /// From `--reason`; empty if none was given.
    pub reason: String,
    pub idempotency: Option<Idempotency>,
}

impl Context {
    /// An event of this request, done and without detail.
    pub fn event(&self, action: &str, object: Object, now: Timestamp) -> Event {
        Event {
            time: now,
            request: self.request,
            actor: self.actor(),
            action: action.to_owned(),
            object,
            outcome: Outcome::Done,
            detail: String::new(),
            reason: self.reason.clone(),
        }
    }

    /// Whose idempotency keys these are: the same caller's over all its connections.
    pub fn idempotency_caller(&self) -> String {
        match &self.identity {
            Identity::Client { id, .. } => format!("client {id}"),
            Identity::User { id, .. } => format!("user {id}"),
            Identity::Token { id, .. } => format!("token {id}"),
            Identity::Key { fingerprint, .. } => format!("key {fingerprint}"),
            Identity::Local { uid, .. } => format!("local {uid}"),
            Identity::Nobody => format!("nobody {}", self.actor().source),
            Identity::Server => "server".to_owned(),
        }
    }

    /// Whom a throttle slows down.
    pub fn neighbour(&self) -> String {
        match self.source.address {
            Some(address) => network(address).to_string(),
            None => "socket".to_owned(),
        }
    }

    /// The caller, as if from another address.
    pub fn actor_at(&self, source: &str) -> Actor {
        Actor {
            source: source.to_owned(),
            ..self.actor()
        }
    }

    /// The caller as an event keeps it.
    pub fn actor(&self) -> Actor {
        let (kind, name) = match &self.identity {
            Identity::Nobody => ("nobody", String::new()),
            Identity::Key { fingerprint, .. } => ("key", fingerprint.to_string()),
            Identity::Client { fingerprint, .. } => ("client", fingerprint.to_string()),
            Identity::User { name, .. } => ("user", name.to_string()),
            Identity::Token { id, user_name, .. } => ("token", format!("{user_name}/{id}")),
            Identity::Local { uid, .. } => ("local", uid.to_string()),
            Identity::Server => ("server", String::new()),
        };
        let source = match (&self.identity, self.source.address) {
            (Identity::Server, _) => "server".to_owned(),
            (_, Some(address)) => address.to_string(),
            (_, None) => "socket".to_owned(),
        };
        Actor {
            kind: kind.to_owned(),
            name,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_network_is_one_neighbour() {
        let one = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(one("2001:db8::1"), one("2001:db8::ffff:1:2:3"));
        assert_ne!(one("2001:db8::1"), one("2001:db8:0:1::1"));
        assert_eq!(one("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(one("::1"), "::1");
    }
}
