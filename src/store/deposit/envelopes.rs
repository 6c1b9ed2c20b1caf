//! Envelopes that were fetched lately, as sealed as they lie on the disk: a hot read asks no database
//! and opens no page. A change takes what it outdates away before its commit, and lets nothing in
//! that was read before the commit's end, so an answer is never older than another one was. What may be
//! fetched so many times alone is never kept.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::body::Sealed;
use super::row::{Head, Which};
use crate::error::Result;

/// Longer ones are read anew each time: they would push out too many others.
const LONGEST: usize = 64 << 10;
/// Beside the bytes: key, head, and the cache's own entry.
const OVERHEAD: usize = 432;
/// Changes of different stripes do not keep each other's readers out.
const STRIPES: usize = 256;

pub(in crate::store) struct Envelopes {
    kept: Cache<Which, Arc<Sealed>, Weight, RandomState, DefaultLifecycle<Which, Arc<Sealed>>>,
    stripes: Vec<Mutex<Stripe>>,
    hasher: RandomState,
}

/// What may be kept of the deposits whose hash falls here.
#[derive(Default)]
struct Stripe {
    /// Changes that came to their end.
    ended: u64,
    /// Changes on their way to the commit.
    open: u32,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Which, Arc<Sealed>> for Weight {
    fn weight(&self, _: &Which, sealed: &Arc<Sealed>) -> u64 {
        (sealed.inline_bytes() + OVERHEAD) as u64
    }
}

impl Envelopes {
    /// Keeps so many bytes, with what keeping them costs.
    pub fn new(bytes: u64) -> Self {
        let hasher = RandomState::new();
        Self {
            kept: Cache::with(
                usize::try_from(bytes).unwrap_or(usize::MAX) / (1_024 + OVERHEAD),
                bytes,
                Weight,
                hasher.clone(),
                DefaultLifecycle::default(),
            ),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher,
        }
    }

    /// The newest version of a deposit: kept, or read now.
    pub fn find(
        &self,
        which: &Which,
        read: impl FnOnce() -> Result<Sealed>,
    ) -> Result<Arc<Sealed>> {
        if let Some(sealed) = self.kept.get(which) {
            return Ok(sealed);
        }
        let before = {
            let stripe = self.stripe(which);
            (stripe.open == 0).then_some(stripe.ended)
        };
        let sealed = Arc::new(read()?);
        if let Some(before) = before
            && sealed.inline_bytes() <= LONGEST
            && !sealed.is_limited()
        {
            // Held while it goes in: no change begins in between.
            let stripe = self.stripe(which);
            if stripe.open == 0 && stripe.ended == before {
                self.kept.insert(which.clone(), Arc::clone(&sealed));
            }
        }
        Ok(sealed)
    }

    /// Takes away what a transaction outdates, before its commit. What is returned is dropped after
    /// the commit and before its answers.
    pub fn outdate(self: &Arc<Self>, changed: Vec<Which>) -> Outdated {
        for which in &changed {
            self.stripe(which).open += 1;
            self.kept.remove(which);
        }
        Outdated {
            envelopes: Arc::clone(self),
            changed,
        }
    }

    fn stripe(&self, which: &Which) -> MutexGuard<'_, Stripe> {
        let at = self.hasher.hash_one(which) as usize % STRIPES;
        self.stripes[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deposits that a transaction changes.
pub(in crate::store) struct Outdated {
    envelopes: Arc<Envelopes>,
    changed: Vec<Which>,
}

impl Drop for Outdated {
    fn drop(&mut self) {
        for which in &self.changed {
            let mut stripe = self.envelopes.stripe(which);
            stripe.open -= 1;
            stripe.ended += 1;
        }
    }
}

/// How a deposit may be asked for.
pub(in crate::store) fn names_of(head: &Head) -> [Which; 2] {
    [
        Which::Name(head.org, head.deposit.name.clone()),
        Which::Id(head.deposit.id),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::sealed;
    use super::*;
    use crate::error::Error;
    use crate::model::id::DepositId;

    const KEPT: u64 = 32 << 20;

    fn version(envelopes: &Envelopes, which: &Which, there: u32) -> u32 {
        let found = envelopes.find(which, || Ok(sealed(there, 40)));
        found.unwrap().version
    }

    #[test]
    fn an_envelope_is_read_once_until_a_change_outdates_it() {
        let envelopes = Arc::new(Envelopes::new(KEPT));
        let which = Which::Id(DepositId::new());
        assert_eq!(version(&envelopes, &which, 1), 1);
        assert_eq!(version(&envelopes, &which, 2), 1, "kept");
        drop(envelopes.outdate(vec![which.clone()]));
        assert_eq!(version(&envelopes, &which, 2), 2);
    }

    #[test]
    fn nothing_is_kept_while_a_change_is_on_its_way() {
        let envelopes = Arc::new(Envelopes::new(KEPT));
        let which = Which::Id(DepositId::new());
        let change = envelopes.outdate(vec![which.clone()]);
        assert_eq!(version(&envelopes, &which, 1), 1);
        drop(change);
        assert_eq!(version(&envelopes, &which, 2), 2);
    }

    #[test]
    fn what_a_change_overtook_while_it_was_read_is_not_kept() {
        let envelopes = Arc::new(Envelopes::new(KEPT));
        let which = Which::Id(DepositId::new());
        let overtaken = envelopes.find(&which, || {
            drop(envelopes.outdate(vec![which.clone()]));
            Ok(sealed(1, 40))
        });
        assert_eq!(overtaken.unwrap().version, 1);
        assert_eq!(version(&envelopes, &which, 2), 2);
    }

    #[test]
    fn limited_ones_long_ones_and_failures_are_not_kept() {
        let envelopes = Arc::new(Envelopes::new(KEPT));
        let which = Which::Id(DepositId::new());
        let long = envelopes.find(&which, || Ok(sealed(1, LONGEST + 1)));
        assert_eq!(long.unwrap().version, 1);
        let mut limited = sealed(1, 40);
        limited.head.policy.max_retrievals = Some(3);
        let limited = envelopes.find(&which, || Ok(limited));
        assert_eq!(limited.unwrap().version, 1);
        let lost = envelopes.find(&which, || Err(Error::not_found("gone")));
        assert!(lost.is_err());
        assert_eq!(version(&envelopes, &which, 3), 3);
    }

    #[test]
    fn what_is_kept_stays_within_its_bounds() {
        let envelopes = Envelopes::new(KEPT);
        for _ in 0..4_000 {
            let which = Which::Id(DepositId::new());
            envelopes.find(&which, || Ok(sealed(1, LONGEST))).unwrap();
        }
        assert!(envelopes.kept.weight() <= KEPT && envelopes.kept.weight() > KEPT / 2);
    }
}
