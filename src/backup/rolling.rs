//! Which backups stay when a new one came: decided by their times alone.

use crate::clock::Timestamp;

/// How many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    pub hourly: usize,
    pub daily: usize,
    pub weekly: usize,
    pub monthly: usize,
}

/// Which hour, day, week or month a time is in.
type Span = fn(Timestamp) -> i64;

/// For each of `times`, which go from the newest to the oldest, whether it stays. The newest one always
/// does; then, of each rung, the newest of each of the last hours, days, weeks and months (UTC, weeks begin
/// on Monday) of which there is one.
pub fn stays(times: &[Timestamp], ladder: Ladder) -> Vec<bool> {
    let mut stays = vec![false; times.len()];
    if let Some(newest) = stays.first_mut() {
        *newest = true;
    }
    let rungs: [(usize, Span); 4] = [
        (ladder.hourly, |it| it.0.div_euclid(Timestamp::HOUR)),
        (ladder.daily, |it| it.0.div_euclid(Timestamp::DAY)),
        // 1970-01-01 was a Thursday.
        (ladder.weekly, |it| {
            (it.0.div_euclid(Timestamp::DAY) + 3).div_euclid(7)
        }),
        (ladder.monthly, Timestamp::month),
    ];
    for (most, span) in rungs {
        let mut spans = Vec::new();
        for (at, time) in times.iter().enumerate() {
            let span = span(*time);
            if spans.len() == most {
                break;
            }
            if spans.last() != Some(&span) {
                spans.push(span);
                stays[at] = true;
            }
        }
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: Ladder = Ladder {
        hourly: 24,
        daily: 14,
        weekly: 8,
        monthly: 12,
    };

    fn kept(times: &[Timestamp], ladder: Ladder) -> Vec<Timestamp> {
        let stays = stays(times, ladder);
        let kept = times.iter().zip(stays).filter(|(_, stays)| *stays);
        kept.map(|(time, _)| *time).collect()
    }

    #[test]
    fn a_year_of_hourly_backups_becomes_a_ladder() {
        let end: Timestamp = "2026-11-22T16:00:00Z".parse().unwrap();
        // As it goes: each hour one comes, and what does not stay goes.
        let mut there: Vec<Timestamp> = Vec::new();
        for hour in (0..366 * 24).rev() {
            there.insert(0, end.plus(-hour * Timestamp::HOUR));
            there = kept(&there, LADDER);
            assert!(there.len() <= 24 + 14 + 8 + 12);
        }
        let text: Vec<String> = there.iter().map(Timestamp::to_string).collect();
        assert_eq!(text[..24].len(), 24);
        assert_eq!(text[23], "2026-11-21T17:00:00Z");
        // The newest of each day before, then of each week, then of each month.
        assert_eq!(text[24], "2026-11-20T23:00:00Z");
        assert!(text.contains(&"2026-11-09T23:00:00Z".to_owned()));
        assert!(text.contains(&"2026-11-01T23:00:00Z".to_owned()));
        assert!(text.contains(&"2026-10-31T23:00:00Z".to_owned()));
        assert_eq!(text.last().unwrap(), "2025-12-31T23:00:00Z");
    }

    #[test]
    fn the_newest_stays_whatever_is_asked() {
        let none = Ladder {
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
        };
        let times = [3, 2, 1].map(|it| Timestamp(it * Timestamp::DAY));
        assert_eq!(stays(&times, none), [true, false, false]);
        assert!(stays(&[], LADDER).is_empty());
    }

    #[test]
    fn of_one_hour_the_newest_stays() {
        let times = [50, 40, 30, -5].map(|it| Timestamp(it * 60 * Timestamp::SECOND));
        let ladder = Ladder {
            hourly: 2,
            daily: 0,
            weekly: 0,
            monthly: 0,
        };
        assert_eq!(stays(&times, ladder), [true, false, false, true]);
    }
}
