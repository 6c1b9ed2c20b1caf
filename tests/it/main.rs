//! The integration tests: the real program, over its real listeners, with real peers.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod clients;
mod deposits;
mod fuzz;
mod harness;
mod hostile;
mod page;
mod readme;
mod tour;
mod vault;
