//! `strongroom.toml`: what is needed before the store opens, and nothing else. Unknown keys are
//! refused. Everything else is a setting in the store (`model/setting.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::shown;
use crate::model::role::Role;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name that clients reach this server by.
    pub fqdn: String,
    /// Clients: HTTPS with client certificates.
    #[serde(default = "client_listen")]
    pub client_listen: SocketAddr,
    /// GUI and API: HTTPS with log-in.
    #[serde(default = "gui_listen")]
    pub gui_listen: SocketAddr,
    /// Health and metrics: HTTP, loopback only.
    #[serde(default = "health_listen")]
    pub health_listen: SocketAddr,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub unseal: Unseal,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub cache: Cache,
    #[serde(default)]
    pub roles: Roles,
}

/// What is kept in memory of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// MiB of deposits that were fetched lately, sealed as they lie on the disk.
    pub deposits_mib: u32,
    /// MiB of the database's pages, decrypted, of all connections that read for requests. Below it, a
    /// store of millions of deposits reads the inner pages of its trees again and again.
    pub pages_mib: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            deposits_mib: 144,
            pages_mib: 72,
        }
    }
}

/// What this machine does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// Whether the GUI's listener listens.
    pub frontend: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { frontend: true }
    }
}

/// What a sealed server, too, needs to show a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// A program, with its arguments, that prints the password of the private key; run without a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password_script: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unseal {
    /// Whether a sealed server can be opened over the network, on the GUI's listener; else on its own
    /// machine alone.
    pub network: bool,
}

impl Default for Unseal {
    fn default() -> Self {
        Self { network: true }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// An absolute path for a second admin socket, outside the data folder, which others cannot
    /// enter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Who besides root and the server's own user may use that socket: uid = role.
    pub socket_users: BTreeMap<String, Role>,
}

fn client_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 11371))
}

fn gui_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8443))
}

fn health_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 11380))
}

impl Config {
    /// What `init` writes.
    pub fn first(fqdn: &str) -> Result<Self> {
        let config = Self {
            fqdn: fqdn.to_owned(),
            client_listen: client_listen(),
            gui_listen: gui_listen(),
            health_listen: health_listen(),
            admin: Admin::default(),
            unseal: Unseal::default(),
            tls: Tls::default(),
            cache: Cache::default(),
            roles: Roles::default(),
        };
        config.check()?;
        Ok(config)
    }

    /// # Errors
    /// `Invalid`, naming the key, the line and the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(String::new(), |span| {
                format!(
                    "line {}: ",
                    text[..span.start.min(text.len())].matches('\n').count() + 1
                )
            });
            Error::invalid(
                "strongroom.toml",
                format!("strongroom.toml, {line}{}", error.message()),
            )
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let labels_fit = self.fqdn.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
        let is_address = self.fqdn.parse::<std::net::IpAddr>().is_ok();
        if self.fqdn.len() > 253 || !(labels_fit || is_address) {
            return Err(Error::invalid(
                "fqdn",
                format!(
                    "`{}` is not a host name such as kts01.example.com, nor an IP address",
                    shown(&self.fqdn)
                ),
            ));
        }
        if !self.health_listen.ip().is_loopback() {
            return Err(Error::invalid(
                "health_listen",
                format!(
                    "health_listen is {}; health and metrics are served on loopback alone, such as 127.0.0.1:11380",
                    self.health_listen
                ),
            ));
        }
        if let Some(path) = self.admin.socket.as_deref().filter(|it| !it.is_absolute()) {
            return Err(Error::invalid(
                "admin.socket",
                format!(
                    "admin.socket is `{}`; it takes an absolute path, such as /run/strongroom/admin.sock",
                    shown(&path.display().to_string())
                ),
            ));
        }
        if self.admin.socket.is_none() && !self.admin.socket_users.is_empty() {
            return Err(Error::invalid(
                "admin.socket",
                "admin.socket_users lets further accounts in, and admin.socket does not say where: other accounts cannot enter the data folder; set it to a path such as /run/strongroom/admin.sock",
            ));
        }
        for (name, mib) in [
            ("cache.deposits_mib", self.cache.deposits_mib),
            ("cache.pages_mib", self.cache.pages_mib),
        ] {
            if !(1..=65_536).contains(&mib) {
                let text = format!("{name} is {mib}; it takes 1 to 65536 (MiB)");
                return Err(Error::invalid(name, text));
            }
        }
        for uid in self.admin.socket_users.keys() {
            if uid.parse::<u32>().is_err() {
                return Err(Error::invalid(
                    "admin.socket_users",
                    format!("admin.socket_users: `{}` is not a numeric uid", shown(uid)),
                ));
            }
        }
        Ok(())
    }

    /// As a file, with what each key is for.
    pub fn to_toml(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|error| Error::internal(error.to_string()))?;
        Ok(format!(
            "# What Strongroom needs before its store opens; everything else: strongroom setting list.\n\
             # A change of a key needs a restart; SIGHUP rereads the file and says which changed.\n\n{body}"
        ))
    }

    /// The file with one key set to another value; the rest of it, comments too, stays as it is.
    ///
    /// # Errors
    /// `Invalid`: the key is unknown, or its value is wrong.
    pub fn set(text: &str, key: &str, value: &str) -> Result<String> {
        Self::parse(text)?;
        let mut document: toml_edit::DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| Error::internal(error.to_string()))?;
        let mut at = document.as_item_mut();
        for part in key.split('.') {
            if at.is_none() {
                *at = toml_edit::table();
            }
            if !at.is_table_like() {
                return Err(unknown_key(key));
            }
            at = &mut at[part];
        }
        if at.is_table_like() {
            return Err(unknown_key(key));
        }
        let decor = at.as_value().map(|value| value.decor().clone());
        let mut refused = None;
        for mut new in readings(value) {
            if let Some(decor) = &decor {
                *new.decor_mut() = decor.clone();
            }
            let mut document = document.clone();
            let at = key
                .split('.')
                .fold(document.as_item_mut(), |at, part| &mut at[part]);
            *at = toml_edit::Item::Value(new);
            let text = document.to_string();
            match Self::parse(&text) {
                Ok(_) => return Ok(text),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| unknown_key(key)))
    }

    /// The keys in which two configurations differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        if self.fqdn != other.fqdn {
            keys.push("fqdn");
        }
        if self.client_listen != other.client_listen {
            keys.push("client_listen");
        }
        if self.gui_listen != other.gui_listen {
            keys.push("gui_listen");
        }
        if self.health_listen != other.health_listen {
            keys.push("health_listen");
        }
        if self.admin.socket != other.admin.socket {
            keys.push("admin.socket");
        }
        if self.admin.socket_users != other.admin.socket_users {
            keys.push("admin.socket_users");
        }
        if self.unseal != other.unseal {
            keys.push("unseal");
        }
        if self.tls != other.tls {
            keys.push("tls");
        }
        if self.cache != other.cache {
            keys.push("cache");
        }
        if self.roles != other.roles {
            keys.push("roles");
        }
        keys
    }
}

