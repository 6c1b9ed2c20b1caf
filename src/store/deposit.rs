//! Deposits: heads, versions, parts of long bodies, labels, the bin.

use rusqlite::{Connection, Row, ToSql};

use super::list::{Rows, walk};
use super::{Change, Store, org};
use crate::clock::Timestamp;
use crate::crypto::envelope::{self, Aad};
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Deposit, DepositName, DepositVersion, Encryption, Labels};
use crate::model::filter::Filter;
use crate::model::id::{ClientId, DepositId, Fingerprint, OrgId};
use crate::secret::{Key, Secret};

/// Longer bodies are written in parts of this size, the head last.
pub const PART: usize = 256 << 10;
/// Versions of one deposit.
const MAX_VERSION: u32 = 1 << 30;

/// The first byte of a version's plaintext.
const INLINE: u8 = 0;
const PARTS: u8 = 1;

/// What a put writes.
pub struct Put {
    /// For a deposit that is not there yet.
    pub id: DepositId,
    pub org: OrgId,
    pub name: DepositName,
    /// The client that may own it; an operator writes whatever is there, and owns nothing.
    pub owner: Option<ClientId>,
    pub created_by: String,
    pub expect: Expected,
    pub encryption: Encryption,
    /// None keeps what is there.
    pub content_type: Option<String>,
    pub description: Option<String>,
    pub labels: Option<Labels>,
    pub body: Body,
    pub now: Timestamp,
}

/// What must be there for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Absent,
    Present,
    Version(u32),
}

/// A body with the organization's key that seals it.
pub struct Body {
    pub bytes: Secret<Vec<u8>>,
    pub key: std::sync::Arc<Key>,
    pub key_version: u32,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Stored {
    pub deposit: Deposit,
    pub created: bool,
}

/// A deposit with what rights depend on.
#[derive(Clone, Debug)]
pub struct Head {
    pub deposit: Deposit,
    pub org: OrgId,
    pub owner: Option<ClientId>,
}

/// A version as it lies in the store.
pub struct Sealed {
    pub head: Owned,
    pub version: DepositVersion,
    body: Vec<u8>,
    parts: Option<[u8; 16]>,
}

/// As much of a head as a fetch needs.
#[derive(Clone, Debug)]
pub struct Owned {
    pub id: DepositId,
    pub org: OrgId,
    pub owner: Option<ClientId>,
    pub deleted: Option<Timestamp>,
}

/// Which deposit.
#[derive(Clone, Debug)]
pub enum Which {
    Name(OrgId, DepositName),
    Id(DepositId),
}

const SELECT: &str = "SELECT d.id, o.name, d.name, (SELECT spki FROM client_keys WHERE client = d.owner ORDER BY added DESC LIMIT 1), d.version, d.size, d.encryption,
    d.content_type, d.description, d.labels, d.created, d.modified, d.deleted, d.org, d.owner FROM deposits d JOIN orgs o ON o.id = d.org";

fn read(row: &Row<'_>) -> Result<Head> {
    let labels: String = row.get(9)?;
    Ok(Head {
        deposit: Deposit {
            id: DepositId(uuid::Uuid::from_bytes(row.get(0)?)),
            org: row.get::<_, String>(1)?.parse()?,
            name: row.get::<_, String>(2)?.parse()?,
            owner: row.get::<_, Option<[u8; 32]>>(3)?.map(Fingerprint),
            version: row.get(4)?,
            size: row.get::<_, i64>(5)?.unsigned_abs(),
            encryption: encryption(row.get_ref(6)?.as_str().unwrap_or_default()),
            content_type: row.get(7)?,
            description: row.get(8)?,
            labels: serde_json::from_str(&labels)
                .map_err(|error| Error::internal(error.to_string()))?,
            created: Timestamp(row.get(10)?),
            modified: Timestamp(row.get(11)?),
            deleted: row.get::<_, Option<i64>>(12)?.map(Timestamp),
        },
        org: OrgId(uuid::Uuid::from_bytes(row.get(13)?)),
        owner: row
            .get::<_, Option<[u8; 16]>>(14)?
            .map(|id| ClientId(uuid::Uuid::from_bytes(id))),
    })
}

fn encryption(word: &str) -> Encryption {
    if word == Encryption::Age.as_str() {
        Encryption::Age
    } else {
        Encryption::None
    }
}

fn find(db: &Connection, which: &Which) -> Result<Option<Head>> {
    let (sql, params): (String, Vec<Box<dyn ToSql>>) = match which {
        Which::Name(org, name) => (
            format!("{SELECT} WHERE d.org = ?1 AND d.name = ?2"),
            vec![
                Box::new(*org.as_bytes()),
                Box::new(name.as_str().to_owned()),
            ],
        ),
        Which::Id(id) => (
            format!("{SELECT} WHERE d.id = ?1"),
            vec![Box::new(*id.as_bytes())],
        ),
    };
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(params))?;
    rows.next()?.map(read).transpose()
}

