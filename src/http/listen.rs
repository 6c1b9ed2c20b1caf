//! Listeners: bound early, so that a taken port is a clear error; served until told to stop; ended
//! with what was taken on finished.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::connections::{Connections, Order, Place, TICK, Watched};
use super::door::{Door, Peer};
use super::{App, Bodies, Limits, Tls, routes};
use crate::error::{Error, Result};
use crate::model::id::Fingerprint;
use crate::os;
use crate::service::caller::Listener;
use crate::service::gate::Gate;

const BACKLOG: u32 = 4_096;

/// A TCP port that is ours.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// The admin socket.
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Bound {
    /// Takes the port; `setting` is where the address was set, for the error. Must run within the
    /// async runtime.
    ///
    /// # Errors
    /// The port is taken, needs rights, or the address is not this machine's.
    pub fn bind(address: SocketAddr, setting: &str) -> Result<Self> {
        let bind = || {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|error| bind_error(address, setting, error))
    }

    /// With the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why an address could not be bound, and what to do.
pub(super) fn bind_error(address: SocketAddr, setting: &str, error: io::Error) -> Error {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} ({setting}) is taken by another program; `ss -ltnp` shows which: end it, or set {setting} to another port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{address} ({setting}) needs rights that this process lacks; set {setting} to a port above 1023, or grant CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "{address} ({setting}) is not an address of this machine; set {setting} to one that `ip address` shows, or to 0.0.0.0"
        ),
        _ => format!("{address} ({setting}) cannot be listened on: {error}"),
    };
    Error::unavailable("listen_failed", text).because(error)
}

impl BoundSocket {
    /// The socket in the data folder. Takes the place of whatever socket lies at `path`: whoever
    /// calls holds the folder's lock, so it is a stale one. Must run within the async runtime.
    ///
    /// # Errors
    /// The path is too long for a socket, or its folder cannot be written.
    pub fn bind(path: &Path) -> Result<Self> {
        Self::with_mode(path, 0o600)
    }

    /// The socket that every account can reach; the kernel names each, and most are refused.
    ///
    /// # Errors
    /// Its folder is missing, or others can put a socket of theirs in its place, or another server
    /// answers there.
    pub fn bind_for_all(path: &Path) -> Result<Self> {
        let refused = |why: String| {
            Err(Error::unavailable(
                "listen_failed",
                format!(
                    "the admin socket {} (admin.socket) cannot be made: {why}",
                    path.display()
                ),
            ))
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        match std::fs::metadata(folder) {
            Err(error) => return refused(format!("{}: {error}", folder.display())),
            Ok(it) if it.mode() & 0o022 != 0 || ![0, os::effective_uid()].contains(&it.uid()) => {
                return refused(format!(
                    "others can write to {}, and put a socket of theirs in its place; it must belong to root or the server's account, with mode 0755",
                    folder.display()
                ));
            }
            Ok(_) => {}
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return refused("a server answers there".to_owned());
        }
        Self::with_mode(path, 0o666)
    }

    fn with_mode(path: &Path, mode: u32) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::unavailable(
                "listen_failed",
                format!("the admin socket {} cannot be made: {error}; a socket's path holds up to 107 bytes", path.display()),
            )
            .because(error)
        };
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
        std::fs::rename(&fresh, path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }
}

/// All that is bound, before it is served.
pub struct Listeners {
    pub client: Bound,
    /// None: this machine has no front end.
    pub gui: Option<Bound>,
    pub sockets: Vec<BoundSocket>,
}

/// The listeners at work. They end when they are told to; `ended` waits for that.
pub struct Serving(Vec<JoinHandle<()>>);

