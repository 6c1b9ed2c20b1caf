//! Requests a second, of clients and of organizations: a bucket each, in memory. Where no quota limits
//! them nothing is looked up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::id::{ClientId, OrgId};
use crate::model::quota::Pace;

/// More requests than a quota allows.
pub const QUOTA_REQUESTS: &str = "quota_requests";
/// Buckets that are kept. One that has filled up again, a second later, need not be.
const MOST: usize = 65_536;
/// A request, in the unit of buckets: what a rate of one a second fills in a microsecond is 1.
const ONE: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Client(ClientId),
    Org(OrgId),
}

#[derive(Clone, Copy)]
struct Bucket {
    left: u64,
    at: Timestamp,
}

#[derive(Default)]
pub struct Paces(Mutex<HashMap<Whose, Bucket>>);

impl Paces {
    /// Takes a request out of the client's bucket and out of its organization's, or out of neither.
    ///
    /// # Errors
    /// `quota_requests`.
    pub fn take(&self, client: ClientId, org: OrgId, pace: Pace, now: Timestamp) -> Result<()> {
        if pace == Pace::default() {
            return Ok(());
        }
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST {
            forget_full(&mut buckets, now);
        }
        let limits = [
            (Whose::Client(client), pace.client),
            (Whose::Org(org), pace.org),
        ];
        let limits = limits.map(|(whose, rate)| rate.map(|rate| (whose, rate)));
        // Both are brought up to now first, whatever comes of it: of a clock that was set back they
        // would keep a time that is long in coming.
        let mut refused = None;
        for (whose, rate) in limits.into_iter().flatten() {
            let bucket = filled(buckets.get(&whose), rate, now);
            buckets.insert(whose, bucket);
            if bucket.left < ONE && refused.is_none() {
                refused = Some(over(whose, rate));
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        for (whose, _) in limits.into_iter().flatten() {
            if let Some(bucket) = buckets.get_mut(&whose) {
                bucket.left -= ONE;
            }
        }
        Ok(())
    }

    /// Drops what has filled up again.
    pub fn forget(&self, now: Timestamp) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|_, bucket| is_young(bucket, now));
        buckets.shrink_to(1_024);
    }
}

/// As it is now. A clock that was set back fills nothing, and takes nothing away.
fn filled(bucket: Option<&Bucket>, rate: u32, now: Timestamp) -> Bucket {
    let rate = u64::from(rate);
    let full = rate * ONE;
    let left = match bucket {
        None => full,
        Some(bucket) => {
            let elapsed = (now.0.saturating_sub(bucket.at.0)).clamp(0, Timestamp::SECOND);
            (bucket.left + elapsed.unsigned_abs() * rate).min(full)
        }
    };
    Bucket { left, at: now }
}

/// Whether it may lack something: whatever its rate, a second fills it.
fn is_young(bucket: &Bucket, now: Timestamp) -> bool {
    (0..Timestamp::SECOND).contains(&now.0.saturating_sub(bucket.at.0))
}

/// So many clients within one second are more than the server answers; if it is so all the same, they
/// begin anew.
fn forget_full(buckets: &mut HashMap<Whose, Bucket>, now: Timestamp) {
    buckets.retain(|_, bucket| is_young(bucket, now));
    if buckets.len() >= MOST {
        buckets.clear();
    }
}

fn over(whose: Whose, rate: u32) -> Error {
    let text = match whose {
        Whose::Client(_) => format!(
            "the client's quota is {rate} requests a second; slow down, or ask an administrator of its organization for a higher one"
        ),
        Whose::Org(_) => format!(
            "the organization's quota is {rate} requests a second, for all its clients together; slow down, or ask an administrator of this server for a higher one"
        ),
    };
    // Within a second there is at least one again.
    Error::new(Kind::Limited, QUOTA_REQUESTS, text).after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_000_000 * Timestamp::SECOND);

    fn pace(client: Option<u32>, org: Option<u32>) -> Pace {
        Pace { client, org }
    }

    /// How many of a hundred requests at one moment are let through.
    fn burst(paces: &Paces, client: ClientId, org: OrgId, pace: Pace, now: Timestamp) -> usize {
        (0..100)
            .filter(|_| paces.take(client, org, pace, now).is_ok())
            .count()
    }

    #[test]
    fn a_client_has_its_rate_and_after_a_pause_as_many_at_once() {
        let (paces, client, org) = (Paces::default(), ClientId::new(), OrgId::new());
        let limit = pace(Some(10), None);
        assert_eq!(burst(&paces, client, org, limit, NOON), 10);
        let refused = paces.take(client, org, limit, NOON).unwrap_err();
        assert_eq!(
            (refused.code, refused.retry_after),
            ("quota_requests", Some(1))
        );
        let later = |micros| NOON.plus(micros);
        assert_eq!(burst(&paces, client, org, limit, later(99_999)), 0);
        assert_eq!(burst(&paces, client, org, limit, later(100_000)), 1);
        assert_eq!(burst(&paces, client, org, limit, later(600_000)), 5);
        assert_eq!(
            burst(&paces, client, org, limit, later(90 * Timestamp::SECOND)),
            10
        );
        // Another client is not slowed down, and none at all without a limit.
        assert_eq!(burst(&paces, ClientId::new(), org, limit, NOON), 10);
        assert_eq!(burst(&paces, client, org, Pace::default(), NOON), 100);
    }

    #[test]
    fn clients_share_their_organizations_bucket_and_whoever_is_refused_takes_nothing() {
        let (paces, org) = (Paces::default(), OrgId::new());
        let (one, two) = (ClientId::new(), ClientId::new());
        assert_eq!(burst(&paces, one, org, pace(Some(20), Some(30)), NOON), 20);
        assert_eq!(burst(&paces, two, org, pace(Some(20), Some(30)), NOON), 10);
        // What its organization refused is still the client's own.
        assert_eq!(burst(&paces, two, org, pace(Some(20), None), NOON), 10);
        assert_eq!(
            burst(&paces, one, OrgId::new(), pace(None, Some(7)), NOON),
            7
        );
    }

    #[test]
    fn a_new_rate_holds_at_once() {
        let (paces, client, org) = (Paces::default(), ClientId::new(), OrgId::new());
        paces.take(client, org, pace(Some(50), None), NOON).unwrap();
        assert_eq!(burst(&paces, client, org, pace(Some(3), None), NOON), 3);
        let later = NOON.plus(Timestamp::SECOND);
        assert_eq!(burst(&paces, client, org, pace(Some(50), None), later), 50);
        assert_eq!(
            burst(
                &paces,
                client,
                org,
                pace(Some(1_000_000), None),
                later.plus(1_000)
            ),
            100
        );
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let (paces, client, org) = (Paces::default(), ClientId::new(), OrgId::new());
        let limit = pace(Some(2), None);
        assert_eq!(burst(&paces, client, org, limit, NOON), 2);
        let before = NOON.plus(-Timestamp::DAY);
        assert_eq!(burst(&paces, client, org, limit, before), 0);
        assert_eq!(burst(&paces, client, org, limit, before.plus(500_000)), 1);
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_when_it_is_full_again() {
        let (paces, org) = (Paces::default(), OrgId::new());
        for n in 0..i64::try_from(MOST).unwrap() + 10 {
            let now = NOON.plus(n * 100);
            paces
                .take(ClientId::new(), org, pace(Some(1), None), now)
                .unwrap();
        }
        let kept = || paces.0.lock().unwrap().len();
        assert!(kept() <= MOST, "{}", kept());
        paces.forget(NOON.plus(Timestamp::HOUR));
        assert_eq!(kept(), 0);
    }
}
