//! Hosts out of files of other programs. They are read here, so that what else stands in them, such as
//! an inventory's passwords, never leaves.

mod ansible;
mod known_hosts;
mod ssh_config;
mod table;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use hyper::Method;
use serde::Serialize;

use super::client::{Call, Client};
use super::files;
use super::noun::host::path;
use super::print::Printer;
use crate::api::host::{AddHost, EditHost};
use crate::api::host_group::AddHostGroup;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::Labels;
use crate::model::host::{Address, Host, HostName, HostSettings};
use crate::model::host_group::{HostGroup, HostGroupPath};

/// A hundred thousand hosts in any of these formats.
const LONGEST: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with a heading
    Csv,
    /// What `ansible-inventory --list` writes
    Ansible,
    /// OpenSSH's client configuration
    SshConfig,
    /// OpenSSH's list of known host keys; of it the names
    KnownHosts,
}

/// What a file says.
#[derive(Debug, Default)]
pub struct Found {
    /// Each name once.
    pub(crate) hosts: Vec<AddHost>,
    /// What of it was left out, and why.
    pub(crate) notes: Vec<String>,
}

fn wrong(line: usize, why: impl std::fmt::Display) -> Error {
    Error::invalid("file", format!("line {line}: {why}"))
}

fn host(name: HostName) -> AddHost {
    AddHost {
        name,
        address: None,
        group: None,
        labels: Labels::default(),
        own: HostSettings::default(),
    }
}

/// A name for what is known by its address alone.
fn named_after(address: &str) -> Result<HostName> {
    match address.starts_with(':') {
        true => format!("ip6{}", address.replace(':', "-")).parse(),
        false => address.replace(':', "-").parse(),
    }
}

/// Reads a file as a whole.
///
/// # Errors
/// It cannot be read or is not of this format; a line that is wrong, with its number.
pub fn read(file: &Path, format: Option<Format>, group: Option<&HostGroupPath>) -> Result<Found> {
    let format = match format {
        Some(format) => format,
        None => guess(file)?,
    };
    let bytes = files::read(file, LONGEST)?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|error| {
        let line = bytes.expose()[..error.valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        wrong(line + 1, "it is not UTF-8")
    })?;
    let mut found = parse(format, text)?;
    if let Some(group) = group {
        for host in &mut found.hosts {
            host.group = Some(match &host.group {
                Some(within) => format!("{group}/{within}").parse()?,
                None => group.clone(),
            });
        }
    }
    Ok(found)
}

/// What a file's text says.
///
/// # Errors
/// A line that is wrong, with its number.
pub(crate) fn parse(format: Format, text: &str) -> Result<Found> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Csv => table::read(text),
        Format::Ansible => ansible::read(text),
        Format::SshConfig => ssh_config::read(text),
        Format::KnownHosts => known_hosts::read(text),
    }
}

fn guess(file: &Path) -> Result<Format> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match name.as_ref() {
        "config" | "ssh_config" => Ok(Format::SshConfig),
        "known_hosts" | "ssh_known_hosts" => Ok(Format::KnownHosts),
        name if name.ends_with(".csv") => Ok(Format::Csv),
        name if name.ends_with(".json") => Ok(Format::Ansible),
        _ => Err(Error::invalid(
            "format",
            "what the file is does not show in its name; give --format csv, ansible, ssh-config or known-hosts",
        )),
    }
}

/// What came of an import.
#[derive(Debug, Default, Serialize)]
struct Report {
    added: Vec<HostName>,
    changed: Vec<HostName>,
    /// They are there as the file has them.
    same: Vec<HostName>,
    /// They are there otherwise, and stay so.
    differing: Vec<HostName>,
    refused: Vec<Refused>,
    /// What of the file was left out.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Refused {
    name: HostName,
    why: String,
}

