//! The description of the API (OpenAPI 3.1), made from the table of routes and the types' schemas.

use utoipa::OpenApi;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, ContentBuilder, HeaderBuilder, InfoBuilder, PathItem, Paths, Ref, RefOr, Required,
};

use super::query::MAX_FILTERS;
use super::reply;
use super::routes::{self, Content, Gives, Route, Takes, Verb};
use crate::api;
use crate::api::backup::WITHOUT_OWNER;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::MOST_RETRIEVALS;
use crate::model::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::model::role::Role;
use crate::service::access::Action;
use crate::service::caller::Listener;
use crate::service::feed::LONGEST as LONGEST_FEED;

/// The schemas that requests and replies name, and what those name in turn.
#[derive(OpenApi)]
#[openapi(components(schemas(
    api::audit::Verification,
    api::audit::Segments,
    api::client::Decision,
    api::client::Register,
    api::client::Registration,
    api::deposit::EditDeposit,
    api::deposit::DepositChange,
    api::deposit::GrantRetrievals,
    api::deposit::Readers,
    api::deposit::ShareDeposit,
    api::deposit::Versions,
    api::error::ErrorBody,
    api::group::AddGroup,
    api::group::GroupWithMembers,
    api::host::AddHost,
    api::host::EditHost,
    api::host_group::AddHostGroup,
    api::host_group::EditHostGroup,
    api::job::CancelJobs,
    api::job::JobNews,
    api::job::JobShown,
    api::job::JobsCancelled,
    api::job::Lanes,
    api::job::SetDrain,
    api::org::AddContacts,
    api::org::AddOrg,
    api::org::OrgWithCode,
    api::org::SetAuth,
    api::org::SetOrgExpiry,
    api::org::SetRecoveryRecipient,
    api::org_key::KeyRotation,
    api::org_key::OrgKey,
    api::role::Roles,
    api::schedule::AddSchedule,
    api::schedule::EditSchedule,
    api::server::ServerInfo,
    api::server::Status,
    api::session::LogIn,
    api::recipient::AddRecipient,
    api::recipient::RecipientAdded,
    api::session::Prove,
    api::session::Session,
    api::setting::SetSetting,
    api::setting::SettingView,
    api::setting::Settings,
    api::seal::Unseal,
    api::seal::Unsealed,
    api::backup::BackupEnd,
    api::backup::Backups,
    api::backup::CreateBackup,
    api::backup::KeepBackup,
    api::backup::VerifiedBackup,
    api::slot::AddSlot,
    api::slot::Credential,
    api::slot::NewSlot,
    api::slot::OpenSlot,
    api::slot::Recovery,
    api::slot::ReplaceSlot,
    api::slot::RootRotated,
    api::slot::RotateRoot,
    api::slot::Slot,
    api::slot::Slots,
    api::tls::Certificate,
    api::tls::ClientCa,
    api::tls::Install,
    api::tls::InstalledCertificate,
    api::tls::NewRequest,
    api::tls::SelfSign,
    api::tls::SetClientCa,
    api::tls::Shown,
    api::tls::SigningRequest,
    api::tls::Tls,
    api::token::AddToken,
    api::token::TokenAdded,
    api::user::AddUser,
    api::user_certificate::AddUserCertificate,
    api::user_certificate::UserCertificate,
    api::user_certificate::UserCertificates,
    api::user::ConfirmTotp,
    api::user::EditUser,
    api::user::EnrollTotp,
    api::user::RecoveryCodes,
    api::user::RemoveTotp,
    api::user::ResetUser,
    api::user::SetPassword,
    api::user::TotpEnrolled,
    api::user::UserReset,
    crate::model::client::Client,
    crate::model::deposit::Deposit,
    crate::model::group::Group,
    crate::model::host::Host,
    crate::model::host_group::HostGroup,
    crate::model::job::Job,
    crate::model::org::Org,
    crate::model::page::Page<crate::model::audit::ChainedEvent>,
    crate::model::page::Page<crate::model::client::Client>,
    crate::model::page::Page<crate::model::deposit::Deposit>,
    crate::model::page::Page<crate::model::group::Group>,
    crate::model::page::Page<crate::model::host::Host>,
    crate::model::page::Page<crate::model::host_group::HostGroup>,
    crate::model::page::Page<crate::model::job::Job>,
    crate::model::page::Page<crate::model::org::Org>,
    crate::model::page::Page<crate::model::recipient::Recipient>,
    crate::model::page::Page<crate::model::schedule::Schedule>,
    crate::model::page::Page<crate::model::token::Token>,
    crate::model::page::Page<crate::model::user::User>,
    crate::model::quota::QuotaUse,
    crate::model::quota::SetQuota,
    crate::model::recipient::Recipient,
    crate::model::role::Grant,
    crate::model::schedule::Schedule,
    crate::model::user::User,
)))]
struct Schemas;

