//! A backup's form (docs/formats/backup.md): what is written into one, and what is read out of one.
//! Who asks for it, where it lies and what becomes of older ones is not known here.

pub mod file;
pub mod manifest;
pub mod peel;
#[cfg(debug_assertions)]
pub mod planted;
pub mod read;
pub mod rolling;
pub mod unpack;
pub mod write;

pub use manifest::Manifest;
