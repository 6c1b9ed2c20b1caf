//! Writes a backup: the manifest first, then what it lists.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::manifest::{DATABASE_KEY, MANIFEST, Manifest, Member};
use crate::clock::Timestamp;
use crate::crypto;
use crate::error::Result;
use crate::folder;

/// A member, and where its bytes are.
pub struct Part {
    pub member: Member,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Part {
    pub fn of_bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            member: member(name, bytes.len() as u64, &crypto::sha256(&bytes)),
            content: Content::Bytes(bytes),
        }
    }

    /// Reads the file once for its digest.
    pub fn of_file(name: &str, path: PathBuf) -> Result<Self> {
        let sum = File::open(&path).and_then(|mut file| crypto::sha256_of(&mut file));
        let (bytes, sha256) = sum.map_err(|error| folder::failed("read", &path, error))?;
        Ok(Self {
            member: member(name, bytes, &sha256),
            content: Content::File(path),
        })
    }

    pub fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::File(path) => Some(path),
            Content::Bytes(_) => None,
        }
    }
}

fn member(name: &str, bytes: u64, sha256: &[u8; 32]) -> Member {
    Member {
        name: name.to_owned(),
        bytes,
        sha256: hex::encode(sha256),
    }
}

/// Writes the whole of it. `json` is the manifest as it is written, of which `manifest.members` are those
/// of `parts`; `database_key` the envelope that is bound to it.
///
/// # Errors
/// What `to` gives, and what reading the files gives.
pub fn write(
    json: &[u8],
    database_key: &[u8],
    parts: &[Part],
    created: Timestamp,
    to: impl Write,
) -> io::Result<()> {
    let mtime = u64::try_from(created.0 / 1_000_000).unwrap_or(0);
    let mut tar = Builder::new(to);
    append(&mut tar, MANIFEST, json.len() as u64, mtime, json)?;
    for (at, part) in parts.iter().enumerate() {
        let Member { name, bytes, .. } = &part.member;
        match &part.content {
            Content::Bytes(content) => append(&mut tar, name, *bytes, mtime, &content[..])?,
            Content::File(path) => {
                let file = BufReader::with_capacity(256 << 10, File::open(path)?);
                append(&mut tar, name, *bytes, mtime, file)?;
            }
        }
        // Behind what gives the key that opens it.
        if at == 0 {
            let length = database_key.len() as u64;
            append(&mut tar, DATABASE_KEY, length, mtime, database_key)?;
        }
    }
    tar.into_inner()?.flush()
}

fn append(
    tar: &mut Builder<impl Write>,
    name: &str,
    bytes: u64,
    mtime: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path(name)?;
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(mtime);
    header.set_cksum();
    let mut counted = Counted {
        from: content,
        left: bytes,
    };
    tar.append(&header, &mut counted)?;
    match counted.left {
        0 => Ok(()),
        _ => Err(io::Error::other(format!("{name} became shorter"))),
    }
}

/// Exactly so many bytes.
struct Counted<R> {
    from: R,
    left: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.from.read(&mut into[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What the whole stream has in bytes.
pub fn length(json: &[u8], database_key: &[u8], manifest: &Manifest) -> u64 {
    const BLOCK: u64 = 512;
    let blocks = |bytes: u64| BLOCK + bytes.div_ceil(BLOCK) * BLOCK;
    let members: u64 = manifest.members.iter().map(|it| blocks(it.bytes)).sum();
    blocks(json.len() as u64) + blocks(database_key.len() as u64) + members + 2 * BLOCK
}

/// The name of a backup's file: as `ktbackup.sh` names it.
pub fn file_name(fqdn: &str, created: Timestamp, ending: &str) -> String {
    let host: String = fqdn
        .chars()
        .map(|it| {
            if it.is_ascii_alphanumeric() || it == '-' {
                it
            } else {
                '_'
            }
        })
        .collect();
    // 2026-11-22T16:00:00.123456Z
    let time = created.to_string();
    let (day, clock) = (&time[..10], time[11..19].replace(':', "-"));
    format!("kts_bak_{host}_{day}_{clock}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_as_long_as_was_said() {
        let manifest = super::super::manifest::tests::sample();
        let json = manifest.to_json().unwrap();
        let parts: Vec<Part> = manifest
            .members
            .iter()
            .map(|it| {
                Part::of_bytes(
                    &it.name,
                    vec![7; usize::try_from(it.bytes.min(5_000)).unwrap()],
                )
            })
            .collect();
        let manifest = Manifest {
            members: parts.iter().map(|it| it.member.clone()).collect(),
            ..manifest
        };
        let mut out = Vec::new();
        write(&json, b"key", &parts, Timestamp(0), &mut out).unwrap();
        assert_eq!(out.len() as u64, length(&json, b"key", &manifest));
    }

    #[test]
    fn a_name_has_the_host_and_the_time_in_utc() {
        assert_eq!(
            file_name(
                "kts01.example.com",
                Timestamp(1_385_978_121_000_000),
                ".tar.age"
            ),
            "kts_bak_kts01_example_com_2013-12-02_09-55-21.tar.age"
        );
    }
}
