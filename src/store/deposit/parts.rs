//! Long bodies in parts, each a commit of its own, so that the head's transaction stays short. Parts
//! that no head will ever name are pending, and are dropped: by the put that failed, by upkeep, or
//! at the next start.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::body::{Body, Sealed};
use crate::crypto::envelope::{self, Aad};
use crate::error::{Error, Result};
use crate::model::id::DepositId;
use crate::secret::{Key, Secret};
use crate::store::{Store, Touches};

/// Longer bodies are written in parts of this size, the head last.
pub(super) const PART: usize = 256 << 10;

/// The first byte of a version's plaintext.
pub(super) const INLINE: u8 = 0;
pub(super) const PARTS: u8 = 1;

type PartsId = [u8; 16];

/// Parts that a put still works on.
#[derive(Clone, Default)]
pub(in crate::store) struct Laying(Arc<Mutex<HashSet<PartsId>>>);

/// Parts on the disk, kept from upkeep until the command that names them has run, or is given up.
struct Laid {
    id: PartsId,
    among: Laying,
}

/// The plaintext of a version: the body, or where its parts are and what opens them.
pub(super) struct Plain {
    pub bytes: Secret<Vec<u8>>,
    laid: Option<Laid>,
}

impl Laying {
    fn begin(&self) -> Laid {
        let id = *DepositId::new().as_bytes();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
        Laid {
            id,
            among: self.clone(),
        }
    }

    fn snapshot(&self) -> HashSet<PartsId> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        self.among
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

impl Plain {
    pub fn parts(&self) -> Option<PartsId> {
        self.laid.as_ref().map(|laid| laid.id)
    }
}

fn aad(parts: &PartsId, part: u32) -> Aad<'_> {
    Aad {
        table: "deposit_parts",
        column: "body",
        org: None,
        object: parts,
        version: u64::from(part),
    }
}

impl Store {
    /// Writes the parts of a long body; a short one stays in one piece.
    pub(super) async fn lay_out(&self, body: &Body) -> Result<Plain> {
        let body = body.bytes.expose();
        if body.len() <= PART {
            let mut bytes = Vec::with_capacity(body.len() + 1);
            bytes.push(INLINE);
            bytes.extend_from_slice(body);
            return Ok(Plain {
                bytes: Secret::new(bytes),
                laid: None,
            });
        }
        let laid = self.laying.begin();
        let parts = laid.id;
        let key = crate::crypto::keygen::key();
        let mut count: u32 = 0;
        for chunk in body.chunks(PART) {
            let sealed = envelope::seal(&key, 1, &aad(&parts, count), chunk)?;
            let part = count;
            self.upkeep(Touches::Deposits, sealed.len(), move |tx| {
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
            laid: Some(laid),
        })
    }

    /// Puts a long body together again.
    pub(super) fn gather(&self, sealed: &Sealed, manifest: &[u8]) -> Result<Secret<Vec<u8>>> {
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
                    &aad(parts, part),
                    row.get_ref(1)?.as_blob().unwrap_or_default(),
                )?;
                bytes.extend_from_slice(opened.expose());
                expected += 1;
            }
            if expected == 0 && !still_there(db, sealed)? {
                return Err(Error::not_found("the deposit was purged while it was read"));
            }
            if expected != u32::from_be_bytes(*count) || bytes.len() as u64 != size {
                return Err(damaged());
            }
            Ok(())
        })?;
        Ok(Secret::new(bytes))
    }

    /// Drops parts of puts that were given up: the caller went away, or the head was refused.
    /// Returns how many bodies.
    pub async fn drop_loose_parts(&self) -> Result<u64> {
        // Taken before the command is queued: whatever is not in it has all its commands queued
        // already, so none of them can add a part after the sweep.
        let laying = self.laying.snapshot();
        let loose = self.readers.point(|db| {
            let mut statement = db.prepare_cached("SELECT parts FROM pending_parts")?;
            let pending = statement.query_map((), |row| row.get::<_, PartsId>(0))?;
            Ok(pending.collect::<rusqlite::Result<Vec<_>>>()?)
        })?;
        let loose: Vec<PartsId> = loose
            .into_iter()
            .filter(|id| !laying.contains(id))
            .collect();
        if loose.is_empty() {
            return Ok(0);
        }
        self.drop_pending(loose).await
    }

    /// Drops those of these parts that no head took meanwhile.
    pub(super) async fn drop_pending(&self, parts: Vec<PartsId>) -> Result<u64> {
        self.upkeep(Touches::Deposits, 0, move |tx| {
            let mut dropped = 0;
            for id in parts {
                if tx
                    .db
                    .execute("DELETE FROM pending_parts WHERE parts = ?1", [id])?
                    > 0
                {
                    tx.db
                        .execute("DELETE FROM deposit_parts WHERE parts = ?1", [id])?;
                    dropped += 1;
                }
            }
            Ok(dropped)
        })
        .await
    }
}

fn still_there(db: &Connection, sealed: &Sealed) -> Result<bool> {
    Ok(db
        .prepare_cached("SELECT 1 FROM deposit_versions WHERE deposit = ?1 AND version = ?2")?
        .exists((sealed.head.id.as_bytes(), sealed.version))?)
}

/// Parts whose head was never written: the server ended between the two.
pub(in crate::store) fn drop_orphans(db: &mut Connection) -> Result<()> {
    let tx = db.transaction()?;
    tx.execute(
        "DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM pending_parts)",
        (),
    )?;
    tx.execute("DELETE FROM pending_parts", ())?;
    Ok(tx.commit()?)
}
