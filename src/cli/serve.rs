//! `strongroom serve`: runs the server.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Global, Printer, files};
use crate::crypto::seal::{MAX_SECRET, SlotSecret};
use crate::error::{Error, Kind, Result};
use crate::folder::Folder;
use crate::model::id::SlotId;
use crate::server::{self, Start, unlock};

/// What `serve` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where clients connect [default: client_listen in strongroom.toml, 0.0.0.0:11371 at first]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub client_listen: Option<SocketAddr>,
    /// Where browsers and API programs connect [default: gui_listen, 0.0.0.0:8443 at first]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub gui_listen: Option<SocketAddr>,
    /// Health and metrics, on a loopback address [default: health_listen, 127.0.0.1:11380 at
    /// first]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub health_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub slot: SlotArgs,
    /// Serve although seal.json was put back from an older copy; a slot that was removed since opens
    /// again. Audited
    #[arg(long)]
    pub accept_old_seal: bool,
    /// Write a JSON file when requests are answered: client_url, gui_url, health_url,
    /// server_fingerprint, pid
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// What opens the root key, and which slot is meant.
#[derive(clap::Args, Debug, Default)]
pub struct SlotArgs {
    #[command(flatten)]
    pub secret: SecretArgs,
    /// Try this slot only, instead of all of the secret's kind
    #[arg(long, value_name = "ID")]
    pub slot: Option<SlotId>,
}

/// A slot's secret.
#[derive(clap::Args, Debug, Default)]
pub struct SecretArgs {
    /// A file with a slot's passphrase (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The key file of a slot
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub key_file: Option<PathBuf>,
    /// The age identity of a recovery slot's recipient (`-`: stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase_file", "key_file"])]
    pub slot_identity: Option<PathBuf>,
}

impl SecretArgs {
    /// The secret that was given.
    pub fn required(&self) -> Result<SlotSecret> {
        self.secret()?.ok_or_else(|| {
            Error::invalid(
                "opener",
                "give what opens a slot that is there: --passphrase-file F, --key-file F or --slot-identity F",
            )
        })
    }

    /// The secret that was given, if one was.
    pub fn secret(&self) -> Result<Option<SlotSecret>> {
        if let Some(path) = &self.passphrase_file {
            return super::init::passphrase(path).map(Some);
        }
        if let Some(path) = &self.key_file {
            let bytes = files::read(path, MAX_SECRET as u64)?;
            return Ok(Some(SlotSecret::KeyFile(bytes)));
        }
        if let Some(path) = &self.slot_identity {
            let bytes = files::read(path, MAX_SECRET as u64)?;
            return Ok(Some(SlotSecret::Identity(bytes)));
        }
        Ok(None)
    }
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    let folder = Folder::new(global.data_dir());
    folder.check_initialised()?;
    let (secret, slot) = match args.slot.secret.secret()? {
        Some(secret) => (secret, args.slot.slot),
        None => match unlock::credential(&folder)? {
            Some((secret, slot)) => (secret, Some(slot)),
            None => (ask(out)?, args.slot.slot),
        },
    };
    server::run(Start {
        folder,
        secret,
        slot,
        accept_old_seal: args.accept_old_seal,
        client_listen: args.client_listen,
        gui_listen: args.gui_listen,
        health_listen: args.health_listen,
        ready_file: args.ready_file,
    })
}

/// Asks on the terminal, without echo.
fn ask(out: &Printer) -> Result<SlotSecret> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(
            Kind::Sealed,
            "no_slot_secret",
            "nothing was given that opens a slot: --passphrase-file F or --key-file F, or start it on a terminal to be asked",
        ));
    }
    out.talk("Passphrase of a slot:");
    let typed = rpassword::read_password().map_err(|error| Error::internal(error.to_string()))?;
    Ok(SlotSecret::passphrase_from_file(typed.into_bytes()))
}
