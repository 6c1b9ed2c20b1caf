//! What a backup says of itself, before anything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::crypto;
use crate::crypto::envelope::Aad;
use crate::error::{Error, Kind, Result};
use crate::model::audit::{Head, SignedCheckpoint};
use crate::model::backup::EncryptedTo;
use crate::model::id::{InstanceId, SlotId, shown};

pub const FORMAT: &str = "strongroom-backup/1";
/// The version that this program reads.
pub const READER: u32 = 1;

pub const MANIFEST: &str = "manifest.json";
pub const SEAL: &str = "seal.json";
pub const ROOT_KEY: &str = "root.key";
pub const DATABASE_KEY: &str = "database.key";
pub const CONFIG: &str = "strongroom.toml";
pub const OPENPGP: &str = "openpgp.asc";
pub const ACCESS: &str = "access.db";
pub const STORE: &str = "strongroom.db";
/// Before the name of a file of `live/tls/`.
pub const TLS: &str = "tls/";

/// The longest manifest, in bytes.
pub const MOST_MANIFEST: u64 = 1 << 20;
/// The longest member that is kept in memory.
pub const MOST_SMALL: u64 = 1 << 20;
/// How many files of `tls/` there may be.
pub const MOST_TLS: usize = 64;
/// The purpose of the key that seals `database.key` and the files of `tls/`.
pub const PURPOSE: &str = "backup/v1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub min_reader: u32,
    pub id: Uuid,
    pub created: Timestamp,
    pub program: String,
    pub instance: InstanceId,
    pub node: Uuid,
    pub fqdn: String,
    pub epoch: u64,
    pub timeline: u64,
    pub schema: usize,
    pub access_schema: usize,
    pub revision: u64,
    pub heads: Vec<Head>,
    pub checkpoint: Option<SignedCheckpoint>,
    pub newest_deposit: Option<Timestamp>,
    pub counts: BTreeMap<String, u64>,
    pub slots: Vec<Slot>,
    pub recipients: Vec<EncryptedTo>,
    pub self_contained: bool,
    pub bound_to_hsm: Vec<String>,
    pub members: Vec<Member>,
}

/// A slot that opens what the backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub id: SlotId,
    pub kind: String,
    pub label: String,
}

/// A member behind the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub bytes: u64,
    /// 64 hex digits.
    pub sha256: String,
}

impl Manifest {
    /// # Errors
    /// `not_a_backup`, `backup_newer`, `backup_damaged` where what it says cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        /// What any version has.
        #[derive(Deserialize)]
        struct Any {
            format: String,
            #[serde(default)]
            min_reader: u32,
        }
        let any: Any = serde_json::from_slice(bytes).map_err(|why| not_a_backup().because(why))?;
        if !any.format.starts_with("strongroom-backup/") {
            return Err(not_a_backup());
        }
        if any.format != FORMAT || any.min_reader > READER {
            return Err(Error::new(
                Kind::Invalid,
                "backup_newer",
                format!(
                    "this backup is of format `{}` and wants a reader of version {}; this program reads {FORMAT}, version {READER}: take the program that wrote it, or a newer one",
                    shown(&any.format),
                    any.min_reader
                ),
            ));
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|why| damaged("its manifest cannot be read").because(why))?;
        manifest.check()?;
        Ok(manifest)
    }

    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|error| Error::internal(error.to_string()))
    }

    /// The members are those of the format, in their order, each once.
    fn check(&self) -> Result<()> {
        let mut before = 0;
        let mut tls = Vec::new();
        for member in &self.members {
            let (place, most) = place(&member.name, self.self_contained)
                .ok_or_else(|| unknown_member(&member.name))?;
            let again = place == before && place != TLS_PLACE;
            if place < before || again || tls.contains(&&member.name) {
                return Err(damaged(&format!(
                    "its manifest lists `{}` twice, or out of order",
                    shown(&member.name)
                )));
            }
            if most.is_some_and(|most| member.bytes > most) {
                return Err(damaged(&format!(
                    "its manifest says that `{}` has {} bytes",
                    shown(&member.name),
                    member.bytes
                )));
            }
            if member.sha256.len() != 64 || hex::decode(&member.sha256).is_err() {
                return Err(damaged(&format!(
                    "its manifest has no digest of `{}`",
                    shown(&member.name)
                )));
            }
            if place == TLS_PLACE {
                tls.push(&member.name);
            }
            before = place;
        }
        if tls.len() > MOST_TLS {
            return Err(damaged("its manifest lists too many files of tls/"));
        }
        let opener = if self.self_contained { ROOT_KEY } else { SEAL };
        for needed in [opener, CONFIG, ACCESS, STORE] {
            if self.member(needed).is_none() {
                return Err(damaged(&format!("its manifest lists no `{needed}`")));
            }
        }
        Ok(())
    }

    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// What its databases take on the disk.
    pub fn bytes(&self) -> u64 {
        let all = self.members.iter().map(|member| member.bytes);
        all.fold(0, u64::saturating_add)
    }
}

