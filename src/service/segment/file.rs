//! A segment's file: an export's lines, compressed (gzip), then encrypted (age). Written beside its
//! name, read back whole before anything relies on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::crypto::{Sha256, agefile, sha256_of};
use crate::error::{Error, Kind, Result};
use crate::folder::{self, failed};
use crate::secret::Secret;

/// What a file is called until it is whole.
const UNFINISHED: &str = "unfinished";
const PIECE: usize = 64 << 10;

/// Takes the file away that has no name yet, however the writing ends.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Under its name it is not there any more.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file that is being written.
pub struct Draft {
    path: Unfinished,
    out: GzEncoder<agefile::Writer<BufWriter<File>>>,
    lines: Sha256,
}

/// A file as it lies there.
pub struct Written {
    path: Unfinished,
    /// Of the file.
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// Takes away what a crash left of one that was being written.
pub fn tidy(folder: &Path) -> Result<()> {
    folder::remove(&folder.join(UNFINISHED))
}

impl Draft {
    /// One at a time: what a crash left of another is written over.
    pub fn begin(folder: &Path, recipients: &[String]) -> Result<Self> {
        folder::make_folder(folder)?;
        tidy(folder)?;
        let path = Unfinished(folder.join(UNFINISHED));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path.0)
            .map_err(|error| failed("make", &path.0, error))?;
        let out = agefile::writer(recipients, BufWriter::new(file))?;
        Ok(Self {
            path,
            out: GzEncoder::new(out, Compression::default()),
            lines: Sha256::new(),
        })
    }

    pub fn write(&mut self, lines: &[u8]) -> Result<()> {
        self.lines.update(lines);
        self.out
            .write_all(lines)
            .map_err(|error| failed("write", &self.path.0, error))
    }

    /// Ends it, and reads it back with `identity`.
    ///
    /// # Errors
    /// `segment_damaged` if it does not hold what was written.
    pub fn end(self, identity: &Secret<Vec<u8>>) -> Result<Written> {
        let Self { path, out, lines } = self;
        let file = out
            .finish()
            .and_then(agefile::Writer::finish)
            .and_then(|out| out.into_inner().map_err(io::Error::from))
            .and_then(|file| file.sync_all());
        file.map_err(|error| failed("write", &path.0, error))?;
        let (bytes, sha256) = sum(&path.0)?;
        let mut again = Sha256::new();
        Kept::open(&path.0, bytes, &sha256)?.read(identity, |piece| {
            again.update(&piece);
            true
        })?;
        match again.finish() == lines.finish() {
            true => Ok(Written {
                path,
                bytes,
                sha256,
            }),
            false => Err(damaged(&path.0)),
        }
    }
}

impl Written {
    /// Gives it a name that no other has; `name` with a number where that is taken, after a restore.
    pub fn name(&self, name: &str) -> Result<String> {
        for number in 1..1_000 {
            let name = match number {
                1 => format!("{name}.jsonl.gz.age"),
                _ => format!("{name}.{number}.jsonl.gz.age"),
            };
            let to = self.path.0.with_file_name(&name);
            if !to.exists() {
                folder::rename(&self.path.0, &to)?;
                return Ok(name);
            }
        }
        Err(Error::internal(format!(
            "a thousand segments are called {name}"
        )))
    }
}

/// A file that is what it was when it was written.
pub struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    /// # Errors
    /// `segment_elsewhere`, `segment_damaged`.
    pub fn open(path: &Path, bytes: u64, sha256: &[u8; 32]) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(
                Kind::NotFound,
                "segment_elsewhere",
                format!(
                    "{} is not there; where it was moved to, `age --decrypt` opens it with the identity of a recovery slot. Put it back to read it here",
                    path.display()
                ),
            ),
            _ => failed("read", path, error),
        })?;
        if sum_of(path, &mut file)? != (bytes, *sha256) {
            return Err(damaged(path));
        }
        file.rewind().map_err(|error| failed("read", path, error))?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    /// Hands out its lines in pieces, until one is not wanted.
    pub fn read(
        self,
        identity: &Secret<Vec<u8>>,
        mut each: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<()> {
        let clear = agefile::reader(identity, BufReader::new(self.file))?;
        let mut lines = GzDecoder::new(clear);
        loop {
            let mut piece = vec![0; PIECE];
            let read = lines
                .read(&mut piece)
                .map_err(|error| damaged(&self.path).because(error))?;
            piece.truncate(read);
            if read == 0 || !each(piece) {
                return Ok(());
            }
        }
    }
}

fn sum(path: &Path) -> Result<(u64, [u8; 32])> {
    let mut file = File::open(path).map_err(|error| failed("read", path, error))?;
    sum_of(path, &mut file)
}

fn sum_of(path: &Path, file: &mut File) -> Result<(u64, [u8; 32])> {
    sha256_of(file).map_err(|error| failed("read", path, error))
}

fn damaged(path: &Path) -> Error {
    Error::new(
        Kind::Internal,
        "segment_damaged",
        format!(
            "{} is not what it was when it was written; take a copy of it from elsewhere",
            path.display()
        ),
    )
}
