//! Users, their passwords and their grants.

use super::access::{self, Action, Target};
use super::caller::{Context, Identity};
use super::{ListQuery, Service, by_text, object, paged, password_fits, position};
use crate::api::user::{AddUser, EditUser, SetPassword};
use crate::clock;
use crate::crypto::kdf;
use crate::error::{Error, Result};
use crate::model::audit::Object;
use crate::model::filter::Filter;
use crate::model::id::UserId;
use crate::model::page::{Page, Part};
use crate::model::role::{Grant, Role};
use crate::model::user::{User, UserName};
use crate::secret::Secret;
use crate::store::NewUser;

const LIST: &str = "users";

fn named(name: &UserName) -> Object {
    object("user", name, name)
}

impl Service {
    pub async fn user_add(&self, ctx: &Context, request: AddUser) -> Result<User> {
        self.may_change(ctx, &request.name, &request.grants, "user.add")?;
        self.may_give(ctx, &request.name, &request.grants, "user.add")?;
        let user = User {
            id: UserId::new(),
            name: request.name,
            grants: request.grants,
            created: clock::now(),
            disabled: false,
            second_factor: false,
        };
        let password = self.hash(request.password).await?;
        let mut change = self.change(ctx, "user.add", named(&user.name), user.created);
        change.event.detail = user
            .grants
            .iter()
            .map(grant_text)
            .collect::<Vec<_>>()
            .join(", ");
        self.store
            .add_user(change, NewUser { user, password })
            .await
    }

    pub async fn user_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<User>> {
        self.allow(
            ctx,
            Action::UserRead,
            &Target::Server,
            "user.list",
            object("user", "", ""),
        )?;
        let (start, limit) = position(LIST, &query, by_text)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let rows = self.store.users(start, filter, limit).await?;
        let name = |user: &User| vec![Part::Text(user.name.to_string())];
        Ok(paged(LIST, &query, rows, name))
    }

    pub async fn user_show(&self, ctx: &Context, name: &UserName) -> Result<User> {
        self.allow(
            ctx,
            Action::UserRead,
            &Target::Server,
            "user.show",
            named(name),
        )?;
        Ok(self.store.user(name)?.user)
    }

    pub async fn user_edit(
        &self,
        ctx: &Context,
        name: &UserName,
        request: EditUser,
    ) -> Result<User> {
        self.may_change_known(ctx, name, "user.edit")?;
        let change = self.change(ctx, "user.edit", named(name), clock::now());
        self.store
            .set_user_disabled(change, name.clone(), request.disabled)
            .await
    }

    pub async fn user_remove(&self, ctx: &Context, name: &UserName) -> Result<()> {
        if let Err(error) = self.may_change_known(ctx, name, "user.rm") {
            return self.or_first_answer(ctx, error);
        }
        self.store
            .remove_user(
                self.change(ctx, "user.rm", named(name), clock::now()),
                name.clone(),
            )
            .await
    }

    /// One's own, with the one until now, so that a session left open does not become the account;
    /// or another's by an administrator. Ends the user's sessions.
    pub async fn user_set_password(
        &self,
        ctx: &Context,
        name: &UserName,
        request: SetPassword,
    ) -> Result<()> {
        if self.own(ctx, name) {
            self.allow(
                ctx,
                Action::OwnFactor,
                &Target::Server,
                "user.set_password",
                named(name),
            )?;
            self.own_password(ctx, name, request.current_password, "user.set_password")
                .await?;
        } else {
            let grants = self.may_change_known(ctx, name, "user.set_password")?;
            self.may_give(ctx, name, &grants, "user.set_password")?;
        }
        let password = self.hash(request.password).await?;
        self.store
            .set_user_password(
                self.change(ctx, "user.set_password", named(name), clock::now()),
                name.clone(),
                password,
            )
            .await
    }

