//! The server as its listeners see it: sealed, until something opens it; then open until it ends.
//! While sealed there is no store, so who may try is decided here, and what was tried is kept in a
//! file until the audit can take it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::access::{Action, Target};
use super::caller::{Context, Identity, Listener};
use super::health::Board;
use super::openpgp::{self, OpenPgp};

use super::tls::shown::Shown;
use super::{Facts, Service, limited, object, segment, session, slot};
use crate::api::seal::{Unseal, Unsealed};
use crate::api::server::ServerInfo;
use crate::api::slot::Slots;
use crate::clock::{self, Timestamp};
use crate::crypto::openpgp::Public;
use crate::crypto::seal::SlotSecret;
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::model::audit::{Event, Outcome};
use crate::model::id::SlotId;
use crate::model::role::Role;

/// Attempts of one address in a minute.
const A_MINUTE: usize = 5;
/// Addresses that are remembered; beyond, those that tried longest ago are forgotten.
const ADDRESSES: usize = 10_000;
/// How long an attempt over the network waits for the one before it.
const TURN: std::time::Duration = std::time::Duration::from_secs(5);
/// Attempts that are kept for the audit, the newest.
const KEPT: usize = 1_000;
const MOST_BYTES: u64 = 4 << 20;

/// The verb under which attempts stand in the audit.
pub const UNSEAL: &str = "server.unseal";

/// What a sealed server is asked to open with.
pub struct Knock {
    pub ctx: Context,
    pub secret: SlotSecret,
    pub slot: Option<SlotId>,
    pub accept_old_seal: bool,
    pub answer: oneshot::Sender<Result<SlotId>>,
}

pub struct Gate {
    facts: Facts,
    board: Arc<Board>,
    tls: Arc<Shown>,
    openpgp: Arc<OpenPgp>,
    folder: Folder,
    open: Arc<OnceLock<Arc<Service>>>,
    knocks: mpsc::Sender<Knock>,
    /// One attempt at a time: each may cost a gigabyte and a second.
    turn: tokio::sync::Mutex<()>,
    recent: Mutex<HashMap<String, VecDeque<Timestamp>>>,
}

impl Gate {
    /// A sealed server's gate, and where attempts to open it come out.
    pub fn new(
        facts: Facts,
        board: Arc<Board>,
        tls: Arc<Shown>,
        openpgp: Arc<OpenPgp>,
        folder: Folder,
    ) -> (Self, mpsc::Receiver<Knock>) {
        let (knocks, knocked) = mpsc::channel(1);
        let gate = Self {
            facts,
            board,
            tls,
            openpgp,
            folder,
            open: Arc::default(),
            knocks,
            turn: tokio::sync::Mutex::default(),
            recent: Mutex::default(),
        };
        (gate, knocked)
    }

    /// Lets requests through, from now on.
    pub fn open(&self, service: &Arc<Service>) {
        let _ = self.open.set(Arc::clone(service));
        let making = openpgp::ensure(Arc::downgrade(service), Arc::clone(&self.openpgp));
        tokio::spawn(making);
        tokio::spawn(segment::leave_all(
            Arc::downgrade(service),
            service.segments_asked(),
        ));
    }

    /// # Errors
    /// `sealed`.
    pub fn service(&self) -> Result<&Arc<Service>> {
        self.open.get().ok_or_else(|| {
            Error::new(
                Kind::Sealed,
                "sealed",
                "the server is sealed: it has no root key yet; open it with `strongroom unseal` on its machine, or on the page of its GUI's listener",
            )
        })
    }

    /// For those who look at it without asking the async runtime.
    pub fn opened(&self) -> Arc<OnceLock<Arc<Service>>> {
        Arc::clone(&self.open)
    }

    /// As one listener says it.
    pub fn server_info(&self, listener: Listener) -> ServerInfo {
        match self.open.get() {
            Some(service) => service.server_info(listener),
            None => self.facts.info(&self.board, self.tls.sha256(listener)),
        }
    }

    /// The server's OpenPGP key; waits while it is made.
    pub async fn openpgp(&self) -> Result<Arc<Public>> {
        self.openpgp.public(|| self.service().map(|_| ())).await
    }

