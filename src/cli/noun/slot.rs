//! `strongroom slot`.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;

use crate::api::slot::{
    AddSlot, Credential, NewSlot, OpenSlot, Recovery, ReplaceSlot, Slot, SlotSecret as Sent, Slots,
};
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::serve::SecretArgs;
use crate::cli::{files, init};
use crate::crypto::seal::{MAX_SECRET, SlotSecret, recover};
use crate::error::{Error, Result};
use crate::model::id::SlotId;
use crate::secret::Secret;

/// Where the slots are listed.
pub(super) const SLOTS: &str = "/v1/slots";

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
        #[command(flatten)]
        new: NewArgs,
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
        #[command(flatten)]
        new: NewArgs,
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
    /// A key file that systemd hands to the service, sealed by the machine or its TPM (systemd-creds)
    Credential,
    /// An age recipient, whose identity lies somewhere safe
    Recovery,
}

/// What a new slot is made from.
#[derive(clap::Args, Debug)]
pub struct NewArgs {
    /// Of a passphrase, key file or credential: a file with its bytes (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Of a credential: its name, as in LoadCredentialEncrypted=
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Of a recovery slot: age1…, or an SSH public key
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Option<String>,
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
            new,
            opener,
        } => {
            let secret = new.slot(kind)?;
            let mut client = context.admin()?;
            let request = AddSlot {
                label,
                secret,
                opener: sent(&mut client, SLOTS, opener.required()?, None).await?,
            };
            let call = Call::new(Method::POST, "/v1/slots").json(&request)?;
            let slot: Slot = client.json(call).await?;
            said(context, &slot, "is there, and opens the server")
        }
        Verb::Test { id, opener } => {
            let mut client = context.admin()?;
            let request = OpenSlot {
                opener: sent(&mut client, SLOTS, opener.required()?, Some(id)).await?,
            };
            let call = Call::new(Method::POST, format!("/v1/slots/{id}/test")).json(&request)?;
            let slot: Slot = client.json(call).await?;
            said(context, &slot, "opens with this")
        }
        Verb::Replace {
            id,
            kind,
            label,
            new,
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
                secret: new.slot(kind)?,
                opener: sent(&mut client, SLOTS, opener.required()?, None).await?,
            };
            let call = Call::new(Method::PUT, format!("/v1/slots/{id}")).json(&request)?;
            let slot: Slot = client.json(call).await?;
            said(context, &slot, "has taken its place")
        }
        Verb::Remove { id, opener } => {
            let mut client = context.admin()?;
            let request = OpenSlot {
                opener: sent(&mut client, SLOTS, opener.required()?, None).await?,
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
        "credential" => Ok(KindArg::Credential),
        "recovery" => Ok(KindArg::Recovery),
        _ => Err(Error::invalid(
            "kind",
            "this version does not make slots of that kind; give --kind",
        )),
    }
}

impl NewArgs {
    /// The slot as the server is asked for it.
    fn slot(&self, kind: KindArg) -> Result<NewSlot> {
        let missing = |option: &str| {
            let text = format!("a slot of this kind is made with {option}");
            Err(Error::invalid("kind", text))
        };
        let (mut file, mut name, mut recipient) = (
            self.secret_file.as_deref(),
            self.name.as_deref(),
            self.recipient.as_deref(),
        );
        let slot = match kind {
            KindArg::Passphrase => match file.take() {
                Some(path) => NewSlot::Passphrase(encoded(&init::passphrase_bytes(path)?)?),
                None => return missing("--secret-file F"),
            },
            KindArg::KeyFile => match file.take() {
                Some(path) => NewSlot::KeyFile(encoded(&files::read(path, MAX_SECRET as u64)?)?),
                None => return missing("--secret-file F"),
            },
            KindArg::Credential => match (file.take(), name.take()) {
                (Some(path), Some(name)) => NewSlot::Credential(Credential {
                    name: name.to_owned(),
                    secret: encoded(&files::read(path, MAX_SECRET as u64)?)?,
                }),
                _ => return missing("--name NAME --secret-file F"),
            },
            KindArg::Recovery => match recipient.take() {
                Some(recipient) => NewSlot::Recovery(Recovery {
                    recipient: recipient.to_owned(),
                }),
                None => return missing("--recipient RECIPIENT"),
            },
        };
        if file.is_some() || name.is_some() || recipient.is_some() {
            return Err(Error::invalid(
                "kind",
                "one of --secret-file, --name and --recipient does not belong to a slot of this kind",
            ));
        }
        Ok(slot)
    }
}

/// What opens a slot, as the server is sent it. An age identity stays here: it opens the age file of
/// its slot, which `slots` lists, and what that holds is sent; that of `meant`, or of any.
pub(super) async fn sent(
    client: &mut Client,
    slots: &str,
    secret: SlotSecret,
    meant: Option<SlotId>,
) -> Result<Sent> {
    Ok(match secret {
        SlotSecret::Passphrase(bytes) => Sent::Passphrase(encoded(&bytes)?),
        SlotSecret::KeyFile(bytes) => Sent::KeyFile(encoded(&bytes)?),
        SlotSecret::Recovered(bytes) => Sent::Recovered(encoded(&bytes)?),
        SlotSecret::Identity(identity) => {
            let slots: Slots = client.json(Call::get(slots)).await?;
            let meant = |slot: &Slot| meant.is_none_or(|id| id == slot.id);
            for slot in slots.slots.into_iter().filter(meant) {
                if let Some(SlotSecret::Recovered(found)) =
                    recover(&slot.kind, &slot.parameters, &identity)?
                {
                    return Ok(Sent::Recovered(encoded(&found)?));
                }
            }
            return Err(Error::denied(
                "wrong_identity",
                "this identity opens no recovery slot; `slot list` shows the slots there are",
            ));
        }
    })
}

fn encoded(bytes: &Secret<Vec<u8>>) -> Result<String> {
    if bytes.expose().len() > MOST {
        return Err(Error::invalid(
            "secret",
            format!(
                "the secret has {} bytes; over the API up to {MOST} are taken",
                bytes.expose().len()
            ),
        ));
    }
    Ok(STANDARD.encode(bytes.expose()))
}
