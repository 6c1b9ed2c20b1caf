//! Reads a backup's tar, front to back, whatever it comes from. Nothing of it is believed before it fits
//! the manifest: the members are the ones listed, in their order, of their lengths and digests, and nothing
//! lies between or behind them.

use std::io::Read;

use super::manifest::{
    ACCESS, CONFIG, DATABASE_KEY, MANIFEST, MOST_MANIFEST, MOST_SMALL, Manifest, OPENPGP, ROOT_KEY,
    SEAL, STORE, TLS, damaged, not_a_backup, unknown_member,
};
use crate::crypto::Sha256;
use crate::error::{Error, Kind, Result};
use crate::model::id::shown;
use crate::secret::Secret;

/// The longest envelope of the databases' key.
const MOST_DATABASE_KEY: u64 = 1 << 10;
const BLOCK: usize = 512;
/// Behind the two blocks that end a tar, a writer may fill up with zeros.
const MOST_AT_END: u64 = 1 << 20;
/// What is read at once.
const PIECE: usize = 64 << 10;

/// Takes what is read, piece by piece.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// After an error, there is nothing more to be had from it.
pub struct Reader<R> {
    tar: Tar<R>,
    manifest: Manifest,
    bytes: Vec<u8>,
    /// How many of the manifest's members were read.
    read: usize,
}

/// The members before the databases.
pub struct Small {
    pub opener: Opener,
    /// An envelope.
    pub database_key: Vec<u8>,
    pub config: Vec<u8>,
    pub openpgp: Option<Vec<u8>>,
    /// Name below `tls/`, and envelope.
    pub tls: Vec<(String, Vec<u8>)>,
}

/// What leads to the root key.
pub enum Opener {
    /// `seal.json`: the secret of a slot does.
    Seal(Vec<u8>),
    /// It lies inside.
    Root(Secret<Vec<u8>>),
}

