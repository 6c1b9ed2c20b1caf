//! Clients and their keys.

use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::list::{Rows, Start, walk};
use super::org::{count_clients, still_there};
use super::quota;
use super::user_certificate::is_a_users;
use super::{Change, Store};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::client::{Client, ClientState};
use crate::model::filter::Filter;
use crate::model::id::{ClientId, Fingerprint, GroupId, OrgId};

/// Registrations of an organization that wait for an approval at one time.
const MOST_PENDING: u32 = 500;

pub struct NewClient {
    pub client: Client,
    pub org: OrgId,
    /// DER.
    pub certificate: Vec<u8>,
    /// The signature over its recipient, as it came.
    pub recipient_proof: Option<Vec<u8>>,
}

/// What each request needs to know of its client.
#[derive(Clone, Debug)]
pub struct Registrant {
    pub client: Client,
    pub org: OrgId,
    /// When its organization ends.
    pub org_expires: Option<Timestamp>,
    /// Requests a second that all clients of its organization may make.
    pub org_requests: Option<u32>,
}

const SELECT: &str = "SELECT c.id, o.name, k.spki, c.state, c.description, c.age_recipient, c.created, c.pending_until, c.registered_from, c.reason, c.org, o.expires, c.deposits, c.bytes, c.quota_objects, c.quota_bytes, c.quota_requests, o.quota_requests
    FROM client_keys k JOIN clients c ON c.id = k.client JOIN orgs o ON o.id = c.org";

fn read(row: &Row<'_>) -> Result<Registrant> {
    let state: String = row.get(3)?;
    Ok(Registrant {
        client: Client {
            id: ClientId(uuid::Uuid::from_bytes(row.get(0)?)),
            org: row.get::<_, String>(1)?.parse()?,
            fingerprint: Fingerprint(row.get(2)?),
            state: ClientState::ALL
                .into_iter()
                .find(|known| known.as_str() == state)
                .ok_or_else(|| Error::internal(format!("client state `{state}`")))?,
            description: row.get(4)?,
            age_recipient: row.get(5)?,
            created: Timestamp(row.get(6)?),
            pending_until: row.get::<_, Option<i64>>(7)?.map(Timestamp),
            registered_from: row.get(8)?,
            reason: row.get(9)?,
            deposits: row.get::<_, i64>(12)?.unsigned_abs(),
            bytes: row.get::<_, i64>(13)?.unsigned_abs(),
            quota: quota::read(row, 14)?,
        },
        org: OrgId(uuid::Uuid::from_bytes(row.get(10)?)),
        org_expires: row.get::<_, Option<i64>>(11)?.map(Timestamp),
        org_requests: row.get(17)?,
    })
}

fn find(db: &Connection, fingerprint: &Fingerprint) -> Result<Option<Registrant>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE k.spki = ?1"))?;
    let mut rows = statement.query([fingerprint.0])?;
    rows.next()?.map(read).transpose()
}

pub(super) fn found(db: &Connection, fingerprint: &Fingerprint) -> Result<Registrant> {
    find(db, fingerprint)?
        .ok_or_else(|| Error::not_found(format!("no client has the fingerprint {fingerprint}")))
}

/// A client of this organization.
pub(super) fn of_org(db: &Connection, fingerprint: &Fingerprint, org: OrgId) -> Result<Registrant> {
    found(db, fingerprint).and_then(|known| match known.org == org {
        true => Ok(known),
        false => Err(Error::not_found(format!(
            "no client of this organization has the fingerprint {fingerprint}"
        ))),
    })
}

/// Those in a group, in the order in which they were added.
pub(super) fn members(db: &Connection, group: GroupId) -> Result<Vec<Client>> {
    let mut statement = db.prepare_cached(&format!(
        "{} JOIN client_group_members m ON m.client = c.id WHERE m.client_group = ?1 ORDER BY m.added, c.id",
        by_client()
    ))?;
    let mut rows = statement.query([group.as_bytes()])?;
    let mut members = Vec::new();
    while let Some(row) = rows.next()? {
        members.push(read(row)?.client);
    }
    Ok(members)
}

