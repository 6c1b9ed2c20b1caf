//! `strongroom serve`: runs the server.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Global, Printer};
use crate::error::Result;
use crate::model::id::SlotId;

/// Port 0 takes a free port.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where clients connect [default: 0.0.0.0:11371]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub client_listen: Option<SocketAddr>,
    /// Where browsers and API programs connect [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub gui_listen: Option<SocketAddr>,
    /// Health and metrics, on a loopback address [default: 127.0.0.1:11380]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub health_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub slot: SlotArgs,
    /// Write a JSON file when requests are answered: client_url, gui_url, health_url,
    /// server_fingerprint, pid
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// What opens the root key.
#[derive(clap::Args, Debug, Default)]
pub struct SlotArgs {
    /// A file with a slot's passphrase (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// A slot's key file
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub key_file: Option<PathBuf>,
    /// Try this slot only
    #[arg(long, value_name = "ID")]
    pub slot: Option<SlotId>,
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    todo!("{args:?} {global:?} {out:?}")
}
