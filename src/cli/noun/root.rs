//! `strongroom root`.

use std::path::PathBuf;

use hyper::Method;

use super::slot::{SLOTS, sent};
use crate::api::slot::{RootRotated, RotateRoot, Slot};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::{files, init};
use crate::crypto::seal::{MAX_SECRET, SlotSecret};
use crate::error::{Error, Result};

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Make the root key anew, when a slot's secret and seal.json leaked
    ///
    /// The keys under it are wrapped anew, not made anew: whoever has an older copy of the whole folder
    /// keeps them.
    ///
    /// The slots whose secrets are given are there again, and so are recovery slots; all others go. No
    /// deposit is encrypted again, and requests are answered meanwhile.
    Rotate {
        /// A file with a slot's passphrase (`-`: stdin); may be given several times
        #[arg(long, value_name = "FILE")]
        passphrase_file: Vec<PathBuf>,
        /// The key file of a slot, or what is in its credential; may be given several times
        #[arg(long, value_name = "FILE")]
        key_file: Vec<PathBuf>,
        /// The age identity of a recovery slot's recipient (`-`: stdin)
        #[arg(long, value_name = "FILE")]
        slot_identity: Option<PathBuf>,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let Verb::Rotate {
        passphrase_file,
        key_file,
        slot_identity,
    } = verb;
    let mut secrets = Vec::new();
    for path in &passphrase_file {
        secrets.push(init::passphrase(path)?);
    }
    for path in &key_file {
        secrets.push(SlotSecret::KeyFile(files::read(path, MAX_SECRET as u64)?));
    }
    if let Some(path) = &slot_identity {
        secrets.push(SlotSecret::Identity(files::read(path, MAX_SECRET as u64)?));
    }
    if secrets.is_empty() {
        return Err(Error::invalid(
            "opener",
            "give what opens the slots that are to stay: --passphrase-file F, --key-file F, --slot-identity F",
        ));
    }
    let mut client = context.admin()?;
    let mut openers = Vec::new();
    for secret in secrets {
        openers.push(sent(&mut client, SLOTS, secret, None).await?);
    }
    let out = &context.out;
    out.confirm("Make the root key anew? Of the slots, those stay whose secret is given, and recovery slots; all others go.")?;
    let call = Call::new(Method::POST, "/v1/root/rotate").json(&RotateRoot { openers })?;
    let rotated: RootRotated = client.json(call).await?;
    let names = |slots: &[Slot]| {
        let names: Vec<String> = slots
            .iter()
            .map(|slot| format!("{} \"{}\"", slot.kind, slot.label))
            .collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    };
    let fields = [
        ("generation", rotated.generation.to_string()),
        ("open it", names(&rotated.slots)),
        ("gone", names(&rotated.gone)),
    ];
    out.record(&rotated, &fields)
}
