//! The health listener: on loopback, in a thread and an async runtime of its own, so that it answers
//! when the server's does not. `/healthz`, `/readyz`, `/metrics`; one request a connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::listen::bind_error;
use crate::error::{Error, Result};
use crate::model::health::{Health, Light, ServerState, Subsystem};
use crate::service::Service;
use crate::service::health::Board;

/// How long the server's runtime has to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// For a request's head, and for all of a connection.
const HEAD: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);

/// Connections at once; for one more the oldest is closed.
const CONNECTIONS: usize = 256;

/// A request's head, in bytes.
const HEAD_BYTES: usize = 8 << 10;

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
        let own = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        self.listener.set_nonblocking(true).map_err(failed)?;
        let listener = {
            let _own = own.enter();
            tokio::net::TcpListener::from_std(self.listener).map_err(failed)?
        };
        let answering = Arc::new(Answering {
            board,
            runtime,
            service,
        });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || own.block_on(run(&listener, &answering, stopped)))
            .map_err(failed)?;
        Ok(HealthServing { stop, thread })
    }
}

/// The health listener at work.
pub struct HealthServing {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl HealthServing {
    /// Stops at once, and waits for that.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the health listener's thread panicked");
        }
    }
}

/// Takes connections until told to stop.
async fn run(
    listener: &tokio::net::TcpListener,
    answering: &Arc<Answering>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut newest: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if newest.len() == CONNECTIONS
                    && let Some(oldest) = newest.pop_front()
                {
                    oldest.abort();
                }
                let task = tokio::spawn(attend(stream, Arc::clone(answering)));
                newest.push_back(task.abort_handle());
            }
            Err(error) => {
                log::warn!(error:% = error; "the health listener could not accept");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn attend(stream: TcpStream, answering: Arc<Answering>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| Arc::clone(&answering).respond(request)),
        );
    match timeout(WHOLE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!(error:% = error; "a health answer did not leave"),
        Err(_) => log::debug!("a connection to the health listener took too long"),
    }
}

struct Answering {
    board: Arc<Board>,
    runtime: Handle,
    service: Arc<OnceLock<Arc<Service>>>,
}

/// An answer: status, content type, body.
struct Answer(StatusCode, &'static str, String);

impl Answering {
    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
        let Answer(status, content_type, body) =
            self.answer(request.method(), request.uri().path()).await;
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    async fn answer(&self, method: &Method, path: &str) -> Answer {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Answer(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "GET only\n".to_owned(),
            );
        }
        match path {
            "/healthz" => {
                let answers = self.ask(async {}).await.is_some();
                let health = with_runtime(self.board.health(), answers);
                let status = match health.state {
                    Light::Red => StatusCode::SERVICE_UNAVAILABLE,
                    Light::Green | Light::Amber => StatusCode::OK,
                };
                let body = serde_json::to_string(&health).unwrap_or_default();
                Answer(status, "application/json", body)
            }
            "/readyz" => {
                let ready = self.board.health().server == ServerState::Serving
                    && self.ask(async {}).await.is_some();
                let (status, text) = if ready {
                    (StatusCode::OK, "ready\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                };
                Answer(status, TEXT, text.to_owned())
            }
            "/metrics" => match self.metrics().await {
                Ok(metrics) => Answer(StatusCode::OK, "text/plain; version=0.0.4", metrics),
                Err(why) => Answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
            },
            _ => Answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "/healthz, /readyz, /metrics\n".to_owned(),
            ),
        }
    }

    async fn metrics(&self) -> std::result::Result<String, String> {
        let service = self
            .service
            .get()
            .map(Arc::clone)
            .ok_or("the server is not open yet\n")?;
        match self.ask(async move { service.metrics_text() }).await {
            Some(Ok(metrics)) => Ok(metrics),
            Some(Err(error)) => Err(format!("{error}\n")),
            None => Err("the runtime does not answer\n".to_owned()),
        }
    }

    /// Runs a question on the server's runtime; none if it does not answer in time.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let asked = self.runtime.spawn(question);
        let abort = asked.abort_handle();
        let answer = timeout(DEADLINE, asked).await;
        abort.abort();
        answer.ok()?.ok()
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
        let asking = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let status = |path| {
            let answer = asking.block_on(answering.answer(&Method::GET, path));
            answer.0.as_u16()
        };
        assert_eq!(
            (status("/healthz"), status("/readyz"), status("/x")),
            (200, 200, 404)
        );
        assert_eq!(status("/metrics"), 503);
        board.red("store", "the disk is full", "free some space");
        assert_eq!((status("/healthz"), status("/readyz")), (503, 200));
        board.green("store");
        let (free, wait) = std::sync::mpsc::sync_channel::<()>(0);
        runtime.spawn(async move { wait.recv().ok() });
        assert_eq!((status("/healthz"), status("/readyz")), (503, 503));
        drop(free);
        board.server(ServerState::Sealed);
        assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
    }
}