/// The description as JSON.
///
/// # Errors
/// It cannot be written; a test writes it.
pub fn json() -> Result<String> {
    description().to_json().map_err(|error| {
        Error::internal("the API's description could not be written").because(error)
    })
}

pub fn description() -> utoipa::openapi::OpenApi {
    let mut description = Schemas::openapi();
    description.info = InfoBuilder::new()
        .title("Strongroom")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A key manager: organizations, clients, deposits, and who did what. Any request may carry `strongroom-reason`; any that changes something, `idempotency-key`."))
        .build();
    let mut components = description.components.take().unwrap_or_default();
    texts(&mut components);
    for kind in REFUSALS {
        components
            .responses
            .insert(refusal_name(kind), RefOr::T(refusal(kind, Verb::Get)));
    }
    schemes(&mut components);
    description.components = Some(components);
    let mut paths = Paths::new();
    for route in routes::all().filter(|route| route.described) {
        let item = PathItem::new(method(route.method), operation(route));
        match paths.paths.get_mut(route.path) {
            Some(there) => there.merge_operations(item),
            None => {
                paths.paths.insert(route.path.to_owned(), item);
            }
        }
    }
    description.paths = paths;
    description
}

/// The rules of checked texts, where their schemas say no more than `string`.
const TEXTS: &[(&str, &str)] = &[
    ("OrgName", ORG),
    ("DepositName", DEPOSIT),
    ("GroupName", GROUP),
    ("UserName", USER),
    ("Contact", CONTACT),
    ("ScheduleName", SCHEDULE),
    ("Fingerprint", FINGERPRINT),
];
const CONTACT: &str = "^[!-+\\--?A-~]+@[!-+\\--?A-~]+$";
const ORG: &str = "^[A-Za-z0-9_-]{1,64}$";
const DEPOSIT: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$";
const GROUP: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
const HOST: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$";
const HOST_GROUP: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,7}$";
const SCHEDULE: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
const USER: &str = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$";
const FINGERPRINT: &str = "^[0-9a-f]{64}$";

fn texts(components: &mut Components) {
    for (name, pattern) in TEXTS {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(*name) {
            object.pattern = Some((*pattern).to_owned());
        }
    }
}

const MUTUAL_TLS: &str = "mutualTLS";
const BEARER: &str = "bearer";
const COOKIE: &str = "cookie";

fn schemes(components: &mut Components) {
    components.add_security_scheme(
        MUTUAL_TLS,
        SecurityScheme::MutualTls {
            description: Some("On the clients' listener (11371): the client's certificate, self-signed or not; the key is what counts.".to_owned()),
            deprecated: None,
            extensions: None,
        },
    );
    components.add_security_scheme(
        BEARER,
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    components.add_security_scheme(
        COOKIE,
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            api::session::COOKIE,
            "On the GUI's listener (8443): set by POST /v1/sessions. A change repeats the session's `csrf` in the header `strongroom-csrf`.",
        ))),
    );
}

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new()
        .summary(Some(route.summary))
        .operation_id(Some(id(route)))
        .tag(tag(route))
        .securities(Some(securities(route)));
    for parameter in parameters(route) {
        operation = operation.parameter(parameter);
    }
    if let Some(body) = request_body(route) {
        operation = operation.request_body(Some(body));
    }
    for gives in route.gives {
        operation = operation.response(gives.0.to_string(), answer(gives));
    }
    for kind in refusals(route) {
        let code = reply::status(kind).as_str().to_owned();
        operation = match route.method {
            Verb::Head => operation.response(code, refusal(kind, Verb::Head)),
            _ => operation.response(code, Ref::from_response_name(refusal_name(kind))),
        };
    }
    operation.build()
}

