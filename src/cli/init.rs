//! `strongroom init`: makes a data folder.

use std::path::PathBuf;

use super::{Global, Printer};
use crate::error::Result;

/// The folder is --data-dir. The first superuser's password is printed once, unless it was given.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The name by which clients reach this server
    #[arg(long, value_name = "HOST")]
    pub fqdn: String,
    /// A file with the passphrase of the first slot (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: PathBuf,
    /// Make a second slot that this key file opens
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A file with the password of the user `superuser`; made and printed once if left out
    #[arg(long, value_name = "FILE")]
    pub superuser_password_file: Option<PathBuf>,
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    todo!("{args:?} {global:?} {out:?}")
}
