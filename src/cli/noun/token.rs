//! `strongroom token`.

use hyper::Method;

use super::ListArgs;
use super::moment::Moment;
use crate::api::token::{AddToken, TokenAdded};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::clock;
use crate::error::{Error, Result};
use crate::model::id::{TokenId, shown};
use crate::model::token::{Scope, Token};
use crate::model::user::UserName;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Make a token, and print its secret, this once
    Add {
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        label: String,
        /// What it may do at most: all, read, deposits or metrics; may be given again
        #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scope)]
        scopes: Vec<Scope>,
        /// When it ends: 2027-01-31T00:00:00Z, or +90d, +12h, +30m from now; never if left out
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        expires: Option<Moment>,
        /// Whose rights it carries; the caller's own if left out
        #[arg(long, value_name = "NAME")]
        user: Option<UserName>,
    },
    /// All tokens, without their secrets
    List(ListArgs),
    /// Remove a token; it is refused from then on
    Rm {
        /// As `token list` shows it
        id: TokenId,
    },
}

fn scope(text: &str) -> Result<Scope> {
    Scope::ALL
        .into_iter()
        .find(|it| it.as_str() == text)
        .ok_or_else(|| {
            let known = Scope::ALL.map(Scope::as_str).join(", ");
            Error::invalid(
                "scopes",
                format!("`{}` is not a scope; there are {known}", shown(text)),
            )
        })
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::Add {
            label,
            scopes,
            expires,
            user,
        } => {
            let expires = expires.map(|it| it.from(clock::now()));
            let request = AddToken {
                user,
                label,
                scopes,
                expires,
            };
            let added: TokenAdded = client
                .json(Call::new(Method::POST, "/v1/tokens").json(&request)?)
                .await?;
            if out.document(&added)? {
                return Ok(());
            }
            let until = added
                .token
                .expires
                .map_or("without end".to_owned(), |time| format!("until {time}"));
            out.talk(&format!(
                "token {} of {} is valid {until}; its secret is shown this once:",
                added.token.id, added.token.user
            ));
            out.line(&added.secret)
        }
        Verb::List(list) => {
            let columns = &["id", "user", "label", "scopes", "created", "expires"];
            list.run(&mut client, "/v1/tokens", vec![], out, columns, row)
                .await
        }
        Verb::Rm { id } => {
            out.confirm(&format!(
                "Remove token {id}? Whatever uses it is refused from then on."
            ))?;
            client
                .send(Call::new(Method::DELETE, format!("/v1/tokens/{id}")))
                .await?;
            out.talk(&format!("token {id} is removed"));
            Ok(())
        }
    }
}

fn row(out: &Printer, token: &Token) -> Vec<String> {
    vec![
        token.id.to_string(),
        token.user.to_string(),
        token.label.clone(),
        token
            .scopes
            .iter()
            .map(|it| it.as_str())
            .collect::<Vec<_>>()
            .join(","),
        out.time(token.created),
        out.maybe_time(token.expires),
    ]
}