/// `put_v1_deposits_name`: unique, since paths are.
fn id(route: &Route) -> String {
    let mut id = route.method.as_str().to_ascii_lowercase();
    for part in route
        .path
        .split(['/', '{', '}', '.', '-'])
        .filter(|part| !part.is_empty())
    {
        id.push('_');
        id.push_str(part);
    }
    id
}

/// The noun: of a path below an organization the last one.
fn tag(route: &Route) -> &'static str {
    const NOUNS: &[&str] = &[
        "groups",
        "deposits",
        "orgs",
        "clients",
        "users",
        "roles",
        "tokens",
        "recipients",
        "sessions",
        "settings",
        "slots",
        "tls",
        "audit",
        "backups",
        "jobs",
        "lanes",
        "drain",
        "schedules",
        "hosts",
        "host-groups",
    ];
    NOUNS
        .iter()
        .find(|noun| route.path.split('/').any(|part| part == **noun))
        .copied()
        .unwrap_or("server")
}

fn securities(route: &Route) -> Vec<SecurityRequirement> {
    let scheme = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    if route.action == Action::Public {
        return vec![SecurityRequirement::default()];
    }
    let mut schemes = Vec::new();
    if route.on.contains(&Listener::Client) {
        schemes.push(scheme(MUTUAL_TLS));
    }
    if !matches!(route.action, Action::Register | Action::OwnClient) {
        schemes.push(scheme(BEARER));
    }
    if route.on.contains(&Listener::Gui) {
        schemes.push(scheme(COOKIE));
    }
    schemes
}

/// The refusals that routes share, one a status.
const REFUSALS: [Kind; 14] = [
    Kind::Invalid,
    Kind::NotFound,
    Kind::Conflict,
    Kind::PreconditionFailed,
    Kind::KeyReused,
    Kind::Unauthenticated,
    Kind::Denied,
    Kind::TooLarge,
    Kind::TooSlow,
    Kind::MethodNotAllowed,
    Kind::UnsupportedType,
    Kind::Limited,
    Kind::Sealed,
    Kind::Internal,
];

fn refusal_name(kind: Kind) -> String {
    match kind {
        Kind::Sealed | Kind::Unavailable | Kind::Unknown => "Unavailable".to_owned(),
        kind => format!("{kind:?}"),
    }
}

/// Every refusal that the route can answer with.
fn refusals(route: &Route) -> Vec<Kind> {
    let mut kinds = vec![Kind::Invalid, Kind::NotFound, Kind::Internal, Kind::Sealed];
    if route.action != Action::Public {
        kinds.extend([Kind::Unauthenticated, Kind::Denied, Kind::Limited]);
    }
    if matches!(route.path, "/v1/sessions" | "/v1/unseal") {
        kinds.extend([Kind::Unauthenticated, Kind::Denied, Kind::Limited]);
    }
    if route.method.changes() {
        kinds.extend([Kind::Conflict, Kind::PreconditionFailed, Kind::KeyReused]);
    }
    match route.takes {
        Takes::Nothing => {}
        Takes::Json(_) | Takes::MaybeJson(_) => {
            kinds.extend([Kind::TooLarge, Kind::TooSlow, Kind::UnsupportedType])
        }
        Takes::File => kinds.push(Kind::TooSlow),
        Takes::Bytes | Takes::Form => kinds.extend([Kind::TooLarge, Kind::TooSlow]),
    }
    kinds
}

