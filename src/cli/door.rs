//! Which door a command takes: the admin socket of a data folder, or HTTPS with a token or as the
//! client in a home.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;

use super::cache::Cache;
use super::client::Client;
use super::connect::Route;
use super::files;
use super::home::{self, Home};
use super::print::Printer;
use crate::crypto::tls;
use crate::error::{Error, Result};
use crate::model::id::{Fingerprint, shown};
use crate::secret::Secret;

/// The port that clients use.
pub const CLIENT_PORT: u16 = 11371;

pub const INSTALLED: &str = "/var/lib/strongroom";
const EVALUATION: &str = "./strongroom-data";

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The server's data folder; its admin socket is the way to a server on this machine
    ///
    /// [env: STRONGROOM_DATA_DIR; default: /var/lib/strongroom if it exists, else ./strongroom-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The admin socket itself, where strongroom.toml names one for other accounts (admin.socket)
    ///
    /// [env: STRONGROOM_SOCKET]
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["data_dir", "server"])]
    pub socket: Option<PathBuf>,

    /// Go to this server over HTTPS, such as https://kts01.example.com:11371
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,

    /// With --server: a file with an API token (`-`: stdin); without it, act as the client in --home
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// The client's folder: its keys and the server it registered with
    ///
    /// [env: STRONGROOM_HOME; default: ~/.config/strongroom]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,

    /// The server to trust: the SHA-256 of its identity's public key, as `strongroom status` shows
    /// it; without it, what the home has pinned
    #[arg(long, global = true, value_name = "HEX")]
    pub server_fingerprint: Option<Fingerprint>,

    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,

    /// Do not ask before something is destroyed
    #[arg(long, global = true)]
    pub yes: bool,

    /// Print data only
    #[arg(long, global = true)]
    pub quiet: bool,

    /// Say more: causes, request ids
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Why this is done; kept with its event in the audit
    #[arg(long, global = true, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// What a command runs with.
pub struct Context {
    pub global: Global,
    pub out: Printer,
}

/// What the choice of a door depends on.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    /// The command is one that a client can do for itself.
    own: bool,
    server: bool,
    token: bool,
    /// A data folder or a socket was named.
    local: bool,
    org: bool,
    registered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Socket,
    Token,
    Home,
}

/// Where requests go, and in which role.
pub struct Door {
    pub client: Client,
    /// Set where the command acts as the client in a home.
    pub acting: Option<home::Registered>,
    /// Set where that client keeps what it fetches.
    pub cache: Option<Rc<Cache>>,
}

fn choose(given: Given) -> Result<Choice> {
    if given.server && given.local {
        return Err(Error::invalid(
            "server",
            "--server and --data-dir name two servers; give one of them",
        ));
    }
    match (given.server, given.token) {
        (true, true) => Ok(Choice::Token),
        (true, false) => Ok(Choice::Home),
        (false, true) => Err(Error::invalid(
            "token_file",
            "--token-file goes with --server URL; the admin socket knows its callers without a token",
        )),
        (false, false) if given.own && given.registered && !given.local && !given.org => {
            Ok(Choice::Home)
        }
        (false, false) => Ok(Choice::Socket),
    }
}

impl Context {
    /// The door of an administrator's command.
    pub fn admin(&self) -> Result<Client> {
        self.open(false, false).map(|door| door.client)
    }

    /// The door of a command that a client can do for itself. `org`: an organization was named, so
    /// it is meant as an administrator's.
    pub fn own(&self, org: bool) -> Result<Door> {
        self.open(true, org)
    }

    fn open(&self, own: bool, org: bool) -> Result<Door> {
        let global = &self.global;
        let local = global.data_dir.is_some() || global.socket.is_some();
        let home_counts = own && global.server.is_none() && !local && !org;
        let registered = home_counts && self.registered()?.is_some();
        if home_counts && !registered && global.home.is_some() {
            // Whoever names a home does not mean the admin socket.
            return Err(self.nobody_at_home()?);
        }
        let given = Given {
            own,
            server: global.server.is_some(),
            token: global.token_file.is_some(),
            local,
            org,
            registered,
        };
        match choose(given)? {
            Choice::Socket => Ok(Door {
                client: self.client(self.socket(), None),
                acting: None,
                cache: None,
            }),
            Choice::Token => self.with_token(),
            Choice::Home => self.as_client(),
        }
    }

