//! What a handler is given, and how a request becomes that: identify, read the body, run, reply.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use super::body::{self, AnswerRoom, Read};
use super::caller::{self, Caller};
use super::door::Arrival;
use super::query::Query;
use super::routes::{Route, Run, Takes};
use super::{App, headers, json, openapi, reply};
use crate::error::{Error, Kind, Result};
use crate::model::deposit::DepositName;
use crate::model::id::DepositId;
use crate::secret::Secret;
use crate::service::Service;
use crate::service::caller::{Context, Idempotency, Identity, Listener};
use crate::service::deposit::Which;
use crate::service::gate::Gate;

/// One request to an open server, checked and read.
pub(super) struct Call {
    app: Arc<App>,
    service: Arc<Service>,
    pub(super) ctx: Context,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    cookie: Option<Secret<String>>,
    arrival: Arrival,
    params: Vec<(Box<str>, String)>,
    body: Read,
    file: Option<Receiver<Result<Vec<u8>>>>,
}

/// One request to a server that may be sealed: nobody was asked who he is.
pub(super) struct Knocking {
    app: Arc<App>,
    headers: HeaderMap,
    query: Query,
    arrival: Arrival,
    body: Read,
}

/// Runs a route for a request.
pub(super) async fn run(app: Arc<App>, route: &'static Route, request: Request) -> Response {
    let answer = match route.run {
        Run::Open(run) => match prepare(app, route, request).await {
            Ok(call) => run(call).await,
            Err(error) => Err(error),
        },
        Run::Always(run) => match knock(app, route, request).await {
            Ok(knocking) => run(knocking).await,
            Err(error) => Err(error),
        },
    };
    answer.unwrap_or_else(reply::refusal)
}

/// What came through the door, at a listener that has the route.
fn arrived(app: &App, route: &Route, parts: &mut Parts) -> Result<Arrival> {
    route.check_listener(app.listener)?;
    parts
        .extensions
        .remove()
        .ok_or_else(|| Error::internal("a request came past the door"))
}

async fn knock(app: Arc<App>, route: &'static Route, request: Request) -> Result<Knocking> {
    let (mut parts, body) = request.into_parts();
    let arrival = arrived(&app, route, &mut parts)?;
    let query = Query::parse(parts.uri.query(), route.query)?;
    let cap = app.limits.json_bytes;
    let body = take(&app, route, cap, &app.bodies.unknown, &parts, body).await?;
    Ok(Knocking {
        app,
        headers: parts.headers,
        query,
        arrival,
        body,
    })
}

async fn prepare(app: Arc<App>, route: &'static Route, request: Request) -> Result<Call> {
    let (mut parts, body) = request.into_parts();
    let arrival = arrived(&app, route, &mut parts)?;
    let service = Arc::clone(app.gate.service()?);
    let caller = caller::identify(
        &service,
        route.action,
        route.method.changes(),
        &arrival,
        &parts.headers,
    )
    .await?;
    let params = params(&mut parts).await?;
    let query = Query::parse(parts.uri.query(), route.query)?;
    if route.takes == Takes::File {
        let file = body::pieces(body, app.limits);
        return Ok(Call {
            app,
            service,
            ctx: caller.context,
            headers: parts.headers,
            query,
            cookie: caller.cookie,
            arrival,
            params,
            body: Read::nothing(),
            file: Some(file),
        });
    }
    let cap = match route.takes {
        Takes::Bytes => {
            headers::encryption(&parts.headers)?.longest_body(service.deposit_max_bytes())
        }
        Takes::Nothing | Takes::File | Takes::Json(_) | Takes::MaybeJson(_) | Takes::Form => {
            app.limits.json_bytes
        }
    };
    let room = room(&app, &caller.context.identity);
    let body = take(&app, route, cap, room, &parts, body)
        .await
        .map_err(|error| match (error.kind, route.takes) {
            (Kind::TooLarge, Takes::Bytes) => service.deposit_too_large(),
            _ => error,
        })?;
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
        service,
        ctx: context,
        headers: parts.headers,
        query,
        cookie,
        arrival,
        params,
        body,
        file: None,
    })
}

/// The body, as far as the route takes one. What it does not take is left unread.
async fn take(
    app: &App,
    route: &Route,
    cap: usize,
    room: &Arc<Semaphore>,
    parts: &Parts,
    body: Body,
) -> Result<Read> {
    if route.takes == Takes::Nothing {
        return Ok(Read::nothing());
    }
    let read = body::read(body, cap, &app.limits, room).await?;
    let json = match route.takes {
        Takes::Json(_) => true,
        Takes::MaybeJson(_) => !read.bytes.expose().is_empty(),
        Takes::Nothing | Takes::Bytes | Takes::File | Takes::Form => false,
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

impl Knocking {
    pub(super) fn gate(&self) -> &Gate {
        &self.app.gate
    }

    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    /// The API's description, made when it is first asked for.
    pub(super) fn description(&self) -> Result<Bytes> {
        if let Some(made) = self.app.description.get() {
            return Ok(made.clone());
        }
        let made = openapi::json()?.into();
        Ok(self.app.description.get_or_init(|| made).clone())
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        json::parse(self.body.bytes.expose())
    }

    /// A field of a form that a browser sent from a page of this server.
    pub(super) fn form_field(&self, wanted: &str) -> Result<Secret<String>> {
        // Every browser says whose page it was; an address typed by hand is none's.
        let site = headers::text(&self.headers, "sec-fetch-site")?;
        if !matches!(site, None | Some("same-origin" | "none")) {
            return Err(Error::denied(
                "other_site",
                "a page of another site sent this form; open the server's own page",
            ));
        }
        let fields = form_urlencoded::parse(self.body.bytes.expose());
        let mut found = fields.filter(|(name, _)| name == wanted);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(Secret::new(value.into_owned())),
            _ => Err(Error::invalid(
                "body",
                format!("the form has the field `{wanted}`, once"),
            )),
        }
    }

    pub(super) fn listener(&self) -> Listener {
        self.arrival.source.listener
    }

    /// Whom the kernel names, on the admin socket.
    pub(super) fn uid(&self) -> Option<u32> {
        self.arrival.peer.uid
    }

    /// Nobody's, until the gate knows better.
    pub(super) fn context(&self) -> Result<Context> {
        Ok(Context {
            identity: Identity::Nobody,
            source: self.arrival.source,
            request: self.arrival.request,
            reason: headers::reason(&self.headers)?,
            idempotency: None,
        })
    }
}

impl Call {
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
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

    /// The file that is the body, as it comes.
    pub(super) fn take_file(&mut self) -> Result<Receiver<Result<Vec<u8>>>> {
        self.file
            .take()
            .ok_or_else(|| Error::internal("this route takes no file"))
    }

    /// Room for a body to answer with, of what bodies share.
    pub(super) async fn answer_room(&self, bytes: usize) -> Result<AnswerRoom> {
        AnswerRoom::wait(bytes, room(&self.app, &self.ctx.identity)).await
    }

    /// The certificate that the connection presented, DER.
    pub(super) fn certificate(&self) -> &[u8] {
        self.arrival
            .peer
            .presented
            .first()
            .map_or(&[], |it| it.as_ref())
    }

    /// The session's cookie.
    pub(super) fn cookie(&self) -> Result<&Secret<String>> {
        self.cookie.as_ref().ok_or_else(|| {
            Error::new(Kind::Unauthenticated, "no_session", "this is about a session, and the request carries no session's cookie; log in with POST /v1/sessions")
        })
    }
}
