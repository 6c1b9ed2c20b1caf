//! JSON bodies. A refusal names the field and the rule; it never shows what stood there, since that
//! may be a secret.

use std::error::Error as _;

use axum::Json;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::model::id::shown;

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // serde would also take an array, its items as the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::invalid("body", "the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| describe(&path::<T>(body, &error), &error))
}

/// Where the error lies: axum reads again and keeps track, and its own error then reads
/// `path: error`.
fn path<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> String {
    let Some(tracked) = Json::<T>::from_bytes(body).err() else {
        return String::new();
    };
    let tracked = tracked
        .source()
        .map(ToString::to_string)
        .unwrap_or_default();
    let path = tracked.strip_suffix(&error.to_string());
    path.and_then(|path| path.strip_suffix(": "))
        .unwrap_or_default()
        .to_owned()
}

fn describe(path: &str, error: &serde_json::Error) -> Error {
    if !error.is_data() {
        return Error::invalid(
            "body",
            format!(
                "the body is not JSON: it breaks off or goes wrong in line {}, column {}",
                error.line(),
                error.column()
            ),
        );
    }
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(text, _)| text);
    let (at, rule) = rule(path, message);
    let field = at
        .rsplit(['.', '['])
        .find_map(|part| FIELDS.iter().find(|field| **field == part))
        .copied()
        .unwrap_or("body");
    let place = if at.is_empty() {
        "the body".to_owned()
    } else {
        format!("`{}`", shown(&at))
    };
    Error::invalid(field, format!("{place} {rule}"))
}

/// Where it is wrong, and what would be right: serde's message without the value that it quotes.
fn rule(path: &str, message: &str) -> (String, String) {
    let below = |name: &str| match path {
        "" | "." => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let path_alone = if path == "." { "" } else { path };
    let quoted = |prefix: &str| {
        let rest = message.strip_prefix(prefix)?.strip_prefix('`')?;
        rest.split_once('`').map(|(name, _)| name.to_owned())
    };
    if let Some(name) = quoted("missing field ") {
        return (below(&name), "is missing".to_owned());
    }
    if let Some(name) = quoted("duplicate field ") {
        return (below(&name), "stands there twice".to_owned());
    }
    let expected = message
        .rsplit_once(", expected ")
        .map(|(_, expected)| expected);
    if message.starts_with("unknown field ") {
        let known = expected
            .unwrap_or("other fields")
            .trim_start_matches("one of ");
        return (
            path_alone.to_owned(),
            format!("is not known here; known: {known}"),
        );
    }
    match expected {
        Some(expected)
            if message.starts_with("invalid ") || message.starts_with("unknown variant ") =>
        {
            let expected = match expected.split_once(' ') {
                Some(("struct", _)) => "an object",
                _ => expected,
            };
            (path_alone.to_owned(), format!("takes {expected}"))
        }
        // Our own checked types explain themselves; none of them holds a secret.
        _ if message.starts_with('`') || message.contains("fingerprint") => {
            (path_alone.to_owned(), format!("is wrong: {message}"))
        }
        _ => (
            path_alone.to_owned(),
            "is not of the form that /v1/openapi.json gives".to_owned(),
        ),
    }
}

/// The names of fields in request bodies, so that a refusal can point at one. A test holds them
/// against the schemas.
pub(super) const FIELDS: &[&str] = &[
    "accept_old_seal",
    "address",
    "age_passphrase",
    "all",
    "auth_code",
    "bytes",
    "certificate",
    "certificates",
    "chain",
    "clear_second_factor",
    "cleartext",
    "client",
    "code",
    "contacts",
    "cron",
    "current_password",
    "days",
    "description",
    "disabled",
    "expires",
    "filters",
    "grants",
    "group",
    "inherit",
    "key",
    "key_password",
    "kind",
    "label",
    "labels",
    "max_retrievals",
    "name",
    "names",
    "new_key",
    "not_before",
    "objects",
    "opener",
    "openers",
    "org",
    "other_name",
    "own",
    "password",
    "path",
    "pkcs12",
    "reason",
    "recipient",
    "recipients",
    "requests",
    "retrievals",
    "role",
    "scopes",
    "secret",
    "self_contained",
    "signature",
    "slot",
    "stored",
    "ungroup",
    "user",
    "value",
    "verify_depth",
    "why",
    "zone",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::Register;
    use crate::api::user::AddUser;

    fn refused<T: DeserializeOwned>(body: &str) -> (Option<&'static str>, String) {
        let error = parse::<T>(body.as_bytes()).err().unwrap();
        (error.field, error.public)
    }

    #[test]
    fn refusals_name_the_field_and_the_rule() {
        let (field, text) = refused::<AddUser>(r#"{"name":"bob"}"#);
        assert_eq!(field, Some("password"));
        assert_eq!(text, "`password` is missing");
        let (field, text) =
            refused::<AddUser>(r#"{"name":"bob","password":"x","grants":[{"role":"king"}]}"#);
        assert_eq!(field, Some("role"));
        assert!(
            text.starts_with("`grants[0].role` takes ") && text.contains("superuser"),
            "{text}"
        );
        let (field, text) = refused::<AddUser>(r#"{"name":"b b","password":"x"}"#);
        assert_eq!(field, Some("name"));
        assert!(text.contains("not a user's name"), "{text}");
        let (_, text) = refused::<AddUser>("[]");
        assert!(text.starts_with("the body "), "{text}");
        let (_, text) = refused::<AddUser>("{");
        assert!(text.contains("line 1"), "{text}");
        let (_, text) = refused::<Register>(r#"{"org":"a","colour":1}"#);
        assert!(
            text.contains("`colour` is not known here; known: `org`"),
            "{text}"
        );
    }

    #[test]
    fn refusals_do_not_show_what_stood_there() {
        for body in [
            r#"{"name":"bob","password":{"hunter2":1}}"#,
            r#"{"name":"bob","password":["hunter2"]}"#,
            r#"{"name":"bob","password":"x","grants":"hunter2, expected hunter2"}"#,
            r#"{"name":"bob","password":"x","grants":[{"role":"hunter2"}]}"#,
            r#"{"name":"bob","password":"hunter2"#,
            r#""hunter2""#,
            r#"{"name":"bob","password":"hunter2"} hunter2"#,
        ] {
            let (_, text) = refused::<AddUser>(body);
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
