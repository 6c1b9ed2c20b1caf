//! `strongroom token`.

use std::str::FromStr;

use hyper::Method;

use super::ListArgs;
use crate::api::token::{AddToken, TokenAdded};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::clock::{self, Timestamp};
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
        expires: Option<Expiry>,
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

/// A time, or a span from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    At(Timestamp),
    After(i64),
}

impl FromStr for Expiry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(span) = text.strip_prefix('+') else {
            return text.parse().map(Self::At);
        };
        let wrong = || {
            Error::invalid(
                "expires",
                format!("`{}` is not a span such as +90d, +12h or +30m", shown(text)),
            )
        };
        let unit = match span.chars().last() {
            Some('d') => Timestamp::DAY,
            Some('h') => Timestamp::HOUR,
            Some('m') => 60 * Timestamp::SECOND,
            _ => return Err(wrong()),
        };
        let count: u32 = span[..span.len() - 1].parse().map_err(|_| wrong())?;
        i64::from(count)
            .checked_mul(unit)
            .map(Self::After)
            .ok_or_else(wrong)
    }
}

impl Expiry {
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::After(span) => now.plus(span),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_span() {
        let now = Timestamp(1_000_000);
        let end = |text: &str| text.parse::<Expiry>().map(|it| it.from(now).0);
        assert_eq!(end("+90d").unwrap(), 1_000_000 + 90 * Timestamp::DAY);
        assert_eq!(end("+30m").unwrap(), 1_000_000 + 1_800 * Timestamp::SECOND);
        assert_eq!(end("1970-01-01T00:00:02Z").unwrap(), 2_000_000);
        for bad in [
            "90d",
            "+",
            "+d",
            "+9w",
            "+-1d",
            "-1d",
            "+é",
            "+99999999999d",
            "tomorrow",
        ] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }
}
