//! Instance, revision, seal generation, and the wrapped keys.

use rusqlite::{Connection, OptionalExtension};

use super::{Change, Opened, Store, schema};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::{InstanceId, OrgId, UserId};

/// A key as it lies in the store.
#[derive(Clone)]
pub struct WrappedKey {
    pub name: String,
    pub version: u32,
    pub wrapped: Vec<u8>,
}

/// What `init` puts into an empty store.
pub struct First {
    pub instance: InstanceId,
    pub seal_generation: u64,
    pub keys: Vec<WrappedKey>,
    pub now: Timestamp,
}

/// What no order of changes and crashes may leave behind.
const CONTRADICTIONS: &[(&str, &str)] = &[
    (
        "deposits without their newest version",
        "SELECT count(*) FROM deposits d WHERE NOT EXISTS (SELECT 1 FROM deposit_versions v WHERE v.deposit = d.id AND v.version = d.version AND v.size = d.size)",
    ),
    (
        "versions without a deposit",
        "SELECT count(*) FROM deposit_versions v WHERE NOT EXISTS (SELECT 1 FROM deposits d WHERE d.id = v.deposit AND v.version <= d.version)",
    ),
    (
        "versions without their parts",
        "SELECT count(*) FROM deposit_versions v WHERE v.parts IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deposit_parts p WHERE p.parts = v.parts)",
    ),
    (
        "parts that no version names",
        "SELECT count(DISTINCT parts) FROM deposit_parts WHERE parts NOT IN (SELECT parts FROM deposit_versions WHERE parts IS NOT NULL) AND parts NOT IN (SELECT parts FROM pending_parts)",
    ),
    (
        "deposits whose owner is no client",
        "SELECT count(*) FROM deposits d WHERE d.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = d.owner)",
    ),
    (
        "labels that their deposit does not carry",
        "SELECT count(*) FROM deposit_labels l LEFT JOIN deposits d ON d.id = l.deposit WHERE d.id IS NULL OR d.name <> l.name OR d.org <> l.org",
    ),
    (
        "organizations with wrong counters",
        "SELECT count(*) FROM orgs o WHERE o.deposits <> (SELECT count(*) FROM deposits WHERE org = o.id) OR o.clients <> (SELECT count(*) FROM clients WHERE org = o.id)",
    ),
    (
        "readers of no deposit, or that are nobody",
        "SELECT count(*) FROM deposit_readers r WHERE NOT EXISTS (SELECT 1 FROM deposits d WHERE d.id = r.deposit)
         OR NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = r.reader AND r.kind = 'client' UNION SELECT 1 FROM client_groups g WHERE g.id = r.reader AND r.kind = 'group')",
    ),
    (
        "members of no group, or that are no clients",
        "SELECT count(*) FROM client_group_members m WHERE NOT EXISTS (SELECT 1 FROM client_groups g WHERE g.id = m.client_group) OR NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = m.client)",
    ),
    (
        "deposits fetched more often than they may be",
        "SELECT count(*) FROM deposits WHERE retrieved > coalesce(max_retrievals, 0)",
    ),
    (
        "deposits and clients of no organization",
        "SELECT (SELECT count(*) FROM deposits WHERE org NOT IN (SELECT id FROM orgs UNION SELECT id FROM removed_orgs))
         + (SELECT count(*) FROM clients WHERE org NOT IN (SELECT id FROM orgs UNION SELECT id FROM removed_orgs))",
    ),
    (
        "versions under a key that is not there",
        "SELECT count(*) FROM deposit_versions v JOIN deposits d ON d.id = v.deposit WHERE NOT EXISTS (SELECT 1 FROM org_keys k WHERE k.org = d.org AND printf('%08X', k.version) = hex(substr(v.body, 7, 4)))",
    ),
    (
        "lines of a log of no job, or times of no schedule",
        "SELECT (SELECT count(*) FROM job_logs WHERE job NOT IN (SELECT id FROM jobs)) + (SELECT count(*) FROM schedule_runs WHERE schedule NOT IN (SELECT name FROM schedules))",
    ),
    (
        "hosts of a group that is not there, or groups within one that is not",
        "SELECT (SELECT count(*) FROM hosts WHERE host_group NOT IN (SELECT path FROM host_groups))
         + (SELECT count(*) FROM host_groups g WHERE g.path LIKE '%/%' AND rtrim(rtrim(g.path, replace(g.path, '/', '')), '/') NOT IN (SELECT path FROM host_groups))",
    ),
    (
        "jobs that nobody holds and that run, or that are over without an end",
        "SELECT count(*) FROM jobs WHERE (state = 'running') <> (boot IS NOT NULL) OR (state IN ('succeeded', 'failed', 'cancelled')) <> (ended IS NOT NULL)",
    ),
    (
        "gaps in the numbers of the events",
        "SELECT coalesce(max(number), 0) - (SELECT coalesce(max(last), 0) FROM audit_segments) - (SELECT count(*) FROM events WHERE number > (SELECT coalesce(max(last), 0) FROM audit_segments)) FROM events",
    ),
];