impl Listeners {
    /// Serves until `stop` turns true (or its sender goes): then nothing new is accepted, idle
    /// connections close, and requests taken on are finished within `limits.drain`.
    pub fn serve(
        self,
        gate: &Arc<Gate>,
        tls: &Tls,
        limits: Limits,
        stop: &watch::Receiver<bool>,
    ) -> Serving {
        let bodies = Arc::new(Bodies::new(&limits));
        let listening = |listener| {
            let app = Arc::new(App {
                gate: Arc::clone(gate),
                listener,
                limits,
                bodies: Arc::clone(&bodies),
                description: OnceLock::new(),
            });
            Arc::new(Listening {
                router: routes::router(&app),
                app,
                connections: Connections::new(limits),
                fingerprint: tls.fingerprint,
            })
        };
        let tcp = |bound: Bound, listener, config: &watch::Receiver<_>| {
            tokio::spawn(listening(listener).serve_tcp(
                bound.listener,
                config.clone(),
                stop.clone(),
            ))
        };
        let mut serving = vec![tcp(self.client, Listener::Client, &tls.client)];
        serving.extend(self.gui.map(|gui| tcp(gui, Listener::Gui, &tls.gui)));
        serving.extend(self.sockets.into_iter().map(|socket| {
            tokio::spawn(listening(Listener::Socket).serve_socket(socket, stop.clone()))
        }));
        Serving(serving)
    }
}

impl Serving {
    /// Returns when every listener has ended.
    pub async fn ended(self) {
        for task in self.0 {
            if let Err(error) = task.await {
                log::error!(error:% = error; "a listener ended badly");
            }
        }
    }
}

/// One listener at work.
struct Listening {
    router: axum::Router,
    app: Arc<App>,
    connections: Arc<Connections>,
    fingerprint: fn(&[u8]) -> Result<Fingerprint>,
}

