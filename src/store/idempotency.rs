//! First answers, kept so that a retry returns them instead of acting twice.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Once, Store, Touches};
use crate::clock::Timestamp;
use crate::crypto::chain::Tagger;
use crate::crypto::envelope::{self, Aad};
use crate::crypto::kdf;
use crate::error::{Error, Kind, Result};
use crate::secret::Key;

/// How long an answer is kept.
const KEPT: i64 = 24 * Timestamp::HOUR;

fn aad(once: &Once) -> Aad<'_> {
    Aad {
        table: "idempotency",
        column: "answer",
        org: None,
        object: once.key.as_bytes(),
        version: 1,
    }
}

/// The request's hash as it is kept: a plain one would let passwords and codes be guessed.
fn bound(key: &Key, once: &Once) -> [u8; 32] {
    Tagger::new(&kdf::derive(key, "idempotency-request/v1")).tag(&once.request_hash)
}

/// The first answer to this key, if there is one.
///
/// # Errors
/// `KeyReused` if the key came with another request.
pub(super) fn find<T: DeserializeOwned>(
    db: &Connection,
    key: &Key,
    once: &Once,
) -> Result<Option<T>> {
    let row: Option<([u8; 32], Vec<u8>)> = db
        .prepare_cached(
            "SELECT request_hash, answer FROM idempotency WHERE caller = ?1 AND key = ?2",
        )?
        .query_row((&once.caller, &once.key), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((request_hash, answer)) = row else {
        return Ok(None);
    };
    if request_hash != bound(key, once) {
        return Err(Error::new(
            Kind::KeyReused,
            "key_reused",
            "this idempotency key was used for another request within 24 hours; use a new one",
        ));
    }
    let answer = envelope::open(key, &aad(once), &answer)?;
    serde_json::from_slice(answer.expose())
        .map(Some)
        .map_err(|_| {
            Error::new(
                Kind::KeyReused,
                "key_reused",
                "this idempotency key was used for a request of another kind; use a new one",
            )
        })
}

pub(super) fn keep<T: Serialize>(
    db: &Connection,
    key: &Key,
    once: &Once,
    answer: &T,
    now: Timestamp,
) -> Result<()> {
    let answer = crate::secret::Secret::new(
        serde_json::to_vec(answer).map_err(|error| Error::internal(error.to_string()))?,
    );
    let sealed = envelope::seal(key, 1, &aad(once), answer.expose())?;
    db.prepare_cached("INSERT INTO idempotency (caller, key, request_hash, answer, created) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        &once.caller,
        &once.key,
        bound(key, once),
        sealed,
        now.0,
    ))?;
    Ok(())
}

impl Store {
    /// The answer that this key got before, for a retry that does not come as far as the writer:
    /// its object is gone, or its body is long.
    ///
    /// # Errors
    /// `KeyReused`.
    pub fn first_answer<T: DeserializeOwned>(&self, once: &Once) -> Result<Option<T>> {
        self.readers.point(|db| find(db, &self.answers, once))
    }

    /// Drops answers older than 24 hours, some at a time; returns how many.
    pub async fn prune_answers(&self, now: Timestamp) -> Result<u64> {
        // An idle server writes nothing.
        let old = self.readers.point(|db| {
            let mut any =
                db.prepare_cached("SELECT 1 FROM idempotency WHERE created < ?1 LIMIT 1")?;
            Ok(any.exists([now.0 - KEPT])?)
        })?;
        if !old {
            return Ok(0);
        }
        self.upkeep(Touches::Anything, 0, move |tx| {
            let gone = tx.db.execute("DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE created < ?1 ORDER BY created LIMIT 1000)", [now.0 - KEPT])?;
            Ok(gone as u64)
        })
        .await
    }
}
