//! Headers of our own and the standard ones that matter, parsed into types. Pure.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::api;
use crate::api::deposit::LAST_EVENT_ID;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Encryption, LabelKey, LabelValue, Labels, MOST_RETRIEVALS, SetPolicy};
use crate::secret::Secret;
use crate::service::deposit::Expect;

const MAX_REASON: usize = 1_000;
const MAX_DESCRIPTION: usize = 1_000;
const MAX_LABELS: usize = 64;
const MAX_CONTENT_TYPE: usize = 255;
const MAX_CREDENTIAL: usize = 4_096;

/// The header's value as text, none where it is missing.
///
/// # Errors
/// It stands there twice, or is not visible ASCII.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Error::invalid(
            name,
            format!("the header {name} stands there more than once"),
        ));
    }
    value.to_str().map(Some).map_err(|_| {
        Error::invalid(
            name,
            format!("the header {name} holds more than visible ASCII"),
        )
    })
}

/// Undoes percent-encoding, strictly; `plus` reads `+` as a blank, as queries have it.
pub(super) fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

fn decoded(name: &'static str, value: &str, max: usize) -> Result<String> {
    let decoded = percent_decode(value, false).ok_or_else(|| {
        Error::invalid(
            name,
            format!("the header {name} is not percent-encoded UTF-8"),
        )
    })?;
    if decoded.len() > max {
        return Err(Error::invalid(
            name,
            format!("the header {name} is longer than {max} bytes"),
        ));
    }
    Ok(decoded)
}

/// Why the change is made; empty where nothing was said.
pub(super) fn reason(headers: &HeaderMap) -> Result<String> {
    let Some(value) = text(headers, api::REASON)? else {
        return Ok(String::new());
    };
    let reason = decoded(api::REASON, value, MAX_REASON)?;
    if reason.chars().any(char::is_control) {
        return Err(Error::invalid(
            api::REASON,
            format!("the header {} holds a control character", api::REASON),
        ));
    }
    Ok(reason)
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(key) = text(headers, api::IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    if !(1..=64).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid(
            api::IDEMPOTENCY_KEY,
            "the header idempotency-key takes 1 to 64 visible ASCII characters without blanks",
        ));
    }
    Ok(Some(key))
}

/// `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<Secret<String>>> {
    let unusable = |why| Error::new(Kind::Unauthenticated, "unauthenticated", why);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(unusable(
            "the header authorization stands there more than once",
        ));
    }
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_matches(' '))
        .filter(|token| !token.is_empty() && token.len() <= MAX_CREDENTIAL)
        .ok_or_else(|| {
            unusable("the header authorization takes `Bearer TOKEN`, and nothing else")
        })?;
    Ok(Some(Secret::new(token.to_owned())))
}

/// The value of the session's cookie.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<Secret<String>> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == api::session::COOKIE && value.len() <= MAX_CREDENTIAL)
        .map(|(_, value)| Secret::new(value.to_owned()))
}

/// `If-Match` and `If-None-Match`.
pub(super) fn expect(headers: &HeaderMap) -> Result<Expect> {
    match (text(headers, "if-match")?, text(headers, "if-none-match")?) {
        (None, None) => Ok(Expect::Anything),
        (Some("*"), None) => Ok(Expect::Present),
        (None, Some("*")) => Ok(Expect::Absent),
        (Some(tag), None) => tag
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .and_then(version)
            .map(Expect::Version)
            .ok_or_else(|| {
                Error::invalid(
                    "if-match",
                    "the header if-match takes a version as \"3\", or *",
                )
            }),
        (None, Some(_)) => Err(Error::invalid(
            "if-none-match",
            "the header if-none-match takes * alone: store only what is not there yet",
        )),
        (Some(_), Some(_)) => Err(Error::invalid(
            "if-match",
            "the headers if-match and if-none-match exclude each other",
        )),
    }
}

