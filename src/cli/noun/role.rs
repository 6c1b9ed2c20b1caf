//! `strongroom role`.

use crate::api::role::Roles;
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::error::Result;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// The roles that exist, and what each may do
    List,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    match verb {
        Verb::List => {
            let roles: Roles = context.admin()?.json(Call::get("/v1/roles")).await?;
            let columns = &["role", "description"];
            context.out.table(&roles, &roles.roles, columns, |_, it| {
                vec![it.role.as_str().to_owned(), it.description.clone()]
            })
        }
    }
}
