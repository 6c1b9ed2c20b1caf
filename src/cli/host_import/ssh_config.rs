//! OpenSSH's client configuration, as ssh_config(5) has it: each name that a `Host` line spells out is
//! a host, and the first value that the file has for it counts.

use std::collections::HashMap;

use super::{Found, host, named_after, wrong};
use crate::api::host::AddHost;
use crate::error::{Error, Result};
use crate::model::host::{Address, HostName};
use crate::model::id::shown;

/// What stands below one `Host` line.
struct Block {
    patterns: Vec<String>,
    /// Keyword in lower case, arguments, line.
    options: Vec<(String, Vec<String>, usize)>,
}

pub(super) fn read(text: &str) -> Result<Found> {
    let mut found = Found::default();
    let blocks = blocks(text, &mut found.notes)?;
    let mut done: HashMap<HostName, usize> = HashMap::new();
    let mut hops = Vec::new();
    for alias in blocks.iter().flat_map(|block| &block.patterns) {
        if alias.starts_with('!') || alias.contains(['*', '?']) {
            continue;
        }
        let name: HostName = match alias.parse() {
            Ok(name) => name,
            Err(error) => {
                let error: Error = error;
                found.notes.push(format!("left out: {}", error.public));
                continue;
            }
        };
        if done.contains_key(&name) {
            continue;
        }
        let host = one(&blocks, alias, name, &mut hops, &mut found.notes)?;
        done.insert(host.name.clone(), found.hosts.len());
        found.hosts.push(host);
    }
    // Jump hosts that no `Host` line names.
    for hop in hops {
        if !done.contains_key(&hop.name) {
            done.insert(hop.name.clone(), found.hosts.len());
            found.hosts.push(hop);
        }
    }
    Ok(found)
}

fn blocks(text: &str, notes: &mut Vec<String>) -> Result<Vec<Block>> {
    // What stands above the first `Host` line is everyone's.
    let mut blocks = vec![Block {
        patterns: vec!["*".to_owned()],
        options: Vec::new(),
    }];
    let mut skipping = false;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let end = line
            .find(|c: char| c.is_whitespace() || c == '=')
            .unwrap_or(line.len());
        let (keyword, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        let arguments = words(rest).map_err(|why| wrong(number, why))?;
        let keyword = keyword.to_ascii_lowercase();
        match keyword.as_str() {
            "host" => {
                if arguments.is_empty() {
                    return Err(wrong(number, "`Host` names nothing"));
                }
                skipping = false;
                blocks.push(Block {
                    patterns: arguments,
                    options: Vec::new(),
                });
            }
            "match" => {
                skipping = true;
                notes.push(format!(
                    "line {number}: what stands below `Match` is not read"
                ));
            }
            "include" => {
                notes.push(format!(
                    "line {number}: `Include` is not followed; import those files, too"
                ));
            }
            _ if skipping => {}
            _ => {
                if let Some(block) = blocks.last_mut() {
                    block.options.push((keyword, arguments, number));
                }
            }
        }
    }
    Ok(blocks)
}

/// Words with or without quotes; a `#` between them begins a comment.
fn words(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        if c == '#' {
            break;
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(&c) = chars.peek() {
            if c == '"' {
                quoted = !quoted;
            } else if c.is_whitespace() && !quoted {
                break;
            } else {
                word.push(c);
            }
            chars.next();
        }
        if quoted {
            return Err("a quote is not closed".to_owned());
        }
        words.push(word);
    }
    Ok(words)
}

impl Block {
    fn is_for(&self, alias: &str) -> bool {
        let matches = |pattern: &str| fits(pattern.as_bytes(), alias.as_bytes());
        let denied = self
            .patterns
            .iter()
            .filter_map(|it| it.strip_prefix('!'))
            .any(matches);
        !denied
            && self
                .patterns
                .iter()
                .filter(|it| !it.starts_with('!'))
                .any(|it| matches(it))
    }
}

/// Whether a text is as a pattern with `*` and `?` says.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut to) = (0, 0);
    // Where the last `*` stood, and what it took so far.
    let mut star: Option<(usize, usize)> = None;
    while to < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, to));
                at += 1;
            }
            Some(c) if *c == b'?' || *c == text[to] => {
                at += 1;
                to += 1;
            }
            _ => match star {
                Some((stood, took)) => {
                    star = Some((stood, took + 1));
                    at = stood + 1;
                    to = took + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == b'*')
}

fn one(
    blocks: &[Block],
    alias: &str,
    name: HostName,
    hops: &mut Vec<AddHost>,
    notes: &mut Vec<String>,
) -> Result<AddHost> {
    let mut host = host(name);
    let options: Vec<&(String, Vec<String>, usize)> = blocks
        .iter()
        .filter(|block| block.is_for(alias))
        .flat_map(|block| &block.options)
        .collect();
    let first = |keyword: &str| options.iter().find(|(it, _, _)| it == keyword);
    let value = |keyword: &str| -> Result<Option<(&str, usize)>> {
        match first(keyword) {
            None => Ok(None),
            Some((_, arguments, line)) => match arguments.first() {
                Some(argument) => Ok(Some((argument.as_str(), *line))),
                None => Err(wrong(*line, format!("`{keyword}` has no value"))),
            },
        }
    };
    if let Some((text, line)) = value("hostname")? {
        let address = text.replace("%h", alias).replace("%%", "%");
        let address: Address = address
            .parse()
            .map_err(|it: Error| wrong(line, it.public))?;
        host.address = Some(address);
    }
    if let Some((text, line)) = value("port")? {
        let port = text
            .parse()
            .map_err(|_| wrong(line, format!("`{}` is not a port", shown(text))))?;
        host.own.port = Some(port);
    }
    if let Some((text, line)) = value("user")? {
        host.own.account = Some(text.parse().map_err(|it: Error| wrong(line, it.public))?);
    }
    let way = options
        .iter()
        .find(|(it, _, _)| it == "proxyjump" || it == "proxycommand");
    if let Some((keyword, arguments, line)) = way {
        let list = match keyword.as_str() {
            "proxyjump" => arguments.first().map(String::as_str),
            _ => over_ssh(arguments),
        };
        match list {
            Some("none") => host.own.jump = Some(Vec::new()),
            Some(list) => {
                let mut jump = Vec::new();
                for text in list.split(',') {
                    let hop = hop(text).map_err(|it| wrong(*line, it.public))?;
                    jump.push(hop.name.clone());
                    hops.push(hop);
                }
                host.own.jump = Some(jump);
            }
            None => notes.push(format!(
                "line {line}: {alias} is reached by a program (ProxyCommand), which is not taken over"
            )),
        }
    }
    host.own
        .check()
        .map_err(|it| wrong(way.map_or(0, |it| it.2), it.public))?;
    Ok(host)
}