/// A version's number: digits alone, from 1, without a sign or leading zeros.
pub(super) fn version(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

pub(super) fn etag(version: u32) -> String {
    format!("\"{version}\"")
}

pub(super) fn encryption(headers: &HeaderMap) -> Result<Encryption> {
    const NAME: &str = api::deposit::ENCRYPTION;
    match text(headers, NAME)? {
        None | Some("none") => Ok(Encryption::None),
        Some("age") => Ok(Encryption::Age),
        Some(_) => Err(Error::invalid(
            NAME,
            format!("the header {NAME} takes `age` or `none`"),
        )),
    }
}

pub(super) fn description(headers: &HeaderMap) -> Result<Option<String>> {
    const NAME: &str = api::deposit::DESCRIPTION;
    text(headers, NAME)?
        .map(|value| decoded(NAME, value, MAX_DESCRIPTION))
        .transpose()
}

/// `key=value,key=value`, both percent-encoded where needed. An empty header means no labels.
pub(super) fn labels(headers: &HeaderMap) -> Result<Option<Labels>> {
    const NAME: &str = api::deposit::LABELS;
    let Some(value) = text(headers, NAME)? else {
        return Ok(None);
    };
    let mut labels = Labels::new();
    for pair in value
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::invalid(
                NAME,
                format!("the header {NAME} takes key=value, separated by commas"),
            )
        })?;
        // Three characters a byte at most.
        if key.len() > 3 * 63 || value.len() > 3 * 255 {
            return Err(Error::invalid(
                NAME,
                "a label's key has up to 63 bytes, and its value up to 255",
            ));
        }
        let key: LabelKey = decoded(NAME, key, 3 * 63)?.parse()?;
        let value: LabelValue = decoded(NAME, value, 3 * 255)?.parse()?;
        if labels.len() == MAX_LABELS {
            return Err(Error::invalid(
                NAME,
                format!("a deposit has at most {MAX_LABELS} labels"),
            ));
        }
        if labels.insert(key, value).is_some() {
            return Err(Error::invalid(
                NAME,
                format!("the header {NAME} gives one key twice"),
            ));
        }
    }
    Ok(Some(labels))
}

/// When it may be fetched, and how often; what is left out stays as it is.
pub(super) fn policy(headers: &HeaderMap) -> Result<SetPolicy> {
    const MOST: &str = api::deposit::MAX_RETRIEVALS;
    let time = |name: &'static str| {
        let time = text(headers, name)?
            .map(str::parse::<Timestamp>)
            .transpose();
        time.map(|time| time.map(Some)).map_err(|mut error| {
            error.field = Some(name);
            error
        })
    };
    let number = |value: &str| {
        let digits = (1..=20).contains(&value.len()) && value.bytes().all(|it| it.is_ascii_digit());
        // What is out of range altogether is so for whoever checks it, too.
        digits
            .then(|| Some(value.parse().unwrap_or(u64::MAX)))
            .ok_or_else(|| {
                Error::invalid(
                    MOST,
                    format!("the header {MOST} takes a number, from 1 to {MOST_RETRIEVALS}"),
                )
            })
    };
    Ok(SetPolicy {
        not_before: time(api::deposit::NOT_BEFORE)?,
        expires: time(api::deposit::EXPIRES)?,
        max_retrievals: text(headers, MOST)?.map(number).transpose()?,
    })
}

/// What a deposit's bytes are, as it is kept and given back; none where the request does not say.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = text(headers, "content-type")? else {
        return Ok(None);
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let legal = value.len() <= MAX_CONTENT_TYPE
        && value
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && essence
            .split_once('/')
            .is_some_and(|(main, sub)| token(main) && token(sub));
    if !legal {
        return Err(Error::invalid(
            "content-type",
            "the header content-type takes a type such as application/x-pem-file, up to 255 bytes",
        ));
    }
    Ok(Some(value.to_owned()))
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let value = value.to_str().ok()?;
        Some(
            value
                .split(';')
                .next()?
                .trim()
                .eq_ignore_ascii_case("application/json"),
        )
    };
    headers.get(header::CONTENT_TYPE).and_then(essence) == Some(true)
}

/// The headers that make two requests different ones under one `Idempotency-Key`. A session's CSRF
/// value is not among them: a retry may come from the next session.
pub(super) fn matters(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "if-match" | "if-none-match" | "content-type")
        || (name.starts_with("strongroom-") && name != api::session::CSRF)
}

