//! `strongroom user`.

use std::path::PathBuf;
use std::str::FromStr;

use hyper::Method;

use super::{ListArgs, totp, user_certificate};
use crate::api::user::{AddUser, EditUser, SetPassword};
use crate::cli::client::{Call, with_query};
use crate::cli::door::Context;
use crate::cli::files;
use crate::cli::print::Printer;
use crate::error::{Error, Result};
use crate::model::id::shown;
use crate::model::role::{Grant, Role};
use crate::model::user::{User, UserName};

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add a user
    Add {
        /// The name to log in with
        name: UserName,
        /// A file with the password, 12 to 1,024 bytes (`-`: stdin)
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// A role of `strongroom role list`, on one organization or on all; may be given again
        #[arg(long = "role", value_name = "ROLE[:ORG]")]
        roles: Vec<RoleOn>,
    },
    /// All users
    List(ListArgs),
    /// One user, with its roles
    Show {
        /// The user's name
        name: UserName,
    },
    /// Refuse a user's log-ins and tokens until it is enabled
    Disable {
        /// The user's name
        name: UserName,
    },
    /// Let a disabled user in again
    Enable {
        /// The user's name
        name: UserName,
    },
    /// Remove a user with its tokens
    Rm {
        /// The user's name
        name: UserName,
    },
    /// Certificates by which a user comes
    #[command(subcommand)]
    Certificate(user_certificate::Verb),
    /// Set a new password; the user's sessions end
    SetPassword {
        /// The user's name
        name: UserName,
        /// A file with the password, 12 to 1,024 bytes (`-`: stdin)
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Second factors: codes of an authenticator app, beside the password
    #[command(subcommand)]
    Totp(totp::Verb),
    /// Make up a new password, and print it, this once; the user is enabled, its sessions, tokens and
    /// certificates end
    ///
    /// On the server's own machine alone, over the admin socket.
    Reset {
        /// The user's name
        name: UserName,
        /// Also take the second factor away
        #[arg(long)]
        clear_second_factor: bool,
    },
    /// Give a role, on one organization or on all; the user's sessions and tokens end
    Grant {
        /// The user's name
        name: UserName,
        /// Such as auditor, or key_operator:acme
        #[arg(value_name = "ROLE[:ORG]")]
        role: RoleOn,
    },
    /// Take a role
    Revoke {
        /// The user's name
        name: UserName,
        /// Such as auditor, or key_operator:acme
        #[arg(value_name = "ROLE[:ORG]")]
        role: RoleOn,
    },
}

/// `ROLE` or `ROLE:ORG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleOn(Grant);

impl FromStr for RoleOn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (role, org) = match text.split_once(':') {
            Some((role, org)) => (role, Some(org.parse()?)),
            None => (text, None),
        };
        let wanted = role.replace('-', "_");
        let role = Role::ALL
            .into_iter()
            .find(|it| it.as_str() == wanted)
            .ok_or_else(|| {
                let known = Role::ALL.map(Role::as_str).join(", ");
                Error::invalid(
                    "role",
                    format!("`{}` is not a role; there are {known}", shown(role)),
                )
            })?;
        Ok(Self(Grant { role, org }))
    }
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Add {
            name,
            password_file,
            roles,
        } => {
            let request = AddUser {
                name,
                password: files::read_secret(&password_file)?.expose().clone(),
                grants: roles.into_iter().map(|role| role.0).collect(),
            };
            let call = Call::new(Method::POST, "/v1/users").json(&request)?;
            changed(context, call, "is there").await
        }
        Verb::List(list) => {
            let mut client = context.admin()?;
            let columns = &["name", "roles", "state", "second factor", "created"];
            list.run(&mut client, "/v1/users", vec![], out, columns, row)
                .await
        }
        Verb::Show { name } => {
            let user: User = context.admin()?.json(Call::get(path(&name))).await?;
            out.record(&user, &fields(out, &user))
        }
        Verb::Disable { name } => set_disabled(context, &name, true).await,
        Verb::Enable { name } => set_disabled(context, &name, false).await,
        Verb::Rm { name } => {
            let mut client = context.admin()?;
            out.confirm(&format!("Remove user {name} and its tokens?"))?;
            client.send(Call::new(Method::DELETE, path(&name))).await?;
            out.talk(&format!("user {name} is removed"));
            Ok(())
        }
        Verb::Certificate(verb) => user_certificate::run(verb, context).await,
        Verb::SetPassword {
            name,
            password_file,
        } => {
            let password = files::read_secret(&password_file)?.expose().clone();
            let call = Call::new(Method::PUT, format!("{}/password", path(&name)));
            let call = call.json(&SetPassword {
                password,
                current_password: None,
            })?;
            context.admin()?.send(call).await?;
            out.talk(&format!(
                "user {name} has a new password, and no session any more"
            ));
            Ok(())
        }
        Verb::Totp(verb) => totp::run(verb, context).await,
        Verb::Reset {
            name,
            clear_second_factor,
        } => totp::reset(name, clear_second_factor, context).await,
        Verb::Grant { name, role } => grant(context, &name, role.0).await,
        Verb::Revoke { name, role } => revoke(context, &name, role.0).await,
    }
}

