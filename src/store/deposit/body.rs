//! A deposit's bytes: sealed in their version's row, or in parts beside it where they are long.

use std::sync::Arc;

use super::parts::{INLINE, PARTS};
use super::row::{Which, no_such, read_version};
use crate::clock::Timestamp;
use crate::crypto::envelope::{self, Aad};
use crate::error::{Error, Result};
use crate::model::deposit::DepositVersion;
use crate::model::id::{ClientId, DepositId, OrgId};
use crate::secret::{Key, Secret};
use crate::store::Store;

/// A body with the organization's key that seals it.
pub struct Body {
    pub bytes: Secret<Vec<u8>>,
    pub key: Arc<Key>,
    pub key_version: u32,
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

impl Sealed {
    /// What it holds here; parts lie elsewhere.
    pub(super) fn inline_bytes(&self) -> usize {
        self.body.len() + self.version.content_type.len() + self.version.created_by.len()
    }
}

pub(super) fn body_aad<'a>(org: OrgId, id: &'a DepositId, version: u32) -> Aad<'a> {
    Aad {
        table: "deposit_versions",
        column: "body",
        org: Some(org),
        object: id.as_bytes(),
        version: u64::from(version),
    }
}

impl Store {
    /// The version asked for, or the newest, still sealed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn sealed_deposit(&self, which: &Which, version: Option<u32>) -> Result<Arc<Sealed>> {
        match version {
            None => self.envelopes.find(which, || self.read_sealed(which, None)),
            Some(_) => self.read_sealed(which, version).map(Arc::new),
        }
    }

    fn read_sealed(&self, which: &Which, version: Option<u32>) -> Result<Sealed> {
        macro_rules! select {
            ($clause:literal) => {
                concat!(
                    "SELECT d.id, d.org, d.owner, d.deleted, v.version, v.size, v.encryption, v.content_type, v.created, v.created_by, v.body, v.parts \
                     FROM deposits d JOIN deposit_versions v ON v.deposit = d.id AND v.version = coalesce(?1, d.version)",
                    $clause
                )
            };
        }
        self.readers.point(|db| {
            let mut statement;
            let mut rows = match which {
                Which::Name(org, name) => {
                    statement = db.prepare_cached(select!(" WHERE d.org = ?2 AND d.name = ?3"))?;
                    statement.query((version, org.as_bytes(), name.as_str()))?
                }
                Which::Id(id) => {
                    statement = db.prepare_cached(select!(" WHERE d.id = ?2"))?;
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
        key: impl FnOnce(u32) -> Result<Arc<Key>>,
    ) -> Result<Secret<Vec<u8>>> {
        let parent = key(envelope::key_id(&sealed.body)?)?;
        let plain = envelope::open(
            &parent,
            &body_aad(sealed.head.org, &sealed.head.id, sealed.version.version),
            &sealed.body,
        )?;
        match (plain.expose().split_first(), sealed.parts) {
            (Some((&INLINE, body)), None) => Ok(Secret::new(body.to_vec())),
            (Some((&PARTS, manifest)), Some(_)) => self.gather(sealed, manifest),
            _ => Err(Error::internal("a deposit's body has an unknown form")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::deposit::Encryption;

    /// Of no deposit that is anywhere.
    pub fn sealed(version: u32, bytes: usize) -> Sealed {
        Sealed {
            head: Owned {
                id: DepositId::new(),
                org: OrgId::new(),
                owner: None,
                deleted: None,
            },
            version: DepositVersion {
                version,
                size: bytes as u64,
                encryption: Encryption::None,
                content_type: String::new(),
                created: Timestamp(0),
                created_by: String::new(),
            },
            body: vec![7; bytes],
            parts: None,
        }
    }
}