/// The event after which a feed goes on.
pub(super) fn last_event(map: &HeaderMap) -> Result<Option<u64>> {
    let Some(id) = text(map, LAST_EVENT_ID)? else {
        return Ok(None);
    };
    id.parse().map(Some).map_err(|_| {
        Error::invalid(
            LAST_EVENT_ID,
            format!("the header {LAST_EVENT_ID} takes the id of an event, a number"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn labels_are_read_percent_decoded_and_bad_ones_refused() {
        let read = |value: &str| labels(&with(api::deposit::LABELS, value));
        let labels = read("host=kts01, note=a%2Cb%3Dc%20%C3%A4")
            .unwrap()
            .unwrap();
        let pairs: Vec<(&str, &str)> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, [("host", "kts01"), ("note", "a,b=c ä")]);
        assert!(read("").unwrap().unwrap().is_empty());
        for bad in [
            "host", "=x", "a=%2", "a=%zz", "a=%FF", "a=1,a=2", "a=%00", "-a=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..65).map(|n| format!("k{n}=v")).collect();
        assert!(read(&many.join(",")).is_err());
    }

    #[test]
    fn a_policy_is_read_from_its_headers() {
        let mut headers = with(api::deposit::NOT_BEFORE, "2026-11-22T08:00:00Z");
        assert!(policy(&headers).unwrap().not_before.flatten().is_some());
        assert_eq!(policy(&HeaderMap::new()).unwrap(), SetPolicy::default());
        headers.insert(api::deposit::MAX_RETRIEVALS, "7".parse().unwrap());
        assert_eq!(policy(&headers).unwrap().max_retrievals, Some(Some(7)));
        let beyond = with(api::deposit::MAX_RETRIEVALS, "99999999999999999999");
        assert_eq!(
            policy(&beyond).unwrap().max_retrievals,
            Some(Some(u64::MAX))
        );
        for (name, bad) in [
            (api::deposit::EXPIRES, "tomorrow"),
            (api::deposit::EXPIRES, ""),
            (api::deposit::MAX_RETRIEVALS, "-1"),
            (api::deposit::MAX_RETRIEVALS, "1.5"),
            (api::deposit::MAX_RETRIEVALS, ""),
        ] {
            assert_eq!(
                policy(&with(name, bad)).unwrap_err().field,
                Some(name),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_reason_is_short_text_without_control_characters() {
        let read = |value: &str| reason(&with(api::REASON, value));
        assert_eq!(read("ticket%2042").unwrap(), "ticket 42");
        assert_eq!(reason(&HeaderMap::new()).unwrap(), "");
        assert!(read("a%0Ab").is_err());
        assert!(read(&"x".repeat(1_001)).is_err());
        assert!(read("%C3%28").is_err());
    }

    #[test]
    fn versions_are_expected_by_quoted_number_star_or_absence() {
        let read = |name: &'static str, value: &str| expect(&with(name, value));
        assert_eq!(read("if-match", "\"3\"").unwrap(), Expect::Version(3));
        assert_eq!(read("if-match", "*").unwrap(), Expect::Present);
        assert_eq!(read("if-none-match", "*").unwrap(), Expect::Absent);
        assert_eq!(expect(&HeaderMap::new()).unwrap(), Expect::Anything);
        for bad in [
            "3",
            "\"0\"",
            "\"03\"",
            "\"+3\"",
            "W/\"3\"",
            "\"1\", \"2\"",
            "\"\"",
            "\"4294967296\"",
        ] {
            assert!(read("if-match", bad).is_err(), "{bad}");
        }
        assert!(read("if-none-match", "\"3\"").is_err());
    }

    #[test]
    fn an_idempotency_key_is_1_to_64_visible_characters() {
        let ok = |value: &str| idempotency_key(&with(api::IDEMPOTENCY_KEY, value)).is_ok();
        assert!(ok("a") && ok(&"k".repeat(64)));
        assert!(!ok("") && !ok(&"k".repeat(65)) && !ok("a b") && !ok("ä"));
    }

    #[test]
    fn credentials_are_found_and_nothing_else_is() {
        let token = |value: &str| bearer(&with("authorization", value));
        assert_eq!(token("bearer abc").unwrap().unwrap().expose(), "abc");
        for bad in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert!(token(bad).is_err(), "{bad}");
        }
        let cookie = |value: &str| session_cookie(&with("cookie", value));
        assert_eq!(
            cookie("a=b; __Host-strongroom=xyz").unwrap().expose(),
            "xyz"
        );
        assert!(cookie("strongroom=xyz").is_none());
    }

    #[test]
    fn content_types_are_types() {
        let read = |value: &str| content_type(&with("content-type", value));
        assert_eq!(
            read("text/plain; charset=utf-8").unwrap().unwrap(),
            "text/plain; charset=utf-8"
        );
        assert!(content_type(&HeaderMap::new()).unwrap().is_none());
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "te xt/plain",
            &format!("a/{}", "b".repeat(255)),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(is_json(&with(
            "content-type",
            "Application/JSON; charset=utf-8"
        )));
        assert!(!is_json(&with("content-type", "text/json")));
    }
}
