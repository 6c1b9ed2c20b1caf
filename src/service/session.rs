//! Log-in: who a request is from, and sessions on the GUI's listener.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::caller::{Context, Credentials, Identity, Source};
use super::{Service, object, token};
use crate::api::session::{LogIn, Prove, Session};
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::crypto::{self, kdf};
use crate::error::{Error, Kind, Result};
use crate::model::client::ClientState;
use crate::model::id::RequestId;
use crate::model::quota::Pace;
use crate::model::role::Role;
use crate::model::user::UserName;
use crate::secret::Secret;
use crate::store::{Change, NewSession, Proof, SessionRow, UserRow};

/// However busy, a session ends after twelve hours.
const LONGEST: i64 = 12 * Timestamp::HOUR;
/// A session's last use is written at most so often, and ten times within its idle time at least.
const TOUCH: i64 = 60 * Timestamp::SECOND;
/// How long a proof within a session counts.
const PROVEN: i64 = 15 * 60 * Timestamp::SECOND;
/// Compared with where there is no such user, so that both take the same time. Nobody's password.
const NOBODY: &str = "$argon2id$v=19$m=65536,t=3,p=1$c3Ryb25ncm9vbS1ub2JvZHk$HvVvIUYQ1ydVKvcJlIxGDM6NaHqJsMyJ7wd1Bd9AZjM";

pub struct Opened {
    /// The cookie's value.
    pub cookie: Secret<String>,
    pub session: Session,
}

fn hash(cookie: &str) -> [u8; 32] {
    Service::digest(&[b"session/v1", cookie.as_bytes()])
}

/// Only who holds the cookie can compute it; scripts of another site cannot read either.
fn csrf(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(Service::digest(&[b"csrf/v1", cookie.as_bytes()]))
}

/// The kernel names the caller: root and the server's own user, and those that the configuration maps
/// to a role.
pub(super) fn local(config: &Config, uid: u32) -> Result<Identity> {
    if uid == 0 || uid == crate::os::effective_uid() {
        return Ok(Identity::Local {
            uid,
            role: Role::Superuser,
        });
    }
    match config.admin.socket_users.get(&uid.to_string()) {
        Some(role) => Ok(Identity::Local { uid, role: *role }),
        None => Err(Error::denied(
            "denied",
            format!(
                "uid {uid} may not use the admin socket; root maps it to a role in strongroom.toml under [admin.socket_users]"
            ),
        )),
    }
}

/// What a caller has to show, beside being there.
enum Asks {
    Password,
    /// And a code, where the user has a second factor.
    Both(Option<Secret<String>>),
}

fn new_cookie() -> Secret<String> {
    Secret::new(URL_SAFE_NO_PAD.encode(crypto::random::<32>()))
}

/// The session is good; another log-in would not help.
fn within_session(error: Error) -> Error {
    match (error.kind, error.code) {
        (Kind::Unauthenticated, "log_in_refused") => {
            Error::denied("password_refused", "this is not the password")
        }
        (Kind::Unauthenticated, code) => Error::denied(code, error.public),
        _ => error,
    }
}

fn unauthenticated(code: &'static str, text: &str) -> Error {
    Error::new(Kind::Unauthenticated, code, text)
}

impl Service {
    /// Who shows these credentials. Wrong or ended ones are an error, none at all is `Nobody`.
    pub async fn identify(&self, _source: Source, credentials: &Credentials) -> Result<Identity> {
        if let Some(uid) = credentials.uid {
            return local(&self.facts.config, uid);
        }
        if let Some(token) = &credentials.token {
            return self.by_token(token);
        }
        if let Some(cookie) = &credentials.session {
            let row = self.live_session(cookie, clock::now())?;
            let user = row.user.user;
            let touch = TOUCH.min(self.settings.session_idle() / 10);
            if clock::now().0 - row.last_seen.0 > touch {
                let touched = self
                    .store
                    .touch_session(hash(cookie.expose()), clock::now());
                // On a full disk reading goes on; the session ends a little earlier then.
                if let Err(error) = touched.await {
                    log::warn!(code = error.code; "a session's last use was not noted");
                }
            }
            return Ok(Identity::User {
                id: user.id,
                name: user.name,
                grants: user.grants,
                proven: !user.second_factor || clock::now() < row.proven.plus(PROVEN),
            });
        }
        match credentials.key {
            None => Ok(Identity::Nobody),
            Some(fingerprint) => Ok(match self.store.caller_by_key(&fingerprint)? {
                Some(known)
                    if known.client.state == ClientState::Active
                        && known.org_expires.is_some_and(|end| end <= clock::now()) =>
                {
                    Identity::Key {
                        fingerprint,
                        state: None,
                        org_over: Some(known.client.org.clone()),
                    }
                }
                Some(known) if known.client.state == ClientState::Active => Identity::Client {
                    id: known.client.id,
                    org: known.org,
                    org_name: known.client.org.clone(),
                    fingerprint,
                    pace: Pace {
                        client: known.client.quota.requests,
                        org: known.org_requests,
                    },
                },
                Some(known) => Identity::Key {
                    fingerprint,
                    state: (!known.client.is_over(clock::now())).then_some(known.client.state),
                    org_over: None,
                },
                None => self
                    .by_certificate(&fingerprint, credentials, clock::now())?
                    .unwrap_or(Identity::Key {
                        fingerprint,
                        state: None,
                        org_over: None,
                    }),
            }),
        }
    }