impl Store {
    /// # Errors
    /// `already_registered` if the key has a client, in whatever state. A pending one whose time is
    /// over makes room.
    pub async fn add_client(&self, change: Change, new: NewClient) -> Result<Client> {
        self.change(change, 4_096, move |tx, event| {
            still_there(tx.db, new.org)?;
            // What is left of a client of an organization that was removed holds no key.
            tx.db.execute("DELETE FROM client_keys WHERE spki = ?1 AND client IN (SELECT id FROM clients WHERE org IN (SELECT id FROM removed_orgs))", [new.client.fingerprint.0])?;
            if let Some(known) = find(tx.db, &new.client.fingerprint)? {
                if !known.client.is_over(new.client.created) {
                    return Err(Error::conflict(
                        "already_registered",
                        format!("this key is registered with `{}` since {} and is {}", known.client.org, known.client.created, known.client.state.as_str()),
                    ));
                }
                remove(tx.db, &known)?;
            }
            if is_a_users(tx.db, &new.client.fingerprint)? {
                return Err(Error::conflict(
                    "key_taken",
                    "this key is a user's; a client comes with one of its own",
                ));
            }
            let client = &new.client;
            if client.state == ClientState::Pending {
                pending_room(tx.db, new.org, client.created)?;
            }
            tx.db.prepare_cached("INSERT INTO clients (id, org, state, description, age_recipient, recipient_proof, created, pending_until, registered_from, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL)")?.execute((
                client.id.as_bytes(),
                new.org.as_bytes(),
                client.state.as_str(),
                &client.description,
                &client.age_recipient,
                &new.recipient_proof,
                client.created.0,
                client.pending_until.map(|until| until.0),
                &client.registered_from,
            ))?;
            tx.db.prepare_cached("INSERT INTO client_keys (spki, client, certificate, added) VALUES (?1, ?2, ?3, ?4)")?.execute((client.fingerprint.0, client.id.as_bytes(), &new.certificate, client.created.0))?;
            count_clients(tx.db, new.org, 1)?;
            event.detail = format!("state {}", client.state.as_str());
            Ok(new.client)
        })
        .await
    }

    pub fn client_by_key(&self, fingerprint: &Fingerprint) -> Result<Option<Registrant>> {
        self.readers.point(|db| find(db, fingerprint))
    }

    /// The same, for each request: as it was at a moment that no answered change came after, but for
    /// what it keeps, which may be more or less by now.
    pub fn caller_by_key(&self, fingerprint: &Fingerprint) -> Result<Option<Arc<Registrant>>> {
        self.callers
            .find(fingerprint, || self.client_by_key(fingerprint))
    }

    /// # Errors
    /// `NotFound`.
    pub fn client(&self, fingerprint: &Fingerprint) -> Result<Registrant> {
        self.readers.point(|db| found(db, fingerprint))
    }

    /// In the order of registration; of one organization or of all.
    pub async fn clients(
        &self,
        org: Option<OrgId>,
        start: Start<[u8; 16]>,
        filter: Filter<Client>,
        limit: usize,
    ) -> Result<Rows<Client>> {
        self.readers
            .scan(move |db| {
                let (low, high) = start.bounds();
                let (order, select) = (start.order(), by_client());
                let take = |row: &Row<'_>| Ok(read(row)?.client);
                let range = format!("c.id > ?1 AND c.id < ?2 ORDER BY c.id {order}");
                match org {
                    Some(org) => {
                        let sql = format!("{select} WHERE c.org = ?3 AND {range}");
                        let mut statement = db.prepare_cached(&sql)?;
                        let params = (low, high, org.as_bytes());
                        walk(&start, &mut statement, params, limit, &filter, take)
                    }
                    None => {
                        let mut statement =
                            db.prepare_cached(&format!("{select} WHERE {range}"))?;
                        walk(&start, &mut statement, (low, high), limit, &filter, take)
                    }
                }
            })
            .await
    }