fn found(db: &Connection, which: &Which) -> Result<Head> {
    find(db, which)?.ok_or_else(|| no_such(which))
}

fn no_such(which: &Which) -> Error {
    match which {
        Which::Name(_, name) => Error::not_found(format!("no deposit is named `{name}`")),
        Which::Id(id) => Error::not_found(format!("no deposit has the id {id}")),
    }
}

fn check(expected: Expected, there: Option<u32>) -> Result<()> {
    let refused = |text: String| {
        Err(Error::new(
            Kind::PreconditionFailed,
            "precondition_failed",
            text,
        ))
    };
    match (expected, there) {
        (Expected::Anything, _) | (Expected::Absent, None) | (Expected::Present, Some(_)) => Ok(()),
        (Expected::Version(wanted), Some(version)) if wanted == version => Ok(()),
        (Expected::Absent, Some(version)) => refused(format!(
            "the deposit is there already, in version {version}"
        )),
        (Expected::Present | Expected::Version(_), None) => {
            refused("the deposit is not there".to_owned())
        }
        (Expected::Version(wanted), Some(version)) => refused(format!(
            "the deposit is in version {version}, not {wanted}; fetch it again"
        )),
    }
}

fn body_aad<'a>(org: OrgId, id: &'a DepositId, version: u32) -> Aad<'a> {
    Aad {
        table: "deposit_versions",
        column: "body",
        org: Some(org),
        object: id.as_bytes(),
        version: u64::from(version),
    }
}

fn part_aad(parts: &[u8; 16], part: u32) -> Aad<'_> {
    Aad {
        table: "deposit_parts",
        column: "body",
        org: None,
        object: parts,
        version: u64::from(part),
    }
}

/// The plaintext of a version: the body, or where its parts are and what opens them.
struct Plain {
    bytes: Secret<Vec<u8>>,
    parts: Option<[u8; 16]>,
}

impl Store {
    /// A new version of a deposit, or a new deposit.
    ///
    /// # Errors
    /// `name_taken` (another client's), `in_bin`, `PreconditionFailed`.
    pub async fn put_deposit(&self, change: Change, put: Put) -> Result<Stored> {
        let size = put.body.bytes.expose().len();
        let plain = self.lay_out(&put).await?;
        let parts = plain.parts;
        let weight = plain.bytes.expose().len() + 1_024;
        let stored = self
            .change(change, weight, move |tx, event| {
                write(tx.db, put, &plain, size, event)
            })
            .await;
        if let (Err(_), Some(parts)) = (&stored, parts) {
            // Best effort: what stays is dropped at the next start.
            let _ = self
                .upkeep(0, move |tx| {
                    tx.db.execute("DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM pending_parts WHERE parts = ?1)", [parts])?;
                    Ok(tx.db.execute("DELETE FROM pending_parts WHERE parts = ?1", [parts])? as u64)
                })
                .await;
        }
        stored
    }

