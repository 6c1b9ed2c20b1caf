//! The only clock. Everything else takes a `Timestamp` as an argument.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, Result};

/// Microseconds since 1970-01-01T00:00:00Z. In JSON and on the command line RFC 3339, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const SECOND: i64 = 1_000_000;
    pub const HOUR: i64 = 3_600 * Self::SECOND;
    pub const DAY: i64 = 24 * Self::HOUR;

    /// `self` moved by some microseconds; stops at the ends.
    pub fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Months since the year 0, in UTC; those of times beyond all calendars are one.
    pub fn month(self) -> i64 {
        self.date().map_or(i64::MAX, |date| {
            i64::from(date.year()) * 12 + i64::from(u8::from(date.month()))
        })
    }

    fn date(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).ok()
    }
}

/// What the system clock says now.
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods, reason = "the only clock")]
    let now = SystemTime::now();
    let micros = match now.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Timestamp(micros)
}

/// Refuses a clock that cannot be right: certificates, expiries and the audit log would be wrong.
pub fn check(now: Timestamp) -> Result<()> {
    const YEAR_2020: Timestamp = Timestamp(1_577_836_800 * Timestamp::SECOND);
    if now < YEAR_2020 {
        return Err(Error::unavailable(
            "clock_wrong",
            format!(
                "the system clock reads {now}, which is before 2020; set it (timedatectl set-ntp true) and start again"
            ),
        ));
    }
    Ok(())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date().and_then(|date| date.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// RFC 3339 with an offset or `Z`.
    fn from_str(text: &str) -> Result<Self> {
        let shown: String = text.chars().take(64).collect();
        let date = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            Error::invalid(
                "time",
                format!("`{shown}` is not a time such as 2026-11-22T08:00:00Z"),
            )
        })?;
        i64::try_from(date.unix_timestamp_nanos().div_euclid(1_000))
            .map(Self)
            .ok()
            // An offset can lead out of the years that can be written again.
            .filter(|time| {
                time.date()
                    .is_some_and(|date| date.format(&Rfc3339).is_ok())
            })
            .ok_or_else(|| {
                Error::invalid(
                    "time",
                    format!("`{shown}` is out of range: years 0 to 9999 in UTC"),
                )
            })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        let time = Timestamp(1_795_000_000_123_456);
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        assert_eq!(
            "2026-11-22T08:00:00+01:00"
                .parse::<Timestamp>()
                .unwrap()
                .to_string(),
            "2026-11-22T07:00:00Z"
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn a_clock_before_2020_is_refused() {
        assert!(check(Timestamp(0)).is_err());
        assert!(check(Timestamp(1_795_000_000_000_000)).is_ok());
    }
}