const TLS_PLACE: u8 = 4;

/// Where a member stands, and the most bytes that it may have.
fn place(name: &str, self_contained: bool) -> Option<(u8, Option<u64>)> {
    Some(match name {
        SEAL if !self_contained => (1, Some(MOST_SMALL)),
        ROOT_KEY if self_contained => (1, Some(65)),
        CONFIG => (2, Some(MOST_SMALL)),
        OPENPGP => (3, Some(64 << 10)),
        ACCESS => (5, None),
        STORE => (6, None),
        _ => match name.strip_prefix(TLS) {
            Some(file) if is_plain(file) => (TLS_PLACE, Some(MOST_SMALL)),
            _ => return None,
        },
    })
}

/// The name of a file, and of nothing above or below it; a tar's header has 100 bytes for all of it.
fn is_plain(name: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !name.is_empty()
        && TLS.len() + name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(usual)
}

/// Where the envelope of a member stands. `object`: the SHA-256 of the manifest for `database.key`, the
/// id of the backup for all else.
pub fn aad<'a>(member: &'a str, object: &'a [u8]) -> Aad<'a> {
    Aad {
        table: "backup",
        column: member,
        org: None,
        object,
        version: 1,
    }
}

/// What `database.key` is bound to.
pub fn binding(manifest: &[u8]) -> [u8; 32] {
    crypto::sha256(manifest)
}

pub fn not_a_backup() -> Error {
    Error::new(
        Kind::Invalid,
        "not_a_backup",
        "this is no backup of Strongroom: its first member is no manifest.json of one",
    )
}

pub fn unknown_member(name: &str) -> Error {
    damaged(&format!(
        "it has a member `{}`, which no backup has",
        shown(name)
    ))
}

/// `what`: a clause that says what was found.
pub fn damaged(what: &str) -> Error {
    Error::new(
        Kind::Invalid,
        "backup_damaged",
        format!("this backup is damaged: {what}; take another copy of it, or another backup"),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn sample() -> Manifest {
        let member = |name: &str, bytes| Member {
            name: name.to_owned(),
            bytes,
            sha256: "00".repeat(32),
        };
        Manifest {
            format: FORMAT.to_owned(),
            min_reader: READER,
            id: Uuid::nil(),
            created: Timestamp(0),
            program: "0.1.0".to_owned(),
            instance: InstanceId(Uuid::nil()),
            node: Uuid::nil(),
            fqdn: "kts01.example.com".to_owned(),
            epoch: 1,
            timeline: 1,
            schema: 8,
            access_schema: 2,
            revision: 7,
            heads: vec![],
            checkpoint: None,
            newest_deposit: None,
            counts: BTreeMap::new(),
            slots: vec![],
            recipients: vec![],
            self_contained: false,
            bound_to_hsm: vec![],
            members: vec![
                member(SEAL, 500),
                member(CONFIG, 100),
                member("tls/leaf.key", 300),
                member("tls/leaf.pem", 900),
                member(ACCESS, 4096),
                member(STORE, 1 << 40),
            ],
        }
    }

    fn changed(change: impl FnOnce(&mut Manifest)) -> Result<Manifest> {
        let mut manifest = sample();
        change(&mut manifest);
        Manifest::parse(&manifest.to_json().unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(changed(|_| ()).unwrap(), sample());
    }

    #[test]
    fn a_newer_one_and_what_is_none_are_told_apart() {
        let code = |result: Result<Manifest>| result.unwrap_err().code;
        assert_eq!(code(changed(|it| it.min_reader = 2)), "backup_newer");
        let newer = changed(|it| it.format = "strongroom-backup/2".to_owned());
        assert_eq!(code(newer), "backup_newer");
        for other in ["", "{}", "[]", "{\"format\":\"x\"}", "\u{0}"] {
            assert_eq!(code(Manifest::parse(other.as_bytes())), "not_a_backup");
        }
    }

    #[test]
    fn members_that_cannot_be_are_refused() {
        let wrong: [fn(&mut Manifest); 10] = [
            |it| it.members[2].name = "tls/../../etc/passwd".to_owned(),
            |it| it.members[2].name = "/etc/passwd".to_owned(),
            |it| it.members[2].name = "tls/a/b".to_owned(),
            |it| it.members[2].name = "tls/.".to_owned(),
            |it| it.members[0].name = ROOT_KEY.to_owned(),
            |it| it.members[3].name = "tls/leaf.key".to_owned(),
            |it| it.members.swap(4, 5),
            |it| drop(it.members.pop()),
            |it| it.members[0].bytes = 1 << 30,
            |it| it.members[4].sha256 = "zz".repeat(32),
        ];
        for (number, wrong) in wrong.into_iter().enumerate() {
            assert_eq!(
                changed(wrong).unwrap_err().code,
                "backup_damaged",
                "{number}"
            );
        }
    }
}
