//! What a client keeps of the deposits that it fetched, for reads while the server is away
//! (docs/formats/client.md): as they came, still encrypted, and only where `client.toml` says for how
//! long. It never holds a plaintext, and never a deposit whose retrievals count. What it cannot do
//! fails no command.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hyper::HeaderMap;
use serde::{Deserialize, Serialize};

use super::files;
use super::home::{Home, Registered};
use super::span::Span;
use crate::api::deposit::{DEPOSIT_ID, ENCRYPTION, EXPIRES, NOT_BEFORE, RETRIEVALS_LEFT, VERSION};
use crate::clock::{self, Timestamp};
use crate::crypto::sha256;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{ANY_TYPE, Policy};
use crate::model::id::{DepositId, Fingerprint};

/// The folder in a home.
pub const FOLDER: &str = "cache";
const MAGIC: &[u8] = b"strongroom-kept/1\n";
/// Of a head's line.
const LONGEST_HEAD: usize = 4 << 10;
/// Of one file: the longest deposit, and what age and the head add.
const LONGEST: u64 = files::LONGEST_DEPOSIT + (1 << 20);
const MOST_FILES: usize = 4_096;
const MOST_BYTES: u64 = 256 << 20;
/// What a clock is set back by without anything being wrong.
const SLACK: i64 = 300 * Timestamp::SECOND;
/// A file that is still being written is younger.
const ABANDONED: i64 = Timestamp::HOUR;

/// Refusals that mean the client itself: nothing that it fetched is its own any more.
const SHUT_OUT: [&str; 5] = [
    "client_denied",
    "client_disabled",
    "client_pending",
    "not_registered",
    "org_over",
];

/// The first line of a file, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Who fetched it, and from which server.
    pub client: Fingerprint,
    pub server: Fingerprint,
    /// The path that was asked for, with `?version=N` where a version was named.
    pub asked: String,
    pub id: DepositId,
    pub version: u32,
    pub content_type: String,
    /// Of the bytes behind the head.
    pub size: u64,
    pub sha256: String,
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// By this machine's clock.
    pub fetched: Timestamp,
}

/// One client's folder.
pub struct Cache {
    home: Home,
    folder: PathBuf,
    client: Fingerprint,
    server: Fingerprint,
    span: Span,
}

/// What there is instead of an answer.
pub enum Found {
    Kept { head: Head, body: Vec<u8> },
    TooOld(Head),
    Nothing,
}

impl Cache {
    /// None where nothing is to be kept.
    pub fn of(home: Home, registered: &Registered) -> Option<Self> {
        registered.cache.map(|span| Self {
            folder: home.file(FOLDER),
            home,
            client: registered.fingerprint,
            server: registered.server_fingerprint,
            span,
        })
    }

    pub fn span(&self) -> Span {
        self.span
    }

