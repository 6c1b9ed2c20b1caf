//! Builds everything, hands it down, and stops it in order.

mod house;
pub mod init;
mod logging;
pub(crate) mod node;
pub mod restore;
pub mod rollback;
mod running;
pub mod tls;
pub mod unlock;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::config::Config;
use crate::crypto::seal::SlotSecret;
use crate::crypto::x509;
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::http::health::HealthBound;
use crate::http::{Bound, BoundSocket, Limits, Listeners, Tls};
use crate::model::audit::{Object, Outcome};
use crate::model::health::ServerState;
use crate::model::id::SlotId;
use crate::os;
use crate::service::gate::Gate;
use crate::service::health::Board;
use crate::service::openpgp::OpenPgp;
use crate::service::tls::shown::Shown;
use crate::service::{Facts, Service};
use crate::store::Change;
use house::House;
use logging::Logging;
use node::Node;
use running::{Why, end};
use unlock::{Unlocked, unlock};

pub const MOST_CONFIG: u64 = 1 << 20;

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
    restore::settle(&start.folder, clock::now())?;
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
    let is_sealed = unlocked.is_none();
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
        gui_listen: sealed.gui.map_or_else(String::new, |gui| gui.to_string()),
        health_listen: sealed.health.to_string(),
        config,
    };
    let board = Arc::new(Board::new());
    let files = tls::files(&start.folder, &facts.config);
    let (shown, configs) = Shown::load(files, leaf, is_sealed)?;
    let shown = Arc::new(shown);
    let configs = Tls {
        client: configs.client,
        gui: configs.gui,
        fingerprint: x509::spki_fingerprint,
    };
    let (gate, knocks) = Gate::new(
        facts.clone(),
        Arc::clone(&board),
        Arc::clone(&shown),
        Arc::new(OpenPgp::load(&start.folder)),
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
        shown,
    };
    let serving;
    let running = match unlocked {
        Some(unlocked) => {
            let running = house.open(unlocked, None).await?;
            serving = listeners.serve(&running.house.gate, &configs, Limits::default(), &stopping);
            Ok(Some(running))
        }
        None => {
            serving = listeners.serve(&house.gate, &configs, Limits::default(), &stopping);
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
    if let Some(running) = &running {
        running.service.end_feeds();
    }
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
        gui: config
            .roles
            .frontend
            .then(|| Bound::bind(config.gui_listen, "gui_listen"))
            .transpose()?,
        sockets,
    };
    Ok((listeners, health))
}

/// How the program starts anew when the server is sealed: as it was, but for what opens it.
struct Sealed {
    root: PathBuf,
    client: SocketAddr,
    gui: Option<SocketAddr>,
    health: SocketAddr,
    ready_file: Option<PathBuf>,
}

impl Sealed {
    fn of(start: &Start, listeners: &Listeners, health: SocketAddr) -> Self {
        Self {
            root: start.folder.root().to_owned(),
            client: listeners.client.address(),
            gui: listeners.gui.as_ref().map(Bound::address),
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
            ("--client-listen", Some(self.client)),
            ("--gui-listen", self.gui),
            ("--health-listen", Some(self.health)),
        ] {
            if let Some(address) = address {
                again.arg(option).arg(address.to_string());
            }
        }
        if let Some(path) = self.ready_file {
            again.arg("--ready-file").arg(path);
        }
        Error::internal("the program could not be started anew").because(again.exec())
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
