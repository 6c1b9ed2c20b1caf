//! Cron lines of five fields in a time zone, as crontab(5) has them, and the times they name. Pure.
//!
//! Every line goes by the wall clock: a time that daylight saving skips comes once after the gap, and a
//! time that comes twice counts once, the first time.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{checked_text, shown};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// A cron line's text, in bytes.
pub const LONGEST: usize = 256;
/// A line whose next time is farther away has none: 29 February can be eight years off.
const FARTHEST_DAYS: u32 = 9 * 366;

checked_text!(
    /// A time zone of the IANA database, such as `Europe/Berlin`; `UTC` unless said otherwise.
    ZoneName, "zone", |text| {
        let known = text.len() <= 64 && TimeZone::get(text).is_ok();
        (!known).then(|| "is not a time zone; it takes a name of the IANA database, such as UTC or Europe/Berlin".to_owned())
    }
);

impl ZoneName {
    pub fn utc() -> Result<Self> {
        "UTC".parse()
    }
}

/// A cron line that was read. It is written as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// The values of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// It began with `*`, and so restricts no day.
    star: bool,
}

impl Set {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

/// What a field is called and takes.
struct Kind {
    name: &'static str,
    low: u32,
    high: u32,
    /// From `low` on.
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Kind; 5] = [
    Kind {
        name: "minute",
        low: 0,
        high: 59,
        names: &[],
    },
    Kind {
        name: "hour",
        low: 0,
        high: 23,
        names: &[],
    },
    Kind {
        name: "day of month",
        low: 1,
        high: 31,
        names: &[],
    },
    Kind {
        name: "month",
        low: 1,
        high: 12,
        names: MONTHS,
    },
    Kind {
        name: "day of week",
        low: 0,
        // 0 and 7 are Sunday.
        high: 7,
        names: WEEKDAYS,
    },
];
const SHORTHANDS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

fn wrong(why: String) -> Error {
    Error::invalid("cron", why)
}

impl std::str::FromStr for Cron {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(wrong(format!(
                "`{}` is too long: a cron line has up to {LONGEST} bytes",
                shown(text)
            )));
        }
        let trimmed = text.trim();
        let line = match trimmed.strip_prefix('@') {
            None => trimmed,
            Some(_) => SHORTHANDS
                .iter()
                .find(|(name, _)| trimmed.eq_ignore_ascii_case(name))
                .map(|(_, line)| *line)
                .ok_or_else(|| {
                    let known: Vec<&str> = SHORTHANDS.iter().map(|(name, _)| *name).collect();
                    wrong(format!(
                        "`{}` is no time; there are {}",
                        shown(trimmed),
                        known.join(", ")
                    ))
                })?,
        };
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(wrong(format!(
                "`{}` is no cron line: it has five fields (minute, hour, day of month, month, day of week), not {}",
                shown(trimmed),
                fields.len()
            )));
        };
        let [of_minute, of_hour, of_day, of_month, of_weekday] = &FIELDS;
        let mut weekdays = of_weekday.parse(weekday)?;
        weekdays.bits = (weekdays.bits | weekdays.bits >> 7) & 0x7f;
        let cron = Self {
            text: trimmed.to_owned(),
            minutes: of_minute.parse(minute)?,
            hours: of_hour.parse(hour)?,
            days: of_day.parse(day)?,
            months: of_month.parse(month)?,
            weekdays,
        };
        if !cron.names_a_day() {
            return Err(wrong(format!(
                "`{}` never comes: none of its months (field 4) has a day (field 3) that it names",
                shown(trimmed)
            )));
        }
        Ok(cron)
    }
}

impl Kind {
    fn wrong(&self, part: &str, why: &str) -> Error {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        wrong(format!(
            "`{}` {why}; the {} takes {} to {}{names}, `*`, ranges, steps and lists of these",
            shown(part),
            self.name,
            self.low,
            self.high
        ))
    }

    fn parse(&self, field: &str) -> Result<Set> {
        let mut bits = 0;
        for part in field.split(',') {
            bits |= self.part(part)?;
        }
        Ok(Set {
            bits,
            star: field.starts_with('*'),
        })
    }

