//! Log-ins on the GUI's listener. Ids are stored hashed.

use rusqlite::OptionalExtension;

use super::user::UserRow;
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::UserId;

pub struct SessionRow {
    pub user: UserRow,
    pub created: Timestamp,
    pub last_seen: Timestamp,
}

impl Store {
    /// `password` is the one that was checked: it may have changed since, and the user gone.
    ///
    /// # Errors
    /// `NotFound` if it did.
    pub async fn add_session(
        &self,
        change: Change,
        hash: [u8; 32],
        (user, password): (UserId, String),
        now: Timestamp,
    ) -> Result<()> {
        self.change(change, 256, move |tx, _| {
            let added = tx.db.execute(
                "INSERT INTO sessions (hash, user_id, created, last_seen)
                 SELECT ?1, id, ?4, ?4 FROM users WHERE id = ?2 AND password = ?3 AND disabled = 0",
                (hash, user.as_bytes(), &password, now.0),
            )?;
            if added == 0 {
                return Err(Error::not_found(
                    "the user or the password changed meanwhile",
                ));
            }
            Ok(())
        })
        .await
    }

    pub fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>> {
        self.readers.point(|db| {
            let row: Option<([u8; 16], i64, i64)> = db
                .prepare_cached("SELECT user_id, created, last_seen FROM sessions WHERE hash = ?1")?
                .query_row([hash], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let Some((user, created, last_seen)) = row else {
                return Ok(None);
            };
            Ok(Self::user_by_id(db, user)?.map(|user| SessionRow {
                user,
                created: Timestamp(created),
                last_seen: Timestamp(last_seen),
            }))
        })
    }

    /// Moves the end of idleness; the service calls it once a minute at most.
    pub async fn touch_session(&self, hash: [u8; 32], now: Timestamp) -> Result<()> {
        self.upkeep(Touches::Anything, 64, move |tx| {
            tx.db.execute(
                "UPDATE sessions SET last_seen = ?2 WHERE hash = ?1",
                (hash, now.0),
            )?;
            Ok(())
        })
        .await
    }

    pub async fn remove_session(&self, change: Change, hash: [u8; 32]) -> Result<()> {
        self.change(change, 64, move |tx, _| {
            tx.db
                .execute("DELETE FROM sessions WHERE hash = ?1", [hash])?;
            Ok(())
        })
        .await
    }

    /// Ends everyone's session.
    pub async fn end_sessions(&self) -> Result<()> {
        self.upkeep(Touches::Anything, 64, |tx| {
            tx.db.execute("DELETE FROM sessions", ())?;
            Ok(())
        })
        .await
    }

    /// Drops sessions that nobody used since `before`; returns how many.
    pub async fn prune_sessions(&self, before: Timestamp) -> Result<u64> {
        let old = self.readers.point(|db| {
            let mut any =
                db.prepare_cached("SELECT 1 FROM sessions WHERE last_seen < ?1 LIMIT 1")?;
            Ok(any.exists([before.0])?)
        })?;
        if !old {
            return Ok(0);
        }
        self.upkeep(Touches::Anything, 0, move |tx| {
            Ok(tx
                .db
                .execute("DELETE FROM sessions WHERE last_seen < ?1", [before.0])?
                as u64)
        })
        .await
    }
}
