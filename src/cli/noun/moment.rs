//! A point in time as it is typed.

use std::str::FromStr;

use crate::cli::span::Span;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::shown;

/// A time, or a span from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    After(i64),
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(span) = text.strip_prefix('+') else {
            return text.parse().map(Self::At);
        };
        span.parse::<Span>()
            .map(|span| Self::After(span.micros()))
            .map_err(|_| {
                Error::invalid(
                    "time",
                    format!("`{}` is not a span such as +90d, +12h or +30m", shown(text)),
                )
            })
    }
}

impl Moment {
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::After(span) => now.plus(span),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_time_or_a_span() {
        let now = Timestamp(1_000_000);
        let end = |text: &str| text.parse::<Moment>().map(|it| it.from(now).0);
        assert_eq!(end("+90d").unwrap(), 1_000_000 + 90 * Timestamp::DAY);
        assert_eq!(end("+30m").unwrap(), 1_000_000 + 1_800 * Timestamp::SECOND);
        assert_eq!(end("1970-01-01T00:00:02Z").unwrap(), 2_000_000);
        for bad in [
            "90d",
            "+",
            "+d",
            "+9w",
            "+-1d",
            "-1d",
            "+é",
            "+99999999999d",
            "tomorrow",
        ] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }
}
