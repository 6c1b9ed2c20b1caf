//! Builds everything, hands it down, and stops it in order.

pub mod init;
mod logging;
pub(crate) mod node;
pub mod tls;
pub mod unlock;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::clock;
use crate::config::Config;
use crate::crypto::seal::SlotSecret;
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::http::health::{HealthBound, HealthServing};
use crate::http::{Bound, BoundSocket, Limits, Listeners, Serving};
use crate::model::audit::{Object, Outcome};
use crate::model::health::ServerState;
use crate::model::id::SlotId;
use crate::os;
use crate::secret::Key;
use crate::service::caller::Context;
use crate::service::gate::{Gate, Knock};
use crate::service::health::Board;
use crate::service::root::Beside;
use crate::service::{Facts, Parts, Service};
use crate::store::Change;
use logging::Logging;
use node::Node;
use unlock::{Older, Unlocked, unlock};

const MOST_CONFIG: u64 = 1 << 20;
/// The part of health that is about being open.
const SEAL: &str = "seal";
/// Upkeep that costs little.
const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks at the disk and the access log.
const LOOK: Duration = Duration::from_secs(5);
/// Minutes between checkpoints of the audit.
const CHECKPOINT_MINUTES: u32 = 60;

/// How a server is started.
pub struct Start {
    pub folder: Folder,
    /// What opens a slot; without it the server is sealed at first.
    pub secret: Option<SlotSecret>,
    pub slot: Option<SlotId>,
    /// Serves with a seal.json that was put back from an older copy.
    pub accept_old_seal: bool,
    /// These take the place of what strongroom.toml says.
    pub client_listen: Option<SocketAddr>,
    pub gui_listen: Option<SocketAddr>,
    pub health_listen: Option<SocketAddr>,
    pub ready_file: Option<PathBuf>,
}

/// What `--ready-file` gets when requests are answered.
#[derive(Serialize)]
struct Ready {
    client_url: String,
    gui_url: String,
    health_url: String,
    server_fingerprint: String,
    pid: u32,
    state: ServerState,
}

/// Reads and checks `strongroom.toml`.
pub fn read_config(folder: &Folder) -> Result<Config> {
    let path = folder.config();
    let text = String::from_utf8(folder::read(&path, MOST_CONFIG)?).map_err(|_| {
        Error::invalid(
            "strongroom.toml",
            format!("{} is not UTF-8", path.display()),
        )
    })?;
    Config::parse(&text)
}

/// Serves until it is told to stop (SIGTERM, SIGINT) or the store fails.
pub fn run(mut start: Start) -> Result<()> {
    clock::check(clock::now())?;
    start.folder.check_initialised()?;
    let repaired = start.folder.tighten()?;
    start.folder.create()?;
    let _lock = start.folder.lock()?;
    let logging = Logging::start(start.folder.log())?;
    // A panic's message may quote what was being worked on; its place is enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        log::error!(place = place.unwrap_or_default().as_str(); "a thread panicked");
    }));
    for repair in repaired {
        log::warn!(path = repair.as_str(); "others could read or change this; repaired");
    }
    if let Err(error) = os::raise_open_files() {
        log::warn!(error = error.to_string().as_str(); "the limit of open files stays as it is");
    }
    let config = config_with(&start)?;
    // Dropped, and so wiped, as soon as it has opened.
    let unlocked = match start.secret.take() {
        Some(secret) => Some(
            unlock(
                &start.folder,
                &secret,
                start.slot,
                start.accept_old_seal,
                true,
                clock::now(),
            )
            .map_err(stays_sealed)?,
        ),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("async")
        .build()
        .map_err(|error| Error::internal(error.to_string()))?;
    let sealed = runtime.block_on(async {
        match unlocked {
            Some(unlocked) if unlocked.older.is_some() && !start.accept_old_seal => {
                refuse(unlocked).await.map(|()| None)
            }
            unlocked => serve(start, config, unlocked, logging).await,
        }
    })?;
    drop(runtime);
    match sealed {
        None => Ok(()),
        Some(sealed) => Err(sealed.begin()),
    }
}

/// To whoever starts a server, a secret that does not open it is a server that stays sealed.
fn stays_sealed(mut error: Error) -> Error {
    if error.code.starts_with("wrong_") {
        error.kind = Kind::Sealed;
    }
    error
}

