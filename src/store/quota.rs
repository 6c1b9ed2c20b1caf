//! Quotas, and what is used of them. The counters stand in the rows of organizations and clients, and
//! move in the transaction of each change; what adds to them is checked there, so that at most the
//! limit is ever kept.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};

use super::org::{found, removed};
use super::{Change, Store};
use crate::error::{Error, Result};
use crate::model::id::{ClientId, Fingerprint, OrgId};
use crate::model::org::OrgName;
use crate::model::quota::{Quota, QuotaUse, SetQuota, Used};

/// `quota_objects`, `quota_bytes` and `quota_requests`, from column `at` on.
pub(super) fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<Quota> {
    let limit = |at: usize| row.get::<_, Option<i64>>(at);
    Ok(Quota {
        objects: limit(at)?.map(i64::unsigned_abs),
        bytes: limit(at + 1)?.map(i64::unsigned_abs),
        requests: row.get(at + 2)?,
    })
}

/// What the commands of a group add to the counters. It is written when the group ends, once for each
/// organization and client: all puts of a group meet in these rows.
#[derive(Clone, Default)]
pub(super) struct Counts {
    orgs: BTreeMap<[u8; 16], Added>,
    clients: BTreeMap<[u8; 16], Added>,
}

#[derive(Clone, Copy, Default)]
struct Added {
    objects: i64,
    bytes: i64,
}

impl Counts {
    fn add(&mut self, org: OrgId, owner: Option<ClientId>, objects: i64, bytes: i64) {
        let org = self.orgs.entry(*org.as_bytes());
        let owner = owner.map(|owner| self.clients.entry(*owner.as_bytes()));
        for row in [Some(org), owner].into_iter().flatten() {
            let added = row.or_default();
            added.objects += objects;
            added.bytes += bytes;
        }
    }

    /// Moves the counters.
    pub fn write(&mut self, db: &Connection) -> Result<()> {
        for (table, rows) in [("orgs", &self.orgs), ("clients", &self.clients)] {
            for (id, added) in rows {
                db.prepare_cached(&format!(
                    "UPDATE {table} SET deposits = deposits + ?2, bytes = bytes + ?3 WHERE id = ?1"
                ))?
                .execute((id, added.objects, added.bytes))?;
            }
        }
        *self = Self::default();
        Ok(())
    }
}

/// A deposit is gone with all its versions, which had so many bytes.
pub(super) fn give_back(counts: &mut Counts, org: OrgId, owner: Option<ClientId>, bytes: i64) {
    counts.add(org, owner, -1, -bytes);
}

/// What a put adds: to its organization, and to the client that owns the deposit.
#[derive(Clone, Copy)]
pub(super) struct Charge {
    pub org: OrgId,
    pub owner: Option<ClientId>,
    /// The owner itself asks, so it has to be active.
    pub own: bool,
    pub objects: u64,
    pub bytes: u64,
}

/// A charge beside what those who bear it keep already.
pub(super) struct Due {
    charge: Charge,
    org: QuotaUse,
    owner: Option<QuotaUse>,
}

impl Charge {
    /// `counts`: what is added in this transaction, and not written yet.
    ///
    /// # Errors
    /// `NotFound`: the organization was removed meanwhile. `client_disabled`.
    pub fn due(self, db: &Connection, counts: &Counts) -> Result<Due> {
        let org = kept(
            db,
            "SELECT deposits, bytes, quota_objects, quota_bytes, quota_requests, 1 FROM orgs WHERE id = ?1",
            self.org.as_bytes(),
            &counts.orgs,
        )?;
        // Whoever began before an organization was removed must not write into what is left of it.
        let Some((org, _)) = org else {
            return Err(removed());
        };
        let owner = match &self.owner {
            Some(owner) => kept(
                db,
                "SELECT deposits, bytes, quota_objects, quota_bytes, quota_requests, state = 'active' FROM clients WHERE id = ?1",
                owner.as_bytes(),
                &counts.clients,
            )?,
            None => None,
        };
        // Who was active when the request came may be gone when its body is whole.
        if self.own && !owner.is_some_and(|(_, active)| active) {
            return Err(Error::denied(
                "client_disabled",
                "this client was disabled or removed while the request came in",
            ));
        }
        Ok(Due {
            charge: self,
            org,
            owner: owner.map(|(owner, _)| owner),
        })
    }
}

