//! `strongroom backup`.

use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use uuid::Uuid;

use crate::api::backup::{
    BackupEnd, Backups, CreateBackup, ID, KeepBackup, LENGTH, NAME, VerifiedBackup, WITHOUT_OWNER,
};
use crate::api::server::Status;
use crate::backup::file::{Draft, Folder};
use crate::backup::peel::{self, Decrypts};
use crate::backup::read::{BEGINNING, Form};
use crate::cli::client::{Call, Client, with_query};
use crate::cli::door::Context;
use crate::cli::{Printer, files, gpg_keyring};
use crate::crypto::sha256_of;
use crate::error::{Error, Kind, Result};
use crate::model::backup::{self, Backup, EncryptedTo, EncryptedToKind};
use crate::model::deposit::{Deposit, DepositName};
use crate::model::job::Job;
use crate::model::org::OrgName;

/// A copy of a large store, and reading it through, take their time.
const LONG: Duration = Duration::from_secs(4 * 3_600);
/// The longest file of recipients.
const MOST_RECIPIENTS: u64 = 1 << 20;
const LONGEST_IDENTITY: u64 = 1 << 20;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Take a backup while the server serves
    ///
    /// The file is written here, by this command, under the rights of whoever calls it. Then the server
    /// decrypts it in full and checks it; only after that it gets its name, and counts. Whatever fails
    /// leaves the backups of before as they are. The path is printed.
    ///
    /// To restore one needs an identity of one of the recipients and the secret of one of the server's
    /// slots. Where a recipient is also a recovery slot, its identity alone is enough; the command says so.
    Create(CreateArgs),
    /// The backups that count, newest first
    List {
        /// Those whose file was removed, too
        #[arg(long)]
        removed: bool,
    },
    /// What is known of a backup: to whom it is encrypted, and how new it is
    Show {
        /// Its id, its path, or the name of its file
        backup: String,
    },
    /// Put one deposit out of a backup back into the running server, as a new version
    ///
    /// The server opens the backup with the identity to which all its backups are encrypted, too, and under
    /// its present root key. What is there keeps its owner, readers and bounds. What is not there any more
    /// gets back what it had in the backup: its owner, labels and bounds, with the retrievals that were used
    /// then; its owner shares it anew.
    Extract {
        /// The file
        file: PathBuf,
        /// The deposit's name
        #[arg(long, value_name = "NAME")]
        deposit: DepositName,
        /// Its organization
        #[arg(long, value_name = "ORG")]
        org: OrgName,
        /// Where its owner is not there any more: have it as the organization's own
        #[arg(long)]
        without_owner: bool,
    },
    /// Prove that the newest backup would bring everything back
    ///
    /// The server unpacks it into a folder of its own, opens it, reads every page, compares counts and
    /// digests, opens a deposit under each key, and takes the folder away again. A job does that each day.
    Drill,
    /// Decrypt a backup in full, and compare every digest in it
    ///
    /// The server does that, with the identity to which all its backups are encrypted, too. With an
    /// identity or a passphrase it is done here, and needs no server.
    Verify {
        /// The file
        file: PathBuf,
        /// An age identity, or an SSH private key without a passphrase, of one of its recipients
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// A file with the passphrase of age that opens it (`-`: stdin)
        #[arg(long, value_name = "FILE", conflicts_with = "identity")]
        age_passphrase_file: Option<PathBuf>,
    },
}

