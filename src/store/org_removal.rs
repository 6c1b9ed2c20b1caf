//! Removing an organization: its keys and its row go in one transaction, and with them all that is read
//! through it. What it had is deleted afterwards, bit by bit; a crash in between loses nothing of that.

use rusqlite::OptionalExtension;

use super::deposit::{Which, forget};
use super::org::found;
use super::writer::Tx;
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::audit::Event;
use crate::model::id::{DepositId, OrgId};
use crate::model::org::{Org, OrgName};

/// What one transaction deletes at most.
const DEPOSITS_AT_ONCE: u32 = 50;
const OTHERS_AT_ONCE: u32 = 200;

impl Store {
    /// Destroys an organization's keys and forgets it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_org(&self, change: Change, name: OrgName, now: Timestamp) -> Result<Org> {
        self.change(change, 512, move |tx, event| {
            let org = found(tx.db, &name)?.org;
            let id = org.id.as_bytes();
            for table in ["org_keys", "key_rotations", "grants"] {
                tx.db
                    .execute(&format!("DELETE FROM {table} WHERE org = ?1"), [id])?;
            }
            tx.db.execute(
                "INSERT INTO removed_orgs (id, name, removed) VALUES (?1, ?2, ?3)",
                (id, name.as_str(), now.0),
            )?;
            tx.db.execute("DELETE FROM orgs WHERE id = ?1", [id])?;
            event.detail = format!("{} deposits, {} clients", org.deposits, org.clients);
            Ok(org)
        })
        .await
    }

    /// Deletes some of what removed organizations had; false if nothing is left. The end of each is an
    /// event.
    pub async fn sweep_removed(
        &self,
        event: impl Fn(OrgId, &str) -> Event + Send + 'static,
    ) -> Result<bool> {
        // An idle server writes nothing.
        let any = self.readers.point(|db| {
            Ok(db
                .prepare_cached("SELECT 1 FROM removed_orgs LIMIT 1")?
                .exists(())?)
        })?;
        if !any {
            return Ok(false);
        }
        self.upkeep(Touches::Anything, 64 << 10, move |tx| {
            let next: Option<([u8; 16], String)> = tx
                .db
                .query_row(
                    "SELECT id, name FROM removed_orgs ORDER BY removed LIMIT 1",
                    (),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some((org, name)) = next else {
                return Ok(false);
            };
            if !(sweep_deposits(tx, org)? || sweep_clients(tx, org)? || sweep_groups(tx, org)?) {
                tx.db
                    .execute("DELETE FROM removed_orgs WHERE id = ?1", [org])?;
                tx.append(event(OrgId(uuid::Uuid::from_bytes(org)), &name))?;
            }
            Ok(true)
        })
        .await
    }
}

fn ids(tx: &Tx<'_>, sql: &str, org: [u8; 16], most: u32) -> Result<Vec<[u8; 16]>> {
    let mut statement = tx.db.prepare_cached(sql)?;
    let found = statement.query_map((org, most), |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn sweep_deposits(tx: &mut Tx<'_>, org: [u8; 16]) -> Result<bool> {
    let found = tx
        .db
        .prepare_cached("SELECT id, name FROM deposits WHERE org = ?1 LIMIT ?2")?
        .query_map((org, DEPOSITS_AT_ONCE), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<Vec<([u8; 16], String)>>>()?;
    for (id, name) in &found {
        let deposit = DepositId(uuid::Uuid::from_bytes(*id));
        forget(tx, deposit)?;
        let org = OrgId(uuid::Uuid::from_bytes(org));
        tx.outdates([Which::Id(deposit), Which::Name(org, name.parse()?)]);
    }
    Ok(!found.is_empty())
}

fn sweep_clients(tx: &mut Tx<'_>, org: [u8; 16]) -> Result<bool> {
    let sql = "SELECT id FROM clients WHERE org = ?1 LIMIT ?2";
    let found = ids(tx, sql, org, OTHERS_AT_ONCE)?;
    for id in &found {
        for sql in [
            "DELETE FROM client_keys WHERE client = ?1",
            "DELETE FROM client_group_members WHERE client = ?1",
            "DELETE FROM deposit_readers WHERE reader = ?1",
            "DELETE FROM clients WHERE id = ?1",
        ] {
            tx.db.prepare_cached(sql)?.execute([id])?;
        }
    }
    Ok(!found.is_empty())
}

fn sweep_groups(tx: &mut Tx<'_>, org: [u8; 16]) -> Result<bool> {
    let sql = "SELECT id FROM client_groups WHERE org = ?1 LIMIT ?2";
    let found = ids(tx, sql, org, OTHERS_AT_ONCE)?;
    for id in &found {
        for sql in [
            "DELETE FROM client_group_members WHERE client_group = ?1",
            "DELETE FROM client_groups WHERE id = ?1",
        ] {
            tx.db.prepare_cached(sql)?.execute([id])?;
        }
    }
    Ok(!found.is_empty())
}
