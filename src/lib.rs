//! Strongroom: a key manager in one executable. This is its map; imports point down the list only
//! (`tests/it/layers.rs` checks it).

// base
pub mod api;
pub mod clock;
pub mod error;
pub mod model;
pub mod secret;

// service
pub mod service;

// edges
pub mod http;
