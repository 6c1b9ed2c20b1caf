//! The roles that exist.

use super::access::{Action, Target};
use super::caller::Context;
use super::{Service, object};
use crate::api::role::{RoleInfo, Roles};
use crate::error::Result;
use crate::model::role::Role;

impl Service {
    pub fn role_list(&self, ctx: &Context) -> Result<Roles> {
        self.allow(
            ctx,
            Action::UserRead,
            &Target::Server,
            "role.list",
            object("role", "", ""),
        )?;
        Ok(Roles {
            roles: Role::ALL
                .into_iter()
                .map(|role| RoleInfo {
                    role,
                    description: role.description().to_owned(),
                })
                .collect(),
        })
    }
}