/// The refusal of an older seal.json stands in the audit: who put it back had the folder.
async fn refuse(unlocked: Unlocked) -> Result<()> {
    let Some(older) = unlocked.older else {
        return Ok(());
    };
    let instance = unlocked.instance;
    let store = unlocked
        .opened
        .start(unlocked.keys, |what| log::error!("{what}"))?;
    let mut event = Service::own_context().event(
        "server.unseal",
        Object {
            kind: "server".to_owned(),
            id: instance.to_string(),
            name: String::new(),
        },
        clock::now(),
    );
    event.outcome = Outcome::Refused;
    event.detail = format!(
        "seal_older: generation {} after {}, slot {}",
        older.found, older.known, unlocked.slot
    );
    if let Err(error) = store.note(Change { event, once: None }).await {
        log::warn!(error:? = error; "the refusal of an older seal.json is missing from the audit");
    }
    Err(older.refusal())
}

fn config_with(start: &Start) -> Result<Config> {
    let mut config = read_config(&start.folder)?;
    config.client_listen = start.client_listen.unwrap_or(config.client_listen);
    config.gui_listen = start.gui_listen.unwrap_or(config.gui_listen);
    config.health_listen = start.health_listen.unwrap_or(config.health_listen);
    Ok(config)
}

async fn serve(
    start: Start,
    config: Config,
    unlocked: Option<Unlocked>,
    logging: Logging,
) -> Result<Option<Sealed>> {
    let mut signals = Signals::listen()?;
    // First: a taken port must not cost a start of everything else.
    let (listeners, health) = bind(&start.folder, &config)?;
    let sealed = Sealed::of(&start, &listeners, health.address());
    let (leaf, server_fingerprint, ca_pem) = match &unlocked {
        Some(it) => (
            tls::load(&start.folder, &it.identity, &config.fqdn, clock::now())?,
            it.identity.fingerprint(),
            it.identity.ca_pem(),
        ),
        None => {
            let sealed = tls::read_sealed(&start.folder)?;
            (sealed.leaf, sealed.server_fingerprint, sealed.ca_pem)
        }
    };
    let facts = Facts {
        instance: Node::read(&start.folder)?.instance,
        server_fingerprint,
        ca_pem,
        client_listen: sealed.client.to_string(),
        gui_listen: sealed.gui.to_string(),
        health_listen: sealed.health.to_string(),
        config,
    };
    let board = Arc::new(Board::new());
    let (show, shown) = tls::Show::new(&leaf);
    let (gate, knocks) = Gate::new(
        facts.clone(),
        Arc::clone(&board),
        leaf.sha256,
        start.folder.clone(),
    );
    let gate = Arc::new(gate);
    let health = health.serve(
        Arc::clone(&board),
        tokio::runtime::Handle::current(),
        gate.opened(),
    )?;
    let (stop, stopping) = watch::channel(false);
    let house = House {
        start,
        facts,
        board,
        failing: Failing::default(),
        gate,
        logging: Arc::new(logging),
        show,
    };
    let serving;
    let running = match unlocked {
        Some(unlocked) => {
            let running = house.open(unlocked, None).await?;
            serving = listeners.serve(&running.house.gate, &shown, Limits::default(), &stopping);
            Ok(Some(running))
        }
        None => {
            serving = listeners.serve(&house.gate, &shown, Limits::default(), &stopping);
            house.sealed();
            house.until_opened(knocks, &mut signals).await
        }
    };
    let (running, why) = match running {
        Ok(Some(mut running)) => match running.house.tell_ready(ServerState::Serving) {
            Ok(()) => {
                let why = running.until_stopped(&mut signals).await;
                (Some(running), Ok(why))
            }
            Err(error) => (Some(running), Err(error)),
        },
        Ok(None) => (None, Ok(Why::Told)),
        Err(error) => (None, Err(error)),
    };
    if let Some(running) = &running {
        running.house.board.server(ServerState::Stopping);
    }
    log::info!("stopping: what was taken on is finished");
    let _ = stop.send(true);
    let sealing = matches!(why, Ok(Why::Sealed));
    end(serving, running, sealing, health).await?;
    // Whoever told it to end meanwhile meant that it ends.
    let again = why? == Why::Sealed && !signals.told_to_end().await;
    Ok(again.then_some(sealed))
}

