//! `strongroom deposit`: everything but the bytes, which are in `deposit_body.rs`.

use std::str::FromStr;

use hyper::Method;

use super::deposit_body::{self, PutArgs};
use super::deposit_export::{self, ExportArgs};
use super::deposit_get::{self, GetArgs};
use super::deposit_policy::{self, GrantArgs, PolicyArgs};
use super::deposit_readers::{self, ShareArgs};
use super::deposit_watch::{self, WatchArgs};
use super::{ListArgs, quoted};
use crate::api::deposit::{EditDeposit, Versions};
use crate::cli::client::{Call, Client};
use crate::cli::door::{Context, Door};
use crate::cli::print::Printer;
use crate::error::{Error, Result};
use crate::model::deposit::{Deposit, DepositName, LabelKey, LabelValue, Labels};
use crate::model::id::DepositId;
use crate::model::org::OrgName;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Store a file, encrypted here with age; under a name that exists, as a new version
    Put(PutArgs),
    /// Fetch, and open with the home's identity what is encrypted with age
    ///
    /// In a home that keeps deposits (`client register --cache`, `client set-cache`) what was opened is kept
    /// as it came, encrypted; while the server is away the kept copy is used, and said. What --raw fetches
    /// is not kept.
    Get(GetArgs),
    /// The deposits that the caller may see
    List(ListDeposits),
    /// One deposit, without its bytes
    Show(Target),
    /// Change description, labels, and when and how often it may be fetched, without a new version
    Edit(EditArgs),
    /// One deposit's versions, newest first
    Versions(Target),
    /// Put a deposit into the bin; its name stays taken
    Rm {
        #[command(flatten)]
        target: Target,
        /// Only if N is the newest version
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        if_version: Option<u32>,
    },
    /// Take a deposit out of the bin
    Undelete(Target),
    /// Destroy a deposit that is in the bin, for good
    Purge(Target),
    /// Let another client, or a group of clients, fetch a deposit
    ///
    /// As its owner: the newest version is fetched, decrypted here, encrypted to the readers as well, and
    /// stored as a new version. For that a reader's certificate must vouch for its recipient.
    Share(ShareArgs),
    /// Take that right away again, and encrypt the deposit anew to those who are left
    Unshare(ShareArgs),
    /// Who may fetch a deposit beside its owner
    Readers(Target),
    /// Write deposits as they are stored, with their metadata, into one tar file
    ///
    /// The newest versions, encrypted as they are; for `--raw` ones give --recipient. What is in the bin, and
    /// what may be fetched so many times alone, is left out.
    Export(ExportArgs),
    /// Follow the changes of deposits, a line each, until Ctrl-C
    Watch(WatchArgs),
    /// Allow more retrievals of a deposit that may be fetched so many times alone
    Grant(GrantArgs),
}

/// Which deposit.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// The deposit's name in its organization, or its id
    #[arg(value_name = "NAME|UUID")]
    pub which: Which,
    /// The organization it is in; then the command goes to the admin socket, unless --server is given
    #[arg(long, value_name = "NAME")]
    pub org: Option<OrgName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Name(DepositName),
    Id(DepositId),
}

#[derive(clap::Args, Debug)]
pub struct ListDeposits {
    /// Only names that begin so
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Only with this label; several must all be there
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(LabelKey, LabelValue)>,
    /// Only this organization's; then the command goes to the admin socket, unless --server is given
    #[arg(long, value_name = "NAME")]
    org: Option<OrgName>,
    /// Others' deposits that are shared with this client, instead of its own
    #[arg(long, conflicts_with = "org")]
    shared: bool,
    #[command(flatten)]
    list: ListArgs,
    /// As an administrator, whatever client's home there is.
    #[arg(skip)]
    all: bool,
}

impl ListDeposits {
    /// Those of all clients.
    pub fn all(list: ListArgs) -> Self {
        Self {
            prefix: None,
            labels: Vec::new(),
            org: None,
            shared: false,
            list,
            all: true,
        }
    }
}

#[derive(clap::Args, Debug)]
pub struct EditArgs {
    #[command(flatten)]
    target: Target,
    /// The new description; an empty one removes it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Set a label; the others stay
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(LabelKey, LabelValue)>,
    /// Remove a label
    #[arg(long = "remove-label", value_name = "KEY")]
    remove: Vec<LabelKey>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Only if N is the newest version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    if_version: Option<u32>,
}

impl FromStr for Which {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse()
            .map(Self::Id)
            .or_else(|_| text.parse().map(Self::Name))
    }
}