/// A backup that was read to its end.
pub struct Whole {
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub small: Small,
    /// Of the tar.
    pub bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the manifest.
    ///
    /// # Errors
    /// `not_a_backup`, `backup_newer`, `backup_damaged`; `backup_unreadable` where reading itself fails.
    pub fn begin(from: R) -> Result<Self> {
        let mut tar = Tar { from, at: 0 };
        let size = tar.first()?;
        let mut bytes = Vec::new();
        tar.body(MANIFEST, size, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Self {
            manifest: Manifest::parse(&bytes)?,
            tar,
            bytes,
            read: 0,
        })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// As they are in the tar.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads what lies before the databases.
    pub fn small(&mut self) -> Result<Small> {
        let opener = match self.manifest.self_contained {
            true => Opener::Root(Secret::new(self.kept(ROOT_KEY)?)),
            false => Opener::Seal(self.kept(SEAL)?),
        };
        let size = self.tar.header(DATABASE_KEY)?;
        if size > MOST_DATABASE_KEY {
            return Err(damaged(&format!("`{DATABASE_KEY}` has {size} bytes")));
        }
        let mut database_key = Vec::new();
        self.tar.body(DATABASE_KEY, size, &mut |piece| {
            database_key.extend_from_slice(piece);
            Ok(())
        })?;
        let config = self.kept(CONFIG)?;
        let openpgp = match self.next() {
            Some(OPENPGP) => Some(self.kept(OPENPGP)?),
            _ => None,
        };
        let mut tls = Vec::new();
        while let Some(name) = self.next().filter(|name| name.starts_with(TLS)) {
            let name = name.to_owned();
            let bytes = self.kept(&name)?;
            tls.push((name[TLS.len()..].to_owned(), bytes));
        }
        Ok(Small {
            opener,
            database_key,
            config,
            openpgp,
            tls,
        })
    }

    /// Reads a database. `sink` has all of it once this has ended well, and not before.
    pub fn stream(&mut self, name: &str, sink: &mut Sink<'_>) -> Result<()> {
        let member = match self.manifest.members.get(self.read) {
            Some(member) if member.name == name => member.clone(),
            _ => return Err(Error::internal(format!("`{name}` is not the next member"))),
        };
        let size = self.tar.header(name)?;
        if size != member.bytes {
            return Err(damaged(&format!(
                "`{}` has {size} bytes, its manifest says {}",
                shown(name),
                member.bytes
            )));
        }
        let mut digest = Sha256::new();
        self.tar.body(name, size, &mut |piece| {
            digest.update(piece);
            sink(piece)
        })?;
        if hex::encode(digest.finish()) != member.sha256.to_ascii_lowercase() {
            return Err(damaged(&format!(
                "what `{}` holds does not fit the digest in its manifest",
                shown(name)
            )));
        }
        self.read += 1;
        Ok(())
    }

    /// Sees that nothing follows; how many bytes the tar has.
    pub fn end(self) -> Result<u64> {
        if let Some(name) = self.next() {
            return Err(Error::internal(format!("`{name}` was not read")));
        }
        self.tar.end()
    }

    fn next(&self) -> Option<&str> {
        let member = self.manifest.members.get(self.read);
        member.map(|member| member.name.as_str())
    }

    /// A member in memory. The manifest says how long it is, and no manifest is taken that says too much.
    fn kept(&mut self, name: &str) -> Result<Vec<u8>> {
        let most = self.manifest.member(name).map_or(0, |member| member.bytes);
        // So that what is secret does not move about while it grows.
        let mut bytes = Vec::with_capacity(usize::try_from(most.min(MOST_SMALL)).unwrap_or(0));
        self.stream(name, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// Reads a backup to its end and keeps nothing of its databases.
///
/// # Errors
/// As `Reader`.
pub fn all(from: impl Read) -> Result<Whole> {
    let mut reader = Reader::begin(from)?;
    let small = reader.small()?;
    for name in [ACCESS, STORE] {
        reader.stream(name, &mut |_| Ok(()))?;
    }
    let (manifest, manifest_bytes) = (reader.manifest.clone(), reader.bytes.clone());
    Ok(Whole {
        manifest,
        manifest_bytes,
        small,
        bytes: reader.end()?,
    })
}

/// The blocks of a tar.
struct Tar<R> {
    from: R,
    at: u64,
}

impl<R: Read> Tar<R> {
    /// The header of the manifest, which tells a backup from anything else; the manifest's length.
    fn first(&mut self) -> Result<u64> {
        let mut block = [0; BLOCK];
        let length = self.fill(&mut block)?;
        let name = field(&block[..100]);
        if name != Some(MANIFEST.as_bytes()) || length < MANIFEST.len() {
            return Err(not_a_backup());
        }
        if length < BLOCK {
            return Err(cut_off());
        }
        let size = header(&block, MANIFEST)?;
        if size > MOST_MANIFEST {
            return Err(damaged(&format!("its manifest has {size} bytes")));
        }
        Ok(size)
    }

    /// The length of the member that comes next, which must be this one.
    fn header(&mut self, name: &str) -> Result<u64> {
        let block = self.block()?;
        if block == [0; BLOCK] {
            return Err(damaged(&format!(
                "it ends before `{}`, which its manifest lists",
                shown(name)
            )));
        }
        header(&block, name)
    }

    fn body(&mut self, name: &str, size: u64, sink: &mut Sink<'_>) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let length = self.fill(&mut buffer[..most])?;
            if length == 0 {
                return Err(cut_off());
            }
            sink(&buffer[..length])?;
            left -= length as u64;
        }
        let rest = BLOCK - usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest < BLOCK {
            let padding = &mut buffer[..rest];
            if self.fill(padding)? < rest {
                return Err(cut_off());
            }
            if padding.iter().any(|byte| *byte != 0) {
                return Err(damaged(&format!("something lies behind `{}`", shown(name))));
            }
        }
        Ok(())
    }

    /// Two blocks of zeros, and at most so many more; how many bytes there were in all.
    fn end(mut self) -> Result<u64> {
        for _ in 0..2 {
            let block = self.block()?;
            if block != [0; BLOCK] {
                return Err(match field(&block[..100]).map(String::from_utf8_lossy) {
                    Some(name) if !name.is_empty() => unknown_member(&name),
                    _ => more(),
                });
            }
        }
        let members = self.at;
        let mut buffer = vec![0; PIECE];
        loop {
            let length = self.fill(&mut buffer)?;
            if length == 0 {
                return Ok(self.at);
            }
            if buffer[..length].iter().any(|byte| *byte != 0) || self.at - members > MOST_AT_END {
                return Err(more());
            }
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            BLOCK => Ok(block),
            _ => Err(cut_off()),
        }
    }

    /// Fewer than asked for at the end alone.
    fn fill(&mut self, to: &mut [u8]) -> Result<usize> {
        let mut length = 0;
        while length < to.len() {
            match self.from.read(&mut to[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        self.at += length as u64;
        Ok(length)
    }
}

/// Checks a header, which must be that of a plain file of this name; the file's length.
fn header(block: &[u8; BLOCK], name: &str) -> Result<u64> {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match (148..156).contains(&at) {
            true => u32::from(b' '),
            false => u32::from(*byte),
        })
        .sum();
    // As GNU tar ends the digits, or as others do.
    let forms = [format!("{sum:06o}\0 "), format!("{sum:07o}\0")];
    if !forms.iter().any(|form| block[148..156] == *form.as_bytes()) {
        return Err(damaged(&format!(
            "the header of `{}` has a wrong checksum",
            shown(name)
        )));
    }
    let posix = block[257..265] == *b"ustar\x0000" || block[257..265] == *b"ustar  \0";
    let found = field(&block[..100]).filter(|_| posix);
    let Some(found) = found.map(String::from_utf8_lossy) else {
        return Err(damaged(&format!(
            "the header of `{}` is none of a tar that this program reads",
            shown(name)
        )));
    };
    if !matches!(block[156], b'0' | 0) {
        return Err(damaged(&format!(
            "its member `{}` is a link, a folder, or an extended header, and a backup has plain files alone",
            shown(&found)
        )));
    }
    // A second half of the name, and the target of a link.
    let more = block[345..500].iter().chain(&block[157..257]);
    if found != name || more.into_iter().any(|byte| *byte != 0) {
        return Err(damaged(&format!(
            "it has `{}` where `{}` belongs",
            shown(&found),
            shown(name)
        )));
    }
    number(&block[124..136])
        .ok_or_else(|| damaged(&format!("the header of `{}` has no length", shown(name))))
}

/// A text that ends with the first zero, with nothing but zeros behind it.
fn field(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().position(|byte| *byte == 0);
    let (text, rest) = bytes.split_at(length.unwrap_or(bytes.len()));
    rest.iter().all(|byte| *byte == 0).then_some(text)
}

/// Octal digits, or eight bytes in base 256 as GNU tar writes what is longer.
fn number(bytes: &[u8]) -> Option<u64> {
    let (digits, last) = bytes.split_at(bytes.len() - 1);
    if let [0x80, 0, 0, 0, rest @ ..] = bytes {
        let number = u64::from_be_bytes(rest.try_into().ok()?);
        return Some(number).filter(|number| i64::try_from(*number).is_ok());
    }
    if !matches!(last, [0 | b' ']) || !digits.iter().all(|it| (b'0'..=b'7').contains(it)) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

fn cut_off() -> Error {
    damaged("it is cut off")
}

fn more() -> Error {
    damaged("something lies behind its end")
}

/// What decrypts on the way says with these that what it got was cut off or changed; all else is the
/// system's own.
fn unreadable(error: std::io::Error) -> Error {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::UnexpectedEof => cut_off().because(error),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            damaged("it was changed since it was encrypted").because(error)
        }
        _ => Error::new(
            Kind::Unavailable,
            "backup_unreadable",
            format!(
                "the backup cannot be read any further: {error}; try again, or take another copy"
            ),
        ),
    }
}

/// What a file is, by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An age file, as `.tar.age` is.
    Age,
    /// The same, encrypted to a passphrase.
    AgePassphrase,
    /// An age file in letters, which no backup is.
    AgeArmored,
    /// An OpenPGP message, as `.tar.gpg` is.
    Openpgp,
    /// A tar, in the clear.
    Tar,
    Unknown,
}

/// So much of a file tells what it is.
pub const BEGINNING: usize = BLOCK;

impl Form {
    /// `first`: the first `BEGINNING` bytes, or all if there are fewer.
    pub fn of(first: &[u8]) -> Self {
        if let Some(rest) = first.strip_prefix(b"age-encryption.org/v1\n") {
            return match rest.starts_with(b"-> scrypt ") {
                true => Self::AgePassphrase,
                false => Self::Age,
            };
        }
        let text = first.trim_ascii_start();
        if text.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
            return Self::AgeArmored;
        }
        if text.starts_with(b"-----BEGIN PGP MESSAGE-----") || is_openpgp(first) {
            return Self::Openpgp;
        }
        let ustar = first.get(257..262) == Some(b"ustar");
        // Cut off in its first header, it is a damaged one.
        let begun = first.len() < BLOCK && first.starts_with(MANIFEST.as_bytes());
        match ustar || begun {
            true => Self::Tar,
            false => Self::Unknown,
        }
    }
}

/// Whether it begins with a packet that a message begins with (RFC 9580, 4.2 and 10.3): a marker, an
/// encrypted session key, or encrypted data.
fn is_openpgp(first: &[u8]) -> bool {
    let tag = match first {
        [byte, _, ..] if byte & 0xc0 == 0xc0 => byte & 0x3f,
        [byte, _, ..] if byte & 0xc0 == 0x80 => byte >> 2 & 0x0f,
        _ => return false,
    };
    matches!(tag, 1 | 3 | 9 | 10 | 18 | 20)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{self, Member};
    use super::*;
    use crate::crypto::sha256;

    /// A member: name, type, content.
    type Part = (String, u8, Vec<u8>);

    fn part(name: &str, content: &[u8]) -> Part {
        (name.to_owned(), b'0', content.to_vec())
    }

    fn append(tar: &mut Vec<u8>, name: &str, kind: u8, size: u64, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o600);
        header.set_size(size);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }

    fn tar(parts: &[Part]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (name, kind, content) in parts {
            append(&mut tar, name, *kind, content.len() as u64, content);
        }
        tar.resize(tar.len() + 2 * BLOCK, 0);
        tar
    }

    /// All but the manifest.
    fn contents() -> Vec<Part> {
        vec![
            part(SEAL, b"{}\n"),
            part(DATABASE_KEY, &[7; 90]),
            part(CONFIG, b"fqdn = \"kts01.example.com\"\n"),
            part("tls/leaf.key", &[1; 512]),
            part("tls/leaf.pem", &[2; 513]),
            part(ACCESS, &[3; 4_096]),
            part(STORE, &[4; 200_000]),
        ]
    }

    fn manifest_of(parts: &[Part]) -> Manifest {
        let members = parts.iter().filter(|part| part.0 != DATABASE_KEY);
        let members = members.map(|(name, _, content)| Member {
            name: name.clone(),
            bytes: content.len() as u64,
            sha256: hex::encode(sha256(content)),
        });
        Manifest {
            members: members.collect(),
            ..manifest::tests::sample()
        }
    }

    /// With a manifest of the first parts, and the second ones in the tar.
    fn backup(listed: &[Part], there: &[Part]) -> Vec<u8> {
        let manifest = part(MANIFEST, &manifest_of(listed).to_json().unwrap());
        tar(&[&[manifest], there].concat())
    }

    fn good() -> Vec<u8> {
        backup(&contents(), &contents())
    }

    fn refusal(bytes: &[u8]) -> Error {
        all(bytes).err().expect("it was taken")
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let bytes = good();
        let mut reader = Reader::begin(&bytes[..]).unwrap();
        assert_eq!(*reader.manifest(), manifest_of(&contents()));
        let small = reader.small().unwrap();
        assert!(matches!(small.opener, Opener::Seal(seal) if seal == b"{}\n"));
        assert_eq!(small.database_key, [7; 90]);
        let tls = [("leaf.key", vec![1; 512]), ("leaf.pem", vec![2; 513])];
        assert_eq!(small.tls, tls.map(|(name, it)| (name.to_owned(), it)));
        for (name, length, byte) in [(ACCESS, 4_096, 3), (STORE, 200_000, 4)] {
            let mut found = Vec::new();
            let mut sink = |piece: &[u8]| {
                found.extend_from_slice(piece);
                Ok(())
            };
            reader.stream(name, &mut sink).unwrap();
            assert_eq!(found, vec![byte; length]);
        }
        assert_eq!(reader.end().unwrap(), bytes.len() as u64);
    }

    #[test]
    fn one_that_contains_its_root_key_says_so() {
        let mut parts = contents();
        parts[0] = part(ROOT_KEY, &[b'a'; 65]);
        let manifest = Manifest {
            self_contained: true,
            ..manifest_of(&parts)
        };
        let first = part(MANIFEST, &manifest.to_json().unwrap());
        let whole = all(&tar(&[&[first], &parts[..]].concat())[..]).unwrap();
        assert!(matches!(whole.small.opener, Opener::Root(root) if root.expose() == &[b'a'; 65]));
    }

    #[test]
    fn it_may_come_in_pieces_of_any_size() {
        struct Drops(Vec<u8>, usize);
        impl Read for Drops {
            fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
                let length = to.len().min(7).min(self.0.len() - self.1);
                to[..length].copy_from_slice(&self.0[self.1..self.1 + length]);
                self.1 += length;
                Ok(length)
            }
        }
        assert_eq!(all(Drops(good(), 0)).unwrap().bytes, good().len() as u64);
    }

