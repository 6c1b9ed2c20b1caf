//! Settings that differ from their defaults.

use rusqlite::OptionalExtension;

use super::{Change, Opened, Store, Touches};
use crate::error::Result;

impl Opened {
    pub fn settings(&self) -> Result<Vec<(String, String)>> {
        let mut statement = self.db.prepare("SELECT name, value FROM settings")?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Store {
    /// A setting's value, where it is not the default.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
            Ok(statement.query_row([name], |row| row.get(0)).optional()?)
        })
    }

    /// The lanes of jobs that are drained, with blanks between them.
    pub fn drained(&self) -> Result<String> {
        self.readers.point(|db| {
            let mut statement =
                db.prepare_cached("SELECT value FROM meta WHERE name = 'drained'")?;
            let found = statement.query_row((), |row| row.get(0)).optional()?;
            Ok(found.unwrap_or_default())
        })
    }

    /// Keeps which lanes are drained, on this node.
    pub async fn set_drained(&self, change: Change, lanes: String) -> Result<()> {
        self.change_that(Touches::Jobs, change, 64, move |tx, _| {
            tx.db.execute("INSERT INTO meta (name, value) VALUES ('drained', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value", [&lanes])?;
            Ok(())
        })
        .await
    }

    pub async fn set_setting(
        &self,
        change: Change,
        name: &'static str,
        value: String,
    ) -> Result<()> {
        self.change(change, 256, move |tx, _| {
            tx.db.execute("INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, &value))?;
            Ok(())
        })
        .await
    }
}
