//! `strongroom host-group`.

use hyper::Method;

use super::ListArgs;
use super::host::SettingArgs;
use crate::api::host_group::{AddHostGroup, EditHostGroup};
use crate::cli::client::{Call, percent};
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::error::{Error, Result};
use crate::model::host::HostSetting;
use crate::model::host_group::{HostGroup, HostGroupPath};

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add a group, and those that its path names before it
    Add {
        /// Names joined by `/`, such as emea/prod
        path: HostGroupPath,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// All groups
    List(ListArgs),
    /// One group, with what it says itself
    Show {
        /// As `host-group list` shows it
        path: HostGroupPath,
    },
    /// Change what holds for all hosts in a group that say nothing else themselves
    Edit {
        /// As `host-group list` shows it
        path: HostGroupPath,
        #[command(flatten)]
        settings: SettingArgs,
        /// Take this from the group that it lies in again: port, account, sudo, jump or windows; may be given again
        #[arg(long, value_name = "SETTING")]
        inherit: Vec<HostSetting>,
    },
    /// Remove a group in which nothing is
    Rm {
        /// As `host-group list` shows it
        path: HostGroupPath,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::Add { path, settings } => {
            let own = settings.settings();
            let call =
                Call::new(Method::POST, "/v1/host-groups").json(&AddHostGroup { path, own })?;
            let added: HostGroup = client.json(call).await?;
            out.talk(&format!("host group {} is added", added.path));
            out.document(&added).map(drop)
        }
        Verb::List(list) => {
            const COLUMNS: &[&str] = &["path", "hosts", "says", "created"];
            list.run(&mut client, "/v1/host-groups", vec![], out, COLUMNS, row)
                .await
        }
        Verb::Show { path } => {
            let shown: HostGroup = client.json(Call::get(url(&path))).await?;
            record(&shown, out)
        }
        Verb::Edit {
            path,
            settings,
            inherit,
        } => {
            let own = settings.settings();
            if own.is_empty() && inherit.is_empty() {
                return Err(Error::invalid(
                    "host_group",
                    "what to change? Give a setting, such as --port, or --inherit",
                ));
            }
            let request = EditHostGroup { own, inherit };
            let call = Call::new(Method::PATCH, url(&path)).json(&request)?;
            let edited: HostGroup = client.json(call).await?;
            out.talk(&format!("host group {path} is changed"));
            record(&edited, out)
        }
        Verb::Rm { path } => {
            out.confirm(&format!("Remove the host group {path}?"))?;
            client.send(Call::new(Method::DELETE, url(&path))).await?;
            out.talk(&format!("host group {path} is removed"));
            Ok(())
        }
    }
}

fn url(path: &HostGroupPath) -> String {
    format!("/v1/host-groups/{}", percent(path.as_str()))
}

fn row(out: &Printer, it: &HostGroup) -> Vec<String> {
    vec![
        it.path.to_string(),
        it.hosts.to_string(),
        it.own.in_words(),
        out.time(it.created),
    ]
}

fn record(it: &HostGroup, out: &Printer) -> Result<()> {
    out.record(
        it,
        &[
            ("path", it.path.to_string()),
            ("hosts", it.hosts.to_string()),
            ("says", it.own.in_words()),
            ("created", out.time(it.created)),
        ],
    )
}
