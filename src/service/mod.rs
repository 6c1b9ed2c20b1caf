//! The only door to what the server holds: verbs per noun. Each verb asks `access.rs`, then runs one
//! transaction with its event, or reads.

pub mod access;
pub mod audit;
pub mod caller;
pub mod client;
pub mod deposit;
pub mod health;
pub mod org;
pub mod role;
pub mod server;
pub mod session;
pub mod setting;
pub mod token;
pub mod user;

/// What a list takes.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Filters (docs/formats/filter.md); all must hold.
    pub filters: Vec<String>,
    pub cursor: Option<String>,
    pub limit: Option<u32>,
}

/// Everything a running server holds.
pub struct Service {}

impl Service {
    /// SHA-256 over parts, each after its length, so that moving a byte from one to the next counts.
    pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
        todo!()
    }
}
