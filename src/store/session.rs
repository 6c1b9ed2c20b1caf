//! Log-ins on the GUI's listener. Ids are stored hashed.

use rusqlite::OptionalExtension;

use super::totp::{Proof, spend};
use super::user::UserRow;
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::UserId;

pub struct SessionRow {
    pub user: UserRow,
    pub created: Timestamp,
    pub last_seen: Timestamp,
    /// When its user last proved who he is, beyond having the cookie.
    pub proven: Timestamp,
}

/// What a log-in, or another proof within a session, showed.
pub struct NewSession {
    pub hash: [u8; 32],
    pub user: UserId,
    /// The one that was checked: it may have changed since, and the user gone.
    pub password: String,
    pub proof: Option<Proof>,
}

fn changed_meanwhile(rows: usize) -> Result<()> {
    if rows == 0 {
        return Err(Error::not_found(
            "the user or the password changed meanwhile",
        ));
    }
    Ok(())
}

impl Store {
    /// # Errors
    /// `NotFound` if the password changed since it was checked; what spending the proof says.
    pub async fn add_session(&self, change: Change, new: NewSession, now: Timestamp) -> Result<()> {
        self.change(change, 256, move |tx, event| {
            event.detail = spend(tx.db, new.user, new.proof)?;
            let added = tx.db.execute(
                "INSERT INTO sessions (hash, user_id, created, last_seen, proven)
                 SELECT ?1, id, ?4, ?4, ?4 FROM users WHERE id = ?2 AND password = ?3 AND disabled = 0",
                (new.hash, new.user.as_bytes(), &new.password, now.0),
            )?;
            changed_meanwhile(added)
        })
        .await
    }

    /// Gives a session that is there another cookie, proven now.
    ///
    /// # Errors
    /// As `add_session`; `NotFound` also if the session is over.
    pub async fn renew_session(
        &self,
        change: Change,
        before: [u8; 32],
        new: NewSession,
        now: Timestamp,
    ) -> Result<()> {
        self.change(change, 256, move |tx, event| {
            event.detail = spend(tx.db, new.user, new.proof)?;
            let renewed = tx.db.execute(
                "UPDATE sessions SET hash = ?1, last_seen = ?4, proven = ?4 WHERE hash = ?5 AND user_id = ?2
                 AND EXISTS (SELECT 1 FROM users WHERE id = ?2 AND password = ?3 AND disabled = 0)",
                (new.hash, new.user.as_bytes(), &new.password, now.0, before),
            )?;
            changed_meanwhile(renewed)
        })
        .await
    }

    pub fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>> {
        self.readers.point(|db| {
            let row: Option<([u8; 16], i64, i64, i64)> = db
                .prepare_cached("SELECT user_id, created, last_seen, coalesce(proven, created) FROM sessions WHERE hash = ?1")?
                .query_row([hash], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            let Some((user, created, last_seen, proven)) = row else {
                return Ok(None);
            };
            Ok(Self::user_by_id(db, user)?.map(|user| SessionRow {
                user,
                created: Timestamp(created),
                last_seen: Timestamp(last_seen),
                proven: Timestamp(proven),
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
