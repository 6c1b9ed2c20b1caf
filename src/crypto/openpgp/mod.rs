//! OpenPGP, through the `pgp` crate: the server's own identity, the public keys of others, and what is
//! encrypted to them.

mod drill;
mod identity;
mod message;
mod public_key;
mod standing;

pub use drill::{Drill, generate_drill, public_of};
pub use identity::{Made, Public, generate, public_half, read_public};
pub use message::{Reader, Writer, check, encrypt, reader, writer};
pub use public_key::{LONGEST, LONGEST_RING, PublicKey, Ring};
pub use standing::{Standing, Trouble};

use crate::error::Error;

fn unusable(why: impl std::fmt::Display) -> Error {
    Error::internal(format!("the OpenPGP key cannot be used: {why}"))
}
