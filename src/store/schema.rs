//! Migrations, numbered and forward only, and which tables a twin receives.

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// The migrations of `strongroom.db`, in order. A released one never changes.
const STORE: &[(&str, &str)] = &[
    ("0001_store", include_str!("migrations/0001_store.sql")),
    ("0002_release", include_str!("migrations/0002_release.sql")),
    (
        "0003_orgs_users",
        include_str!("migrations/0003_orgs_users.sql"),
    ),
    (
        "0004_user_certificates",
        include_str!("migrations/0004_user_certificates.sql"),
    ),
    (
        "0005_key_rotations",
        include_str!("migrations/0005_key_rotations.sql"),
    ),
    (
        "0006_audit_segments",
        include_str!("migrations/0006_audit_segments.sql"),
    ),
    ("0007_quotas", include_str!("migrations/0007_quotas.sql")),
    ("0008_backups", include_str!("migrations/0008_backups.sql")),
    (
        "0009_recipients",
        include_str!("migrations/0009_recipients.sql"),
    ),
    ("0010_jobs", include_str!("migrations/0010_jobs.sql")),
    ("0011_hosts", include_str!("migrations/0011_hosts.sql")),
];
/// Those of `access.db`.
const ACCESS: &[(&str, &str)] = &[
    ("access_0001", include_str!("migrations/access_0001.sql")),
    ("access_0002", include_str!("migrations/access_0002.sql")),
];

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Store,
    Access,
}

impl File {
    fn migrations(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Store => STORE,
            Self::Access => ACCESS,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "strongroom.db",
            Self::Access => "access.db",
        }
    }
}

/// How far a file is behind this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub found: usize,
    pub known: usize,
}

impl Standing {
    pub fn is_behind(self) -> bool {
        self.found < self.known
    }
}

/// The newest schema that this program knows.
pub fn known(file: File) -> usize {
    file.migrations().len()
}

/// Which schema a file has, and which this program knows.
///
/// # Errors
/// `schema_newer` if the file was written by a newer program.
pub fn standing(db: &Connection, file: File) -> Result<Standing> {
    let there: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'migrations')",
        (),
        |row| row.get(0),
    )?;
    let found = if there { version(db)? } else { 0 };
    let known = file.migrations().len();
    if found > known {
        return Err(Error::unavailable(
            "schema_newer",
            format!(
                "{} has schema {found}, this program knows up to {known}; start the newer program that wrote it, or go back with it to the copy from before its upgrade (strongroom rollback)",
                file.name(),
            ),
        ));
    }
    Ok(Standing { found, known })
}

/// Brings a file to this program's schema, in one transaction: it is never half way.
///
/// # Errors
/// `schema_newer` if the file was written by a newer program; nothing is changed then.
pub fn migrate(db: &Connection, file: File, now: Timestamp) -> Result<()> {
    let Standing { found, known } = standing(db, file)?;
    if found == known {
        return Ok(());
    }
    db.execute_batch("BEGIN IMMEDIATE")?;
    let applied = apply(db, file, found, now).and_then(|()| db.execute_batch("COMMIT"));
    applied.map_err(|error| {
        // The transaction is gone with the connection if this fails too.
        let _ = db.execute_batch("ROLLBACK");
        error.into()
    })
}

fn apply(db: &Connection, file: File, found: usize, now: Timestamp) -> rusqlite::Result<()> {
    db.execute_batch("CREATE TABLE IF NOT EXISTS migrations (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL)")?;
    for (at, (name, sql)) in file.migrations().iter().enumerate().skip(found) {
        let number = i64::try_from(at + 1).unwrap_or(i64::MAX);
        db.execute_batch(sql)?;
        db.execute(
            "INSERT INTO migrations VALUES (?1, ?2, ?3)",
            (number, name, now.0),
        )?;
    }
    Ok(())
}

