//! `ssh-mgr-controller`: what this machine does.

use clap::{Parser, ValueEnum};

use super::{Line, instead, not_needed};
use crate::cli::config;
use crate::cli::door::{Context, Global};
use crate::error::Result;
use crate::folder::Folder;

/// What this machine does, as Key Manager's command sets it
#[derive(Parser, Debug)]
#[command(name = "ssh-mgr-controller", version)]
#[group(id = "what", required = true, multiple = false)]
pub struct SshMgrController {
    #[command(flatten)]
    global: Global,
    /// Turn a role on, from the next start on
    #[arg(long, value_name = "ROLE", group = "what")]
    enable_server_role: Option<Role>,
    /// Turn a role off, from the next start on
    #[arg(long, value_name = "ROLE", group = "what")]
    disable_server_role: Option<Role>,
    /// Show which roles are on
    #[arg(long, group = "what")]
    show_server_roles: bool,
    /// Accepted: no licence is needed
    #[arg(long, group = "what")]
    check_license: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The listener of the GUI and the API
    Frontend,
    /// Work on hosts
    Backend,
}

impl Line for SshMgrController {
    fn global(&mut self) -> &mut Global {
        &mut self.global
    }

    fn run(self, context: &Context) -> Result<()> {
        let folder = Folder::new(context.data_dir());
        if self.check_license {
            not_needed(
                context,
                "a licence",
                "Strongroom is under the Apache License 2.0, with every feature in it",
            );
            return Ok(());
        }
        folder.check_initialised()?;
        match (self.enable_server_role, self.disable_server_role) {
            (Some(role), _) => set(context, &folder, role, true),
            (_, Some(role)) => set(context, &folder, role, false),
            (None, None) => show(context, &folder),
        }
    }
}

fn set(context: &Context, folder: &Folder, role: Role, on: bool) -> Result<()> {
    let word = if on { "enabled" } else { "disabled" };
    match role {
        Role::Frontend => {
            let changed = config::set(folder, "roles.frontend", &on.to_string())?;
            context.out.talk(&if changed {
                format!(
                    "the role frontend is {word} from the server's next start on: strongroom service restart"
                )
            } else {
                format!("the role frontend is {word} already")
            });
            Ok(())
        }
        Role::Backend if on => {
            context.out.talk("the role backend is enabled already");
            Ok(())
        }
        Role::Backend => Err(instead(
            "the role backend is work on hosts, and this version has none, so there is nothing to turn off",
        )),
    }
}

fn show(context: &Context, folder: &Folder) -> Result<()> {
    let word = |on: bool| if on { "enabled" } else { "disabled" }.to_owned();
    let frontend = config::read(folder)?.roles.frontend;
    context.out.record(
        &serde_json::json!({"frontend": frontend, "backend": true}),
        &[("frontend", word(frontend)), ("backend", word(true))],
    )
}
