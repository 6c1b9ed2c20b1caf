//! Second factors: enroll, confirm, remove; and what a log-in shows of one.

use super::access::{Action, Target};
use super::caller::{Context, Identity};
use super::throttle::Attempt;
use super::{Service, object, short_text};
use crate::api::user::{
    ConfirmTotp, EnrollTotp, RecoveryCodes, RemoveTotp, ResetUser, TotpEnrolled, UserReset,
};
use crate::clock::{self, Timestamp};
use crate::crypto::envelope::Aad;
use crate::crypto::{self, totp};
use crate::error::{Error, Kind, Result};
use crate::model::id::UserId;
use crate::model::user::{User, UserName};
use crate::secret::Secret;
use crate::store::{Proof, TotpRow, none_to_confirm};

/// What the key that seals secrets of second factors is for.
pub(super) const TOTP: &str = "second-factor/v1";
const RECOVERY_CODES: usize = 10;
/// The longest code that is looked at: a recovery code, with hyphens or blanks.
const LONGEST_CODE: usize = 64;

pub(super) fn totp_aad(user: &UserId) -> Aad<'_> {
    Aad {
        table: "second_factors",
        column: "secret",
        org: None,
        object: user.as_bytes(),
        version: 1,
    }
}

fn refused_code() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "second_factor_refused",
        "the code is wrong, used already, or too old; take the one that the app shows now, or a recovery code",
    )
}

impl Service {
    /// A secret for an authenticator app; in force once `totp_confirm` got a code of it.
    pub async fn totp_enroll(
        &self,
        ctx: &Context,
        name: &UserName,
        request: EnrollTotp,
    ) -> Result<TotpEnrolled> {
        let user = self
            .may_set_factor(ctx, name, request.current_password, "user.totp_enroll")
            .await?;
        let secret = totp::secret();
        let answer = TotpEnrolled {
            secret: totp::base32(secret.expose()),
            uri: totp::uri(&secret, &self.facts.config.fqdn, name.as_str())
                .expose()
                .clone(),
        };
        let _root = self.root.read().await;
        let sealed = self
            .keyring
            .seal_for(TOTP, &totp_aad(&user.id), secret.expose())?;
        let change = self.change(
            ctx,
            "user.totp_enroll",
            object("user", name, name),
            clock::now(),
        );
        self.store
            .enroll_totp(change, name.clone(), (user.id, sealed), answer)
            .await
    }

    /// Takes the first code; gives the recovery codes, this once.
    pub async fn totp_confirm(
        &self,
        ctx: &Context,
        name: &UserName,
        request: ConfirmTotp,
    ) -> Result<RecoveryCodes> {
        const VERB: &str = "user.totp_confirm";
        let user = match self.own(ctx, name) {
            true => {
                self.allow(
                    ctx,
                    Action::OwnFactor,
                    &Target::Server,
                    VERB,
                    object("user", name, name),
                )?;
                self.store.user(name)?.user
            }
            false => self.may_take_over(ctx, name, VERB)?,
        };
        let code = Secret::new(request.code);
        short_text("code", code.expose(), LONGEST_CODE)?;
        if let Some(once) = super::once(ctx)
            && let Some(first) = self.store.first_answer(&once)?
        {
            return Ok(first);
        }
        let now = clock::now();
        let row = self.store.totp(user.id)?.filter(|row| !row.confirmed);
        let row = row.ok_or_else(none_to_confirm)?;
        let attempt = self.factor_attempt(&user, now)?;
        let Some(step) = self.code_step(&user, &row, code.expose())? else {
            attempt.failed(now);
            let error = Error::denied(
                "second_factor_refused",
                "this is not the code of now; see whether the clocks of the device and of this server are right",
            );
            self.refused(ctx, VERB, object("user", name, name), &error);
            return Err(error);
        };
        attempt.succeeded();
        let codes: Vec<Secret<String>> =
            (0..RECOVERY_CODES).map(|_| totp::recovery_code()).collect();
        let hashes = codes
            .iter()
            .map(|code| totp::recovery_hash(code.expose()))
            .collect();
        let answer = RecoveryCodes {
            recovery_codes: codes.iter().map(|code| code.expose().clone()).collect(),
        };
        let change = self.change(ctx, VERB, object("user", name, name), now);
        self.store
            .confirm_totp(change, (user.id, row.secret, step), hashes, answer)
            .await
    }

    /// With its recovery codes.
    pub async fn totp_remove(
        &self,
        ctx: &Context,
        name: &UserName,
        request: RemoveTotp,
    ) -> Result<()> {
        const VERB: &str = "user.totp_remove";
        self.may_set_factor(ctx, name, request.current_password, VERB)
            .await?;
        let change = self.change(ctx, VERB, object("user", name, name), clock::now());
        self.store.remove_totp(change, name.clone()).await
    }

