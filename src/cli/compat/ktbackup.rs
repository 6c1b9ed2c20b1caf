//! `ktbackup.sh`: a backup of the server, by the options of Key Trustee Server's script.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::{Line, not_needed};
use crate::cli::door::{Context, Global};
use crate::cli::noun::backup::{self, CreateArgs, Verb};
use crate::cli::online;
use crate::error::{Error, Result};

/// Where Key Trustee Server's own configuration lay.
const ORIGINAL: &str = "/var/lib/keytrustee/.keytrustee";

/// A backup, as Key Trustee Server's script takes it
#[derive(Parser, Debug)]
#[command(name = "ktbackup.sh", version)]
pub struct Ktbackup {
    /// The data folder; the original's path means the installed one
    #[arg(short = 'c', long = "confdir", value_name = "DIR")]
    confdir: Option<PathBuf>,
    /// Accepted: the database is inside the server
    #[arg(long, value_name = "PORT")]
    database_port: Option<String>,
    /// Whose OpenPGP key opens the backup: of the server's recipients, else of your gpg keyring
    #[arg(long, value_name = "NAME")]
    gpg_recipient: Vec<String>,
    /// Whose age identity opens it, instead; may be given several times
    #[arg(long, value_name = "AGE1…")]
    age_recipient: Vec<String>,
    /// A file with one recipient of age a line
    #[arg(long, value_name = "FILE")]
    age_recipients_file: Vec<PathBuf>,
    /// Do not encrypt it as a whole
    #[arg(long)]
    cleartext: bool,
    /// Where it is written; the data folder's backups/ unless said
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Then remove all but the newest N of this server's verified backups in that folder
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    roll: Option<u32>,
    /// Print the path of the backup, and nothing else
    #[arg(short = 'q')]
    brief: bool,
    #[command(flatten)]
    global: Global,
}

impl Line for Ktbackup {
    fn global(&mut self) -> &mut Global {
        if let Some(confdir) = self.confdir.take().filter(|it| it != Path::new(ORIGINAL)) {
            self.global.data_dir = Some(confdir);
        }
        self.global.quiet |= self.brief;
        &mut self.global
    }

    fn run(self, context: &Context) -> Result<()> {
        if self.database_port.is_some() {
            not_needed(
                context,
                "--database-port",
                "the database is inside the server",
            );
        }
        let nobody = self.gpg_recipient.is_empty()
            && self.age_recipient.is_empty()
            && self.age_recipients_file.is_empty();
        if nobody && !self.cleartext {
            return Err(Error::invalid(
                "recipient",
                "say who is to open the backup: --gpg-recipient=NAME, or --age-recipient=AGE1…; --cleartext for none but the secret of a slot",
            ));
        }
        let args = CreateArgs {
            recipient: self.age_recipient,
            recipients_file: self.age_recipients_file,
            gpg_recipient: self.gpg_recipient,
            age_passphrase_file: None,
            self_contained: false,
            cleartext: self.cleartext,
            output: self.output,
            roll: self.roll,
        };
        online(backup::run(Verb::Create(args), context))
    }
}