fn refusal(kind: Kind, method: Verb) -> utoipa::openapi::Response {
    let mut response = ResponseBuilder::new().description(match kind {
        Kind::Invalid => "The request is wrong; `field` names where.",
        Kind::NotFound => "No such object, or none that the caller may know of.",
        Kind::Conflict => "The object's state forbids it.",
        Kind::PreconditionFailed => "The version is another than the one expected.",
        Kind::KeyReused => "The idempotency key was used for another request.",
        Kind::Unauthenticated => "The caller is unknown.",
        Kind::Denied => "The caller may not.",
        Kind::TooLarge => "The body, or a value in it, is too long.",
        Kind::TooSlow => "The body did not come in time.",
        Kind::MethodNotAllowed => "The path does not take this method.",
        Kind::UnsupportedType => "The body is of another type.",
        Kind::Limited => "Too many attempts or requests; wait.",
        Kind::Sealed | Kind::Unavailable | Kind::Unknown => "Sealed (`sealed`), nothing was done (`unavailable`), or it may have been done (`unknown`: retry with the same idempotency key).",
        Kind::Internal => "Ours to mend; the log has the cause under the request's id.",
    });
    response = response.header(api::REQUEST_ID, header(api::REQUEST_ID));
    match kind {
        Kind::Unauthenticated => {
            response = response.header("www-authenticate", header("www-authenticate"))
        }
        Kind::Limited => response = response.header("retry-after", header("retry-after")),
        _ => {}
    }
    if method != Verb::Head {
        response = response.content(
            "application/json",
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("ErrorBody")))
                .build(),
        );
    }
    response.build()
}

fn answer(gives: &Gives) -> utoipa::openapi::Response {
    let Gives(code, content, headers) = *gives;
    let mut response = ResponseBuilder::new().description(match code {
        201 => "Made.",
        202 => "Taken on; it is not done yet.",
        204 => "Done.",
        _ => "So it is.",
    });
    for name in [api::REQUEST_ID].iter().chain(headers) {
        response = response.header(*name, header(name));
    }
    match content {
        Content::Nothing => {}
        Content::Json("") => {
            response = response.content(
                "application/json",
                ContentBuilder::new()
                    .schema(Some(ObjectBuilder::new().schema_type(Type::Object)))
                    .build(),
            )
        }
        Content::Json(name) => {
            response = response.content(
                "application/json",
                ContentBuilder::new()
                    .schema(Some(Ref::from_schema_name(name)))
                    .build(),
            )
        }
        Content::Text(content_type) => {
            response = response.content(
                content_type,
                ContentBuilder::new().schema(Some(string())).build(),
            )
        }
        Content::Bytes => {
            response = response.content("*/*", ContentBuilder::new().schema(Some(binary())).build())
        }
    }
    response.build()
}

fn request_body(route: &Route) -> Option<utoipa::openapi::request_body::RequestBody> {
    let json = |name: &str| {
        ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(name)))
            .build()
    };
    let body = RequestBodyBuilder::new();
    Some(match route.takes {
        Takes::Nothing => return None,
        Takes::Json(name) => body.content("application/json", json(name)).required(Some(Required::True)).build(),
        Takes::MaybeJson(name) => body.content("application/json", json(name)).required(Some(Required::False)).build(),
        Takes::Bytes => body
            .description(Some("The bytes, as they are to be given back; up to the setting deposit.max_bytes. Any type may be given and is kept."))
            .content("application/octet-stream", ContentBuilder::new().schema(Some(binary())).build())
            .required(Some(Required::True))
            .build(),
        Takes::File => body
            .description(Some("The file, of any length; it is read as it comes."))
            .content("application/octet-stream", ContentBuilder::new().schema(Some(binary())).build())
            .required(Some(Required::True))
            .build(),
        Takes::Form => body
            .content("application/x-www-form-urlencoded", ContentBuilder::new().build())
            .required(Some(Required::True))
            .build(),
    })
}

fn parameters(route: &Route) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    for name in route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    {
        let schema = match name {
            "org" => pattern(ORG),
            "name" => pattern(DEPOSIT),
            "group" => pattern(GROUP),
            "host" => pattern(HOST),
            "path" => pattern(HOST_GROUP),
            "schedule" => pattern(SCHEDULE),
            "user" => pattern(USER),
            "contact" => pattern(CONTACT),
            "fingerprint" => pattern(FINGERPRINT),
            "uuid" | "id" => uuid(),
            _ => pattern("^[a-z]+\\.[a-z_]+$"),
        };
        parameters.push(parameter(name, ParameterIn::Path, true, "", schema));
    }
    for name in route.query {
        parameters.push(query(name, route));
    }
    for name in route.headers {
        parameters.push(parameter(
            name,
            ParameterIn::Header,
            false,
            said(name),
            request_header(name),
        ));
    }
    if route.action != Action::Public {
        parameters.push(parameter(
            api::REASON,
            ParameterIn::Header,
            false,
            said(api::REASON),
            pattern("^[ -$&-~]{0,1000}$"),
        ));
    }
    if route.method.changes() && route.action != Action::Public {
        parameters.push(parameter(
            api::IDEMPOTENCY_KEY,
            ParameterIn::Header,
            false,
            said(api::IDEMPOTENCY_KEY),
            pattern("^[!-~]{1,64}$"),
        ));
    }
    parameters
}

