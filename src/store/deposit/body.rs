//! A deposit's bytes: sealed in their version's row, or in parts beside it where they are long.

use std::sync::Arc;

use rusqlite::Connection;

use super::Put;
use super::row::{Which, no_such, read_version};
use crate::clock::Timestamp;
use crate::crypto::envelope::{self, Aad};
use crate::error::{Error, Result};
use crate::model::deposit::DepositVersion;
use crate::model::id::{ClientId, DepositId, OrgId};
use crate::secret::{Key, Secret};
use crate::store::Store;

/// Longer bodies are written in parts of this size, the head last.
pub const PART: usize = 256 << 10;
/// The first byte of a version's plaintext.
const INLINE: u8 = 0;
const PARTS: u8 = 1;

/// A body with the organization's key that seals it.
pub struct Body {
    pub bytes: Secret<Vec<u8>>,
    pub key: Arc<Key>,
    pub key_version: u32,
}

/// A version as it lies in the store.
pub struct Sealed {
    pub head: Owned,
    pub version: DepositVersion,
    body: Vec<u8>,
    parts: Option<[u8; 16]>,
}

/// As much of a head as a fetch needs.
#[derive(Clone, Debug)]
pub struct Owned {
    pub id: DepositId,
    pub org: OrgId,
    pub owner: Option<ClientId>,
    pub deleted: Option<Timestamp>,
}

pub(super) fn body_aad<'a>(org: OrgId, id: &'a DepositId, version: u32) -> Aad<'a> {
    Aad {
        table: "deposit_versions",
        column: "body",
        org: Some(org),
        object: id.as_bytes(),
        version: u64::from(version),
    }
}

fn part_aad(parts: &[u8; 16], part: u32) -> Aad<'_> {
    Aad {
        table: "deposit_parts",
        column: "body",
        org: None,
        object: parts,
        version: u64::from(part),
    }
}

/// The plaintext of a version: the body, or where its parts are and what opens them.
pub(super) struct Plain {
    pub bytes: Secret<Vec<u8>>,
    pub parts: Option<[u8; 16]>,
}

impl Store {
    /// Writes the parts of a long body, so that the head's transaction stays short.
    pub(super) async fn lay_out(&self, put: &Put) -> Result<Plain> {
        let body = put.body.bytes.expose();
        if body.len() <= PART {
            let mut bytes = Vec::with_capacity(body.len() + 1);
            bytes.push(INLINE);
            bytes.extend_from_slice(body);
            return Ok(Plain {
                bytes: Secret::new(bytes),
                parts: None,
            });
        }
        let parts: [u8; 16] = *DepositId::new().as_bytes();
        let key = crate::crypto::keygen::key();
        let mut count: u32 = 0;
        for chunk in body.chunks(PART) {
            let sealed = envelope::seal(&key, 1, &part_aad(&parts, count), chunk)?;
            let part = count;
            self.upkeep(sealed.len(), move |tx| {
                if part == 0 {
                    tx.db
                        .execute("INSERT INTO pending_parts VALUES (?1)", [parts])?;
                }
                tx.db
                    .prepare_cached(
                        "INSERT INTO deposit_parts (parts, part, body) VALUES (?1, ?2, ?3)",
                    )?
                    .execute((parts, part, sealed))?;
                Ok(())
            })
            .await?;
            count += 1;
        }
        let mut bytes = vec![PARTS];
        bytes.extend_from_slice(&parts);
        bytes.extend_from_slice(key.expose());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
        Ok(Plain {
            bytes: Secret::new(bytes),
            parts: Some(parts),
        })
    }