/// The host of `ssh -W %h:%p HOST`, which is what ProxyJump does.
fn over_ssh(arguments: &[String]) -> Option<&str> {
    let words: Vec<&str> = arguments
        .iter()
        .flat_map(|it| it.split_whitespace())
        .collect();
    match words.as_slice() {
        ["none"] => Some("none"),
        ["ssh" | "/usr/bin/ssh", rest @ .., last]
            if !last.starts_with('-')
                && rest
                    .windows(2)
                    .any(|it| it[0] == "-W" && matches!(it[1], "%h:%p" | "[%h]:%p")) =>
        {
            rest.iter()
                .all(|it| matches!(*it, "-q" | "-W" | "%h:%p" | "[%h]:%p"))
                .then_some(*last)
        }
        ["ssh" | "/usr/bin/ssh", last, "-W", "%h:%p" | "[%h]:%p"] if !last.starts_with('-') => {
            Some(*last)
        }
        _ => None,
    }
}

/// `[ssh://][user@]host[:port]`
fn hop(text: &str) -> Result<AddHost> {
    let text = text.trim().strip_prefix("ssh://").unwrap_or(text.trim());
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    };
    let (address, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => (rest, None),
        },
        None => match place.split_once(':') {
            Some((address, port)) if !port.contains(':') => (address, Some(port)),
            _ => (place, None),
        },
    };
    let address: Address = address.parse()?;
    let mut host = host(named_after(address.as_str())?);
    if host.name.as_str() != address.as_str() {
        host.address = Some(address);
    }
    host.own.account = user.map(str::parse).transpose()?;
    if let Some(port) = port {
        let port = port
            .parse()
            .map_err(|_| Error::invalid("port", format!("`{}` is not a port", shown(port))))?;
        host.own.port = Some(port);
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (serde_json::Value, Vec<String>) {
        let found = read(text).unwrap();
        let hosts = found.hosts.iter().map(|it| {
            let address = it.address.as_ref().map(ToString::to_string);
            serde_json::json!([it.name, address, it.own])
        });
        (hosts.collect(), found.notes)
    }

    #[test]
    fn the_first_value_counts() {
        let (hosts, notes) = found(
            "User everyone\n\
             # a comment\n\
             Host db1 db2 !db3\n  HostName %h.example.com\n  Port=2222 # odd\n\
             Host db* !db2\n  ProxyJump ops@bastion:2200,[2001:db8::1]:22\n  User other\n\
             Match exec \"true\"\n  User nobody\n\
             Host \"far\"\n\tProxyCommand ssh -q -W %h:%p bastion\n\
             Host near\n\tProxyJump none\n\
             Host odd\n\tProxyCommand nc %h %p\n\
             Include other\n",
        );
        let hop = serde_json::json!(["bastion", "2001-db8--1"]);
        assert_eq!(
            hosts,
            serde_json::json!([
                ["db1", "db1.example.com", {"port": 2222, "account": "everyone", "jump": hop}],
                ["db2", "db2.example.com", {"port": 2222, "account": "everyone"}],
                ["far", null, {"account": "everyone", "jump": ["bastion"]}],
                ["near", null, {"account": "everyone", "jump": []}],
                ["odd", null, {"account": "everyone"}],
                ["bastion", null, {"port": 2200, "account": "ops"}],
                ["2001-db8--1", "2001:db8::1", {"port": 22}],
            ])
        );
        assert_eq!(notes.len(), 3, "{notes:?}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, said) in [
            ("Host a\nPort x\n", "line 2: `x` is not a port"),
            ("Host a\nHostName %n.example\n", "line 2"),
            ("Host a\n\nUser \"x\n", "line 3: a quote"),
            ("Host\n", "line 1: `Host` names nothing"),
            ("Host a\nHostName\n", "line 2: `hostname` has no value"),
            ("Host a\nProxyJump b,b\n", "named twice"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.public.contains(said), "{text:?}: {error}");
        }
        let (hosts, notes) = found("Host *\nUser x\nHost a/b *.example\n");
        assert_eq!((hosts, notes.len()), (serde_json::json!([]), 1));
    }

    #[test]
    fn patterns_take_what_they_say() {
        for (pattern, text, fit) in [
            ("*", "", true),
            ("db?", "db1", true),
            ("db?", "db", false),
            ("*.example.*", "a.example.com", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "a", false),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), text.as_bytes()),
                fit,
                "{pattern} {text}"
            );
        }
    }
}
