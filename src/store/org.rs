//! Organizations and their keys.

use rusqlite::{Connection, Row};

use super::list::{Rows, Start, walk};
use super::meta::WrappedKey;
use super::quota;
use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::OrgId;
use crate::model::org::{Contact, Org, OrgName, Registration};

/// An organization with what only the service may see.
#[derive(Clone)]
pub struct OrgRow {
    pub org: Org,
    /// An envelope; none where registration is open.
    pub auth_code: Option<Vec<u8>>,
}

pub struct NewOrg {
    pub org: Org,
    pub auth_code: Option<Vec<u8>>,
    pub key: WrappedKey,
}

const COLUMNS: &str = "id, name, contacts, auth_code, recovery_recipient, created, clients, deposits, expires, bytes, quota_objects, quota_bytes, quota_requests";

fn read(row: &Row<'_>) -> Result<OrgRow> {
    let contacts: String = row.get(2)?;
    let auth_code: Option<Vec<u8>> = row.get(3)?;
    Ok(OrgRow {
        org: Org {
            id: OrgId(uuid::Uuid::from_bytes(row.get(0)?)),
            name: row.get::<_, String>(1)?.parse()?,
            contacts: serde_json::from_str(&contacts)
                .map_err(|error| Error::internal(error.to_string()))?,
            registration: if auth_code.is_some() {
                Registration::Code
            } else {
                Registration::Open
            },
            recovery_recipient: row.get(4)?,
            created: Timestamp(row.get(5)?),
            expires: row.get::<_, Option<i64>>(8)?.map(Timestamp),
            clients: row.get::<_, i64>(6)?.unsigned_abs(),
            deposits: row.get::<_, i64>(7)?.unsigned_abs(),
            bytes: row.get::<_, i64>(9)?.unsigned_abs(),
            quota: quota::read(row, 10)?,
        },
        auth_code,
    })
}

fn find(db: &Connection, name: &OrgName) -> Result<Option<OrgRow>> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM orgs WHERE name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    rows.next()?.map(read).transpose()
}

fn written(contacts: &[Contact]) -> Result<String> {
    serde_json::to_string(contacts).map_err(|error| Error::internal(error.to_string()))
}

fn set_contacts(db: &Connection, name: &OrgName, contacts: &[Contact]) -> Result<()> {
    db.execute(
        "UPDATE orgs SET contacts = ?2 WHERE name = ?1",
        (name.as_str(), written(contacts)?),
    )?;
    Ok(())
}

pub(super) fn found(db: &Connection, name: &OrgName) -> Result<OrgRow> {
    find(db, name)?.ok_or_else(|| Error::not_found(format!("no organization is named `{name}`")))
}

impl Store {
    /// With its first key.
    pub async fn add_org(&self, change: Change, new: NewOrg) -> Result<Org> {
        self.change(change, 1_024, move |tx, _| {
            if find(tx.db, &new.org.name)?.is_some() {
                return Err(Error::conflict("name_taken", format!("an organization is named `{}` already", new.org.name)));
            }
            tx.db.execute(
                "INSERT INTO orgs (id, name, contacts, auth_code, recovery_recipient, created, clients, deposits, expires) VALUES (?1, ?2, ?3, ?4, NULL, ?5, 0, 0, ?6)",
                (new.org.id.as_bytes(), new.org.name.as_str(), written(&new.org.contacts)?, &new.auth_code, new.org.created.0, new.org.expires.map(|end| end.0)),
            )?;
            tx.db.execute("INSERT INTO org_keys VALUES (?1, ?2, ?3, ?4)", (new.org.id.as_bytes(), new.key.version, &new.key.wrapped, new.org.created.0))?;
            Ok(new.org)
        })
        .await
    }

    /// # Errors
    /// `NotFound`.
    pub fn org(&self, name: &OrgName) -> Result<OrgRow> {
        self.readers.point(|db| found(db, name))
    }

    pub fn org_by_id(&self, id: OrgId) -> Result<Option<OrgRow>> {
        self.readers.point(|db| {
            let mut statement =
                db.prepare_cached(&format!("SELECT {COLUMNS} FROM orgs WHERE id = ?1"))?;
            let mut rows = statement.query([id.as_bytes()])?;
            rows.next()?.map(read).transpose()
        })
    }

