//! Quotas: how much an organization or a client may keep, and how often its clients may ask.

use std::fmt;

use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::shown;
use crate::error::{Error, Result};

/// The largest number of deposits, and of bytes.
pub const MOST: u64 = i64::MAX.unsigned_abs();
/// The largest number of requests a second.
pub const MOST_REQUESTS: u64 = 1_000_000;

/// What may be kept and asked; null: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quota {
    /// Deposits, those in the bin included; 0: none may be added.
    pub objects: Option<u64>,
    /// Bytes of all versions, those in the bin included; 0: nothing may be stored.
    pub bytes: Option<u64>,
    /// A second; after a pause as many at once.
    pub requests: Option<u32>,
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Used {
    /// Deposits, those in the bin included.
    pub objects: u64,
    /// Bytes of all versions, those in the bin included.
    pub bytes: u64,
}

/// A quota, and what is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaUse {
    pub quota: Quota,
    pub used: Used,
}

/// Requests a second that a client may make: by its own quota, and with all others of its
/// organization by that one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    pub client: Option<u32>,
    pub org: Option<u32>,
}

/// New limits: what is left out stays, null takes a limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetQuota {
    /// Deposits, those in the bin included; 0: none may be added.
    #[serde(deserialize_with = "amount", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, maximum = 9223372036854775807_i64)]
    pub objects: Option<Option<u64>>,
    /// Bytes of all versions, those in the bin included; 0: nothing may be stored.
    #[serde(deserialize_with = "amount", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, maximum = 9223372036854775807_i64)]
    pub bytes: Option<Option<u64>>,
    /// A second; after a pause as many at once.
    #[serde(deserialize_with = "requests", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    pub requests: Option<Option<u32>>,
}

impl SetQuota {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Quota {
    #[must_use]
    pub fn set(self, set: &SetQuota) -> Self {
        Self {
            objects: set.objects.unwrap_or(self.objects),
            bytes: set.bytes.unwrap_or(self.bytes),
            requests: set.requests.unwrap_or(self.requests),
        }
    }

    /// What it became, in words: each limit that changed, with the old one.
    pub fn changed_to(&self, new: &Self) -> String {
        let word = |limit: Option<u64>| limit.map_or("none".to_owned(), |it| it.to_string());
        let changed: Vec<String> = [
            ("objects", self.objects, new.objects),
            ("bytes", self.bytes, new.bytes),
            (
                "requests",
                self.requests.map(u64::from),
                new.requests.map(u64::from),
            ),
        ]
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name} {} to {}", word(old), word(new)))
        .collect();
        match changed.is_empty() {
            true => "as it was".to_owned(),
            false => changed.join(", "),
        }
    }
}

/// `50 deposits, 1048576 bytes, 5 requests a second`; empty without a limit.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits: Vec<String> = [
            self.objects.map(|it| format!("{it} deposits")),
            self.bytes.map(|it| format!("{it} bytes")),
            self.requests.map(|it| format!("{it} requests a second")),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(&limits.join(", "))
    }
}

/// A limit on the command line: a whole number, or `none`.
///
/// # Errors
/// `Invalid`, with the range.
pub fn amount_of(field: &'static str, text: &str) -> Result<Option<u64>> {
    parse(field, text, 0..=MOST, AMOUNT, |digits| digits.parse().ok())
}

/// The same of bytes, which may be given as `10MiB`.
///
/// # Errors
/// `Invalid`, with the range.
pub fn bytes_of(text: &str) -> Result<Option<u64>> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    parse("bytes", text, 0..=MOST, BYTES, |text| {
        let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
        let (digits, shift) = match unit {
            Some((unit, shift)) => (&text[..text.len() - unit.len()], *shift),
            None => (text, 0),
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    })
}

/// The same of requests a second.
///
/// # Errors
/// `Invalid`, with the range.
pub fn requests_of(text: &str) -> Result<Option<u32>> {
    let limit = parse("requests", text, 1..=MOST_REQUESTS, REQUESTS, |digits| {
        digits.parse().ok()
    })?;
    Ok(limit.and_then(|it| u32::try_from(it).ok()))
}