    pub fn server_ca_pem(&self) -> &str {
        match self.open.get() {
            Some(service) => service.server_ca_pem(),
            None => &self.facts.ca_pem,
        }
    }

    pub fn request_answered(&self, status: u16, micros: u64) {
        if let Some(service) = self.open.get() {
            service.request_answered(status, micros);
        }
    }

    /// The slots of a server that may be sealed, for whoever may unseal it from its machine.
    pub fn slots(&self, ctx: &Context, uid: Option<u32>) -> Result<Slots> {
        self.may_unseal(ctx, uid)?;
        slot::listed(&self.folder)
    }

    /// Opens the server.
    ///
    /// # Errors
    /// `not_sealed`; `unseal_local`; `too_many_attempts`; what is wrong with the secret or the folder.
    pub async fn unseal(
        &self,
        mut ctx: Context,
        uid: Option<u32>,
        request: Unseal,
    ) -> Result<Unsealed> {
        if self.open.get().is_some() {
            return Err(Error::conflict("not_sealed", "the server is not sealed"));
        }
        ctx.identity = self.may_unseal(&ctx, uid)?;
        let network = ctx.source.listener != Listener::Socket;
        if network && (request.accept_old_seal || request.slot.is_some()) {
            let field = if request.slot.is_some() {
                "slot"
            } else {
                "accept_old_seal"
            };
            return Err(Error::invalid(
                field,
                format!("`{field}` is taken on the server's own machine alone"),
            ));
        }
        let secret = slot::opener(request.opener)?;
        let _turn = if network {
            self.slow_down(&ctx, clock::now(), false)?;
            let turn = tokio::time::timeout(TURN, self.turn.lock())
                .await
                .map_err(|_| limited(1))?;
            self.slow_down(&ctx, clock::now(), true)?;
            turn
        } else {
            self.turn.lock().await
        };
        let (answer, answered) = oneshot::channel();
        let knock = Knock {
            ctx,
            secret,
            slot: request.slot,
            accept_old_seal: request.accept_old_seal,
            answer,
        };
        let gone = || Error::conflict("not_sealed", "the server is not sealed, or is stopping");
        self.knocks.send(knock).await.map_err(|_| gone())?;
        let opened = answered.await.map_err(|_| gone())?;
        match (opened, network) {
            (Ok(slot), _) => Ok(Unsealed { slot }),
            (Err(error), false) => Err(error),
            // Labels of slots and names of files are for those who may read them.
            (Err(error), true) => Err(match error.kind {
                Kind::Denied => Error::denied(error.code, "this does not open the server"),
                kind => Error::new(
                    kind,
                    error.code,
                    "the server cannot be opened as it is; `strongroom unseal` on its machine says why",
                ),
            }),
        }
    }

    /// Whether it can be opened over the network.
    pub fn unseals_from_afar(&self) -> bool {
        self.facts.config.unseal.network
    }

    fn may_unseal(&self, ctx: &Context, uid: Option<u32>) -> Result<Identity> {
        if ctx.source.listener == Listener::Socket {
            let local = session::local(&self.facts.config, uid.unwrap_or(u32::MAX))?;
            return match local {
                Identity::Local {
                    role: Role::Superuser,
                    ..
                } => Ok(local),
                _ => Err(Error::denied(
                    "denied",
                    "only a superuser unseals the server",
                )),
            };
        }
        if !self.unseals_from_afar() {
            return Err(Error::denied(
                "unseal_local",
                "this server is unsealed on its own machine alone (unseal.network in strongroom.toml)",
            ));
        }
        Ok(Identity::Nobody)
    }

