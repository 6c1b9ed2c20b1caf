//! `strongroom deposit share`, `unshare` and `readers`. Rights are the server's; who can open the bytes
//! is settled here, on the owner's machine: it encrypts to readers whose certificates vouch for their
//! recipients, and to none that its user did not name (docs/formats/client.md).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;

use super::deposit::{Target, if_match, metadata};
use super::deposit_body;
use crate::api::deposit::{ENCRYPTION, Reader, ReaderKey, Readers, ShareDeposit};
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::files;
use crate::cli::home::Home;
use crate::crypto::{agefile, x509};
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Deposit, Encryption};
use crate::model::group::GroupName;
use crate::model::id::{DepositId, Fingerprint};
use crate::secret::Secret;

/// In the home: a file for each shared deposit, with the readers that it is encrypted to.
const FOLDER: &str = "readers";

#[derive(clap::Args, Debug)]
pub struct ShareArgs {
    #[command(flatten)]
    target: Target,
    /// A client's fingerprint, 64 hex digits, or the name of a group of clients
    #[arg(long, value_name = "FINGERPRINT|GROUP")]
    with: With,
    /// Encrypt to this recipient too, as `put` did: age1…, or an SSH public key; may be given again
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
}

/// A client, or a group.
#[derive(Clone, Debug)]
enum With {
    Client(Fingerprint),
    Group(GroupName),
}

impl FromStr for With {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse()
            .map(Self::Client)
            .or_else(|_| text.parse().map(Self::Group))
    }
}

impl With {
    fn request(&self) -> ShareDeposit {
        match self {
            Self::Client(client) => ShareDeposit {
                client: Some(*client),
                group: None,
            },
            Self::Group(group) => ShareDeposit {
                client: None,
                group: Some(group.clone()),
            },
        }
    }
}

