//! Builds everything, hands it down, and stops it in order.

pub mod init;
mod logging;
pub(crate) mod node;
pub mod tls;
pub mod unlock;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::config::Config;
use crate::crypto::seal::SlotSecret;
use crate::crypto::x509;
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::http::health::{HealthBound, HealthServing};
use crate::http::{Bound, BoundSocket, Limits, Listeners, Tls};
use crate::model::audit::{Object, Outcome};
use crate::model::health::ServerState;
use crate::model::id::SlotId;
use crate::os;
use crate::service::health::Board;
use crate::service::{Facts, Parts, Service};
use crate::store::Change;
use logging::Logging;
use node::Node;
use unlock::{Older, Unlocked, unlock};

const MOST_CONFIG: u64 = 1 << 20;
/// Upkeep that costs little.
const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks at the disk and the access log.
const LOOK: Duration = Duration::from_secs(5);
/// Minutes between checkpoints of the audit.
const CHECKPOINT_MINUTES: u32 = 60;

/// How a server is started.
pub struct Start {
    pub folder: Folder,
    pub secret: SlotSecret,
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
pub fn run(start: Start) -> Result<()> {
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
    let unlocked =
        unlock(&start.folder, &start.secret, start.slot, clock::now()).map_err(stays_sealed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("async")
        .build()
        .map_err(|error| Error::internal(error.to_string()))?;
    match unlocked.older {
        Some(older) if !start.accept_old_seal => runtime.block_on(refuse(unlocked, older)),
        _ => runtime.block_on(serve(start, config, unlocked, logging)),
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
async fn refuse(unlocked: Unlocked, older: Older) -> Result<()> {
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

async fn serve(start: Start, config: Config, unlocked: Unlocked, logging: Logging) -> Result<()> {
    let mut signals = Signals::listen()?;
    // Ports first: a taken one must not cost a start of everything else.
    let health = HealthBound::bind(config.health_listen, "health_listen")?;
    let mut sockets = vec![BoundSocket::bind(&start.folder.socket())?];
    if let Some(path) = &config.admin.socket {
        sockets.push(BoundSocket::bind_for_all(path)?);
    }
    let listeners = Listeners {
        client: Bound::bind(config.client_listen, "client_listen")?,
        gui: Bound::bind(config.gui_listen, "gui_listen")?,
        sockets,
    };
    let leaf = tls::load(
        &start.folder,
        &unlocked.identity,
        &config.fqdn,
        clock::now(),
    )?;
    let board = Arc::new(Board::new());
    let failing = Failing::default();
    let facts = Facts {
        instance: unlocked.instance,
        server_fingerprint: unlocked.identity.fingerprint(),
        ca_pem: unlocked.identity.ca_pem(),
        client_listen: listeners.client.address().to_string(),
        gui_listen: listeners.gui.address().to_string(),
        health_listen: health.address().to_string(),
        config: config.clone(),
    };
    let ready = Ready {
        client_url: url("https", &config.fqdn, listeners.client.address()),
        gui_url: url("https", &config.fqdn, listeners.gui.address()),
        health_url: url("http", &health.address().ip().to_string(), health.address()),
        server_fingerprint: facts.server_fingerprint.to_string(),
        pid: std::process::id(),
    };
    #[cfg(debug_assertions)]
    if let Some(planted) = unlocked.opened.planted() {
        log::error!("{}", planted.warning());
        board.red("planted defect", &planted.warning(), "unset the variable");
    }
    let settings = unlocked.opened.settings()?;
    let store = unlocked
        .opened
        .start(unlocked.keys, failing.reporter(&board))?;
    let service = Arc::new(Service::new(Parts {
        store,
        kek: unlocked.kek,
        signer: unlocked.signer,
        tagger: unlocked.tagger,
        board: Arc::clone(&board),
        settings,
        folder: start.folder.clone(),
        leaf_sha256: leaf.sha256,
        apply: Box::new(move |name, value| logging.apply(name, value)),
        facts,
    })?);
    for subsystem in ["store", "audit", "certificates"] {
        board.green(subsystem);
    }
    let known = Arc::new(OnceLock::new());
    let _ = known.set(Arc::clone(&service));
    let health = health.serve(Arc::clone(&board), tokio::runtime::Handle::current(), known)?;
    let mut unnoted = Some(format!(
        "version {}, slot {}",
        env!("CARGO_PKG_VERSION"),
        unlocked.slot
    ));
    note_start(&service, &mut unnoted).await?;
    if let Err(error) = note_seal(&start.folder, &service, unlocked.generation).await {
        log::warn!(error:? = error; "the generation of seal.json could not be noted");
    }
    let (stop, stopping) = watch::channel(false);
    let (renewal, shown) = tls::Renewal::new(
        start.folder.clone(),
        unlocked.identity,
        config.fqdn.clone(),
        leaf,
    );
    let serving = listeners.serve(
        &service,
        &Tls {
            client: shown.client,
            gui: shown.gui,
            fingerprint: x509::spki_fingerprint,
        },
        Limits::default(),
        &stopping,
    );
    board.server(ServerState::Serving);
    log::info!(client = ready.client_url.as_str(), gui = ready.gui_url.as_str(), health = ready.health_url.as_str(), fingerprint = ready.server_fingerprint.as_str(); "serving");
    if let Some(path) = &start.ready_file {
        let text =
            serde_json::to_vec(&ready).map_err(|error| Error::internal(error.to_string()))?;
        write_ready(path, &text)?;
    }
    let mut running = Running {
        service,
        start,
        config,
        renewal,
        failing: failing.clone(),
        unnoted,
    };
    running.until_stopped(&mut signals).await;
    board.server(ServerState::Stopping);
    log::info!("stopping: what was taken on is finished");
    let _ = stop.send(true);
    serving.ended().await;
    finish(running.service, health, &failing).await
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
    start: Start,
    config: Config,
    renewal: tls::Renewal,
    failing: Failing,
    /// What the event of the start says, until the disk takes it.
    unnoted: Option<String>,
}

impl Running {
    /// Works off what comes up while it serves.
    async fn until_stopped(&mut self, signals: &mut Signals) {
        let mut minutes = tokio::time::interval(MINUTE);
        let mut looks = tokio::time::interval(LOOK);
        let mut minute: u32 = 0;
        loop {
            tokio::select! {
                () = self.failing.happened() => return,
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hangup.recv() => reread(&self.start, &self.config),
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

/// The event of the start, and the first checkpoint. A disk without room for changes takes them later:
/// what is there is served all the same.
async fn note_start(service: &Service, unnoted: &mut Option<String>) -> Result<()> {
    let Some(detail) = unnoted else {
        return Ok(());
    };
    if service.room().is_err() {
        log::warn!(
            "the data disk is too full for changes; the start is entered in the audit when there is room"
        );
        return Ok(());
    }
    service.note("server.start", detail).await?;
    *unnoted = None;
    service.checkpoint(&Service::own_context()).await
}

/// What changed seal.json behind the store's back is entered there: an older file that was accepted,
/// or a newer one whose event a crash cut off.
async fn note_seal(folder: &Folder, service: &Service, generation: u64) -> Result<()> {
    service.seal_is(generation).await?;
    let mut node = Node::read(folder)?;
    if node.seal_generation != generation {
        node.seal_generation = generation;
        node.write(folder)?;
    }
    Ok(())
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

/// The last checkpoint, then the store's queues, then the health listener.
async fn finish(service: Arc<Service>, health: HealthServing, failing: &Failing) -> Result<()> {
    if !failing.has_failed() {
        let last = async {
            service.note("server.stop", "").await?;
            service.checkpoint(&Service::own_context()).await
        };
        if let Err(error) = last.await {
            log::warn!(error = format!("{error:?}").as_str(); "the last checkpoint is missing");
        }
    }
    let stopped = tokio::task::spawn_blocking(move || {
        drop(service);
        health.stop();
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

fn url(scheme: &str, host: &str, address: SocketAddr) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    format!("{scheme}://{host}:{}", address.port())
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
