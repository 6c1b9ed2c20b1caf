//! What `ansible-inventory --list` writes: groups with hosts and children, and `_meta.hostvars`. Of the
//! variables only those are read that say how a host is reached.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Found, host};
use crate::api::host::AddHost;
use crate::error::{Error, Result};
use crate::model::host::HostName;
use crate::model::id::shown;

#[derive(Default, Deserialize)]
struct Group {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default)]
    hostvars: BTreeMap<String, Map<String, Value>>,
}

fn wrong(why: String) -> Error {
    Error::invalid("file", why)
}

pub(super) fn read(text: &str) -> Result<Found> {
    // What serde says of a value would show it, and it may be a password.
    let unreadable = |error: serde_json::Error| {
        wrong(format!(
            "line {}, column {}: this is not what `ansible-inventory --list` writes",
            error.line(),
            error.column()
        ))
    };
    let mut all: Map<String, Value> = serde_json::from_str(text).map_err(unreadable)?;
    let meta = match all.remove("_meta") {
        Some(meta) => serde_json::from_value(meta)
            .map_err(|_| wrong("`_meta` does not hold `hostvars` of hosts".to_owned()))?,
        None => Meta::default(),
    };
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (name, value) in all {
        let group = serde_json::from_value(value).map_err(|_| {
            wrong(format!(
                "the group `{}` is not one with `hosts` and `children`",
                shown(&name)
            ))
        })?;
        groups.insert(name, group);
    }
    let mut names: BTreeSet<&String> = meta.hostvars.keys().collect();
    names.extend(groups.values().flat_map(|group| &group.hosts));
    if names.is_empty() && !groups.contains_key("all") {
        return Err(wrong(
            "there is no host and no group `all` in it; give it what `ansible-inventory --list` writes"
                .to_owned(),
        ));
    }
    let none = Map::new();
    let mut found = Found::default();
    for name in names {
        let variables = meta.hostvars.get(name).unwrap_or(&none);
        let read = one(name, variables, &groups, &mut found.notes);
        let read =
            read.map_err(|error| wrong(format!("host `{}`: {}", shown(name), error.public)))?;
        found.hosts.extend(read);
    }
    Ok(found)
}

/// None: it is not reached over SSH.
fn one(
    name: &str,
    variables: &Map<String, Value>,
    groups: &BTreeMap<String, Group>,
    notes: &mut Vec<String>,
) -> Result<Option<AddHost>> {
    if let Some(kind) = text(variables, "ansible_connection")?
        && !matches!(kind.as_str(), "ssh" | "smart" | "paramiko" | "paramiko_ssh")
    {
        notes.push(format!(
            "{} is left out: it is not reached over SSH (ansible_connection is {})",
            shown(name),
            shown(&kind)
        ));
        return Ok(None);
    }
    let mut host = host(name.parse()?);
    host.address = first(variables, &["ansible_host", "ansible_ssh_host"])?
        .map(|it| it.parse())
        .transpose()?;
    if let Some(port) = first(variables, &["ansible_port", "ansible_ssh_port"])? {
        let port = port
            .parse()
            .map_err(|_| Error::invalid("port", format!("`{}` is not a port", shown(&port))))?;
        host.own.port = Some(port);
    }
    host.own.account = first(variables, &["ansible_user", "ansible_ssh_user"])?
        .map(|it| it.parse())
        .transpose()?;
    if let Some(on) = variables.get("ansible_become") {
        host.own.sudo = Some(truth(on));
        let method = text(variables, "ansible_become_method")?;
        if truth(on) && method.as_deref().is_some_and(|it| it != "sudo") {
            host.own.sudo = None;
            notes.push(format!(
                "{name} becomes root by another way than sudo (ansible_become_method); it is taken without"
            ));
        }
    }
    for arguments in [
        "ansible_ssh_common_args",
        "ansible_ssh_extra_args",
        "ansible_ssh_args",
    ] {
        if let Some(arguments) = text(variables, arguments)?
            && host.own.jump.is_none()
        {
            host.own.jump = jump(&arguments)?;
        }
    }
    host.own.check()?;
    place(&mut host, name, groups)?;
    Ok(Some(host))
}

fn first(variables: &Map<String, Value>, names: &[&str]) -> Result<Option<String>> {
    for name in names {
        if let Some(found) = text(variables, name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn text(variables: &Map<String, Value>, name: &str) -> Result<Option<String>> {
    match variables.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.contains("{{") => Err(Error::invalid(
            "file",
            format!("`{name}` is a template; only Ansible can tell its value"),
        )),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(Error::invalid(
            "file",
            format!("`{name}` is neither a text nor a number"),
        )),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(on) => *on,
        Value::String(text) => matches!(
            text.to_ascii_lowercase().as_str(),
            "yes" | "true" | "on" | "1" | "y" | "t"
        ),
        Value::Number(number) => number.as_i64() == Some(1),
        _ => false,
    }
}

/// The jump hosts that arguments for `ssh` name: `-J a,b`, `-o ProxyJump=a`.
fn jump(arguments: &str) -> Result<Option<Vec<HostName>>> {
    let words = shlex::split(arguments)
        .ok_or_else(|| Error::invalid("file", "a quote in arguments for ssh is not closed"))?;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, attached) = match word.get(..2) {
            Some(option @ ("-J" | "-o")) => (option, &word[2..]),
            _ => continue,
        };
        let value = match attached {
            "" => words.next().unwrap_or_default(),
            attached => attached,
        };
        let list = match option {
            "-J" => Some(value),
            _ => value
                .split_once(['=', ' '])
                .filter(|(key, _)| key.trim().eq_ignore_ascii_case("proxyjump"))
                .map(|(_, list)| list.trim()),
        };
        if let Some(list) = list {
            return list.split(',').map(hop).collect::<Result<_>>().map(Some);
        }
    }
    Ok(None)
}