const AMOUNT: &str = "a whole number from 0 to 9223372036854775807";
const BYTES: &str =
    "a whole number from 0 to 9223372036854775807, or one with KiB, MiB, GiB or TiB";
const REQUESTS: &str = "a whole number from 1 to 1000000 (who is to make none is disabled: client disable, or org set-expiry)";

fn parse(
    field: &'static str,
    text: &str,
    range: std::ops::RangeInclusive<u64>,
    rule: &str,
    read: impl Fn(&str) -> Option<u64>,
) -> Result<Option<u64>> {
    if text == "none" {
        return Ok(None);
    }
    // `+5` is a number to Rust, and a slip here.
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    match read(text).filter(|it| digits && range.contains(it)) {
        Some(limit) => Ok(Some(limit)),
        None => Err(Error::invalid(
            field,
            format!(
                "`{}` is no limit: {field} takes {rule}; or `none`",
                shown(text)
            ),
        )),
    }
}

/// A whole number within bounds, or null. What is refused reads the bounds, whatever it was.
struct Whole {
    low: u64,
    high: u64,
    rule: &'static str,
}

impl Visitor<'_> for Whole {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; or null for no limit", self.rule)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        match (self.low..=self.high).contains(&number) {
            true => Ok(Some(number)),
            false => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    let whole = Whole {
        low: 0,
        high: MOST,
        rule: AMOUNT,
    };
    from.deserialize_any(whole).map(Some)
}

fn requests<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    let whole = Whole {
        low: 1,
        high: MOST_REQUESTS,
        rule: REQUESTS,
    };
    let limit = from.deserialize_any(whole)?;
    let small = limit.map(u32::try_from).transpose();
    small.map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_whole_numbers_within_their_range() {
        let amount = |text: &str| amount_of("objects", text);
        assert_eq!(amount("0").unwrap(), Some(0));
        assert_eq!(amount("9223372036854775807").unwrap(), Some(MOST));
        assert_eq!(amount("none").unwrap(), None);
        assert_eq!(bytes_of("10MiB").unwrap(), Some(10 << 20));
        assert_eq!(bytes_of("0KiB").unwrap(), Some(0));
        assert_eq!(bytes_of("8388607TiB").unwrap(), Some(8_388_607 << 40));
        assert_eq!(requests_of("1").unwrap(), Some(1));
        assert_eq!(requests_of("1000000").unwrap(), Some(1_000_000));
        let both = [
            "",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "0x10",
            "ten",
            "None",
            " 1",
            "1 ",
            "9223372036854775808",
            "18446744073709551616",
        ];
        for bad in both.into_iter().chain(["5MiB"]) {
            let error = amount(bad).unwrap_err();
            assert_eq!(error.field, Some("objects"));
            assert!(error.public.contains("0 to 9223372036854775807"), "{error}");
        }
        for bad in both
            .into_iter()
            .chain(["MiB", "1MB", "1mib", "8388608TiB", "1.5GiB"])
        {
            assert_eq!(bytes_of(bad).unwrap_err().field, Some("bytes"), "{bad}");
        }
        for bad in both.into_iter().chain(["0", "1000001"]) {
            let error = requests_of(bad).unwrap_err();
            assert!(error.public.contains("1 to 1000000"), "{error}");
            assert!(error.public.contains("disable"), "{error}");
        }
    }

    #[test]
    fn what_is_left_out_stays_and_null_takes_away() {
        let old = Quota {
            objects: Some(5),
            bytes: Some(6),
            requests: None,
        };
        let set: SetQuota = serde_json::from_str(r#"{"bytes": null, "requests": 7}"#).unwrap();
        let new = old.set(&set);
        assert_eq!(
            (new.objects, new.bytes, new.requests),
            (Some(5), None, Some(7))
        );
        assert_eq!(old.changed_to(&new), "bytes 6 to none, requests none to 7");
        assert_eq!(new.changed_to(&new), "as it was");
        assert_eq!(new.to_string(), "5 deposits, 7 requests a second");
        assert!(serde_json::from_str::<SetQuota>("{}").unwrap().is_empty());
    }
}
