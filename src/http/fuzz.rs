//! What a request goes through before its verb, for `src/fuzz.rs`: headers, query, path and JSON
//! bodies, parsed by the same functions as the routes parse them, with what must hold of the result.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::query::Query;
use super::{headers, json};
use crate::api;
use crate::error::{Error, Result};
use crate::model::deposit::{DepositName, Labels};
use crate::model::id::{DepositId, Fingerprint};
use crate::model::org::OrgName;
use crate::service::deposit::Expect;

const QUERY: &[&str] = &[
    "filter", "cursor", "limit", "version", "org", "role", "page", "shared",
];

/// A request's head as text: `METHOD TARGET`, then `name: value`, a line each. Lines that no HTTP
/// library would hand on are left out. Returns the first refusal, if any.
pub fn head(text: &[u8]) -> Option<Error> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = match first.iter().position(|byte| *byte == b' ') {
        Some(at) => (&first[..at], &first[at + 1..]),
        None => (first, &b"/"[..]),
    };
    let mut map = HeaderMap::new();
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    let mut refusals = vec![of_headers(&map), of_labels(&map)];
    if let (Ok(_), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) {
        refusals.push(of_path(uri.path()));
        refusals.push(of_query(uri.query()));
    }
    refusals.into_iter().find_map(Result::err)
}

fn of_headers(map: &HeaderMap) -> Result<()> {
    let reason = headers::reason(map)?;
    assert!(reason.len() <= 1_000 && !reason.chars().any(char::is_control));
    if let Some(key) = headers::idempotency_key(map)? {
        assert!((1..=64).contains(&key.len()));
    }
    if let Some(token) = headers::bearer(map)? {
        assert!((1..=4_096).contains(&token.expose().len()));
    }
    if let Some(cookie) = headers::session_cookie(map) {
        assert!(cookie.expose().len() <= 4_096);
    }
    if let Expect::Version(version) = headers::expect(map)? {
        let tag = headers::etag(version);
        let mut again = HeaderMap::new();
        again.insert("if-match", written(&tag));
        assert_eq!(headers::expect(&again).ok(), Some(Expect::Version(version)));
    }
    headers::encryption(map)?;
    if let Some(description) = headers::description(map)? {
        assert!(description.len() <= 1_000);
    }
    if let Some(content_type) = headers::content_type(map)? {
        assert!(content_type.len() <= 255 && written(&content_type) == *content_type);
    }
    headers::policy(map)?;
    headers::is_json(map);
    Ok(())
}

/// Labels that were read can be written as a header that reads as the same labels.
fn of_labels(map: &HeaderMap) -> Result<()> {
    let Some(labels) = headers::labels(map)? else {
        return Ok(());
    };
    assert!(labels.len() <= 64);
    let line = labels
        .iter()
        .map(|(key, value)| format!("{}={}", encoded(key.as_str()), encoded(value.as_str())))
        .collect::<Vec<_>>()
        .join(",");
    let mut again = HeaderMap::new();
    again.insert(api::deposit::LABELS, written(&line));
    let read: Option<Labels> = headers::labels(&again).ok().flatten();
    assert_eq!(read, Some(labels));
    Ok(())
}

fn of_path(path: &str) -> Result<()> {
    for part in path.split('/').take(16) {
        let decoded = headers::percent_decode(part, false)
            .ok_or_else(|| Error::invalid("path", "the path is not percent-encoded UTF-8"))?;
        let name = decoded.parse::<DepositName>();
        if let Ok(name) = &name {
            assert_eq!(name.as_str(), decoded);
            assert!(decoded.len() <= 255 && decoded.is_ascii() && !decoded.contains(['/', '\0']));
            assert!(
                decoded.parse::<DepositId>().is_err(),
                "{decoded} is a name and an id"
            );
        }
        if let Ok(id) = decoded.parse::<DepositId>() {
            assert_eq!(id.to_string().parse::<DepositId>().ok(), Some(id));
        }
        if let Ok(fingerprint) = decoded.parse::<Fingerprint>() {
            let again = fingerprint.to_string().parse::<Fingerprint>();
            assert_eq!(again.ok(), Some(fingerprint));
        }
        if let Ok(org) = decoded.parse::<OrgName>() {
            assert_eq!(org.as_str(), decoded);
        }
        name?;
    }
    Ok(())
}