#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// Who may open it: age1…, or an SSH public key; may be given several times
    #[arg(long, value_name = "RECIPIENT")]
    pub recipient: Vec<String>,
    /// A file with one recipient a line
    #[arg(long, value_name = "FILE")]
    pub recipients_file: Vec<PathBuf>,
    /// Whose OpenPGP key opens it, instead: of the server's recipients, else of your gpg keyring; by
    /// name, mail address, key id or fingerprint; may be given several times
    #[arg(long, value_name = "NAME")]
    pub gpg_recipient: Vec<String>,
    /// A file with a passphrase of age that opens it, instead of recipients (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    pub age_passphrase_file: Option<PathBuf>,
    /// Put a root key of its own inside, so that the recipients restore it without a slot's secret; for
    /// superusers. Whoever opens it has everything
    #[arg(long, conflicts_with = "cleartext")]
    pub self_contained: bool,
    /// Do not encrypt it as a whole: who has the secret of a slot opens it
    #[arg(long)]
    pub cleartext: bool,
    /// Where it is written; the data folder's backups/ unless said
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Then remove all but the newest N of this server's verified backups in that folder
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub roll: Option<u32>,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Create(args) => {
            let backup = create(&args, context).await?;
            match out.document(&backup)? {
                true => Ok(()),
                false => out.line(&backup.path),
            }
        }
        Verb::List { removed } => {
            let query = if removed { "?removed=true" } else { "" };
            let path = format!("/v1/backups{query}");
            let found: Backups = context.admin()?.json(Call::get(path)).await?;
            let columns = &["created", "path", "MiB", "to", "state"];
            out.table(&found, &found.backups, columns, |out, it| {
                vec![
                    out.time(it.created),
                    it.path.clone(),
                    it.bytes.div_ceil(1 << 20).to_string(),
                    names(&it.recipients),
                    state(out, it),
                ]
            })
        }
        Verb::Show { backup } => {
            let found = find(&mut context.admin()?, &backup).await?;
            show(&found, out)
        }
        Verb::Extract {
            file,
            deposit,
            org,
            without_owner,
        } => {
            let opened =
                std::fs::File::open(&file).map_err(|error| files::cannot("read", &file, error))?;
            let mut query = vec![("org", org.to_string()), ("deposit", deposit.to_string())];
            if without_owner {
                query.push((WITHOUT_OWNER, true.to_string()));
            }
            let path = with_query("/v1/backups/extract", &query);
            let call = Call::new(Method::POST, path).file(opened).once().wait(LONG);
            let put: Deposit = context.admin()?.json(call).await?;
            let owner = match put.owner {
                Some(owner) => format!("of client {owner}"),
                None => "the organization's own".to_owned(),
            };
            out.talk(&format!(
                "{} is there again, as version {}, {owner}",
                put.name, put.version
            ));
            out.document(&put).map(|_| ())
        }
        Verb::Drill => {
            let mut client = context.admin()?;
            let call = Call::new(Method::POST, "/v1/backups/drill");
            let job: Job = client.json(call).await?;
            super::job::watch(&mut client, job.id, context).await
        }
        Verb::Verify {
            file,
            identity,
            age_passphrase_file,
        } => {
            let opened =
                std::fs::File::open(&file).map_err(|error| files::cannot("read", &file, error))?;
            let found = match (identity, age_passphrase_file) {
                (None, None) => {
                    let call = Call::new(Method::POST, "/v1/backups/verify");
                    let call = call.file(opened).once().wait(LONG);
                    context.admin()?.json(call).await?
                }
                (identity, passphrase) => verified_here(opened, identity, passphrase)?,
            };
            let fields = [
                ("id", found.id.to_string()),
                ("of", found.fqdn.clone()),
                ("created", out.time(found.created)),
                ("newest deposit", out.maybe_time(found.newest_deposit)),
                ("deposits", found.deposits.to_string()),
                ("bytes", found.bytes.to_string()),
                ("SHA-256", found.sha256.clone()),
                ("opened by", opened_by(&found.recipients)),
            ];
            out.record(&found, &fields)?;
            out.talk("it was decrypted in full, and every digest in it fits");
            Ok(())
        }
    }
}

/// Decrypts one without a server.
fn verified_here(
    mut file: std::fs::File,
    identity: Option<PathBuf>,
    passphrase: Option<PathBuf>,
) -> Result<VerifiedBackup> {
    let identity = identity
        .map(|path| files::read(&path, LONGEST_IDENTITY))
        .transpose()?;
    let passphrase = passphrase
        .map(|path| files::read_secret(&path))
        .transpose()?;
    let with = Decrypts {
        identity: identity.as_ref(),
        passphrase: passphrase.as_ref(),
    };
    let unreadable = |error| Error::invalid("file", format!("the backup cannot be read: {error}"));
    let (bytes, sha256) = sha256_of(&mut file).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let mut first = Vec::new();
    std::io::Read::by_ref(&mut file)
        .take(BEGINNING as u64)
        .read_to_end(&mut first)
        .map_err(unreadable)?;
    let form = match Form::of(&first) {
        Form::Tar => backup::Form::Clear,
        _ => backup::Form::Age,
    };
    file.rewind().map_err(unreadable)?;
    let manifest = peel::verify(BufReader::with_capacity(256 << 10, file), with)?.manifest;
    Ok(VerifiedBackup {
        id: manifest.id,
        created: manifest.created,
        fqdn: manifest.fqdn,
        form,
        bytes,
        sha256: hex::encode(sha256),
        revision: manifest.revision,
        newest_deposit: manifest.newest_deposit,
        deposits: manifest.counts.get("deposits").copied().unwrap_or(0),
        recipients: manifest.recipients,
    })
}

