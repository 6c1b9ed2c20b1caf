//! A write-ahead log belongs to its database by name alone: SQLite would take over one that was put
//! beside the wrong file, and write its pages into it. Ours are tagged, so that is found before.
//! The format: <https://sqlite.org/walformat.html>.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::crypto::pages::{PAGE, PageTags, SALT};
use crate::error::{Error, Result};
use crate::secret::Key;

const HEADER: usize = 32;
const FRAME: usize = 24 + PAGE;

/// Refuses a log with a page that SQLite would take over and that is not of the database at `path`.
/// Where nothing is there yet, and where the database's own first page is not this key's, the
/// opening itself tells.
///
/// # Errors
/// `wal_foreign`.
pub(super) fn check(path: &Path, key: &Key) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let wal = PathBuf::from(name);
    match foreign(path, &wal, key) {
        Ok(None) => Ok(()),
        Ok(Some(page)) => Err(Error::unavailable(
            "wal_foreign",
            format!(
                "{} is of another database than {}, as its page {page} shows; put back the two files that belong together, or move the log away if it came here by mistake",
                wal.display(),
                path.display()
            ),
        )),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            Ok(())
        }
        Err(error) => Err(unreadable(&wal, error)),
    }
}

fn unreadable(wal: &Path, error: io::Error) -> Error {
    let text = format!("{} cannot be read: {error}", wal.display());
    Error::unavailable("store_unreadable", text).because(error)
}

/// The number of the first page that is not this database's; none if all are, or if there is no
/// telling.
fn foreign(path: &Path, wal: &Path, key: &Key) -> io::Result<Option<u32>> {
    let mut wal = io::BufReader::with_capacity(1 << 20, File::open(wal)?);
    let mut header = [0; HEADER];
    wal.read_exact(&mut header)?;
    let mut first = [0; PAGE];
    File::open(path)?.read_exact(&mut first)?;
    let mut salt = [0; SALT];
    salt.copy_from_slice(&first[..SALT]);
    let tags = PageTags::new(key, salt);
    let Some(mut sum) = Sum::begin(&header).filter(|_| tags.holds(1, &first)) else {
        return Ok(None);
    };
    let mut frame = [0; FRAME];
    let mut page = [0; PAGE];
    // SQLite's own rule for where the log ends: another salt, or a sum that does not hold.
    while wal.read_exact(&mut frame).is_ok() {
        sum.add(&frame[..8]);
        sum.add(&frame[24..]);
        if frame[8..16] != header[16..24] || !sum.is(&frame[16..24]) {
            break;
        }
        page.copy_from_slice(&frame[24..]);
        let number = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        if !tags.holds(number, &page) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// The running checksum of a log, in the byte order that its magic number names.
struct Sum {
    big_endian: bool,
    sums: (u32, u32),
}

impl Sum {
    /// None if this is no log of ours.
    fn begin(header: &[u8; HEADER]) -> Option<Self> {
        let big_endian = match header[..4] {
            [0x37, 0x7f, 0x06, 0x82] => false,
            [0x37, 0x7f, 0x06, 0x83] => true,
            _ => return None,
        };
        let mut sum = Self {
            big_endian,
            sums: (0, 0),
        };
        sum.add(&header[..24]);
        sum.is(&header[24..]).then_some(sum)
    }

    fn add(&mut self, bytes: &[u8]) {
        let read = if self.big_endian {
            u32::from_be_bytes
        } else {
            u32::from_le_bytes
        };
        for eight in bytes.chunks_exact(8) {
            let (a, b) = (
                read([eight[0], eight[1], eight[2], eight[3]]),
                read([eight[4], eight[5], eight[6], eight[7]]),
            );
            self.sums.0 = self.sums.0.wrapping_add(a).wrapping_add(self.sums.1);
            self.sums.1 = self.sums.1.wrapping_add(b).wrapping_add(self.sums.0);
        }
    }

    fn is(&self, kept: &[u8]) -> bool {
        kept[..4] == self.sums.0.to_be_bytes() && kept[4..8] == self.sums.1.to_be_bytes()
    }
}
