//! `strongroom org`.

use std::path::PathBuf;

use hyper::Method;

use super::moment::Moment;
use super::quota::{self, QuotaArgs};
use super::{ListArgs, org_key};
use crate::api::org::{
    AddContacts, AddOrg, OrgWithCode, SetAuth, SetOrgExpiry, SetRecoveryRecipient,
};
use crate::cli::client::{Call, Client, percent};
use crate::cli::door::Context;
use crate::cli::files;
use crate::cli::print::Printer;
use crate::clock::{self, Timestamp};
use crate::crypto::agefile;
use crate::error::{Error, Result};
use crate::model::org::{Contact, Org, OrgName, Registration};
use crate::secret::Secret;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add an organization, and print the code with which its clients register
    Add {
        /// Letters, digits, `-` and `_`
        name: OrgName,
        /// Mail addresses of those responsible, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "A@X,B@Y")]
        contacts: Vec<Contact>,
        /// When it ends: 2027-01-31T00:00:00Z, or +90d, +12h, +30m from now; never if left out
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        expires: Option<Moment>,
    },
    /// All organizations
    List(ListArgs),
    /// One organization, with its code
    Show {
        /// The organization's name
        name: OrgName,
    },
    /// Destroy an organization with all its clients and deposits, for good
    ///
    /// Its keys go at once, so that nothing of it can be opened any more; its rows are deleted in the
    /// background. Copies of the data folder from before still hold it.
    Rm {
        /// The organization's name
        name: OrgName,
    },
    /// Set the code with which clients register
    SetAuth {
        /// The organization's name
        name: OrgName,
        /// A file with the new code (`-`: stdin)
        #[arg(long, value_name = "FILE", required_unless_present = "open")]
        secret_file: Option<PathBuf>,
        /// Have no code: whoever registers is active at once
        #[arg(long, conflicts_with = "secret_file")]
        open: bool,
    },
    /// The version of an organization's key, and how far its rotation is
    Key {
        /// The organization's name
        name: OrgName,
    },
    /// Make an organization's key anew, while it serves
    ///
    /// What is stored from then on lies under the newer key; what is there is sealed anew in the
    /// background, over restarts too, and can be read throughout. Then the older key is destroyed.
    RotateKey {
        /// The organization's name
        name: OrgName,
        /// Wait until the older key is destroyed
        #[arg(long)]
        wait: bool,
    },
    /// Set how much an organization may keep and ask for, or show that and what is used of it
    ///
    /// A limit that is not named stays; `none` takes it away. What is there already stays, also above a
    /// new limit: it can be read and deleted.
    Quota {
        /// The organization's name
        name: OrgName,
        #[command(flatten)]
        limits: QuotaArgs,
    },
    /// Those responsible for an organization
    #[command(subcommand)]
    Contact(ContactVerb),
    /// Set when an organization ends: its clients are refused from then on, its data is kept
    SetExpiry {
        /// The organization's name
        name: OrgName,
        /// 2027-01-31T00:00:00Z, or +90d, +12h, +30m from now
        #[arg(
            required_unless_present = "never",
            conflicts_with = "never",
            value_name = "TIME"
        )]
        time: Option<Moment>,
        /// Have no end
        #[arg(long)]
        never: bool,
    },
    /// Set the age recipient that the organization's clients add to whatever they encrypt
    RecoveryRecipient {
        /// The organization's name
        name: OrgName,
        /// age1…
        #[arg(required_unless_present = "remove", conflicts_with = "remove")]
        recipient: Option<String>,
        /// Have none; what was encrypted before stays readable to the old one
        #[arg(long)]
        remove: bool,
    },
}

#[derive(clap::Subcommand, Debug)]
pub enum ContactVerb {
    /// Add a contact
    Add {
        /// The organization's name
        name: OrgName,
        /// A mail address, such as root@kts01
        address: Contact,
    },
    /// Remove a contact
    Rm {
        /// The organization's name
        name: OrgName,
        /// As `org show` has it
        address: Contact,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::Add {
            name,
            contacts,
            expires,
        } => {
            let expires = expires.map(|it| it.from(clock::now()));
            let org = add(&mut client, name, contacts, expires).await?;
            out.talk(&format!(
                "organization {} is added; a client that registers with its code is active at once",
                org.org.name
            ));
            print_code(out, &org)
        }
        Verb::List(list) => {
            list.run(&mut client, "/v1/orgs", vec![], out, COLUMNS, row)
                .await
        }
        Verb::Show { name } => {
            let org = show(&mut client, &name).await?;
            out.record(&org, &fields(out, &org))
        }
        Verb::Rm { name } => {
            let org = show(&mut client, &name).await?.org;
            out.confirm(&format!(
                "Destroy {name} with its {} deposits and {} clients, for good?",
                org.deposits, org.clients
            ))?;
            let call = Call::new(Method::DELETE, format!("/v1/orgs/{name}"));
            let org: Org = client.json(call).await?;
            out.talk(&format!(
                "{name} is destroyed; its rows go in the background"
            ));
            out.document(&org).map(|_| ())
        }
        Verb::SetAuth {
            name,
            secret_file,
            open,
        } => {
            let code = match secret_file {
                Some(path) => files::read_secret(&path)?,
                None => Secret::new(String::new()),
            };
            if !open && code.expose().trim().is_empty() {
                return Err(Error::invalid(
                    "auth_code",
                    "the file holds no code; to let everyone register without one, give --open",
                ));
            }
            set_auth(&mut client, &name, &code, out).await
        }
        Verb::Contact(ContactVerb::Add { name, address }) => {
            let org = add_contacts(&mut client, &name, vec![address]).await?;
            told_contacts(out, &org)
        }
        Verb::Contact(ContactVerb::Rm { name, address }) => {
            let path = format!("/v1/orgs/{name}/contacts/{}", percent(address.as_str()));
            let org: Org = client.json(Call::new(Method::DELETE, path)).await?;
            told_contacts(out, &org)
        }
        Verb::SetExpiry { name, time, .. } => {
            let request = SetOrgExpiry {
                expires: time.map(|it| it.from(clock::now())),
            };
            let call = Call::new(Method::PUT, format!("/v1/orgs/{name}/expiry")).json(&request)?;
            let org: Org = client.json(call).await?;
            out.talk(&match org.expires {
                Some(end) if org.is_over(clock::now()) => format!(
                    "{name} has ended ({}): its clients are refused, what is stored is kept",
                    out.time(end)
                ),
                Some(end) => format!("{name} ends {}", out.time(end)),
                None => format!("{name} has no end"),
            });
            out.document(&org).map(|_| ())
        }
        Verb::Quota { name, limits } => {
            let path = format!("/v1/orgs/{name}/quota");
            quota::run(limits, name.as_str(), &path, &mut client, out).await
        }
        Verb::Key { name } => org_key::show(&mut client, &name, out).await,
        Verb::RotateKey { name, wait } => org_key::rotate(&mut client, &name, wait, context).await,
        Verb::RecoveryRecipient {
            name,
            recipient,
            remove: _,
        } => {
            if let Some(recipient) = &recipient {
                agefile::check_recipient(recipient)?;
            }
            let request = SetRecoveryRecipient { recipient };
            let call = Call::new(Method::PUT, format!("/v1/orgs/{name}/recovery-recipient"))
                .json(&request)?;
            let org: Org = client.json(call).await?;
            out.talk(&match &org.recovery_recipient {
                Some(it) => format!("clients of {name} encrypt to {it} too from now on; what they stored before stays as it is"),
                None => format!("clients of {name} encrypt to themselves alone from now on"),
            });
            out.document(&org).map(|_| ())
        }
    }
}

