//! `strongroom host`.

use std::num::NonZeroU16;
use std::path::PathBuf;

use hyper::Method;

use super::ListArgs;
use super::deposit::label;
use crate::api::host::{AddHost, EditHost};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::host_import::{self, Format};
use crate::cli::print::Printer;
use crate::error::{Error, Result};
use crate::model::deposit::{LabelKey, LabelValue, Labels};
use crate::model::host::{Account, Address, Host, HostName, HostSetting, HostSettings, chain};
use crate::model::host_group::HostGroupPath;
use crate::model::window::Window;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add a host; nothing logs in there yet
    Add {
        /// A letter or digit, then letters, digits, `.`, `_` or `-`; 253 at most
        name: HostName,
        /// An IP address or DNS name [default: the name]
        #[arg(long, value_name = "ADDRESS")]
        address: Option<Address>,
        /// The group that it is in, such as emea/prod
        #[arg(long, value_name = "GROUP")]
        group: Option<HostGroupPath>,
        /// A label; may be given again
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(LabelKey, LabelValue)>,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// Add the hosts of a file
    ///
    /// CSV with a heading (name, address, port, account, sudo, jump, group, label.KEY, window), what
    /// `ansible-inventory --list` writes, OpenSSH's config or known_hosts. The file is read here and as
    /// a whole before anything is added; passwords and other variables in it are not sent. A host that
    /// is there stays as it is, unless --update is given.
    Import {
        /// The file (`-`: stdin)
        file: PathBuf,
        /// What it is [default: by its name: ….csv, ….json, config, known_hosts]
        #[arg(long, value_name = "FORMAT")]
        format: Option<Format>,
        /// The group that they are in; groups of an inventory become groups within it
        #[arg(long, value_name = "GROUP")]
        group: Option<HostGroupPath>,
        /// Change hosts that are there to what the file says of them
        #[arg(long)]
        update: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// All hosts
    List(ListArgs),
    /// One host, with what it takes from its groups
    Show {
        /// As `host list` shows it
        name: HostName,
    },
    /// Change a host; what is not named stays
    Edit {
        /// As `host list` shows it
        name: HostName,
        /// An IP address or DNS name
        #[arg(long, value_name = "ADDRESS")]
        address: Option<Address>,
        /// The group that it is in, such as emea/prod
        #[arg(long, value_name = "GROUP", conflicts_with = "no_group")]
        group: Option<HostGroupPath>,
        /// It is in no group
        #[arg(long)]
        no_group: bool,
        /// Set a label; the others stay
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(LabelKey, LabelValue)>,
        /// Remove a label
        #[arg(long, value_name = "KEY")]
        remove_label: Vec<LabelKey>,
        #[command(flatten)]
        settings: SettingArgs,
        /// Take this from its group again: port, account, sudo, jump or windows; may be given again
        #[arg(long, value_name = "SETTING")]
        inherit: Vec<HostSetting>,
    },
    /// Forget a host that no other is reached over
    Rm {
        /// As `host list` shows it
        name: HostName,
    },
}

/// How hosts are reached: of one host, or of all in a group.
#[derive(clap::Args, Debug, Default)]
pub struct SettingArgs {
    /// The SSH port; 22 if nobody says
    #[arg(long, value_name = "PORT")]
    port: Option<NonZeroU16>,
    /// Who logs in; root if nobody says
    #[arg(long, value_name = "NAME")]
    account: Option<Account>,
    /// That account becomes root by `sudo -n`
    #[arg(long, overrides_with = "no_sudo")]
    sudo: bool,
    /// It stays what it is
    #[arg(long, overrides_with = "sudo")]
    no_sudo: bool,
    /// The hosts before it, the one to go to first in front: by commas, or given again
    #[arg(
        long,
        value_name = "HOST",
        value_delimiter = ',',
        conflicts_with = "direct"
    )]
    jump: Vec<HostName>,
    /// There is no host before it
    #[arg(long)]
    direct: bool,
    /// When something may be written there, such as "0 22 * * sat for 6h in Europe/Berlin"; may be
    /// given again. At any time if nobody says
    #[arg(long, value_name = "WINDOW", conflicts_with = "any_time")]
    window: Vec<Window>,
    /// Something may be written there at any time
    #[arg(long)]
    any_time: bool,
}