    /// Writes the parts of a long body, so that the head's transaction stays short.
    async fn lay_out(&self, put: &Put) -> Result<Plain> {
        let body = put.body.bytes.expose();
        if body.len() <= PART {
            let mut bytes = Vec::with_capacity(body.len() + 1);
            bytes.push(INLINE);
            bytes.extend_from_slice(body);
            return Ok(Plain {
                bytes: Secret::new(bytes),
                parts: None,
            });
        }
        let parts: [u8; 16] = *DepositId::new().as_bytes();
        let key = crate::crypto::keygen::key();
        let mut count: u32 = 0;
        for chunk in body.chunks(PART) {
            let sealed = envelope::seal(&key, 1, &part_aad(&parts, count), chunk)?;
            let part = count;
            self.upkeep(sealed.len(), move |tx| {
                if part == 0 {
                    tx.db
                        .execute("INSERT INTO pending_parts VALUES (?1)", [parts])?;
                }
                tx.db
                    .prepare_cached(
                        "INSERT INTO deposit_parts (parts, part, body) VALUES (?1, ?2, ?3)",
                    )?
                    .execute((parts, part, sealed))?;
                Ok(())
            })
            .await?;
            count += 1;
        }
        let mut bytes = vec![PARTS];
        bytes.extend_from_slice(&parts);
        bytes.extend_from_slice(key.expose());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
        Ok(Plain {
            bytes: Secret::new(bytes),
            parts: Some(parts),
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn deposit(&self, which: &Which) -> Result<Head> {
        self.readers.point(|db| found(db, which))
    }

    /// The version asked for, or the newest, still sealed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn sealed_deposit(&self, which: &Which, version: Option<u32>) -> Result<Sealed> {
        const COLUMNS: &str = "SELECT d.id, d.org, d.owner, d.deleted, v.version, v.size, v.encryption, v.content_type, v.created, v.created_by, v.body, v.parts
            FROM deposits d JOIN deposit_versions v ON v.deposit = d.id AND v.version = coalesce(?1, d.version)";
        self.readers.point(|db| {
            let mut statement;
            let mut rows = match which {
                Which::Name(org, name) => {
                    statement =
                        db.prepare_cached(&format!("{COLUMNS} WHERE d.org = ?2 AND d.name = ?3"))?;
                    statement.query((version, org.as_bytes(), name.as_str()))?
                }
                Which::Id(id) => {
                    statement = db.prepare_cached(&format!("{COLUMNS} WHERE d.id = ?2"))?;
                    statement.query((version, id.as_bytes()))?
                }
            };
            let Some(row) = rows.next()? else {
                let missing = no_such(which);
                return Err(match version {
                    Some(version) => {
                        Error::not_found(format!("{missing}, or it has no version {version}"))
                    }
                    None => missing,
                });
            };
            Ok(Sealed {
                head: Owned {
                    id: DepositId(uuid::Uuid::from_bytes(row.get(0)?)),
                    org: OrgId(uuid::Uuid::from_bytes(row.get(1)?)),
                    owner: row
                        .get::<_, Option<[u8; 16]>>(2)?
                        .map(|id| ClientId(uuid::Uuid::from_bytes(id))),
                    deleted: row.get::<_, Option<i64>>(3)?.map(Timestamp),
                },
                version: read_version(row, 4)?,
                body: row.get(10)?,
                parts: row.get(11)?,
            })
        })
    }

    /// Opens what `sealed_deposit` found. `key` gives the organization's key of a version.
    pub fn open_deposit(
        &self,
        sealed: &Sealed,
        key: impl FnOnce(u32) -> Result<std::sync::Arc<Key>>,
    ) -> Result<Secret<Vec<u8>>> {
        let parent = key(envelope::key_id(&sealed.body)?)?;
        let plain = envelope::open(
            &parent,
            &body_aad(sealed.head.org, &sealed.head.id, sealed.version.version),
            &sealed.body,
        )?;
        match (plain.expose().split_first(), sealed.parts) {
            (Some((&INLINE, body)), None) => Ok(Secret::new(body.to_vec())),
            (Some((&PARTS, manifest)), Some(_)) => self.gather(manifest),
            _ => Err(Error::internal("a deposit's body has an unknown form")),
        }
    }

    fn gather(&self, manifest: &[u8]) -> Result<Secret<Vec<u8>>> {
        let damaged = || Error::internal("the parts of a deposit's body do not fit its head");
        let (parts, rest) = manifest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let (key, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (count, size) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u64::from_be_bytes(size.try_into().map_err(|_| damaged())?);
        let key = Key::new(*key);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(32 << 20));
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(
                "SELECT part, body FROM deposit_parts WHERE parts = ?1 ORDER BY part",
            )?;
            let mut rows = statement.query([parts])?;
            let mut expected = 0;
            while let Some(row) = rows.next()? {
                let part: u32 = row.get(0)?;
                if part != expected {
                    return Err(damaged());
                }
                let opened = envelope::open(
                    &key,
                    &part_aad(parts, part),
                    row.get_ref(1)?.as_blob().unwrap_or_default(),
                )?;
                bytes.extend_from_slice(opened.expose());
                expected += 1;
            }
            if expected != u32::from_be_bytes(*count) || bytes.len() as u64 != size {
                return Err(damaged());
            }
            Ok(())
        })?;
        Ok(Secret::new(bytes))
    }