    /// At most so many attempts of one address in a minute, whatever comes of them. `counted`: this is
    /// one.
    fn slow_down(&self, ctx: &Context, now: Timestamp, counted: bool) -> Result<()> {
        let minute = 60 * Timestamp::SECOND;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back forgets rather than locks out.
        let counts = |at: &Timestamp| (0..minute).contains(&(now.0 - at.0));
        if recent.len() >= ADDRESSES {
            recent.retain(|_, times| times.back().is_some_and(counts));
        }
        if recent.len() >= ADDRESSES {
            let oldest = recent.iter().min_by_key(|(_, times)| times.back().copied());
            if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                recent.remove(&oldest);
            }
        }
        let times = recent.entry(ctx.neighbour()).or_default();
        times.retain(counts);
        if times.len() >= A_MINUTE {
            let oldest = times.front().map_or(now.0, |at| at.0);
            let left = (oldest + minute - now.0) / Timestamp::SECOND + 1;
            return Err(limited(u32::try_from(left).unwrap_or(60)));
        }
        if counted {
            times.push_back(now);
        }
        Ok(())
    }

    /// Adds a refused attempt to the file.
    pub fn keep(&self, ctx: &Context, error: &Error) -> Result<()> {
        let mut kept = kept(&self.folder)?;
        while kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Event {
            outcome: Outcome::Refused,
            detail: error.code.to_owned(),
            ..ctx.event(
                UNSEAL,
                object("server", self.facts.instance, &self.facts.config.fqdn),
                clock::now(),
            )
        });
        let json = serde_json::to_vec(&kept).map_err(|why| Error::internal(why.to_string()))?;
        folder::replace(&self.folder.attempts(), &json)
    }
}

/// What was tried while the server was sealed. A file that cannot be read is set aside.
fn kept(folder: &Folder) -> Result<VecDeque<Event>> {
    let path = folder.attempts();
    if !path.exists() {
        return Ok(VecDeque::new());
    }
    match serde_json::from_slice(&folder::read(&path, MOST_BYTES)?) {
        Ok(attempts) => Ok(attempts),
        Err(why) => {
            let aside = path.with_extension("damaged");
            log::warn!(error:% = why, kept = aside.display().to_string().as_str(); "attempts.json is damaged; what was in it is missing from the audit");
            folder::rename(&path, &aside)?;
            Ok(VecDeque::new())
        }
    }
}

impl Service {
    /// Enters in the audit what was tried while the server was sealed. Cut off half-way, it enters
    /// some of it twice, with the same request id.
    pub async fn note_attempts(&self, folder: &Folder) -> Result<()> {
        let attempts = kept(folder)?;
        if attempts.is_empty() {
            return Ok(());
        }
        for attempt in attempts {
            self.store.access().record(attempt)?;
        }
        self.store.access().flush().await?;
        folder::remove(&folder.attempts())
    }

    /// Who opened the server, and with which slot.
    pub async fn note_unsealed(&self, ctx: &Context, slot: SlotId, at: Timestamp) -> Result<()> {
        let server = object("server", self.facts.instance, &self.facts.config.fqdn);
        let mut change = self.change(ctx, UNSEAL, server, at);
        change.event.detail = format!("slot {slot}");
        self.store.note(change).await
    }

    /// Closes the store and forgets the keys: requests taken on are finished, then the program starts
    /// anew, sealed.
    pub async fn seal(self: &Arc<Self>, ctx: &Context) -> Result<()> {
        const VERB: &str = "server.seal";
        let server = || object("server", self.facts.instance, &self.facts.config.fqdn);
        self.allow(ctx, Action::Seal, &Target::Server, VERB, server())?;
        let change = self.change(ctx, VERB, server(), clock::now());
        let event = change.event.clone();
        let this = Arc::clone(self);
        // Goes on if the caller does not wait: what is in the audit is done.
        let sealing = tokio::spawn(async move {
            match this.store.note(change).await {
                // A disk without room for changes is no reason to stay open.
                Err(error) if this.store.room().is_err() => {
                    log::warn!(code = error.code; "the sealing stands in the log of releases: the disk takes no changes");
                    this.store.access().record(event)?;
                }
                noted => noted?,
            }
            this.sealing.notify_one();
            Ok(())
        });
        sealing
            .await
            .map_err(|error| Error::internal(error.to_string()))?
    }

