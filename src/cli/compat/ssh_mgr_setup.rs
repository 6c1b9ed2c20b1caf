//! `ssh-mgr-setup`: the first set-up, by options or by questions.

use clap::Parser;

use super::ktadmin::ask_fqdn;
use super::{Line, instead, not_needed, secret_argument};
use crate::cli::Printer;
use crate::cli::door::{Context, Global};
use crate::cli::init::{self, Wanted};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The first set-up, as Key Manager's command does it; asks for what is missing
#[derive(Parser, Debug)]
#[command(name = "ssh-mgr-setup", version)]
pub struct SshMgrSetup {
    #[command(flatten)]
    global: Global,
    /// Accepted: the program is one file, and its data lies in --data-dir
    #[arg(long, value_name = "DIR")]
    install_dir: Option<String>,
    /// `embedded`: the store is part of the server; any other database is refused
    #[arg(long, value_name = "TYPE")]
    db_type: Option<String>,
    /// The host name by which clients reach this server
    #[arg(long, value_name = "HOST")]
    fqdn: Option<String>,
    /// The password of the user `superuser`, 12 to 1,024 bytes; `-` reads it from stdin
    #[arg(long, value_name = "PASSWORD", allow_hyphen_values = true)]
    superuser_password: Option<String>,
    /// Refused: the store is part of the server
    #[arg(long, value_name = "NAME")]
    db_name: Option<String>,
    /// Refused: the store is part of the server
    #[arg(long, value_name = "NAME")]
    db_user: Option<String>,
    /// Refused: the store is part of the server
    #[arg(long, value_name = "PASSWORD", allow_hyphen_values = true)]
    db_user_password: Option<String>,
    /// The passphrase that opens the server; `-` reads it from stdin
    #[arg(long, value_name = "PASSPHRASE", allow_hyphen_values = true)]
    encryption_passphrase: Option<String>,
    /// Accepted: the Apache License 2.0 asks for no consent
    #[arg(long)]
    accept_eula: bool,
}

impl Line for SshMgrSetup {
    fn global(&mut self) -> &mut Global {
        &mut self.global
    }

    fn run(self, context: &Context) -> Result<()> {
        self.check_database()?;
        if let Some(folder) = &self.install_dir {
            let data = context.data_dir();
            let why = format!(
                "the program is one file; the data goes to {}",
                data.display()
            );
            not_needed(context, &format!("--install-dir {folder}"), &why);
        }
        if self.accept_eula {
            not_needed(
                context,
                "--accept-eula",
                "the Apache License 2.0 asks for no consent",
            );
        }
        let wanted = self.wanted(context)?;
        init::make(wanted, &context.global, &context.out)
    }
}

impl SshMgrSetup {
    /// Nobody's data lies elsewhere than he said.
    fn check_database(&self) -> Result<()> {
        let typed = self.db_type.as_deref();
        if let Some(other) = typed.filter(|typed| !typed.eq_ignore_ascii_case("embedded")) {
            return Err(instead(format!("--db-type={other}: {NO_OTHER_DATABASE}")));
        }
        for (option, given) in [
            ("--db-name", &self.db_name),
            ("--db-user", &self.db_user),
            ("--db-user-password", &self.db_user_password),
        ] {
            if given.is_some() {
                return Err(instead(format!("{option}: {NO_OTHER_DATABASE}")));
            }
        }
        Ok(())
    }

    fn wanted(self, context: &Context) -> Result<Wanted> {
        let out = &context.out;
        let both = [&self.encryption_passphrase, &self.superuser_password];
        if both.iter().all(|given| given.as_deref() == Some("-")) {
            return Err(Error::invalid(
                "setup",
                "stdin holds one secret; give only one of --encryption-passphrase and --superuser-password as `-`",
            ));
        }
        let asks = self.fqdn.is_none() || both.iter().any(|given| given.is_none());
        if asks {
            self.check_somebody_answers()?;
            ask_place(out)?;
        }
        let fqdn = match self.fqdn {
            Some(fqdn) => Some(fqdn),
            None => ask_fqdn(out)?,
        };
        let passphrase = match self.encryption_passphrase {
            Some(given) => secret_argument(context, "--encryption-passphrase", given)?,
            None => ask_new_secret(out, "Passphrase that opens the server")?
                .unwrap_or_else(|| Secret::new(String::new())),
        };
        if passphrase.expose().is_empty() {
            return Err(Error::invalid(
                "passphrase",
                "the passphrase is empty; give one",
            ));
        }
        let password = match self.superuser_password {
            Some(given) => Some(secret_argument(context, "--superuser-password", given)?),
            None => ask_new_secret(out, "Password of the user superuser, 12 bytes or more")?,
        };
        Ok(Wanted {
            fqdn: fqdn.ok_or_else(|| Error::invalid("fqdn", "the host's name is missing"))?,
            passphrase: init::bytes(passphrase),
            key_file: None,
            password: Some(
                password.ok_or_else(|| Error::invalid("password", "the password is missing"))?,
            ),
        })
    }

    fn check_somebody_answers(&self) -> Result<()> {
        if Printer::someone_answers() {
            return Ok(());
        }
        let missing: Vec<&str> = [
            ("--fqdn HOST", self.fqdn.is_none()),
            (
                "--encryption-passphrase PASSPHRASE",
                self.encryption_passphrase.is_none(),
            ),
            (
                "--superuser-password PASSWORD",
                self.superuser_password.is_none(),
            ),
        ]
        .into_iter()
        .filter_map(|(option, missing)| missing.then_some(option))
        .collect();
        Err(Error::invalid(
            "setup",
            format!(
                "nobody is there to ask; give {} (`-` reads one secret from stdin)",
                missing.join(", ")
            ),
        ))
    }
}

const NO_OTHER_DATABASE: &str = "the store is an encrypted database inside the server, in its data folder; no other database can be used. Leave the --db options out, or give --db-type=embedded";

/// The original's questions that have one answer here.
fn ask_place(out: &Printer) -> Result<()> {
    let no = |question: &str| -> Result<bool> {
        let answer = out.ask_text(&format!("{question} [Y/n]"))?;
        Ok(answer.is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "n" | "no")))
    };
    if no("Is this the primary installation?")? {
        return Err(instead(
            "there is no second server of one installation yet; what there is: one server, and a copy of its data folder, which starts on another machine once this one is stopped",
        ));
    }
    if no("Does the database run on this machine?")? {
        return Err(instead(format!("a remote database: {NO_OTHER_DATABASE}")));
    }
    Ok(())
}

/// Asks twice; none if nobody is there to answer, or nothing is typed.
pub fn ask_new_secret(out: &Printer, what: &str) -> Result<Option<Secret<String>>> {
    let Some(first) = out.ask_secret(&format!("{what}:"))? else {
        return Ok(None);
    };
    let again = out.ask_secret("The same once more:")?;
    if again.is_some_and(|again| again.matches(first.expose().as_bytes())) {
        return Ok(Some(first));
    }
    Err(Error::invalid(
        "secret",
        "the two are not the same; nothing was made",
    ))
}