    /// The way back in: a new password, made up and shown once; the user is enabled, its sessions,
    /// tokens and certificates end.
    pub async fn user_reset(
        &self,
        ctx: &Context,
        name: &UserName,
        request: ResetUser,
    ) -> Result<UserReset> {
        const VERB: &str = "user.reset";
        self.may_take_over(ctx, name, VERB)?;
        let answer = UserReset {
            password: hex::encode(crypto::random::<12>()),
        };
        let hash = self.hash(answer.password.clone()).await?;
        let mut change = self.change(ctx, VERB, object("user", name, name), clock::now());
        change.event.detail = match request.clear_second_factor {
            true => "second factor cleared",
            false => "second factor kept",
        }
        .to_owned();
        self.store
            .reset_user(
                change,
                name.clone(),
                (hash, request.clear_second_factor),
                answer,
            )
            .await
    }

    /// Whether it is about the caller himself; a token is its user, whom it must not take over.
    pub(super) fn own(&self, ctx: &Context, name: &UserName) -> bool {
        match &ctx.identity {
            Identity::User { name: caller, .. }
            | Identity::Token {
                user_name: caller, ..
            } => caller == name,
            Identity::Nobody
            | Identity::Key { .. }
            | Identity::Client { .. }
            | Identity::Local { .. }
            | Identity::Server => false,
        }
    }

    /// One's own, with the password, in a session that was proven lately; or another's by whoever may
    /// set that one's password.
    async fn may_set_factor(
        &self,
        ctx: &Context,
        name: &UserName,
        current: Option<String>,
        verb: &str,
    ) -> Result<User> {
        if !self.own(ctx, name) {
            return self.may_take_over(ctx, name, verb);
        }
        self.allow(
            ctx,
            Action::OwnFactor,
            &Target::Server,
            verb,
            object("user", name, name),
        )?;
        self.own_password(ctx, name, current, verb).await?;
        Ok(self.store.user(name)?.user)
    }

    /// Whether the caller may have all that this user has.
    fn may_take_over(&self, ctx: &Context, name: &UserName, verb: &str) -> Result<User> {
        let grants = self.may_change_known(ctx, name, verb)?;
        self.may_give(ctx, name, &grants, verb)?;
        Ok(self.store.user(name)?.user)
    }

    /// What a code proves of the user's second factor: none if he has none.
    ///
    /// # Errors
    /// `second_factor_required`, `second_factor_refused`; `too_many_attempts`, whatever the address:
    /// who tries codes knows the password.
    pub(super) fn prove_factor(
        &self,
        user: &User,
        code: Option<&Secret<String>>,
    ) -> Result<Option<Proof>> {
        let Some(row) = self.store.totp(user.id)?.filter(|row| row.confirmed) else {
            return Ok(None);
        };
        let Some(code) = code.filter(|code| !code.expose().trim().is_empty()) else {
            return Err(Error::new(
                Kind::Unauthenticated,
                "second_factor_required",
                "this user has a second factor; give `code`, too: what the app shows, or a recovery code",
            ));
        };
        let now = clock::now();
        let attempt = self.factor_attempt(user, now)?;
        let code = code.expose().trim();
        let proof = if totp::is_code(code) {
            self.code_step(user, &row, code)?.map(Proof::Step)
        } else if code.len() <= LONGEST_CODE {
            let hash = totp::recovery_hash(code);
            let there = self.store.has_recovery_code(user.id, hash)?;
            there.then_some(Proof::Recovery(hash))
        } else {
            None
        };
        match proof {
            Some(proof) => {
                attempt.succeeded();
                Ok(Some(proof))
            }
            None => {
                attempt.failed(now);
                Err(refused_code())
            }
        }
    }

    /// By user alone: whoever tries codes knows the password, and may have many addresses.
    fn factor_attempt(&self, user: &User, now: Timestamp) -> Result<Attempt<'_>> {
        let who = format!("second factor {}", user.id);
        self.throttle.attempt(who, now).map_err(|error| {
            let seconds = error.retry_after.unwrap_or(1);
            Error::new(
                error.kind,
                error.code,
                format!("too many wrong codes for this user; try again in {seconds} seconds"),
            )
            .after(seconds)
        })
    }

    fn code_step(&self, user: &User, row: &TotpRow, code: &str) -> Result<Option<u64>> {
        let secret = self
            .keyring
            .open_for(TOTP, &totp_aad(&user.id), &row.secret)?;
        Ok(totp::verify(&secret, code, row.last_step, clock::now()))
    }
}
