//! Slows down guessing. In memory and bounded: it delays, and locks nobody out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::limited;
use crate::clock::Timestamp;
use crate::error::Result;

/// Entries that are kept; beyond, the oldest are forgotten.
const ENTRIES: usize = 20_000;
/// The longest wait after a failure, in seconds.
const LONGEST: i64 = 30;
/// Failures are forgotten after a quarter of an hour without one.
const MEMORY: i64 = 900 * Timestamp::SECOND;

#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<String, Failures>>,
    noted: Mutex<HashMap<(String, &'static str), i64>>,
}

struct Failures {
    count: u32,
    last: Timestamp,
}

impl Failures {
    /// None, 1, 2, 4 … 30 seconds; the first two are a person's slip.
    fn wait(&self) -> i64 {
        match self.count {
            0..=2 => 0,
            count => (1_i64 << (count - 3).min(5)).min(LONGEST),
        }
    }
}

impl Throttle {
    /// Refuses an attempt that comes too soon after failed ones.
    pub fn check(&self, who: &str, now: Timestamp) -> Result<()> {
        let failures = lock(&self.failures);
        let Some(known) = failures.get(who) else {
            return Ok(());
        };
        let left = known.last.plus(known.wait() * Timestamp::SECOND).0 - now.0;
        if left <= 0 {
            return Ok(());
        }
        Err(limited(
            u32::try_from(left / Timestamp::SECOND + 1).unwrap_or(1),
        ))
    }

    pub fn failed(&self, who: &str, now: Timestamp) {
        let mut failures = lock(&self.failures);
        if failures.len() >= ENTRIES {
            failures.retain(|_, known| known.last.plus(60 * Timestamp::SECOND) > now);
        }
        let known = failures.entry(who.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
        });
        known.count = known.count.saturating_add(1);
        known.last = now;
    }

    pub fn succeeded(&self, who: &str) {
        lock(&self.failures).remove(who);
    }

    /// True once per source, reason and minute.
    pub fn first_this_minute(&self, source: &str, reason: &'static str, now: Timestamp) -> bool {
        let minute = now.0 / (60 * Timestamp::SECOND);
        let mut noted = lock(&self.noted);
        if noted.len() >= ENTRIES {
            noted.retain(|_, at| *at == minute);
        }
        noted.insert((source.to_owned(), reason), minute) != Some(minute)
    }

    pub fn forget(&self, now: Timestamp) {
        lock(&self.failures).retain(|_, known| known.last.plus(MEMORY) > now);
        let minute = now.0 / (60 * Timestamp::SECOND);
        lock(&self.noted).retain(|_, at| *at == minute);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_slow_down_and_are_forgotten() {
        let throttle = Throttle::default();
        let mut now = Timestamp(1_000 * Timestamp::SECOND);
        for _ in 0..3 {
            assert!(throttle.check("a", now).is_ok());
            throttle.failed("a", now);
        }
        assert_eq!(throttle.check("a", now).unwrap_err().retry_after, Some(2));
        assert!(throttle.check("b", now).is_ok());
        for _ in 0..40 {
            throttle.failed("a", now);
        }
        now = now.plus(LONGEST * Timestamp::SECOND);
        assert!(
            throttle.check("a", now).is_ok(),
            "never more than 30 seconds"
        );
        throttle.forget(now.plus(MEMORY));
        throttle.failed("a", now.plus(MEMORY));
        assert!(throttle.check("a", now.plus(MEMORY)).is_ok());
    }

    #[test]
    fn a_refusal_is_noted_once_a_minute() {
        let throttle = Throttle::default();
        let now = Timestamp(60 * Timestamp::SECOND);
        assert!(throttle.first_this_minute("::1", "denied", now));
        assert!(!throttle.first_this_minute("::1", "denied", now.plus(Timestamp::SECOND)));
        assert!(throttle.first_this_minute("::1", "other", now));
        assert!(throttle.first_this_minute("::1", "denied", now.plus(60 * Timestamp::SECOND)));
    }
}