/// Adds what was read, jump hosts first. A host that is refused does not stop the others.
///
/// # Errors
/// `some_refused`, after all were tried; or the server cannot be reached.
pub async fn import(
    found: Found,
    update: bool,
    dry_run: bool,
    client: &mut Client,
    out: &Printer,
) -> Result<()> {
    let Found { hosts, notes } = found;
    let hosts = jump_hosts_first(hosts);
    let mut report = Report {
        notes,
        ..Report::default()
    };
    if !dry_run {
        make_groups(&hosts, client).await?;
    }
    let total = hosts.len() as u64;
    for (done, new) in hosts.into_iter().enumerate() {
        let name = new.name.clone();
        let list = match one(new, update, dry_run, client).await {
            Ok(Done::Added) => &mut report.added,
            Ok(Done::Changed) => &mut report.changed,
            Ok(Done::Same) => &mut report.same,
            Ok(Done::Differing) => &mut report.differing,
            Err(error) if matches!(error.kind, Kind::Invalid | Kind::Conflict | Kind::NotFound) => {
                let why = error.public.to_string();
                report.refused.push(Refused { name, why });
                continue;
            }
            Err(error) => return Err(error),
        };
        list.push(name);
        out.progress(done as u64 + 1, total);
    }
    out.progress_ends(total);
    say(&report, dry_run, out)
}

fn say(report: &Report, dry_run: bool, out: &Printer) -> Result<()> {
    if !out.document(report)? {
        for note in &report.notes {
            out.warn(note);
        }
        for Refused { name, why } in &report.refused {
            out.warn(&format!("{name} is refused: {why}"));
        }
        let would = if dry_run { "would be " } else { "" };
        out.line(&format!(
            "{} hosts {would}added, {} {would}changed, {} as they were",
            report.added.len(),
            report.changed.len(),
            report.same.len()
        ))?;
        if !report.differing.is_empty() {
            let few = &report.differing[..report.differing.len().min(5)];
            let few: Vec<&str> = few.iter().map(HostName::as_str).collect();
            out.warn(&format!(
                "{} are there otherwise, and stay so ({}{}); --update changes them",
                report.differing.len(),
                few.join(", "),
                if report.differing.len() > few.len() {
                    ", …"
                } else {
                    ""
                }
            ));
        }
    }
    match report.refused.len() {
        0 => Ok(()),
        refused => Err(Error::new(
            Kind::Internal,
            "some_refused",
            format!(
                "{refused} hosts were refused; the others are there. Mend the file and import it again: what is there already stays"
            ),
        )),
    }
}

enum Done {
    Added,
    Changed,
    Same,
    Differing,
}

async fn one(new: AddHost, update: bool, dry_run: bool, client: &mut Client) -> Result<Done> {
    let there: Host = match client.json(Call::get(path(&new.name))).await {
        Ok(there) => there,
        Err(error) if error.kind == Kind::NotFound => {
            if !dry_run {
                let call = Call::new(Method::POST, "/v1/hosts").json(&new)?;
                client.json::<Host>(call).await?;
            }
            return Ok(Done::Added);
        }
        Err(error) => return Err(error),
    };
    let change = difference(new, &there)?;
    if change == EditHost::default() {
        return Ok(Done::Same);
    }
    if !update {
        return Ok(Done::Differing);
    }
    if !dry_run {
        let call = Call::new(Method::PATCH, path(&there.name)).json(&change)?;
        client.json::<Host>(call).await?;
    }
    Ok(Done::Changed)
}

/// What makes a host that is there what the file says; what it does not speak of stays.
fn difference(new: AddHost, there: &Host) -> Result<EditHost> {
    fn other<T: PartialEq>(said: Option<T>, there: Option<&T>) -> Option<T> {
        said.filter(|said| Some(said) != there)
    }
    let address: Address = match new.address {
        Some(address) => address,
        None => new.name.as_str().parse()?,
    };
    let own = &there.own;
    Ok(EditHost {
        address: other(Some(address), Some(&there.address)),
        group: other(new.group, there.group.as_ref()),
        ungroup: false,
        labels: new
            .labels
            .into_iter()
            .filter(|(key, value)| there.labels.get(key) != Some(value))
            .map(|(key, value)| (key, Some(value)))
            .collect(),
        own: HostSettings {
            port: other(new.own.port, own.port.as_ref()),
            account: other(new.own.account, own.account.as_ref()),
            sudo: other(new.own.sudo, own.sudo.as_ref()),
            jump: other(new.own.jump, own.jump.as_ref()),
            windows: other(new.own.windows, own.windows.as_ref()),
        },
        inherit: Vec::new(),
    })
}

