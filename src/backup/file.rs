//! The file of a backup, and the folder that it lies in: written beside its name, under the rights of
//! whoever writes it, a command or the server.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::crypto::{self, Sha256};
use crate::error::{Error, Kind, Result};
use crate::model::backup::Backup;
use crate::os;

/// What a file is called until it counts; others of this name that nobody has locked are of a command
/// that was killed.
const BEGINS: &str = ".strongroom-backup-";
const ENDS: &str = ".unfinished";
/// Of beginning while others begin.
const MOST_TRIES: u32 = 100;
/// Of one second.
const MOST_OF_A_NAME: u32 = 100;

/// Where backups are written.
pub struct Folder(PathBuf);

/// What a user can do about a place that does not take a backup.
fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    let text = format!("cannot {verb} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::invalid("output", text),
        io::ErrorKind::StorageFull => Error::unavailable("no_room", text),
        _ => Error::new(Kind::Internal, "output", text),
    }
    .because(error)
}

/// A backup that has no name yet. Dropped, it is gone.
pub struct Draft {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    sum: Option<Sha256>,
}

impl Folder {
    /// Makes it, for its owner alone, if it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|why| cannot("find", path, why))?;
        match fs::metadata(&path) {
            Ok(there) if there.is_dir() => Ok(Self(path)),
            Ok(_) => Err(Error::invalid(
                "output",
                format!("{} is a file; --output names a folder", path.display()),
            )),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let mut builder = fs::DirBuilder::new();
                builder
                    .recursive(true)
                    .mode(0o700)
                    .create(&path)
                    .map_err(|why| cannot("make", &path, why))?;
                Ok(Self(path))
            }
            Err(why) => Err(cannot("read", &path, why)),
        }
    }

    /// A file that only whoever calls this can read, and that goes unless it gets a name.
    pub fn begin(&self) -> Result<Draft> {
        self.tidy()?;
        for _ in 0..MOST_TRIES {
            let name = format!("{BEGINS}{}{ENDS}", hex::encode(crypto::random::<8>()));
            let path = self.0.join(name);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|why| cannot("write into", &self.0, why))?;
            let draft = Draft {
                folder: self.0.clone(),
                path,
                file,
                sum: Some(Sha256::new()),
            };
            // Tells it from what a killed command left. Until it is locked, whoever begins at the same
            // time takes it for that; from then on nobody does.
            match draft.file.try_lock() {
                Ok(()) if draft.is_there()? => return Ok(draft),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(why)) => return Err(cannot("lock", &draft.path, why)),
            }
        }
        Err(Error::unavailable(
            "output",
            format!(
                "too many backups begin in {} at once; try again",
                self.0.display()
            ),
        ))
    }

    fn tidy(&self) -> Result<()> {
        let unreadable = |why| cannot("read", &self.0, why);
        for entry in fs::read_dir(&self.0).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(BEGINS)
                && name.ends_with(ENDS)
                && let Ok(file) = File::open(entry.path())
                && file.try_lock().is_ok()
            {
                // Another's stays.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Whether a backup's file lies here, as long as it was.
    pub fn holds(&self, backup: &Backup) -> bool {
        let path = Path::new(&backup.path);
        let same = |folder: &Path| match (folder.canonicalize(), self.0.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        };
        path.parent().is_some_and(same)
            && fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.len() == backup.bytes)
    }

    /// Whether it still holds what was verified.
    pub fn is_unchanged(&self, backup: &Backup) -> Result<bool> {
        let path = Path::new(&backup.path);
        let sum = File::open(path).and_then(|mut file| crypto::sha256_of(&mut file));
        let (bytes, sha256) = sum.map_err(|why| cannot("read", path, why))?;
        Ok(bytes == backup.bytes && hex::encode(sha256) == backup.sha256)
    }

    pub fn remove(&self, backup: &Backup) -> Result<()> {
        let path = Path::new(&backup.path);
        fs::remove_file(path)
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(|why| cannot("remove", path, why))
    }
}

