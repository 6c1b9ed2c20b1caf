//! `strongroom doctor`: checks a data folder.

use super::serve::SlotArgs;
use super::{Global, Printer};
use crate::error::Result;

/// Without a slot's secret, what lies under the root key is not checked.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub slot: SlotArgs,
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    todo!("{args:?} {global:?} {out:?}")
}
