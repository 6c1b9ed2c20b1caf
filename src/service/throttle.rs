//! Slows down guessing. In memory and bounded: it delays, and locks nobody out.

use std::collections::{HashMap, HashSet};
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
/// Attempts at once before any has failed; then one.
const AT_ONCE: u32 = 4;

#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<String, Failures>>,
    noted: Mutex<Noted>,
}

/// The refusals of one minute.
#[derive(Default)]
struct Noted {
    minute: i64,
    seen: HashSet<(String, &'static str)>,
}

struct Failures {
    count: u32,
    /// Attempts whose outcome is not known yet: each may be a failure.
    open: u32,
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

    /// In whole seconds, from `now`.
    fn left(&self, now: Timestamp) -> Option<u32> {
        let wait = self.wait() * Timestamp::SECOND;
        // Never longer than the wait itself, wherever the clock was set.
        let left = (self.last.plus(wait).0 - now.0).min(wait);
        (left > 0).then(|| u32::try_from(left / Timestamp::SECOND + 1).unwrap_or(1))
    }
}

/// One attempt, from before its secret is looked at to its outcome; dropped, it had none.
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    who: String,
}

impl Attempt<'_> {
    pub fn failed(self, now: Timestamp) {
        let mut failures = lock(&self.throttle.failures);
        if let Some(known) = failures.get_mut(&self.who) {
            known.count = known.count.saturating_add(1);
            known.last = now;
        }
    }

    /// Forgets the failures before it.
    pub fn succeeded(self) {
        let mut failures = lock(&self.throttle.failures);
        if let Some(known) = failures.get_mut(&self.who) {
            known.count = 0;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut failures = lock(&self.throttle.failures);
        if let Some(known) = failures.get_mut(&self.who) {
            known.open = known.open.saturating_sub(1);
            if known.open == 0 && known.count == 0 {
                failures.remove(&self.who);
            }
        }
    }
}

impl Throttle {
    /// Refuses an attempt that comes too soon after failed ones, or beside too many others.
    pub fn attempt(&self, who: String, now: Timestamp) -> Result<Attempt<'_>> {
        let mut failures = lock(&self.failures);
        if failures.len() >= ENTRIES {
            forget_oldest(&mut failures);
        }
        let known = failures.entry(who.clone()).or_insert(Failures {
            count: 0,
            open: 0,
            last: now,
        });
        if let Some(seconds) = known.left(now) {
            return Err(limited(seconds));
        }
        if known.open >= if known.count < 2 { AT_ONCE } else { 1 } {
            return Err(limited(1));
        }
        known.open += 1;
        drop(failures);
        Ok(Attempt {
            throttle: self,
            who,
        })
    }

    /// True once per source, reason and minute.
    pub fn first_this_minute(&self, source: &str, reason: &'static str, now: Timestamp) -> bool {
        let minute = now.0 / (60 * Timestamp::SECOND);
        let mut noted = lock(&self.noted);
        if noted.minute != minute {
            noted.minute = minute;
            noted.seen.clear();
        }
        // So many addresses in one minute are one attack, noted as that.
        let full = noted.seen.len() >= ENTRIES;
        let source = if full { "" } else { source };
        noted.seen.insert((source.to_owned(), reason))
    }

    pub fn forget(&self, now: Timestamp) {
        lock(&self.failures).retain(|_, known| known.open > 0 || known.last.plus(MEMORY) > now);
    }
}

/// A tenth of them, so that the next thousands need not look again.
fn forget_oldest(failures: &mut HashMap<String, Failures>) {
    let mut ends: Vec<Timestamp> = failures.values().map(|known| known.last).collect();
    let (_, end, _) = ends.select_nth_unstable(ENTRIES / 10);
    let end = *end;
    failures.retain(|_, known| known.last > end);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_wait_longer() {
        let failures = Failures {
            count: 20,
            open: 0,
            last: Timestamp(100 * Timestamp::HOUR),
        };
        let left = failures.left(Timestamp(Timestamp::HOUR)).unwrap();
        assert!(i64::from(left) <= LONGEST + 1, "{left}");
    }

    #[test]
    fn failures_slow_down_and_are_forgotten() {
        let throttle = Throttle::default();
        let mut now = Timestamp(1_000 * Timestamp::SECOND);
        let attempt = |who: &str, now| throttle.attempt(who.to_owned(), now);
        for _ in 0..3 {
            attempt("a", now)
                .unwrap_or_else(|e| panic!("{e}"))
                .failed(now);
        }
        assert_eq!(attempt("a", now).err().unwrap().retry_after, Some(2));
        assert!(attempt("b", now).is_ok());
        for _ in 0..40 {
            now = now.plus(LONGEST * Timestamp::SECOND);
            let known = attempt("a", now).unwrap_or_else(|e| panic!("more than 30 seconds: {e}"));
            known.failed(now);
        }
        throttle.forget(now.plus(MEMORY));
        assert!(lock(&throttle.failures).is_empty());
    }

    #[test]
    fn attempts_at_once_are_few_and_one_after_failures() {
        let throttle = Throttle::default();
        let now = Timestamp(1_000 * Timestamp::SECOND);
        let attempt = || throttle.attempt("a".to_owned(), now);
        let mut open: Vec<Attempt<'_>> = (0..AT_ONCE).map_while(|_| attempt().ok()).collect();
        assert_eq!(open.len(), AT_ONCE as usize);
        assert!(attempt().is_err());
        open.drain(..2).for_each(|attempt| attempt.failed(now));
        drop(open);
        let one = attempt().unwrap_or_else(|e| panic!("{e}"));
        assert!(attempt().is_err());
        one.succeeded();
        assert!(lock(&throttle.failures).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..3 * ENTRIES {
            let now = Timestamp(n as i64);
            if let Ok(attempt) = throttle.attempt(n.to_string(), now) {
                attempt.failed(now);
            }
            throttle.first_this_minute(&n.to_string(), "denied", now);
        }
        assert!(lock(&throttle.failures).len() <= ENTRIES);
        assert!(lock(&throttle.noted).seen.len() <= ENTRIES + 1);
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
