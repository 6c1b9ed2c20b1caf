//! `strongroom deposit put`: bytes are encrypted here, on the client.

use std::path::PathBuf;

use hyper::{Method, StatusCode};

use super::client::own_registration;
use super::deposit::{Target, if_match, label, metadata};
use super::deposit_policy::PolicyArgs;
use super::deposit_readers;
use super::org;
use crate::api::deposit::{DESCRIPTION, ENCRYPTION, LABELS};
use crate::cli::client::{Call, Client, percent};
use crate::cli::door::{Context, Door};
use crate::cli::files;
use crate::cli::home::Home;
use crate::crypto::agefile;
use crate::error::{Error, Result};
use crate::model::deposit::{Deposit, Encryption, LabelKey, LabelValue};

#[derive(clap::Args, Debug)]
pub struct PutArgs {
    #[command(flatten)]
    target: Target,
    /// What to store (`-`: stdin)
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Store the bytes as they are, for they are encrypted already; `get` will not open them
    #[arg(long, conflicts_with = "recipients")]
    raw: bool,
    /// Encrypt to this recipient too: age1…, or an SSH public key; may be given again
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// A label; may be given again. Those given take the place of all that are there
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(LabelKey, LabelValue)>,
    /// What lists and people read of it, up to 1,000 bytes; kept as it is if left out
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The type of what is stored, such as application/x-pem-file [default: application/octet-stream]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Only if N is the newest version; 0: only if there is none
    #[arg(long, value_name = "N")]
    if_version: Option<u32>,
}

pub async fn put(args: PutArgs, context: &Context) -> Result<()> {
    for recipient in &args.recipients {
        agefile::check_recipient(recipient)?;
    }
    let plain = files::read(&args.file, files::LONGEST_DEPOSIT)?;
    let (mut door, path) = args.target.open(context)?;
    let (encryption, body) = if args.raw {
        (Encryption::None, plain.expose().clone())
    } else {
        let recipients = recipients(&args, &mut door, &path, context).await?;
        (
            Encryption::Age,
            agefile::encrypt(&recipients, plain.expose())?,
        )
    };
    drop(plain);

    let mut call = Call::new(Method::PUT, path).header(ENCRYPTION, encryption.as_str());
    call = match args.if_version {
        Some(0) => call.header("if-none-match", "*"),
        version => if_match(call, version),
    };
    if let Some(content_type) = &args.content_type {
        call = call.header("content-type", content_type);
    }
    if !args.labels.is_empty() {
        call = call.header(LABELS, labels_header(&args.labels));
    }
    if let Some(description) = &args.description {
        call = call.header(DESCRIPTION, percent(description));
    }
    call = args.policy.put(call)?;
    let reply = door.client.send(call.body(body)).await?;
    let deposit: Deposit = reply.json()?;
    let what = if reply.status == StatusCode::CREATED {
        "is stored"
    } else {
        "is stored anew"
    };
    context.out.talk(&format!(
        "{} {what}: version {}, {} bytes, id {}",
        deposit.name, deposit.version, deposit.size, deposit.id
    ));
    context.out.document(&deposit).map(|_| ())
}

/// Whoever is to open what the home's client stores: itself, the organization's recovery recipient, the
/// readers that it named, and who was named besides.
pub async fn own_recipients(
    named: &[String],
    client: &mut Client,
    path: &str,
    context: &Context,
) -> Result<Vec<String>> {
    let home = context.home()?;
    let mut recipients = named.to_vec();
    recipients.push(home.recipient()?);
    if let Some(recovery) = own_recovery(client, &home, context).await? {
        say_recovery(context, &recovery);
        recipients.push(recovery);
    }
    recipients.extend(deposit_readers::recipients(client, path, context).await?);
    recipients.sort();
    recipients.dedup();
    Ok(recipients)
}

/// The organization's recovery recipient. Another one than before is said.
async fn own_recovery(
    client: &mut Client,
    home: &Home,
    context: &Context,
) -> Result<Option<String>> {
    let now = own_registration(client).await?.recovery_recipient;
    let Some(mut registered) = home.load()?.filter(|it| it.recovery_recipient != now) else {
        return Ok(now);
    };
    context.out.warn(&format!(
        "the organization's recovery recipient has changed: it was {}, it is {}",
        registered.recovery_recipient.as_deref().unwrap_or("none"),
        now.as_deref().unwrap_or("none")
    ));
    registered.recovery_recipient.clone_from(&now);
    if let Err(error) = home.save(&registered) {
        context.out.detail(&format!(
            "this will be said again, for it cannot be kept: {error}"
        ));
    }
    Ok(now)
}

/// Whoever is to open it: the client itself, the organization's recovery recipient, and who was
/// named.
async fn recipients(
    args: &PutArgs,
    door: &mut Door,
    path: &str,
    context: &Context,
) -> Result<Vec<String>> {
    if door.acting.is_some() {
        return own_recipients(&args.recipients, &mut door.client, path, context).await;
    }
    let mut recipients = args.recipients.clone();
    let org = match &args.target.org {
        Some(org) => org.clone(),
        None => metadata(&mut door.client, path).await?.org,
    };
    let recovery = org::show(&mut door.client, &org)
        .await?
        .org
        .recovery_recipient;
    if let Some(recovery) = recovery {
        say_recovery(context, &recovery);
        recipients.push(recovery);
    }
    recipients.sort();
    recipients.dedup();
    if recipients.is_empty() {
        return Err(Error::invalid(
            "recipient",
            "encrypt to whom? This is not done as a client, and the organization has no recovery recipient; give --recipient age1…, or --raw for what is encrypted already",
        ));
    }
    Ok(recipients)
}

fn say_recovery(context: &Context, recovery: &str) {
    context.out.talk(&format!(
        "encrypted to the organization's recovery recipient too: {recovery}"
    ));
}

fn labels_header(labels: &[(LabelKey, LabelValue)]) -> String {
    let pairs = labels
        .iter()
        .map(|(key, value)| format!("{}={}", percent(key.as_str()), percent(value.as_str())));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_travel_percent_encoded() {
        let labels = [label("env=prod").unwrap(), label("a/b=x, y=z%").unwrap()];
        assert_eq!(labels_header(&labels), "env=prod,a%2Fb=x%2C%20y%3Dz%25");
    }
}
