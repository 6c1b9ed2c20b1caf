//! Recipients of backups.

use rusqlite::{Connection, OptionalExtension, Row};

use super::list::{Rows, Start, walk};
use super::{Change, Store};
use crate::api::recipient::RecipientAdded;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::RecipientId;
use crate::model::recipient::Recipient;

/// As many as an age file takes.
const MOST: u32 = 256;

pub struct NewRecipient {
    pub recipient: Recipient,
    /// Armored; of an OpenPGP key.
    pub public_key: Option<String>,
}

const SELECT: &str = "SELECT id, kind, recipient, label, user_ids, subkeys, added, added_by, expires, trouble, public_key FROM recipients";

fn read(row: &Row<'_>) -> Result<Recipient> {
    let list = |at: usize| -> Result<Vec<String>> {
        serde_json::from_str(&row.get::<_, String>(at)?)
            .map_err(|_| Error::internal("a recipient's row is damaged"))
    };
    Ok(Recipient {
        id: RecipientId(uuid::Uuid::from_bytes(row.get(0)?)),
        kind: row.get::<_, String>(1)?.parse()?,
        recipient: row.get(2)?,
        label: row.get(3)?,
        user_ids: list(4)?,
        subkeys: list(5)?,
        added: Timestamp(row.get(6)?),
        added_by: row.get(7)?,
        expires: row.get::<_, Option<i64>>(8)?.map(Timestamp),
        trouble: row.get(9)?,
    })
}

fn insert(db: &Connection, new: &NewRecipient) -> Result<()> {
    let list = |texts: &[String]| {
        serde_json::to_string(texts).map_err(|error| Error::internal(error.to_string()))
    };
    let it = &new.recipient;
    db.execute(
        "INSERT INTO recipients (id, kind, recipient, public_key, label, user_ids, subkeys, added, added_by, expires, trouble) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            it.id.as_bytes(),
            it.kind.as_str(),
            &it.recipient,
            &new.public_key,
            &it.label,
            list(&it.user_ids)?,
            list(&it.subkeys)?,
            it.added.0,
            &it.added_by,
            it.expires.map(|end| end.0),
            &it.trouble,
        ),
    )?;
    Ok(())
}

fn delete(db: &Connection, id: RecipientId) -> Result<usize> {
    Ok(db.execute("DELETE FROM recipients WHERE id = ?1", [id.as_bytes()])?)
}

impl Store {
    /// An OpenPGP key that is there and says something else of itself takes the other's place.
    ///
    /// # Errors
    /// `recipient_known`, `recipient_unusable`, `too_many_recipients`.
    pub async fn add_recipient(
        &self,
        change: Change,
        mut new: NewRecipient,
    ) -> Result<RecipientAdded> {
        let length = 1_024 + new.public_key.as_ref().map_or(0, String::len);
        self.change(change, length, move |tx, _| {
            let before = tx
                .db
                .prepare_cached(&format!("{SELECT} WHERE recipient = ?1"))?
                .query_row([&new.recipient.recipient], |row| {
                    Ok((read(row), row.get::<_, Option<String>>(10)?))
                })
                .optional()?;
            let renewed = before.is_some();
            match before {
                Some((before, key)) => {
                    let before = before?;
                    if key == new.public_key {
                        return Err(known(&before));
                    }
                    take_the_place(&before, &mut new.recipient)?;
                    delete(tx.db, before.id)?;
                }
                None => check_new(tx.db, &new.recipient)?,
            }
            insert(tx.db, &new)?;
            Ok(RecipientAdded {
                recipient: new.recipient,
                renewed,
            })
        })
        .await
    }

    pub fn recipient(&self, id: RecipientId) -> Result<Recipient> {
        self.readers.point(|db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            let mut rows = statement.query([id.as_bytes()])?;
            rows.next()?.map(read).transpose()?.ok_or_else(|| gone(id))
        })
    }

    /// The armored key of an OpenPGP recipient.
    pub fn recipient_key(&self, id: RecipientId) -> Result<Option<String>> {
        self.readers.point(|db| {
            db.prepare_cached("SELECT public_key FROM recipients WHERE id = ?1")?
                .query_row([id.as_bytes()], |row| row.get(0))
                .optional()?
                .ok_or_else(|| gone(id))
        })
    }

    /// In the order they were added.
    pub async fn recipients(
        &self,
        start: Start<[u8; 16]>,
        filter: Filter<Recipient>,
        limit: usize,
    ) -> Result<Rows<Recipient>> {
        self.readers
            .scan(move |db| {
                let order = start.order();
                let mut statement = db.prepare_cached(&format!(
                    "{SELECT} WHERE id > ?1 AND id < ?2 ORDER BY id {order}"
                ))?;
                walk(&start, &mut statement, start.bounds(), limit, &filter, read)
            })
            .await
    }

    pub async fn remove_recipient(&self, change: Change, id: RecipientId) -> Result<()> {
        self.change(change, 128, move |tx, _| match delete(tx.db, id)? {
            0 => Err(gone(id)),
            _ => Ok(()),
        })
        .await
    }
}

fn gone(id: RecipientId) -> Error {
    Error::not_found(format!("no recipient has the id {id}"))
}

fn known(before: &Recipient) -> Error {
    Error::conflict(
        "recipient_known",
        format!(
            "{} is a recipient already, since {} ({}); nothing was changed",
            before.told(),
            before.added,
            before.id
        ),
    )
}

/// # Errors
/// What is known of it as useless is not taken back by an older copy.
fn take_the_place(before: &Recipient, new: &mut Recipient) -> Result<()> {
    if let (Some(why), None) = (&before.trouble, &new.trouble) {
        return Err(Error::conflict(
            "recipient_unusable",
            format!(
                "{} {why}, as a later copy of it said that was imported here; if that is wrong, remove it (strongroom recipient rm {}) and import it again",
                before.told(),
                before.id
            ),
        ));
    }
    new.id = before.id;
    new.added = before.added;
    new.added_by.clone_from(&before.added_by);
    if new.label.is_empty() {
        new.label.clone_from(&before.label);
    }
    Ok(())
}

fn check_new(db: &Connection, new: &Recipient) -> Result<()> {
    if let Some(why) = new.why_not(new.added) {
        return Err(Error::conflict(
            "recipient_unusable",
            format!("{} {why}; it was not added", new.told()),
        ));
    }
    let have: u32 = db.query_row("SELECT count(*) FROM recipients", (), |row| row.get(0))?;
    match have {
        ..MOST => Ok(()),
        _ => Err(Error::conflict(
            "too_many_recipients",
            format!("there are {MOST} recipients, the most that may be; remove one first"),
        )),
    }
}
