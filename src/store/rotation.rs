//! An organization's key made anew: a newer version is there at once, and what lies under older ones is
//! sealed anew in steps, each a transaction of its own, until the older ones can go.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::deposit::{Which, body_aad};
use super::job::{self, NewJob};
use super::{Change, Store, Touches, WrappedKey};
use crate::clock::Timestamp;
use crate::crypto::envelope;
use crate::error::{Error, Result};
use crate::model::deposit::DepositName;
use crate::model::id::{DepositId, JobId, OrgId};
use crate::model::job::{Job, JobState};
use crate::secret::Locked;

/// A step ends at so many versions or bytes, so that others have their turn.
const STEP: usize = 64;
const STEP_BYTES: usize = 1 << 20;
const LONGEST_STEP: Duration = Duration::from_millis(20);

/// How far a rotation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub org: OrgId,
    pub org_name: String,
    /// The key that everything is to lie under.
    pub version: u32,
    /// In deposits, as they were counted when it began.
    pub done: u64,
    pub total: u64,
    pub started: Timestamp,
    /// Versions that did not open, and the first deposit that has one.
    pub failed: u64,
    pub first_failed: Option<String>,
    /// It went through; what did not open keeps the older keys.
    pub ended: bool,
    /// The job that works on it.
    pub job: Option<(JobId, JobState)>,
}

/// The keys that a step needs.
pub struct StepKeys {
    pub newest: (u32, Locked),
    pub older: Vec<(u32, Locked)>,
}

/// Where a rotation stands: behind this version of this name.
struct Position {
    name: String,
    version: i64,
    done: i64,
    failed: i64,
    first_failed: String,
}

/// A version as the step reads it.
struct Row {
    version: u32,
    size: i64,
    encryption: String,
    content_type: String,
    created: i64,
    created_by: String,
    parts: Option<[u8; 16]>,
    body: Vec<u8>,
}

