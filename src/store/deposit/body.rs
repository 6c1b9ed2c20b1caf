//! A deposit's bytes: sealed in their version's row, or in parts beside it where they are long.

use std::sync::Arc;

use super::parts::{INLINE, PARTS};
use super::row::{Which, encryption, no_such, read_policy};
use crate::clock::Timestamp;
use crate::crypto::envelope::{self, Aad};
use crate::error::{Error, Result};
use crate::model::deposit::{ANY_TYPE, Encryption, Policy};
use crate::model::id::{ClientId, DepositId, OrgId};
use crate::secret::{Locked, Secret};
use crate::store::Store;

/// A body with the organization's key that seals it.
pub struct Body {
    pub bytes: Secret<Vec<u8>>,
    pub key: Locked,
    pub key_version: u32,
}

/// A version as it lies in the store, packed: many of them are kept in memory.
pub struct Sealed {
    pub head: Owned,
    pub version: u32,
    pub encryption: Encryption,
    /// In bytes, once it is open.
    pub size: u64,
    /// None: `ANY_TYPE`.
    content_type: Option<Box<str>>,
    body: Box<[u8]>,
    parts: Option<[u8; 16]>,
}

/// As much of a head as a fetch needs.
#[derive(Clone, Debug)]
pub struct Owned {
    pub id: DepositId,
    pub org: OrgId,
    pub owner: Option<ClientId>,
    pub deleted: Option<Timestamp>,
    pub policy: Policy,
}

impl Sealed {
    pub fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(ANY_TYPE)
    }

    /// Whether each retrieval of it counts.
    pub fn is_limited(&self) -> bool {
        self.head.policy.max_retrievals.is_some()
    }

    /// What it holds here; parts lie elsewhere.
    pub(super) fn inline_bytes(&self) -> usize {
        self.body.len() + self.content_type.as_ref().map_or(0, |own| own.len())
    }
}

/// What an envelope held; wiped when it goes.
pub struct Unsealed {
    plain: Secret<Vec<u8>>,
    from: usize,
}

impl AsRef<[u8]> for Unsealed {
    fn as_ref(&self) -> &[u8] {
        self.plain.expose().get(self.from..).unwrap_or_default()
    }
}

pub(in crate::store) fn body_aad<'a>(org: OrgId, id: &'a DepositId, version: u32) -> Aad<'a> {
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
                    "SELECT d.id, d.org, d.owner, d.deleted, v.version, v.size, v.encryption, v.content_type, v.body, v.parts, d.not_before, d.expires, d.max_retrievals, d.retrieved \
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
                    policy: read_policy(row, 10)?,
                },
                version: row.get(4)?,
                size: row.get::<_, i64>(5)?.unsigned_abs(),
                encryption: encryption(row.get_ref(6)?.as_str().unwrap_or_default()),
                content_type: Some(row.get::<_, Box<str>>(7)?).filter(|own| **own != *ANY_TYPE),
                body: row.get(8)?,
                parts: row.get(9)?,
            })
        })
    }

    /// Opens what `sealed_deposit` found. `key` gives the organization's key of a version.
    pub fn open_deposit(
        &self,
        sealed: &Sealed,
        key: impl FnOnce(u32) -> Result<Locked>,
    ) -> Result<Unsealed> {
        let parent = key(envelope::key_id(&sealed.body)?)?;
        let plain = envelope::open(
            &parent,
            &body_aad(sealed.head.org, &sealed.head.id, sealed.version),
            &sealed.body,
        )?;
        match (plain.expose().first(), sealed.parts) {
            (Some(&INLINE), None) => Ok(Unsealed { plain, from: 1 }),
            (Some(&PARTS), Some(_)) => Ok(Unsealed {
                plain: self.gather(sealed, &plain.expose()[1..])?,
                from: 0,
            }),
            _ => Err(Error::internal("a deposit's body has an unknown form")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of no deposit that is anywhere.
    pub fn sealed(version: u32, bytes: usize) -> Sealed {
        Sealed {
            head: Owned {
                id: DepositId::new(),
                org: OrgId::new(),
                owner: None,
                deleted: None,
                policy: Policy::default(),
            },
            version,
            encryption: Encryption::None,
            size: bytes as u64,
            content_type: None,
            body: vec![7; bytes].into(),
            parts: None,
        }
    }
}