impl Draft {
    /// Whether nobody took it away.
    fn is_there(&self) -> Result<bool> {
        let own = self.file.metadata();
        let own = own.map_err(|why| cannot("read", &self.path, why))?;
        let there = fs::symlink_metadata(&self.path);
        Ok(there.is_ok_and(|it| (it.dev(), it.ino()) == (own.dev(), own.ino())))
    }

    /// Whether `bytes` fit, as far as the disk says.
    ///
    /// # Errors
    /// `no_room`.
    pub fn check_room(&self, bytes: u64) -> Result<()> {
        match os::free_bytes(&self.folder) {
            Ok(free) if free < bytes => Err(Error::unavailable(
                "no_room",
                format!(
                    "the backup has about {} MiB, and {} has room for {}; free some space, or name another --output",
                    bytes.div_ceil(1 << 20),
                    self.folder.display(),
                    free >> 20
                ),
            )),
            // A disk that does not say is found out by writing.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// # Errors
    /// What the folder's disk says.
    pub fn take(&mut self, piece: &[u8]) -> Result<()> {
        let folder = self.folder.clone();
        io::Write::write_all(self, piece).map_err(|why| cannot("write into", &folder, why))
    }

    /// Waits until it is on the disk; the digest of what was written.
    pub fn sync(&mut self) -> Result<String> {
        self.file
            .sync_all()
            .map_err(|why| cannot("write into", &self.folder, why))?;
        let sum = self.sum.take().unwrap_or_default();
        Ok(hex::encode(sum.finish()))
    }

    /// The same file, to be read from the disk and not from memory, as far as the system lets it.
    pub fn read_back(&self) -> Result<File> {
        os::forget_pages(&self.file);
        File::open(&self.path).map_err(|why| cannot("read", &self.path, why))
    }

    /// Gives it its name, which no other file has; the path.
    pub fn name(self, name: &str) -> Result<PathBuf> {
        let (stem, ending) = name.split_once(".tar").unwrap_or((name, ""));
        for number in 1..MOST_OF_A_NAME {
            let name = match number {
                1 => name.to_owned(),
                _ => format!("{stem}_{number}.tar{ending}"),
            };
            let to = self.folder.join(name);
            // A link is refused where the name is taken; a rename would replace what is there.
            match fs::hard_link(&self.path, &to) {
                Ok(()) => {
                    File::open(&self.folder)
                        .and_then(|folder| folder.sync_all())
                        .map_err(|why| cannot("write into", &self.folder, why))?;
                    return Ok(to);
                }
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                // FAT and its like have no links.
                Err(_) if !to.exists() => {
                    fs::rename(&self.path, &to)
                        .and_then(|()| File::open(&self.folder)?.sync_all())
                        .map_err(|why| cannot("write into", &self.folder, why))?;
                    return Ok(to);
                }
                Err(why) => return Err(cannot("write", &to, why)),
            }
        }
        Err(Error::conflict(
            "file_exists",
            format!(
                "{} has a hundred backups called {name}",
                self.folder.display()
            ),
        ))
    }
}

impl io::Write for Draft {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        if let Some(sum) = &mut self.sum {
            sum.update(&piece[..written]);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct TestFolder(PathBuf);

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn whoever_begins_takes_no_other_for_a_dead_one() {
        let name = format!("strongroom-{}", hex::encode(crypto::random::<8>()));
        let dir = TestFolder(std::env::temp_dir().join(name));
        let folder = Folder::open(&dir.0).unwrap();
        let dead = dir.0.join(format!("{BEGINS}dead{ENDS}"));
        fs::write(&dead, "half").unwrap();
        let numbers = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mut draft = folder.begin().unwrap();
                        let number = numbers.fetch_add(1, Ordering::Relaxed).to_string();
                        draft.take(number.as_bytes()).unwrap();
                        let path = draft.name(&format!("{number}.tar")).unwrap();
                        assert_eq!(fs::read_to_string(path).unwrap(), number);
                    }
                });
            }
        });
        assert!(!dead.exists());
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1_600);
    }
}