async fn set_disabled(context: &Context, name: &UserName, disabled: bool) -> Result<()> {
    let call = Call::new(Method::PATCH, path(name)).json(&EditUser { disabled })?;
    let what = if disabled {
        "is disabled"
    } else {
        "is enabled"
    };
    changed(context, call, what).await
}

async fn grant(context: &Context, name: &UserName, grant: Grant) -> Result<()> {
    let call = Call::new(Method::POST, format!("{}/grants", path(name))).json(&grant)?;
    changed(
        context,
        call,
        "has the role now; sessions and tokens from before have ended",
    )
    .await
}

async fn revoke(context: &Context, name: &UserName, grant: Grant) -> Result<()> {
    let mut query = vec![("role", grant.role.as_str().to_owned())];
    query.extend(grant.org.map(|org| ("org", org.to_string())));
    let path = with_query(&format!("{}/grants", path(name)), &query);
    changed(
        context,
        Call::new(Method::DELETE, path),
        "has the role no more",
    )
    .await
}

async fn changed(context: &Context, call: Call, what: &str) -> Result<()> {
    let user: User = context.admin()?.json(call).await?;
    context.out.talk(&format!("user {} {what}", user.name));
    context.out.document(&user).map(|_| ())
}

pub(super) fn path(name: &UserName) -> String {
    format!("/v1/users/{name}")
}

fn row(out: &Printer, user: &User) -> Vec<String> {
    vec![
        user.name.to_string(),
        grants(user),
        state(user).to_owned(),
        if user.second_factor { "yes" } else { "no" }.to_owned(),
        out.time(user.created),
    ]
}

fn fields(out: &Printer, user: &User) -> Vec<(&'static str, String)> {
    vec![
        ("name", user.name.to_string()),
        ("id", user.id.to_string()),
        ("roles", grants(user)),
        ("state", state(user).to_owned()),
        (
            "second factor",
            if user.second_factor { "yes" } else { "no" }.to_owned(),
        ),
        ("created", out.time(user.created)),
    ]
}

fn state(user: &User) -> &'static str {
    if user.disabled { "disabled" } else { "enabled" }
}

fn grants(user: &User) -> String {
    let grants = user.grants.iter().map(|grant| match &grant.org {
        Some(org) => format!("{}:{org}", grant.role.as_str()),
        None => grant.role.as_str().to_owned(),
    });
    grants.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_given_on_one_organization_or_on_all() {
        let RoleOn(all) = "auditor".parse().unwrap();
        assert_eq!((all.role, all.org), (Role::Auditor, None));
        let RoleOn(one) = "org-administrator:acme".parse().unwrap();
        assert_eq!(
            (one.role, one.org.unwrap().as_str()),
            (Role::OrgAdministrator, "acme")
        );
        assert!(
            "king"
                .parse::<RoleOn>()
                .unwrap_err()
                .public
                .contains("key_operator")
        );
        assert!("auditor:a b".parse::<RoleOn>().is_err());
    }
}