fn query(name: &'static str, route: &Route) -> Parameter {
    let schema: RefOr<Schema> = match name {
        "org" => pattern(ORG),
        "deposit" => pattern(DEPOSIT),
        "limit" => whole(1, MAX_LIMIT),
        "page" => words(["last"]),
        "version" => whole(1, u32::MAX),
        "wait" => whole(1, LONGEST_FEED),
        "shared" | "removed" | WITHOUT_OWNER => words(["true", "false"]),
        "role" => words(Role::ALL.map(Role::as_str)),
        "filter" => ArrayBuilder::new()
            .items(string())
            .max_items(Some(MAX_FILTERS))
            .into(),
        _ => string(),
    };
    let said = match name {
        "filter" => "`field=value` and so on (docs/formats/filter.md); may stand there more than once, and all must hold".to_owned(),
        "cursor" => "`next` of the page before".to_owned(),
        "page" => "`last`: the last page, instead of `cursor`".to_owned(),
        "limit" => format!("rows a page, {DEFAULT_LIMIT} unless said"),
        "version" => "the newest unless said".to_owned(),
        "wait" => "seconds until it ends".to_owned(),
        "removed" => "true: those whose file is gone, too".to_owned(),
        WITHOUT_OWNER => "true: the organization's own, where its owner is not there any more".to_owned(),
        "shared" => "true: others' deposits that the calling client reads".to_owned(),
        "org" if route.path == "/v1/users/{user}/grants" => "the grant's organization; left out: the grant on all of them".to_owned(),
        _ => String::new(),
    };
    parameter(name, ParameterIn::Query, name == "role", &said, schema)
}

fn request_header(name: &str) -> RefOr<Schema> {
    match name {
        "if-match" => OneOfBuilder::new()
            .item(pattern("^\"[1-9][0-9]{0,8}\"$"))
            .item(words(["*"]))
            .into(),
        "if-none-match" => words(["*"]),
        ENCRYPTION => words(["age", "none"]),
        api::deposit::NOT_BEFORE | api::deposit::EXPIRES => format(KnownFormat::DateTime),
        api::deposit::MAX_RETRIEVALS => whole(1, MOST_RETRIEVALS),
        _ => string(),
    }
}

const ENCRYPTION: &str = api::deposit::ENCRYPTION;

fn said(name: &str) -> &'static str {
    match name {
        "if-match" => {
            "the version that must be the newest, as \"3\", or * for any; not together with if-none-match"
        }
        "if-none-match" => "* : store only what is not there yet",
        api::deposit::ENCRYPTION => "what the bytes are: `age`, encrypted on the client, or `none`",
        api::deposit::LAST_EVENT_ID => {
            "the id of the event that came last; from now on if left out"
        }
        api::deposit::LABELS => "key=value, separated by commas, both percent-encoded where needed",
        api::deposit::DESCRIPTION => "percent-encoded UTF-8, up to 1,000 bytes",
        api::deposit::DEPOSIT_ID => "the deposit's UUID",
        api::backup::ID => "the backup's id",
        api::backup::NAME => "what its file is to be called",
        api::backup::LENGTH => "about how many bytes there will be",
        api::deposit::VERSION => "the version that the body is of",
        api::deposit::NOT_BEFORE => "from when on it may be fetched",
        api::deposit::EXPIRES => "until when it may be fetched",
        api::deposit::MAX_RETRIEVALS => "how often it may be fetched, counted from now",
        api::deposit::RETRIEVALS_LEFT => "how often it may still be fetched",
        api::REASON => "why; goes into the event; percent-encoded UTF-8, up to 1,000 bytes",
        api::IDEMPOTENCY_KEY => "makes a retry return the first answer, for 24 hours",
        api::REQUEST_ID => "this request's id, in the log too",
        "etag" => "the version, as \"3\"",
        "location" => "where it is",
        "retry-after" => "seconds",
        _ => "",
    }
}