/// Takes one, and rolls older ones away.
pub async fn create(args: &CreateArgs, context: &Context) -> Result<Backup> {
    let out = &context.out;
    let recipients = recipients(args)?;
    let passphrase = args.age_passphrase_file.as_deref();
    let passphrase = passphrase.map(files::read_secret).transpose()?;
    let folder = Folder::open(&match &args.output {
        Some(output) => output.clone(),
        None => context.data_dir().join("backups"),
    })?;
    let mut client = context.admin()?;
    let mut draft = folder.begin()?;
    let mut stored = Vec::new();
    for name in &args.gpg_recipient {
        stored.push(gpg_keyring::resolve(&mut client, name).await?.id);
    }
    let request = CreateBackup {
        recipients,
        stored,
        age_passphrase: passphrase.map(|it| it.expose().clone()),
        self_contained: args.self_contained,
        cleartext: args.cleartext,
    };
    let (id, name) = write(&mut client, &request, &mut draft, out).await?;
    #[cfg(debug_assertions)]
    if let Some(most) = args.roll
        && crate::backup::planted::rolls_before_verify()?
    {
        out.warn(&crate::backup::planted::warning()?.unwrap_or_default());
        self::roll(&mut client, &folder, most as usize - 1, out).await?;
    }
    let kept = keep(&mut client, id, &name, draft, out).await;
    let backup = match kept {
        Ok(backup) => backup,
        Err(error) => {
            let why = BackupEnd {
                why: error.public.chars().take(900).collect(),
            };
            let call = Call::new(Method::POST, format!("/v1/backups/{id}/failed")).json(&why)?;
            if let Err(worse) = client.send(call).await {
                out.detail(&format!("the server was not told: {}", worse.public));
            }
            return Err(error);
        }
    };
    out.talk(&format!("opened by: {}", opened_by(&backup.recipients)));
    if let Some(roll) = args.roll {
        self::roll(&mut client, &folder, roll as usize, out).await?;
    }
    Ok(backup)
}

/// Writes what the server sends; which backup it is, and what it is to be called.
async fn write(
    client: &mut Client,
    request: &CreateBackup,
    draft: &mut Draft,
    out: &Printer,
) -> Result<(Uuid, String)> {
    let call = Call::new(Method::POST, "/v1/backups/stream");
    let mut answer = client.open(call.json(request)?.once().wait(LONG)).await?;
    let id = answer.header(ID).and_then(|it| it.parse().ok());
    let name = answer.header(NAME).map(str::to_owned);
    let (Some(id), Some(name)) = (id, name) else {
        return Err(Error::new(
            Kind::Internal,
            "answer",
            "the server did not say which backup this is; use the program of the server's version",
        ));
    };
    let length = answer.header(LENGTH).and_then(|it| it.parse().ok());
    let length: u64 = length.unwrap_or(0);
    draft.check_room(length)?;
    let mut done = 0;
    loop {
        let piece = match answer.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                out.progress_ends(length);
                return Err(broken_off(client, error).await);
            }
        };
        draft.take(&piece)?;
        done += piece.len() as u64;
        out.progress(done, length);
    }
    out.progress_ends(length);
    Ok((id, name))
}

/// An answer that broke off does not say why; the server's health does.
async fn broken_off(client: &mut Client, error: Error) -> Error {
    let status = client.json::<Status>(Call::get("/v1/status")).await;
    let said = status.ok().and_then(|status| {
        let parts = status.health.subsystems.into_iter();
        let mut backups = parts.filter(|it| it.name == "backups" && !it.reason.is_empty());
        backups.next().map(|it| it.reason)
    });
    match said {
        Some(reason) => Error::unavailable("backup_broke_off", reason).because(error),
        None => error,
    }
}

/// On the disk, read back, decrypted, named: in this order.
async fn keep(
    client: &mut Client,
    id: Uuid,
    name: &str,
    mut draft: Draft,
    out: &Printer,
) -> Result<Backup> {
    let sha256 = draft.sync()?;
    out.detail("written; now it is read back and decrypted in full");
    let call = Call::new(Method::POST, format!("/v1/backups/{id}/verify"));
    let call = call.file(draft.read_back()?).once().wait(LONG);
    let found: VerifiedBackup = client.json(call).await?;
    if found.sha256 != sha256 {
        return Err(Error::new(
            Kind::Internal,
            "backup_damaged",
            "what was read back from the disk is not what was written to it; look at the disk",
        ));
    }
    let path = draft.name(name)?;
    let path = path.into_os_string().into_string().map_err(|_| {
        Error::invalid(
            "output",
            "the path of the backup is not UTF-8; name another folder",
        )
    })?;
    let call = Call::new(Method::POST, format!("/v1/backups/{id}/keep"));
    client.json(call.json(&KeepBackup { path })?).await
}

