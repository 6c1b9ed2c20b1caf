//! Who may fetch a deposit beside its owner.

use rusqlite::Connection;

use super::row::{Head, Which, found, present};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::client::ClientState;
use crate::model::group::GroupName;
use crate::model::id::{ClientId, DepositId, Fingerprint};
use crate::store::{Change, Store, client, group};

/// Of one deposit.
const MOST_READERS: i64 = 64;
/// Clients that one deposit's readers come to, members of groups included.
pub const MOST_CLIENTS: usize = 250;

const CLIENT: &str = "client";
const GROUP: &str = "group";

/// A reader as it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Client(Fingerprint),
    Group(GroupName),
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(fingerprint) => write!(f, "{CLIENT} {fingerprint}"),
            Self::Group(name) => write!(f, "{GROUP} {name}"),
        }
    }
}

pub struct ReaderRow {
    pub named: Named,
    pub added: Timestamp,
}

/// What another client needs to encrypt to this one.
pub struct ReaderKeys {
    pub client: Fingerprint,
    pub description: String,
    /// DER.
    pub certificate: Vec<u8>,
    pub recipient: Option<String>,
    pub proof: Option<Vec<u8>>,
}

impl Store {
    /// Lets a client or a group read a deposit.
    ///
    /// # Errors
    /// `NotFound`, `in_bin`, `owner_reads`, `too_many_readers`.
    pub async fn share_deposit(
        &self,
        change: Change,
        id: DepositId,
        reader: Named,
        now: Timestamp,
    ) -> Result<()> {
        self.change_deposits(change, 512, move |tx, event| {
            let head = present(tx.db, &Which::Id(id))?;
            let (reader_id, kind) = resolve(tx.db, &head, &reader)?;
            tx.db.execute(
                "INSERT OR IGNORE INTO deposit_readers (deposit, reader, kind, added) VALUES (?1, ?2, ?3, ?4)",
                (id.as_bytes(), reader_id, kind, now.0),
            )?;
            let count: i64 = tx.db.query_row(
                "SELECT count(*) FROM deposit_readers WHERE deposit = ?1",
                [id.as_bytes()],
                |row| row.get(0),
            )?;
            if count > MOST_READERS || keys(tx.db, id)?.len() > MOST_CLIENTS {
                return Err(Error::conflict(
                    "too_many_readers",
                    format!("a deposit has up to {MOST_READERS} readers, and with the members of groups up to {MOST_CLIENTS} clients"),
                ));
            }
            event.detail = format!("with {reader}");
            Ok(())
        })
        .await
    }

    /// Takes that right away; what the reader has fetched it keeps.
    ///
    /// # Errors
    /// `NotFound`, also where it was no reader.
    pub async fn unshare_deposit(
        &self,
        change: Change,
        id: DepositId,
        reader: Named,
    ) -> Result<()> {
        self.change_deposits(change, 512, move |tx, event| {
            // In the bin, too: else its group could not go.
            let head = found(tx.db, &Which::Id(id))?;
            let (reader_id, _) = resolve(tx.db, &head, &reader)?;
            let gone = tx.db.execute(
                "DELETE FROM deposit_readers WHERE deposit = ?1 AND reader = ?2",
                (id.as_bytes(), reader_id),
            )?;
            if gone == 0 {
                return Err(Error::not_found(format!(
                    "`{}` is not shared with {reader}",
                    head.deposit.name
                )));
            }
            event.detail = format!("with {reader}");
            Ok(())
        })
        .await
    }

    /// Whether a client reads a deposit that is not its own, by itself or as a member. Asked at each
    /// request: nothing of it is kept.
    pub fn is_reader(&self, id: DepositId, client: ClientId) -> Result<bool> {
        self.readers.point(|db| {
            let sql = "SELECT 1 FROM deposit_readers r WHERE r.deposit = ?1 AND (r.reader = ?2
                OR EXISTS (SELECT 1 FROM client_group_members m WHERE m.client_group = r.reader AND m.client = ?2))";
            Ok(db
                .prepare_cached(sql)?
                .exists((id.as_bytes(), client.as_bytes()))?)
        })
    }

    /// As they were named.
    pub fn deposit_readers(&self, id: DepositId) -> Result<Vec<ReaderRow>> {
        self.readers.point(|db| {
            let sql = "SELECT r.added, g.name, (SELECT spki FROM client_keys WHERE client = r.reader ORDER BY added DESC LIMIT 1)
                FROM deposit_readers r LEFT JOIN client_groups g ON g.id = r.reader WHERE r.deposit = ?1 ORDER BY r.added, r.reader";
            let mut statement = db.prepare_cached(sql)?;
            let mut rows = statement.query([id.as_bytes()])?;
            let mut readers = Vec::new();
            while let Some(row) = rows.next()? {
                let named = match row.get::<_, Option<String>>(1)? {
                    Some(name) => Named::Group(name.parse()?),
                    None => Named::Client(Fingerprint(row.get(2)?)),
                };
                readers.push(ReaderRow {
                    named,
                    added: Timestamp(row.get(0)?),
                });
            }
            Ok(readers)
        })
    }

    /// The active clients that these are, each once.
    pub fn reader_keys(&self, id: DepositId) -> Result<Vec<ReaderKeys>> {
        self.readers.point(|db| keys(db, id))
    }
}

fn keys(db: &Connection, id: DepositId) -> Result<Vec<ReaderKeys>> {
    let sql = "SELECT k.spki, c.description, k.certificate, c.age_recipient, c.recipient_proof
        FROM clients c JOIN client_keys k ON k.client = c.id
        WHERE c.state = ?2 AND c.id IN (SELECT reader FROM deposit_readers WHERE deposit = ?1
            UNION SELECT m.client FROM deposit_readers r JOIN client_group_members m ON m.client_group = r.reader WHERE r.deposit = ?1)
        ORDER BY c.id LIMIT ?3";
    let most = i64::try_from(MOST_CLIENTS).unwrap_or(i64::MAX) + 1;
    let mut statement = db.prepare_cached(sql)?;
    let found =
        statement.query_map((id.as_bytes(), ClientState::Active.as_str(), most), |row| {
            Ok(ReaderKeys {
                client: Fingerprint(row.get(0)?),
                description: row.get(1)?,
                certificate: row.get(2)?,
                recipient: row.get(3)?,
                proof: row.get(4)?,
            })
        })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The reader's id and kind, within the deposit's organization.
fn resolve(db: &Connection, head: &Head, reader: &Named) -> Result<([u8; 16], &'static str)> {
    match reader {
        Named::Client(fingerprint) => {
            let known = client::of_org(db, fingerprint, head.org)?;
            if head.owner == Some(known.client.id) {
                return Err(Error::conflict(
                    "owner_reads",
                    "this client owns the deposit, and reads it anyhow",
                ));
            }
            Ok((*known.client.id.as_bytes(), CLIENT))
        }
        Named::Group(name) => {
            let known = group::found(db, head.org, name)?;
            Ok((*known.id.as_bytes(), GROUP))
        }
    }
}
