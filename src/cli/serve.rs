//! `strongroom serve`: runs the server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Global, Printer, files};
use crate::crypto::seal::{MAX_SECRET, SlotSecret};
use crate::error::{Error, Result};
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
    /// Start sealed, whatever could open it; `strongroom unseal` or the page of the GUI's listener opens
    /// it
    #[arg(long, conflicts_with_all = ["passphrase_file", "key_file", "slot_identity", "slot"])]
    pub sealed: bool,
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

    /// The secret that was given, or is typed on a terminal.
    pub fn required_or_typed(&self, out: &Printer) -> Result<SlotSecret> {
        match self.secret()? {
            Some(secret) => Ok(secret),
            None => ask(out, "Passphrase of a slot:")?.map_or_else(|| self.required(), Ok),
        }
    }

    /// The option that was given, and its file.
    pub fn file(&self) -> Option<(&'static str, &Path)> {
        let options = [
            ("--passphrase-file", &self.passphrase_file),
            ("--key-file", &self.key_file),
            ("--slot-identity", &self.slot_identity),
        ];
        options
            .into_iter()
            .find_map(|(option, path)| Some((option, path.as_deref()?)))
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
    let (secret, slot) = source(&args, &folder, out)?;
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

/// What opens the server: what was given, else a credential of systemd, else what is typed. None: the
/// server is sealed at first.
fn source(
    args: &Args,
    folder: &Folder,
    out: &Printer,
) -> Result<(Option<SlotSecret>, Option<SlotId>)> {
    if args.sealed {
        return Ok((None, None));
    }
    if let Some(secret) = args.slot.secret.secret()? {
        return Ok((Some(secret), args.slot.slot));
    }
    if let Some(secret) = unlock::credential(folder)? {
        return Ok((Some(secret), args.slot.slot));
    }
    let typed = ask(out, "Passphrase of a slot (none: start sealed):")?;
    Ok((typed, args.slot.slot))
}

/// Asks on the terminal, without echo. Nothing typed, or no terminal: none.
fn ask(out: &Printer, prompt: &str) -> Result<Option<SlotSecret>> {
    let typed = out.ask_secret(prompt)?;
    Ok(typed.map(|typed| SlotSecret::passphrase_from_file(typed.expose().clone().into_bytes())))
}
