//! JSON requests and replies: what `http` speaks and `cli` reads. Nouns that travel as they are
//! stand in `model`; here is what only exists on the wire.

pub mod audit;
pub mod backup;
pub mod client;
pub mod deposit;
pub mod error;
pub mod group;
pub mod host;
pub mod host_group;
pub mod job;
pub mod org;
pub mod org_key;
pub mod recipient;
pub mod role;
pub mod schedule;
pub mod seal;
pub mod server;
pub mod session;
pub mod setting;
pub mod slot;
pub mod tls;
pub mod token;
pub mod user;
pub mod user_certificate;

/// Why a change is made; goes into its event. Any request may carry it.
pub const REASON: &str = "strongroom-reason";
/// Makes a retry return the first answer; 64 bytes at most, kept for 24 hours per caller.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Stands in every answer and in every log line of the request.
pub const REQUEST_ID: &str = "strongroom-request-id";
