//! `strongroom config`: what `strongroom.toml` says.

use std::path::PathBuf;

use super::door::Context;
use super::{config_import, online};
use crate::config::Config;
use crate::error::Result;
use crate::folder::{self, Folder};
use crate::server;
use crate::service::tls::password;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Read strongroom.toml and say what is wrong with it
    Check,
    /// Print what holds, defaults included
    Show,
    /// Take over certificates and how TLS is spoken from keytrustee.conf or nginx's file
    ///
    /// The running server is told. What is not taken over is said.
    Import {
        /// keytrustee.conf, or nginx's file, such as sites-available/sshmgr
        file: PathBuf,
        /// Take a certificate that is not for this server's own name
        #[arg(long)]
        other_name: bool,
        /// Say what would be taken over, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Set one key of strongroom.toml; the rest of the file stays as it is. In force at the next start
    Set {
        /// Such as fqdn, gui_listen or roles.frontend
        key: String,
        /// The new value
        value: String,
    },
}

pub fn run(verb: Verb, context: &Context) -> Result<()> {
    let Context { global, out } = context;
    if let Verb::Import {
        file,
        other_name,
        dry_run,
    } = &verb
    {
        let importing = config_import::run(file, *other_name, *dry_run, password, context);
        return online(importing);
    }
    let folder = Folder::new(global.data_dir());
    folder.check_initialised()?;
    let config = server::read_config(&folder)?;
    match verb {
        Verb::Set { key, value } => {
            set(&folder, &key, &value)?;
            out.talk(&format!("{key} is {value} from the next start on"));
        }
        Verb::Check => out.talk(&format!(
            "{} is in order; what the running server holds may be older",
            folder.config().display()
        )),
        Verb::Show => {
            let users = config.admin.socket_users.iter();
            let users: Vec<String> = users
                .map(|(uid, role)| format!("{uid} = {}", role.as_str()))
                .collect();
            let fields = [
                ("fqdn", config.fqdn.clone()),
                ("client_listen", config.client_listen.to_string()),
                ("gui_listen", config.gui_listen.to_string()),
                ("health_listen", config.health_listen.to_string()),
                (
                    "admin.socket",
                    config
                        .admin
                        .socket
                        .as_deref()
                        .map_or_else(String::new, |path| path.display().to_string()),
                ),
                ("admin.socket_users", users.join(", ")),
                ("unseal.network", config.unseal.network.to_string()),
                ("cache.deposits_mib", config.cache.deposits_mib.to_string()),
                ("cache.pages_mib", config.cache.pages_mib.to_string()),
                (
                    "tls.key_password_script",
                    config.tls.key_password_script.clone().unwrap_or_default(),
                ),
                ("roles.frontend", config.roles.frontend.to_string()),
            ];
            out.record(&config, &fields)?;
        }
        Verb::Import { .. } => {}
    }
    Ok(())
}

pub fn read(folder: &Folder) -> Result<Config> {
    server::read_config(folder)
}

/// Sets one key, and says whether that changed anything.
pub fn set(folder: &Folder, key: &str, value: &str) -> Result<bool> {
    let path = folder.config();
    let text = String::from_utf8_lossy(&folder::read(&path, server::MOST_CONFIG)?).into_owned();
    let new = Config::set(&text, key, value)?;
    if Config::parse(&new)? == Config::parse(&text)? {
        return Ok(false);
    }
    folder::replace(&path, new.as_bytes())?;
    Ok(true)
}