impl Listening {
    async fn serve_tcp(
        self: Arc<Self>,
        listener: TcpListener,
        config: watch::Receiver<Arc<rustls::ServerConfig>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut sweeps = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = told(&mut stop) => break,
                _ = sweeps.tick() => self.connections.sweep(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
                        self.take_tcp(stream, from.ip(), acceptor);
                    }
                    Err(error) => self.accept_failed(&error).await,
                },
            }
        }
        drop(listener);
        self.finish().await;
    }

    async fn serve_socket(self: Arc<Self>, bound: BoundSocket, mut stop: watch::Receiver<bool>) {
        let mut sweeps = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = told(&mut stop) => break,
                _ = sweeps.tick() => self.connections.sweep(),
                accepted = bound.listener.accept() => match accepted {
                    Ok((stream, _)) => self.take_socket(stream),
                    Err(error) => self.accept_failed(&error).await,
                },
            }
        }
        drop(bound.listener);
        if let Err(error) = std::fs::remove_file(&bound.path) {
            log::debug!(error:% = error; "the admin socket's file was gone already");
        }
        self.finish().await;
    }

    /// Descriptors or memory ran out, as a rule: make room and wait a moment, rather than spin.
    async fn accept_failed(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        log::warn!(listener:? = self.app.listener, error:% = error; "a connection could not be accepted; closing idle ones");
        self.connections.make_room();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn finish(&self) {
        let mut sweeps = tokio::time::interval(TICK);
        let sweeping = async {
            loop {
                sweeps.tick().await;
                self.connections.sweep();
            }
        };
        let dropped = tokio::select! {
            dropped = self.connections.finish() => dropped,
            () = sweeping => 0,
        };
        if dropped > 0 {
            log::warn!(listener:? = self.app.listener, connections = dropped; "connections were dropped before their requests were done");
        }
    }

    fn take_tcp(self: &Arc<Self>, stream: TcpStream, from: IpAddr, acceptor: TlsAcceptor) {
        let Some(place) = self.connections.admit(Some(from)) else {
            log::debug!(listener:? = self.app.listener, address:% = from; "too many connections; one was refused");
            return;
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = this.attend_tcp(stream, from, acceptor, place).await {
                log::debug!(listener:? = this.app.listener, address:% = from, error:% = error; "a connection ended early");
            }
        });
    }

    async fn attend_tcp(
        self: &Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        acceptor: TlsAcceptor,
        place: Place,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // Boxed, as what follows is: whoever only waits carries neither.
        let stream = tokio::select! {
            stream = Box::pin(acceptor.accept(stream)) => Box::new(stream?),
            _ = place.watch.ordered() => return Err(io::ErrorKind::TimedOut.into()),
        };
        let tls = stream.get_ref().1;
        let presented: Arc<[CertificateDer<'static>]> = match self.app.listener {
            Listener::Client => tls.peer_certificates().unwrap_or_default().into(),
            Listener::Gui | Listener::Socket => Arc::default(),
        };
        let key = presented
            .first()
            .map(|certificate| (self.fingerprint)(certificate))
            .transpose();
        let key = key.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let peer = Peer {
            address: Some(from.to_canonical()),
            key,
            presented,
            uid: None,
        };
        let multiplexed = self.app.listener == Listener::Gui && tls.alpn_protocol() == Some(b"h2");
        place.watch.opened(multiplexed);
        if multiplexed {
            Box::pin(self.attend_http2(stream, peer, place)).await;
        } else {
            self.attend_http1(stream, peer, place).await;
        }
        Ok(())
    }

    fn take_socket(self: &Arc<Self>, stream: UnixStream) {
        let (Some(place), Ok(credentials)) = (self.connections.admit(None), stream.peer_cred())
        else {
            log::warn!(
                "a connection to the admin socket was refused: too many, or the kernel does not name its owner"
            );
            return;
        };
        let peer = Peer {
            uid: Some(credentials.uid()),
            ..Peer::default()
        };
        place.watch.opened(false);
        let this = Arc::clone(self);
        tokio::spawn(async move { this.attend_http1(stream, peer, place).await });
    }

    async fn attend_http1<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        stream: S,
        peer: Peer,
        place: Place,
    ) {
        let watch = Arc::clone(&place.watch);
        let door = self.door(peer, &place);
        let mut stream = Watched::new(stream, Arc::clone(&watch));
        let order = tokio::select! {
            begun = stream.begun() => match begun {
                Ok(()) => Order::Stay,
                Err(error) => {
                    log::debug!(error:% = error; "a connection ended early");
                    return;
                }
            },
            order = watch.ordered() => order,
        };
        if order == Order::Leave {
            return;
        }
        // The watch keeps the deadlines, so hyper needs no timer. 100 headers is hyper's bound.
        let mut connection = Box::pin(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_header_size(self.app.limits.head_bytes)
                .max_buf_size(self.app.limits.head_bytes.max(64 << 10))
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| Arc::clone(&door).answer(request, false)),
                ),
        );
        if order == Order::Finish {
            connection.as_mut().graceful_shutdown();
        }
        loop {
            tokio::select! {
                done = connection.as_mut() => return ended(done),
                order = watch.ordered() => match order {
                    Order::Stay => {}
                    Order::Finish => connection.as_mut().graceful_shutdown(),
                    Order::Leave => return,
                },
            }
        }
    }

    async fn attend_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self: &Arc<Self>,
        stream: S,
        peer: Peer,
        place: Place,
    ) {
        let watch = Arc::clone(&place.watch);
        let door = self.door(peer, &place);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&watch)));
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(self.app.limits.streams)
            .max_header_list_size(u32::try_from(self.app.limits.head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(256 << 10)
            .serve_connection(
                io,
                service_fn(move |request| Arc::clone(&door).answer(request, true)),
            );
        let mut connection = pin!(connection);
        loop {
            tokio::select! {
                done = connection.as_mut() => return ended(done),
                order = watch.ordered() => match order {
                    Order::Stay => {}
                    Order::Finish => connection.as_mut().graceful_shutdown(),
                    Order::Leave => return,
                },
            }
        }
    }

    fn door(&self, peer: Peer, place: &Place) -> Arc<Door> {
        Arc::new(Door {
            app: Arc::clone(&self.app),
            router: self.router.clone(),
            peer: Arc::new(peer),
            watch: Arc::clone(&place.watch),
        })
    }
}

/// Waits for the order to stop, or for the one who could give it to go.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn ended(done: hyper::Result<()>) {
    if let Err(error) = done {
        log::debug!(error:% = error; "a connection ended early");
    }
}