/// Absent as long as the root key was never made anew.
const KEK_VERSION: &str = "kek_version";

/// What lies under the key-encryption key.
pub enum Wrapped<'a> {
    System(&'a str),
    OrgKey(OrgId, u32),
    /// An organization's registration code.
    Code(OrgId),
    /// The secret of a user's second factor.
    Totp(UserId),
}

/// Opens what is wrapped, and wraps it anew.
pub type Rewrap = Box<dyn Fn(Wrapped<'_>, &[u8]) -> Result<Vec<u8>> + Send>;

fn system_keys(db: &Connection) -> Result<Vec<WrappedKey>> {
    let mut statement = db.prepare("SELECT name, version, wrapped FROM system_keys")?;
    let rows = statement.query_map((), |row| {
        Ok(WrappedKey {
            name: row.get(0)?,
            version: row.get(1)?,
            wrapped: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Rows of an organization's id, a number and bytes.
pub(super) fn rows(db: &Connection, select: &str) -> Result<Vec<(OrgId, u32, Vec<u8>)>> {
    let mut statement = db.prepare(select)?;
    let rows = statement.query_map((), |row| {
        let org = OrgId(uuid::Uuid::from_bytes(row.get(0)?));
        Ok((org, row.get(1)?, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Wraps anew whatever lies under the key-encryption key.
pub(super) fn rewrap_rows(db: &Connection, rewrap: &Rewrap) -> Result<()> {
    for key in system_keys(db)? {
        let wrapped = rewrap(Wrapped::System(&key.name), &key.wrapped)?;
        db.execute(
            "UPDATE system_keys SET wrapped = ?2 WHERE name = ?1 AND version = ?3",
            (&key.name, wrapped, key.version),
        )?;
    }
    for (org, version, wrapped) in rows(db, "SELECT org, version, wrapped FROM org_keys")? {
        let wrapped = rewrap(Wrapped::OrgKey(org, version), &wrapped)?;
        db.execute(
            "UPDATE org_keys SET wrapped = ?3 WHERE org = ?1 AND version = ?2",
            (org.as_bytes(), version, wrapped),
        )?;
    }
    let codes = "SELECT id, 0, auth_code FROM orgs WHERE auth_code IS NOT NULL";
    for (org, _, sealed) in rows(db, codes)? {
        let sealed = rewrap(Wrapped::Code(org), &sealed)?;
        db.execute(
            "UPDATE orgs SET auth_code = ?2 WHERE id = ?1",
            (org.as_bytes(), sealed),
        )?;
    }
    let secrets = "SELECT user_id, 0, secret FROM second_factors";
    for (user, _, sealed) in rows(db, secrets)? {
        let sealed = rewrap(Wrapped::Totp(UserId(user.0)), &sealed)?;
        db.execute(
            "UPDATE second_factors SET secret = ?2 WHERE user_id = ?1",
            (user.as_bytes(), sealed),
        )?;
    }
    Ok(())
}

impl Opened {
    /// Fills a store that was just made.
    pub fn begin(&mut self, first: &First) -> Result<()> {
        let tx = self.db.transaction()?;
        for (name, value) in [
            ("instance", first.instance.to_string()),
            ("revision", "0".to_owned()),
            ("epoch", "1".to_owned()),
            ("timeline", "1".to_owned()),
            ("seal_generation", first.seal_generation.to_string()),
        ] {
            tx.execute("INSERT INTO meta VALUES (?1, ?2)", (name, value))?;
        }
        for key in &first.keys {
            tx.execute(
                "INSERT INTO system_keys VALUES (?1, ?2, ?3, ?4)",
                (&key.name, key.version, &key.wrapped, first.now.0),
            )?;
        }
        Ok(tx.commit()?)
    }

    pub fn instance(&self) -> Result<InstanceId> {
        instance(&self.db)
    }

    pub fn seal_generation(&self) -> Result<u64> {
        number(&self.db, "seal_generation")
    }

    /// Which of the histories this is that restores began.
    pub fn timeline(&self) -> Result<u64> {
        number(&self.db, "timeline")
    }

    /// Which version of the key-encryption key wraps.
    pub fn kek_version(&self) -> Result<u32> {
        match text(&self.db, KEK_VERSION)? {
            Some(version) => version
                .parse()
                .map_err(|_| Error::internal("the store's kek_version is no number")),
            None => Ok(1),
        }
    }

    pub fn system_keys(&self) -> Result<Vec<WrappedKey>> {
        system_keys(&self.db)
    }

    /// Checks every page, every index and what rows say of each other; what it found, line by line,
    /// empty if all is well.
    pub fn integrity(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for db in [&self.db, &self.access_db] {
            found.extend(page_faults(db)?);
        }
        if self.is_behind()? {
            // What is asked below is of this program's tables.
            return Ok(found);
        }
        for (what, sql) in CONTRADICTIONS {
            let count: i64 = self.db.query_row(sql, (), |row| row.get(0))?;
            if count > 0 {
                found.push(format!("{count} {what}"));
            }
        }
        Ok(found)
    }

    /// Schema version found, and known.
    pub fn schema(&self) -> Result<(usize, usize)> {
        let standing = schema::standing(&self.db, schema::File::Store)?;
        Ok((standing.found, standing.known))
    }
}

impl Store {
    pub fn system_key(&self, name: &str) -> Result<Option<WrappedKey>> {
        let keys = self.readers.point(system_keys)?;
        Ok(keys.into_iter().find(|key| key.name == name))
    }

    /// # Errors
    /// `Conflict` if there is one of this name.
    pub async fn add_system_key(&self, change: Change, key: WrappedKey) -> Result<()> {
        let time = change.event.time;
        self.change(change, key.wrapped.len(), move |tx, _| {
            let added = tx.db.execute(
                "INSERT OR IGNORE INTO system_keys VALUES (?1, ?2, ?3, ?4)",
                (&key.name, key.version, &key.wrapped, time.0),
            )?;
            match added {
                0 => Err(Error::conflict(
                    "name_taken",
                    format!("there is a system key `{}`", key.name),
                )),
                _ => Ok(()),
            }
        })
        .await
    }

    /// The organization's keys, wrapped, all versions.
    pub fn org_keys(&self, org: OrgId) -> Result<Vec<WrappedKey>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(
                "SELECT version, wrapped FROM org_keys WHERE org = ?1 ORDER BY version",
            )?;
            let rows = statement.query_map([org.as_bytes()], |row| {
                Ok(WrappedKey {
                    name: org.to_string(),
                    version: row.get(0)?,
                    wrapped: row.get(1)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Wraps anew whatever lies under the key-encryption key, in one transaction; `answer` is what a
    /// retry gets.
    pub async fn rewrap<T>(
        &self,
        change: Change,
        rewrap: Rewrap,
        (generation, kek_version): (u64, u32),
        answer: T,
    ) -> Result<T>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        self.change(change, 4_096, move |tx, _| {
            let db = tx.db;
            rewrap_rows(db, &rewrap)?;
            for (name, value) in [
                ("seal_generation", generation.to_string()),
                (KEK_VERSION, kek_version.to_string()),
            ] {
                db.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", (name, value))?;
            }
            Ok(answer)
        })
        .await
    }

    /// An event that stands for itself: the server started, a checkpoint could not be written.
    pub async fn note(&self, change: Change) -> Result<()> {
        self.change(change, 0, |_, _| Ok(())).await
    }

    /// The same; `answer` is what a retry gets.
    pub async fn note_with<T>(&self, change: Change, answer: T) -> Result<T>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        self.change(change, 4_096, move |_, _| Ok(answer)).await
    }

    /// Says which seal.json is the newest, if none is known that is newer; `answer` is what a retry gets.
    pub async fn set_seal_generation<T>(
        &self,
        change: Change,
        generation: u64,
        answer: T,
    ) -> Result<T>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        self.change(change, 512, move |tx, _| {
            tx.db.execute(
                "UPDATE meta SET value = ?1 WHERE name = 'seal_generation' AND CAST(value AS INTEGER) < CAST(?1 AS INTEGER)",
                [generation.to_string()],
            )?;
            Ok(answer)
        })
        .await
    }

    /// Organizations, clients, deposits: from counters that every change keeps.
    pub fn totals(&self) -> Result<(u64, u64, u64)> {
        self.readers.point(|db| {
            Ok(db.query_row(
                "SELECT count(*), coalesce(sum(clients), 0), coalesce(sum(deposits), 0) FROM orgs",
                (),
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?.unsigned_abs(),
                        row.get::<_, i64>(1)?.unsigned_abs(),
                        row.get::<_, i64>(2)?.unsigned_abs(),
                    ))
                },
            )?)
        })
    }

    pub fn meta_number(&self, name: &str) -> Result<u64> {
        self.readers.point(|db| number(db, name))
    }
}

/// What is wrong with a file's pages and indexes, line by line; empty if all is well.
pub(super) fn page_faults(db: &Connection) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pragma in ["PRAGMA cipher_integrity_check", "PRAGMA integrity_check"] {
        let mut statement = db.prepare(pragma)?;
        for line in statement.query_map((), |row| row.get::<_, String>(0))? {
            let line = line?;
            if line != "ok" {
                found.push(line);
            }
        }
        if !found.is_empty() {
            // What is looked at next would stop at such a page.
            break;
        }
    }
    Ok(found)
}

pub(super) fn instance(db: &Connection) -> Result<InstanceId> {
    text(db, "instance")?.ok_or_else(unfinished)?.parse()
}

pub(super) fn revision(db: &Connection) -> Result<u64> {
    number(db, "revision")
}

fn text(db: &Connection, name: &str) -> Result<Option<String>> {
    Ok(db
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get(0)
        })
        .optional()?)
}

pub(super) fn number(db: &Connection, name: &str) -> Result<u64> {
    text(db, name)?
        .and_then(|value| value.parse().ok())
        .ok_or_else(unfinished)
}

fn unfinished() -> Error {
    Error::unavailable(
        "init_unfinished",
        "the data folder was not completely initialised; remove it and run `strongroom init` again",
    )
}
