//! What a server has before it is open: how it says that it is sealed, waits for what opens it, and opens.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::logging::Logging;
use super::node::Node;
use super::running::{Begun, Running, note_start};
use super::unlock::{Unlocked, unlock};
use super::{Failing, Signals, Start, reread, tls};
use crate::clock;
use crate::crypto::seal::SlotSecret;
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::health::ServerState;
use crate::model::id::SlotId;
use crate::sched::Sched;
use crate::secret::Key;
use crate::service::backup;
use crate::service::caller::Context;
use crate::service::gate::{Gate, Knock};
use crate::service::health::Board;
use crate::service::root::Beside;
use crate::service::tls as service_tls;
use crate::service::tls::shown::Shown;
use crate::service::{Facts, Parts, Service};

/// Between two looks at what a sealed server shows.
const MINUTE: Duration = Duration::from_secs(60);
/// The part of health that is about being open.
const SEAL: &str = "seal";

/// What `--ready-file` gets when requests are answered.
#[derive(Serialize)]
struct Ready {
    client_url: String,
    /// None: this machine has no front end.
    gui_url: Option<String>,
    health_url: String,
    server_fingerprint: String,
    pid: u32,
    state: ServerState,
}

/// What a server has before it is open, and keeps when it is.
pub(super) struct House {
    pub(super) start: Start,
    pub(super) facts: Facts,
    pub(super) board: Arc<Board>,
    pub(super) failing: Failing,
    pub(super) gate: Arc<Gate>,
    pub(super) logging: Arc<Logging>,
    pub(super) shown: Arc<Shown>,
}

impl House {
    /// Says that it is sealed, and how to open it.
    pub(super) fn sealed(&self) {
        self.board.server(ServerState::Sealed);
        self.board.amber(
            SEAL,
            "the server is sealed: it has no root key",
            match self.facts.gui_listen.as_str() {
                "" => "`strongroom unseal`",
                _ => "`strongroom unseal`, or the page of the GUI's listener",
            },
        );
        log::warn!(gui = self.facts.gui_listen.as_str(); "sealed: open it with `strongroom unseal`, or on the page of the GUI's listener, where there is one");
        if let Err(error) = self.tell_ready(ServerState::Sealed) {
            log::warn!(error = error.public.as_str(); "the ready file could not be written");
        }
    }

    /// Waits until something opens it; none if it is stopped before.
    pub(super) async fn until_opened(
        self,
        mut knocks: mpsc::Receiver<Knock>,
        signals: &mut Signals,
    ) -> Result<Option<Running>> {
        let mut minutes = tokio::time::interval(MINUTE);
        loop {
            let knock = tokio::select! {
                _ = minutes.tick() => {
                    self.show_again().await;
                    continue;
                }
                _ = signals.terminate.recv() => return Ok(None),
                _ = signals.interrupt.recv() => return Ok(None),
                _ = signals.hangup.recv() => {
                    reread(&self.start, &self.facts.config);
                    continue;
                }
                knock = knocks.recv() => knock,
            };
            let Some(knock) = knock else {
                return Ok(None);
            };
            let unlocked = match self
                .unlock(knock.secret, knock.slot, knock.accept_old_seal)
                .await
            {
                Ok(unlocked) => unlocked,
                Err(error) => {
                    // Here, since whoever knocked may not wait for the answer.
                    if let Err(worse) = self.gate.keep(&knock.ctx, &error) {
                        log::warn!(error:? = worse; "an attempt to unseal could not be kept for the audit");
                    }
                    let _ = knock.answer.send(Err(error));
                    continue;
                }
            };
            let slot = unlocked.slot;
            let opened = self.open(unlocked, Some(knock.ctx)).await;
            let _ = knock.answer.send(match &opened {
                Ok(_) => Ok(slot),
                Err(error) => Err(Error::new(error.kind, error.code, error.public.clone())),
            });
            return opened.map(Some);
        }
    }

    /// Says whether what the listeners should show is shown, and tries it again if not.
    async fn show_again(&self) {
        if self.shown.faults().of_files().is_some() {
            let shown = Arc::clone(&self.shown);
            if let Err(error) = tokio::task::spawn_blocking(move || shown.reload()).await {
                log::error!(error:% = error; "certificates were not read anew");
            }
        }
        match self.shown.faults().of_files() {
            Some(why) => self.board.red(
                service_tls::BOARD,
                &service_tls::not_shown(why),
                service_tls::MEND,
            ),
            None => self.board.green(service_tls::BOARD),
        }
    }

    async fn unlock(
        &self,
        secret: SlotSecret,
        slot: Option<SlotId>,
        accept_old_seal: bool,
    ) -> Result<Unlocked> {
        let folder = self.start.folder.clone();
        let unlocking = tokio::task::spawn_blocking(move || {
            unlock(&folder, &secret, slot, accept_old_seal, true, clock::now())
        });
        let unlocked = unlocking
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        match unlocked.older {
            Some(older) if !accept_old_seal => Err(older.refusal()),
            _ => Ok(unlocked),
        }
    }

