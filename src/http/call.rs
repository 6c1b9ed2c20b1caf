//! What a handler is given, and how a request becomes that: identify, read the body, run, reply.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::body::{self, AnswerRoom, Read};
use super::caller::{self, Caller};
use super::door::Arrival;
use super::query::Query;
use super::routes::{Route, Takes};
use super::{App, headers, json, openapi, reply};
use crate::error::{Error, Kind, Result};
use crate::model::deposit::DepositName;
use crate::model::id::DepositId;
use crate::secret::Secret;
use crate::service::Service;
use crate::service::caller::{Context, Idempotency, Identity};
use crate::service::deposit::Which;

/// One request, checked and read.
pub(super) struct Call {
    app: Arc<App>,
    pub(super) ctx: Context,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    cookie: Option<Secret<String>>,
    arrival: Arrival,
    params: Vec<(Box<str>, String)>,
    body: Read,
}

/// Runs a route for a request.
pub(super) async fn run(app: Arc<App>, route: &'static Route, request: Request) -> Response {
    match prepare(app, route, request).await {
        Ok(call) => (route.run)(call).await.unwrap_or_else(reply::refusal),
        Err(error) => reply::refusal(error),
    }
}

async fn prepare(app: Arc<App>, route: &'static Route, request: Request) -> Result<Call> {
    let (mut parts, body) = request.into_parts();
    let arrival: Arrival = parts
        .extensions
        .remove()
        .ok_or_else(|| Error::internal("a request came past the door"))?;
    route.check_listener(app.listener)?;
    let caller = caller::identify(
        &app,
        route.action,
        route.method.changes(),
        &arrival,
        &parts.headers,
    )
    .await?;
    let params = params(&mut parts).await?;
    let query = Query::parse(parts.uri.query(), route.query)?;
    let body = take(&app, route, &caller.context.identity, &parts, body).await?;
    let Caller {
        mut context,
        cookie,
    } = caller;
    if route.method.changes()
        && let Some(key) = headers::idempotency_key(&parts.headers)?
    {
        context.idempotency = Some(Idempotency {
            key: key.to_owned(),
            request_hash: digest(&parts, body.bytes.expose()),
        });
    }
    Ok(Call {
        app,
        ctx: context,
        headers: parts.headers,
        query,
        cookie,
        arrival,
        params,
        body,
    })
}

/// The body, as far as the route takes one. What it does not take is left unread.
async fn take(
    app: &App,
    route: &Route,
    identity: &Identity,
    parts: &Parts,
    body: Body,
) -> Result<Read> {
    let cap = match route.takes {
        Takes::Nothing => return Ok(Read::nothing()),
        Takes::Json(_) | Takes::MaybeJson(_) => app.limits.json_bytes,
        Takes::Bytes => {
            headers::encryption(&parts.headers)?.longest_body(app.service.deposit_max_bytes())
        }
    };
    let room = room(app, identity);
    let read = body::read(body, cap, &app.limits, room)
        .await
        .map_err(|error| match (error.kind, route.takes) {
            (Kind::TooLarge, Takes::Bytes) => app.service.deposit_too_large(),
            _ => error,
        })?;
    let json = match route.takes {
        Takes::Json(_) => true,
        Takes::MaybeJson(_) => !read.bytes.expose().is_empty(),
        Takes::Nothing | Takes::Bytes => false,
    };
    if json && !headers::is_json(&parts.headers) {
        return Err(Error::new(
            Kind::UnsupportedType,
            "unsupported_type",
            "the body is JSON here; say so with `content-type: application/json`",
        ));
    }
    Ok(read)
}

/// Whoever proved who he is does not wait for room behind those who did not.
fn room<'a>(app: &'a App, identity: &Identity) -> &'a Arc<Semaphore> {
    match identity {
        Identity::Nobody | Identity::Key { .. } => &app.bodies.unknown,
        Identity::Client { .. }
        | Identity::User { .. }
        | Identity::Token { .. }
        | Identity::Local { .. }
        | Identity::Server => &app.bodies.known,
    }
}

async fn params(parts: &mut Parts) -> Result<Vec<(Box<str>, String)>> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| Error::invalid("path", "the path is not percent-encoded UTF-8"))?;
    Ok(params
        .iter()
        .map(|(name, value)| (name.into(), value.to_owned()))
        .collect())
}

/// Everything that makes this request what it is: method, path with query, the headers that matter,
/// body.
fn digest(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut kept: Vec<(&str, &[u8])> = parts
        .headers
        .iter()
        .filter(|(name, _)| headers::matters(name))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    kept.sort_unstable();
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut all: Vec<&[u8]> = vec![parts.method.as_str().as_bytes(), path.as_bytes()];
    all.extend(
        kept.iter()
            .flat_map(|(name, value)| [name.as_bytes(), value]),
    );
    all.push(body);
    Service::digest(&all)
}

impl Call {
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.app.service
    }

    /// The API's description, made when it is first asked for.
    pub(super) fn description(&self) -> Result<Bytes> {
        if let Some(made) = self.app.description.get() {
            return Ok(made.clone());
        }
        let made = openapi::json()?.into();
        Ok(self.app.description.get_or_init(|| made).clone())
    }

    /// A part of the path, parsed.
    pub(super) fn param<T: std::str::FromStr<Err = Error>>(&self, name: &str) -> Result<T> {
        self.raw(name).unwrap_or_default().parse()
    }

    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, value)| value.as_str())
    }

    /// The deposit that the path names.
    pub(super) fn which(&self) -> Result<Which> {
        if let Some(id) = self.raw("uuid") {
            return Ok(Which::Id(id.parse::<DepositId>()?));
        }
        // Paths such as /v1/deposits/id/versions have no part left: the deposit is named `id`.
        let name: DepositName = self.raw("name").unwrap_or("id").parse()?;
        match self.raw("org") {
            Some(org) => Ok(Which::In(org.parse()?, name)),
            None => Ok(Which::Name(name)),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        json::parse(self.body.bytes.expose())
    }

    /// What an empty body means where one may be left out.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T> {
        if self.body.bytes.expose().is_empty() {
            return Ok(T::default());
        }
        self.json()
    }

    /// Takes the body's bytes out; the room they take stays held until the call ends.
    pub(super) fn take_bytes(&mut self) -> Secret<Vec<u8>> {
        std::mem::replace(&mut self.body.bytes, Secret::new(Vec::new()))
    }

    /// Room for a body to answer with, of what bodies share.
    pub(super) async fn answer_room(&self, bytes: usize) -> Result<AnswerRoom> {
        AnswerRoom::wait(bytes, room(&self.app, &self.ctx.identity)).await
    }

    /// The certificate that the connection presented, DER.
    pub(super) fn certificate(&self) -> &[u8] {
        self.arrival.peer.certificate.as_deref().unwrap_or_default()
    }

    /// The session's cookie.
    pub(super) fn cookie(&self) -> Result<&Secret<String>> {
        self.cookie.as_ref().ok_or_else(|| {
            Error::new(Kind::Unauthenticated, "no_session", "this is about a session, and the request carries no session's cookie; log in with POST /v1/sessions")
        })
    }
}