    /// Keeps an answer that was opened here, if its deposit's policy lets it; else nothing of the
    /// deposit is kept any more.
    pub fn keep(
        &self,
        asked: &str,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<()> {
        let Some(head) = self.head(asked, headers, body, now) else {
            self.forget(asked);
            return Ok(());
        };
        // It may have been turned off while the answer was on its way.
        let on = self.home.load()?.is_some_and(|it| it.cache.is_some());
        let bytes = write(&head, body)?;
        if !on || bytes.len() as u64 > LONGEST {
            self.forget(asked);
            return Ok(());
        }
        if self.folder.is_symlink() {
            return Err(Error::denied(
                "home",
                format!("{} is a link, not a folder", self.folder.display()),
            ));
        }
        files::private_folder(&self.folder)?;
        self.sweep_to(MOST_FILES, MOST_BYTES, bytes.len() as u64, now);
        files::replace(&self.file(asked), &bytes)
    }

    fn head(&self, asked: &str, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Option<Head> {
        let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap_or_default());
        let time = |name: &str| text(name).map(str::parse::<Timestamp>).transpose();
        if text(RETRIEVALS_LEFT).is_some() || text(ENCRYPTION) != Some("age") {
            return None;
        }
        Some(Head {
            client: self.client,
            server: self.server,
            asked: asked.to_owned(),
            id: text(DEPOSIT_ID)?.parse().ok()?,
            version: text(VERSION)?.parse().ok()?,
            content_type: text("content-type").unwrap_or(ANY_TYPE).to_owned(),
            size: body.len() as u64,
            sha256: hex::encode(sha256(body)),
            // A time that does not read could be a bound.
            not_before: time(NOT_BEFORE).ok()?,
            expires: time(EXPIRES).ok()?,
            fetched: now,
        })
    }

    /// What is kept of this path, in this version or as the newest one.
    pub fn find(&self, path: &str, version: Option<u32>, now: Timestamp) -> Found {
        let Some(version) = version else {
            return self.read(path, now);
        };
        match self.read(&with_version(path, Some(version)), now) {
            Found::Nothing => match self.read(path, now) {
                Found::Kept { head, .. } | Found::TooOld(head) if head.version != version => {
                    Found::Nothing
                }
                newest => newest,
            },
            named => named,
        }
    }

    fn read(&self, asked: &str, now: Timestamp) -> Found {
        let file = self.file(asked);
        if file.symlink_metadata().is_err() || self.folder.is_symlink() {
            return Found::Nothing;
        }
        let read = files::read(&file, LONGEST)
            .and_then(|bytes| parse(bytes.expose()).map(|(head, body)| (head, body.to_vec())));
        let (head, body) = match read {
            Ok((head, body))
                if self.is_own(&head) && head.asked == asked && !is_over(&head, now) =>
            {
                (head, body)
            }
            // Damaged, somebody else's, or at its end: of no use to anyone.
            _ => {
                let _ = fs::remove_file(&file);
                return Found::Nothing;
            }
        };
        match policy(&head).check(now) {
            Err(_) => Found::Nothing,
            Ok(()) if is_fresh(&head, self.span, now) => Found::Kept { head, body },
            Ok(()) => Found::TooOld(head),
        }
    }

    /// Listens to what the server says to any command: a refusal takes away what is kept, and so does
    /// a change, since what is kept is from before it.
    pub fn heard(&self, change: bool, path: &str, refusal: Option<&Error>) {
        match refusal {
            Some(error) if SHUT_OUT.contains(&error.code) => self.forget_all(),
            Some(error) if matches!(error.kind, Kind::NotFound | Kind::Denied) => {
                let of_itself = |rest: &str| matches!(rest, "" | "/metadata" | "/versions");
                if !change && deposit_of(path).is_some_and(|(_, rest)| of_itself(rest)) {
                    self.forget(path);
                }
            }
            None if change => self.forget(path),
            Some(_) | None => {}
        }
    }

    /// Deletes what is kept of the deposit that a path is about, whichever way it was asked for.
    fn forget(&self, path: &str) {
        let Some((deposit, _)) = deposit_of(path) else {
            return;
        };
        let kept = self.heads();
        let is_named = |head: &Head| deposit_of(&head.asked).is_some_and(|it| it.0 == deposit);
        let ids: Vec<DepositId> = kept
            .iter()
            .filter_map(|(_, head)| head.as_ref().filter(|it| is_named(it)).map(|it| it.id))
            .collect();
        for (file, head) in kept {
            if head.is_none_or(|it| is_named(&it) || ids.contains(&it.id)) {
                let _ = fs::remove_file(file);
            }
        }
    }

    fn forget_all(&self) {
        let _ = forget_all(&self.home);
    }

    /// Makes room for a file: what is over, too old or damaged goes, then the oldest.
    fn sweep_to(&self, most_files: usize, most_bytes: u64, room: u64, now: Timestamp) {
        let mut kept: Vec<(Timestamp, u64, PathBuf)> = Vec::new();
        for (file, head) in self.heads() {
            let usable = head
                .filter(|it| self.is_own(it) && !is_over(it, now) && is_fresh(it, self.span, now));
            let size = file.symlink_metadata().map_or(0, |it| it.len());
            match usable {
                Some(head) => kept.push((head.fetched, size, file)),
                None => drop(fs::remove_file(&file)),
            }
        }
        kept.sort();
        let mut bytes = kept.iter().map(|it| it.1).sum::<u64>() + room;
        let mut count = kept.len() + 1;
        for (_, size, file) in kept {
            if bytes <= most_bytes && count <= most_files {
                break;
            }
            let _ = fs::remove_file(file);
            bytes -= size;
            count -= 1;
        }
    }

    /// All files, with their heads where they have one.
    fn heads(&self) -> Vec<(PathBuf, Option<Head>)> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) if !self.folder.is_symlink() => entries,
            _ => return Vec::new(),
        };
        let files = entries.filter_map(|entry| entry.ok().map(|it| it.path()));
        files
            .filter(|file| is_ours(file))
            .map(|file| {
                let head = read_head(&file);
                (file, head)
            })
            .collect()
    }

    fn is_own(&self, head: &Head) -> bool {
        head.client == self.client && head.server == self.server
    }

    /// Names are hashed, so that one of any length has a file.
    fn file(&self, asked: &str) -> PathBuf {
        self.folder.join(hex::encode(sha256(asked.as_bytes())))
    }
}