fn of_query(query: Option<&str>) -> Result<()> {
    let query = Query::parse(query, QUERY)?;
    query.parsed::<OrgName>("org")?;
    query.number("version", u32::MAX)?;
    let list = query.list()?;
    assert!(list.filters.len() <= 32);
    assert!(list.limit.is_none_or(|limit| (1..=1_000).contains(&limit)));
    Ok(())
}

/// The first byte chooses which request; what is read can be written, and reads as the same.
pub fn json_body(bytes: &[u8]) -> Option<Error> {
    use api::{
        backup, client, deposit, group, host, host_group, job, org, recipient, schedule, seal,
        session, setting, slot, tls, token, user, user_certificate,
    };
    let (which, body) = bytes.split_first()?;
    match which % 46 {
        0 => round::<client::Register>(body),
        1 => round::<client::Decision>(body),
        2 => round::<org::AddOrg>(body),
        3 => round::<org::SetAuth>(body),
        4 => round::<org::SetRecoveryRecipient>(body),
        5 => round::<user::AddUser>(body),
        6 => round::<user::EditUser>(body),
        7 => round::<user::SetPassword>(body),
        8 => round::<session::LogIn>(body),
        9 => round::<token::AddToken>(body),
        10 => round::<setting::SetSetting>(body),
        11 => round::<deposit::EditDeposit>(body),
        12 => round::<slot::AddSlot>(body),
        13 => round::<slot::ReplaceSlot>(body),
        14 => round::<slot::OpenSlot>(body),
        15 => round::<seal::Unseal>(body),
        16 => round::<slot::RotateRoot>(body),
        17 => round::<tls::Install>(body),
        18 => round::<tls::NewRequest>(body),
        19 => round::<tls::SelfSign>(body),
        20 => round::<tls::SetClientCa>(body),
        21 => round::<user_certificate::AddUserCertificate>(body),
        22 => round::<deposit::GrantRetrievals>(body),
        23 => round::<deposit::ShareDeposit>(body),
        24 => round::<group::AddGroup>(body),
        25 => round::<org::AddContacts>(body),
        26 => round::<org::SetOrgExpiry>(body),
        27 => round::<session::Prove>(body),
        28 => round::<user::EnrollTotp>(body),
        29 => round::<user::ConfirmTotp>(body),
        30 => round::<user::RemoveTotp>(body),
        31 => round::<user::ResetUser>(body),
        32 => round::<crate::model::role::Grant>(body),
        33 => round::<backup::CreateBackup>(body),
        34 => round::<backup::KeepBackup>(body),
        35 => round::<backup::BackupEnd>(body),
        36 => round::<recipient::AddRecipient>(body),
        37 => round::<job::CancelJobs>(body),
        38 => round::<job::SetDrain>(body),
        39 => round::<schedule::AddSchedule>(body),
        40 => round::<schedule::EditSchedule>(body),
        41 => round::<host::AddHost>(body),
        42 => round::<host::EditHost>(body),
        43 => round::<host_group::AddHostGroup>(body),
        44 => round::<host_group::EditHostGroup>(body),
        _ => round::<crate::model::quota::SetQuota>(body),
    }
}

fn round<T: DeserializeOwned + Serialize>(body: &[u8]) -> Option<Error> {
    let value: T = match json::parse(body) {
        Ok(value) => value,
        Err(error) => return Some(error),
    };
    let first = serde_json::to_vec(&value).unwrap_or_default();
    let again: T = json::parse(&first)
        .unwrap_or_else(|error| panic!("what was read does not read again: {error}"));
    assert_eq!(serde_json::to_vec(&again).unwrap_or_default(), first);
    None
}

fn written(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| panic!("`{text:?}` is no header's value"))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