    #[test]
    fn cut_off_anywhere_it_is_refused() {
        let bytes = good();
        let tail = bytes.len() - 3_000;
        for length in (0..4_000)
            .chain((4_000..tail).step_by(997))
            .chain(tail..bytes.len())
        {
            let error = refusal(&bytes[..length]);
            let expected = match length {
                0..13 => "not_a_backup",
                _ => "backup_damaged",
            };
            assert_eq!(error.code, expected, "{length} bytes: {error}");
        }
    }

    /// But for the manifest, to which the envelope of `database.key` is bound, and that envelope; the file's
    /// owner and time are nobody's.
    #[test]
    fn a_byte_changed_anywhere_is_refused() {
        let bytes = good();
        let text = manifest_of(&contents()).to_json().unwrap().len();
        let manifest = BLOCK..BLOCK + text;
        let seal = manifest.end.next_multiple_of(BLOCK);
        let key = seal + 3 * BLOCK..seal + 3 * BLOCK + 90;
        for at in (0..bytes.len()).filter(|at| *at < 8_000 || at % 997 == 0) {
            if manifest.contains(&at) || key.contains(&at) {
                continue;
            }
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(all(&changed[..]).is_err(), "byte {at} counts for nothing");
        }
    }

    #[test]
    fn members_that_are_not_the_ones_listed_are_refused() {
        let order: [fn(&mut Vec<Part>); 8] = [
            |it| it.swap(0, 1),
            |it| it.swap(3, 4),
            |it| drop(it.remove(4)),
            |it| drop(it.pop()),
            |it| it.push(part(STORE, &[4; 200_000])),
            |it| it.push(part("../../etc/passwd", b"x")),
            |it| it.insert(4, part("tls/leaf.key", &[1; 512])),
            |it| it[5].2.push(0),
        ];
        for (number, change) in order.into_iter().enumerate() {
            let mut there = contents();
            change(&mut there);
            let error = refusal(&backup(&contents(), &there));
            assert_eq!(error.code, "backup_damaged", "{number}: {error}");
        }
        for name in [
            "../seal.json",
            "/seal.json",
            "./seal.json",
            "seal.json/",
            "",
        ] {
            let mut there = contents();
            there[0].0 = name.to_owned();
            assert_eq!(refusal(&backup(&contents(), &there)).code, "backup_damaged");
        }
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        for kind in *b"1234567LKxgSDV" {
            for at in [0, 1, 3, 6] {
                let mut there = contents();
                there[at].1 = kind;
                let error = refusal(&backup(&contents(), &there));
                assert!(error.public.contains("plain files"), "{error}");
            }
        }
        let mut linked = good();
        let headers = (0..linked.len()).step_by(BLOCK);
        let at = headers
            .rev()
            .find(|at| linked[*at..].starts_with(b"seal.json\0"))
            .unwrap();
        let header = &mut linked[at..at + BLOCK];
        header[157..168].copy_from_slice(b"/etc/passwd");
        let mut mended = tar::Header::new_gnu();
        mended.as_mut_bytes().copy_from_slice(header);
        mended.set_cksum();
        header.copy_from_slice(mended.as_bytes());
        assert_eq!(refusal(&linked).code, "backup_damaged");
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let manifest = manifest_of(&contents()).to_json().unwrap();
        for size in [0, 1, 2, 1 << 20, 1 << 33, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            append(&mut bytes, MANIFEST, b'0', manifest.len() as u64, &manifest);
            append(&mut bytes, SEAL, b'0', size, b"{}\n");
            let error = refusal(&bytes);
            assert_eq!(error.code, "backup_damaged", "{size}: {error}");
            let mut bytes = Vec::new();
            append(&mut bytes, MANIFEST, b'0', size, &manifest);
            let code = refusal(&bytes).code;
            assert!(["backup_damaged", "not_a_backup"].contains(&code), "{size}");
        }
    }