    pub async fn user_grant(&self, ctx: &Context, name: &UserName, grant: Grant) -> Result<User> {
        self.may_change(ctx, name, std::slice::from_ref(&grant), "user.grant")?;
        self.may_give(ctx, name, std::slice::from_ref(&grant), "user.grant")?;
        self.may_change_known(ctx, name, "user.grant")?;
        let mut change = self.change(ctx, "user.grant", named(name), clock::now());
        change.event.detail = grant_text(&grant);
        self.store.grant(change, name.clone(), grant).await
    }

    pub async fn user_revoke(&self, ctx: &Context, name: &UserName, grant: Grant) -> Result<User> {
        self.may_change_known(ctx, name, "user.revoke")?;
        let mut change = self.change(ctx, "user.revoke", named(name), clock::now());
        change.event.detail = grant_text(&grant);
        self.store.revoke(change, name.clone(), grant).await
    }

    /// Only a superuser works on superusers, and makes them.
    fn may_change(
        &self,
        ctx: &Context,
        name: &UserName,
        grants: &[Grant],
        verb: &str,
    ) -> Result<()> {
        self.allow(ctx, Action::UserChange, &Target::Server, verb, named(name))?;
        if let Some(odd) = grants
            .iter()
            .find(|grant| grant.role == Role::Superuser && grant.org.is_some())
        {
            return Err(Error::invalid(
                "org",
                format!(
                    "{} is on the whole server, not on one organization",
                    grant_text(odd)
                ),
            ));
        }
        if grants
            .iter()
            .any(|grant| grant.role == Role::OrgAdministrator && grant.org.is_none())
        {
            return Err(Error::invalid(
                "org",
                "org_administrator is on one organization: org_administrator:NAME",
            ));
        }
        if grants.iter().any(|grant| grant.role == Role::Superuser) && !self.is_superuser(ctx) {
            let error = Error::denied("denied", "only a superuser changes superusers");
            self.refused(ctx, verb, named(name), &error);
            return Err(error);
        }
        Ok(())
    }

    /// The grants of the user.
    pub(super) fn may_change_known(
        &self,
        ctx: &Context,
        name: &UserName,
        verb: &str,
    ) -> Result<Vec<Grant>> {
        self.allow(ctx, Action::UserChange, &Target::Server, verb, named(name))?;
        let grants = self.store.user(name)?.user.grants;
        self.may_change(ctx, name, &grants, verb)?;
        Ok(grants)
    }

    /// Refuses to give, or to take over by a password or a token, what the caller may not do.
    pub(super) fn may_give(
        &self,
        ctx: &Context,
        name: &UserName,
        grants: &[Grant],
        verb: &str,
    ) -> Result<()> {
        let Some(beyond) = grants
            .iter()
            .find(|grant| !access::covers(&ctx.identity, grant))
        else {
            return Ok(());
        };
        let error = Error::denied(
            "beyond_own_rights",
            format!(
                "{} allows more than the caller may do; nobody gives or takes over more than he has: ask a superuser",
                grant_text(beyond)
            ),
        );
        self.refused(ctx, verb, named(name), &error);
        Err(error)
    }

    pub(super) fn is_superuser(&self, ctx: &Context) -> bool {
        match &ctx.identity {
            Identity::User { grants, .. } | Identity::Token { grants, .. } => {
                grants.iter().any(|grant| grant.role == Role::Superuser)
            }
            Identity::Local { role, .. } => *role == Role::Superuser,
            Identity::Server => true,
            Identity::Nobody | Identity::Key { .. } | Identity::Client { .. } => false,
        }
    }

    /// Argon2id, on a thread of its own and two at a time.
    pub(super) async fn hash(&self, password: String) -> Result<String> {
        let password = Secret::new(password.into_bytes());
        password_fits(password.expose().len())?;
        let _turn = self
            .passwords
            .acquire()
            .await
            .map_err(|_| Error::internal("the log-in queue is closed"))?;
        tokio::task::spawn_blocking(move || kdf::password_hash(&password))
            .await
            .map_err(|error| Error::internal(error.to_string()))?
    }
}

/// `key_operator:acme`
fn grant_text(grant: &Grant) -> String {
    match &grant.org {
        Some(org) => format!("{}:{org}", grant.role.as_str()),
        None => grant.role.as_str().to_owned(),
    }
}
