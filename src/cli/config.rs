//! `strongroom config`: what `strongroom.toml` says.

use super::{Global, Printer};
use crate::error::Result;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Read strongroom.toml and say what is wrong with it
    Check,
    /// Print what holds, defaults included
    Show,
}

pub fn run(verb: Verb, global: &Global, out: &Printer) -> Result<()> {
    todo!("{verb:?} {global:?} {out:?}")
}