    #[test]
    fn zeros_behind_the_end_are_taken_and_nothing_else() {
        let mut padded = good();
        padded.resize(padded.len().next_multiple_of(10_240), 0);
        all(&padded[..]).unwrap();
        padded.push(1);
        assert!(refusal(&padded).public.contains("behind its end"));
        let mut endless = good();
        endless.resize(endless.len() + (1 << 20) + 1, 0);
        assert!(refusal(&endless).public.contains("behind its end"));
    }

    #[test]
    fn an_error_of_the_system_is_no_damage() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::from_raw_os_error(5))
            }
        }
        assert_eq!(all(Broken).err().unwrap().code, "backup_unreadable");
    }

    #[test]
    fn what_a_file_is_shows_at_its_beginning() {
        let form = |bytes: &[u8]| Form::of(&bytes[..bytes.len().min(BEGINNING)]);
        assert_eq!(form(&good()), Form::Tar);
        assert_eq!(form(b"manifest.json\0"), Form::Tar);
        let recipients = [crate::crypto::agefile::generate_identity().1];
        let age = crate::crypto::agefile::encrypt(&recipients, b"").unwrap();
        assert_eq!(form(&age), Form::Age);
        assert_eq!(
            form(b"age-encryption.org/v1\n-> scrypt c2FsdA 18\n"),
            Form::AgePassphrase
        );
        assert_eq!(
            form(b"\n-----BEGIN AGE ENCRYPTED FILE-----\n"),
            Form::AgeArmored
        );
        // Written by gpg --encrypt, --symmetric, and by an implementation with old packet headers.
        for first in [
            [0x85, 0x02],
            [0x8c, 0x0d],
            [0xc1, 0xc0],
            [0xd2, 0x40],
            [0x84, 0x5e],
        ] {
            assert_eq!(form(&first), Form::Openpgp, "{first:x?}");
        }
        assert_eq!(form(b"-----BEGIN PGP MESSAGE-----\n"), Form::Openpgp);
        for other in [
            b"".as_slice(),
            b"\x85",
            b"PK\x03\x04",
            b"SQLite format 3\0",
            &[0; 600],
        ] {
            assert_eq!(form(other), Form::Unknown);
        }
    }
}
