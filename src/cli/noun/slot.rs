//! `strongroom slot`.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;

use crate::api::slot::{AddSlot, OpenSlot, ReplaceSlot, Slot, SlotSecret as Sent, Slots};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::serve::SecretArgs;
use crate::cli::{files, init};
use crate::crypto::seal::{MAX_SECRET, SlotSecret};
use crate::error::{Error, Result};
use crate::model::id::SlotId;

/// What the server takes in one request.
const MOST: usize = 32 << 10;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// The slots of seal.json: what opens the server
    List,
    /// Make another slot; needs a secret that opens the server already
    Add {
        /// What will open it
        kind: KindArg,
        /// For people, such as "safe in Berlin"
        #[arg(long, value_name = "TEXT")]
        label: String,
        /// A file with the new slot's passphrase, or its key file (`-`: stdin)
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        #[command(flatten)]
        opener: SecretArgs,
    },
    /// See whether a secret opens a slot
    Test {
        /// As `slot list` shows it
        id: SlotId,
        #[command(flatten)]
        opener: SecretArgs,
    },
    /// Give a slot another secret; it gets another id
    Replace {
        /// As `slot list` shows it
        id: SlotId,
        /// What will open it; without it, as it was
        #[arg(long)]
        kind: Option<KindArg>,
        /// Another label; without it, the old one
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// A file with the new passphrase, or the new key file (`-`: stdin)
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        #[command(flatten)]
        opener: SecretArgs,
    },
    /// Remove a slot; the last one that opens the server stays
    ///
    /// Its secret opens older copies of seal.json still. Whoever kept one, and the secret, reads older
    /// copies of the folder.
    Remove {
        /// As `slot list` shows it
        id: SlotId,
        #[command(flatten)]
        opener: SecretArgs,
    },
}

/// What opens a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KindArg {
    /// Text that a person remembers or keeps; stretched by Argon2id
    Passphrase,
    /// 16 random bytes or more
    KeyFile,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::List => {
            let slots: Slots = context.admin()?.json(Call::get("/v1/slots")).await?;
            let columns = &["number", "id", "kind", "label", "created"];
            out.table(&slots, &slots.slots, columns, |out, slot| {
                vec![
                    slot.number.to_string(),
                    slot.id.to_string(),
                    match slot.known {
                        true => slot.kind.clone(),
                        false => format!("{} (needs a newer version)", slot.kind),
                    },
                    slot.label.clone(),
                    out.time(slot.created),
                ]
            })
        }
        Verb::Add {
            kind,
            label,
            secret_file,
            opener,
        } => {
            let request = AddSlot {
                label,
                secret: sent(&new_secret(kind, &secret_file)?)?,
                opener: sent(&opener.required()?)?,
            };
            let call = Call::new(Method::POST, "/v1/slots").json(&request)?;
            let slot: Slot = context.admin()?.json(call).await?;
            said(context, &slot, "is there, and opens the server")
        }
        Verb::Test { id, opener } => {
            let request = OpenSlot {
                opener: sent(&opener.required()?)?,
            };
            let call = Call::new(Method::POST, format!("/v1/slots/{id}/test")).json(&request)?;
            let slot: Slot = context.admin()?.json(call).await?;
            said(context, &slot, "opens with this")
        }
        Verb::Replace {
            id,
            kind,
            label,
            secret_file,
            opener,
        } => {
            let mut client = context.admin()?;
            let kind = match kind {
                Some(kind) => kind,
                None => {
                    let slots: Slots = client.json(Call::get("/v1/slots")).await?;
                    kind_of(&slots, id)?
                }
            };
            let request = ReplaceSlot {
                label,
                secret: sent(&new_secret(kind, &secret_file)?)?,
                opener: sent(&opener.required()?)?,
            };
            let call = Call::new(Method::PUT, format!("/v1/slots/{id}")).json(&request)?;
            let slot: Slot = client.json(call).await?;
            said(context, &slot, "has taken its place")
        }
        Verb::Remove { id, opener } => {
            let mut client = context.admin()?;
            let request = OpenSlot {
                opener: sent(&opener.required()?)?,
            };
            out.confirm(&format!(
                "Remove slot {id}? Its secret opens the server no more."
            ))?;
            let call = Call::new(Method::DELETE, format!("/v1/slots/{id}")).json(&request)?;
            let slot: Slot = client.json(call).await?;
            said(
                context,
                &slot,
                "is removed; with its secret, copies of seal.json from before still open",
            )
        }
    }
}

fn said(context: &Context, slot: &Slot, what: &str) -> Result<()> {
    let out = &context.out;
    out.talk(&format!("slot {} (\"{}\") {what}", slot.id, slot.label));
    out.document(slot).map(|_| ())
}

fn kind_of(slots: &Slots, id: SlotId) -> Result<KindArg> {
    let slot = slots.slots.iter().find(|slot| slot.id == id);
    let slot = slot.ok_or_else(|| Error::not_found(format!("no slot has the id {id}")))?;
    match slot.kind.as_str() {
        "passphrase" => Ok(KindArg::Passphrase),
        "key_file" => Ok(KindArg::KeyFile),
        _ => Err(Error::invalid(
            "kind",
            "this version does not make slots of that kind; give --kind",
        )),
    }
}

fn new_secret(kind: KindArg, path: &std::path::Path) -> Result<SlotSecret> {
    match kind {
        KindArg::Passphrase => init::passphrase(path),
        KindArg::KeyFile => Ok(SlotSecret::KeyFile(files::read(path, MAX_SECRET as u64)?)),
    }
}

fn sent(secret: &SlotSecret) -> Result<Sent> {
    let (SlotSecret::Passphrase(bytes) | SlotSecret::KeyFile(bytes)) = secret;
    if bytes.expose().len() > MOST {
        return Err(Error::invalid(
            "secret",
            format!(
                "the secret has {} bytes; over the API up to {MOST} are taken",
                bytes.expose().len()
            ),
        ));
    }
    let text = STANDARD.encode(bytes.expose());
    Ok(match secret {
        SlotSecret::Passphrase(_) => Sent::Passphrase(text),
        SlotSecret::KeyFile(_) => Sent::KeyFile(text),
    })
}
