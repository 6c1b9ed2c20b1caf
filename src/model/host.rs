//! A machine that is reached over SSH: where it is, how one gets there, and how far that has come.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deposit::Labels;
use super::filter::{Field, FieldKind, Filterable, Value};
use super::host_group::HostGroupPath;
use super::id::{HostId, checked_text, shown};
use super::window::Window;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Hosts of one server.
pub const MOST: u64 = 100_000;
/// Hosts that lie before another.
pub const MOST_HOPS: usize = 8;
/// Labels of one host.
pub const MOST_LABELS: usize = 64;
/// Maintenance windows of one host or group.
pub const MOST_WINDOWS: usize = 32;

checked_text!(
    /// First a letter or digit, then letters, digits, `.`, `_` or `-`; 253 at most.
    HostName, "name", |text| {
        let fits = (1..=253).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        (!fits).then(|| "is not a host's name: a letter or digit, then up to 252 letters, digits, `.`, `_` or `-`".to_owned())
    }
);

checked_text!(
    /// An IPv4 or IPv6 address, without brackets, or a DNS name.
    Address, "address", |text| {
        let label = |it: &str| {
            (1..=63).contains(&it.len())
                && !it.starts_with('-')
                && !it.ends_with('-')
                && it.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        // What consists of digits and dots alone is meant as an IPv4 address.
        let number = name.rsplit('.').next().is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit()));
        let fits = text.parse::<IpAddr>().is_ok()
            || (name.len() <= 253 && !number && name.split('.').all(label));
        (!fits).then(|| "is not an address: an IPv4 or IPv6 address without brackets, or a DNS name; the port is given by itself".to_owned())
    }
);

checked_text!(
    /// Up to 64 printable characters without blanks, `:` or `/`, and no `-` in front.
    Account, "account", |text| {
        let fits = (1..=64).contains(&text.chars().count())
            && !text.starts_with('-')
            && !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/'));
        (!fits).then(|| "is not an account: up to 64 printable characters without blanks, `:` or `/`, and no `-` in front".to_owned())
    }
);

/// How far a host has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Known by name; nothing ever logged in there.
    Created,
}

impl HostState {
    pub const ALL: [Self; 1] = [Self::Created];
    const WORDS: &'static [&'static str] = &["created"];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
        }
    }
}

/// What is reached with: each is a host's own, its group's, or what holds where nobody says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSettings {
    /// 22 if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1)]
    pub port: Option<NonZeroU16>,
    /// Who logs in; `root` if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// Whether that account becomes root by `sudo -n`; no if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<bool>,
    /// The hosts before it, the one to go to first in front; none if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 8)]
    pub jump: Option<Vec<HostName>>,
    /// When something may be written there; at any time if nobody says, and for an empty list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 32)]
    pub windows: Option<Vec<Window>>,
}

/// One of `HostSettings`, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostSetting {
    Port,
    Account,
    Sudo,
    Jump,
    Windows,
}

impl FromStr for HostSetting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "port" => Ok(Self::Port),
            "account" => Ok(Self::Account),
            "sudo" => Ok(Self::Sudo),
            "jump" => Ok(Self::Jump),
            "windows" => Ok(Self::Windows),
            _ => Err(Error::invalid(
                "inherit",
                format!(
                    "`{}` is no setting of a host; it takes port, account, sudo, jump or windows",
                    shown(text)
                ),
            )),
        }
    }
}

impl HostSettings {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `self` does not say is as in `above`.
    pub fn over(self, above: &Self) -> Self {
        Self {
            port: self.port.or(above.port),
            account: self.account.or_else(|| above.account.clone()),
            sudo: self.sudo.or(above.sudo),
            jump: self.jump.or_else(|| above.jump.clone()),
            windows: self.windows.or_else(|| above.windows.clone()),
        }
    }

    /// Says no more about one of them.
    pub fn forget(&mut self, setting: HostSetting) {
        match setting {
            HostSetting::Port => self.port = None,
            HostSetting::Account => self.account = None,
            HostSetting::Sudo => self.sudo = None,
            HostSetting::Jump => self.jump = None,
            HostSetting::Windows => self.windows = None,
        }
    }

