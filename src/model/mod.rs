//! Plain nouns: what the program speaks of, parsed into types that cannot be wrong. No I/O.

pub mod audit;
pub mod backup;
pub mod client;
pub mod cron;
pub mod deposit;
pub mod filter;
pub mod group;
pub mod health;
pub mod host;
pub mod host_group;
pub mod id;
pub mod job;
pub mod org;
pub mod page;
pub mod quota;
pub mod recipient;
pub mod role;
pub mod schedule;
pub mod setting;
#[cfg(test)]
mod testing;
pub mod token;
pub mod user;
pub mod window;
