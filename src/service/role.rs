//! The roles that exist.

use super::Service;
use super::caller::Context;
use crate::api::role::Roles;
use crate::error::Result;

impl Service {
    pub fn role_list(&self, ctx: &Context) -> Result<Roles> {
        todo!()
    }
}