/// Deletes all that a home keeps.
pub fn forget_all(home: &Home) -> Result<()> {
    let folder = home.file(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(files::cannot("remove", &folder, error))
        }
        _ => Ok(()),
    }
}

/// Whether a failure means that the server is away: nobody answers, or it has no answer now. Not a
/// refusal, and not a server that is not trusted, for which someone in between could be the cause.
pub fn is_away(error: &Error) -> bool {
    error.code != "tls_failed" && matches!(error.kind, Kind::Unavailable | Kind::Sealed)
}

pub fn with_version(path: &str, version: Option<u32>) -> String {
    match version {
        Some(version) => format!("{path}?version={version}"),
        None => path.to_owned(),
    }
}

/// `/v1/deposits/NAME`, `/v1/deposits/id/UUID` or `/v1/orgs/ORG/deposits/NAME` at the beginning of a
/// path, and what is asked of the deposit.
fn deposit_of(path: &str) -> Option<(&str, &str)> {
    let path = path.split('?').next()?;
    let parts: Vec<&str> = path.split('/').collect();
    let named = match parts.as_slice() {
        ["", "v1", "deposits", "id", id, ..] if id.parse::<DepositId>().is_ok() => 5,
        ["", "v1", "deposits", _, ..] => 4,
        ["", "v1", "orgs", _, "deposits", _, ..] => 6,
        _ => return None,
    };
    let length: usize = parts[..named].iter().map(|it| it.len() + 1).sum();
    path.split_at_checked(length - 1)
}

fn policy(head: &Head) -> Policy {
    Policy {
        not_before: head.not_before,
        expires: head.expires,
        ..Policy::default()
    }
}

fn is_over(head: &Head, now: Timestamp) -> bool {
    head.expires.is_some_and(|end| now >= end)
}

/// By a clock that was set back since, nobody can say how old it is: then it counts as too old.
fn is_fresh(head: &Head, span: Span, now: Timestamp) -> bool {
    let age = now.0.saturating_sub(head.fetched.0);
    (-SLACK..=span.micros()).contains(&age)
}

/// A kept file by its name, or what `files::replace` left beside one when it was cut off long ago.
fn is_ours(file: &Path) -> bool {
    let name = file.file_name().and_then(|it| it.to_str());
    let name = name.unwrap_or_default();
    let age = || {
        let written = file.symlink_metadata().ok()?.modified().ok()?;
        let written = written.duration_since(UNIX_EPOCH).ok()?.as_micros();
        Some(clock::now().0.saturating_sub(i64::try_from(written).ok()?))
    };
    match name.strip_prefix('.') {
        Some(hidden) => hidden.ends_with(".tmp") && age().is_some_and(|age| age > ABANDONED),
        None => name.len() == 64 && name.bytes().all(|it| it.is_ascii_hexdigit()),
    }
}

fn read_head(file: &Path) -> Option<Head> {
    let longest = (MAGIC.len() + LONGEST_HEAD + 1) as u64;
    let mut bytes = Vec::new();
    let file = File::open(file).ok()?;
    file.take(longest).read_to_end(&mut bytes).ok()?;
    split(&bytes).ok().map(|(head, _)| head)
}

pub fn write(head: &Head, body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    serde_json::to_writer(&mut bytes, head)
        .map_err(|error| Error::internal(format!("a head as JSON: {error}")))?;
    if bytes.len() - MAGIC.len() > LONGEST_HEAD {
        return Err(Error::invalid("kept", "its head is too long"));
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// A file's head and bytes.
///
/// # Errors
/// `Invalid`: damaged, cut off, or none of this version.
pub fn parse(bytes: &[u8]) -> Result<(Head, &[u8])> {
    let (head, body) = split(bytes)?;
    if body.len() as u64 != head.size {
        return Err(wrong("it is cut off, or longer than it says"));
    }
    if hex::encode(sha256(body)) != head.sha256 {
        return Err(wrong("its bytes have changed"));
    }
    Ok((head, body))
}

fn split(bytes: &[u8]) -> Result<(Head, &[u8])> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| wrong("it does not begin with its format and version"))?;
    let end = rest
        .iter()
        .take(LONGEST_HEAD + 1)
        .position(|it| *it == b'\n');
    let (head, body) = rest.split_at(end.ok_or_else(|| wrong("its head has no end"))?);
    let head = serde_json::from_slice(head).map_err(|_| wrong("its head does not read"))?;
    Ok((head, &body[1..]))
}

