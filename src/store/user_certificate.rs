//! The keys by whose certificates API users come.

use rusqlite::{Connection, OptionalExtension};

use super::user::UserRow;
use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::{Fingerprint, UserId};

/// Certificates of one user.
const MOST: u32 = 32;

pub struct UserCertificateRow {
    pub fingerprint: Fingerprint,
    /// DER.
    pub certificate: Vec<u8>,
    pub added: Timestamp,
}

/// Whether a key is a user's.
pub(super) fn is_a_users(db: &Connection, fingerprint: &Fingerprint) -> Result<bool> {
    Ok(db
        .prepare_cached("SELECT 1 FROM user_certificates WHERE spki = ?1")?
        .exists([fingerprint.0])?)
}

impl Store {
    /// # Errors
    /// `key_taken` if the key is a client's or a user's already; `too_many_certificates`.
    pub async fn add_user_certificate<T>(
        &self,
        change: Change,
        user: UserId,
        row: UserCertificateRow,
        answer: T,
    ) -> Result<T>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        self.change(change, row.certificate.len(), move |tx, _| {
            let of_a_client = tx
                .db
                .prepare_cached("SELECT 1 FROM client_keys WHERE spki = ?1")?
                .exists([row.fingerprint.0])?;
            if of_a_client || is_a_users(tx.db, &row.fingerprint)? {
                let whose = if of_a_client { "a client" } else { "a user" };
                return Err(Error::conflict(
                    "key_taken",
                    format!("the key {} belongs to {whose} already; one key belongs to one of them", row.fingerprint),
                ));
            }
            let have: u32 = tx.db.query_row(
                "SELECT count(*) FROM user_certificates WHERE user_id = ?1",
                [user.as_bytes()],
                |row| row.get(0),
            )?;
            if have >= MOST {
                return Err(Error::conflict(
                    "too_many_certificates",
                    format!("a user has up to {MOST} certificates; remove one first"),
                ));
            }
            tx.db.execute(
                "INSERT INTO user_certificates (spki, user_id, certificate, added) VALUES (?1, ?2, ?3, ?4)",
                (row.fingerprint.0, user.as_bytes(), &row.certificate, row.added.0),
            )?;
            Ok(answer)
        })
        .await
    }

    /// # Errors
    /// `NotFound`.
    pub async fn remove_user_certificate(
        &self,
        change: Change,
        user: UserId,
        fingerprint: Fingerprint,
    ) -> Result<()> {
        self.change(change, 256, move |tx, _| {
            let gone = tx.db.execute(
                "DELETE FROM user_certificates WHERE spki = ?1 AND user_id = ?2",
                (fingerprint.0, user.as_bytes()),
            )?;
            match gone {
                0 => Err(Error::not_found(format!(
                    "the user has no certificate of the key {fingerprint}"
                ))),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Oldest first.
    pub fn user_certificates(&self, user: UserId) -> Result<Vec<UserCertificateRow>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached("SELECT spki, certificate, added FROM user_certificates WHERE user_id = ?1 ORDER BY added, spki")?;
            let rows = statement.query_map([user.as_bytes()], |row| {
                Ok(UserCertificateRow {
                    fingerprint: Fingerprint(row.get(0)?),
                    certificate: row.get(1)?,
                    added: Timestamp(row.get(2)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    pub fn user_by_key(&self, fingerprint: &Fingerprint) -> Result<Option<UserRow>> {
        self.readers.point(|db| {
            let id: Option<[u8; 16]> = db
                .prepare_cached("SELECT user_id FROM user_certificates WHERE spki = ?1")?
                .query_row([fingerprint.0], |row| row.get(0))
                .optional()?;
            match id {
                Some(id) => Self::user_by_id(db, id),
                None => Ok(None),
            }
        })
    }
}