/// What a value may mean: a host's name may look like a number.
fn readings(value: &str) -> Vec<toml_edit::Value> {
    let mut readings: Vec<toml_edit::Value> = Vec::new();
    readings.extend(value.parse::<bool>().ok().map(toml_edit::Value::from));
    readings.extend(value.parse::<i64>().ok().map(toml_edit::Value::from));
    readings.push(value.into());
    readings
}

fn unknown_key(key: &str) -> Error {
    Error::invalid(
        "key",
        format!(
            "`{}` is no key of strongroom.toml; `strongroom config show` prints those there are",
            shown(key)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_reads_back() {
        let config = Config::first("kts01.example.com").unwrap();
        assert_eq!(Config::parse(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_key_and_the_line() {
        let error = Config::parse("fqdn = \"a\"\nclient_lisen = \"127.0.0.1:1\"\n").unwrap_err();
        assert!(
            error.public.contains("line 2") && error.public.contains("client_lisen"),
            "{error}"
        );
        for (text, part) in [
            ("", "fqdn"),
            ("fqdn = \"a b\"", "host name"),
            ("fqdn = \"a\"\nhealth_listen = \"0.0.0.0:1\"", "loopback"),
            (
                "fqdn = \"a\"\nadmin.socket = \"/s\"\n[admin.socket_users]\nroot = \"auditor\"",
                "uid",
            ),
            (
                "fqdn = \"a\"\n[admin.socket_users]\n1000 = \"auditor\"",
                "does not say where",
            ),
            ("fqdn = \"a\"\nadmin.socket = \"here\"", "absolute"),
            ("fqdn = \"a\"\ngui_listen = \"here\"", "line 2"),
            ("fqdn = \"a\"\n[cache]\ndeposits_mib = 0", "1 to 65536"),
            ("fqdn = \"a\"\n[cache]\npages_mib = 65537", "1 to 65536"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.public.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_is_set_and_comments_stay() {
        let text = "# mine\nfqdn = \"a\" # here\n\n[admin]\nsocket = \"/run/s/a\" # there\n";
        let off = Config::set(text, "roles.frontend", "false").unwrap();
        assert!(off.starts_with(text.trim_end()), "{off}");
        assert!(!Config::parse(&off).unwrap().roles.frontend);
        let on = Config::set(&off, "roles.frontend", "true").unwrap();
        assert!(Config::parse(&on).unwrap().roles.frontend);
        let moved = Config::set(text, "gui_listen", "127.0.0.1:1").unwrap();
        assert_eq!(Config::parse(&moved).unwrap().gui_listen.port(), 1);
        let named = Config::set(text, "fqdn", "b").unwrap();
        assert!(named.contains("fqdn = \"b\" # here"), "{named}");
        let number = Config::set(text, "cache.deposits_mib", "64").unwrap();
        assert_eq!(Config::parse(&number).unwrap().cache.deposits_mib, 64);
        let odd = Config::set(text, "fqdn", "42").unwrap();
        assert_eq!(Config::parse(&odd).unwrap().fqdn, "42");
        for (key, value) in [
            ("roles.frontend", "perhaps"),
            ("cache.deposits_mib", "many"),
            ("roles.backend", "false"),
            ("roles", "false"),
            ("fqdn.x", "a"),
            ("", "a"),
            ("gui_listen", "here"),
        ] {
            assert!(Config::set(text, key, value).is_err(), "{key} = {value}");
        }
    }
}