impl std::fmt::Display for With {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(client) => write!(f, "client {client}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

pub async fn share(args: ShareArgs, context: &Context) -> Result<()> {
    let out = &context.out;
    let (mut door, path) = args.target.open(context)?;
    let call = Call::new(Method::POST, format!("{path}/share")).json(&args.with.request())?;
    let readers: Readers = door.client.json(call).await?;
    out.talk(&format!(
        "{} may be fetched by {} from now on",
        args.target.which, args.with
    ));
    if door.acting.is_none() {
        rights_only(context, "share");
        return out.document(&readers).map(|_| ());
    }
    let home = context.home()?;
    let pins = Pins::of(&home, readers.deposit);
    let mut pinned = pins.read()?;
    match &args.with {
        With::Client(client) => {
            pinned.insert(*client);
        }
        With::Group(group) => {
            // Who reads by himself was shared with by someone, perhaps not by the owner: no member.
            let by_himself = |key: &ReaderKey| {
                let mut readers = readers.readers.iter();
                readers.any(|reader| reader.client == Some(key.client))
            };
            let new: Vec<&ReaderKey> = readers
                .clients
                .iter()
                .filter(|key| !pinned.contains(&key.client) && !by_himself(key))
                .collect();
            if !new.is_empty() {
                for key in &new {
                    out.talk(&format!("  {} {}", key.client, key.description));
                }
                out.confirm(&format!(
                    "Encrypt to these {}, too? The server names them as members of {group}.",
                    new.len()
                ))?;
            }
            pinned.extend(new.iter().map(|key| key.client));
        }
    }
    pins.write(&pinned)?;
    again(&args, &mut door.client, &path, context).await?;
    out.document(&readers).map(|_| ())
}

pub async fn unshare(args: ShareArgs, context: &Context) -> Result<()> {
    let out = &context.out;
    let (mut door, path) = args.target.open(context)?;
    let call = Call::new(Method::POST, format!("{path}/unshare")).json(&args.with.request())?;
    let readers: Readers = door.client.json(call).await?;
    let still = match &args.with {
        With::Client(client) => readers.clients.iter().any(|key| key.client == *client),
        With::Group(_) => false,
    };
    if still {
        out.warn(&format!(
            "{} still reads {} as a member of a group; take it out of that, or unshare the group",
            args.with, args.target.which
        ));
    } else {
        out.talk(&format!(
            "{} is refused to {} from now on; what was fetched before stays known: store a new secret if it must not be",
            args.target.which, args.with
        ));
    }
    if door.acting.is_none() {
        rights_only(context, "unshare");
        return out.document(&readers).map(|_| ());
    }
    let pins = Pins::of(&context.home()?, readers.deposit);
    let left: BTreeSet<Fingerprint> = readers.clients.iter().map(|key| key.client).collect();
    let mut kept: BTreeSet<Fingerprint> = pins.read()?.intersection(&left).copied().collect();
    // Whatever the server lists: the owner's word counts.
    if let With::Client(client) = &args.with {
        kept.remove(client);
    }
    pins.write(&kept)?;
    again(&args, &mut door.client, &path, context).await?;
    out.document(&readers).map(|_| ())
}

pub async fn list(target: &Target, context: &Context) -> Result<()> {
    let (mut door, path) = target.open(context)?;
    let found: Readers = door
        .client
        .json(Call::get(format!("{path}/readers")))
        .await?;
    let columns = &["reader", "name", "added"];
    let row = |out: &crate::cli::print::Printer, it: &Reader| {
        let (kind, name) = match (&it.client, &it.group) {
            (Some(client), _) => ("client", client.to_string()),
            (None, Some(group)) => ("group", group.to_string()),
            (None, None) => ("", String::new()),
        };
        vec![kind.to_owned(), name, out.time(it.added)]
    };
    context.out.table(&found, &found.readers, columns, row)
}

/// What an administrator must know: nobody but who can open the bytes can encrypt them anew.
fn rights_only(context: &Context, verb: &str) {
    context.out.warn(&format!(
        "this changed rights alone; the stored bytes are encrypted to whom they were. Their owner encrypts them anew with `strongroom deposit {verb}`"
    ));
}

/// Fetches the newest version, and stores it as another one, encrypted to whoever reads it now.
async fn again(args: &ShareArgs, client: &mut Client, path: &str, context: &Context) -> Result<()> {
    let now: Deposit = metadata(client, path).await?;
    if now.encryption == Encryption::None {
        context
            .out
            .talk("its bytes were stored as they are, so there is nothing to encrypt anew");
        return Ok(());
    }
    if let Some(left) = now.retrievals_left {
        context.out.confirm(&format!(
            "To encrypt it anew it is fetched, which counts: {left} retrievals are left. Go on?"
        ))?;
    }
    let sealed = client.send(Call::get(path.to_owned()).once()).await?;
    let plain = agefile::decrypt(&context.home()?.identity()?, &sealed.body)?;
    let recipients = deposit_body::own_recipients(&args.recipients, client, path, context).await?;
    let body = agefile::encrypt(&recipients, plain.expose())?;
    let call = Call::new(Method::PUT, path.to_owned()).header(ENCRYPTION, Encryption::Age.as_str());
    let stored: Deposit = client
        .json(if_match(call, Some(now.version)).body(body))
        .await?;
    context.out.talk(&format!(
        "{} is stored anew, encrypted to {} recipients: version {}",
        stored.name,
        recipients.len(),
        stored.version
    ));
    Ok(())
}

/// The recipients of the readers that this owner named; none for a deposit that is not there yet.
/// Others that the server names are left out, and said.
pub async fn recipients(client: &mut Client, path: &str, context: &Context) -> Result<Vec<String>> {
    let call = Call::get(format!("{path}/readers"));
    let readers: Readers = match client.json(call).await {
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Denied) => return Ok(Vec::new()),
        readers => readers?,
    };
    let pinned = Pins::of(&context.home()?, readers.deposit).read()?;
    let mut recipients = Vec::new();
    for key in &readers.clients {
        let named = format!("{} ({})", key.client, key.description);
        if !pinned.contains(&key.client) {
            context.out.warn(&format!(
                "not encrypted to {named}, which reads this deposit and was not named by this client: strongroom deposit share"
            ));
            continue;
        }
        match vouched(key)? {
            Some(recipient) => recipients.push(recipient),
            None => context.out.warn(&format!(
                "not encrypted to {named}: it registered without a recipient, and can fetch the deposit alone"
            )),
        }
    }
    Ok(recipients)
}

/// A reader's recipient, if its certificate is the one that the fingerprint names and vouches for it.
///
/// # Errors
/// `reader_unproven`: something else than what the reader itself signed.
fn vouched(key: &ReaderKey) -> Result<Option<String>> {
    let unproven = |error: Error| {
        Error::new(
            Kind::Internal,
            "reader_unproven",
            format!(
                "what the server gives as the recipient of {} is not vouched for by that client's certificate; nothing was encrypted. Do not share with it before you know why",
                key.client
            ),
        )
        .because(error)
    };
    let (Some(recipient), Some(signature)) = (&key.recipient, &key.signature) else {
        return Ok(None);
    };
    let decoded = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| Error::invalid("signature", "not base64"))
    };
    let check = || {
        let certificate = decoded(&key.certificate)?;
        if x509::spki_fingerprint(&certificate)? != key.client {
            return Err(Error::invalid("certificate", "another client's"));
        }
        agefile::check_recipient(recipient)?;
        let statement = x509::recipient_statement(key.client, recipient);
        x509::verify_by_certificate(&certificate, &statement, &decoded(signature)?)
    };
    check().map_err(unproven)?;
    Ok(Some(recipient.clone()))
}

