//! Settings that differ from their defaults.

use rusqlite::OptionalExtension;

use super::{Change, Opened, Store};
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
