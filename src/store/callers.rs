//! Clients that asked lately, so that a request costs no read of who asks. Whatever might change a
//! client outdates all of them after its commit and before its answer, so whoever was disabled is
//! refused from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::client::Registrant;
use crate::error::Result;
use crate::model::id::Fingerprint;

/// More than that many at once, and all are read anew.
const MOST: usize = 16_384;

#[derive(Default)]
pub(super) struct Callers {
    /// Counts commits that might have changed a client.
    revision: AtomicU64,
    known: RwLock<HashMap<Fingerprint, (u64, Arc<Registrant>)>>,
}

impl Callers {
    /// After a commit, before it is answered.
    pub fn outdate(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    /// The client that has this key, as it was at a moment that no answered change came after.
    /// Keys without a client are not kept: anyone can make as many as he likes.
    pub fn find(
        &self,
        key: &Fingerprint,
        read: impl FnOnce() -> Result<Option<Registrant>>,
    ) -> Result<Option<Arc<Registrant>>> {
        // Taken before the read: what a commit in between outdates is never found again.
        let revision = self.revision.load(Ordering::Acquire);
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, found)) = known.get(key).filter(|(at, _)| *at == revision) {
                return Ok(Some(Arc::clone(found)));
            }
        }
        let Some(found) = read()?.map(Arc::new) else {
            return Ok(None);
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(*key, (revision, Arc::clone(&found)));
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::client::{Client, ClientState};
    use crate::model::id::{ClientId, OrgId};
    use crate::model::quota::Quota;

    fn client(key: Fingerprint, state: ClientState) -> Registrant {
        Registrant {
            client: Client {
                id: ClientId::new(),
                org: "acme".parse().unwrap(),
                fingerprint: key,
                state,
                description: String::new(),
                age_recipient: None,
                created: Timestamp(0),
                pending_until: None,
                registered_from: String::new(),
                reason: None,
                deposits: 0,
                bytes: 0,
                quota: Quota::default(),
            },
            org: OrgId::new(),
            org_expires: None,
            org_requests: None,
        }
    }

    #[test]
    fn a_client_is_read_once_until_a_change_outdates_it() {
        let callers = Callers::default();
        let key = Fingerprint([7; 32]);
        let state = |read: ClientState| {
            let found = callers.find(&key, || Ok(Some(client(key, read)))).unwrap();
            found.unwrap().client.state
        };
        assert_eq!(state(ClientState::Active), ClientState::Active);
        assert_eq!(state(ClientState::Disabled), ClientState::Active, "kept");
        callers.outdate();
        assert_eq!(state(ClientState::Disabled), ClientState::Disabled);
    }

    #[test]
    fn what_a_commit_overtook_while_it_was_read_is_not_kept() {
        let callers = Callers::default();
        let key = Fingerprint([7; 32]);
        let overtaken = callers.find(&key, || {
            callers.outdate();
            Ok(Some(client(key, ClientState::Active)))
        });
        assert!(overtaken.unwrap().is_some());
        let next = callers.find(&key, || Ok(Some(client(key, ClientState::Disabled))));
        assert_eq!(next.unwrap().unwrap().client.state, ClientState::Disabled);
    }

    #[test]
    fn keys_without_a_client_are_not_kept() {
        let callers = Callers::default();
        let key = Fingerprint([7; 32]);
        assert!(callers.find(&key, || Ok(None)).unwrap().is_none());
        assert!(callers.known.read().unwrap().is_empty());
    }
}
