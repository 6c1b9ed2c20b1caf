//! A deposit's head as it lies in its row, and how it is found.

use rusqlite::{Connection, Row};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Deposit, DepositName, DepositVersion, Encryption, Policy};
use crate::model::id::{ClientId, DepositId, Fingerprint, OrgId};

/// What must be there for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Absent,
    Present,
    Version(u32),
}

/// A deposit with what rights depend on.
#[derive(Clone, Debug)]
pub struct Head {
    pub deposit: Deposit,
    pub org: OrgId,
    pub owner: Option<ClientId>,
}

/// Which deposit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    Name(OrgId, DepositName),
    Id(DepositId),
}

/// A head with all that is shown of it, and a further clause: one text, so that a request makes none.
macro_rules! select {
    ($clause:literal) => {
        concat!(
            "SELECT d.id, o.name, d.name, (SELECT spki FROM client_keys WHERE client = d.owner ORDER BY added DESC LIMIT 1), d.version, d.size, d.encryption, \
             d.content_type, d.description, d.labels, d.created, d.modified, d.deleted, d.org, d.owner, d.not_before, d.expires, d.max_retrievals, d.retrieved FROM deposits d JOIN orgs o ON o.id = d.org",
            $clause
        )
    };
}
pub(super) const SELECT: &str = select!("");

pub(super) fn read(row: &Row<'_>) -> Result<Head> {
    let labels: String = row.get(9)?;
    let policy = read_policy(row, 15)?;
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
            not_before: policy.not_before,
            expires: policy.expires,
            max_retrievals: policy.max_retrievals,
            retrievals_left: policy.left(),
        },
        org: OrgId(uuid::Uuid::from_bytes(row.get(13)?)),
        owner: row
            .get::<_, Option<[u8; 16]>>(14)?
            .map(|id| ClientId(uuid::Uuid::from_bytes(id))),
    })
}

/// `not_before`, `expires`, `max_retrievals` and `retrieved`, from column `at` on.
pub(super) fn read_policy(row: &Row<'_>, at: usize) -> Result<Policy> {
    Ok(Policy {
        not_before: row.get::<_, Option<i64>>(at)?.map(Timestamp),
        expires: row.get::<_, Option<i64>>(at + 1)?.map(Timestamp),
        max_retrievals: row.get(at + 2)?,
        retrieved: row.get(at + 3)?,
    })
}

pub(super) fn encryption(word: &str) -> Encryption {
    if word == Encryption::Age.as_str() {
        Encryption::Age
    } else {
        Encryption::None
    }
}

pub(super) fn find(db: &Connection, which: &Which) -> Result<Option<Head>> {
    let mut statement;
    let mut rows = match which {
        Which::Name(org, name) => {
            statement = db.prepare_cached(select!(" WHERE d.org = ?1 AND d.name = ?2"))?;
            statement.query((org.as_bytes(), name.as_str()))?
        }
        Which::Id(id) => {
            statement = db.prepare_cached(select!(" WHERE d.id = ?1"))?;
            statement.query([id.as_bytes()])?
        }
    };
    rows.next()?.map(read).transpose()
}

pub(super) fn found(db: &Connection, which: &Which) -> Result<Head> {
    find(db, which)?.ok_or_else(|| no_such(which))
}

pub(super) fn no_such(which: &Which) -> Error {
    match which {
        Which::Name(_, name) => Error::not_found(format!("no deposit is named `{name}`")),
        Which::Id(id) => Error::not_found(format!("no deposit has the id {id}")),
    }
}

pub(super) fn check(expected: Expected, there: Option<u32>) -> Result<()> {
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

pub(super) fn read_version(row: &Row<'_>, at: usize) -> Result<DepositVersion> {
    Ok(DepositVersion {
        version: row.get(at)?,
        size: row.get::<_, i64>(at + 1)?.unsigned_abs(),
        encryption: encryption(row.get_ref(at + 2)?.as_str().unwrap_or_default()),
        content_type: row.get(at + 3)?,
        created: Timestamp(row.get(at + 4)?),
        created_by: row.get(at + 5)?,
    })
}

pub(super) fn present(db: &Connection, which: &Which) -> Result<Head> {
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

pub(super) fn binned(db: &Connection, which: &Which) -> Result<Head> {
    let head = found(db, which)?;
    if head.deposit.deleted.is_none() {
        return Err(Error::conflict(
            "not_in_bin",
            format!("`{}` is not in the bin; remove it first", head.deposit.name),
        ));
    }
    Ok(head)
}