impl SettingArgs {
    pub fn settings(self) -> HostSettings {
        HostSettings {
            port: self.port,
            account: self.account,
            sudo: (self.sudo || self.no_sudo).then_some(self.sudo),
            jump: (self.direct || !self.jump.is_empty()).then_some(self.jump),
            windows: (self.any_time || !self.window.is_empty()).then_some(self.window),
        }
    }
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::Add {
            name,
            address,
            group,
            labels,
            settings,
        } => {
            let request = AddHost {
                name,
                address,
                group,
                labels: labels.into_iter().collect::<Labels>(),
                own: settings.settings(),
            };
            let call = Call::new(Method::POST, "/v1/hosts").json(&request)?;
            let added: Host = client.json(call).await?;
            out.talk(&format!("host {} is added", added.name));
            out.document(&added).map(drop)
        }
        Verb::Import {
            file,
            format,
            group,
            update,
            dry_run,
        } => {
            let found = host_import::read(&file, format, group.as_ref())?;
            host_import::import(found, update, dry_run, &mut client, out).await
        }
        Verb::List(list) => {
            const COLUMNS: &[&str] = &[
                "name", "address", "port", "account", "sudo", "jump", "group", "state", "labels",
            ];
            list.run(&mut client, "/v1/hosts", vec![], out, COLUMNS, row)
                .await
        }
        Verb::Show { name } => {
            let shown: Host = client.json(Call::get(path(&name))).await?;
            record(&shown, out)
        }
        Verb::Edit {
            name,
            address,
            group,
            no_group,
            labels,
            remove_label,
            settings,
            inherit,
        } => {
            let set = labels.into_iter().map(|(key, value)| (key, Some(value)));
            let request = EditHost {
                address,
                group,
                ungroup: no_group,
                labels: remove_label
                    .into_iter()
                    .map(|key| (key, None))
                    .chain(set)
                    .collect(),
                own: settings.settings(),
                inherit,
            };
            if request == EditHost::default() {
                return Err(Error::invalid(
                    "host",
                    "what to change? Give --address, --group, --no-group, --label, --remove-label, --inherit or a setting, such as --port",
                ));
            }
            let call = Call::new(Method::PATCH, path(&name)).json(&request)?;
            let edited: Host = client.json(call).await?;
            out.talk(&format!("host {name} is changed"));
            record(&edited, out)
        }
        Verb::Rm { name } => {
            out.confirm(&format!("Forget the host {name}?"))?;
            client.send(Call::new(Method::DELETE, path(&name))).await?;
            out.talk(&format!("host {name} is forgotten"));
            Ok(())
        }
    }
}

pub fn path(name: &HostName) -> String {
    format!("/v1/hosts/{name}")
}

fn labels(host: &Host) -> String {
    let each = host.labels.iter();
    each.map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn way(host: &Host) -> String {
    match host.jump.as_slice() {
        [] => String::new(),
        jump => chain(jump),
    }
}

fn sudo(on: bool) -> String {
    if on { "yes" } else { "no" }.to_owned()
}

fn group(host: &Host) -> String {
    host.group
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn row(_: &Printer, it: &Host) -> Vec<String> {
    vec![
        it.name.to_string(),
        it.address.to_string(),
        it.port.to_string(),
        it.account.to_string(),
        sudo(it.sudo),
        way(it),
        group(it),
        it.state.as_str().to_owned(),
        labels(it),
    ]
}

fn record(it: &Host, out: &Printer) -> Result<()> {
    // What it takes from its group says so.
    let from = |own: bool, text: String| match (own, &it.group) {
        (false, Some(_)) => format!("{text} (not its own)"),
        _ => text,
    };
    let own = &it.own;
    let mut fields = vec![
        ("name", it.name.to_string()),
        ("id", it.id.to_string()),
        ("address", it.address.to_string()),
        ("group", group(it)),
        ("state", it.state.as_str().to_owned()),
        ("port", from(own.port.is_some(), it.port.to_string())),
        (
            "account",
            from(own.account.is_some(), it.account.to_string()),
        ),
        ("sudo", from(own.sudo.is_some(), sudo(it.sudo))),
        ("jump", from(own.jump.is_some(), chain(&it.jump))),
    ];
    let windows = it.windows.iter();
    fields.extend(windows.map(|it| ("window", from(own.windows.is_some(), it.to_string()))));
    fields.push(("labels", labels(it)));
    fields.push(("created", out.time(it.created)));
    fields.push(("changed", out.time(it.changed)));
    out.record(it, &fields)
}