fn wrong(why: &str) -> Error {
    Error::invalid("kept", format!("this is no kept deposit: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::home::REGISTRATION;

    const NOW: Timestamp = Timestamp(1_795_000_000 * Timestamp::SECOND);

    struct World {
        _folder: files::TestFolder,
        cache: Cache,
    }

    fn world() -> World {
        let folder = files::TestFolder::new();
        let home = Home::new(folder.0.clone());
        let registered = format!(
            "version = 1\nserver = \"https://h:1\"\norg = \"acme\"\nfingerprint = \"{0}\"\nserver_fingerprint = \"{0}\"\nrecipient = \"age1x\"\ncache = \"2h\"\nregistered = true\n",
            "ab".repeat(32)
        );
        fs::write(folder.0.join(REGISTRATION), registered).unwrap();
        let registered = home.load().unwrap().unwrap();
        World {
            _folder: folder,
            cache: Cache::of(home, &registered).unwrap(),
        }
    }

    fn headers(id: u8, version: u32) -> HeaderMap {
        let id = format!("018f3b5e-5b6a-7c3d-8e9f-0123456789{id:02x}");
        HeaderMap::from_iter(
            [
                (DEPOSIT_ID, id.as_str()),
                (VERSION, &version.to_string()),
                (ENCRYPTION, "age"),
            ]
            .map(|(name, value)| {
                (
                    hyper::header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            }),
        )
    }

    fn version_of(found: Found) -> Option<u32> {
        match found {
            Found::Kept { head, .. } => Some(head.version),
            Found::TooOld(head) => Some(1_000 + head.version),
            Found::Nothing => None,
        }
    }

    #[test]
    fn a_version_is_found_by_its_number_and_the_newest_without() {
        let World { cache, .. } = &world();
        let path = "/v1/deposits/a";
        cache.keep(path, &headers(1, 3), b"three", NOW).unwrap();
        let first = with_version(path, Some(1));
        cache.keep(&first, &headers(1, 1), b"one", NOW).unwrap();
        let find = |version, later| version_of(cache.find(path, version, NOW.plus(later)));
        assert_eq!(find(None, 0), Some(3));
        assert_eq!(find(Some(3), 0), Some(3));
        assert_eq!(find(Some(1), 0), Some(1));
        assert_eq!(find(Some(2), 0), None);
        assert_eq!(find(None, 2 * Timestamp::HOUR), Some(3));
        assert_eq!(find(None, 2 * Timestamp::HOUR + 1), Some(1_003));
        assert_eq!(find(None, -SLACK), Some(3));
        assert_eq!(find(None, -SLACK - 1), Some(1_003));
        // Under its id, too, it is the same deposit.
        let by_id = "/v1/deposits/id/018f3b5e-5b6a-7c3d-8e9f-012345678901";
        cache.keep(by_id, &headers(1, 3), b"three", NOW).unwrap();
        cache.heard(true, "/v1/deposits/a/share", None);
        assert_eq!(cache.heads().len(), 0);
    }

    #[test]
    fn a_time_that_does_not_read_could_be_a_bound() {
        let World { cache, .. } = &world();
        let path = "/v1/deposits/a";
        for (name, value, kept) in [
            (EXPIRES, "2090-01-01T00:00:00Z", true),
            (EXPIRES, "soon", false),
            (NOT_BEFORE, "2090-01-01T00:00:00Z", false),
            (RETRIEVALS_LEFT, "0", false),
            (ENCRYPTION, "none", false),
            (VERSION, "x", false),
        ] {
            let mut headers = headers(1, 1);
            headers.insert(name, value.parse().unwrap());
            cache.keep(path, &headers, b"x", NOW).unwrap();
            let found = version_of(cache.find(path, None, NOW));
            assert_eq!(found.is_some(), kept, "{name}: {value}");
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let World { cache, .. } = &world();
        let path = |at: u8| format!("/v1/deposits/a{at}");
        let found = |now: Timestamp| -> Vec<u8> {
            let is_there = |at: &u8| version_of(cache.find(&path(*at), None, now)).is_some();
            (0..6).filter(is_there).collect()
        };
        for at in 0..6 {
            let time = NOW.plus(i64::from(at) * Timestamp::SECOND);
            cache
                .keep(&path(at), &headers(at, 1), &[0; 1_000], time)
                .unwrap();
        }
        let later = NOW.plus(Timestamp::HOUR);
        assert_eq!(found(later), [0, 1, 2, 3, 4, 5]);
        let size = cache.heads()[0].0.metadata().unwrap().len();
        cache.sweep_to(4, MOST_BYTES, 0, later);
        assert_eq!(found(later), [3, 4, 5]);
        cache.sweep_to(MOST_FILES, 2 * size, size, later);
        assert_eq!(found(later), [5]);
        // Too old for any use.
        cache.sweep_to(MOST_FILES, MOST_BYTES, 0, NOW.plus(3 * Timestamp::HOUR));
        assert_eq!(cache.heads().len(), 0);
        let long = vec![0; usize::try_from(LONGEST).unwrap()];
        cache.keep(&path(0), &headers(0, 1), &long, NOW).unwrap();
        assert_eq!(cache.heads().len(), 0);
    }

    #[test]
    fn away_is_who_has_no_answer_and_not_who_refuses() {
        let away = |kind, code| is_away(&Error::new(kind, code, "x"));
        assert!(away(Kind::Unavailable, "unreachable") && away(Kind::Sealed, "sealed"));
        assert!(!away(Kind::Unavailable, "tls_failed"));
        for kind in [
            Kind::Invalid,
            Kind::NotFound,
            Kind::Unauthenticated,
            Kind::Denied,
            Kind::Limited,
            Kind::TooSlow,
            Kind::Unknown,
            Kind::Internal,
        ] {
            assert!(!away(kind, "server"), "{kind:?}");
        }
    }

    #[test]
    fn only_what_means_the_deposit_or_the_client_takes_copies_away() {
        let World { cache, .. } = &world();
        let (a, b) = ("/v1/deposits/a", "/v1/deposits/b");
        let refusal = |kind, code| Error::new(kind, code, "x");
        let denied = refusal(Kind::Denied, "denied");
        let limited = refusal(Kind::Limited, "limited");
        let out = refusal(Kind::Denied, "client_disabled");
        let nobody = refusal(Kind::Unauthenticated, "unauthenticated");
        for (change, path, refusal, left) in [
            (false, a, Some(&denied), &[b][..]),
            (false, "/v1/deposits/a/metadata", Some(&denied), &[b]),
            (false, "/v1/deposits/a/readers", Some(&denied), &[a, b]),
            (true, a, Some(&denied), &[a, b]),
            (false, a, Some(&limited), &[a, b]),
            (false, a, Some(&nobody), &[a, b]),
            (false, "/v1/deposits", Some(&denied), &[a, b]),
            (false, "/v1/deposits", Some(&out), &[]),
            (true, "/v1/deposits/c", Some(&out), &[]),
            (true, a, None, &[b]),
            (false, a, None, &[a, b]),
        ] {
            cache.keep(a, &headers(1, 1), b"a", NOW).unwrap();
            cache.keep(b, &headers(2, 1), b"b", NOW).unwrap();
            cache.heard(change, path, refusal);
            let is_there = |it: &&str| version_of(cache.find(it, None, NOW)).is_some();
            let found: Vec<&str> = [a, b].into_iter().filter(is_there).collect();
            assert_eq!(found, left, "{change} {path} {refusal:?}");
        }
    }

    #[test]
    fn a_path_names_its_deposit() {
        let id = "018f3b5e-5b6a-7c3d-8e9f-0123456789ab";
        for (path, deposit) in [
            ("/v1/deposits/a?version=3", Some(("/v1/deposits/a", ""))),
            (
                "/v1/deposits/a/metadata",
                Some(("/v1/deposits/a", "/metadata")),
            ),
            (
                "/v1/deposits/id/metadata",
                Some(("/v1/deposits/id", "/metadata")),
            ),
            (
                "/v1/orgs/acme/deposits/a",
                Some(("/v1/orgs/acme/deposits/a", "")),
            ),
            ("/v1/deposits?limit=1", None),
            ("/v1/clients/self", None),
            ("", None),
        ] {
            assert_eq!(deposit_of(path), deposit, "{path}");
        }
        let by_id = format!("/v1/deposits/id/{id}");
        let asked = format!("{by_id}/versions?x=1");
        assert_eq!(deposit_of(&asked), Some((by_id.as_str(), "/versions")));
    }
}