    fn with_token(&self) -> Result<Door> {
        let server = self.global.server.as_deref().unwrap_or_default();
        let path = self.global.token_file.as_deref().unwrap_or(Path::new("-"));
        let token = files::read_secret(path)?;
        let pinned = match self.global.server_fingerprint {
            Some(given) => Some(given),
            None => self.home()?.pinned()?,
        };
        let pinned = pinned.ok_or_else(|| Error::invalid(
            "server_fingerprint",
            "nothing says which server to trust; give --server-fingerprint HEX (`strongroom status` on the server shows it), or a --home that has its ca.pem",
        ))?;
        let config = tls::client_config(tls::Trust::Pinned(pinned), None)?;
        Ok(Door {
            client: self.client(tls_route(server, config)?, Some(token)),
            acting: None,
            cache: None,
        })
    }

    fn as_client(&self) -> Result<Door> {
        let home = self.home()?;
        let Some(registered) = self.registered()? else {
            return Err(self.nobody_at_home()?);
        };
        let server = self.global.server.as_deref().unwrap_or(&registered.server);
        let pinned = self
            .global
            .server_fingerprint
            .unwrap_or(registered.server_fingerprint);
        let keys = home.keys()?;
        let config = tls::client_config(tls::Trust::Pinned(pinned), Some(keys.for_tls()))?;
        let mut client = self.client(tls_route(server, config)?, None);
        // What another server says is not about what was fetched from the one that is pinned.
        let is_pinned = pinned == registered.server_fingerprint;
        let cache = Cache::of(home, &registered).filter(|_| is_pinned);
        let cache = cache.map(Rc::new);
        if let Some(cache) = cache.clone() {
            client = client.listened_to_by(Box::new(move |change, path, refusal| {
                cache.heard(change, path, refusal);
            }));
        }
        Ok(Door {
            client,
            acting: Some(registered),
            cache,
        })
    }

    fn nobody_at_home(&self) -> Result<Error> {
        Ok(Error::invalid(
            "home",
            format!(
                "{} holds no registered client; register one (strongroom client register), or name another --home. To act as an administrator, give --data-dir, or --server with --token-file",
                self.home()?.dir.display()
            ),
        ))
    }

    /// The client in the home. One whose registration was interrupted must go on first.
    fn registered(&self) -> Result<Option<home::Registered>> {
        match self.home()?.load()? {
            Some(begun) if !begun.registered => Err(Error::invalid(
                "home",
                format!(
                    "the registration of {} was not finished; finish it: strongroom client register --server {} --org {}",
                    self.home()?.dir.display(),
                    begun.server,
                    begun.org
                ),
            )),
            other => Ok(other),
        }
    }

    fn socket(&self) -> Route {
        let named = || {
            self.global
                .socket
                .clone()
                .or_else(|| environment("STRONGROOM_SOCKET"))
        };
        if self.global.data_dir.is_none()
            && let Some(path) = named()
        {
            return Route::Socket {
                path,
                data_dir: None,
            };
        }
        let data_dir = self.data_dir();
        Route::Socket {
            path: data_dir.join("run/admin.sock"),
            data_dir: Some(data_dir),
        }
    }

    pub fn client(&self, route: Route, token: Option<Secret<String>>) -> Client {
        Client::new(
            route,
            token,
            self.global.reason.clone(),
            self.global.verbose > 0,
        )
    }

    /// The data folder: the option, the environment, the installed one, or the one for evaluation.
    pub fn data_dir(&self) -> PathBuf {
        self.global.data_dir()
    }

    /// The client's folder, its secrets readable by their owner alone.
    pub fn home(&self) -> Result<Home> {
        let named = self
            .global
            .home
            .clone()
            .or_else(|| environment("STRONGROOM_HOME"));
        let home = Home::new(named.map_or_else(home::default_dir, Ok)?);
        // A folder that holds no client is none of ours.
        if home.occupied().is_empty() {
            return Ok(home);
        }
        for mended in home.mend_modes()? {
            self.out.warn(&format!(
                "{} could be read by others; it is for its owner alone now",
                mended.display()
            ));
        }
        Ok(home)
    }
}

