//! Backups that count: verified, with a name.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::backup::Backup;

/// The newest so many are shown.
const MOST: u32 = 10_000;

const SELECT: &str = "SELECT id, created, verified, path, form, bytes, sha256, revision, newest_deposit, recipients, removed, drilled, by_job FROM backups";

fn read(row: &Row<'_>) -> rusqlite::Result<Backup> {
    let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
    let time = |at| row.get::<_, Option<i64>>(at).map(|it| it.map(Timestamp));
    let (form, recipients): (String, String) = (row.get(4)?, row.get(9)?);
    let wrong = |at, why: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(at, Type::Text, why)
    };
    Ok(Backup {
        id: Uuid::from_bytes(row.get(0)?),
        created: Timestamp(row.get(1)?),
        verified: Timestamp(row.get(2)?),
        path: row.get(3)?,
        form: form
            .parse()
            .map_err(|why: Error| wrong(4, why.public.into()))?,
        bytes: number(5)?,
        sha256: row.get(6)?,
        revision: number(7)?,
        newest_deposit: time(8)?,
        recipients: serde_json::from_str(&recipients).map_err(|why| wrong(9, why.into()))?,
        removed: time(10)?,
        drilled: time(11)?,
        by_job: row.get(12)?,
    })
}

fn one(db: &Connection, id: Uuid) -> Result<Backup> {
    db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?
        .query_row([id.as_bytes()], read)
        .optional()?
        .ok_or_else(|| Error::not_found(format!("there is no backup {id}")))
}

impl Store {
    pub async fn keep_backup(&self, change: Change, backup: Backup) -> Result<Backup> {
        let recipients = serde_json::to_string(&backup.recipients)
            .map_err(|error| Error::internal(error.to_string()))?;
        self.change(change, recipients.len(), move |tx, _| {
            let number = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
            tx.db.execute(
                "INSERT INTO backups VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, NULL, ?11, NULL)",
                (
                    backup.id.as_bytes(),
                    backup.created.0,
                    backup.verified.0,
                    &backup.path,
                    backup.form.as_str(),
                    number(backup.bytes),
                    &backup.sha256,
                    number(backup.revision),
                    backup.newest_deposit.map(|it| it.0),
                    &recipients,
                    backup.by_job,
                ),
            )?;
            Ok(backup)
        })
        .await
    }

    /// The newest first.
    pub fn backups(&self, removed_too: bool) -> Result<Vec<Backup>> {
        self.readers.point(|db| {
            let sql = format!(
                "{SELECT} WHERE ?1 OR removed IS NULL ORDER BY created DESC, id DESC LIMIT {MOST}"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map([removed_too], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    pub fn backup(&self, id: Uuid) -> Result<Backup> {
        self.readers.point(|db| one(db, id))
    }

    /// Its file is gone.
    ///
    /// # Errors
    /// `Conflict` if that is known already, or it is the newest that is there.
    pub async fn remove_backup(&self, change: Change, id: Uuid, now: Timestamp) -> Result<Backup> {
        self.change(change, 512, move |tx, _| {
            let backup = one(tx.db, id)?;
            let newer: bool = tx.db.query_row(
                "SELECT EXISTS (SELECT 1 FROM backups WHERE removed IS NULL AND created > ?1)",
                [backup.created.0],
                |row| row.get(0),
            )?;
            if !newer {
                return Err(Error::new(
                    Kind::Conflict,
                    "newest_backup",
                    "this is the newest backup; it stays until there is another",
                ));
            }
            tx.db.execute(
                "UPDATE backups SET removed = coalesce(removed, ?2) WHERE id = ?1",
                (id.as_bytes(), now.0),
            )?;
            one(tx.db, id)
        })
        .await
    }

    /// It was proven that it would bring everything back.
    pub async fn backup_drilled(&self, change: Change, id: Uuid, now: Timestamp) -> Result<Backup> {
        self.change(change, 512, move |tx, _| {
            tx.db.execute(
                "UPDATE backups SET drilled = ?2 WHERE id = ?1",
                (id.as_bytes(), now.0),
            )?;
            one(tx.db, id)
        })
        .await
    }

    /// Forgets those whose file is gone since before `before`.
    pub async fn forget_backups(&self, before: Timestamp) -> Result<()> {
        let bytes = 0;
        self.upkeep(super::Touches::Deposits, bytes, move |tx| {
            tx.db
                .execute("DELETE FROM backups WHERE removed < ?1", [before.0])?;
            Ok(())
        })
        .await
    }
}