    pub async fn edit_deposit(
        &self,
        change: Change,
        which: Which,
        expect: Expected,
        description: Option<String>,
        labels: Option<Labels>,
        now: Timestamp,
    ) -> Result<Deposit> {
        self.change(change, 4_096, move |tx, _| {
            let head = present(tx.db, &which)?;
            check(expect, Some(head.deposit.version))?;
            let description = description.unwrap_or_else(|| head.deposit.description.clone());
            let labels = labels.unwrap_or_else(|| head.deposit.labels.clone());
            tx.db.execute(
                "UPDATE deposits SET description = ?2, labels = ?3, modified = ?4 WHERE id = ?1",
                (
                    head.deposit.id.as_bytes(),
                    &description,
                    json(&labels)?,
                    now.0,
                ),
            )?;
            relabel(tx.db, &head, &labels)?;
            Ok(found(tx.db, &which)?.deposit)
        })
        .await
    }

    /// Into the bin.
    pub async fn remove_deposit(
        &self,
        change: Change,
        which: Which,
        expect: Expected,
        now: Timestamp,
    ) -> Result<Deposit> {
        self.change(change, 512, move |tx, _| {
            let head = present(tx.db, &which)?;
            check(expect, Some(head.deposit.version))?;
            tx.db.execute(
                "UPDATE deposits SET deleted = ?2 WHERE id = ?1",
                (head.deposit.id.as_bytes(), now.0),
            )?;
            Ok(found(tx.db, &which)?.deposit)
        })
        .await
    }

    /// Out of the bin again.
    pub async fn undelete_deposit(&self, change: Change, which: Which) -> Result<Deposit> {
        self.change(change, 512, move |tx, _| {
            let head = binned(tx.db, &which)?;
            tx.db.execute(
                "UPDATE deposits SET deleted = NULL WHERE id = ?1",
                [head.deposit.id.as_bytes()],
            )?;
            Ok(found(tx.db, &which)?.deposit)
        })
        .await
    }

    /// Out of the bin for good, with all versions.
    pub async fn purge_deposit(&self, change: Change, which: Which) -> Result<()> {
        self.change(change, 512, move |tx, _| {
            let head = binned(tx.db, &which)?;
            let id = head.deposit.id.as_bytes();
            tx.db.execute("DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM deposit_versions WHERE deposit = ?1 AND parts IS NOT NULL)", [id])?;
            for table in ["deposit_versions", "deposit_labels"] {
                tx.db.execute(&format!("DELETE FROM {table} WHERE deposit = ?1"), [id])?;
            }
            tx.db.execute("DELETE FROM deposits WHERE id = ?1", [id])?;
            org::count(tx.db, head.org, 0, -1)
        })
        .await
    }

    /// Newest first, 1,000 at most.
    pub fn deposit_versions(&self, id: DepositId) -> Result<Vec<DepositVersion>> {
        self.readers.point(|db| {
            let mut statement =
                db.prepare_cached("SELECT version, size, encryption, content_type, created, created_by FROM deposit_versions WHERE deposit = ?1 ORDER BY version DESC LIMIT 1000")?;
            let mut rows = statement.query([id.as_bytes()])?;
            let mut versions = Vec::new();
            while let Some(row) = rows.next()? {
                versions.push(read_version(row, 0)?);
            }
            Ok(versions)
        })
    }