/// `KEY=VALUE`.
pub fn label(text: &str) -> Result<(LabelKey, LabelValue)> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Error::invalid("labels", "a label is given as KEY=VALUE"))?;
    Ok((key.parse()?, value.parse()?))
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Put(args) => deposit_body::put(args, context).await,
        Verb::Get(args) => deposit_get::get(args, context).await,
        Verb::List(args) => list(args, context).await,
        Verb::Show(target) => {
            let (mut door, path) = target.open(context)?;
            let deposit = metadata(&mut door.client, &path).await?;
            out.record(&deposit, &fields(out, &deposit))
        }
        Verb::Share(args) => deposit_readers::share(args, context).await,
        Verb::Unshare(args) => deposit_readers::unshare(args, context).await,
        Verb::Readers(target) => deposit_readers::list(&target, context).await,
        Verb::Export(args) => deposit_export::export(args, context).await,
        Verb::Watch(args) => deposit_watch::watch(args, context).await,
        Verb::Grant(args) => deposit_policy::grant(args, context).await,
        Verb::Edit(args) => edit(args, context).await,
        Verb::Versions(target) => versions(&target, context).await,
        Verb::Rm { target, if_version } => {
            let (mut door, path) = target.open(context)?;
            out.confirm(&format!("Put {} into the bin?", target.which))?;
            let call = if_match(Call::new(Method::DELETE, path), if_version);
            let deposit: Deposit = door.client.json(call).await?;
            out.talk(&format!(
                "{} is in the bin; strongroom deposit undelete takes it out, purge destroys it",
                deposit.name
            ));
            out.document(&deposit).map(|_| ())
        }
        Verb::Undelete(target) => {
            let (mut door, path) = target.open(context)?;
            let call = Call::new(Method::POST, format!("{path}/undelete"));
            let deposit: Deposit = door.client.json(call).await?;
            out.talk(&format!(
                "{} is back, in version {}",
                deposit.name, deposit.version
            ));
            out.document(&deposit).map(|_| ())
        }
        Verb::Purge(target) => {
            let (mut door, path) = target.open(context)?;
            out.confirm(&format!(
                "Destroy {} with all its versions, for good?",
                target.which
            ))?;
            door.client
                .send(Call::new(Method::POST, format!("{path}/purge")))
                .await?;
            out.talk(&format!("{} is destroyed", target.which));
            Ok(())
        }
    }
}

impl Target {
    /// The door to it, and its path.
    pub fn open(&self, context: &Context) -> Result<(Door, String)> {
        let door = context.own(self.org.is_some())?;
        if door.acting.is_none() && self.org.is_none() && matches!(self.which, Which::Name(_)) {
            let home = context
                .home()
                .map(|home| home.dir.display().to_string())
                .unwrap_or_default();
            return Err(Error::invalid(
                "org",
                format!(
                    "in which organization? Give --org NAME, or the deposit's UUID; or, to act as a client, a --home with a registered one and no --data-dir (now {home})"
                ),
            ));
        }
        let path = self.path();
        Ok((door, path))
    }