impl Store {
    /// A newer key for an organization; its rotation begins, or begins again, and with it the job.
    ///
    /// # Errors
    /// `Conflict` if another rotation was quicker.
    pub async fn begin_rotation<T>(
        &self,
        change: Change,
        key: WrappedKey,
        job: NewJob,
        answer: T,
    ) -> Result<T>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        let time = change.event.time;
        let org = job
            .org
            .ok_or_else(|| Error::internal("a rotation without an organization"))?;
        self.change(change, key.wrapped.len(), move |tx, _| {
            let added = tx.db.execute(
                "INSERT OR IGNORE INTO org_keys (org, version, wrapped, created) SELECT id, ?2, ?3, ?4 FROM orgs WHERE id = ?1",
                (org.as_bytes(), key.version, &key.wrapped, time.0),
            )?;
            if added == 0 {
                return Err(Error::conflict(
                    "rotating",
                    "the organization's key was made anew, or the organization removed, at the same moment",
                ));
            }
            tx.db.execute(
                "INSERT OR REPLACE INTO key_rotations SELECT id, ?2, '', 0, 0, deposits, ?3, 0, '', 0 FROM orgs WHERE id = ?1",
                (org.as_bytes(), key.version, time.0),
            )?;
            job::insert(tx.db, &job)?;
            Ok(answer)
        })
        .await
    }

    /// Begins again the rotations of organizations that have older keys beside the newest, and none that
    /// is about it: how far one was does not leave the node, keys do. Returns how many.
    pub async fn resume_rotations(&self, now: Timestamp) -> Result<usize> {
        const LOST: &str = "FROM (SELECT org, max(version) AS newest FROM org_keys GROUP BY org HAVING count(*) > 1) k JOIN orgs o ON o.id = k.org
            WHERE NOT EXISTS (SELECT 1 FROM key_rotations r WHERE r.org = k.org AND r.version = k.newest)";
        // An idle server writes nothing.
        let any = self
            .readers
            .point(|db| Ok(db.prepare(&format!("SELECT 1 {LOST}"))?.exists(())?))?;
        if !any {
            return Ok(0);
        }
        self.upkeep(Touches::Deposits, 512, move |tx| {
            let sql = format!("INSERT OR REPLACE INTO key_rotations SELECT o.id, k.newest, '', 0, 0, o.deposits, ?1, 0, '', 0 {LOST}");
            Ok(tx.db.execute(&sql, [now.0])?)
        })
        .await
    }

    /// Makes the jobs of rotations that have none: jobs do not leave the node. One that was cancelled or
    /// failed is left to whoever decides about it. Returns those that were made.
    pub async fn make_rotation_jobs(&self, jobs: Vec<NewJob>) -> Result<Vec<Job>> {
        self.upkeep(Touches::Jobs, 512, move |tx| {
            let mut made = Vec::new();
            for new in &jobs {
                let there = tx
                    .db
                    .prepare_cached("SELECT 1 FROM jobs WHERE org = ?1 AND kind = ?2 AND parameters = ?3 AND state <> 'succeeded'")?
                    .exists((new.org.map(|org| *org.as_bytes()), new.kind.as_str(), &new.parameters))?;
                if !there {
                    made.push(job::insert(tx.db, new)?);
                }
            }
            Ok(made)
        })
        .await
    }

    /// The rotations that are not at their end, of one organization or of all.
    pub fn rotations(&self, org: Option<OrgId>) -> Result<Vec<Rotation>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached("SELECT r.org, r.version, r.done, r.total, r.started, o.name, r.failed, r.first, r.ended, j.id, j.state FROM key_rotations r JOIN orgs o ON o.id = r.org
                LEFT JOIN jobs j ON j.id = (SELECT max(id) FROM jobs WHERE org = r.org AND kind = 'org_key_rotation')
                WHERE ?1 IS NULL OR r.org = ?1 ORDER BY r.started")?;
            let rows = statement.query_map([org.map(|org| *org.as_bytes())], |row| {
                Ok(Rotation {
                    org: OrgId(uuid::Uuid::from_bytes(row.get(0)?)),
                    version: row.get(1)?,
                    // Deposits come and go meanwhile.
                    done: row.get::<_, i64>(2)?.min(row.get(3)?).unsigned_abs(),
                    total: row.get::<_, i64>(3)?.unsigned_abs(),
                    started: Timestamp(row.get(4)?),
                    org_name: row.get::<_, String>(5)?,
                    failed: row.get::<_, i64>(6)?.unsigned_abs(),
                    first_failed: Some(row.get::<_, String>(7)?).filter(|name| !name.is_empty()),
                    ended: row.get(8)?,
                    job: match (row.get::<_, Option<[u8; 16]>>(9)?, row.get::<_, Option<String>>(10)?) {
                        (Some(id), Some(state)) => JobState::ALL
                            .into_iter()
                            .find(|it| it.as_str() == state)
                            .map(|state| (JobId(uuid::Uuid::from_bytes(id)), state)),
                        _ => None,
                    },
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Seals some more of an organization's versions anew; false when none is left, or the rotation is
    /// not there any more.
    pub async fn rotation_step(&self, org: OrgId, keys: StepKeys) -> Result<bool> {
        self.upkeep(Touches::Deposits, STEP_BYTES, move |tx| {
            let Some(mut at) = position(tx.db, org, keys.newest.0)? else {
                return Ok(false);
            };
            let (mut versions, mut bytes, mut more) = (0, 0, true);
            let began = Instant::now();
            while versions < STEP && bytes < STEP_BYTES && began.elapsed() < LONGEST_STEP {
                let Some(id) = deposit_at(tx.db, org, &at)? else {
                    match next_name(tx.db, org, &at.name)? {
                        Some(name) => {
                            at.done += i64::from(!at.name.is_empty());
                            (at.name, at.version) = (name, 0);
                            continue;
                        }
                        None => {
                            more = false;
                            break;
                        }
                    }
                };
                let Some(row) = next_version(tx.db, id, at.version)? else {
                    at.version = i64::MAX;
                    continue;
                };
                at.version = i64::from(row.version);
                versions += 1;
                if envelope::key_id(&row.body).is_ok_and(|under| under == keys.newest.0) {
                    continue;
                }
                bytes += row.body.len();
                let sealed = match sealed_anew(org, id, &row, &keys) {
                    Ok(sealed) => sealed,
                    Err(error) => {
                        log::error!(deposit = at.name.as_str(), version = row.version, error:? = error; "a version does not open, and is not sealed anew");
                        at.failed += 1;
                        if at.first_failed.is_empty() {
                            at.first_failed.clone_from(&at.name);
                        }
                        continue;
                    }
                };
                put_in_place(tx.db, id, &row, sealed)?;
                if let Ok(name) = at.name.parse::<DepositName>() {
                    tx.outdates([Which::Name(org, name), Which::Id(id)]);
                }
            }
            tx.db
                .prepare_cached(
                    "UPDATE key_rotations SET name = ?2, of_name = ?3, done = ?4, failed = ?5, first = ?6 WHERE org = ?1",
                )?
                .execute((org.as_bytes(), &at.name, at.version, at.done, at.failed, &at.first_failed))?;
            Ok(more)
        })
        .await
    }

    /// It went through. Where everything opened, nothing lies under older keys any more: they go, and
    /// the rotation with them. Else both stay, until the next rotation.
    pub async fn end_rotation(&self, change: Change, rotation: Rotation) -> Result<()> {
        self.change(change, 512, move |tx, event| {
            let (org, version) = (rotation.org, rotation.version);
            let failed: Option<i64> = tx
                .db
                .query_row(
                    "SELECT failed FROM key_rotations WHERE org = ?1 AND version = ?2 AND ended = 0",
                    (org.as_bytes(), version),
                    |row| row.get(0),
                )
                .optional()?;
            let failed = failed.ok_or_else(|| Error::not_found("the rotation is not there any more"))?;
            if failed > 0 {
                tx.db.execute("UPDATE key_rotations SET ended = 1 WHERE org = ?1", [org.as_bytes()])?;
                event.detail = format!("key {version}: {failed} versions did not open, the older keys stay");
                return Ok(());
            }
            tx.db.execute("DELETE FROM key_rotations WHERE org = ?1", [org.as_bytes()])?;
            let gone = tx.db.execute(
                "DELETE FROM org_keys WHERE org = ?1 AND version < ?2",
                (org.as_bytes(), version),
            )?;
            event.detail = format!("key {version}, {gone} older ones destroyed");
            Ok(())
        })
        .await
    }

    /// The newest key's version, and since when it is there.
    pub fn newest_org_key(&self, org: OrgId) -> Result<(u32, Timestamp)> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached("SELECT version, created FROM org_keys WHERE org = ?1 ORDER BY version DESC LIMIT 1")?;
            let found = statement
                .query_row([org.as_bytes()], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))
                .optional()?;
            found.ok_or_else(|| Error::not_found("the organization has no key any more"))
        })
    }
}

