//! OpenPGP, through the `pgp` crate: the server's own identity, and nothing that signs for others.

mod identity;

pub use identity::{Made, Public, generate, public_half, read_public};