    /// Moves a client to `to` if it is in one of `from`.
    ///
    /// # Errors
    /// `NotFound`, `wrong_state`.
    pub async fn set_client_state(
        &self,
        change: Change,
        fingerprint: Fingerprint,
        from: &'static [ClientState],
        to: ClientState,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Client> {
        self.change(change, 512, move |tx, event| {
            let known = found(tx.db, &fingerprint)?.client;
            if known.is_over(now) && to == ClientState::Active {
                return Err(Error::conflict("registration_over", format!("this registration waited for an approval until {}; let the client register again", known.pending_until.unwrap_or(now))));
            }
            if !from.contains(&known.state) {
                let from: Vec<&str> = from.iter().map(|state| state.as_str()).collect();
                return Err(Error::conflict("wrong_state", format!("the client is {}; this takes one that is {}", known.state.as_str(), from.join(" or "))));
            }
            tx.db.execute("UPDATE clients SET state = ?2, reason = ?3, pending_until = NULL WHERE id = ?1", (known.id.as_bytes(), to.as_str(), &reason))?;
            event.detail = format!("{} to {}", known.state.as_str(), to.as_str());
            Ok(found(tx.db, &fingerprint)?.client)
        })
        .await
    }

    /// # Errors
    /// `client_owns_deposits`: what it stored would have no owner.
    pub async fn remove_client(&self, change: Change, fingerprint: Fingerprint) -> Result<()> {
        self.change(change, 512, move |tx, _| {
            let known = found(tx.db, &fingerprint)?;
            let owns: Option<String> = rusqlite::OptionalExtension::optional(
                tx.db.query_row("SELECT name FROM deposits WHERE org = ?1 AND owner = ?2 LIMIT 1", (known.org.as_bytes(), known.client.id.as_bytes()), |row| row.get(0)),
            )?;
            if let Some(name) = owns {
                return Err(Error::conflict("client_owns_deposits", format!("the client still owns deposits, `{name}` among them; remove and purge them first, or disable the client")));
            }
            remove(tx.db, &known)
        })
        .await
    }
}

/// Whoever knows an organization's name and no code can register as pending, with a new key each
/// time; so those are bounded, and those whose time is over go first.
fn pending_room(db: &Connection, org: OrgId, now: Timestamp) -> Result<()> {
    let sql = "SELECT k.spki FROM clients c JOIN client_keys k ON k.client = c.id WHERE c.org = ?1 AND c.state = 'pending' AND c.pending_until <= ?2 LIMIT 16";
    let over = db
        .prepare_cached(sql)?
        .query_map((org.as_bytes(), now.0), |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<[u8; 32]>>>()?;
    for key in over {
        if let Some(known) = find(db, &Fingerprint(key))? {
            remove(db, &known)?;
        }
    }
    let waiting: u32 = db
        .prepare_cached("SELECT count(*) FROM clients WHERE org = ?1 AND state = 'pending'")?
        .query_row([org.as_bytes()], |row| row.get(0))?;
    if waiting < MOST_PENDING {
        return Ok(());
    }
    Err(Error::new(
        Kind::Limited,
        "too_many_pending",
        format!("{MOST_PENDING} registrations wait for an approval in this organization; its administrator approves or denies some first, or gives you its code"),
    )
    .after(3_600))
}

/// The same columns, led by the clients' own order.
fn by_client() -> String {
    SELECT.replace(
        "FROM client_keys k JOIN clients c ON c.id = k.client",
        "FROM clients c CROSS JOIN client_keys k ON k.client = c.id",
    )
}

fn remove(db: &Connection, known: &Registrant) -> Result<()> {
    db.execute(
        "DELETE FROM client_keys WHERE client = ?1",
        [known.client.id.as_bytes()],
    )?;
    for (table, column) in [
        ("client_group_members", "client"),
        ("deposit_readers", "reader"),
    ] {
        db.execute(
            &format!("DELETE FROM {table} WHERE {column} = ?1"),
            [known.client.id.as_bytes()],
        )?;
    }
    db.execute(
        "DELETE FROM clients WHERE id = ?1",
        [known.client.id.as_bytes()],
    )?;
    count_clients(db, known.org, -1)
}
