//! Users, their passwords and their grants.

use super::caller::Context;
use super::{ListQuery, Service};
use crate::api::user::{AddUser, EditUser, SetPassword};
use crate::error::Result;
use crate::model::page::Page;
use crate::model::role::Grant;
use crate::model::user::{User, UserName};

impl Service {
    pub async fn user_add(&self, ctx: &Context, request: AddUser) -> Result<User> {
        todo!()
    }
    pub async fn user_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<User>> {
        todo!()
    }
    pub async fn user_show(&self, ctx: &Context, name: &UserName) -> Result<User> {
        todo!()
    }
    pub async fn user_edit(
        &self,
        ctx: &Context,
        name: &UserName,
        request: EditUser,
    ) -> Result<User> {
        todo!()
    }
    pub async fn user_remove(&self, ctx: &Context, name: &UserName) -> Result<()> {
        todo!()
    }
    /// Ends the user's sessions.
    pub async fn user_set_password(
        &self,
        ctx: &Context,
        name: &UserName,
        request: SetPassword,
    ) -> Result<()> {
        todo!()
    }
    pub async fn user_grant(&self, ctx: &Context, name: &UserName, grant: Grant) -> Result<User> {
        todo!()
    }
    pub async fn user_revoke(&self, ctx: &Context, name: &UserName, grant: Grant) -> Result<User> {
        todo!()
    }
}
