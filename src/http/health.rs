//! The health listener: on loopback, in a thread of its own, so that it answers when the async
//! runtime does not. `/healthz`, `/readyz`, `/metrics`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tiny_http::{Header, Method, Request, Response, Server};
use tokio::runtime::Handle;

use super::listen::bind_error;
use crate::error::{Error, Result};
use crate::model::health::{Health, Light, ServerState, Subsystem};
use crate::service::Service;
use crate::service::health::Board;

/// How long the runtime has to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Requests answered at once; a reader that stalls holds one of them, not the listener.
const AT_ONCE: usize = 8;

/// The health listener's port, taken.
pub struct HealthBound {
    listener: TcpListener,
    address: SocketAddr,
}

impl HealthBound {
    /// # Errors
    /// The address is not loopback (what it says is for this machine), or the port is taken.
    pub fn bind(address: SocketAddr, setting: &str) -> Result<Self> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(Error::unavailable(
                "listen_failed",
                format!(
                    "{address} ({setting}) is not a loopback address; the health listener asks nobody who they are, so it listens on 127.0.0.1 or ::1 alone. Metrics for other machines: /metrics on the GUI's listener"
                ),
            ));
        }
        let bind = || {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|error| bind_error(address, setting, error))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to answer. `service` is filled when there is one; until then there are no metrics.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn serve(
        self,
        board: Arc<Board>,
        runtime: Handle,
        service: Arc<OnceLock<Arc<Service>>>,
    ) -> Result<HealthServing> {
        let failed = |error: io::Error| {
            Error::unavailable(
                "listen_failed",
                format!(
                    "the health listener on {} cannot start: {error}",
                    self.address
                ),
            )
            .because(error)
        };
        let server = Arc::new(open(&self.listener).map_err(failed)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let answering = Arc::new(Answering {
            board,
            runtime,
            service,
            at_once: AtomicUsize::new(0),
        });
        let (listener, current, stop) = (self.listener, Arc::clone(&server), Arc::clone(&stopping));
        let thread = std::thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || run(&listener, current, &answering, &stop))
            .map_err(failed)?;
        Ok(HealthServing {
            server,
            stopping,
            thread,
        })
    }
}