    fn path(&self) -> String {
        match (&self.which, &self.org) {
            (Which::Id(id), _) => format!("/v1/deposits/id/{id}"),
            (Which::Name(name), Some(org)) => format!("/v1/orgs/{org}/deposits/{name}"),
            (Which::Name(name), None) => format!("/v1/deposits/{name}"),
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

pub async fn metadata(client: &mut Client, path: &str) -> Result<Deposit> {
    client.json(Call::get(format!("{path}/metadata"))).await
}

pub fn if_match(call: Call, version: Option<u32>) -> Call {
    match version {
        Some(version) => call.header("if-match", format!("\"{version}\"")),
        None => call,
    }
}

async fn list(args: ListDeposits, context: &Context) -> Result<()> {
    let mut door = context.own(args.all || args.org.is_some())?;
    let path = match &args.org {
        Some(org) => format!("/v1/orgs/{org}/deposits"),
        None => "/v1/deposits".to_owned(),
    };
    let filters = filters(args.prefix.as_deref(), &args.labels);
    let shared = args.shared.then(|| ("shared", "true".to_owned()));
    let filters = filters.into_iter().map(|filter| ("filter", filter));
    let filters = filters.chain(shared).collect();
    args.list
        .run(&mut door.client, &path, filters, &context.out, COLUMNS, row)
        .await
}

pub fn filters(prefix: Option<&str>, labels: &[(LabelKey, LabelValue)]) -> Vec<String> {
    let prefix = prefix.map(|prefix| format!("name ^ {}", quoted(prefix)));
    let labels = labels
        .iter()
        .map(|(key, value)| format!("label.{key} = {}", quoted(value.as_str())));
    prefix.into_iter().chain(labels).collect()
}

async fn edit(args: EditArgs, context: &Context) -> Result<()> {
    let labels = !(args.labels.is_empty() && args.remove.is_empty());
    if args.description.is_none() && !labels && args.policy.is_empty() {
        return Err(Error::invalid(
            "description",
            "what to change? Give --description, --label, --remove-label, --not-before, --expires, --max-retrievals or --single-use",
        ));
    }
    let (mut door, path) = args.target.open(context)?;
    let mut request = EditDeposit {
        description: args.description,
        ..EditDeposit::default()
    };
    args.policy.edit(&mut request);
    if labels {
        let now = metadata(&mut door.client, &path).await?.labels;
        request.labels = Some(edited(now, args.labels, &args.remove));
    }
    let call = Call::new(Method::PATCH, format!("{path}/metadata")).json(&request)?;
    let deposit: Deposit = door.client.json(if_match(call, args.if_version)).await?;
    context.out.talk(&format!("{} is changed", deposit.name));
    context.out.document(&deposit).map(|_| ())
}

fn edited(mut labels: Labels, set: Vec<(LabelKey, LabelValue)>, remove: &[LabelKey]) -> Labels {
    labels.retain(|key, _| !remove.contains(key));
    labels.extend(set);
    labels
}

async fn versions(target: &Target, context: &Context) -> Result<()> {
    let (mut door, path) = target.open(context)?;
    let found: Versions = door
        .client
        .json(Call::get(format!("{path}/versions")))
        .await?;
    let columns = &[
        "version",
        "size",
        "encryption",
        "content type",
        "created",
        "by",
    ];
    context
        .out
        .table(&found, &found.versions, columns, |out, it| {
            vec![
                it.version.to_string(),
                it.size.to_string(),
                it.encryption.as_str().to_owned(),
                it.content_type.clone(),
                out.time(it.created),
                it.created_by.clone(),
            ]
        })
}

const COLUMNS: &[&str] = &[
    "org",
    "name",
    "version",
    "size",
    "encryption",
    "labels",
    "modified",
    "deleted",
];

fn row(out: &Printer, deposit: &Deposit) -> Vec<String> {
    vec![
        deposit.org.to_string(),
        deposit.name.to_string(),
        deposit.version.to_string(),
        deposit.size.to_string(),
        deposit.encryption.as_str().to_owned(),
        label_list(&deposit.labels),
        out.time(deposit.modified),
        out.maybe_time(deposit.deleted),
    ]
}

fn fields(out: &Printer, deposit: &Deposit) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("name", deposit.name.to_string()),
        ("id", deposit.id.to_string()),
        ("org", deposit.org.to_string()),
        (
            "owner",
            deposit
                .owner
                .map(|owner| owner.to_string())
                .unwrap_or_default(),
        ),
        ("version", deposit.version.to_string()),
        ("size", deposit.size.to_string()),
        ("encryption", deposit.encryption.as_str().to_owned()),
        ("content type", deposit.content_type.clone()),
        ("description", deposit.description.clone()),
        ("labels", label_list(&deposit.labels)),
        ("created", out.time(deposit.created)),
        ("modified", out.time(deposit.modified)),
        ("deleted", out.maybe_time(deposit.deleted)),
    ];
    fields.extend(deposit_policy::fields(out, deposit));
    fields
}

fn label_list(labels: &Labels) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_labels_become_filters() {
        let labels = [label("env=prod").unwrap(), label("note=it's a=b").unwrap()];
        assert_eq!(
            filters(Some("db-"), &labels),
            [
                "name ^ 'db-'",
                "label.env = 'prod'",
                "label.note = 'it''s a=b'"
            ]
        );
    }

    #[test]
    fn a_uuid_names_by_id_and_anything_else_by_name() {
        let id: Which = "018f3b5e-5b6a-7c3d-8e9f-0123456789ab".parse().unwrap();
        let name: Which = "db-key".parse().unwrap();
        assert!("a/b".parse::<Which>().is_err());
        let path = |which: &Which, org: Option<&str>| {
            let org = org.map(|org| org.parse().unwrap());
            Target {
                which: which.clone(),
                org,
            }
            .path()
        };
        assert_eq!(path(&name, None), "/v1/deposits/db-key");
        assert_eq!(path(&name, Some("acme")), "/v1/orgs/acme/deposits/db-key");
        assert_eq!(
            path(&id, Some("acme")),
            "/v1/deposits/id/018f3b5e-5b6a-7c3d-8e9f-0123456789ab"
        );
    }

    #[test]
    fn labels_are_set_and_removed_one_by_one() {
        let now: Labels = ["a=1", "b=2", "c=3"]
            .map(|it| label(it).unwrap())
            .into_iter()
            .collect();
        let then = edited(now, vec![label("b=x").unwrap()], &["a".parse().unwrap()]);
        assert_eq!(label_list(&then), "b=x,c=3");
    }
}
