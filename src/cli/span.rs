//! A span of time as it is typed and kept: `7d`, `12h`, `30m`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::shown;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    count: u32,
    unit: char,
}

impl Span {
    pub fn micros(self) -> i64 {
        let unit = match self.unit {
            'd' => Timestamp::DAY,
            'h' => Timestamp::HOUR,
            _ => 60 * Timestamp::SECOND,
        };
        i64::from(self.count).saturating_mul(unit)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let split = |text: &str| {
            let unit = text.chars().last().filter(|it| "dhm".contains(*it))?;
            let digits = &text[..text.len() - 1];
            let count = digits.parse().ok()?;
            // A sign is none of a span's.
            let plain = digits.bytes().all(|it| it.is_ascii_digit());
            let span = Self { count, unit };
            (plain && span.micros() < i64::MAX).then_some(span)
        };
        split(text).ok_or_else(|| {
            Error::invalid(
                "time",
                format!("`{}` is not a span such as 90d, 12h or 30m", shown(text)),
            )
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, micros) in [
            ("7d", 7 * Timestamp::DAY),
            ("12h", 12 * Timestamp::HOUR),
            ("30m", 1_800 * Timestamp::SECOND),
            ("0d", 0),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.micros(), span.to_string().as_str()), (micros, text));
        }
        for bad in ["", "d", "7", "+7d", "-7d", "7w", "7 d", "7é", "4294967295d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
