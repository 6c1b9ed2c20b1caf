//! Quotas, and what is used of them. The counters stand in the rows of organizations and clients; what
//! adds to them is checked in the statement that adds, so that at most the limit is ever there.

use rusqlite::{Connection, Row};

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
    pub objects: i64,
    pub bytes: i64,
}

/// What is kept with a charge, and what may be.
pub(super) struct Charged {
    more: Charge,
    org: QuotaUse,
    owner: Option<QuotaUse>,
}

impl Charge {
    /// Counts it; whether there was room for it is asked of the answer.
    ///
    /// # Errors
    /// `NotFound`: the organization was removed meanwhile. `client_disabled`.
    pub fn count(self, db: &Connection) -> Result<Charged> {
        let org = add(
            db,
            "UPDATE orgs SET deposits = deposits + ?2, bytes = bytes + ?3 WHERE id = ?1 RETURNING deposits, bytes, quota_objects, quota_bytes, quota_requests, 1",
            self.org.as_bytes(),
            self,
        )?;
        let Some((org, _)) = org else {
            return Err(removed());
        };
        let owner = match &self.owner {
            Some(owner) => add(
                db,
                "UPDATE clients SET deposits = deposits + ?2, bytes = bytes + ?3 WHERE id = ?1 RETURNING deposits, bytes, quota_objects, quota_bytes, quota_requests, state = 'active'",
                owner.as_bytes(),
                self,
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
        Ok(Charged {
            more: self,
            org,
            owner: owner.map(|(owner, _)| owner),
        })
    }
}

fn add(
    db: &Connection,
    sql: &str,
    id: &[u8; 16],
    more: Charge,
) -> Result<Option<(QuotaUse, bool)>> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map((id, more.objects, more.bytes), |row| {
        let used = Used {
            objects: row.get::<_, i64>(0)?.unsigned_abs(),
            bytes: row.get::<_, i64>(1)?.unsigned_abs(),
        };
        let quota = read(row, 2)?;
        Ok((QuotaUse { quota, used }, row.get(5)?))
    })?;
    // To its end: a statement that was cut off has not surely done all.
    let mut rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(rows.pop())
}

impl Charged {
    /// # Errors
    /// `quota_objects`, `quota_bytes`: the charge has to be undone.
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
        let (objects, bytes) = (
            self.more.objects.unsigned_abs(),
            self.more.bytes.unsigned_abs(),
        );
        let before = Used {
            objects: it.used.objects.saturating_sub(objects),
            bytes: it.used.bytes.saturating_sub(bytes),
        };
        if let Some(most) = it.quota.objects
            && objects > 0
            && it.used.objects > most
        {
            return Err(Error::conflict(
                "quota_objects",
                format!(
                    "{whose} may keep {most} deposits and keeps {}, those in the bin included; purge some that are not needed (rm, then purge), or ask {whom} for a higher quota",
                    before.objects
                ),
            ));
        }
        // What is full takes nothing, not even an empty version: each is a row.
        if let Some(most) = it.quota.bytes
            && (it.used.bytes > most || before.bytes >= most)
        {
            return Err(Error::conflict(
                "quota_bytes",
                format!(
                    "{whose} may keep {most} bytes and keeps {}, all versions and the bin included; {bytes} more do not fit. Purge deposits that are not needed (rm, then purge), or ask {whom} for a higher quota",
                    before.bytes
                ),
            ));
        }
        Ok(())
    }
}

/// A deposit is gone with all its versions, which had so many bytes.
pub(super) fn give_back(
    db: &Connection,
    org: OrgId,
    owner: Option<ClientId>,
    bytes: i64,
) -> Result<()> {
    db.prepare_cached("UPDATE orgs SET deposits = deposits - 1, bytes = bytes - ?2 WHERE id = ?1")?
        .execute((org.as_bytes(), bytes))?;
    if let Some(owner) = owner {
        db.prepare_cached(
            "UPDATE clients SET deposits = deposits - 1, bytes = bytes - ?2 WHERE id = ?1",
        )?
        .execute((owner.as_bytes(), bytes))?;
    }
    Ok(())
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