/// The readers that one deposit is encrypted to because its owner said so: a fingerprint a line.
struct Pins {
    folder: PathBuf,
    file: PathBuf,
}

impl Pins {
    fn of(home: &Home, deposit: DepositId) -> Self {
        let folder = home.file(FOLDER);
        Self {
            file: folder.join(deposit.to_string()),
            folder,
        }
    }

    fn read(&self) -> Result<BTreeSet<Fingerprint>> {
        if !self.file.exists() {
            return Ok(BTreeSet::new());
        }
        let bytes: Secret<Vec<u8>> = files::read(&self.file, files::LONGEST_SMALL_FILE)?;
        let lines = String::from_utf8_lossy(bytes.expose()).into_owned();
        lines.lines().map(str::parse).collect()
    }

    fn write(&self, pinned: &BTreeSet<Fingerprint>) -> Result<()> {
        files::private_folder(&self.folder)?;
        let lines: String = pinned.iter().map(|it| format!("{it}\n")).collect();
        files::replace(&self.file, lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader as the server gives it, and its private key's PEM.
    fn reader() -> (ReaderKey, Secret<String>) {
        let made = x509::client_certificate("reader").unwrap_or_else(|error| panic!("{error}"));
        let der = x509::parse_certificate_pem(made.cert_pem.as_bytes())
            .unwrap()
            .remove(0);
        let client = x509::spki_fingerprint(&der).unwrap();
        let (_, recipient) = agefile::generate_identity();
        let statement = x509::recipient_statement(client, &recipient);
        let signature = x509::sign_with_key_pem(&made.key_pem, &statement).unwrap();
        let key = ReaderKey {
            client,
            description: String::new(),
            certificate: STANDARD.encode(der),
            recipient: Some(recipient),
            signature: Some(STANDARD.encode(signature)),
        };
        (key, made.key_pem)
    }

    #[test]
    fn a_recipient_counts_if_the_named_client_vouches_for_it() {
        let (mut key, _) = reader();
        assert_eq!(vouched(&key).unwrap(), key.recipient);
        let (other, _) = reader();
        let own = key.recipient.replace(other.recipient.clone().unwrap());
        assert_eq!(vouched(&key).unwrap_err().code, "reader_unproven");
        key.recipient = own;
        // Another's certificate, which vouches for another's recipient: under this one's name.
        let forged = ReaderKey {
            client: key.client,
            ..other
        };
        assert_eq!(vouched(&forged).unwrap_err().code, "reader_unproven");
        key.signature = None;
        assert_eq!(vouched(&key).unwrap(), None);
    }
}
