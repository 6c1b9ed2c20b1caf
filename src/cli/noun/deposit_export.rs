//! `strongroom deposit export`: deposits as they are stored, with their metadata, in one tar file, plain
//! or encrypted with age. They are fetched one after the other, so memory holds one of them.

use std::io::{self, Write};
use std::path::PathBuf;

use age::stream::StreamWriter;
use tar::{Builder, EntryType, Header};

use super::deposit::{filters, label};
use crate::api::deposit::RETRIEVALS_LEFT;
use crate::cli::client::{Call, Client, with_query};
use crate::cli::door::Context;
use crate::cli::files::{Growing, cannot};
use crate::clock::Timestamp;
use crate::crypto::agefile;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Deposit, LabelKey, LabelValue};
use crate::model::org::OrgName;
use crate::model::page::Page;

#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    /// The new file: a tar, with ORG/NAME/metadata.json and ORG/NAME/VERSION for each deposit
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Encrypt the file with age to this recipient: age1…, or an SSH public key; may be given again
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Only names that begin so
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Only with this label; several must all be there
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(LabelKey, LabelValue)>,
    /// Only this organization's; then the command goes to the admin socket, unless --server is given
    #[arg(long, value_name = "NAME")]
    org: Option<OrgName>,
    /// Only what this holds for, as in `deposit list`; several must all hold
    #[arg(short = 'F', long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

/// The file that grows.
enum Out {
    Plain(Growing),
    Age(StreamWriter<Growing>),
}

impl Out {
    fn finish(self) -> Result<()> {
        match self {
            Self::Plain(file) => file.finish(),
            Self::Age(writer) => writer
                .finish()
                .map_err(|error| Error::internal("age did not end").because(error))?
                .finish(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Age(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Age(writer) => writer.flush(),
        }
    }
}

/// What came of it.
#[derive(Default, serde::Serialize)]
struct Count {
    deposits: u64,
    bytes: u64,
    /// In the bin, or each retrieval counts.
    left_out: u64,
    refused: u64,
}

pub async fn export(args: ExportArgs, context: &Context) -> Result<()> {
    let mut door = context.own(args.org.is_some())?;
    let path = match &args.org {
        Some(org) => format!("/v1/orgs/{org}/deposits"),
        None => "/v1/deposits".to_owned(),
    };
    let file = Growing::begin(&args.output)?;
    let out = match args.recipients.is_empty() {
        true => Out::Plain(file),
        false => Out::Age(agefile::writer(&args.recipients, file)?),
    };
    let mut tar = Builder::new(out);
    let mut count = Count::default();
    let mut cursor: Option<String> = None;
    loop {
        let filters = filters(args.prefix.as_deref(), &args.labels).into_iter();
        let filters = filters.chain(args.filters.iter().cloned());
        let mut query: Vec<(&str, String)> = filters.map(|filter| ("filter", filter)).collect();
        query.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
        let page: Page<Deposit> = door
            .client
            .json(Call::get(with_query(&path, &query)))
            .await?;
        for deposit in &page.items {
            one(deposit, &mut door.client, &mut tar, &mut count, context)
                .await
                .map_err(|error| context_of(error, &args.output))?;
        }
        if page.next.is_none() || page.next == cursor {
            break;
        }
        cursor = page.next;
    }
    let out = tar
        .into_inner()
        .map_err(|error| cannot("write", &args.output, error))?;
    out.finish()?;
    let (deposits, bytes) = (count.deposits, count.bytes);
    context.out.talk(&format!(
        "{} holds {deposits} deposits, {bytes} bytes; {} left out (in the bin, or limited in retrievals)",
        args.output.display(),
        count.left_out
    ));
    context.out.document(&count)?;
    match count.refused {
        0 => Ok(()),
        refused => Err(Error::denied(
            "export_incomplete",
            format!(
                "{refused} deposits could not be fetched, as said above; the file holds the others"
            ),
        )),
    }
}

/// A failure of the file is told by its name.
fn context_of(error: Error, path: &std::path::Path) -> Error {
    match error.code {
        "tar" => Error::unavailable(
            "file_failed",
            format!("cannot write {}: {}", path.display(), error.public),
        ),
        _ => error,
    }
}

/// Fetches the version that the list named, and adds it.
async fn one(
    deposit: &Deposit,
    client: &mut Client,
    tar: &mut Builder<Out>,
    count: &mut Count,
    context: &Context,
) -> Result<()> {
    let name = format!("{}/{}", deposit.org, deposit.name);
    if deposit.deleted.is_some() || deposit.max_retrievals.is_some() {
        count.left_out += 1;
        context.out.detail(&format!("{name} is left out"));
        return Ok(());
    }
    let version = deposit.version;
    let path = format!("/v1/deposits/id/{}?version={version}", deposit.id);
    let reply = match client.send(Call::get(path).once()).await {
        Err(error) if matches!(error.kind, Kind::Denied | Kind::NotFound) => {
            count.refused += 1;
            context.out.warn(&format!("{name}: {error}"));
            return Ok(());
        }
        reply => reply?,
    };
    if reply.header(RETRIEVALS_LEFT).is_some() {
        context.out.warn(&format!(
            "{name} was limited meanwhile; this was one of its retrievals"
        ));
    }
    let metadata =
        serde_json::to_vec_pretty(deposit).map_err(|error| Error::internal(error.to_string()))?;
    entry(
        tar,
        &format!("{name}/metadata.json"),
        deposit.modified,
        &metadata,
    )?;
    entry(
        tar,
        &format!("{name}/{version}"),
        deposit.modified,
        &reply.body,
    )?;
    count.deposits += 1;
    count.bytes += reply.body.len() as u64;
    Ok(())
}

fn entry(tar: &mut Builder<Out>, name: &str, modified: Timestamp, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(modified.0 / Timestamp::SECOND).unwrap_or(0));
    tar.append_data(&mut header, name, bytes)
        .map_err(|error| Error::unavailable("tar", error.to_string()).because(error))
}
