//! Strongroom: a key manager in one executable. This is its map; imports point down the list only
//! (`tests/it/layers.rs` checks it).

// base
pub mod api;
pub mod clock;
pub mod config;
pub mod error;
pub mod folder;
pub mod model;
pub mod os;
pub mod secret;

// engines
pub mod crypto;
pub mod store;

// durability
pub mod backup;

// service
pub mod service;

// edges
pub mod http;
pub mod sched;

// root
pub mod server;

// commands
pub mod cli;

// what the fuzz targets check, one function a target
pub mod fuzz;
