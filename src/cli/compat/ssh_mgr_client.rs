//! `ssh-mgr-client`: lists and settings.

use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};

use super::Line;
use crate::cli::door::{Context, Global};
use crate::cli::noun::{
    ListArgs, audit, client, deposit, host, host_group, job, org, recipient, role, schedule,
    setting, slot, token, user,
};
use crate::cli::{Printer, online};
use crate::error::{Error, Result};
use crate::model::id::shown;

/// Lists and settings, as Key Manager's command-line client has them
#[derive(Parser, Debug)]
#[command(name = "ssh-mgr-client", version, disable_help_subcommand = true)]
pub struct SshMgrClient {
    #[command(flatten)]
    global: Global,
    /// The server, over HTTPS; the same as --server
    #[arg(short = 'U', long = "url", value_name = "URL", global = true)]
    url: Option<String>,
    /// How lists are printed
    #[arg(
        short,
        long,
        value_name = "FORM",
        global = true,
        default_value = "table"
    )]
    output: Form,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Columns below a heading
    Table,
    /// One JSON document
    Json,
    /// Cells in quotes, separated by commas, below a heading
    Csv,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Organizations
    ListOrganizations(ListArgs),
    /// Clients: machines that store deposits
    ListClients(ListArgs),
    /// Deposits of all clients
    ListDeposits(ListArgs),
    /// Users
    ListUsers(ListArgs),
    /// API tokens
    ListTokens(ListArgs),
    /// Recipients: to whom backups are encrypted
    ListRecipients(ListArgs),
    /// Jobs: work that goes on behind a command
    ListJobs(ListArgs),
    /// Cancel the jobs that wait, and print how many; those that run go on
    CancelJobs {
        /// Only those that this holds for; several must all hold
        #[arg(short = 'F', long = "filter", value_name = "FILTER")]
        filters: Vec<String>,
    },
    /// Schedules: when which kind of job is made
    ListSchedules(ListArgs),
    /// Hosts: machines that are reached over SSH
    ListHosts(ListArgs),
    /// Groups of hosts
    ListHostGroups(ListArgs),
    /// Events of the audit, newest first
    ListEvents(ListArgs),
    /// Roles that users may have
    ListRoles,
    /// What opens the server
    ListSlots,
    /// Settings
    ListGlobalSettings,
    /// Change a setting
    SetGlobalSetting {
        /// Which, and to what; `value` comes last: its text runs to the end, commas included
        #[arg(short, long, value_name = "category=C,name=N,value=V")]
        data: Assignment,
    },
}

/// `category=host,name=additional_allow_from,value=192.0.2.80,backend.example.com`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Assignment {
    category: String,
    name: String,
    value: String,
}

impl FromStr for Assignment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::invalid(
                "data",
                format!(
                    "{why}; it takes category=C,name=N,value=V, in this or another order with `value` last"
                ),
            )
        };
        let (before, value) = match (text.strip_prefix("value="), text.split_once(",value=")) {
            (Some(value), _) => ("", value),
            (None, Some((before, value))) => (before, value),
            (None, None) => return Err(wrong("`value` is missing".to_owned())),
        };
        let (mut category, mut name) = (None, None);
        for part in before.split(',').filter(|part| !part.is_empty()) {
            let (field, given) = part.split_once('=').unwrap_or((part, ""));
            let slot = match field {
                "category" => &mut category,
                "name" => &mut name,
                _ => return Err(wrong(format!("`{}` is not known", shown(field)))),
            };
            if slot.replace(given.to_owned()).is_some() {
                return Err(wrong(format!("`{field}` stands there twice")));
            }
        }
        Ok(Self {
            category: category.ok_or_else(|| wrong("`category` is missing".to_owned()))?,
            name: name.ok_or_else(|| wrong("`name` is missing".to_owned()))?,
            value: value.to_owned(),
        })
    }
}

impl Line for SshMgrClient {
    fn global(&mut self) -> &mut Global {
        if let Some(url) = self.url.take() {
            self.global.server.get_or_insert(url);
        }
        &mut self.global
    }

    fn printed(&self, out: &mut Printer) {
        match self.output {
            // The form that was asked for, in a pipe, too.
            Form::Table => out.terminal = true,
            Form::Json => out.json = true,
            Form::Csv => out.csv = true,
        }
    }

    fn run(self, context: &Context) -> Result<()> {
        online(run(self.verb, context))
    }
}

async fn run(verb: Verb, context: &Context) -> Result<()> {
    match verb {
        Verb::ListOrganizations(list) => org::run(org::Verb::List(list), context).await,
        Verb::ListClients(list) => {
            client::run(client::Verb::List { org: None, list }, context).await
        }
        Verb::ListDeposits(list) => {
            deposit::run(
                deposit::Verb::List(deposit::ListDeposits::all(list)),
                context,
            )
            .await
        }
        Verb::ListUsers(list) => user::run(user::Verb::List(list), context).await,
        Verb::ListTokens(list) => token::run(token::Verb::List(list), context).await,
        Verb::ListRecipients(list) => recipient::run(recipient::Verb::List(list), context).await,
        Verb::ListJobs(list) => job::run(job::Verb::List { org: None, list }, context).await,
        Verb::CancelJobs { filters } => job::cancel_waiting(filters, context).await,
        Verb::ListSchedules(list) => schedule::run(schedule::Verb::List(list), context).await,
        Verb::ListHosts(list) => host::run(host::Verb::List(list), context).await,
        Verb::ListHostGroups(list) => host_group::run(host_group::Verb::List(list), context).await,
        Verb::ListEvents(list) => audit::run(audit::Verb::List(list), context).await,
        Verb::ListRoles => role::run(role::Verb::List, context).await,
        Verb::ListSlots => slot::run(slot::Verb::List, context).await,
        Verb::ListGlobalSettings => setting::run(setting::Verb::List, context).await,
        Verb::SetGlobalSetting { data } => {
            let name = format!("{}.{}", data.category, data.name);
            let value = data.value;
            setting::run(setting::Verb::Set { name, value }, context).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_after_value_runs_to_the_end() {
        let read = |text: &str| {
            let it: Assignment = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            format!("{}.{} {}", it.category, it.name, it.value)
        };
        assert_eq!(
            read("category=host,name=use_management_key_allow_from,value=True"),
            "host.use_management_key_allow_from True"
        );
        assert_eq!(
            read("category=host,name=additional_allow_from,value=192.0.2.80,backend.example.com"),
            "host.additional_allow_from 192.0.2.80,backend.example.com"
        );
        assert_eq!(
            read("name=n,category=c,value=a=b,value=c"),
            "c.n a=b,value=c"
        );
        assert_eq!(read("name=n,category=c,value="), "c.n ");
        for bad in [
            "",
            "category=host,name=n",
            "value=1",
            "category=c,value=1",
            "name=n,value=1",
            "category=c,category=c,name=n,value=1",
            "colour=c,category=c,name=n,value=1",
            "category=c, name=n,value=1",
        ] {
            assert!(bad.parse::<Assignment>().is_err(), "{bad}");
        }
    }
}