    /// # Errors
    /// A list that is too long, or one that names a host twice.
    pub fn check(&self) -> Result<()> {
        let jump = self.jump.as_deref().unwrap_or_default();
        if jump.len() > MOST_HOPS {
            return Err(Error::invalid(
                "jump",
                format!(
                    "{} jump hosts are too many; it takes up to {MOST_HOPS}",
                    jump.len()
                ),
            ));
        }
        if let Some(twice) = jump
            .iter()
            .enumerate()
            .find(|(at, it)| jump[..*at].contains(it))
        {
            return Err(Error::invalid(
                "jump",
                format!("the jump host `{}` is named twice", twice.1),
            ));
        }
        if self.windows.as_ref().map_or(0, Vec::len) > MOST_WINDOWS {
            return Err(Error::invalid(
                "windows",
                format!("it takes up to {MOST_WINDOWS} maintenance windows"),
            ));
        }
        Ok(())
    }

    /// What they say, as an event shows it.
    pub fn in_words(&self) -> String {
        let mut words = Vec::new();
        if let Some(port) = self.port {
            words.push(format!("port {port}"));
        }
        if let Some(account) = &self.account {
            words.push(format!("account {account}"));
        }
        if let Some(sudo) = self.sudo {
            words.push(if sudo { "sudo" } else { "no sudo" }.to_owned());
        }
        if let Some(jump) = &self.jump {
            words.push(format!("over {}", chain(jump)));
        }
        if let Some(windows) = &self.windows {
            let each: Vec<String> = windows.iter().map(Window::to_string).collect();
            words.push(format!("windows {}", each.join("; ")));
        }
        words.join(", ")
    }
}

/// # Errors
/// More than a host may have.
pub fn few_labels(labels: &Labels) -> Result<()> {
    match labels.len() > MOST_LABELS {
        true => Err(Error::invalid(
            "labels",
            format!("a host has up to {MOST_LABELS} labels"),
        )),
        false => Ok(()),
    }
}

/// Jump hosts as people write them.
pub fn chain(jump: &[HostName]) -> String {
    match jump {
        [] => "no host".to_owned(),
        _ => jump
            .iter()
            .map(HostName::as_str)
            .collect::<Vec<_>>()
            .join(","),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    pub id: HostId,
    pub name: HostName,
    pub address: Address,
    pub group: Option<HostGroupPath>,
    pub labels: Labels,
    pub state: HostState,
    /// What holds for it, its groups' settings included. A list that names the host itself, as that of
    /// a jump host's own group may, counts up to there.
    pub port: u16,
    pub account: Account,
    pub sudo: bool,
    pub jump: Vec<HostName>,
    pub windows: Vec<Window>,
    /// What is its own of that.
    pub own: HostSettings,
    pub created: Timestamp,
    pub changed: Timestamp,
}

/// A host as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    pub id: HostId,
    pub name: HostName,
    pub address: Address,
    pub group: Option<HostGroupPath>,
    pub labels: Labels,
    pub state: HostState,
    pub own: HostSettings,
    pub created: Timestamp,
    pub changed: Timestamp,
}

/// The settings of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited(pub BTreeMap<HostGroupPath, HostSettings>);

impl Inherited {
    /// What holds in a group: its own settings, then those of the groups it lies in.
    pub fn of(&self, group: &HostGroupPath) -> HostSettings {
        group
            .lineage()
            .filter_map(|path| self.0.get(&path))
            .fold(HostSettings::default(), HostSettings::over)
    }

    /// A host with what holds for it.
    pub fn complete(&self, row: HostRow) -> Result<Host> {
        let above = row.group.as_ref().map(|group| self.of(group));
        let all = row.own.clone().over(&above.unwrap_or_default());
        let mut jump = all.jump.unwrap_or_default();
        if let Some(itself) = jump.iter().position(|it| *it == row.name) {
            jump.truncate(itself);
        }
        Ok(Host {
            id: row.id,
            name: row.name,
            address: row.address,
            group: row.group,
            labels: row.labels,
            state: row.state,
            port: all.port.map_or(22, NonZeroU16::get),
            account: all.account.map_or_else(|| "root".parse(), Ok)?,
            sudo: all.sudo.unwrap_or(false),
            jump,
            windows: all.windows.unwrap_or_default(),
            own: row.own,
            created: row.created,
            changed: row.changed,
        })
    }
}

