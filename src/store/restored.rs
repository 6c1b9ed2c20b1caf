//! A store that came out of a backup: what it holds, whether its keys fit, and what makes it the store
//! that a folder goes on with.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::deposit::body_aad;
use super::open::Source;
use super::schema::{self, File};
use super::{Opened, WrappedKey, access_log, copy, event, meta};
use crate::clock::Timestamp;
use crate::crypto::chain::Tagger;
use crate::crypto::envelope;
use crate::error::{Error, Result};
use crate::model::audit::{Chain, Event, Head};
use crate::model::id::{DepositId, InstanceId, OrgId};
use crate::secret::Key;

/// What tells one state of a store from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub instance: InstanceId,
    pub epoch: u64,
    pub timeline: u64,
    pub schema: usize,
    pub access_schema: usize,
    pub revision: u64,
    pub heads: Vec<Head>,
    /// Rows, by the name of the table.
    pub counts: BTreeMap<String, u64>,
}

/// What a store that was put back becomes.
pub struct Taken {
    pub instance: InstanceId,
    pub epoch: u64,
    pub timeline: u64,
    pub seal_generation: u64,
    /// Nothing is sent to other machines until someone says so.
    pub outgoing_held: bool,
    /// System keys that take the place of those of the same name.
    pub keys: Vec<WrappedKey>,
}

/// Opens the wrapped key of an organization, of a version.
pub type Unwrap<'a> = dyn Fn(OrgId, u32, &[u8]) -> Result<Key> + 'a;

/// The schemas that this program knows, of `strongroom.db` and of `access.db`.
pub fn known_schemas() -> (usize, usize) {
    (schema::known(File::Store), schema::known(File::Access))
}

/// Encrypts both databases of a folder that nobody uses anew, in place. Cut off, they are lost.
///
/// # Errors
/// `store_damaged`: a page is not as it was written.
pub fn rekey(dir: &Path, from: &Key, to: &Key) -> Result<()> {
    for file in [File::Store, File::Access] {
        Source::new(dir, file, from).rekey(to)?;
    }
    Ok(())
}

impl Opened {
    pub fn contents(&self) -> Result<Contents> {
        let changes = event::head(&self.db)?;
        let access = access_log::last_head(&self.access_db)?;
        let head = |chain, head: event::Head| Head {
            chain,
            number: head.number,
            hash: head.hash,
        };
        Ok(Contents {
            instance: meta::instance(&self.db)?,
            epoch: meta::number(&self.db, "epoch")?,
            timeline: meta::number(&self.db, "timeline")?,
            schema: schema::standing(&self.db, File::Store)?.found,
            access_schema: schema::standing(&self.access_db, File::Access)?.found,
            revision: meta::revision(&self.db)?,
            heads: vec![head(Chain::Changes, changes), head(Chain::Access, access)],
            counts: copy::counts(&self.db)?,
        })
    }

    /// Opens each organization's keys, and with each a deposit that lies under it, if there is one; how
    /// many keys there are.
    ///
    /// # Errors
    /// What does not open.
    pub fn open_each_key(&self, unwrap: &Unwrap<'_>) -> Result<usize> {
        let mut opened = 0;
        for (org, version, wrapped) in
            meta::rows(&self.db, "SELECT org, version, wrapped FROM org_keys")?
        {
            let key = unwrap(org, version, &wrapped)?;
            if let Some((id, deposit_version, body)) = under(&self.db, org, version)? {
                envelope::open(&key, &body_aad(org, &id, deposit_version), &body)?;
            }
            opened += 1;
        }
        Ok(opened)
    }

    /// Brings both files to this program's schema, without a copy from before: the backup is that.
    pub fn migrate(&self, now: Timestamp) -> Result<()> {
        schema::migrate(&self.access_db, File::Access, now)?;
        schema::migrate(&self.db, File::Store, now)
    }

    /// Makes it the store that a folder goes on with, and enters that in the chain of changes. Whoever was
    /// logged in is not any more.
    pub fn take(&mut self, tagger: &Tagger, event: Event, taken: &Taken) -> Result<()> {
        let revision = meta::revision(&self.db)? + 1;
        let tx = self.db.transaction()?;
        event::append(&tx, event::head(&tx)?, tagger, event)?;
        let mut values = vec![
            ("revision", revision.to_string()),
            ("instance", taken.instance.to_string()),
            ("epoch", taken.epoch.to_string()),
            ("timeline", taken.timeline.to_string()),
            ("seal_generation", taken.seal_generation.to_string()),
        ];
        if taken.outgoing_held {
            values.push((OUTGOING_HELD, "1".to_owned()));
        }
        for (name, value) in values {
            tx.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", (name, value))?;
        }
        for key in &taken.keys {
            let changed = tx.execute(
                "UPDATE system_keys SET version = ?2, wrapped = ?3 WHERE name = ?1",
                (&key.name, key.version, &key.wrapped),
            )?;
            if changed != 1 {
                return Err(Error::internal(format!("no system key `{}`", key.name)));
            }
        }
        tx.execute("DELETE FROM sessions", ())?;
        Ok(tx.commit()?)
    }
}

/// Set to 1 in a clone: jobs that reach out to other machines wait.
const OUTGOING_HELD: &str = "outgoing_held";

/// A deposit that lies under a version of its organization's key: its id, its version, its envelope.
fn under(db: &Connection, org: OrgId, key: u32) -> Result<Option<(DepositId, u32, Vec<u8>)>> {
    let mut statement = db.prepare_cached(
        "SELECT v.deposit, v.version, v.body FROM deposits d JOIN deposit_versions v ON v.deposit = d.id
         WHERE d.org = ?1 AND substr(v.body, 7, 4) = ?2 LIMIT 1",
    )?;
    let mut rows = statement.query((org.as_bytes(), key.to_be_bytes()))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let id = DepositId(uuid::Uuid::from_bytes(row.get(0)?));
    Ok(Some((id, row.get(1)?, row.get(2)?)))
}
