//! Quotas, and what is used of them. The counters stand in the rows of organizations and clients, and
//! move in the transaction of each change; what adds to them is checked there, so that at most the
//! limit is ever kept.

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
    /// # Errors
    /// `NotFound`: the organization was removed meanwhile. `client_disabled`.
    pub fn due(self, db: &Connection) -> Result<Due> {
        let org = kept(
            db,
            "SELECT deposits, bytes, quota_objects, quota_bytes, quota_requests, 1 FROM orgs WHERE id = ?1",
            self.org.as_bytes(),
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

fn kept(db: &Connection, sql: &str, id: &[u8; 16]) -> Result<Option<(QuotaUse, bool)>> {
    let found = db.prepare_cached(sql)?.query_row([id], |row| {
        let used = Used {
            objects: row.get::<_, i64>(0)?.unsigned_abs(),
            bytes: row.get::<_, i64>(1)?.unsigned_abs(),
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
    pub fn pay(&self, db: &Connection) -> Result<()> {
        let Charge { org, owner, .. } = self.charge;
        let limit = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        let (objects, bytes) = (limit(self.charge.objects), limit(self.charge.bytes));
        move_counters(db, org, owner, objects, bytes)
    }
}

/// An organization or a client keeps as many deposits as it may.
pub const OBJECTS: &str = "quota_objects";
/// The same of bytes.
pub const BYTES: &str = "quota_bytes";

fn move_counters(
    db: &Connection,
    org: OrgId,
    owner: Option<ClientId>,
    objects: i64,
    bytes: i64,
) -> Result<()> {
    db.prepare_cached(
        "UPDATE orgs SET deposits = deposits + ?2, bytes = bytes + ?3 WHERE id = ?1",
    )?
    .execute((org.as_bytes(), objects, bytes))?;
    if let Some(owner) = owner {
        db.prepare_cached(
            "UPDATE clients SET deposits = deposits + ?2, bytes = bytes + ?3 WHERE id = ?1",
        )?
        .execute((owner.as_bytes(), objects, bytes))?;
    }
    Ok(())
}

/// A deposit is gone with all its versions, which had so many bytes.
pub(super) fn give_back(
    db: &Connection,
    org: OrgId,
    owner: Option<ClientId>,
    bytes: i64,
) -> Result<()> {
    move_counters(db, org, owner, -1, -bytes)
}

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
