//! Commands that operators of other products type: thin translations to our own. The program is
//! called by the old name through a link, as busybox is, or as `strongroom as NAME …`.

mod ktadmin;
mod ktbackup;
mod orgtool;
mod retired;
mod ssh_mgr_client;
mod ssh_mgr_controller;
mod ssh_mgr_setup;
mod supervisorctl;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use super::Printer;
use super::door::{Context, Global};
use super::{files, print};
use crate::error::{Error, Kind, Result};
use crate::model::id::shown;
use crate::secret::Secret;

/// `strongroom as`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The old command's name, such as keytrustee-orgtool, and all that is typed behind it
    // One list: what follows the name, `--help` too, is the old command's.
    #[arg(
        value_name = "OLD-NAME ARGUMENTS",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    line: Vec<OsString>,
}

/// One old command: its line, once it is parsed.
trait Line: Parser {
    fn global(&mut self) -> &mut Global;
    /// How the old command asks for its tables; ours unless it says so.
    fn printed(&self, _out: &mut Printer) {}
    fn run(self, context: &Context) -> Result<()>;
}

/// An old name, and where runbooks call it by an absolute path.
pub struct Old {
    pub name: &'static str,
    pub paths: &'static [&'static str],
    /// Another program of this name may well be installed: linked only when it is asked for.
    pub shadows: bool,
    run: fn(Vec<OsString>, Global) -> ExitCode,
}

const KEY_TRUSTEE: &str = "/opt/cloudera/parcels/KEYTRUSTEE_SERVER/bin";

/// Every old name that works.
pub const ALL: &[Old] = &[
    Old {
        name: "keytrustee-orgtool",
        paths: &["/usr/bin", KEY_TRUSTEE],
        shadows: false,
        run: typed::<orgtool::Orgtool>,
    },
    Old {
        name: "ktadmin",
        paths: &["/usr/bin", KEY_TRUSTEE],
        shadows: false,
        run: typed::<ktadmin::Ktadmin>,
    },
    Old {
        name: "ktbackup",
        paths: &["/usr/bin", KEY_TRUSTEE],
        shadows: false,
        run: typed::<ktbackup::Ktbackup>,
    },
    Old {
        name: "ktbackup.sh",
        paths: &["/usr/bin", KEY_TRUSTEE],
        shadows: false,
        run: typed::<ktbackup::Ktbackup>,
    },
    Old {
        name: "setup-nginx",
        paths: &[SSH_MGR],
        shadows: false,
        run: retired::setup_nginx,
    },
    Old {
        name: "ssh-mgr-client",
        paths: &[SSH_MGR],
        shadows: false,
        run: typed::<ssh_mgr_client::SshMgrClient>,
    },
    Old {
        name: "ssh-mgr-controller",
        paths: &[SSH_MGR],
        shadows: false,
        run: typed::<ssh_mgr_controller::SshMgrController>,
    },
    Old {
        name: "ssh-mgr-setup",
        paths: &[SSH_MGR],
        shadows: false,
        run: typed::<ssh_mgr_setup::SshMgrSetup>,
    },
    Old {
        name: "supervisorctl",
        paths: &["/usr/bin"],
        shadows: true,
        run: typed::<supervisorctl::Supervisorctl>,
    },
];

const SSH_MGR: &str = "/opt/sshmgr/bin";

/// The old command that the program was called as.
pub fn called_as(first: Option<&OsString>) -> Option<&'static Old> {
    let name = Path::new(first?).file_name()?;
    ALL.iter().find(|old| name == old.name)
}

/// `strongroom as NAME …`; the options before NAME hold, too.
pub fn named(args: Args, global: Global) -> Result<ExitCode> {
    let name = args.line.first().cloned().unwrap_or_default();
    let old = ALL.iter().find(|old| name == old.name);
    let old = old.ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|old| old.name).collect();
        Error::invalid(
            "name",
            format!(
                "`{}` is no old command that works here; there are {}",
                shown(&name.to_string_lossy()),
                known.join(", ")
            ),
        )
    })?;
    Ok(old.call(args.line, global))
}

impl Old {
    /// Runs it with its whole line, its own name first.
    pub fn call(&self, line: Vec<OsString>, global: Global) -> ExitCode {
        (self.run)(line, global)
    }
}

fn typed<L: Line>(line: Vec<OsString>, before: Global) -> ExitCode {
    let mut line = match L::try_parse_from(line) {
        Ok(line) => line,
        Err(error) => return print::usage(&error),
    };
    let global = std::mem::take(line.global()).or(before);
    let mut context = super::context(global);
    line.printed(&mut context.out);
    super::perform(&context, |context| line.run(context))
}

/// Says why an option or a name of the original is accepted and does nothing.
fn not_needed(context: &Context, what: &str, why: &str) {
    context.out.talk(&format!("{what} is not needed: {why}"));
}

/// What the original has and this program does something else for: exit 1.
fn instead(text: impl Into<String>) -> Error {
    Error::new(Kind::Internal, "not_here", text)
}

/// A secret that the original takes as an argument; `-` reads stdin.
fn secret_argument(context: &Context, option: &str, given: String) -> Result<Secret<String>> {
    if given == "-" {
        let read = files::read_secret(Path::new("-"))?;
        // What a failing program prints must not become what an empty argument says.
        if read.expose().trim().is_empty() {
            return Err(Error::invalid(
                "secret",
                format!(
                    "nothing came on stdin for {option} -; to have no secret, type {option} \"\""
                ),
            ));
        }
        return Ok(read);
    }
    if !given.is_empty() {
        context.out.warn(&format!(
            "a secret on the command line can be read by every account of this machine while the command runs, and stays in the shell's history; `{option} -` reads it from stdin"
        ));
    }
    Ok(Secret::new(given))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn commands() -> Vec<clap::Command> {
        vec![
            ktadmin::Ktadmin::command(),
            ktbackup::Ktbackup::command(),
            orgtool::Orgtool::command(),
            ssh_mgr_client::SshMgrClient::command(),
            ssh_mgr_controller::SshMgrController::command(),
            ssh_mgr_setup::SshMgrSetup::command(),
            supervisorctl::Supervisorctl::command(),
        ]
    }

    #[test]
    fn every_old_command_is_sound_and_goes_by_its_name() {
        for command in commands() {
            let name = command.get_name().to_owned();
            assert!(ALL.iter().any(|old| old.name == name), "{name}");
            command.debug_assert();
        }
        assert!(ALL.is_sorted_by_key(|old| old.name));
        // One that is no command line, but a line of text, and one that goes by two names.
        assert_eq!(ALL.len(), commands().len() + 2);
    }

    #[test]
    fn the_name_counts_whatever_the_path() {
        let called = |name: &str| called_as(Some(&OsString::from(name))).map(|old| old.name);
        assert_eq!(called("/usr/bin/ktadmin"), Some("ktadmin"));
        assert_eq!(called("./ssh-mgr-client"), Some("ssh-mgr-client"));
        assert_eq!(called("strongroom"), None);
        assert_eq!(called("ktadmin.sh"), None);
        assert_eq!(called_as(None).map(|old| old.name), None);
    }
}
