//! Groups of clients, and who is in them.

use rusqlite::{Connection, OptionalExtension, Row};

use super::client;
use super::list::{Rows, Start, walk};
use super::org::still_there;
use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::client::Client;
use crate::model::filter::Filter;
use crate::model::group::{Group, GroupName};
use crate::model::id::{Fingerprint, GroupId, OrgId};

/// Of one organization.
const MOST_GROUPS: i64 = 1_000;
/// In one group.
const MOST_MEMBERS: u64 = 100;

const SELECT: &str = "SELECT g.id, o.name, g.name, (SELECT count(*) FROM client_group_members m WHERE m.client_group = g.id), g.created
    FROM client_groups g JOIN orgs o ON o.id = g.org";

fn read(row: &Row<'_>) -> Result<Group> {
    Ok(Group {
        id: GroupId(uuid::Uuid::from_bytes(row.get(0)?)),
        org: row.get::<_, String>(1)?.parse()?,
        name: row.get::<_, String>(2)?.parse()?,
        members: row.get::<_, i64>(3)?.unsigned_abs(),
        created: Timestamp(row.get(4)?),
    })
}

fn find(db: &Connection, org: OrgId, name: &GroupName) -> Result<Option<Group>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE g.org = ?1 AND g.name = ?2"))?;
    let mut rows = statement.query((org.as_bytes(), name.as_str()))?;
    rows.next()?.map(read).transpose()
}

pub(super) fn found(db: &Connection, org: OrgId, name: &GroupName) -> Result<Group> {
    find(db, org, name)?
        .ok_or_else(|| Error::not_found(format!("no group of this organization is named `{name}`")))
}

impl Store {
    /// # Errors
    /// `name_taken`, `too_many_groups`.
    pub async fn add_group(
        &self,
        change: Change,
        org: OrgId,
        name: GroupName,
        now: Timestamp,
    ) -> Result<Group> {
        self.change_deposits(change, 512, move |tx, event| {
            still_there(tx.db, org)?;
            if find(tx.db, org, &name)?.is_some() {
                return Err(Error::conflict(
                    "name_taken",
                    format!("a group of this organization is named `{name}` already"),
                ));
            }
            let count: i64 = tx.db.query_row(
                "SELECT count(*) FROM client_groups WHERE org = ?1",
                [org.as_bytes()],
                |row| row.get(0),
            )?;
            if count >= MOST_GROUPS {
                return Err(Error::conflict(
                    "too_many_groups",
                    format!("an organization has up to {MOST_GROUPS} groups; remove one first"),
                ));
            }
            let id = GroupId::new();
            tx.db.execute(
                "INSERT INTO client_groups (id, org, name, created) VALUES (?1, ?2, ?3, ?4)",
                (id.as_bytes(), org.as_bytes(), name.as_str(), now.0),
            )?;
            event.object.id = id.to_string();
            found(tx.db, org, &name)
        })
        .await
    }

    /// # Errors
    /// `NotFound`, `group_in_use`: it reads deposits.
    pub async fn remove_group(&self, change: Change, org: OrgId, name: GroupName) -> Result<()> {
        self.change_deposits(change, 512, move |tx, _| {
            let group = found(tx.db, org, &name)?;
            let reads: Option<String> = tx
                .db
                .query_row(
                    "SELECT d.name FROM deposit_readers r JOIN deposits d ON d.id = r.deposit WHERE r.reader = ?1 LIMIT 1",
                    [group.id.as_bytes()],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(deposit) = reads {
                return Err(Error::conflict(
                    "group_in_use",
                    format!("deposits are shared with `{name}`, `{deposit}` among them; unshare them first"),
                ));
            }
            tx.db.execute(
                "DELETE FROM client_group_members WHERE client_group = ?1",
                [group.id.as_bytes()],
            )?;
            tx.db.execute(
                "DELETE FROM client_groups WHERE id = ?1",
                [group.id.as_bytes()],
            )?;
            Ok(())
        })
        .await
    }

    /// By name within an organization.
    pub async fn groups(
        &self,
        org: OrgId,
        start: Start<String>,
        filter: Filter<Group>,
        limit: usize,
    ) -> Result<Rows<Group>> {
        self.readers
            .scan(move |db| {
                let order = start.order();
                let (low, high) = start.bounds("");
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE g.org = ?1 AND g.name >= ?2 AND g.name < ?3 ORDER BY g.name {order}"
                ))?;
                let params = (org.as_bytes(), low, high);
                walk(&start, &mut statement, params, limit, &filter, read)
            })
            .await
    }

    /// A group, and who is in it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn group(&self, org: OrgId, name: &GroupName) -> Result<(Group, Vec<Client>)> {
        self.readers.point(|db| {
            let group = found(db, org, name)?;
            let members = client::members(db, group.id)?;
            Ok((group, members))
        })
    }

    /// Puts a client into a group, or takes it out.
    ///
    /// # Errors
    /// `NotFound`, `too_many_members`.
    pub async fn set_member(
        &self,
        change: Change,
        (org, name): (OrgId, GroupName),
        member: Fingerprint,
        is_in: bool,
        now: Timestamp,
    ) -> Result<Group> {
        self.change_deposits(change, 512, move |tx, event| {
            let group = found(tx.db, org, &name)?;
            let client = client::of_org(tx.db, &member, org)?;
            let (id, client) = (group.id.as_bytes(), client.client.id);
            if !is_in {
                tx.db.execute(
                    "DELETE FROM client_group_members WHERE client_group = ?1 AND client = ?2",
                    (id, client.as_bytes()),
                )?;
            } else {
                let there = tx
                    .db
                    .prepare_cached("SELECT 1 FROM client_group_members WHERE client_group = ?1 AND client = ?2")?
                    .exists((id, client.as_bytes()))?;
                if group.members >= MOST_MEMBERS && !there {
                    return Err(Error::conflict(
                        "too_many_members",
                        format!("a group has up to {MOST_MEMBERS} members"),
                    ));
                }
                tx.db.execute(
                    "INSERT OR IGNORE INTO client_group_members (client_group, client, added) VALUES (?1, ?2, ?3)",
                    (id, client.as_bytes(), now.0),
                )?;
            }
            event.object.id = group.id.to_string();
            event.detail = format!("client {member}");
            found(tx.db, org, &name)
        })
        .await
    }
}
