//! API tokens: add, list, remove.

use super::caller::Context;
use super::{ListQuery, Service};
use crate::api::token::{AddToken, TokenAdded};
use crate::error::Result;
use crate::model::id::TokenId;
use crate::model::page::Page;
use crate::model::token::Token;

impl Service {
    pub async fn token_add(&self, ctx: &Context, request: AddToken) -> Result<TokenAdded> {
        todo!()
    }
    pub async fn token_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Token>> {
        todo!()
    }
    pub async fn token_remove(&self, ctx: &Context, id: TokenId) -> Result<()> {
        todo!()
    }
}
