//! `strongroom client group`.

use hyper::Method;

use super::ListArgs;
use crate::api::group::{AddGroup, GroupWithMembers};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::error::Result;
use crate::model::group::{Group, GroupName};
use crate::model::id::Fingerprint;
use crate::model::org::OrgName;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add a group to an organization
    Add(Named),
    /// Remove a group with which no deposit is shared
    Rm(Named),
    /// An organization's groups
    List {
        /// The organization
        #[arg(long, value_name = "NAME")]
        org: OrgName,
        #[command(flatten)]
        list: ListArgs,
    },
    /// One group, and who is in it
    Show(Named),
    /// Put a client into a group; it may fetch whatever is shared with the group
    AddMember(Member),
    /// Take a client out of a group
    RemoveMember(Member),
}

/// Which group.
#[derive(clap::Args, Debug)]
pub struct Named {
    /// A letter or digit, then letters, digits, `.`, `_` and `-`
    name: GroupName,
    /// The organization
    #[arg(long, value_name = "NAME")]
    org: OrgName,
}

/// Which client of which group.
#[derive(clap::Args, Debug)]
pub struct Member {
    #[command(flatten)]
    group: Named,
    /// As `client list` shows it, 64 hex digits
    #[arg(value_name = "FINGERPRINT")]
    client: Fingerprint,
}

impl Named {
    fn path(&self) -> String {
        format!("/v1/orgs/{}/groups/{}", self.org, self.name)
    }
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    let out = &context.out;
    match verb {
        Verb::Add(group) => {
            let request = AddGroup { name: group.name };
            let path = format!("/v1/orgs/{}/groups", group.org);
            let call = Call::new(Method::POST, path).json(&request)?;
            let group: Group = client.json(call).await?;
            out.talk(&format!("group {} of {} is there", group.name, group.org));
            out.document(&group).map(|_| ())
        }
        Verb::Rm(group) => {
            out.confirm(&format!("Remove the group {}?", group.name))?;
            client.send(Call::new(Method::DELETE, group.path())).await?;
            out.talk(&format!("group {} is removed", group.name));
            Ok(())
        }
        Verb::List { org, list } => {
            let path = format!("/v1/orgs/{org}/groups");
            let columns = &["org", "name", "members", "created"];
            list.run(&mut client, &path, vec![], out, columns, row)
                .await
        }
        Verb::Show(group) => {
            let found: GroupWithMembers = client.json(Call::get(group.path())).await?;
            let columns = &["fingerprint", "state", "description"];
            out.table(&found, &found.clients, columns, |_, it| {
                vec![
                    it.fingerprint.to_string(),
                    it.state.as_str().to_owned(),
                    it.description.clone(),
                ]
            })
        }
        Verb::AddMember(member) => set(member, Method::PUT, "is in", context).await,
        Verb::RemoveMember(member) => set(member, Method::DELETE, "is no longer in", context).await,
    }
}

async fn set(member: Member, method: Method, what: &str, context: &Context) -> Result<()> {
    let path = format!("{}/members/{}", member.group.path(), member.client);
    let group: Group = context.admin()?.json(Call::new(method, path)).await?;
    let out = &context.out;
    out.talk(&format!("{} {what} {}", member.client, group.name));
    out.document(&group).map(|_| ())
}

fn row(out: &Printer, group: &Group) -> Vec<String> {
    vec![
        group.org.to_string(),
        group.name.to_string(),
        group.members.to_string(),
        out.time(group.created),
    ]
}