    /// `*`, `a`, `a-b`, and each with `/step`.
    fn part(&self, part: &str) -> Result<u64> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(step)),
        };
        let step_by = match step.map(str::parse::<u32>) {
            None => 1,
            Some(Ok(step)) if (1..=self.high).contains(&step) => step,
            Some(_) => {
                let why = format!("has no step from 1 to {} behind `/`", self.high);
                return Err(self.wrong(part, &why));
            }
        };
        let (low, high) = match (range, range.split_once('-')) {
            ("*", _) => (self.low, self.high),
            (_, Some((low, high))) => (self.value(low, part)?, self.value(high, part)?),
            // `5/15` would mean something else to each reader.
            (_, None) if step.is_some() => {
                return Err(self.wrong(part, "has a step without `*` or a range before it"));
            }
            (_, None) => (self.value(range, part)?, self.value(range, part)?),
        };
        // A range of days may end with Sunday by its name.
        let high = match (high, self.high) {
            (0, 7) if low > 0 => 7,
            _ => high,
        };
        if low > high {
            return Err(self.wrong(part, "ends before it begins"));
        }
        let steps = usize::try_from(step_by).unwrap_or(1);
        Ok((low..=high)
            .step_by(steps)
            .fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str, part: &str) -> Result<u32> {
        let named = self
            .names
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name))
            .and_then(|at| u32::try_from(at).ok());
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = match named {
            Some(at) => Some(self.low + at),
            None if digits => text.parse().ok(),
            None => None,
        };
        number
            .filter(|number| (self.low..=self.high).contains(number))
            .ok_or_else(|| self.wrong(part, "is none of them"))
    }
}

impl Cron {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As crontab(5): a day must fit both fields, but either where neither begins with `*`.
    fn fits(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        let fits = match self.days.star || self.weekdays.star {
            true => day && weekday,
            false => day || weekday,
        };
        fits && self.months.has(date.month())
    }

    fn names_a_day(&self) -> bool {
        // Any weekday falls on any day of a month in some year.
        if !self.days.star && !self.weekdays.star {
            return true;
        }
        const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        (1..=12u32).zip(LENGTHS).any(|(month, length)| {
            self.months.bits & (1 << month) != 0
                && (1..=length).any(|day| self.days.bits & (1 << day) != 0)
        })
    }

    /// The first time behind `after`; none within nine years.
    pub fn next(&self, zone: &ZoneName, after: Timestamp) -> Option<Timestamp> {
        let zone = TimeZone::get(zone.as_str()).ok()?;
        let start = jiff::Timestamp::from_microsecond(after.0).ok()?;
        // A later reading of the clock never stands for an earlier moment, so that what lies before the
        // present reading is over, and the first moment found behind the start is the next.
        let local = zone.to_datetime(start);
        let (mut date, mut hour) = (local.date(), local.hour());
        for _ in 0..FARTHEST_DAYS {
            if self.fits(date)
                && let Some(found) = self.first_behind(start, date, hour, &zone)
            {
                return Some(Timestamp(found.as_microsecond()));
            }
            (date, hour) = (date.tomorrow().ok()?, 0);
        }
        None
    }

    /// The first time of a day, from an hour on, that comes behind `start`.
    fn first_behind(
        &self,
        start: jiff::Timestamp,
        date: Date,
        from_hour: i8,
        zone: &TimeZone,
    ) -> Option<jiff::Timestamp> {
        (from_hour..24)
            .filter(|hour| self.hours.has(*hour))
            .flat_map(|hour| {
                let minutes = (0..60).filter(|minute| self.minutes.has(*minute));
                minutes.map(move |minute| date.at(hour, minute, 0, 0))
            })
            .filter_map(|reading| moment(reading, zone))
            .find(|moment| *moment > start)
    }

    /// The next few times behind `after`.
    pub fn upcoming(&self, zone: &ZoneName, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let mut times = Vec::with_capacity(count);
        let mut last = after;
        while times.len() < count
            && let Some(next) = self.next(zone, last)
        {
            times.push(next);
            last = next;
        }
        times
    }

