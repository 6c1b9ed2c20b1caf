//! Groups of hosts, and what they hand down.

use rusqlite::{Connection, OptionalExtension, Row};

use super::host::{from_json, have_ways, json};
use super::list::{Rows, Start, walk};
use super::{Change, Store, Touches};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::host::{HostSetting, HostSettings, Inherited};
use crate::model::host_group::{HostGroup, HostGroupPath, MOST};

const SELECT: &str = "SELECT g.path, (SELECT count(*) FROM hosts h WHERE h.host_group = g.path), g.settings, g.created FROM host_groups g";

fn read(row: &Row<'_>) -> Result<HostGroup> {
    Ok(HostGroup {
        path: row.get::<_, String>(0)?.parse()?,
        hosts: row.get::<_, i64>(1)?.unsigned_abs(),
        own: from_json(&row.get::<_, String>(2)?)?,
        created: Timestamp(row.get(3)?),
    })
}

fn find(db: &Connection, path: &HostGroupPath) -> Result<Option<HostGroup>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE g.path = ?1"))?;
    let mut rows = statement.query([path.as_str()])?;
    rows.next()?.map(read).transpose()
}

pub(super) fn there(db: &Connection, path: &HostGroupPath) -> Result<HostGroup> {
    find(db, path)?.ok_or_else(|| {
        Error::not_found(format!(
            "there is no host group `{path}`; `strongroom host-group add {path}` makes it"
        ))
    })
}

/// The settings of all groups that say something.
pub(super) fn inherited(db: &Connection) -> Result<Inherited> {
    let mut statement =
        db.prepare_cached("SELECT path, settings FROM host_groups WHERE settings <> '{}'")?;
    let mut rows = statement.query(())?;
    let mut all = Inherited::default();
    while let Some(row) = rows.next()? {
        let path = row.get::<_, String>(0)?.parse()?;
        all.0.insert(path, from_json(&row.get::<_, String>(1)?)?);
    }
    Ok(all)
}

fn insert(
    db: &Connection,
    path: &HostGroupPath,
    own: &HostSettings,
    now: Timestamp,
) -> Result<usize> {
    Ok(db
        .prepare_cached(
            "INSERT OR IGNORE INTO host_groups (path, settings, created) VALUES (?1, ?2, ?3)",
        )?
        .execute((path.as_str(), json(own)?, now.0))?)
}

impl Store {
    /// Makes it, and those that it lies in where they are not there.
    ///
    /// # Errors
    /// `name_taken`, `too_many_host_groups`; `no_such_jump_host` and the like.
    pub async fn add_host_group(
        &self,
        change: Change,
        path: HostGroupPath,
        own: HostSettings,
    ) -> Result<HostGroup> {
        let now = change.event.time;
        self.change_that(Touches::Hosts, change, 1024, move |tx, event| {
            if insert(tx.db, &path, &own, now)? == 0 {
                return Err(Error::conflict(
                    "name_taken",
                    format!("there is a host group `{path}` already; `strongroom host-group edit` changes it"),
                ));
            }
            for above in path.lineage().skip(1) {
                insert(tx.db, &above, &HostSettings::default(), now)?;
            }
            let count: i64 = tx
                .db
                .query_row("SELECT count(*) FROM host_groups", (), |row| row.get(0))?;
            if count.unsigned_abs() > MOST {
                return Err(Error::conflict(
                    "too_many_host_groups",
                    format!("there are {MOST} host groups, as many as there may be"),
                ));
            }
            known_jumps(tx.db, &own)?;
            event.detail = own.in_words();
            there(tx.db, &path)
        })
        .await
    }

    /// # Errors
    /// `NotFound`; `jump_loop`, `no_such_jump_host`, `too_many_hops`: of a host in it.
    pub async fn edit_host_group(
        &self,
        change: Change,
        path: HostGroupPath,
        settings: HostSettings,
        inherit: Vec<HostSetting>,
    ) -> Result<HostGroup> {
        self.change_that(Touches::Hosts, change, 1024, move |tx, event| {
            let was = there(tx.db, &path)?.own;
            let mut own = was.clone();
            for setting in inherit {
                own.forget(setting);
            }
            let own = settings.over(&own);
            own.check()?;
            tx.db.execute(
                "UPDATE host_groups SET settings = ?2 WHERE path = ?1",
                (path.as_str(), json(&own)?),
            )?;
            if own.jump != was.jump {
                known_jumps(tx.db, &own)?;
                have_ways(tx.db, &inherited(tx.db)?, &path)?;
            }
            event.detail = format!("{}; was {}", said(&own), said(&was));
            there(tx.db, &path)
        })
        .await
    }

    /// # Errors
    /// `NotFound`, `host_group_in_use`: hosts or groups are in it.
    pub async fn remove_host_group(&self, change: Change, path: HostGroupPath) -> Result<()> {
        self.change_that(Touches::Hosts, change, 512, move |tx, event| {
            event.detail = said(&there(tx.db, &path)?.own);
            let (low, high) = path.within();
            let within: Option<String> = tx
                .db
                .query_row(
                    "SELECT 'the host ' || name FROM hosts WHERE host_group = ?1
                     UNION ALL SELECT 'the group ' || path FROM host_groups WHERE path > ?2 AND path < ?3 LIMIT 1",
                    (path.as_str(), low, high),
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(within) = within {
                return Err(Error::conflict(
                    "host_group_in_use",
                    format!("{within} is in `{path}`; move or remove what is in it first"),
                ));
            }
            tx.db
                .execute("DELETE FROM host_groups WHERE path = ?1", [path.as_str()])?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// `NotFound`.
    pub fn host_group(&self, path: &HostGroupPath) -> Result<HostGroup> {
        self.readers.point(|db| there(db, path))
    }

    /// By path.
    pub async fn host_groups(
        &self,
        start: Start<String>,
        filter: Filter<HostGroup>,
        limit: usize,
    ) -> Result<Rows<HostGroup>> {
        self.readers
            .scan(move |db| {
                let order = start.order();
                let (low, high) = start.bounds(filter.prefix("path").unwrap_or_default());
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE g.path >= ?1 AND g.path < ?2 ORDER BY g.path {order}"
                ))?;
                walk(&start, &mut statement, (low, high), limit, &filter, read)
            })
            .await
    }
}

fn known_jumps(db: &Connection, own: &HostSettings) -> Result<()> {
    for jump in own.jump.iter().flatten() {
        let known = db
            .prepare_cached("SELECT 1 FROM hosts WHERE name = ?1")?
            .exists([jump.as_str()])?;
        if !known {
            return Err(Error::conflict(
                "no_such_jump_host",
                format!("the jump host `{jump}` is not there; add it first"),
            ));
        }
    }
    Ok(())
}

/// What a group says, as an event shows it.
fn said(own: &HostSettings) -> String {
    match own.is_empty() {
        true => "nothing of its own".to_owned(),
        false => own.in_words(),
    }
}