/// Makes an organization; the answer has its code.
pub async fn add(
    client: &mut Client,
    name: OrgName,
    contacts: Vec<Contact>,
    expires: Option<Timestamp>,
) -> Result<OrgWithCode> {
    let request = AddOrg {
        name,
        contacts,
        expires,
    };
    let call = Call::new(Method::POST, "/v1/orgs").json(&request)?;
    client.json(call).await
}

pub async fn add_contacts(
    client: &mut Client,
    name: &OrgName,
    contacts: Vec<Contact>,
) -> Result<Org> {
    let call = Call::new(Method::POST, format!("/v1/orgs/{name}/contacts"));
    client.json(call.json(&AddContacts { contacts })?).await
}

pub fn told_contacts(out: &Printer, org: &Org) -> Result<()> {
    out.talk(&match contacts(org).as_str() {
        "" => format!("{} has no contact", org.name),
        all => format!("the contacts of {} are {all}", org.name),
    });
    out.document(org).map(|_| ())
}

pub async fn set_auth(
    client: &mut Client,
    name: &OrgName,
    code: &Secret<String>,
    out: &Printer,
) -> Result<()> {
    let request = SetAuth {
        auth_code: code.expose().clone(),
    };
    let call = Call::new(Method::PUT, format!("/v1/orgs/{name}/auth")).json(&request)?;
    let org: OrgWithCode = client.json(call).await?;
    out.talk(&match org.org.registration {
        Registration::Code => format!(
            "clients of {name} register with the new code now; without it they wait for approval"
        ),
        Registration::Open => {
            format!("clients of {name} are active as soon as they register now, without a code")
        }
    });
    out.document(&org).map(|_| ())
}

pub async fn show(client: &mut Client, name: &OrgName) -> Result<OrgWithCode> {
    client.json(Call::get(format!("/v1/orgs/{name}"))).await
}

/// The code alone, so that it can go into a file.
fn print_code(out: &Printer, org: &OrgWithCode) -> Result<()> {
    if out.document(org)? {
        return Ok(());
    }
    match &org.auth_code {
        Some(code) => out.line(code),
        None => Ok(()),
    }
}

const COLUMNS: &[&str] = &[
    "name",
    "registration",
    "clients",
    "deposits",
    "bytes",
    "contacts",
    "recovery",
    "created",
    "expires",
];

fn row(out: &Printer, org: &Org) -> Vec<String> {
    vec![
        org.name.to_string(),
        registration(org.registration).to_owned(),
        org.clients.to_string(),
        org.deposits.to_string(),
        org.bytes.to_string(),
        contacts(org),
        org.recovery_recipient.clone().unwrap_or_default(),
        out.time(org.created),
        out.maybe_time(org.expires),
    ]
}

fn fields(out: &Printer, org: &OrgWithCode) -> Vec<(&'static str, String)> {
    let it = &org.org;
    vec![
        ("name", it.name.to_string()),
        ("id", it.id.to_string()),
        ("registration", registration(it.registration).to_owned()),
        ("code", org.auth_code.clone().unwrap_or_default()),
        ("contacts", contacts(it)),
        (
            "recovery recipient",
            it.recovery_recipient.clone().unwrap_or_default(),
        ),
        ("clients", it.clients.to_string()),
        ("deposits", it.deposits.to_string()),
        ("bytes", it.bytes.to_string()),
        ("quota", it.quota.to_string()),
        ("created", out.time(it.created)),
        ("expires", out.maybe_time(it.expires)),
    ]
}

fn contacts(org: &Org) -> String {
    org.contacts
        .iter()
        .map(Contact::as_str)
        .collect::<Vec<_>>()
        .join(",")
}

fn registration(registration: Registration) -> &'static str {
    match registration {
        Registration::Code => "code",
        Registration::Open => "open",
    }
}