    /// The newest time behind `after` and not behind `until`, where there is one.
    pub fn newest(&self, zone: &ZoneName, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // What is long ago need not be walked through time by time.
        let mut span = 3_600 * Timestamp::SECOND;
        loop {
            let from = Timestamp(after.0.max(until.0.saturating_sub(span)));
            let mut newest = None;
            let mut last = from;
            while let Some(next) = self.next(zone, last).filter(|next| *next <= until) {
                newest = Some(next);
                last = next;
            }
            if newest.is_some() || from == after {
                return newest;
            }
            span = span.saturating_mul(8);
        }
    }
}

/// When the clock reads so for the first time, or passes it over.
fn moment(reading: DateTime, zone: &TimeZone) -> Option<jiff::Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(reading);
    let gap = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
    let earlier = ambiguous.earlier().ok()?;
    match gap {
        false => Some(earlier),
        // By the offset of afterwards it lies before the clock was put on: that moment follows it.
        true => zone.following(earlier).next().map(|on| on.timestamp()),
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Cron {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

impl utoipa::ToSchema for Cron {}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(line: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron: Cron = line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        cron.upcoming(&zone.parse().unwrap(), after.parse().unwrap(), count)
            .into_iter()
            .map(|time| time.to_string())
            .collect()
    }

    /// The next times of a line in a zone, written by hand from the calendar.
    #[test]
    fn lines_name_the_times_of_the_calendar() {
        let cases: &[(&str, &str, &str, &[&str])] = &[
            (
                "*/30 * * * *",
                "UTC",
                "2026-11-22T08:00:00Z",
                &[
                    "2026-11-22T08:30:00Z",
                    "2026-11-22T09:00:00Z",
                    "2026-11-22T09:30:00Z",
                    "2026-11-22T10:00:00Z",
                    "2026-11-22T10:30:00Z",
                ],
            ),
            (
                "0 12 29 2 *",
                "UTC",
                "2026-01-01T00:00:00Z",
                &[
                    "2028-02-29T12:00:00Z",
                    "2032-02-29T12:00:00Z",
                    "2036-02-29T12:00:00Z",
                ],
            ),
            (
                // 2100 is no leap year.
                "0 12 29 2 *",
                "UTC",
                "2096-03-01T00:00:00Z",
                &["2104-02-29T12:00:00Z"],
            ),
            (
                "0 0 31 * *",
                "UTC",
                "2026-01-31T00:00:00Z",
                &[
                    "2026-03-31T00:00:00Z",
                    "2026-05-31T00:00:00Z",
                    "2026-07-31T00:00:00Z",
                    "2026-08-31T00:00:00Z",
                    "2026-10-31T00:00:00Z",
                ],
            ),
            (
                // Both days restricted: either will do. 13 November 2026 is a Friday.
                "0 0 13 * fri",
                "UTC",
                "2026-11-01T00:00:00Z",
                &[
                    "2026-11-06T00:00:00Z",
                    "2026-11-13T00:00:00Z",
                    "2026-11-20T00:00:00Z",
                    "2026-11-27T00:00:00Z",
                    "2026-12-04T00:00:00Z",
                    "2026-12-11T00:00:00Z",
                    "2026-12-13T00:00:00Z",
                ],
            ),
            (
                // One begins with a star: both must fit.
                "0 0 */2 * mon",
                "UTC",
                "2026-11-01T00:00:00Z",
                &["2026-11-09T00:00:00Z", "2026-11-23T00:00:00Z"],
            ),
            (
                "5,10-12 8-9 * Jan,DEC Mon-Fri",
                "UTC",
                "2026-12-04T09:10:30Z",
                &[
                    "2026-12-04T09:11:00Z",
                    "2026-12-04T09:12:00Z",
                    "2026-12-07T08:05:00Z",
                ],
            ),
            (
                "0 6 * * 0",
                "UTC",
                "2026-11-22T06:00:00Z",
                &["2026-11-29T06:00:00Z"],
            ),
            (
                "0 6 * * 7",
                "UTC",
                "2026-11-22T06:00:00Z",
                &["2026-11-29T06:00:00Z"],
            ),
            (
                "0 6 * * sat-sun",
                "UTC",
                "2026-11-22T06:00:00Z",
                &["2026-11-28T06:00:00Z", "2026-11-29T06:00:00Z"],
            ),
            (
                "10-50/20 3 * * *",
                "Asia/Kolkata",
                "2026-11-22T00:00:00Z",
                &[
                    "2026-11-22T21:40:00Z",
                    "2026-11-22T22:00:00Z",
                    "2026-11-22T22:20:00Z",
                ],
            ),
            (
                "@yearly",
                "UTC",
                "2026-11-22T00:00:00Z",
                &["2027-01-01T00:00:00Z"],
            ),
            (
                "@annually",
                "UTC",
                "2026-11-22T00:00:00Z",
                &["2027-01-01T00:00:00Z"],
            ),
            (
                "@monthly",
                "UTC",
                "2026-11-22T00:00:00Z",
                &["2026-12-01T00:00:00Z"],
            ),
            (
                "@weekly",
                "UTC",
                "2026-11-22T00:00:00Z",
                &["2026-11-29T00:00:00Z"],
            ),
            (
                "@Daily",
                "UTC",
                "2026-11-22T00:00:00Z",
                &["2026-11-23T00:00:00Z"],
            ),
            (
                "@midnight",
                "Europe/Berlin",
                "2026-11-22T00:00:00Z",
                &["2026-11-22T23:00:00Z"],
            ),
            (
                "@hourly",
                "UTC",
                "2026-11-22T00:59:59Z",
                &["2026-11-22T01:00:00Z"],
            ),
        ];
        for (line, zone, after, expected) in cases {
            assert_eq!(
                times(line, zone, after, expected.len()),
                *expected,
                "{line}"
            );
        }
    }

    #[test]
    fn what_the_clock_skips_comes_once_when_it_is_put_on() {
        // Berlin: from 02:00 to 03:00 on 29 March 2026, which is 01:00 UTC.
        let after = "2026-03-28T12:00:00Z";
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", after, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // Several skipped times are one.
        assert_eq!(
            times("0,15,30 2 * * *", "Europe/Berlin", after, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
        );
        // One that is there anyway is not doubled.
        assert_eq!(
            times("0 2,3 * * *", "Europe/Berlin", after, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
        );
        // New York: from 02:00 to 03:00 on 8 March 2026, which is 07:00 UTC.
        assert_eq!(
            times("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
            ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]
        );
        // A line for every hour, or every so many, is no exception.
        assert_eq!(
            times("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4),
            [
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-29T02:30:00Z"
            ]
        );
        assert_eq!(
            times("30 */2 * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", 3),
            [
                "2026-03-28T23:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T02:30:00Z"
            ]
        );
        // What is every few minutes comes as it would, the first time at the end of the gap.
        assert_eq!(
            times("*/20 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 3),
            [
                "2026-03-29T00:40:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:20:00Z"
            ]
        );
        // Lord Howe Island skips half an hour: from 02:00 to 02:30 on 4 October 2026.
        assert_eq!(
            times(
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                2
            ),
            ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]
        );
        // Samoa left out 30 December 2011; that day's times come as it begins the next.
        assert_eq!(
            times("0 8 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
            ["2011-12-30T10:00:00Z"]
        );
    }

    #[test]
    fn what_the_clock_repeats_comes_once() {
        // Berlin: from 03:00 back to 02:00 on 25 October 2026, which is 01:00 UTC.
        let after = "2026-10-24T12:00:00Z";
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", after, 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            times("*/30 2 * * *", "Europe/Berlin", after, 3),
            [
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:00:00Z"
            ]
        );
        // Looked at from within the second 02:00 to 03:00.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00Z", 1),
            ["2026-10-26T01:30:00Z"]
        );
        // New York: from 02:00 back to 01:00 on 1 November 2026, which is 06:00 UTC.
        assert_eq!(
            times("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
            ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
        );
        // A line for every hour, or every few minutes, is no exception.
        assert_eq!(
            times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3),
            [
                "2026-10-25T00:00:00Z",
                "2026-10-25T02:00:00Z",
                "2026-10-25T03:00:00Z"
            ]
        );
        assert_eq!(
            times("0 */2 * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 2),
            ["2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"]
        );
        assert_eq!(
            times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            [
                "2026-10-25T00:30:00Z",
                "2026-10-25T02:00:00Z",
                "2026-10-25T02:30:00Z"
            ]
        );
        // Sao Paulo: from 24:00 back to 23:00 on 17 February 2018, which is 02:00 UTC on the 18th.
        assert_eq!(
            times("0 * * * *", "America/Sao_Paulo", "2018-02-18T00:30:00Z", 3),
            [
                "2018-02-18T01:00:00Z",
                "2018-02-18T03:00:00Z",
                "2018-02-18T04:00:00Z"
            ]
        );
    }

    #[test]
    fn the_newest_time_of_a_span_is_found_without_a_walk_through_all() {
        let newest = |line: &str, after: &str, until: &str| {
            let cron: Cron = line.parse().unwrap();
            let zone = ZoneName::utc().unwrap();
            cron.newest(&zone, after.parse().unwrap(), until.parse().unwrap())
                .map(|time| time.to_string())
        };
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(
            newest("* * * * *", "1990-01-01T00:00:00Z", "2026-11-22T08:00:30Z"),
            of("2026-11-22T08:00:00Z")
        );
        assert_eq!(
            newest("0 0 29 2 *", "1990-01-01T00:00:00Z", "2026-11-22T08:00:00Z"),
            of("2024-02-29T00:00:00Z")
        );
        assert_eq!(
            newest("0 8 * * *", "2026-11-22T08:00:00Z", "2026-11-23T07:59:59Z"),
            None
        );
        assert_eq!(
            newest("0 8 * * *", "2026-11-23T08:00:00Z", "2026-11-22T08:00:00Z"),
            None
        );
    }

    #[test]
    fn a_line_that_is_wrong_is_told_by_its_field() {
        for (line, parts) in [
            ("", &["five fields", "not 0"][..]),
            ("* * * *", &["five fields", "not 4"]),
            ("0 * * * * *", &["five fields", "not 6"]),
            ("60 * * * *", &["the minute takes 0 to 59", "`60`"]),
            ("* 24 * * *", &["the hour takes 0 to 23", "`24`"]),
            ("* * 0 * *", &["the day of month takes 1 to 31", "`0`"]),
            ("* * 32 * *", &["the day of month", "`32`"]),
            (
                "* * * 13 *",
                &["the month takes 1 to 12 or jan to dec", "`13`"],
            ),
            ("* * * foo *", &["the month", "`foo`"]),
            (
                "* * * * 8",
                &["the day of week takes 0 to 7 or sun to sat", "`8`"],
            ),
            ("* * * * monday", &["the day of week", "`monday`"]),
            ("30-10 * * * *", &["the minute", "ends before it begins"]),
            ("*/0 * * * *", &["the minute", "step from 1 to 59"]),
            ("* */24 * * *", &["the hour", "step from 1 to 23"]),
            ("*/x * * * *", &["the minute", "step"]),
            ("5/15 * * * *", &["the minute", "step without"]),
            ("1,,2 * * * *", &["the minute", "`` is none"]),
            ("+5 * * * *", &["the minute", "`+5`"]),
            ("-5 * * * *", &["the minute", "`-5`"]),
            ("1-2-3 * * * *", &["the minute", "`1-2-3`"]),
            ("* * L * *", &["the day of month", "`L`"]),
            ("* * * * 1#2", &["the day of week", "`1#2`"]),
            ("0 0 30 2 *", &["never comes"]),
            ("0 0 31 4,6,9,11 *", &["never comes"]),
            ("@reboot", &["@hourly"]),
            ("\u{1b}[2J * * * *", &["the minute", "\\u{1b}"]),
        ] {
            let error = line.parse::<Cron>().unwrap_err();
            assert_eq!(error.field, Some("cron"), "{line}");
            for part in parts {
                assert!(error.public.contains(part), "{line}: {error}");
            }
        }
        assert!("9".repeat(300).parse::<Cron>().is_err());
        assert!("0 0 30 2 1".parse::<Cron>().is_ok());
        for bad in ["Mars/Phobos", "", "../UTC", "UTC0", "Europe"] {
            let error = bad.parse::<ZoneName>().unwrap_err();
            assert!(error.public.contains("Europe/Berlin"), "{bad}: {error}");
        }
    }
}
