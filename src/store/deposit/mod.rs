//! Deposits: heads, versions, labels, the bin.

mod body;
mod envelopes;
mod list;
mod parts;
mod readers;
mod release;
mod row;

use rusqlite::Connection;

use super::quota::{self, Charge, Counts, Due};
use super::writer::Tx;
use super::{Change, Store, Touches, client};
use crate::clock::Timestamp;
use crate::crypto::envelope;
use crate::error::{Error, Kind, Result};
use crate::model::audit::Event;
use crate::model::deposit::{
    ANY_TYPE, Deposit, DepositName, DepositVersion, Encryption, Labels, Policy, SetPolicy,
};
use crate::model::id::{ClientId, DepositId, Fingerprint, OrgId};
use crate::secret::Secret;

pub(in crate::store) use body::body_aad;
pub use body::{Body, Sealed, Unsealed};
pub(super) use envelopes::Envelopes;
use envelopes::names_of;
pub(super) use parts::{Laying, drop_orphans};
use parts::{PART, Plain};
pub use readers::Named as NamedReader;
use release::write_policy;
pub use row::{Expected, Head, Which};
use row::{binned, check, find, found, in_bin, present, read_version};

/// What the bin gives up in one transaction.
const PURGED_AT_ONCE: u32 = 50;

/// Versions of one deposit.
const MAX_VERSION: u32 = 1 << 30;

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
    pub policy: SetPolicy,
    /// What it was before, where it is not there any more.
    pub back: Option<Back>,
    pub body: Body,
    pub now: Timestamp,
}

/// A deposit as a backup has it.
#[derive(Clone, Debug, Default)]
pub struct Back {
    /// None: the organization's own.
    pub owner: Option<Fingerprint>,
    pub description: String,
    pub labels: Labels,
    /// With the retrievals that were used then.
    pub policy: Policy,
}

/// What may change without a new version; none stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    pub description: Option<String>,
    pub labels: Option<Labels>,
    pub policy: SetPolicy,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Stored {
    pub deposit: Deposit,
    pub created: bool,
}

impl Store {
    /// A new version of a deposit, or a new deposit.
    ///
    /// # Errors
    /// `name_taken` (another client's), `in_bin`, `PreconditionFailed`, `quota_objects`, `quota_bytes`;
    /// `owner_gone` (of what comes back).
    pub async fn put_deposit(&self, change: Change, mut put: Put) -> Result<Stored> {
        let size = put.body.bytes.expose().len();
        if size > PART {
            // Before its parts are written for nothing. What refuses it now may be what its first try
            // did, so the answer to that is looked for afterwards.
            let admitted = self
                .readers
                .point(|db| admit(db, &Counts::default(), &put, size).map(drop));
            if let Some(once) = &change.once
                && let Some(first) = self.first_answer(once)?
            {
                return Ok(first);
            }
            admitted?;
        }
        let plain = self.lay_out(&put.body).await?;
        // It is in `plain` now, or in parts; the queue need not hold it twice.
        put.body.bytes = Secret::new(Vec::new());
        let laid = plain.parts();
        let weight = plain.bytes.expose().len() + 1_024;
        let stored = self
            .change_deposits(change, weight, move |tx, event| {
                write(tx, put, &plain, size, event)
            })
            .await;
        if let (Err(_), Some(laid)) = (&stored, laid) {
            // Best effort: upkeep and the next start look for such parts too.
            let _ = self.drop_pending(vec![laid]).await;
        }
        stored
    }

    /// # Errors
    /// `NotFound`.
    pub fn deposit(&self, which: &Which) -> Result<Head> {
        self.readers.point(|db| found(db, which))
    }