    /// By name within an organization, those after `after`; of one owner if given.
    pub async fn deposits_by_name(
        &self,
        org: OrgId,
        owner: Option<ClientId>,
        after: Option<String>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let prefix = filter.equals("name").or_else(|| filter.prefix("name")).unwrap_or_default().to_owned();
                let after = after.unwrap_or_default();
                let end = after_prefix(&prefix);
                let label = filter.label_equals().map(|(label, value)| (label.to_owned(), value.to_owned()));
                let take = |row: &Row<'_>| Ok(read(row)?.deposit);
                let (from, to) = (":name >= ?2 AND :name > ?3", " AND (?4 = '' OR :name < ?4)");
                let range = format!("{from}{to}");
                if let Some((label, value)) = label {
                    let sql = format!(
                        "{} WHERE l.org = ?1 AND l.label = ?5 AND l.value = ?6 AND {} AND (?7 IS NULL OR d.owner = ?7) ORDER BY l.name",
                        SELECT.replace("FROM deposits d", "FROM deposit_labels l CROSS JOIN deposits d ON d.id = l.deposit"),
                        range.replace(":name", "l.name")
                    );
                    let mut statement = db.prepare_cached(&sql)?;
                    return walk(&mut statement, (org.as_bytes(), &prefix, &after, &end, label, value, owner.map(|id| *id.as_bytes())), limit, &filter, take);
                }
                let range = range.replace(":name", "d.name");
                match owner {
                    Some(owner) => {
                        let mut statement = db.prepare_cached(&format!("{SELECT} WHERE d.org = ?1 AND d.owner = ?5 AND {range} ORDER BY d.name"))?;
                        walk(&mut statement, (org.as_bytes(), &prefix, &after, &end, owner.as_bytes()), limit, &filter, take)
                    }
                    None => {
                        let mut statement = db.prepare_cached(&format!("{SELECT} WHERE d.org = ?1 AND {range} ORDER BY d.name"))?;
                        walk(&mut statement, (org.as_bytes(), &prefix, &after, &end), limit, &filter, take)
                    }
                }
            })
            .await
    }

    /// Of all organizations, in the order they were made, those after `after`.
    pub async fn deposits_by_id(
        &self,
        after: Option<[u8; 16]>,
        filter: Filter<Deposit>,
        limit: usize,
    ) -> Result<Rows<Deposit>> {
        self.readers
            .scan(move |db| {
                let mut statement =
                    db.prepare_cached(&format!("{SELECT} WHERE d.id > ?1 ORDER BY d.id"))?;
                walk(
                    &mut statement,
                    [after.unwrap_or_default()],
                    limit,
                    &filter,
                    |row| Ok(read(row)?.deposit),
                )
            })
            .await
    }
}

/// The least text above all that begin with `prefix`; empty where there is no end.
fn after_prefix(prefix: &str) -> String {
    let mut end: Vec<u8> = prefix.bytes().collect();
    match end.last_mut() {
        // Names are ASCII below `{`, so the next byte is a character too.
        Some(last) if *last < 0x7f => *last += 1,
        _ => return String::new(),
    }
    String::from_utf8(end).unwrap_or_default()
}

fn read_version(row: &Row<'_>, at: usize) -> Result<DepositVersion> {
    Ok(DepositVersion {
        version: row.get(at)?,
        size: row.get::<_, i64>(at + 1)?.unsigned_abs(),
        encryption: encryption(row.get_ref(at + 2)?.as_str().unwrap_or_default()),
        content_type: row.get(at + 3)?,
        created: Timestamp(row.get(at + 4)?),
        created_by: row.get(at + 5)?,
    })
}

fn present(db: &Connection, which: &Which) -> Result<Head> {
    let head = found(db, which)?;
    match head.deposit.deleted {
        None => Ok(head),
        Some(since) => Err(in_bin(&head.deposit.name, since)),
    }
}

pub(super) fn in_bin(name: &DepositName, since: Timestamp) -> Error {
    Error::conflict(
        "in_bin",
        format!(
            "`{name}` lies in the bin since {since}; undelete it, or purge it to free its name"
        ),
    )
}

fn binned(db: &Connection, which: &Which) -> Result<Head> {
    let head = found(db, which)?;
    if head.deposit.deleted.is_none() {
        return Err(Error::conflict(
            "not_in_bin",
            format!("`{}` is not in the bin; remove it first", head.deposit.name),
        ));
    }
    Ok(head)
}

fn json(labels: &Labels) -> Result<String> {
    serde_json::to_string(labels).map_err(|error| Error::internal(error.to_string()))
}

fn relabel(db: &Connection, head: &Head, labels: &Labels) -> Result<()> {
    db.prepare_cached("DELETE FROM deposit_labels WHERE deposit = ?1")?
        .execute([head.deposit.id.as_bytes()])?;
    label(db, head.deposit.id, head.org, &head.deposit.name, labels)
}