    fn by_token(&self, secret: &Secret<String>) -> Result<Identity> {
        let now = clock::now();
        let row = self.store.token_by_hash(&token::hash(secret.expose()))?;
        let fault = match &row {
            None => Some("this token is not known here"),
            Some(row) if row.token.expires.is_some_and(|end| end <= now) => {
                Some("this token has ended")
            }
            Some(row) if row.user.user.disabled => Some("this token's user is disabled"),
            Some(_) => None,
        };
        match (row, fault) {
            (Some(row), None) => {
                let user = row.user.user;
                Ok(Identity::Token {
                    id: row.token.id,
                    user: user.id,
                    user_name: user.name,
                    grants: user.grants,
                    scopes: row.token.scopes,
                })
            }
            (_, fault) => Err(unauthenticated(
                "token_refused",
                fault.unwrap_or("this token is not known here"),
            )),
        }
    }

    fn live_session(&self, cookie: &Secret<String>, now: Timestamp) -> Result<SessionRow> {
        let row = self.store.session(&hash(cookie.expose()))?;
        row.filter(|row| !row.user.user.disabled && now < self.session_end(row))
            .ok_or_else(|| unauthenticated("session_over", "this session is over; log in again"))
    }

    fn session_end(&self, row: &SessionRow) -> Timestamp {
        row.last_seen
            .plus(self.settings.session_idle())
            .min(row.created.plus(LONGEST))
    }

    /// Checks `given` against the session that `cookie` opened.
    pub fn session_csrf_matches(&self, cookie: &Secret<String>, given: &str) -> bool {
        Secret::new(csrf(cookie.expose())).matches(given.as_bytes())
    }

    pub async fn session_open(
        &self,
        source: Source,
        request: RequestId,
        log_in: LogIn,
    ) -> Result<Opened> {
        let now = clock::now();
        let ctx = Context {
            identity: Identity::Nobody,
            source,
            request,
            reason: String::new(),
            idempotency: None,
        };
        let refused = |error: &Error| {
            let named = object("user", &log_in.user, &log_in.user);
            self.refused(&ctx, "session.open", named, error);
        };
        let asks = Asks::Both(log_in.code.map(Secret::new));
        let (row, proof) = self
            .prove(&ctx, &log_in.user, log_in.password, asks)
            .await
            .inspect_err(refused)?;
        let user = row.user;
        let cookie = new_cookie();
        let known = Context {
            identity: Identity::User {
                id: user.id,
                name: user.name.clone(),
                grants: user.grants.clone(),
                proven: true,
            },
            ..ctx.clone()
        };
        let change = Change {
            event: known.event("session.open", object("user", &user.name, &user.name), now),
            once: None,
        };
        let new = NewSession {
            hash: hash(cookie.expose()),
            user: user.id,
            password: row.password,
            proof,
        };
        self.store
            .add_session(change, new, now)
            .await
            .inspect_err(refused)?;
        let session = Session {
            user: user.name,
            grants: user.grants,
            expires: now.plus(self.settings.session_idle().min(LONGEST)),
            proven: now,
            csrf: csrf(cookie.expose()),
        };
        Ok(Opened { cookie, session })
    }