    pub async fn edit_deposit(
        &self,
        change: Change,
        which: Which,
        expect: Expected,
        edit: Edit,
        now: Timestamp,
    ) -> Result<Deposit> {
        self.change_deposits(change, 4_096, move |tx, event| {
            let head = present(tx.db, &which)?;
            check(expect, Some(head.deposit.version))?;
            if edit.policy != SetPolicy::default() {
                let policy = head.deposit.policy().set(&edit.policy, now)?;
                write_policy(tx.db, head.deposit.id, &policy)?;
                event.detail = policy.to_string();
            }
            let description = edit
                .description
                .unwrap_or_else(|| head.deposit.description.clone());
            let labels = edit.labels.unwrap_or_else(|| head.deposit.labels.clone());
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
            tx.outdates(names_of(&head));
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
        self.change_deposits(change, 512, move |tx, _| {
            let head = present(tx.db, &which)?;
            check(expect, Some(head.deposit.version))?;
            tx.db.execute(
                "UPDATE deposits SET deleted = ?2 WHERE id = ?1",
                (head.deposit.id.as_bytes(), now.0),
            )?;
            tx.outdates(names_of(&head));
            Ok(found(tx.db, &which)?.deposit)
        })
        .await
    }

    /// Out of the bin again.
    pub async fn undelete_deposit(&self, change: Change, which: Which) -> Result<Deposit> {
        self.change_deposits(change, 512, move |tx, _| {
            let head = binned(tx.db, &which)?;
            tx.db.execute(
                "UPDATE deposits SET deleted = NULL WHERE id = ?1",
                [head.deposit.id.as_bytes()],
            )?;
            tx.outdates(names_of(&head));
            Ok(found(tx.db, &which)?.deposit)
        })
        .await
    }

    /// Out of the bin for good, with all versions.
    pub async fn purge_deposit(&self, change: Change, which: Which) -> Result<()> {
        self.change_deposits(change, 512, move |tx, _| {
            let head = binned(tx.db, &which)?;
            purge(tx, &head)
        })
        .await
    }

    /// The same for what went into the bin before a time, some of it at once, each with its event;
    /// returns how many.
    pub async fn purge_old(
        &self,
        before: Timestamp,
        event: impl Fn(&Deposit) -> Event + Send + 'static,
    ) -> Result<usize> {
        // An idle server writes nothing.
        let old = self.readers.point(|db| {
            let mut any = db.prepare_cached(
                "SELECT 1 FROM deposits WHERE deleted IS NOT NULL AND deleted < ?1 LIMIT 1",
            )?;
            Ok(any.exists([before.0])?)
        })?;
        if !old {
            return Ok(0);
        }
        self.upkeep(Touches::Deposits, 64 << 10, move |tx| {
            let ids = tx
                .db
                .prepare_cached("SELECT d.id FROM deposits d JOIN orgs o ON o.id = d.org WHERE d.deleted IS NOT NULL AND d.deleted < ?1 ORDER BY d.deleted LIMIT ?2")?
                .query_map((before.0, PURGED_AT_ONCE), |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<[u8; 16]>>>()?;
            for id in &ids {
                let id = DepositId(uuid::Uuid::from_bytes(*id));
                let head = binned(tx.db, &Which::Id(id))?;
                tx.append(event(&head.deposit))?;
                purge(tx, &head)?;
            }
            Ok(ids.len())
        })
        .await
    }

    /// # Errors
    /// `NotFound`.
    pub fn deposit_version(&self, id: DepositId, version: u32) -> Result<DepositVersion> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached("SELECT version, size, encryption, content_type, created, created_by FROM deposit_versions WHERE deposit = ?1 AND version = ?2")?;
            let mut rows = statement.query((id.as_bytes(), version))?;
            match rows.next()? {
                Some(row) => read_version(row, 0),
                None => Err(Error::not_found(format!("the deposit has no version {version}"))),
            }
        })
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
}

/// Nothing of it is left.
fn purge(tx: &mut Tx<'_>, head: &Head) -> Result<()> {
    let bytes = tx
        .db
        .prepare_cached("SELECT coalesce(sum(size), 0) FROM deposit_versions WHERE deposit = ?1")?
        .query_row([head.deposit.id.as_bytes()], |row| row.get(0))?;
    forget(tx, head.deposit.id)?;
    tx.outdates(names_of(head));
    quota::give_back(&mut tx.counts, head.org, head.owner, bytes);
    Ok(())
}

/// All rows of a deposit.
pub(super) fn forget(tx: &Tx<'_>, id: DepositId) -> Result<()> {
    let id = id.as_bytes();
    tx.db.execute("DELETE FROM deposit_parts WHERE parts IN (SELECT parts FROM deposit_versions WHERE deposit = ?1 AND parts IS NOT NULL)", [id])?;
    for table in ["deposit_versions", "deposit_labels", "deposit_readers"] {
        tx.db
            .execute(&format!("DELETE FROM {table} WHERE deposit = ?1"), [id])?;
    }
    tx.db.execute("DELETE FROM deposits WHERE id = ?1", [id])?;
    Ok(())
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

/// The name is another client's.
pub const NAME_TAKEN: &str = "name_taken";

/// The client is not there any more to which a deposit out of a backup belongs.
pub const OWNER_GONE: &str = "owner_gone";

/// A put that may be made.
struct Admitted {
    /// What it is a new version of.
    there: Option<Head>,
    /// Whose it is afterwards.
    owner: Option<ClientId>,
    due: Due,
}

/// Whether a put may be made now.
fn admit(db: &Connection, counts: &Counts, put: &Put, size: usize) -> Result<Admitted> {
    let there = find(db, &Which::Name(put.org, put.name.clone()))?;
    let owner = match &there {
        Some(head) => put.owner.or(head.owner),
        None => put.owner.or(owner_before(db, put)?),
    };
    let charge = Charge {
        org: put.org,
        owner,
        own: put.owner.is_some(),
        objects: u64::from(there.is_none()),
        bytes: size as u64,
    };
    let due = charge.due(db, counts)?;
    if let Some(head) = &there {
        if put.owner.is_some() && head.owner != put.owner {
            return Err(Error::conflict(
                NAME_TAKEN,
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
    let version = there.as_ref().map(|head| head.deposit.version);
    check(put.expect, version)?;
    if version.is_some_and(|version| version >= MAX_VERSION) {
        return Err(Error::conflict(
            "too_many_versions",
            format!(
                "`{}` has {MAX_VERSION} versions, and takes no more",
                put.name
            ),
        ));
    }
    due.fits()?;
    Ok(Admitted { there, owner, due })
}

/// To whom it belonged, where it comes out of a backup.
fn owner_before(db: &Connection, put: &Put) -> Result<Option<ClientId>> {
    let Some(fingerprint) = put.back.as_ref().and_then(|back| back.owner) else {
        return Ok(None);
    };
    match client::of_org(db, &fingerprint, put.org) {
        Ok(known) => Ok(Some(known.client.id)),
        Err(error) if error.kind == Kind::NotFound => Err(Error::conflict(
            OWNER_GONE,
            format!("`{}` belonged to the client {fingerprint}", put.name),
        )),
        Err(error) => Err(error),
    }
}

/// The transaction of `put_deposit`.
fn write(
    tx: &mut Tx<'_>,
    put: Put,
    plain: &Plain,
    size: usize,
    event: &mut Event,
) -> Result<Stored> {
    let db = tx.db;
    let Admitted { there, owner, due } = admit(db, &tx.counts, &put, size)?;
    let back = put.back.filter(|_| there.is_none());
    let came_back = back.is_some();
    let back = back.unwrap_or_default();
    due.pay(&mut tx.counts);
    let which = Which::Name(put.org, put.name.clone());
    let (id, version) = there.as_ref().map_or((put.id, 1), |head| {
        (head.deposit.id, head.deposit.version + 1)
    });
    let content_type = put.content_type.unwrap_or_else(|| match &there {
        Some(head) => head.deposit.content_type.clone(),
        None => ANY_TYPE.to_owned(),
    });
    let policy = there
        .as_ref()
        .map_or(back.policy, |head| head.deposit.policy())
        .set(&put.policy, put.now)?;
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
        plain.parts(),
        body,
    ))?;
    match &there {
        None => {
            let labels = put.labels.unwrap_or(back.labels);
            db.prepare_cached(
                "INSERT INTO deposits (id, org, name, owner, version, size, encryption, content_type, description, labels, created, modified, deleted)
                 VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?10, NULL)",
            )?
            .execute((
                id.as_bytes(),
                put.org.as_bytes(),
                put.name.as_str(),
                owner.as_ref().map(|owner| *owner.as_bytes()),
                size,
                put.encryption.as_str(),
                &content_type,
                put.description.unwrap_or(back.description),
                json(&labels)?,
                put.now.0,
            ))?;
            label(db, id, put.org, &put.name, &labels)?;
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
            tx.outdates(names_of(head));
        }
    }
    event.detail = format!("version {version}");
    if came_back {
        event.detail.push_str(", as a backup has it");
    }
    if let Some(owner) = back.owner {
        event.detail.push_str(&format!(", of client {owner}"));
    }
    if put.policy != SetPolicy::default() || back.policy != Policy::default() {
        write_policy(db, id, &policy)?;
        event.detail.push_str(&format!(", {policy}"));
    }
    if let Some(parts) = plain.parts() {
        db.prepare_cached("DELETE FROM pending_parts WHERE parts = ?1")?
            .execute([parts])?;
    }
    event.object.id = id.to_string();
    Ok(Stored {
        deposit: found(db, &which)?.deposit,
        created: there.is_none(),
    })
}
