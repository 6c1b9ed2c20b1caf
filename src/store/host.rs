//! Hosts, and the hosts that one goes over to reach them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::list::{Rows, Start, walk};
use super::{Change, Store, Touches, host_group};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::deposit::{LabelKey, LabelValue};
use crate::model::filter::Filter;
use crate::model::host::{
    Address, Host, HostName, HostRow, HostSetting, HostSettings, HostState, Inherited, MOST,
    MOST_HOPS, chain, few_labels,
};
use crate::model::host_group::HostGroupPath;
use crate::model::id::HostId;

/// What of a host is to be another.
#[derive(Default)]
pub struct HostEdit {
    pub address: Option<Address>,
    /// Its group; none inside: it is to be in none.
    pub group: Option<Option<HostGroupPath>>,
    /// Set, or taken away.
    pub labels: BTreeMap<LabelKey, Option<LabelValue>>,
    /// Those that are given become its own.
    pub settings: HostSettings,
    /// These are its group's again.
    pub inherit: Vec<HostSetting>,
}

const SELECT: &str =
    "SELECT id, name, address, host_group, labels, state, settings, created, changed FROM hosts";

pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(error.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal(error.to_string()))
}

fn read(row: &Row<'_>) -> Result<HostRow> {
    let group: Option<String> = row.get(3)?;
    let state: String = row.get(5)?;
    Ok(HostRow {
        id: HostId(uuid::Uuid::from_bytes(row.get(0)?)),
        name: row.get::<_, String>(1)?.parse()?,
        address: row.get::<_, String>(2)?.parse()?,
        group: group.map(|path| path.parse()).transpose()?,
        labels: from_json(&row.get::<_, String>(4)?)?,
        state: HostState::ALL
            .into_iter()
            .find(|it| it.as_str() == state)
            .ok_or_else(|| Error::internal("a host in another state"))?,
        own: from_json(&row.get::<_, String>(6)?)?,
        created: Timestamp(row.get(7)?),
        changed: Timestamp(row.get(8)?),
    })
}

fn find(db: &Connection, name: &HostName) -> Result<Option<HostRow>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    rows.next()?.map(read).transpose()
}

fn there(db: &Connection, name: &HostName) -> Result<HostRow> {
    find(db, name)?.ok_or_else(|| {
        Error::not_found(format!(
            "no host is named `{name}`; `strongroom host list` shows them"
        ))
    })
}

/// Adds to `before` the hosts that one goes over to reach `host`, the first in front, each with what
/// lies before itself.
fn way(
    db: &Connection,
    inherited: &Inherited,
    host: &Host,
    before: &mut Vec<HostName>,
    within: &mut Vec<HostName>,
) -> Result<()> {
    if within.contains(&host.name) {
        return Err(Error::conflict(
            "jump_loop",
            format!(
                "the way to `{}` leads back to itself: {}",
                host.name,
                chain(within)
            ),
        ));
    }
    within.push(host.name.clone());
    for (at, jump) in host.jump.iter().enumerate() {
        let row = find(db, jump)?.ok_or_else(|| {
            Error::conflict(
                "no_such_jump_host",
                format!(
                    "the jump host `{jump}` of `{}` is not there; add it first",
                    host.name
                ),
            )
        })?;
        // What comes later in a list is reached from what stands before it.
        if at == 0 {
            way(db, inherited, &inherited.complete(row)?, before, within)?;
        }
        before.push(jump.clone());
        if before.len() > MOST_HOPS {
            return Err(Error::conflict(
                "too_many_hops",
                format!(
                    "the way to `{}` goes over more than {MOST_HOPS} hosts: {}",
                    host.name,
                    chain(before)
                ),
            ));
        }
    }
    within.pop();
    Ok(())
}

fn has_a_way(db: &Connection, inherited: &Inherited, host: &Host) -> Result<()> {
    way(db, inherited, host, &mut Vec::new(), &mut Vec::new())
}

/// That each host in a group, or in those within it, can still be reached.
pub(super) fn have_ways(
    db: &Connection,
    inherited: &Inherited,
    group: &HostGroupPath,
) -> Result<()> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE host_group = ?1 OR (host_group > ?2 AND host_group < ?3)"
    ))?;
    let (low, high) = group.within();
    let mut rows = statement.query((group.as_str(), low, high))?;
    while let Some(row) = rows.next()? {
        has_a_way(db, inherited, &inherited.complete(read(row)?)?)?;
    }
    Ok(())
}

impl Store {
    /// # Errors
    /// `name_taken`, `too_many_hosts`; `NotFound`: its group; `no_such_jump_host`, `too_many_hops`.
    pub async fn add_host(&self, change: Change, new: HostRow) -> Result<Host> {
        self.change_that(Touches::Hosts, change, 1024, move |tx, event| {
            if find(tx.db, &new.name)?.is_some() {
                return Err(Error::conflict(
                    "name_taken",
                    format!(
                        "a host is named `{}` already; `strongroom host edit` changes it",
                        new.name
                    ),
                ));
            }
            let count: i64 = tx
                .db
                .prepare_cached("SELECT count(*) FROM hosts")?
                .query_row((), |row| row.get(0))?;
            if count.unsigned_abs() >= MOST {
                return Err(Error::conflict(
                    "too_many_hosts",
                    format!("there are {MOST} hosts, as many as there may be"),
                ));
            }
            if let Some(group) = &new.group {
                host_group::there(tx.db, group)?;
            }
            tx.db
                .prepare_cached("INSERT INTO hosts (id, name, address, host_group, labels, state, settings, created, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)")?
                .execute((
                    new.id.as_bytes(),
                    new.name.as_str(),
                    new.address.as_str(),
                    new.group.as_ref().map(HostGroupPath::as_str),
                    json(&new.labels)?,
                    new.state.as_str(),
                    json(&new.own)?,
                    new.created.0,
                ))?;
            let inherited = host_group::inherited(tx.db)?;
            let host = inherited.complete(new)?;
            has_a_way(tx.db, &inherited, &host)?;
            event.detail = in_words(&host);
            Ok(host)
        })
        .await
    }