    /// Takes password and code anew; the session goes on under another cookie.
    pub async fn session_prove(
        &self,
        ctx: &Context,
        cookie: &Secret<String>,
        request: Prove,
    ) -> Result<Opened> {
        const VERB: &str = "session.prove";
        let now = clock::now();
        let before = self.live_session(cookie, now)?;
        let name = before.user.user.name.clone();
        let named = || object("user", &name, &name);
        let refused = |error: &Error| self.refused(ctx, VERB, named(), error);
        let asks = Asks::Both(request.code.map(Secret::new));
        let (row, proof) = self
            .prove(ctx, &name, request.password, asks)
            .await
            .map_err(within_session)
            .inspect_err(refused)?;
        let fresh = new_cookie();
        let change = Change {
            event: ctx.event(VERB, named(), now),
            once: None,
        };
        let new = NewSession {
            hash: hash(fresh.expose()),
            user: row.user.id,
            password: row.password,
            proof,
        };
        self.store
            .renew_session(change, hash(cookie.expose()), new, now)
            .await
            .map_err(within_session)
            .inspect_err(refused)?;
        let expires = self.session_end(&SessionRow {
            last_seen: now,
            ..before
        });
        let session = Session {
            user: row.user.name,
            grants: row.user.grants,
            expires,
            proven: now,
            csrf: csrf(fresh.expose()),
        };
        Ok(Opened {
            cookie: fresh,
            session,
        })
    }

    /// The user, if the password is his and he is not disabled, and what proved his second factor. Slowed
    /// down by address, and by name and address. A password that is right counts for nothing before the
    /// code is: else it would forget the wrong codes before it.
    async fn prove(
        &self,
        ctx: &Context,
        name: &UserName,
        password: String,
        asks: Asks,
    ) -> Result<(UserRow, Option<Proof>)> {
        let now = clock::now();
        let by_address = self
            .throttle
            .attempt(format!("log-in {}", ctx.neighbour()), now)?;
        let by_name = self
            .throttle
            .attempt(format!("log-in as {name} {}", ctx.neighbour()), now)?;
        let password = Secret::new(password.into_bytes());
        let row = self.store.user_if_any(name)?;
        let phc = row
            .as_ref()
            .map_or_else(|| NOBODY.to_owned(), |row| row.password.clone());
        let fits = {
            let _turn = self
                .passwords
                .acquire()
                .await
                .map_err(|_| Error::internal("the log-in queue is closed"))?;
            tokio::task::spawn_blocking(move || kdf::password_verify(&phc, &password))
                .await
                .map_err(|error| Error::internal(error.to_string()))??
        };
        let Some(row) = row.filter(|row| fits && !row.user.disabled) else {
            by_address.failed(now);
            by_name.failed(now);
            return Err(unauthenticated(
                "log_in_refused",
                "user and password do not fit, or the user is disabled",
            ));
        };
        let proof = match asks {
            Asks::Password => None,
            Asks::Both(code) => match self.prove_factor(&row.user, code.as_ref()) {
                Ok(proof) => proof,
                Err(error) => {
                    if error.code == "second_factor_refused" {
                        by_address.failed(now);
                        by_name.failed(now);
                    }
                    return Err(error);
                }
            },
        };
        by_name.succeeded();
        Ok((row, proof))
    }

    /// Whether the caller knows the password that he is about to change.
    pub(super) async fn own_password(
        &self,
        ctx: &Context,
        name: &UserName,
        current: Option<String>,
        verb: &str,
    ) -> Result<()> {
        let refused = |error: &Error| {
            self.refused(ctx, verb, object("user", name, name), error);
        };
        let Some(current) = current else {
            return Err(Error::invalid(
                "current_password",
                "current_password is missing: who changes his own password or second factor gives the password until now",
            ))
            .inspect_err(refused);
        };
        let proven = self.prove(ctx, name, current, Asks::Password).await;
        proven
            .map(drop)
            .map_err(within_session)
            .inspect_err(refused)
    }

    pub async fn session_show(&self, _ctx: &Context, cookie: &Secret<String>) -> Result<Session> {
        let row = self.live_session(cookie, clock::now())?;
        let expires = self.session_end(&row);
        Ok(Session {
            user: row.user.user.name,
            grants: row.user.user.grants,
            expires,
            proven: row.proven,
            csrf: csrf(cookie.expose()),
        })
    }

    pub async fn session_close(&self, ctx: &Context, cookie: &Secret<String>) -> Result<()> {
        let row = self.live_session(cookie, clock::now())?;
        let name = row.user.user.name;
        let change = self.change(
            ctx,
            "session.close",
            object("user", &name, &name),
            clock::now(),
        );
        self.store
            .remove_session(change, hash(cookie.expose()))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let password = Secret::new(b"a wrong password".to_vec());
        let known = kdf::password_hash(&password).unwrap();
        let cost = |phc: &str| phc.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(cost(NOBODY), cost(&known));
        assert!(!kdf::password_verify(NOBODY, &password).unwrap());
    }
}
