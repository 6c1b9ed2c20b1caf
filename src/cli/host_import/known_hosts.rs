//! OpenSSH's list of known host keys, as sshd(8) has it: of it the names and ports. The keys are asked
//! for anew when a host is first reached.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Found, host, named_after, wrong};
use crate::error::{Error, Result};
use crate::model::host::{Address, HostName};
use crate::model::id::shown;

pub(super) fn read(text: &str) -> Result<Found> {
    let mut found = Found::default();
    let (mut hashed, mut patterns) = (0, 0);
    // By address and port; the same machine has a line for each of its keys.
    let mut known: HashSet<(String, u16)> = HashSet::new();
    let mut taken: HashSet<HostName> = HashSet::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let names = words.next().unwrap_or_default();
        if names.starts_with('@') {
            // Of a certificate authority, or revoked: it makes no host known.
            if !matches!(names, "@cert-authority" | "@revoked") {
                return Err(wrong(number, format!("`{}` is no marker", shown(names))));
            }
            continue;
        }
        if words.clone().count() < 2 {
            return Err(wrong(
                number,
                "it takes names, the type of a key, and the key",
            ));
        }
        if names.starts_with('|') {
            hashed += 1;
            continue;
        }
        let mut places = Vec::new();
        for name in names.split(',') {
            if name.starts_with('!') || name.contains(['*', '?']) {
                patterns += 1;
                continue;
            }
            places.push(place(name).map_err(|error| wrong(number, error.public))?);
        }
        // All names of a line are one machine's; a name stands for it rather than an address.
        let named = places
            .iter()
            .find(|(address, _)| address.as_str().parse::<IpAddr>().is_err());
        let Some((address, port)) = named.or(places.first()).cloned() else {
            continue;
        };
        let places = places
            .iter()
            .map(|(address, port)| (address.to_string(), *port));
        let there = places.clone().any(|place| known.contains(&place));
        known.extend(places);
        if there {
            continue;
        }
        let mut name: HostName = named_after(address.as_str().trim_end_matches('.'))?;
        while !taken.insert(name.clone()) {
            name = format!("{name}-{port}").parse()?;
        }
        let mut host = host(name);
        if host.name.as_str() != address.as_str() {
            host.address = Some(address);
        }
        host.own.port = (port != 22)
            .then(|| std::num::NonZeroU16::new(port))
            .flatten();
        found.hosts.push(host);
    }
    if hashed > 0 {
        found.notes.push(format!(
            "{hashed} lines hold hashes in place of names (HashKnownHosts), which cannot be turned back"
        ));
    }
    if patterns > 0 {
        found
            .notes
            .push(format!("{patterns} patterns name no single host"));
    }
    Ok(found)
}

/// `name` or `[name]:port`
fn place(text: &str) -> Result<(Address, u16)> {
    let Some(rest) = text.strip_prefix('[') else {
        return Ok((text.parse()?, 22));
    };
    let wrong = || Error::invalid("file", format!("`{}` is not [name]:port", shown(text)));
    let (name, port) = rest.split_once("]:").ok_or_else(wrong)?;
    let port: std::num::NonZeroU16 = port.parse().map_err(|_| wrong())?;
    Ok((name.parse()?, port.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPlAceHolderPlAceHolderPlAceHolderPlAceHold";

    fn lines(names: &[&str]) -> String {
        names.iter().map(|it| format!("{it} {KEY}\n")).collect()
    }

    #[test]
    fn each_machine_is_a_host_once() {
        let text = lines(&[
            "10.0.0.5,db1",
            "db1",
            "[db1]:2222",
            "10.0.0.5",
            "::1",
            "|1|c2FsdA==|aGFzaA==",
            "*.example.com,!x",
            "@revoked db9",
            "web1,web1 # not a comment",
        ]);
        let found = read(&text).unwrap();
        let hosts: Vec<String> = found
            .hosts
            .iter()
            .map(|it| {
                format!(
                    "{} {:?} {:?}",
                    it.name,
                    it.address.as_ref().map(Address::as_str),
                    it.own.port
                )
            })
            .collect();
        assert_eq!(
            hosts,
            [
                "db1 None None",
                r#"db1-2222 Some("db1") Some(2222)"#,
                r#"ip6--1 Some("::1") None"#,
                "web1 None None",
            ]
        );
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, said) in [
            ("db1\n", "line 1: it takes names"),
            ("\ndb1 ssh-ed25519\n", "line 2"),
            (&lines(&["[db1]:x"]), "not [name]:port"),
            (&lines(&["a b,c"]), ""),
            (&lines(&["a,-b"]), "line 1: `-b` is not an address"),
            ("@mark db1 ssh-rsa AAAA\n", "no marker"),
        ] {
            match read(text) {
                Err(error) => assert!(error.public.contains(said), "{text:?}: {error}"),
                Ok(_) => assert!(said.is_empty(), "{text:?}"),
            }
        }
    }
}