impl Filterable for Host {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "id",
            kind: FieldKind::Text,
        },
        Field {
            name: "name",
            kind: FieldKind::Text,
        },
        Field {
            name: "address",
            kind: FieldKind::Text,
        },
        Field {
            name: "port",
            kind: FieldKind::Number,
        },
        Field {
            name: "account",
            kind: FieldKind::Text,
        },
        Field {
            name: "sudo",
            kind: FieldKind::Bool,
        },
        Field {
            name: "jump",
            kind: FieldKind::Text,
        },
        Field {
            name: "group",
            kind: FieldKind::Text,
        },
        Field {
            name: "state",
            kind: FieldKind::Word(HostState::WORDS),
        },
        Field {
            name: "label",
            kind: FieldKind::Map,
        },
        Field {
            name: "created",
            kind: FieldKind::Time,
        },
        Field {
            name: "changed",
            kind: FieldKind::Time,
        },
    ];

    fn value(&self, field: &str, key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "name" => Value::text(self.name.as_str()),
            "address" => Value::text(self.address.as_str()),
            "port" => Value::number(u64::from(self.port)),
            "account" => Value::text(self.account.as_str()),
            "sudo" => Value::Bool(self.sudo),
            "jump" => Value::Texts(self.jump.iter().map(|it| it.as_str().into()).collect()),
            "group" => Value::maybe_text(self.group.as_ref().map(HostGroupPath::as_str)),
            "state" => Value::text(self.state.as_str()),
            "label" => Value::maybe_text(
                self.labels
                    .iter()
                    .find(|(it, _)| Some(it.as_str()) == key)
                    .map(|(_, value)| value.as_str()),
            ),
            "created" => Value::Time(self.created),
            "changed" => Value::Time(self.changed),
            _ => Value::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> HostSettings {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn addresses_are_what_a_resolver_or_a_socket_takes() {
        for good in [
            "10.0.0.1",
            "::1",
            "2001:db8::22",
            "db",
            "db.example.com",
            "db.example.com.",
            "3com.example",
            "_ssh.example",
        ] {
            good.parse::<Address>().expect(good);
        }
        for bad in [
            "",
            ".",
            "10.0.0.256",
            "10.0.1",
            "[::1]",
            "db:22",
            "db example",
            "-db",
            "db-.example",
            "db..example",
            "host\n",
            "user@db",
        ] {
            bad.parse::<Address>().expect_err(bad);
        }
    }

    #[test]
    fn accounts_may_be_a_domains() {
        for good in ["root", "DOMAIN\\svc", "svc@example.com", "jürgen"] {
            good.parse::<Account>().expect(good);
        }
        for bad in ["", "-l", "a b", "a:b", "a/b", "a\n"] {
            bad.parse::<Account>().expect_err(bad);
        }
    }

    #[test]
    fn the_nearest_says_what_holds() {
        let inherited = Inherited(
            [
                (
                    "emea",
                    r#"{"port": 2222, "account": "ops", "jump": ["bastion", "inner"]}"#,
                ),
                ("emea/db", r#"{"account": "dba", "sudo": true}"#),
            ]
            .map(|(path, json)| (path.parse().unwrap(), settings(json)))
            .into(),
        );
        let host = |name: &str, group: Option<&str>, own: &str| {
            let row = HostRow {
                id: HostId::new(),
                name: name.parse().unwrap(),
                address: "10.0.0.1".parse().unwrap(),
                group: group.map(|it| it.parse().unwrap()),
                labels: Labels::default(),
                state: HostState::Created,
                own: settings(own),
                created: Timestamp(0),
                changed: Timestamp(0),
            };
            inherited.complete(row).unwrap()
        };
        let shown =
            |it: &Host| format!("{} {} {} {}", it.port, it.account, it.sudo, chain(&it.jump));
        assert_eq!(shown(&host("a", None, "{}")), "22 root false no host");
        let db = host("a", Some("emea/db/prod"), r#"{"sudo": false}"#);
        assert_eq!(shown(&db), "2222 dba false bastion,inner");
        let direct = host("a", Some("emea/db"), r#"{"jump": []}"#);
        assert_eq!(shown(&direct), "2222 dba true no host");
        // The jump hosts lie in the group themselves.
        for (name, jump) in [("bastion", "no host"), ("inner", "bastion")] {
            assert_eq!(chain(&host(name, Some("emea"), "{}").jump), jump);
        }
    }

    #[test]
    fn a_chain_names_each_host_once() {
        settings(r#"{"jump": ["a", "b"]}"#).check().unwrap();
        settings(r#"{"jump": ["a", "b", "a"]}"#)
            .check()
            .unwrap_err();
        settings(r#"{"jump": ["1","2","3","4","5","6","7","8","9"]}"#)
            .check()
            .unwrap_err();
    }
}
