//! The public face: three listeners (clients, GUI, admin socket) and the health listener. It parses,
//! asks one verb, and replies. It never decides who may do what, and never touches the store.

mod body;
mod call;
mod caller;
mod connections;
mod door;
pub mod fuzz;
mod headers;
pub mod health;
mod json;
mod listen;
pub mod openapi;
mod query;
mod reply;
pub mod routes;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{Semaphore, watch};

use crate::error::Result;
use crate::model::id::Fingerprint;
use crate::service::caller::Listener;
use crate::service::gate::Gate;

pub use listen::{Bound, BoundSocket, Listeners, Serving};

/// Every bound on what others may use up, in one place.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte to the end of its headers (HTTP/1.1).
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Without any progress while an answer waits to be taken.
    pub stalled: Duration,
    /// After we closed: what the peer still sends is read and dropped, so that it reads our answer
    /// before it learns that nobody listens.
    pub linger: Duration,
    /// For a request's body, and a second more for each `body_rate` bytes that came.
    pub body: Duration,
    pub body_rate: usize,
    /// For the requests taken on, when the server stops.
    pub drain: Duration,
    /// A request's line and headers; there may be 100 of them (hyper's own bound).
    pub head_bytes: usize,
    /// A JSON body. A deposit's is `deposit.max_bytes`.
    pub json_bytes: usize,
    /// Bodies in memory, of callers who proved who they are, and of all others.
    pub bodies_known: usize,
    pub bodies_unknown: usize,
    /// Open connections a listener; beyond it idle ones are closed, the longest idle first.
    pub connections: usize,
    /// Open connections an address (IPv6: a /64), but for loopback.
    pub per_address: u32,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stalled: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            body: Duration::from_secs(30),
            body_rate: 32 << 10,
            drain: Duration::from_secs(20),
            head_bytes: 16 << 10,
            json_bytes: 64 << 10,
            bodies_known: 256 << 20,
            bodies_unknown: 16 << 20,
            connections: 12_000,
            per_address: 4_000,
            streams: 64,
        }
    }
}

/// How a public listener speaks TLS. `server.rs` builds the configurations, anew after each change
/// of certificates; connections made from then on use the newest.
#[derive(Clone)]
pub struct Tls {
    /// The client listener's asks for a certificate without requiring one.
    pub client: watch::Receiver<Arc<rustls::ServerConfig>>,
    /// Offers `h2` and `http/1.1` by ALPN.
    pub gui: watch::Receiver<Arc<rustls::ServerConfig>>,
    /// The fingerprint of the public key in a certificate (DER).
    pub fingerprint: fn(&[u8]) -> Result<Fingerprint>,
}

/// What a listener's requests share.
struct App {
    gate: Arc<Gate>,
    listener: Listener,
    limits: Limits,
    bodies: Arc<Bodies>,
    /// The API's description, once somebody asked for it.
    description: OnceLock<Bytes>,
}

/// Room for bodies in memory, in units of `UNIT` bytes.
struct Bodies {
    known: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
}

impl Bodies {
    const UNIT: usize = 4 << 10;

    fn new(limits: &Limits) -> Self {
        Self {
            known: Arc::new(Semaphore::new(limits.bodies_known / Self::UNIT)),
            unknown: Arc::new(Semaphore::new(limits.bodies_unknown / Self::UNIT)),
        }
    }
}
