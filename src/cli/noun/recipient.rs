//! `strongroom recipient`.

use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Serialize;

use super::ListArgs;
use crate::api::recipient::{AddRecipient, RecipientAdded};
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::files::{self, LONGEST_SMALL_FILE};
use crate::cli::gpg_keyring::{self, Taken};
use crate::cli::print::Printer;
use crate::crypto::agefile;
use crate::crypto::openpgp::Ring;
use crate::error::{Error, Result};
use crate::model::id::RecipientId;
use crate::model::recipient::{Recipient, meant};

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add age recipients and SSH keys: given here, or in a file of one a line, as `age -R` takes it
    ///
    /// What is there already is told, and left as it is. A file's lines are all checked before the first
    /// is added.
    Add {
        /// age1…, ssh-ed25519 …, ssh-rsa …, or a file of such lines (`-`: stdin)
        #[arg(required = true, value_name = "RECIPIENT|FILE")]
        what: Vec<String>,
        /// What it is for; an SSH key's comment if left out
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
    /// Import OpenPGP public keys: those of a file, binary or armored, or one of your gpg keyring
    ///
    /// A key that is there is renewed, if it says something new of itself. Keys that nothing can be
    /// encrypted to (expired, revoked, for signing only) are not taken, and it says why.
    Import {
        /// What `gpg --export` wrote (`-`: stdin)
        #[arg(required_unless_present = "from_gpg", conflicts_with = "from_gpg")]
        file: Option<PathBuf>,
        /// Of your gpg keyring the key that this means: a part of its user id, a mail address, a key id
        /// or a fingerprint
        #[arg(long, value_name = "NAME")]
        from_gpg: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
    /// All recipients
    List(ListArgs),
    /// Remove a recipient; backups that it can open it still opens
    Rm {
        /// Its id, the recipient itself, or of an OpenPGP key what gpg would take
        which: String,
    },
}

/// What became of each that was given.
#[derive(Default, Serialize)]
struct Outcome {
    added: Vec<Recipient>,
    renewed: Vec<Recipient>,
    /// Were there already.
    known: Vec<String>,
    refused: Vec<String>,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::Add { what, label } => {
            let lines = lines(&what)?;
            send(&mut client, lines, label.as_deref(), Outcome::default())
                .await?
                .tell(out)
        }
        Verb::Import {
            file: Some(file),
            label,
            ..
        } => {
            let bytes = files::read(&file, LONGEST_SMALL_FILE)?;
            import(&mut client, Ring::read(bytes.expose())?, label.as_deref())
                .await?
                .tell(out)
        }
        Verb::Import {
            from_gpg, label, ..
        } => {
            let name = from_gpg.unwrap_or_default();
            let mut outcome = Outcome::default();
            match gpg_keyring::take(&mut client, &name, label).await? {
                Taken::Added(it) => outcome.added.push(it),
                Taken::Renewed(it) => outcome.renewed.push(it),
                Taken::Known(it) => outcome.known.push(format!(
                    "{} is a recipient already; nothing was changed",
                    it.told()
                )),
            }
            outcome.tell(out)
        }
        Verb::List(list) => {
            let columns = &["id", "kind", "recipient", "label", "expires", "trouble"];
            list.run(&mut client, "/v1/recipients", vec![], out, columns, row)
                .await
        }
        Verb::Rm { which } => remove(&mut client, &which, out).await,
    }
}

fn row(out: &Printer, it: &Recipient) -> Vec<String> {
    let label = match (it.label.is_empty(), it.user_ids.first()) {
        (true, Some(user_id)) => user_id,
        _ => &it.label,
    };
    vec![
        it.id.to_string(),
        it.kind.as_str().to_owned(),
        it.brief(),
        label.clone(),
        out.maybe_time(it.expires),
        it.why_not(crate::clock::now()).unwrap_or_default(),
    ]
}

/// Recipients out of words, or out of the files that they name.
fn lines(what: &[String]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    // A shell takes an SSH key without quotes apart.
    if what.first().is_some_and(|first| first.starts_with("ssh-")) && what.len() > 1 {
        let key = what.join(" ");
        agefile::check_recipient(&key)?;
        return Ok(vec![key]);
    }
    for word in what {
        if word.starts_with("age1") || word.starts_with("ssh-") || agefile::is_secret(word) {
            agefile::check_recipient(word)?;
            lines.push(word.clone());
        } else {
            lines.extend(of_file(Path::new(word))?);
        }
    }
    Ok(lines)
}