async fn make_groups(hosts: &[AddHost], client: &mut Client) -> Result<()> {
    let groups: BTreeSet<&HostGroupPath> =
        hosts.iter().filter_map(|it| it.group.as_ref()).collect();
    for path in groups {
        let own = HostSettings::default();
        let path = path.clone();
        let call = Call::new(Method::POST, "/v1/host-groups").json(&AddHostGroup { path, own })?;
        match client.json::<HostGroup>(call).await {
            Err(error) if error.code != "name_taken" => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// In an order in which each host comes after those that one goes over to reach it, as far as they
/// stand in the file.
fn jump_hosts_first(hosts: Vec<AddHost>) -> Vec<AddHost> {
    let mut waiting: HashSet<HostName> = hosts.iter().map(|it| it.name.clone()).collect();
    let (mut rest, mut ordered) = (hosts, Vec::new());
    loop {
        let before = ordered.len();
        let (ready, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|host| {
            let mut jump = host.own.jump.iter().flatten();
            jump.all(|it| !waiting.contains(it))
        });
        for host in ready {
            waiting.remove(&host.name);
            ordered.push(host);
        }
        rest = later;
        if ordered.len() == before {
            // Nothing is left, or a loop, which the server refuses.
            ordered.extend(rest);
            return ordered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_jump(name: &str, jump: &[&str]) -> AddHost {
        let mut it = host(name.parse().unwrap());
        it.own.jump = Some(jump.iter().map(|it| it.parse().unwrap()).collect());
        it
    }

    #[test]
    fn jump_hosts_come_first_and_loops_last() {
        let hosts = vec![
            with_jump("c", &["a", "b"]),
            with_jump("x", &["y"]),
            with_jump("b", &["a"]),
            with_jump("a", &["elsewhere"]),
            with_jump("y", &["x"]),
        ];
        let ordered: Vec<String> = jump_hosts_first(hosts)
            .iter()
            .map(|it| it.name.to_string())
            .collect();
        assert_eq!(ordered, ["a", "b", "c", "x", "y"]);
    }

    #[test]
    fn an_address_makes_a_name() {
        for (address, name) in [
            ("::1", "ip6--1"),
            ("2001:db8::2", "2001-db8--2"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(named_after(address).unwrap().as_str(), name);
        }
    }

    #[test]
    fn only_what_differs_is_changed() {
        let json = r#"{"id":"018f3b5e-5b6a-7c3d-8e9f-0123456789ab","name":"a","address":"10.0.0.1","group":"emea","labels":{"env":"prod","tier":"1"},
            "state":"created","port":2222,"account":"ops","sudo":false,"jump":[],"windows":[],"own":{"port":2222},
            "created":"2026-01-01T00:00:00Z","changed":"2026-01-01T00:00:00Z"}"#;
        let there: Host = serde_json::from_str(json).unwrap();
        let mut new = host("a".parse().unwrap());
        new.address = Some("10.0.0.1".parse().unwrap());
        new.labels = [("env".parse().unwrap(), "prod".parse().unwrap())].into();
        new.own.port = std::num::NonZeroU16::new(2222);
        assert_eq!(difference(new, &there).unwrap(), EditHost::default());
        let mut new = host("a".parse().unwrap());
        new.own.account = Some("ops".parse().unwrap());
        let change = difference(new, &there).unwrap();
        // Its address is its name where the file gives none; what it inherits is not its own.
        assert_eq!(change.address, Some("a".parse().unwrap()));
        assert_eq!(change.own.account, Some("ops".parse().unwrap()));
        assert_eq!((change.own.port, change.group), (None, None));
    }
}