/// `user@host:port` names a host.
fn hop(text: &str) -> Result<HostName> {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let text = text.split_once(':').map_or(text, |(host, _)| host);
    text.parse()
}

/// Into its group with those that it lies in; a host of several is in the first, by name, and carries the
/// others as labels.
fn place(host: &mut AddHost, name: &str, groups: &BTreeMap<String, Group>) -> Result<()> {
    let of = |member: &str, list: fn(&Group) -> &Vec<String>| {
        groups
            .iter()
            .filter(|(group, it)| {
                !matches!(group.as_str(), "all" | "ungrouped")
                    && list(it).iter().any(|it| it == member)
            })
            .map(|(group, _)| group.clone())
            .collect::<Vec<String>>()
    };
    let own = of(name, |group| &group.hosts);
    let Some((first, others)) = own.split_first() else {
        return Ok(());
    };
    let mut path = vec![first.clone()];
    loop {
        let parents = of(&path[0], |group| &group.children);
        match parents.as_slice() {
            [parent] if !path.contains(parent) => path.insert(0, parent.clone()),
            // In several, or in none: it stands by itself.
            _ => break,
        }
    }
    host.group = Some(path.join("/").parse()?);
    for other in others {
        host.labels
            .insert(format!("ansible/{other}").parse()?, "yes".parse()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_read() {
        let found = read(
            r#"{
            "_meta": {"hostvars": {
                "db1": {"ansible_host": "10.0.0.5", "ansible_port": 2222, "ansible_user": "ops",
                    "ansible_become": true, "ansible_password": "hunter2",
                    "ansible_ssh_common_args": "-o StrictHostKeyChecking=yes -o ProxyJump=ops@bastion:22,inner"},
                "win1": {"ansible_connection": "winrm"},
                "web1": {"ansible_port": "22", "ansible_become": "yes", "ansible_become_method": "doas"}
            }},
            "all": {"children": ["ungrouped", "emea", "web"]},
            "ungrouped": {"hosts": ["bastion"]},
            "emea": {"children": ["db"]},
            "db": {"hosts": ["db1"]},
            "monitored": {"hosts": ["db1"]},
            "web": {"hosts": ["web1", "win1"]}
        }"#,
        )
        .unwrap();
        let shown = serde_json::to_value(&found.hosts).unwrap();
        assert_eq!(
            shown,
            serde_json::json!([
                {"name": "bastion", "address": null, "group": null, "labels": {}, "own": {}},
                {"name": "db1", "address": "10.0.0.5", "group": "emea/db", "labels": {"ansible/monitored": "yes"},
                    "own": {"port": 2222, "account": "ops", "sudo": true, "jump": ["bastion", "inner"]}},
                {"name": "web1", "address": null, "group": "web", "labels": {}, "own": {"port": 22}},
            ])
        );
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_told_is_refused_without_showing_it() {
        for (text, said) in [
            ("", "line 1"),
            ("[]", "line 1"),
            ("{}", "no host"),
            (
                r#"{"_meta": {"hostvars": {"a": {"ansible_host": "{{ x }}"}}}}"#,
                "template",
            ),
            (
                r#"{"_meta": {"hostvars": {"a": {"ansible_port": 99999}}}}"#,
                "not a port",
            ),
            (
                r#"{"_meta": {"hostvars": {"a": {"ansible_user": ["hunter2"]}}}}"#,
                "neither",
            ),
            (r#"{"_meta": {"hostvars": {"a": "hunter2"}}}"#, "_meta"),
            (r#"{"web": {"hosts": "hunter2"}}"#, "group `web`"),
            (r#"{"all": {"hosts": ["a b"]}}"#, "not a host's name"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.public.contains(said), "{text}: {error}");
            assert!(!error.public.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn jump_hosts_stand_in_arguments_in_several_ways() {
        for arguments in [
            "-J bastion",
            "-Jbastion",
            "-oProxyJump=bastion",
            "-o 'proxyjump bastion'",
            "-C -o ProxyJump=\"ops@bastion:2222\" -q",
        ] {
            let hosts = jump(arguments).unwrap().expect(arguments);
            assert_eq!(hosts, ["bastion".parse().unwrap()], "{arguments}");
        }
        assert_eq!(jump("-o ControlMaster=auto -C").unwrap(), None);
        jump("-o 'ProxyJump=bastion").unwrap_err();
    }
}