/// # Errors
/// A line that is no recipient, by its number.
fn of_file(path: &Path) -> Result<Vec<String>> {
    let name = path.display();
    let bytes = files::read(path, LONGEST_SMALL_FILE)?;
    let text = std::str::from_utf8(bytes.expose()).ok();
    let text = text.filter(|text| !text.contains("-----BEGIN PGP PUBLIC"));
    let Some(text) = text else {
        return Err(Error::invalid(
            "recipient",
            format!(
                "{name} holds no lines of recipients; OpenPGP keys are imported: strongroom recipient import {name}"
            ),
        ));
    };
    if agefile::is_secret(text) {
        return Err(Error::invalid(
            "recipient",
            format!(
                "{name} holds a secret key, and nothing of it was sent; give its public half: age-keygen -y {name}, or the .pub file beside an SSH key"
            ),
        ));
    }
    let numbered = (1..).zip(text.lines().map(str::trim));
    let given = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut lines = Vec::new();
    for (number, line) in given {
        agefile::check_recipient(line)
            .map_err(|why| Error::invalid("recipient", format!("{name}, line {number}: {why}")))?;
        lines.push(line.to_owned());
    }
    match lines.is_empty() {
        true => Err(Error::invalid(
            "recipient",
            format!("{name} holds no recipient"),
        )),
        false => Ok(lines),
    }
}

async fn import(client: &mut Client, ring: Ring, label: Option<&str>) -> Result<Outcome> {
    let mut outcome = Outcome {
        refused: ring.left.into_iter().map(|why| why.public).collect(),
        ..Outcome::default()
    };
    let mut keys = Vec::new();
    for key in ring.keys {
        match key.armored() {
            Ok(armored) => keys.push(armored),
            Err(why) => outcome.refused.push(why.public),
        }
    }
    send(client, keys, label, outcome).await
}

/// One request for each, so that one that is refused keeps no other out.
async fn send(
    client: &mut Client,
    recipients: Vec<String>,
    label: Option<&str>,
    mut outcome: Outcome,
) -> Result<Outcome> {
    for recipient in recipients {
        let request = AddRecipient {
            recipient,
            label: label.map(str::to_owned),
        };
        let call = Call::new(Method::POST, "/v1/recipients").json(&request)?;
        match client.json::<RecipientAdded>(call).await {
            Ok(it) if it.renewed => outcome.renewed.push(it.recipient),
            Ok(it) => outcome.added.push(it.recipient),
            Err(why) if why.code == "recipient_known" => outcome.known.push(why.public),
            Err(why) if why.code == "recipient_unusable" => outcome.refused.push(why.public),
            Err(why) => return Err(why),
        }
    }
    Ok(outcome)
}

impl Outcome {
    /// # Errors
    /// Nothing of what was given is a recipient now.
    fn tell(self, out: &Printer) -> Result<()> {
        if self.added.is_empty() && self.renewed.is_empty() && self.known.is_empty() {
            return Err(Error::conflict(
                "recipient_unusable",
                self.refused.join("\n"),
            ));
        }
        for it in &self.added {
            out.talk(&format!("{} is a recipient now", it.told()));
        }
        for it in &self.renewed {
            match it.why_not(crate::clock::now()) {
                None => out.talk(&format!("{} is renewed", it.told())),
                Some(why) => out.warn(&format!(
                    "{} is renewed: it {why}, so nothing is encrypted to it",
                    it.told()
                )),
            }
        }
        for told in &self.known {
            out.talk(told);
        }
        for why in &self.refused {
            out.warn(why);
        }
        out.document(&self).map(|_| ())
    }
}

async fn remove(client: &mut Client, which: &str, out: &Printer) -> Result<()> {
    let id = match which.parse::<RecipientId>() {
        Ok(id) => id,
        Err(_) => of_name(which, &gpg_keyring::recipients(client).await?)?,
    };
    out.confirm(&format!(
        "Remove recipient {id}? Backups from then on are not encrypted to it; those that are stay so."
    ))?;
    client
        .send(Call::new(Method::DELETE, format!("/v1/recipients/{id}")))
        .await?;
    out.talk(&format!("recipient {id} is removed"));
    Ok(())
}

fn of_name(which: &str, all: &[Recipient]) -> Result<RecipientId> {
    if agefile::is_secret(which) {
        agefile::check_recipient(which)?;
    }
    let (key, _) = agefile::ssh_parts(which);
    let same = all.iter().find(|it| it.recipient == key);
    if let Some(same) = same {
        return Ok(same.id);
    }
    match meant(which, all)?[..] {
        [] => Err(Error::not_found(format!(
            "no recipient is known as `{}`; strongroom recipient list shows them",
            crate::model::id::shown(which)
        ))),
        [one] => Ok(one.id),
        ref several => Err(crate::model::recipient::unclear(
            which,
            several,
            crate::clock::now(),
        )),
    }
}