fn bind(folder: &Folder, config: &Config) -> Result<(Listeners, HealthBound)> {
    let health = HealthBound::bind(config.health_listen, "health_listen")?;
    let mut sockets = vec![BoundSocket::bind(&folder.socket())?];
    if let Some(path) = &config.admin.socket {
        sockets.push(BoundSocket::bind_for_all(path)?);
    }
    let listeners = Listeners {
        client: Bound::bind(config.client_listen, "client_listen")?,
        gui: Bound::bind(config.gui_listen, "gui_listen")?,
        sockets,
    };
    Ok((listeners, health))
}

/// How the program starts anew when the server is sealed: as it was, but for what opens it.
struct Sealed {
    root: PathBuf,
    client: SocketAddr,
    gui: SocketAddr,
    health: SocketAddr,
    ready_file: Option<PathBuf>,
}

impl Sealed {
    fn of(start: &Start, listeners: &Listeners, health: SocketAddr) -> Self {
        Self {
            root: start.folder.root().to_owned(),
            client: listeners.client.address(),
            gui: listeners.gui.address(),
            health,
            ready_file: start.ready_file.clone(),
        }
    }

    /// Puts the program anew in this process's place: all memory, and every key in it, is gone.
    /// Returns only if that fails.
    fn begin(self) -> Error {
        // By its path, so that lists of processes name it as before; an upgrade may have replaced it.
        let program = std::env::current_exe().ok().filter(|path| path.exists());
        let mut again = Command::new(program.unwrap_or_else(|| PathBuf::from("/proc/self/exe")));
        again
            .arg0("strongroom")
            .args(["serve", "--sealed", "--data-dir"])
            .arg(self.root);
        for (option, address) in [
            ("--client-listen", self.client),
            ("--gui-listen", self.gui),
            ("--health-listen", self.health),
        ] {
            again.arg(option).arg(address.to_string());
        }
        if let Some(path) = self.ready_file {
            again.arg("--ready-file").arg(path);
        }
        Error::internal("the program could not be started anew").because(again.exec())
    }
}

/// What a server has before it is open, and keeps when it is.
struct House {
    start: Start,
    facts: Facts,
    board: Arc<Board>,
    failing: Failing,
    gate: Arc<Gate>,
    logging: Arc<Logging>,
    show: tls::Show,
}

impl House {
    /// Says that it is sealed, and how to open it.
    fn sealed(&self) {
        self.board.server(ServerState::Sealed);
        self.board.amber(
            SEAL,
            "the server is sealed: it has no root key",
            "`strongroom unseal`, or the page of the GUI's listener",
        );
        log::warn!(gui = self.facts.gui_listen.as_str(); "sealed: open it with `strongroom unseal`, or on the page of the GUI's listener");
        if let Err(error) = self.tell_ready(ServerState::Sealed) {
            log::warn!(error = error.public.as_str(); "the ready file could not be written");
        }
    }