    /// Starts the store and the service, and lets requests through. `by`: who unsealed it.
    pub(super) async fn open(self, unlocked: Unlocked, by: Option<Context>) -> Result<Running> {
        let (folder, fqdn) = (self.start.folder.clone(), self.facts.config.fqdn.clone());
        let leaf = tls::load(&folder, &unlocked.identity, &fqdn, clock::now())?;
        let not_after = leaf.info.not_after;
        self.shown.opened(leaf)?;
        #[cfg(debug_assertions)]
        if let Some(planted) = unlocked.opened.planted() {
            log::error!("{}", planted.warning());
            self.board
                .red("planted defect", &planted.warning(), "unset the variable");
        }
        let settings = unlocked.opened.settings()?;
        let mut opened = unlocked.opened;
        opened.keep(&self.facts.config.cache);
        let store = opened.start(unlocked.keys, self.failing.reporter(&self.board))?;
        let (sealing, logging) = (Arc::new(Notify::new()), Arc::clone(&self.logging));
        let shown = Arc::clone(&self.shown);
        let service = Arc::new(Service::new(Parts {
            store,
            kek: unlocked.kek,
            kek_version: unlocked.kek_version,
            signer: unlocked.signer,
            tagger: unlocked.tagger,
            board: Arc::clone(&self.board),
            settings,
            folder: folder.clone(),
            beside: Box::new(NodeFile(folder.clone())),
            sealing: Arc::clone(&sealing),
            tls: Arc::clone(&self.shown),
            apply: Box::new(move |name, value| {
                if shown.apply(name, value)? {
                    return Ok(());
                }
                logging.apply(name, value)
            }),
            facts: Facts {
                server_fingerprint: unlocked.identity.fingerprint(),
                ca_pem: unlocked.identity.ca_pem(),
                ..self.facts.clone()
            },
        })?);
        for subsystem in ["store", "audit", "certificates", SEAL] {
            self.board.green(subsystem);
        }
        if let Err(error) = service.note_attempts(&folder).await {
            log::warn!(error:? = error; "attempts to unseal are not in the audit yet");
        }
        if let Err(error) = backup::tidy(&folder) {
            log::warn!(error:? = error; "what a backup left that was cut off is still there");
        }
        let mut unnoted = Some(Begun {
            slot: unlocked.slot,
            generation: unlocked.generation,
            schema: unlocked.schema,
            older: unlocked.older,
            by,
            at: clock::now(),
        });
        note_start(&service, &mut unnoted).await?;
        if let Err(error) = note_generation(&folder, unlocked.generation) {
            log::warn!(error:? = error; "node.json could not be written");
        }
        let shown = Arc::clone(&self.shown);
        let renewal = tls::Renewal::new(folder, unlocked.identity, fqdn, not_after, shown);
        self.gate.open(&service);
        self.board.server(ServerState::Serving);
        Ok(Running {
            sched: Some(Sched::start(&service)),
            service,
            house: self,
            renewal,
            sealing,
            unnoted,
        })
    }

    /// Says where requests are answered.
    pub(super) fn tell_ready(&self, state: ServerState) -> Result<()> {
        let fqdn = &self.facts.config.fqdn;
        let ready = Ready {
            client_url: url("https", fqdn, &self.facts.client_listen),
            gui_url: (!self.facts.gui_listen.is_empty())
                .then(|| url("https", fqdn, &self.facts.gui_listen)),
            health_url: format!("http://{}", self.facts.health_listen),
            server_fingerprint: self.facts.server_fingerprint.to_string(),
            pid: std::process::id(),
            state,
        };
        log::info!(client = ready.client_url.as_str(), gui = ready.gui_url.as_deref().unwrap_or("off"), health = ready.health_url.as_str(), fingerprint = ready.server_fingerprint.as_str(); "{}", match state {
            ServerState::Sealed => "listening, sealed",
            _ => "serving",
        });
        let Some(path) = &self.start.ready_file else {
            return Ok(());
        };
        let text =
            serde_json::to_vec(&ready).map_err(|error| Error::internal(error.to_string()))?;
        write_ready(path, &text)
    }
}

/// Enters in `node.json` which seal.json is the newest.
fn note_generation(folder: &Folder, generation: u64) -> Result<()> {
    let mut node = Node::read(folder)?;
    if node.seal_generation != generation {
        node.seal_generation = generation;
        node.write(folder)?;
    }
    Ok(())
}

/// `node.json`, as the service sees it.
struct NodeFile(Folder);

impl Beside for NodeFile {
    fn node(&self) -> Result<Uuid> {
        Ok(Node::read(&self.0)?.node)
    }

    fn seal_changed(&self, generation: u64) -> Result<()> {
        note_generation(&self.0, generation)
    }

    fn prepare(&self, kek: &Key, next: &Key, version: u32) -> Result<()> {
        let mut node = Node::read(&self.0)?;
        node.prepare(kek, next, version)?;
        node.write(&self.0)
    }

    fn settle(&self, kek: &Key, generation: u64) -> Result<()> {
        let mut node = Node::read(&self.0)?;
        node.settle(kek)?;
        node.seal_generation = generation;
        node.write(&self.0)
    }
}

/// A device or a pipe is written to, not replaced, and so is what lies in /dev.
fn write_ready(path: &Path, text: &[u8]) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|it| !it.is_file() || path.starts_with("/dev")) {
        return std::fs::write(path, text).map_err(|error| folder::failed("write", path, error));
    }
    folder::replace(path, text)
}

/// `listening` is an address and port as bound; clients use the host's name.
fn url(scheme: &str, host: &str, listening: &str) -> String {
    let port = listening.rsplit(':').next().unwrap_or_default();
    match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    }
}