impl Global {
    /// What is not given here holds as given before.
    pub fn or(self, before: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(before.data_dir),
            socket: self.socket.or(before.socket),
            server: self.server.or(before.server),
            token_file: self.token_file.or(before.token_file),
            home: self.home.or(before.home),
            server_fingerprint: self.server_fingerprint.or(before.server_fingerprint),
            json: self.json || before.json,
            yes: self.yes || before.yes,
            quiet: self.quiet || before.quiet,
            verbose: self.verbose.max(before.verbose),
            reason: self.reason.or(before.reason),
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .or_else(|| environment("STRONGROOM_DATA_DIR"))
            .unwrap_or_else(|| {
                let installed = Path::new(INSTALLED);
                if installed.exists() {
                    installed
                } else {
                    Path::new(EVALUATION)
                }
                .to_owned()
            })
    }
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

pub fn tls_route(url: &str, config: std::sync::Arc<rustls::ClientConfig>) -> Result<Route> {
    let (host, port) = server_address(url)?;
    Ok(Route::Tls { host, port, config })
}

/// Host and port of a server's URL; the port is 11371 where none is given.
pub fn server_address(url: &str) -> Result<(String, u16)> {
    let wrong = |why: &str| {
        Err(Error::invalid(
            "server",
            format!(
                "`{}` {why}; a server is named as https://HOST:PORT",
                shown(url)
            ),
        ))
    };
    if url.starts_with("http://") {
        return wrong("is without TLS, which this program never goes without");
    }
    let Some(rest) = url.strip_prefix("https://") else {
        return wrong("does not begin with https://");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return wrong("has more than a host and a port");
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
            _ => return wrong("has a bracket without its end"),
        },
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("names no host");
    }
    match port.map_or(Ok(CLIENT_PORT), str::parse) {
        Ok(port) if port > 0 => Ok((host.to_owned(), port)),
        _ => wrong("has no legal port"),
    }
}

/// The one spelling that `client.toml` keeps.
pub fn normal_url(url: &str) -> Result<String> {
    let (host, port) = server_address(url)?;
    let host = host.to_ascii_lowercase();
    Ok(if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_follows_what_was_given() {
        let nothing = Given::default();
        let own = Given {
            own: true,
            registered: true,
            ..nothing
        };
        assert_eq!(choose(nothing).unwrap(), Choice::Socket);
        assert_eq!(
            choose(Given {
                registered: true,
                ..nothing
            })
            .unwrap(),
            Choice::Socket
        );
        assert_eq!(choose(own).unwrap(), Choice::Home);
        assert_eq!(
            choose(Given {
                registered: false,
                ..own
            })
            .unwrap(),
            Choice::Socket
        );
        assert_eq!(
            choose(Given { local: true, ..own }).unwrap(),
            Choice::Socket
        );
        assert_eq!(choose(Given { org: true, ..own }).unwrap(), Choice::Socket);
        assert_eq!(
            choose(Given {
                server: true,
                token: true,
                org: true,
                ..own
            })
            .unwrap(),
            Choice::Token
        );
        assert_eq!(
            choose(Given {
                server: true,
                ..nothing
            })
            .unwrap(),
            Choice::Home
        );
        assert!(choose(Given { token: true, ..own }).is_err());
        assert!(
            choose(Given {
                server: true,
                local: true,
                ..own
            })
            .is_err()
        );
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (url, normal) in [
            (
                "https://KTS01.example.com",
                "https://kts01.example.com:11371",
            ),
            ("https://h:1/", "https://h:1"),
            ("https://[::1]:5", "https://[::1]:5"),
            ("https://[::1]", "https://[::1]:11371"),
            ("https://127.0.0.1:443", "https://127.0.0.1:443"),
        ] {
            assert_eq!(normal_url(url).unwrap(), normal);
        }
        for bad in [
            "http://h",
            "h:1",
            "https://",
            "https://h:0",
            "https://h:x",
            "https://h/path",
            "https://u@h",
            "https://[::1",
            "https://h:1:2",
            "https://a b",
        ] {
            assert!(normal_url(bad).is_err(), "{bad}");
        }
    }
}
