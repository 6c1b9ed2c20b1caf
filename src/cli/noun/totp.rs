//! `strongroom user totp`, and `user reset`.

use std::path::PathBuf;

use hyper::Method;

use super::user::path;
use crate::api::user::{
    ConfirmTotp, EnrollTotp, RecoveryCodes, RemoveTotp, ResetUser, TotpEnrolled, UserReset,
};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::files;
use crate::error::{Error, Result};
use crate::model::user::UserName;
use crate::secret::Secret;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Make a secret for an authenticator app, and print it, this once
    ///
    /// Log-ins ask for a code once `confirm` got the first one.
    Enroll {
        /// The user's name
        name: UserName,
    },
    /// Put it in force with the code that the app shows now, and print the recovery codes, this once
    Confirm {
        /// The user's name
        name: UserName,
        /// A file with the code (`-`: stdin); asked for on a terminal if left out
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
    },
    /// Take the second factor away, with its recovery codes; the user's sessions end
    Remove {
        /// The user's name
        name: UserName,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Enroll { name } => {
            let request = EnrollTotp {
                current_password: None,
            };
            let call = Call::new(Method::POST, format!("{}/totp", path(&name))).json(&request)?;
            let enrolled: TotpEnrolled = context.admin()?.json(call).await?;
            out.record(
                &enrolled,
                &[
                    ("secret", enrolled.secret.clone()),
                    ("uri", enrolled.uri.clone()),
                ],
            )?;
            out.talk(&format!(
                "Add it to the app, then: strongroom user totp confirm {name}"
            ));
            Ok(())
        }
        Verb::Confirm { name, code_file } => {
            let code = match code_file {
                Some(file) => Some(files::read_secret(&file)?),
                None => out
                    .ask_text("The code that the app shows:")?
                    .map(Secret::new),
            };
            let code = code.ok_or_else(|| {
                Error::invalid(
                    "code",
                    "nobody is there to ask for the code; give --code-file FILE, or --code-file -",
                )
            })?;
            let request = ConfirmTotp {
                code: code.expose().trim().to_owned(),
            };
            let path = format!("{}/totp/confirm", path(&name));
            let call = Call::new(Method::POST, path).json(&request)?;
            let codes: RecoveryCodes = context.admin()?.json(call).await?;
            out.talk(&format!(
                "log-ins of {name} ask for a code from now on; each of these stands for one once, if the device is lost:"
            ));
            if out.document(&codes)? {
                return Ok(());
            }
            codes
                .recovery_codes
                .iter()
                .try_for_each(|code| out.line(code))
        }
        Verb::Remove { name } => {
            let request = RemoveTotp {
                current_password: None,
            };
            let path = format!("{}/totp/remove", path(&name));
            let call = Call::new(Method::POST, path).json(&request)?;
            context.admin()?.send(call).await?;
            out.talk(&format!("log-ins of {name} ask for the password alone"));
            Ok(())
        }
    }
}

/// On the server's own machine: the admin socket alone has it.
pub async fn reset(name: UserName, clear_second_factor: bool, context: &Context) -> Result<()> {
    let out = &context.out;
    let mut client = context.admin()?;
    out.confirm(&format!(
        "Give {name} a new password? Sessions, tokens and certificates end."
    ))?;
    let request = ResetUser {
        clear_second_factor,
    };
    let call = Call::new(Method::POST, format!("{}/reset", path(&name))).json(&request)?;
    let reset: UserReset = client.json(call).await?;
    let factor = match clear_second_factor {
        true => "; a second factor is cleared",
        false => "",
    };
    out.talk(&format!(
        "user {name} is enabled, with this password{factor}"
    ));
    if out.document(&reset)? {
        return Ok(());
    }
    out.line(&reset.password)
}