    /// Waits until something opens it; none if it is stopped before.
    async fn until_opened(
        self,
        mut knocks: mpsc::Receiver<Knock>,
        signals: &mut Signals,
    ) -> Result<Option<Running>> {
        loop {
            let knock = tokio::select! {
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
    async fn open(self, unlocked: Unlocked, by: Option<Context>) -> Result<Running> {
        let (folder, fqdn) = (self.start.folder.clone(), self.facts.config.fqdn.clone());
        let leaf = tls::load(&folder, &unlocked.identity, &fqdn, clock::now())?;
        self.show.put(&leaf);
        #[cfg(debug_assertions)]
        if let Some(planted) = unlocked.opened.planted() {
            log::error!("{}", planted.warning());
            self.board
                .red("planted defect", &planted.warning(), "unset the variable");
        }
        let settings = unlocked.opened.settings()?;
        let store = unlocked
            .opened
            .start(unlocked.keys, self.failing.reporter(&self.board))?;
        let (sealing, logging) = (Arc::new(Notify::new()), Arc::clone(&self.logging));
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
            leaf_sha256: leaf.sha256,
            apply: Box::new(move |name, value| logging.apply(name, value)),
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
        let mut unnoted = Some(Begun {
            slot: unlocked.slot,
            generation: unlocked.generation,
            older: unlocked.older,
            by,
        });
        note_start(&service, &mut unnoted).await?;
        if let Err(error) = note_generation(&folder, unlocked.generation) {
            log::warn!(error:? = error; "node.json could not be written");
        }
        let show = self.show.clone();
        let renewal = tls::Renewal::new(folder, unlocked.identity, fqdn, &leaf, show);
        self.gate.open(&service);
        self.board.server(ServerState::Serving);
        Ok(Running {
            service,
            house: self,
            renewal,
            sealing,
            unnoted,
        })
    }

    /// Says where requests are answered.
    fn tell_ready(&self, state: ServerState) -> Result<()> {
        let fqdn = &self.facts.config.fqdn;
        let ready = Ready {
            client_url: url("https", fqdn, &self.facts.client_listen),
            gui_url: url("https", fqdn, &self.facts.gui_listen),
            health_url: format!("http://{}", self.facts.health_listen),
            server_fingerprint: self.facts.server_fingerprint.to_string(),
            pid: std::process::id(),
            state,
        };
        log::info!(client = ready.client_url.as_str(), gui = ready.gui_url.as_str(), health = ready.health_url.as_str(), fingerprint = ready.server_fingerprint.as_str(); "{}", match state {
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

/// A device or a pipe is written to, not replaced, and so is what lies in /dev.
fn write_ready(path: &Path, text: &[u8]) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|it| !it.is_file() || path.starts_with("/dev")) {
        return std::fs::write(path, text).map_err(|error| folder::failed("write", path, error));
    }
    folder::replace(path, text)
}

/// What a serving server keeps at hand.
struct Running {
    service: Arc<Service>,
    house: House,
    renewal: tls::Renewal,
    sealing: Arc<Notify>,
    /// What is not in the audit yet, until the disk takes it.
    unnoted: Option<Begun>,
}

/// How a server came to be open.
struct Begun {
    slot: SlotId,
    generation: u64,
    /// Set where an older seal.json was taken by name.
    older: Option<Older>,
    /// Who unsealed it; none at a start that opened it.
    by: Option<Context>,
}

/// Why a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Told,
    Sealed,
    Failed,
}

impl Running {
    /// Works off what comes up while it serves.
    async fn until_stopped(&mut self, signals: &mut Signals) -> Why {
        let mut minutes = tokio::time::interval(MINUTE);
        let mut looks = tokio::time::interval(LOOK);
        let mut minute: u32 = 0;
        loop {
            tokio::select! {
                () = self.house.failing.happened() => return Why::Failed,
                () = self.sealing.notified() => return Why::Sealed,
                _ = signals.terminate.recv() => return Why::Told,
                _ = signals.interrupt.recv() => return Why::Told,
                _ = signals.hangup.recv() => reread(&self.house.start, &self.house.facts.config),
                _ = looks.tick() => self.service.report(),
                _ = minutes.tick() => {
                    self.look_after(minute).await;
                    minute = minute.wrapping_add(1);
                }
            }
        }
    }

    /// Each minute. What does not come through is said and tried again.
    async fn look_after(&mut self, minute: u32) {
        let said = |what: &str, outcome: Result<()>| {
            if let Err(error) = outcome {
                log::warn!(error = format!("{error:?}").as_str(); "{what} did not come through");
            }
        };
        said(
            "the start's event",
            note_start(&self.service, &mut self.unnoted).await,
        );
        said("upkeep", self.service.upkeep().await);
        said("the certificate's renewal", self.renew().await);
        if minute > 0 && minute.is_multiple_of(CHECKPOINT_MINUTES) {
            let own = Service::own_context();
            said("the hourly checkpoint", self.service.checkpoint(&own).await);
        }
    }

    async fn renew(&mut self) -> Result<()> {
        const NAME: &str = "certificates";
        let board = self.service.board();
        let renewed = self.renewal.renew_if_due(clock::now());
        let renewed = renewed.inspect_err(|error| {
            let step = "see the server's log; a restart tries again at once";
            board.amber(
                NAME,
                &format!("the certificate could not be renewed: {error}"),
                step,
            );
        })?;
        board.green(NAME);
        let Some(leaf) = renewed else {
            return Ok(());
        };
        self.service.leaf_renewed(leaf);
        let detail = format!("leaf SHA-256 {leaf}");
        self.service.note("certificate.renew", &detail).await
    }
}

/// The events of the start, and the first checkpoint. A disk without room for changes takes them
/// later: what is there is served all the same.
async fn note_start(service: &Service, unnoted: &mut Option<Begun>) -> Result<()> {
    let Some(begun) = unnoted else {
        return Ok(());
    };
    if service.room().is_err() {
        log::warn!(
            "the data disk is too full for changes; the start is entered in the audit when there is room"
        );
        return Ok(());
    }
    let (slot, generation) = (begun.slot, begun.generation);
    match begun.older {
        Some(Older { found, known }) => {
            let by = begun.by.clone().unwrap_or_else(Service::own_context);
            service.note_old_seal(&by, found, known, generation).await?;
            begun.older = None;
        }
        None => service.seal_is(generation).await?,
    }
    if let Some(by) = &begun.by {
        service.note_unsealed(by, slot).await?;
        begun.by = None;
    }
    let version = env!("CARGO_PKG_VERSION");
    let detail = format!("version {version}, slot {slot}");
    service.note("server.start", &detail).await?;
    *unnoted = None;
    service.checkpoint(&Service::own_context()).await
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

/// SIGHUP: says what is wrong with strongroom.toml, and which of its keys need a restart.
fn reread(start: &Start, running: &Config) {
    match config_with(start) {
        Err(error) => {
            log::warn!(error = error.public.as_str(); "strongroom.toml was not taken over")
        }
        Ok(new) => match new.differences(running).as_slice() {
            [] => log::info!("strongroom.toml is as it was"),
            keys => {
                log::warn!(keys = keys.join(", ").as_str(); "strongroom.toml changed; these keys take effect at the next start")
            }
        },
    }
}

/// What was taken on is finished; then the last checkpoint, the store's queues, the health listener.
async fn end(
    serving: Serving,
    running: Option<Running>,
    sealing: bool,
    health: HealthServing,
) -> Result<()> {
    serving.ended().await;
    let failing = running
        .as_ref()
        .map_or_else(Failing::default, |it| it.house.failing.clone());
    if let Some(running) = &running
        && !failing.has_failed()
    {
        if sealing && let Err(error) = running.service.end_sessions().await {
            log::warn!(error:? = error; "sessions outlive the sealing");
        }
        let last = async {
            running.service.note("server.stop", "").await?;
            running.service.checkpoint(&Service::own_context()).await
        };
        if let Err(error) = last.await {
            log::warn!(error = format!("{error:?}").as_str(); "the last checkpoint is missing");
        }
    }
    let stopped = tokio::task::spawn_blocking(move || {
        // The last ones that hold the service, and with it the store.
        health.stop();
        drop(running);
    });
    stopped
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
    if failing.has_failed() {
        return Err(Error::internal("the store failed").because("see the log above"));
    }
    log::info!("stopped");
    Ok(())
}

/// `listening` is an address and port as bound; clients use the host's name.
fn url(scheme: &str, host: &str, listening: &str) -> String {
    let port = listening.rsplit(':').next().unwrap_or_default();
    match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    }
}

/// The store's failure, from whichever thread it comes.
#[derive(Clone, Default)]
struct Failing {
    failed: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

impl Failing {
    /// Turns health red, and ends the process: by the orderly way if that is quick, else at once.
    /// Nothing more may be written, so there is nothing that waiting could save.
    fn reporter(&self, board: &Arc<Board>) -> impl Fn(&str) + Send + Sync + 'static {
        let (failing, board) = (self.clone(), Arc::clone(board));
        move |what| {
            board.red(
                "store",
                what,
                "see the server's log; start the server again once the disk works",
            );
            log::error!("{what}; the server ends");
            if !failing.failed.swap(true, Ordering::SeqCst) {
                failing.notify.notify_one();
                // If the orderly way is stuck, this ends the process.
                let spawned = std::thread::Builder::new()
                    .name("end".to_owned())
                    .spawn(|| {
                        std::thread::park_timeout(Duration::from_secs(3));
                        std::process::exit(1);
                    });
                if spawned.is_err() {
                    std::process::exit(1);
                }
            }
        }
    }

    async fn happened(&self) {
        self.notify.notified().await;
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Whether it was told to end, by now.
    async fn told_to_end(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            () = std::future::ready(()) => false,
        }
    }

    fn listen() -> Result<Self> {
        let listen =
            |kind| signal(kind).map_err(|error| Error::internal(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}