    /// By name.
    pub async fn orgs(
        &self,
        start: Start<String>,
        filter: Filter<Org>,
        limit: usize,
    ) -> Result<Rows<Org>> {
        self.readers
            .scan(move |db| {
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM orgs WHERE name >= ?1 AND name < ?2 ORDER BY name {order}"
                ))?;
                let bounds = start.bounds("");
                walk(&start, &mut statement, bounds, limit, &filter, |row| Ok(read(row)?.org))
            })
            .await
    }

    /// None: registration is open.
    pub async fn set_org_auth(
        &self,
        change: Change,
        name: OrgName,
        auth_code: Option<Vec<u8>>,
    ) -> Result<Org> {
        self.change(change, 512, move |tx, _| {
            tx.db.execute(
                "UPDATE orgs SET auth_code = ?2 WHERE name = ?1",
                (name.as_str(), auth_code),
            )?;
            Ok(found(tx.db, &name)?.org)
        })
        .await
    }

    /// Those that are there already stay where they are.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`: more than an organization may have.
    pub async fn add_contacts(
        &self,
        change: Change,
        name: OrgName,
        contacts: Vec<Contact>,
        most: usize,
    ) -> Result<Org> {
        self.change(change, 1_024, move |tx, event| {
            let mut all = found(tx.db, &name)?.org.contacts;
            let mut added = Vec::new();
            for contact in contacts {
                if !all.contains(&contact) {
                    added.push(contact.to_string());
                    all.push(contact);
                }
            }
            if all.len() > most {
                return Err(Error::invalid(
                    "contacts",
                    format!("an organization has up to {most} contacts"),
                ));
            }
            event.detail = match added.as_slice() {
                [] => "there already".to_owned(),
                added => added.join(", "),
            };
            set_contacts(tx.db, &name, &all)?;
            Ok(found(tx.db, &name)?.org)
        })
        .await
    }

    /// # Errors
    /// `NotFound`: the organization, or the contact.
    pub async fn remove_contact(
        &self,
        change: Change,
        name: OrgName,
        contact: Contact,
    ) -> Result<Org> {
        self.change(change, 512, move |tx, event| {
            let mut all = found(tx.db, &name)?.org.contacts;
            let Some(at) = all.iter().position(|known| *known == contact) else {
                return Err(Error::not_found(format!(
                    "`{contact}` is no contact of `{name}`"
                )));
            };
            all.remove(at);
            event.detail = contact.to_string();
            set_contacts(tx.db, &name, &all)?;
            Ok(found(tx.db, &name)?.org)
        })
        .await
    }

    /// None: it never ends.
    pub async fn set_org_expiry(
        &self,
        change: Change,
        name: OrgName,
        expires: Option<Timestamp>,
    ) -> Result<Org> {
        self.change(change, 512, move |tx, _| {
            tx.db.execute(
                "UPDATE orgs SET expires = ?2 WHERE name = ?1",
                (name.as_str(), expires.map(|end| end.0)),
            )?;
            Ok(found(tx.db, &name)?.org)
        })
        .await
    }

    pub async fn set_recovery_recipient(
        &self,
        change: Change,
        name: OrgName,
        recipient: Option<String>,
    ) -> Result<Org> {
        self.change(change, 512, move |tx, _| {
            tx.db.execute(
                "UPDATE orgs SET recovery_recipient = ?2 WHERE name = ?1",
                (name.as_str(), recipient),
            )?;
            Ok(found(tx.db, &name)?.org)
        })
        .await
    }
}

/// Whoever began before an organization was removed must not write into what is left of it.
///
/// # Errors
/// `NotFound`.
pub(super) fn still_there(db: &Connection, org: OrgId) -> Result<()> {
    let mut there = db.prepare_cached("SELECT 1 FROM orgs WHERE id = ?1")?;
    match there.exists([org.as_bytes()])? {
        true => Ok(()),
        false => Err(removed()),
    }
}

/// The organization went while the request came in.
pub fn removed() -> Error {
    Error::not_found("this organization was removed")
}

/// Moves the counter that totals come from.
pub(super) fn count_clients(db: &Connection, org: OrgId, more: i64) -> Result<()> {
    db.prepare_cached("UPDATE orgs SET clients = clients + ?2 WHERE id = ?1")?
        .execute((org.as_bytes(), more))?;
    Ok(())
}