fn header(name: &str) -> utoipa::openapi::Header {
    let schema: RefOr<Schema> = match name {
        "etag" => pattern("^\"[0-9]+\"$"),
        api::REQUEST_ID | api::deposit::DEPOSIT_ID => uuid(),
        api::backup::ID => uuid(),
        api::backup::NAME | api::backup::LENGTH => string(),
        api::deposit::VERSION => whole(1, u32::MAX),
        "retry-after" | api::deposit::RETRIEVALS_LEFT => whole(0, u32::MAX),
        api::deposit::NOT_BEFORE | api::deposit::EXPIRES => format(KnownFormat::DateTime),
        _ => string(),
    };
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(said(name)))
        .build()
}

fn parameter(
    name: &str,
    place: ParameterIn,
    required: bool,
    said: &str,
    schema: RefOr<Schema>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(if required {
            Required::True
        } else {
            Required::False
        })
        .description((!said.is_empty()).then_some(said))
        .schema(Some(schema))
        .build()
}

fn string() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).into()
}

fn pattern(pattern: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .into()
}

fn words<const N: usize>(words: [&str; N]) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .into()
}

fn uuid() -> RefOr<Schema> {
    format(KnownFormat::Uuid)
}

fn binary() -> RefOr<Schema> {
    format(KnownFormat::Binary)
}

fn format(format: KnownFormat) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .into()
}

fn whole(low: u32, high: u32) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(low))
        .maximum(Some(high))
        .into()
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Head => HttpMethod::Head,
        Verb::Put => HttpMethod::Put,
        Verb::Post => HttpMethod::Post,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn written() -> serde_json::Value {
        serde_json::from_str(&json().unwrap()).unwrap()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let written = written();
        assert!(written["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut described = HashSet::new();
        for (path, item) in written["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                described.insert((method.to_ascii_uppercase(), path.clone()));
            }
        }
        let routes: HashSet<(String, String)> = routes::all()
            .filter(|route| route.described)
            .map(|route| (route.method.as_str().to_owned(), route.path.to_owned()))
            .collect();
        assert_eq!(routes, described);
        assert_eq!(
            routes::all().count(),
            routes::all()
                .map(|route| (route.method, route.path))
                .collect::<HashSet<_>>()
                .len()
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_ids_are_unique() {
        fn references(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(object) => {
                    if let Some(serde_json::Value::String(reference)) = object.get("$ref") {
                        found.push(reference.clone());
                    }
                    object.values().for_each(|value| references(value, found));
                }
                serde_json::Value::Array(items) => {
                    items.iter().for_each(|value| references(value, found))
                }
                _ => {}
            }
        }
        let written = written();
        let mut found = Vec::new();
        references(&written, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(written.pointer(pointer).is_some(), "{reference}");
        }
        let ids: Vec<String> = routes::all()
            .filter(|route| route.described)
            .map(id)
            .collect();
        assert_eq!(ids.len(), ids.iter().collect::<HashSet<_>>().len());
        for (name, pattern) in TEXTS {
            assert_eq!(
                written["components"]["schemas"][name]["pattern"], *pattern,
                "{name}"
            );
        }
    }

    #[test]
    fn fields_that_refusals_name_are_those_of_the_schemas() {
        let written = written();
        let mut known = HashSet::new();
        for route in routes::all() {
            if let Takes::Json(name) | Takes::MaybeJson(name) = route.takes {
                let schema = &written["components"]["schemas"][name];
                for field in schema["properties"].as_object().unwrap().keys() {
                    assert!(
                        super::super::json::FIELDS.contains(&field.as_str()),
                        "{name}.{field}"
                    );
                    known.insert(field.clone());
                }
            }
        }
        known.insert("signature".to_owned());
        assert_eq!(known.len(), super::super::json::FIELDS.len());
    }
}
