//! `strongroom config`: what `strongroom.toml` says.

use super::{Global, Printer};
use crate::error::Result;
use crate::folder::Folder;
use crate::server;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Read strongroom.toml and say what is wrong with it
    Check,
    /// Print what holds, defaults included
    Show,
}

pub fn run(verb: Verb, global: &Global, out: &Printer) -> Result<()> {
    let folder = Folder::new(global.data_dir());
    folder.check_initialised()?;
    let config = server::read_config(&folder)?;
    match verb {
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
            ];
            out.record(&config, &fields)?;
        }
    }
    Ok(())
}
