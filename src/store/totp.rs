//! Second factors: the secret behind codes, and recovery codes.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::user::found;
use super::{Change, Store};
use crate::error::{Error, Kind, Result};
use crate::model::id::UserId;
use crate::model::user::UserName;

pub struct TotpRow {
    /// An envelope.
    pub secret: Vec<u8>,
    /// A code of it was given, so it is asked for.
    pub confirmed: bool,
    /// Codes of steps up to this one are spent.
    pub last_step: u64,
}

/// What proved a second factor; each counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Step(u64),
    Recovery([u8; 32]),
}

impl Store {
    pub fn totp(&self, user: UserId) -> Result<Option<TotpRow>> {
        self.readers.point(|db| {
            Ok(db
                .prepare_cached("SELECT secret, confirmed IS NOT NULL, last_step FROM second_factors WHERE user_id = ?1")?
                .query_row([user.as_bytes()], |row| {
                    Ok(TotpRow {
                        secret: row.get(0)?,
                        confirmed: row.get(1)?,
                        last_step: row.get::<_, i64>(2)?.unsigned_abs(),
                    })
                })
                .optional()?)
        })
    }

    /// Whether the user has this recovery code still.
    pub fn has_recovery_code(&self, user: UserId, hash: [u8; 32]) -> Result<bool> {
        self.readers.point(|db| {
            let mut there =
                db.prepare_cached("SELECT 1 FROM recovery_codes WHERE hash = ?1 AND user_id = ?2")?;
            Ok(there.exists((hash, user.as_bytes()))?)
        })
    }

    /// Takes the place of one that was never confirmed.
    ///
    /// # Errors
    /// `second_factor_there`.
    pub async fn enroll_totp<T>(
        &self,
        change: Change,
        name: UserName,
        (user, secret): (UserId, Vec<u8>),
        answer: T,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let now = change.event.time;
        self.change(change, 512, move |tx, _| {
            same_user(tx.db, &name, user)?;
            if is_confirmed(tx.db, user)? {
                return Err(Error::conflict(
                    "second_factor_there",
                    format!("`{name}` has a second factor already; remove it first"),
                ));
            }
            tx.db.execute(
                "INSERT OR REPLACE INTO second_factors (user_id, secret, created, confirmed, last_step) VALUES (?1, ?2, ?3, NULL, 0)",
                (user.as_bytes(), &secret, now.0),
            )?;
            Ok(answer)
        })
        .await
    }

    /// From now on it is asked for. Ends the user's sessions, which were begun without it.
    ///
    /// # Errors
    /// `no_second_factor`: it was taken away or enrolled anew meanwhile.
    pub async fn confirm_totp<T>(
        &self,
        change: Change,
        (user, secret, step): (UserId, Vec<u8>, u64),
        codes: Vec<[u8; 32]>,
        answer: T,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let now = change.event.time;
        self.change(change, 1_024, move |tx, _| {
            let confirmed = tx.db.execute(
                "UPDATE second_factors SET confirmed = ?2, last_step = ?3 WHERE user_id = ?1 AND confirmed IS NULL AND secret = ?4",
                (user.as_bytes(), now.0, i64::try_from(step).unwrap_or(i64::MAX), &secret),
            )?;
            if confirmed == 0 {
                return Err(none_to_confirm());
            }
            for hash in &codes {
                tx.db.execute(
                    "INSERT INTO recovery_codes (hash, user_id) VALUES (?1, ?2)",
                    (hash, user.as_bytes()),
                )?;
            }
            end_sessions(tx.db, user)?;
            Ok(answer)
        })
        .await
    }

    /// With its recovery codes; ends the user's sessions.
    ///
    /// # Errors
    /// `no_second_factor`.
    pub async fn remove_totp(&self, change: Change, name: UserName) -> Result<()> {
        self.change(change, 256, move |tx, _| {
            let user = found(tx.db, &name)?.user.id;
            if !clear(tx.db, user)? {
                return Err(Error::conflict(
                    "no_second_factor",
                    format!("`{name}` has no second factor"),
                ));
            }
            end_sessions(tx.db, user)
        })
        .await
    }
}

pub fn none_to_confirm() -> Error {
    Error::conflict(
        "no_second_factor",
        "no second factor waits for its first code; enroll one",
    )
}

/// The name may have been given to another user meanwhile.
fn same_user(db: &Connection, name: &UserName, user: UserId) -> Result<()> {
    if found(db, name)?.user.id == user {
        return Ok(());
    }
    Err(Error::not_found(format!("no user is named `{name}`")))
}

fn is_confirmed(db: &Connection, user: UserId) -> Result<bool> {
    let mut confirmed = db.prepare_cached(
        "SELECT 1 FROM second_factors WHERE user_id = ?1 AND confirmed IS NOT NULL",
    )?;
    Ok(confirmed.exists([user.as_bytes()])?)
}

fn end_sessions(db: &Connection, user: UserId) -> Result<()> {
    db.execute("DELETE FROM sessions WHERE user_id = ?1", [user.as_bytes()])?;
    Ok(())
}

/// True: there was one.
pub(super) fn clear(db: &Connection, user: UserId) -> Result<bool> {
    db.execute(
        "DELETE FROM recovery_codes WHERE user_id = ?1",
        [user.as_bytes()],
    )?;
    let gone = db.execute(
        "DELETE FROM second_factors WHERE user_id = ?1",
        [user.as_bytes()],
    )?;
    Ok(gone > 0)
}

/// Spends what proved the second factor, in the transaction that it lets happen; says how.
///
/// # Errors
/// `second_factor_refused`: somebody else was faster with it. `second_factor_required`: the user got
/// one meanwhile.
pub(super) fn spend(db: &Connection, user: UserId, proof: Option<Proof>) -> Result<String> {
    let spent = match proof {
        None if is_confirmed(db, user)? => {
            return Err(Error::new(
                Kind::Unauthenticated,
                "second_factor_required",
                "this user has a second factor; give `code`, too",
            ));
        }
        None => return Ok(String::new()),
        Some(Proof::Step(step)) => db.execute(
            "UPDATE second_factors SET last_step = ?2 WHERE user_id = ?1 AND confirmed IS NOT NULL AND last_step < ?2",
            (user.as_bytes(), i64::try_from(step).unwrap_or(i64::MAX)),
        )?,
        Some(Proof::Recovery(hash)) => db.execute(
            "DELETE FROM recovery_codes WHERE hash = ?1 AND user_id = ?2",
            (hash, user.as_bytes()),
        )?,
    };
    if spent == 0 {
        return Err(Error::new(
            Kind::Unauthenticated,
            "second_factor_refused",
            "this code was used already; wait for the next one",
        ));
    }
    if matches!(proof, Some(Proof::Step(_))) {
        return Ok("with a code".to_owned());
    }
    let left: i64 = db.query_row(
        "SELECT count(*) FROM recovery_codes WHERE user_id = ?1",
        [user.as_bytes()],
        |row| row.get(0),
    )?;
    Ok(format!("with a recovery code, {left} left"))
}