    /// # Errors
    /// `NotFound`: the host, or its new group; `jump_loop`, `no_such_jump_host`, `too_many_hops`.
    pub async fn edit_host(&self, change: Change, name: HostName, edit: HostEdit) -> Result<Host> {
        let now = change.event.time;
        self.change_that(Touches::Hosts, change, 1024, move |tx, event| {
            let mut row = there(tx.db, &name)?;
            let was = in_words_of(&row);
            row.address = edit.address.unwrap_or(row.address);
            for (key, value) in edit.labels {
                match value {
                    Some(value) => row.labels.insert(key, value),
                    None => row.labels.remove(&key),
                };
            }
            few_labels(&row.labels)?;
            if let Some(group) = edit.group {
                if let Some(group) = &group {
                    host_group::there(tx.db, group)?;
                }
                row.group = group;
            }
            for setting in edit.inherit {
                row.own.forget(setting);
            }
            row.own = edit.settings.over(&row.own);
            row.own.check()?;
            row.changed = now;
            tx.db.execute(
                "UPDATE hosts SET address = ?2, host_group = ?3, labels = ?4, settings = ?5, changed = ?6 WHERE id = ?1",
                (
                    row.id.as_bytes(),
                    row.address.as_str(),
                    row.group.as_ref().map(HostGroupPath::as_str),
                    json(&row.labels)?,
                    json(&row.own)?,
                    now.0,
                ),
            )?;
            event.object.id = row.id.to_string();
            event.detail = format!("{}, was {was}", in_words_of(&row));
            let inherited = host_group::inherited(tx.db)?;
            let host = inherited.complete(row)?;
            has_a_way(tx.db, &inherited, &host)?;
            Ok(host)
        })
        .await
    }

    /// # Errors
    /// `NotFound`, `host_in_use`: others are reached over it.
    pub async fn remove_host(&self, change: Change, name: HostName) -> Result<()> {
        self.change_that(Touches::Hosts, change, 512, move |tx, event| {
            let row = there(tx.db, &name)?;
            let holder: Option<String> = tx
                .db
                .query_row(
                    "SELECT 'host ' || h.name FROM hosts h, json_each(h.settings, '$.jump') j WHERE j.value = ?1
                     UNION ALL SELECT 'host group ' || g.path FROM host_groups g, json_each(g.settings, '$.jump') j WHERE j.value = ?1 LIMIT 1",
                    [name.as_str()],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(holder) = holder {
                return Err(Error::conflict(
                    "host_in_use",
                    format!("the {holder} is reached over `{name}`; give it another way first"),
                ));
            }
            event.object.id = row.id.to_string();
            event.detail = in_words_of(&row);
            tx.db
                .execute("DELETE FROM hosts WHERE id = ?1", [row.id.as_bytes()])?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// `NotFound`.
    pub fn host(&self, name: &HostName) -> Result<Host> {
        self.readers
            .point(|db| host_group::inherited(db)?.complete(there(db, name)?))
    }

    /// By name.
    pub async fn hosts(
        &self,
        start: Start<String>,
        filter: Filter<Host>,
        limit: usize,
    ) -> Result<Rows<Host>> {
        self.readers
            .scan(move |db| {
                let inherited = host_group::inherited(db)?;
                let read = |row: &Row<'_>| inherited.complete(read(row)?);
                let order = start.order();
                let (low, high) = start.bounds(filter.prefix("name").unwrap_or_default());
                let equals = filter.equals("group").map(str::to_owned);
                let (which, group) = match equals {
                    Some(group) => ("host_group = ?3", Some(group)),
                    None => ("?3 IS NULL", None),
                };
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE name >= ?1 AND name < ?2 AND {which} ORDER BY name {order}"
                ))?;
                walk(
                    &start,
                    &mut statement,
                    (low, high, group),
                    limit,
                    &filter,
                    read,
                )
            })
            .await
    }
}

fn in_words(host: &Host) -> String {
    words(&host.address, host.group.as_ref(), &host.own)
}

fn in_words_of(row: &HostRow) -> String {
    words(&row.address, row.group.as_ref(), &row.own)
}

/// Where it is and what is its own, as an event shows it.
fn words(address: &Address, group: Option<&HostGroupPath>, own: &HostSettings) -> String {
    let mut words = format!("at {address}");
    if let Some(group) = group {
        words.push_str(&format!(" in {group}"));
    }
    if !own.is_empty() {
        words.push_str(&format!(", {}", own.in_words()));
    }
    words
}