/// How many migrations the file has.
fn version(db: &Connection) -> Result<usize> {
    let count: i64 = db.query_row("SELECT count(*) FROM migrations", (), |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a table's rows go to a twin.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Reach {
        Replicated,
        Local,
    }

    /// Every table of `strongroom.db`; a test refuses one that is missing here.
    const TABLES: &[(&str, Reach)] = &[
        ("audit_segments", Reach::Replicated),
        ("backups", Reach::Local),
        ("checkpoints", Reach::Local),
        ("client_group_members", Reach::Replicated),
        ("client_groups", Reach::Replicated),
        ("client_keys", Reach::Replicated),
        ("clients", Reach::Replicated),
        ("deposit_labels", Reach::Replicated),
        ("deposit_parts", Reach::Replicated),
        ("deposit_readers", Reach::Replicated),
        ("deposit_versions", Reach::Replicated),
        ("deposits", Reach::Replicated),
        ("events", Reach::Replicated),
        ("grants", Reach::Replicated),
        ("host_groups", Reach::Replicated),
        ("hosts", Reach::Replicated),
        ("idempotency", Reach::Replicated),
        ("job_logs", Reach::Local),
        ("jobs", Reach::Local),
        ("key_rotations", Reach::Local),
        ("meta", Reach::Local),
        ("migrations", Reach::Local),
        ("org_keys", Reach::Replicated),
        ("orgs", Reach::Replicated),
        ("pending_parts", Reach::Local),
        ("recipients", Reach::Replicated),
        ("recovery_codes", Reach::Replicated),
        ("removed_orgs", Reach::Replicated),
        ("schedule_runs", Reach::Local),
        ("schedules", Reach::Replicated),
        ("second_factors", Reach::Replicated),
        ("sessions", Reach::Local),
        ("settings", Reach::Replicated),
        ("system_keys", Reach::Replicated),
        ("tokens", Reach::Replicated),
        ("user_certificates", Reach::Replicated),
        ("users", Reach::Replicated),
    ];

    fn fresh() -> Connection {
        #[allow(clippy::disallowed_methods, reason = "a schema in memory needs no key")]
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, File::Store, Timestamp(0)).unwrap();
        db
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_of_those_before_it() {
        #[allow(clippy::disallowed_methods, reason = "a schema in memory needs no key")]
        let db = Connection::open_in_memory().unwrap();
        // In the way of the last one.
        db.execute_batch("CREATE TABLE deposit_readers (x)")
            .unwrap();
        migrate(&db, File::Store, Timestamp(0)).unwrap_err();
        assert_eq!(standing(&db, File::Store).unwrap().found, 0);
        let tables: i64 = db
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
                (),
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 1);
    }

    #[test]
    fn migrations_are_numbered_by_their_place() {
        for (at, (name, _)) in STORE.iter().enumerate() {
            assert!(name.starts_with(&format!("{:04}_", at + 1)), "{name}");
        }
        let said = include_str!("../../docs/formats/store.md");
        assert!(said.starts_with(&format!(
            "# The store: strongroom.db (schema {}) ",
            STORE.len()
        )));
    }

    #[test]
    fn every_table_says_whether_a_twin_receives_it() {
        let db = fresh();
        let mut statement = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name").unwrap();
        let tables: Vec<String> = statement
            .query_map((), |row| row.get(0))
            .unwrap()
            .map(|name| name.unwrap())
            .collect();
        let declared: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(tables, declared);
    }

    #[test]
    fn every_table_has_a_declared_key_that_is_never_null() {
        let db = fresh();
        for (table, _) in TABLES {
            let (keys, nullable): (i64, i64) = db
                .query_row("SELECT count(*), coalesce(sum(\"notnull\" = 0), 0) FROM pragma_table_info(?1) WHERE pk > 0", [table], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            assert!(
                keys > 0 && nullable == 0,
                "{table}: {keys} key columns, {nullable} of them nullable"
            );
        }
        let other: i64 = db.query_row("SELECT count(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR sql LIKE '%AUTOINCREMENT%' OR sql LIKE '%WITHOUT ROWID%'", (), |row| row.get(0)).unwrap();
        assert_eq!(other, 0);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let db = fresh();
        db.execute(
            "INSERT INTO migrations VALUES (99, 'from the future', 0)",
            (),
        )
        .unwrap();
        let error = migrate(&db, File::Store, Timestamp(0)).unwrap_err();
        assert_eq!(error.code, "schema_newer");
        assert_eq!(version(&db).unwrap(), STORE.len() + 1);
    }
}
