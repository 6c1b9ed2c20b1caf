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
}

/// What is kept in memory of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// MiB of deposits that were fetched lately, sealed as they lie on the disk.
    pub deposits_mib: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self { deposits_mib: 144 }
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
        if !(1..=65_536).contains(&self.cache.deposits_mib) {
            return Err(Error::invalid(
                "cache.deposits_mib",
                format!(
                    "cache.deposits_mib is {}; it takes 1 to 65536 (MiB)",
                    self.cache.deposits_mib
                ),
            ));
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
        keys
    }
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
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.public.contains(part), "{text}: {error}");
        }
    }
}
