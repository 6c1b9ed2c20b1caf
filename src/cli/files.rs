//! Files that commands read and write: every length capped, every new file 0600 and whole or absent.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// A deposit is 16 MiB at most, whatever the server's setting.
pub const LONGEST_DEPOSIT: u64 = 16 << 20;
/// A passphrase, a code, a token, a key in PEM: a megabyte is far above what any of them takes.
pub const LONGEST_SMALL_FILE: u64 = 1 << 20;

/// Reads a file, or stdin where `path` is `-`.
pub fn read(path: &Path, longest: u64) -> Result<Secret<Vec<u8>>> {
    if path.as_os_str() == "-" {
        return read_capped(io::stdin().lock(), "stdin", longest);
    }
    let file = File::open(path).map_err(|error| cannot("read", path, error))?;
    if file.metadata().is_ok_and(|it| it.is_dir()) {
        return Err(Error::invalid(
            "file",
            format!("{} is a folder, not a file", path.display()),
        ));
    }
    read_capped(file, &path.display().to_string(), longest)
}

fn read_capped(from: impl Read, name: &str, longest: u64) -> Result<Secret<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = from.take(longest + 1).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map_err(|error| {
        Error::new(
            Kind::Internal,
            "file",
            format!("cannot read {name}: {error}"),
        )
    })?;
    if bytes.expose().len() as u64 > longest {
        return Err(Error::new(
            Kind::TooLarge,
            "too_large",
            format!("{name} is longer than {longest} bytes, the most that is taken here"),
        ));
    }
    Ok(bytes)
}

/// A secret of one line: UTF-8, without its last line end.
pub fn read_secret(path: &Path) -> Result<Secret<String>> {
    let bytes = read(path, LONGEST_SMALL_FILE)?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| {
        Error::invalid(
            "file",
            format!("{} does not hold UTF-8 text", path.display()),
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(Secret::new(text.to_owned()))
}

/// Writes a file whose owner alone may read it; what was there is replaced at once, or stays whole.
/// A device or a pipe is written to, and so is what lies in /dev: there /dev/stdout is a link to a file.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::metadata(path) {
        Ok(it) if it.is_dir() => {
            return Err(Error::invalid(
                "output",
                format!("{} is a folder, not a file", path.display()),
            ));
        }
        Ok(it) if !it.is_file() || path.starts_with("/dev") => {
            let file = OpenOptions::new().write(true).truncate(true).open(path);
            return file
                .and_then(|mut file| file.write_all(bytes))
                .map_err(|error| cannot("write", path, error));
        }
        _ => {}
    }
    let beside = write_beside(path, bytes)?;
    fs::rename(&beside, path)
        .and_then(|()| sync_folder(path))
        .map_err(|error| {
            let _ = fs::remove_file(&beside);
            cannot("write", path, error)
        })
}

/// Writes a new file, 0600; refuses, in one step, where something has this name.
pub fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = write_beside(path, bytes)?;
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        // FAT and its like have no links; there the name itself is taken, and filled.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported
            ) =>
        {
            fill_new(path, bytes)
        }
        Err(error) => Err(cannot("write", path, error)),
        Ok(()) => sync_folder(path).map_err(|error| cannot("write", path, error)),
    }
}

/// A new file that is written piece by piece: it has its name once it is whole.
pub struct Growing {
    file: File,
    beside: PathBuf,
    path: PathBuf,
}

impl Growing {
    pub fn begin(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let beside = beside(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|error| cannot("write", path, error))?;
        Ok(Self {
            file,
            beside,
            path: path.to_owned(),
        })
    }

    pub fn finish(self) -> Result<()> {
        let write = |error| cannot("write", &self.path, error);
        self.file.sync_all().map_err(write)?;
        if self.path.symlink_metadata().is_ok() {
            return Err(exists(&self.path));
        }
        fs::rename(&self.beside, &self.path)
            .and_then(|()| sync_folder(&self.path))
            .map_err(write)
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Growing {
    /// What did not come to its end leaves nothing behind.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.beside);
    }
}

fn exists(path: &Path) -> Error {
    Error::conflict(
        "file_exists",
        format!(
            "{} exists and is not replaced; move it away, or name another",
            path.display()
        ),
    )
}

fn fill_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot("write", path, error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path))
        .map_err(|error| {
            let _ = fs::remove_file(path);
            cannot("write", path, error)
        })
}

/// The bytes in a file of their own in the same folder, on disk.
fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let beside = beside(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(|error| cannot("write", path, error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| {
            let _ = fs::remove_file(&beside);
            cannot("write", path, error)
        })?;
    Ok(beside)
}

/// A name in the same folder that nothing has.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        Error::invalid("output", format!("{} does not name a file", path.display()))
    })?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(
        ".{}.tmp",
        hex::encode(crate::crypto::random::<8>())
    ));
    Ok(path.with_file_name(beside))
}

/// A name is on disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// A folder for its owner alone: made 0700, or made so.
pub fn private_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| cannot("make", path, error))?;
    narrow(path, 0o700).map(|_| ())
}

/// Takes from group and others what they may do. True: they could do something before.
pub fn narrow(path: &Path, mode: u32) -> Result<bool> {
    let now = fs::metadata(path)
        .map_err(|error| cannot("read", path, error))?
        .permissions()
        .mode();
    if now & 0o077 == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| {
        Error::denied(
            "loose_mode",
            format!("{} may be read by others, and its mode cannot be mended: {error}; its owner must run chmod {mode:o} on it", path.display()),
        )
    })?;
    Ok(true)
}

/// What a user can do about a file that does not open.
pub fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    let text = format!("cannot {verb} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            Error::invalid("file", text)
        }
        _ => Error::new(Kind::Internal, "file", text),
    }
    .because(error)
}

/// A private folder for one test.
#[cfg(test)]
pub struct TestFolder(pub PathBuf);

#[cfg(test)]
impl TestFolder {
    pub fn new() -> Self {
        let name = format!("strongroom-{}", hex::encode(crate::crypto::random::<8>()));
        let path = std::env::temp_dir().join(name);
        private_folder(&path).unwrap();
        Self(path)
    }
}

#[cfg(test)]
impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_private_and_never_replaces_one() {
        let folder = TestFolder::new();
        let file = folder.0.join("a");
        create(&file, b"one").unwrap();
        assert_eq!(create(&file, b"two").unwrap_err().kind, Kind::Conflict);
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        replace(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(
            fs::read_dir(&folder.0).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn loose_modes_are_mended() {
        let folder = TestFolder::new();
        fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).unwrap();
        assert!(narrow(&folder.0, 0o700).unwrap());
        assert!(!narrow(&folder.0, 0o700).unwrap());
    }

    #[test]
    fn a_secret_loses_one_line_end_and_nothing_else() {
        let folder = TestFolder::new();
        let file = folder.0.join("a");
        for (stored, read) in [("a b \n\n", "a b \n"), ("x\r\n", "x"), ("x", "x"), ("", "")] {
            replace(&file, stored.as_bytes()).unwrap();
            assert_eq!(read_secret(&file).unwrap().expose(), read);
        }
    }

    #[test]
    fn reading_is_capped() {
        assert!(
            read_capped(io::repeat(0), "x", 10).is_err_and(|error| error.kind == Kind::TooLarge)
        );
        assert_eq!(
            read_capped(&[1u8; 10][..], "x", 10)
                .unwrap_or_else(|e| panic!("{e}"))
                .expose()
                .len(),
            10
        );
    }
}