fn position(db: &Connection, org: OrgId, version: u32) -> Result<Option<Position>> {
    let mut statement = db.prepare_cached(
        "SELECT name, of_name, done, failed, first FROM key_rotations WHERE org = ?1 AND version = ?2 AND ended = 0",
    )?;
    let found = statement.query_row((org.as_bytes(), version), |row| {
        Ok(Position {
            name: row.get(0)?,
            version: row.get(1)?,
            done: row.get(2)?,
            failed: row.get(3)?,
            first_failed: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

/// The deposit that the position is in; none before the first, behind its last version, or if it was
/// purged meanwhile.
fn deposit_at(db: &Connection, org: OrgId, at: &Position) -> Result<Option<DepositId>> {
    if at.name.is_empty() || at.version == i64::MAX {
        return Ok(None);
    }
    let mut statement =
        db.prepare_cached("SELECT id FROM deposits WHERE org = ?1 AND name = ?2")?;
    let id: Option<[u8; 16]> = statement
        .query_row((org.as_bytes(), &at.name), |row| row.get(0))
        .optional()?;
    Ok(id.map(|id| DepositId(uuid::Uuid::from_bytes(id))))
}

fn next_name(db: &Connection, org: OrgId, name: &str) -> Result<Option<String>> {
    let mut statement = db.prepare_cached(
        "SELECT name FROM deposits WHERE org = ?1 AND name > ?2 ORDER BY name LIMIT 1",
    )?;
    Ok(statement
        .query_row((org.as_bytes(), name), |row| row.get(0))
        .optional()?)
}

fn next_version(db: &Connection, id: DepositId, after: i64) -> Result<Option<Row>> {
    let mut statement = db.prepare_cached("SELECT version, size, encryption, content_type, created, created_by, parts, body FROM deposit_versions WHERE deposit = ?1 AND version > ?2 ORDER BY version LIMIT 1")?;
    let found = statement.query_row((id.as_bytes(), after), |row| {
        Ok(Row {
            version: row.get(0)?,
            size: row.get(1)?,
            encryption: row.get(2)?,
            content_type: row.get(3)?,
            created: row.get(4)?,
            created_by: row.get(5)?,
            parts: row.get(6)?,
            body: row.get(7)?,
        })
    });
    Ok(found.optional()?)
}

/// Opened under its key, sealed under the newest, and opened once more.
fn sealed_anew(org: OrgId, id: DepositId, row: &Row, keys: &StepKeys) -> Result<Vec<u8>> {
    let under = envelope::key_id(&row.body)?;
    let (_, old) = keys
        .older
        .iter()
        .find(|(version, _)| *version == under)
        .ok_or_else(|| Error::internal(format!("the organization's key {under} is missing")))?;
    let aad = body_aad(org, &id, row.version);
    let plain = envelope::open(old, &aad, &row.body)?;
    let (version, newest) = &keys.newest;
    let body = envelope::seal(newest, *version, &aad, plain.expose())?;
    match envelope::open(newest, &aad, &body)?.matches(plain.expose()) {
        true => Ok(body),
        false => Err(Error::internal("a deposit sealed anew does not open")),
    }
}

/// Rows of versions are inserted and deleted, never updated.
fn put_in_place(db: &Connection, id: DepositId, row: &Row, body: Vec<u8>) -> Result<()> {
    db.prepare_cached("DELETE FROM deposit_versions WHERE deposit = ?1 AND version = ?2")?
        .execute((id.as_bytes(), row.version))?;
    db.prepare_cached("INSERT INTO deposit_versions (deposit, version, size, encryption, content_type, created, created_by, parts, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
        .execute((
            id.as_bytes(),
            row.version,
            row.size,
            &row.encryption,
            &row.content_type,
            row.created,
            &row.created_by,
            &row.parts,
            body,
        ))?;
    Ok(())
}
