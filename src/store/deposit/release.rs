//! Deposits that may be fetched so many times: the count stands in the row.

use rusqlite::Connection;

use super::row::{Which, found, present};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Deposit, Policy};
use crate::model::id::DepositId;
use crate::store::{Change, Store};

impl Store {
    /// Takes one of a deposit's retrievals, with its event. Only when this has answered may the
    /// envelope be opened: whatever happens after that, it is used. Returns how many are left; none
    /// where the limit was removed meanwhile.
    ///
    /// # Errors
    /// `retrievals_used`, `not_yet`, `expired`, `in_bin`, `NotFound`.
    pub async fn take_retrieval(
        &self,
        change: Change,
        id: DepositId,
        version: u32,
        now: Timestamp,
    ) -> Result<Option<u32>> {
        self.change_deposits(change, 512, move |tx, event| {
            let which = Which::Id(id);
            let head = present(tx.db, &which).map_err(|mut error| {
                // To whoever reads, what lies in the bin is not there.
                error.kind = Kind::NotFound;
                error
            })?;
            let mut policy = head.deposit.policy();
            policy.check(now)?;
            event.detail = format!("version {version}");
            if policy.max_retrievals.is_none() {
                return Ok(None);
            }
            policy.retrieved += 1;
            #[cfg(debug_assertions)]
            let counts = !tx.counts_nothing(&event.request);
            #[cfg(not(debug_assertions))]
            let counts = true;
            if counts {
                write_policy(tx.db, id, &policy)?;
            }
            let left = policy.left();
            event.detail = format!("version {version}, {policy}");
            Ok(left)
        })
        .await
    }

    /// Allows more retrievals of a deposit that is limited.
    ///
    /// # Errors
    /// `not_limited`, `in_bin`, `NotFound`.
    pub async fn grant_retrievals(
        &self,
        change: Change,
        which: Which,
        more: u64,
    ) -> Result<Deposit> {
        self.change_deposits(change, 512, move |tx, event| {
            let head = present(tx.db, &which)?;
            let policy = head.deposit.policy().grant(more)?;
            write_policy(tx.db, head.deposit.id, &policy)?;
            event.detail = format!("{more} more, {policy}");
            // Never kept, so there is nothing to outdate.
            Ok(found(tx.db, &which)?.deposit)
        })
        .await
    }
}

pub(super) fn write_policy(db: &Connection, id: DepositId, policy: &Policy) -> Result<()> {
    let changed = db
        .prepare_cached("UPDATE deposits SET not_before = ?2, expires = ?3, max_retrievals = ?4, retrieved = ?5 WHERE id = ?1")?
        .execute((
            id.as_bytes(),
            policy.not_before.map(|at| at.0),
            policy.expires.map(|at| at.0),
            policy.max_retrievals,
            policy.retrieved,
        ))?;
    match changed {
        1 => Ok(()),
        _ => Err(Error::internal("a deposit's row is not there")),
    }
}
