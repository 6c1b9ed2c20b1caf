//! Who asks: from what the listener believes to the context that verbs take.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::door::Arrival;
use super::headers;
use crate::api;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::service::Service;
use crate::service::access::{self, Action, Target};
use crate::service::caller::{Context, Credentials, Identity, Listener};

/// A request's caller, and the cookie that carried the session if one did.
pub(super) struct Caller {
    pub(super) context: Context,
    pub(super) cookie: Option<Secret<String>>,
}

/// Identifies the caller, and refuses at once whom no target could help, and who asks too often: before
/// the body is read.
/// Public paths ask for nobody, so they answer while the server is sealed, too.
pub(super) async fn identify(
    service: &Service,
    action: Action,
    changes: bool,
    arrival: &Arrival,
    headers: &HeaderMap,
) -> Result<Caller> {
    let reason = headers::reason(headers)?;
    let context = |identity| Context {
        identity,
        source: arrival.source,
        request: arrival.request,
        reason,
        idempotency: None,
    };
    if action == Action::Public {
        return Ok(Caller {
            context: context(Identity::Nobody),
            cookie: None,
        });
    }
    let credentials = credentials(arrival, headers)?;
    let identified = service.identify(arrival.source, &credentials).await;
    let (identity, refused) = match identified {
        Ok(identity) => {
            let unknown = matches!(identity, Identity::Nobody | Identity::Key { .. });
            let refused = unknown
                .then(|| access::decide(&identity, action, &Target::Server).err())
                .flatten();
            (identity, refused)
        }
        Err(error) => (Identity::Nobody, Some(error)),
    };
    let context = context(identity);
    if let Some(error) = refused {
        service.turned_away(&context, &error);
        return Err(error);
    }
    service
        .keep_pace(&context)
        .inspect_err(|error| service.turned_away(&context, error))?;
    if let (true, Some(cookie)) = (changes, &credentials.session) {
        check_csrf(service, cookie, headers)
            .inspect_err(|error| service.turned_away(&context, error))?;
    }
    Ok(Caller {
        context,
        cookie: credentials.session,
    })
}

/// 11371 believes certificates and tokens, 8443 cookies and tokens, the socket the kernel.
fn credentials(arrival: &Arrival, headers: &HeaderMap) -> Result<Credentials> {
    let peer = &arrival.peer;
    Ok(match arrival.source.listener {
        Listener::Client => Credentials {
            key: peer.key,
            presented: Arc::clone(&peer.presented),
            token: headers::bearer(headers)?,
            ..Credentials::default()
        },
        Listener::Gui => match headers::bearer(headers)? {
            Some(token) => Credentials {
                token: Some(token),
                ..Credentials::default()
            },
            None => Credentials {
                session: headers::session_cookie(headers),
                ..Credentials::default()
            },
        },
        Listener::Socket => Credentials {
            uid: peer.uid,
            ..Credentials::default()
        },
    })
}

/// A browser sends the cookie along with what other sites make it send; those cannot know this.
fn check_csrf(service: &Service, cookie: &Secret<String>, headers: &HeaderMap) -> Result<()> {
    let given = headers::text(headers, api::session::CSRF)?.unwrap_or_default();
    if service.session_csrf_matches(cookie, given) {
        return Ok(());
    }
    Err(Error::denied(
        "csrf",
        format!(
            "within a session, whatever changes something repeats the session's `csrf` in the header {}",
            api::session::CSRF
        ),
    ))
}