    /// The version asked for, or the newest, still sealed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn sealed_deposit(&self, which: &Which, version: Option<u32>) -> Result<Sealed> {
        const COLUMNS: &str = "SELECT d.id, d.org, d.owner, d.deleted, v.version, v.size, v.encryption, v.content_type, v.created, v.created_by, v.body, v.parts
            FROM deposits d JOIN deposit_versions v ON v.deposit = d.id AND v.version = coalesce(?1, d.version)";
        self.readers.point(|db| {
            let mut statement;
            let mut rows = match which {
                Which::Name(org, name) => {
                    statement =
                        db.prepare_cached(&format!("{COLUMNS} WHERE d.org = ?2 AND d.name = ?3"))?;
                    statement.query((version, org.as_bytes(), name.as_str()))?
                }
                Which::Id(id) => {
                    statement = db.prepare_cached(&format!("{COLUMNS} WHERE d.id = ?2"))?;
                    statement.query((version, id.as_bytes()))?
                }
            };
            let Some(row) = rows.next()? else {
                let missing = no_such(which);
                return Err(match version {
                    Some(version) => {
                        Error::not_found(format!("{missing}, or it has no version {version}"))
                    }
                    None => missing,
                });
            };
            Ok(Sealed {
                head: Owned {
                    id: DepositId(uuid::Uuid::from_bytes(row.get(0)?)),
                    org: OrgId(uuid::Uuid::from_bytes(row.get(1)?)),
                    owner: row
                        .get::<_, Option<[u8; 16]>>(2)?
                        .map(|id| ClientId(uuid::Uuid::from_bytes(id))),
                    deleted: row.get::<_, Option<i64>>(3)?.map(Timestamp),
                },
                version: read_version(row, 4)?,
                body: row.get(10)?,
                parts: row.get(11)?,
            })
        })
    }

    /// Opens what `sealed_deposit` found. `key` gives the organization's key of a version.
    pub fn open_deposit(
        &self,
        sealed: &Sealed,
        key: impl FnOnce(u32) -> Result<Arc<Key>>,
    ) -> Result<Secret<Vec<u8>>> {
        let parent = key(envelope::key_id(&sealed.body)?)?;
        let plain = envelope::open(
            &parent,
            &body_aad(sealed.head.org, &sealed.head.id, sealed.version.version),
            &sealed.body,
        )?;
        match (plain.expose().split_first(), sealed.parts) {
            (Some((&INLINE, body)), None) => Ok(Secret::new(body.to_vec())),
            (Some((&PARTS, manifest)), Some(_)) => self.gather(manifest),
            _ => Err(Error::internal("a deposit's body has an unknown form")),
        }
    }

    fn gather(&self, manifest: &[u8]) -> Result<Secret<Vec<u8>>> {
        let damaged = || Error::internal("the parts of a deposit's body do not fit its head");
        let (parts, rest) = manifest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let (key, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (count, size) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u64::from_be_bytes(size.try_into().map_err(|_| damaged())?);
        let key = Key::new(*key);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(32 << 20));
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(
                "SELECT part, body FROM deposit_parts WHERE parts = ?1 ORDER BY part",
            )?;
            let mut rows = statement.query([parts])?;
            let mut expected = 0;
            while let Some(row) = rows.next()? {
                let part: u32 = row.get(0)?;
                if part != expected {
                    return Err(damaged());
                }
                let opened = envelope::open(
                    &key,
                    &part_aad(parts, part),
                    row.get_ref(1)?.as_blob().unwrap_or_default(),
                )?;
                bytes.extend_from_slice(opened.expose());
                expected += 1;
            }
            if expected != u32::from_be_bytes(*count) || bytes.len() as u64 != size {
                return Err(damaged());
            }
            Ok(())
        })?;
        Ok(Secret::new(bytes))
    }

    /// Drops the parts of a body whose head was not written.
    pub(super) async fn drop_parts(&self, parts: [u8; 16]) -> Result<u64> {
        self.upkeep(0, move |tx| {
            tx.db.execute("DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM pending_parts WHERE parts = ?1)", [parts])?;
            Ok(tx.db.execute("DELETE FROM pending_parts WHERE parts = ?1", [parts])? as u64)
        })
        .await
    }
}

/// How long a body may take from its first part to its head, in milliseconds.
const LONGEST_PUT: i64 = 3_600_000;

impl Store {
    /// Drops parts whose put was given up half way, an hour ago or more; returns how many bodies.
    pub async fn prune_parts(&self, now: Timestamp) -> Result<u64> {
        // Their ids begin with the time they were made, in milliseconds.
        let before = (now.0 / 1_000 - LONGEST_PUT).to_be_bytes()[2..].to_vec();
        self.upkeep(0, move |tx| {
            tx.db.execute("DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM pending_parts WHERE parts < ?1)", [&before])?;
            Ok(tx.db.execute("DELETE FROM pending_parts WHERE parts < ?1", [&before])? as u64)
        })
        .await
    }
}

/// Parts whose head was never written: the server ended between the two.
pub(in crate::store) fn drop_orphaned_parts(db: &Connection) -> Result<()> {
    Ok(db.execute_batch("BEGIN; DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM pending_parts); DELETE FROM pending_parts; COMMIT")?)
}