fn label(
    db: &Connection,
    id: DepositId,
    org: OrgId,
    name: &DepositName,
    labels: &Labels,
) -> Result<()> {
    for (label, value) in labels {
        db.prepare_cached("INSERT INTO deposit_labels (deposit, label, org, value, name) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
            id.as_bytes(),
            label.as_str(),
            org.as_bytes(),
            value.as_str(),
            name.as_str(),
        ))?;
    }
    Ok(())
}

/// The transaction of `put_deposit`.
fn write(
    db: &Connection,
    put: Put,
    plain: &Plain,
    size: usize,
    event: &mut crate::model::audit::Event,
) -> Result<Stored> {
    let which = Which::Name(put.org, put.name.clone());
    let there = find(db, &which)?;
    if let Some(head) = &there {
        if put.owner.is_some() && head.owner != put.owner {
            return Err(Error::conflict(
                "name_taken",
                format!(
                    "`{}` belongs to another client of this organization; choose another name",
                    put.name
                ),
            ));
        }
        if let Some(since) = head.deposit.deleted {
            return Err(in_bin(&put.name, since));
        }
    }
    check(put.expect, there.as_ref().map(|head| head.deposit.version))?;
    let (id, version) = there.as_ref().map_or((put.id, 1), |head| {
        (head.deposit.id, head.deposit.version + 1)
    });
    if version > MAX_VERSION {
        return Err(Error::conflict(
            "too_many_versions",
            format!(
                "`{}` has {MAX_VERSION} versions, and takes no more",
                put.name
            ),
        ));
    }
    let content_type = put.content_type.unwrap_or_else(|| match &there {
        Some(head) => head.deposit.content_type.clone(),
        None => "application/octet-stream".to_owned(),
    });
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let body = envelope::seal(
        &put.body.key,
        put.body.key_version,
        &body_aad(put.org, &id, version),
        plain.bytes.expose(),
    )?;
    db.prepare_cached("INSERT INTO deposit_versions (deposit, version, size, encryption, content_type, created, created_by, parts, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute((
        id.as_bytes(),
        version,
        size,
        put.encryption.as_str(),
        &content_type,
        put.now.0,
        &put.created_by,
        plain.parts,
        body,
    ))?;
    match &there {
        None => {
            let labels = put.labels.unwrap_or_default();
            db.prepare_cached(
                "INSERT INTO deposits (id, org, name, owner, version, size, encryption, content_type, description, labels, created, modified, deleted)
                 VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?10, NULL)",
            )?
            .execute((
                id.as_bytes(),
                put.org.as_bytes(),
                put.name.as_str(),
                put.owner.as_ref().map(|owner| *owner.as_bytes()),
                size,
                put.encryption.as_str(),
                &content_type,
                put.description.unwrap_or_default(),
                json(&labels)?,
                put.now.0,
            ))?;
            label(db, id, put.org, &put.name, &labels)?;
            org::count(db, put.org, 0, 1)?;
        }
        Some(head) => {
            let labels = put.labels.unwrap_or_else(|| head.deposit.labels.clone());
            db.prepare_cached("UPDATE deposits SET version = ?2, size = ?3, encryption = ?4, content_type = ?5, description = ?6, labels = ?7, modified = ?8 WHERE id = ?1")?.execute((
                id.as_bytes(),
                version,
                size,
                put.encryption.as_str(),
                &content_type,
                put.description.unwrap_or_else(|| head.deposit.description.clone()),
                json(&labels)?,
                put.now.0,
            ))?;
            if labels != head.deposit.labels {
                relabel(db, head, &labels)?;
            }
        }
    }
    if let Some(parts) = plain.parts {
        db.prepare_cached("DELETE FROM pending_parts WHERE parts = ?1")?
            .execute([parts])?;
    }
    event.object.id = id.to_string();
    event.detail = format!("version {version}");
    Ok(Stored {
        deposit: found(db, &which)?.deposit,
        created: there.is_none(),
    })
}

/// Parts whose head was never written: the server ended between the two.
pub(super) fn drop_orphaned_parts(db: &Connection) -> Result<()> {
    Ok(db.execute_batch("BEGIN; DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM pending_parts); DELETE FROM pending_parts; COMMIT")?)
}