fn kept(
    db: &Connection,
    sql: &str,
    id: &[u8; 16],
    counts: &BTreeMap<[u8; 16], Added>,
) -> Result<Option<(QuotaUse, bool)>> {
    let added = counts.get(id).copied().unwrap_or_default();
    let found = db.prepare_cached(sql)?.query_row([id], |row| {
        let used = Used {
            objects: row
                .get::<_, i64>(0)?
                .saturating_add(added.objects)
                .unsigned_abs(),
            bytes: row
                .get::<_, i64>(1)?
                .saturating_add(added.bytes)
                .unsigned_abs(),
        };
        let quota = read(row, 2)?;
        Ok((QuotaUse { quota, used }, row.get(5)?))
    });
    Ok(found.optional()?)
}

impl Due {
    /// # Errors
    /// `quota_objects`, `quota_bytes`.
    pub fn fits(&self) -> Result<()> {
        if let Some(owner) = &self.owner {
            self.within(owner, "the client", "an administrator of its organization")?;
        }
        self.within(
            &self.org,
            "the organization",
            "an administrator of this server",
        )
    }

    fn within(&self, it: &QuotaUse, whose: &str, whom: &str) -> Result<()> {
        let Charge { objects, bytes, .. } = self.charge;
        let (quota, used) = (it.quota, it.used);
        if let Some(most) = quota.objects
            && objects > 0
            && used.objects.saturating_add(objects) > most
        {
            return Err(Error::conflict(
                OBJECTS,
                format!(
                    "{whose} may keep {most} deposits and keeps {}, those in the bin included; purge some that are not needed (rm, then purge), or ask {whom} for a higher quota",
                    used.objects
                ),
            ));
        }
        // What is full takes nothing, not even an empty version: each is a row.
        if let Some(most) = quota.bytes
            && (used.bytes >= most || used.bytes.saturating_add(bytes) > most)
        {
            return Err(Error::conflict(
                BYTES,
                format!(
                    "{whose} may keep {most} bytes and keeps {}, all versions and the bin included; {bytes} more do not fit. Purge deposits that are not needed (rm, then purge), or ask {whom} for a higher quota",
                    used.bytes
                ),
            ));
        }
        Ok(())
    }

    /// Counts it.
    pub fn pay(&self, counts: &mut Counts) {
        let Charge { org, owner, .. } = self.charge;
        let limit = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        let (objects, bytes) = (limit(self.charge.objects), limit(self.charge.bytes));
        counts.add(org, owner, objects, bytes);
    }
}

/// An organization or a client keeps as many deposits as it may.
pub const OBJECTS: &str = "quota_objects";
/// The same of bytes.
pub const BYTES: &str = "quota_bytes";

impl Store {
    /// # Errors
    /// `NotFound`.
    pub async fn set_org_quota(
        &self,
        change: Change,
        name: OrgName,
        set: SetQuota,
    ) -> Result<QuotaUse> {
        self.change(change, 512, move |tx, event| {
            let org = found(tx.db, &name)?.org;
            let quota = org.quota.set(&set);
            event.detail = org.quota.changed_to(&quota);
            let sql = "UPDATE orgs SET quota_objects = ?2, quota_bytes = ?3, quota_requests = ?4 WHERE id = ?1";
            write(tx.db, sql, org.id.as_bytes(), &quota)?;
            let used = org.used();
            Ok(QuotaUse { quota, used })
        })
        .await
    }

    /// # Errors
    /// `NotFound`.
    pub async fn set_client_quota(
        &self,
        change: Change,
        client: Fingerprint,
        set: SetQuota,
    ) -> Result<QuotaUse> {
        self.change(change, 512, move |tx, event| {
            let client = super::client::found(tx.db, &client)?.client;
            let quota = client.quota.set(&set);
            event.detail = client.quota.changed_to(&quota);
            let sql = "UPDATE clients SET quota_objects = ?2, quota_bytes = ?3, quota_requests = ?4 WHERE id = ?1";
            write(tx.db, sql, client.id.as_bytes(), &quota)?;
            let used = client.used();
            Ok(QuotaUse { quota, used })
        })
        .await
    }
}

fn write(db: &Connection, sql: &str, id: &[u8; 16], quota: &Quota) -> Result<()> {
    let limit = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    db.execute(
        sql,
        (
            id,
            quota.objects.map(limit),
            quota.bytes.map(limit),
            quota.requests,
        ),
    )?;
    Ok(())
}