    /// Ends everyone's session, when no more can begin.
    pub async fn end_sessions(&self) -> Result<()> {
        self.store.end_sessions().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::crypto::x509::{self, InstanceIdentity};
    use crate::model::id::{Fingerprint, InstanceId, RequestId};
    use crate::service::caller::Source;
    use crate::service::tls::files::Files;
    use crate::service::tls::shown::OwnLeaf;

    fn gate(folder: &std::path::Path) -> Gate {
        let facts = Facts {
            instance: InstanceId::new(),
            server_fingerprint: Fingerprint([0; 32]),
            ca_pem: String::new(),
            config: Config::first("localhost").unwrap(),
            client_listen: String::new(),
            gui_listen: String::new(),
            health_listen: String::new(),
        };
        let board = Arc::new(Board::new());
        let identity = InstanceIdentity::create(facts.instance, clock::now()).unwrap();
        let leaf = identity.issue_leaf("localhost", &[], 30, clock::now());
        let leaf = leaf.unwrap();
        let chain = x509::parse_certificate_pem(leaf.cert_pem.as_bytes()).unwrap();
        let own = OwnLeaf {
            info: x509::inspect(&chain[0]).unwrap(),
            cert_pem: leaf.cert_pem,
            key_pem: leaf.key_pem,
        };
        let (shown, _) = Shown::load(Files::new(folder.join("tls"), None), own, true).unwrap();
        let folder = Folder::new(folder);
        let openpgp = Arc::new(OpenPgp::load(&folder));
        Gate::new(facts, board, Arc::new(shown), openpgp, folder).0
    }

    fn from(address: &str) -> Context {
        Context {
            identity: Identity::Nobody,
            source: Source {
                listener: Listener::Gui,
                address: Some(address.parse().unwrap()),
            },
            request: RequestId::new(),
            reason: String::new(),
            idempotency: None,
        }
    }

    #[test]
    fn an_address_tries_five_times_a_minute() {
        let gate = gate(std::path::Path::new("/nonexistent"));
        let start = Timestamp(1_795_000_000_000_000);
        for _ in 0..A_MINUTE {
            gate.slow_down(&from("192.0.2.1"), start, true).unwrap();
        }
        let error = gate
            .slow_down(&from("192.0.2.1"), start, false)
            .unwrap_err();
        assert_eq!((error.kind, error.retry_after), (Kind::Limited, Some(61)));
        gate.slow_down(&from("192.0.2.2"), start, true).unwrap();
        let later = start.plus(61 * Timestamp::SECOND);
        gate.slow_down(&from("192.0.2.1"), later, true).unwrap();
        // The clock went back: nobody waits for it to come again.
        gate.slow_down(&from("192.0.2.1"), Timestamp(0), true)
            .unwrap();
        for number in 0..2 * ADDRESSES {
            let address = std::net::Ipv4Addr::from(number as u32).to_string();
            gate.slow_down(&from(&address), start, true).unwrap();
        }
        assert!(gate.recent.lock().unwrap().len() <= ADDRESSES);
    }

    #[test]
    fn the_newest_thousand_attempts_are_kept() {
        let folder = std::env::temp_dir().join(format!("strongroom-gate-{}", RequestId::new()));
        std::fs::create_dir(&folder).unwrap();
        let gate = gate(&folder);
        let wrong = Error::denied("wrong_passphrase", "no");
        let first = from("192.0.2.1");
        gate.keep(&first, &wrong).unwrap();
        let many: VecDeque<Event> = kept(&gate.folder)
            .unwrap()
            .into_iter()
            .cycle()
            .take(KEPT)
            .collect();
        std::fs::write(gate.folder.attempts(), serde_json::to_vec(&many).unwrap()).unwrap();
        gate.keep(&from("192.0.2.2"), &wrong).unwrap();
        let kept = kept(&gate.folder).unwrap();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.back().unwrap().actor.source, "192.0.2.2");
        assert_eq!(kept.back().unwrap().detail, "wrong_passphrase");
        std::fs::write(gate.folder.attempts(), "[{").unwrap();
        gate.keep(&first, &wrong).unwrap();
        assert_eq!(super::kept(&gate.folder).unwrap().len(), 1);
        assert!(folder.join("attempts.damaged").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
