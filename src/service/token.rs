//! API tokens: add, list, remove.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::access::{Action, Target};
use super::caller::{Context, Identity};
use super::{ListQuery, Service, by_id, object, paged, position, short_text};
use crate::api::token::{AddToken, TokenAdded};
use crate::clock;
use crate::crypto;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::TokenId;
use crate::model::page::{Page, Part};
use crate::model::role::Role;
use crate::model::token::Token;
use crate::store::NewToken;

const LIST: &str = "tokens";
/// What a token's text begins with, so that scanners of leaked secrets know it.
const PREFIX: &str = "srt_";

/// What is kept of a token's text.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    Service::digest(&[b"token/v1", secret.as_bytes()])
}

impl Service {
    /// Its secret is in this answer and nowhere else.
    pub async fn token_add(&self, ctx: &Context, request: AddToken) -> Result<TokenAdded> {
        self.allow(
            ctx,
            Action::TokenChange,
            &Target::Server,
            "token.add",
            object("token", "", &request.label),
        )?;
        short_text("label", &request.label, 255)?;
        if request.scopes.is_empty() {
            return Err(Error::invalid(
                "scopes",
                "a token has at least one scope: all, read, deposits or metrics",
            ));
        }
        let now = clock::now();
        if request.expires.is_some_and(|end| end <= now) {
            return Err(Error::invalid(
                "expires",
                "the token's end lies in the past",
            ));
        }
        if let Identity::Token { id, .. } = &ctx.identity
            && let Some(own) = self.store.token(*id)?.expires
            && request.expires.is_none_or(|end| end > own)
        {
            return Err(Error::invalid(
                "expires",
                format!("a token that was made by one with an end ends with it or before: {own}"),
            ));
        }
        let user = match (&request.user, &ctx.identity) {
            (Some(user), _) => user.clone(),
            (
                None,
                Identity::User { name, .. }
                | Identity::Token {
                    user_name: name, ..
                },
            ) => name.clone(),
            (None, _) => {
                return Err(Error::invalid(
                    "user",
                    "name the user whose rights the token carries (--user NAME)",
                ));
            }
        };
        let owner = self.store.user(&user)?.user;
        self.may_give(ctx, &owner.name, &owner.grants, "token.add")?;
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(crypto::random::<32>()));
        let token = Token {
            id: TokenId::new(),
            user,
            label: request.label,
            scopes: request.scopes,
            created: now,
            expires: request.expires,
        };
        let mut change = self.change(
            ctx,
            "token.add",
            object("token", token.id, &token.label),
            now,
        );
        change.event.detail = format!(
            "of {}, {}",
            token.user,
            token
                .scopes
                .iter()
                .map(|scope| scope.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        );
        // The secret travels with the answer through the store, so that a retry returns the same one.
        let added = self
            .store
            .add_token(
                change,
                NewToken {
                    token,
                    user: owner.id,
                    hash: hash(&secret),
                },
                secret,
            )
            .await?;
        Ok(TokenAdded {
            token: added.0,
            secret: added.1,
        })
    }

    pub async fn token_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Token>> {
        self.allow(
            ctx,
            Action::TokenRead,
            &Target::Server,
            "token.list",
            object("token", "", ""),
        )?;
        let (start, limit) = position(LIST, &query, by_id)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let rows = self.store.tokens(start, filter, limit).await?;
        let id = |token: &Token| vec![Part::Id(*token.id.as_bytes())];
        Ok(paged(LIST, &query, rows, id))
    }

    pub async fn token_remove(&self, ctx: &Context, id: TokenId) -> Result<()> {
        self.allow(
            ctx,
            Action::TokenChange,
            &Target::Server,
            "token.rm",
            object("token", id, ""),
        )?;
        let token = match self.store.token(id) {
            Ok(token) => token,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let grants = self.store.user(&token.user)?.user.grants;
        let of_superuser = grants.iter().any(|grant| grant.role == Role::Superuser);
        if of_superuser && !self.is_superuser(ctx) {
            let error = Error::denied("denied", "only a superuser removes a superuser's tokens");
            self.refused(ctx, "token.rm", object("token", id, &token.label), &error);
            return Err(error);
        }
        let change = self.change(
            ctx,
            "token.rm",
            object("token", id, &token.label),
            clock::now(),
        );
        self.store.remove_token(change, id).await
    }
}
