//! `keytrustee-orgtool`: organizations, their contacts and codes, and clients in and out.

use clap::{Parser, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{Line, secret_argument};
use crate::api::client::Decision;
use crate::cli::client::{Call, Client as Http};
use crate::cli::door::{Context, Global};
use crate::cli::noun::org;
use crate::cli::online;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::model::client::{Client, ClientState};
use crate::model::id::Fingerprint;
use crate::model::org::{Contact, Org, OrgName, Registration};

/// How the original writes that there is no end.
const NEVER: &str = "9999-12-31T15:59:59";

/// Organizations, as Key Trustee Server's command has them
#[derive(Parser, Debug)]
#[command(name = "keytrustee-orgtool", version, disable_help_subcommand = true)]
pub struct Orgtool {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add an organization; contacts are added to one that is there
    Add {
        /// Letters, digits, `-` and `_`
        #[arg(short, long, value_name = "NAME")]
        name: OrgName,
        /// Mail addresses of those responsible, with commas and without blanks
        #[arg(
            short,
            long,
            value_name = "A@X,B@Y",
            value_delimiter = ',',
            required = true
        )]
        contacts: Vec<Contact>,
        #[arg(hide = true, value_name = "NOTHING")]
        rest: Vec<String>,
    },
    /// All organizations, with their codes, as one JSON object
    List,
    /// Refuse an active client until it is enabled
    DisableClient {
        /// As `strongroom client list` shows it; in any case, with or without colons
        #[arg(long)]
        fingerprint: Fingerprint,
    },
    /// Let a client in that waits for its approval or is disabled
    EnableClient {
        /// As `strongroom client list` shows it; in any case, with or without colons
        #[arg(long)]
        fingerprint: Fingerprint,
    },
    /// Set the code with which clients register; "": they are active without one
    SetAuth {
        /// The organization's name
        #[arg(short, long, value_name = "NAME")]
        name: OrgName,
        /// The new code; `-` reads it from stdin, where no other account can see it
        #[arg(short, long, value_name = "SECRET", allow_hyphen_values = true)]
        secret: String,
    },
}

impl Line for Orgtool {
    fn global(&mut self) -> &mut Global {
        &mut self.global
    }

    fn run(self, context: &Context) -> Result<()> {
        online(run(self.verb, context))
    }
}

async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Add { rest, .. } if !rest.is_empty() => Err(Error::invalid(
            "contacts",
            "contacts are separated by commas, without blanks: -c finn@example.com,jake@example.com",
        )),
        Verb::Add { name, contacts, .. } => add(context, name, contacts).await,
        Verb::List => {
            let listed = list(&mut context.admin()?).await?;
            out.pretty(&listed)
        }
        Verb::DisableClient { fingerprint } => decide(context, fingerprint, "disable").await,
        Verb::EnableClient { fingerprint } => {
            let path = format!("/v1/clients/{fingerprint}");
            let client: Client = context.admin()?.json(Call::get(path)).await?;
            let verb = match client.state {
                ClientState::Pending => "approve",
                ClientState::Active | ClientState::Denied | ClientState::Disabled => "enable",
            };
            decide(context, fingerprint, verb).await
        }
        Verb::SetAuth { name, secret } => {
            let code = secret_argument(context, "-s", secret)?;
            org::set_auth(&mut context.admin()?, &name, &code, out).await
        }
    }
}

async fn add(context: &Context, name: OrgName, contacts: Vec<Contact>) -> Result<()> {
    let (mut client, out) = (context.admin()?, &context.out);
    match org::add(&mut client, name.clone(), contacts.clone(), None).await {
        Ok(added) => {
            out.talk(&format!(
                "organization {name} is added; `keytrustee-orgtool list` shows its code"
            ));
            out.document(&added.org).map(|_| ())
        }
        Err(error) if error.code == "name_taken" => {
            let org = org::add_contacts(&mut client, &name, contacts).await?;
            org::told_contacts(out, &org)
        }
        Err(error) => Err(error),
    }
}

async fn decide(context: &Context, client: Fingerprint, verb: &str) -> Result<()> {
    let request = Decision {
        reason: context.global.reason.clone(),
    };
    let path = format!("/v1/clients/{client}/{verb}");
    let call = Call::new(Method::POST, path).json(&request)?;
    let found: Client = context.admin()?.json(call).await?;
    let state = found.state.as_str();
    let out = &context.out;
    out.talk(&format!("client {client} of {} is {state}", found.org));
    out.document(&found).map(|_| ())
}

async fn list(client: &mut Http) -> Result<Value> {
    let mut orgs: Vec<Org> = Vec::new();
    client
        .pages("/v1/orgs", &[], None, |page: &[Org]| {
            orgs.extend_from_slice(page);
            Ok(())
        })
        .await?;
    let mut all = Map::new();
    for listed in orgs {
        let shown = org::show(client, &listed.name).await?;
        all.insert(
            listed.name.to_string(),
            entry(&shown.org, shown.auth_code.as_deref(), clock::now()),
        );
    }
    Ok(Value::Object(all))
}

fn entry(org: &Org, code: Option<&str>, now: Timestamp) -> Value {
    let code = match org.registration {
        Registration::Open => Some(""),
        // None: the caller may not see it, which is not the same as a blank one.
        Registration::Code => code,
    };
    json!({
        "auth_secret": code,
        "contacts": org.contacts,
        "creation": to_the_second(org.created),
        "expiration": org.expires.map_or_else(|| NEVER.to_owned(), to_the_second),
        // Contacts register no keys yet.
        "key_info": null,
        "name": org.name,
        "state": u8::from(org.is_over(now)),
        "uuid": org.id,
    })
}

/// `2013-12-02T09:55:21`, in UTC.
fn to_the_second(time: Timestamp) -> String {
    time.to_string().chars().take(19).collect()
}
