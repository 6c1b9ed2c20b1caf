//! A maintenance window: from each time of a cron line on, for so long. Pure.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cron::{Cron, ZoneName};
use super::id::shown;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// A week.
const LONGEST_MINUTES: u32 = 7 * 24 * 60;

/// Written as `0 22 * * sat for 6h in Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Parts", into = "Parts")]
#[schema(as = Window)]
pub struct Window {
    opens: Cron,
    zone: ZoneName,
    #[schema(value_type = u32, minimum = 1, maximum = 10_080)]
    minutes: NonZeroU32,
}

/// A window on the wire.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Parts {
    /// When it opens: five fields as crontab(5) has them, or `@daily` and the like.
    opens: Cron,
    /// Where its clock is.
    zone: ZoneName,
    /// For how long; a week at most.
    #[schema(value_type = u32, minimum = 1, maximum = 10_080)]
    minutes: NonZeroU32,
}

fn wrong(why: String) -> Error {
    Error::invalid("windows", why)
}

impl TryFrom<Parts> for Window {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        if parts.minutes.get() > LONGEST_MINUTES {
            return Err(wrong(format!(
                "a window is open for up to {LONGEST_MINUTES} minutes, a week"
            )));
        }
        Ok(Self {
            opens: parts.opens,
            zone: parts.zone,
            minutes: parts.minutes,
        })
    }
}

impl From<Window> for Parts {
    fn from(window: Window) -> Self {
        Self {
            opens: window.opens,
            zone: window.zone,
            minutes: window.minutes,
        }
    }
}

impl Window {
    fn micros(&self) -> i64 {
        i64::from(self.minutes.get()) * 60_000_000
    }

    pub fn is_open(&self, at: Timestamp) -> bool {
        let before = Timestamp(at.0.saturating_sub(self.micros()));
        self.opens.newest(&self.zone, before, at).is_some()
    }
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let how = || {
            wrong(format!(
                "`{}` is not a maintenance window; it reads `0 22 * * sat for 6h in Europe/Berlin`: a cron line, for how long (30m, 6h, 1d), and the time zone (UTC if left out)",
                shown(text)
            ))
        };
        let (opens, rest) = text.split_once(" for ").ok_or_else(how)?;
        let (length, zone) = rest.split_once(" in ").unwrap_or((rest, "UTC"));
        let length = length.trim();
        let unit = match length.chars().last() {
            Some('m') => 1,
            Some('h') => 60,
            Some('d') => 24 * 60,
            _ => return Err(how()),
        };
        let number: u32 = length[..length.len() - 1].parse().map_err(|_| how())?;
        let minutes = number.checked_mul(unit).and_then(NonZeroU32::new);
        Parts {
            opens: opens.trim().parse()?,
            zone: zone.trim().parse()?,
            minutes: minutes.ok_or_else(how)?,
        }
        .try_into()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.minutes.get();
        let (number, unit) = match minutes {
            it if it % (24 * 60) == 0 => (it / (24 * 60), 'd'),
            it if it % 60 == 0 => (it / 60, 'h'),
            it => (it, 'm'),
        };
        write!(
            f,
            "{} for {number}{unit} in {}",
            self.opens.as_str(),
            self.zone
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_from_its_time_on_for_its_length() {
        let window: Window = "0 22 * * sat for 6h in Europe/Berlin".parse().unwrap();
        // A Saturday in summer, when Berlin is two hours ahead.
        for (at, open) in [
            ("2026-07-18T19:59:59Z", false),
            ("2026-07-18T20:00:00Z", true),
            ("2026-07-19T01:59:59Z", true),
            ("2026-07-19T02:00:00Z", false),
            ("2026-07-17T21:00:00Z", false),
        ] {
            assert_eq!(window.is_open(at.parse().unwrap()), open, "{at}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for (text, written) in [
            (
                "0 22 * * sat for 6h in Europe/Berlin",
                "0 22 * * sat for 6h in Europe/Berlin",
            ),
            ("@daily for 90m", "@daily for 90m in UTC"),
            ("0 0 * * 0 for 24h", "0 0 * * 0 for 1d in UTC"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), written);
            let json = serde_json::to_string(&window).unwrap();
            assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
        }
        for bad in [
            "",
            "0 22 * * sat",
            "0 22 * * sat for",
            "0 22 * * sat for ",
            "0 22 * * sat for 6",
            "0 22 * * sat for 0h",
            "0 22 * * sat for 8d",
            "0 22 * * sat for 99999999d",
            "25 25 * * * for 1h",
            "@daily for 1h in Mars",
            "@daily for \u{fc}",
        ] {
            bad.parse::<Window>().expect_err(bad);
        }
        serde_json::from_str::<Window>(r#"{"opens":"@daily","zone":"UTC","minutes":99999}"#)
            .unwrap_err();
    }
}