/// Removes all but the newest `most` of the verified backups in the folder.
async fn roll(client: &mut Client, folder: &Folder, most: usize, out: &Printer) -> Result<()> {
    let known: Backups = client.json(Call::get("/v1/backups")).await?;
    let here = known.backups.iter().filter(|it| folder.holds(it));
    let here: Vec<&Backup> = here.collect();
    for old in here.into_iter().skip(most.max(1)) {
        if !folder.is_unchanged(old)? {
            out.warn(&format!(
                "{} is not what it was when it was verified, and is left alone",
                old.path
            ));
            continue;
        }
        folder.remove(old)?;
        let why = BackupEnd {
            why: format!("rolled away: the newest {most} stay"),
        };
        let call = Call::new(Method::POST, format!("/v1/backups/{}/removed", old.id));
        client.send(call.json(&why)?).await?;
        out.detail(&format!("removed {}", old.path));
    }
    Ok(())
}

fn recipients(args: &CreateArgs) -> Result<Vec<String>> {
    let mut all = args.recipient.clone();
    for path in &args.recipients_file {
        let text = files::read(path, MOST_RECIPIENTS)?;
        let text = String::from_utf8_lossy(text.expose()).into_owned();
        let lines = text.lines().map(str::trim);
        let before = all.len();
        all.extend(
            lines
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
        if all.len() == before {
            return Err(Error::invalid(
                "recipients_file",
                format!("{} holds no recipient", path.display()),
            ));
        }
    }
    Ok(all)
}

/// By id, path, or name of the file; of several that had the name, the newest.
async fn find(client: &mut Client, wanted: &str) -> Result<Backup> {
    if wanted.parse::<Uuid>().is_ok() {
        let path = format!("/v1/backups/{wanted}");
        return client.json(Call::get(path)).await;
    }
    let known: Backups = client.json(Call::get("/v1/backups?removed=true")).await?;
    let whole = std::path::absolute(wanted).ok();
    let is_it = |it: &Backup| {
        let path = Path::new(&it.path);
        Some(path) == whole.as_deref() || path.file_name().is_some_and(|name| name == wanted)
    };
    known.backups.into_iter().find(is_it).ok_or_else(|| {
        Error::not_found(format!(
            "no backup is called `{wanted}`; `strongroom backup list` has those that count"
        ))
    })
}

fn show(found: &Backup, out: &Printer) -> Result<()> {
    let mut fields = vec![
        ("id", found.id.to_string()),
        ("path", found.path.clone()),
        ("state", state(out, found)),
        ("created", out.time(found.created)),
        ("verified", out.time(found.verified)),
        ("drilled", out.maybe_time(found.drilled)),
        ("newest deposit", out.maybe_time(found.newest_deposit)),
        ("revision", found.revision.to_string()),
        ("bytes", found.bytes.to_string()),
        ("SHA-256", found.sha256.clone()),
        ("opened by", opened_by(&found.recipients)),
    ];
    for it in &found.recipients {
        let kind = match it.kind {
            EncryptedToKind::Age => "age",
            EncryptedToKind::Ssh => "SSH",
            EncryptedToKind::Openpgp => "OpenPGP",
            EncryptedToKind::Passphrase => "of age",
            EncryptedToKind::Drill => "this server, to verify it",
        };
        fields.push(("encrypted to", format!("{} ({kind})", it.text)));
    }
    out.record(found, &fields)
}

/// What is needed to restore it.
fn opened_by(recipients: &[EncryptedTo]) -> String {
    let alone: Vec<&str> = recipients
        .iter()
        .filter(|it| it.alone)
        .map(|it| it.text.as_str())
        .collect();
    let passphrase = recipients
        .iter()
        .find(|it| it.kind == EncryptedToKind::Passphrase);
    if let Some(it) = passphrase {
        return match it.alone {
            true => "its passphrase alone".to_owned(),
            false => "its passphrase, and the secret of a slot".to_owned(),
        };
    }
    match (alone.is_empty(), recipients.is_empty()) {
        (false, _) => format!("identity {} alone opens this", alone.join(" or ")),
        (true, true) => "the secret of a slot".to_owned(),
        (true, false) => "an identity of a recipient, and the secret of a slot".to_owned(),
    }
}

fn names(recipients: &[EncryptedTo]) -> String {
    let asked = recipients
        .iter()
        .filter(|it| it.kind != EncryptedToKind::Drill);
    let names: Vec<&str> = asked.map(|it| it.text.as_str()).collect();
    match names.is_empty() {
        true => "nobody (in the clear)".to_owned(),
        false => names.join(", "),
    }
}

/// Whether its file is where it was, as far as can be seen from here.
fn state(out: &Printer, backup: &Backup) -> String {
    match (backup.removed, Path::new(&backup.path).metadata()) {
        (Some(removed), _) => format!("removed {}", out.time(removed)),
        (None, Ok(there)) if there.len() == backup.bytes => "verified".to_owned(),
        (None, Ok(_)) => "changed since it was verified".to_owned(),
        (None, Err(_)) => "verified; not seen from here".to_owned(),
    }
}
