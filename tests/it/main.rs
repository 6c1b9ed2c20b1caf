//! The integration tests: the real program, over its real listeners, with real peers.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod access;
mod audit;
mod bad_input;
mod bench;
mod certificates;
mod clients;
mod compat;
mod conformance;
mod damage;
mod deposits;
mod dist;
mod fuzz;
mod harness;
mod health;
mod hostile;
mod identity;
mod kept;
mod layers;
mod lists;
mod openpgp;
mod openpgp_files;
mod org_administrators;
mod orgs;
mod page;
mod policies;
mod quotas;
mod races;
mod readers;
mod readme;
mod removal;
mod sealing;
mod segments;
mod sessions;
mod shell;
mod slots;
mod soak;
mod stalling;
mod startup;
mod tampering;
mod totp;
mod tour;
mod upgrade;
mod vault;
mod watch;