/// The health listener at work.
pub struct HealthServing {
    server: Arc<Server>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl HealthServing {
    /// Stops and waits; within a second.
    pub fn stop(self) {
        self.stopping.store(true, SeqCst);
        self.server.unblock();
        drop(self.server);
        if self.thread.join().is_err() {
            log::error!("the health listener's thread panicked");
        }
    }
}

fn open(listener: &TcpListener) -> io::Result<Server> {
    Server::from_listener(listener.try_clone()?, None).map_err(io::Error::other)
}

/// Takes requests until told to stop. tiny_http ends for good at the first failed accept (no
/// descriptors left), so it is then made anew on the same port.
fn run(
    listener: &TcpListener,
    mut server: Arc<Server>,
    answering: &Arc<Answering>,
    stopping: &AtomicBool,
) {
    while !stopping.load(SeqCst) {
        match server.recv_timeout(Duration::from_secs(1)) {
            Ok(Some(request)) => answering.take(request),
            Ok(None) => {}
            Err(error) => {
                log::warn!(error:% = error; "the health listener could not accept; it starts again");
                std::thread::park_timeout(Duration::from_millis(500));
                match open(listener) {
                    Ok(fresh) => server = Arc::new(fresh),
                    Err(error) => {
                        log::warn!(error:% = error; "the health listener could not start again yet")
                    }
                }
            }
        }
    }
}

struct Answering {
    board: Arc<Board>,
    runtime: Handle,
    service: Arc<OnceLock<Arc<Service>>>,
    at_once: AtomicUsize,
}

/// An answer: status, content type, body.
struct Answer(u16, &'static str, String);

impl Answering {
    fn take(self: &Arc<Self>, request: Request) {
        if self.at_once.fetch_add(1, SeqCst) >= AT_ONCE {
            self.at_once.fetch_sub(1, SeqCst);
            return;
        }
        let this = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("health-answer".to_owned())
            .spawn(move || {
                let Answer(status, content_type, body) =
                    this.answer(request.method(), request.url());
                let mut response = Response::from_string(body).with_status_code(status);
                if let Ok(header) = Header::from_bytes("content-type", content_type) {
                    response.add_header(header);
                }
                if let Err(error) = request.respond(response) {
                    log::debug!(error:% = error; "a health answer did not leave");
                }
                this.at_once.fetch_sub(1, SeqCst);
            });
        if spawned.is_err() {
            self.at_once.fetch_sub(1, SeqCst);
        }
    }

    fn answer(&self, method: &Method, url: &str) -> Answer {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(method, Method::Get | Method::Head) {
            return Answer(405, TEXT, "GET only\n".to_owned());
        }
        match url.split('?').next().unwrap_or_default() {
            "/healthz" => {
                let health = with_runtime(self.board.health(), self.ask(async {}).is_some());
                let status = if health.state == Light::Red { 503 } else { 200 };
                Answer(
                    status,
                    "application/json",
                    serde_json::to_string(&health).unwrap_or_default(),
                )
            }
            "/readyz" => {
                let ready = self.board.health().server == ServerState::Serving
                    && self.ask(async {}).is_some();
                let (status, text) = if ready {
                    (200, "ready\n")
                } else {
                    (503, "not ready\n")
                };
                Answer(status, TEXT, text.to_owned())
            }
            "/metrics" => match self.metrics() {
                Ok(metrics) => Answer(200, "text/plain; version=0.0.4", metrics),
                Err(why) => Answer(503, TEXT, why),
            },
            _ => Answer(404, TEXT, "/healthz, /readyz, /metrics\n".to_owned()),
        }
    }

    fn metrics(&self) -> std::result::Result<String, String> {
        let service = self
            .service
            .get()
            .map(Arc::clone)
            .ok_or("the server is not open yet\n")?;
        match self.ask(async move { service.metrics_text() }) {
            Some(Ok(metrics)) => Ok(metrics),
            Some(Err(error)) => Err(format!("{error}\n")),
            None => Err("the runtime does not answer\n".to_owned()),
        }
    }

    /// Runs a question on the async runtime; none if it does not answer in time.
    fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (send, receive) = sync_channel(1);
        let asked = self.runtime.spawn(async move {
            // The asker may have given up.
            let _ = send.send(question.await);
        });
        let answer = receive.recv_timeout(DEADLINE).ok();
        asked.abort();
        answer
    }
}

fn with_runtime(mut health: Health, answers: bool) -> Health {
    if !answers {
        health.state = Light::Red;
        health.subsystems.push(Subsystem {
            name: "runtime".to_owned(),
            state: Light::Red,
            since: crate::clock::now(),
            reason: format!(
                "the server's tasks have not run for {} seconds",
                DEADLINE.as_secs()
            ),
            next_step: "look for a stalled disk (dmesg, iostat); restart the server if it stays so"
                .to_owned(),
        });
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(runtime: &tokio::runtime::Runtime, board: Arc<Board>) -> Answering {
        Answering {
            board,
            runtime: runtime.handle().clone(),
            service: Arc::default(),
            at_once: AtomicUsize::new(0),
        }
    }

    #[test]
    fn only_loopback_is_listened_on() {
        let error = HealthBound::bind("0.0.0.0:0".parse().unwrap(), "health_listen")
            .err()
            .unwrap();
        assert!(error.public.contains("loopback") && error.public.contains("health_listen"));
        let bound = HealthBound::bind("127.0.0.1:0".parse().unwrap(), "health_listen").unwrap();
        let taken = HealthBound::bind(bound.address(), "health_listen")
            .err()
            .unwrap();
        assert!(taken.public.contains("taken"), "{taken}");
    }

    #[test]
    fn a_red_subsystem_and_a_stuck_runtime_are_503() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let board = Arc::new(Board::new());
        board.server(ServerState::Serving);
        let answering = answering(&runtime, Arc::clone(&board));
        let status = |path| answering.answer(&Method::Get, path).0;
        assert_eq!(
            (status("/healthz"), status("/readyz"), status("/x")),
            (200, 200, 404)
        );
        assert_eq!(status("/metrics"), 503);
        board.red("store", "the disk is full", "free some space");
        assert_eq!((status("/healthz"), status("/readyz")), (503, 200));
        board.green("store");
        let (free, wait) = sync_channel::<()>(0);
        runtime.spawn(async move { wait.recv().ok() });
        assert_eq!((status("/healthz"), status("/readyz")), (503, 503));
        drop(free);
        board.server(ServerState::Sealed);
        assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
    }
}
