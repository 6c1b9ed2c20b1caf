//! The data folder: where things lie, who may read them, and how files are replaced.
//!
//! `live/` is what a restore replaces, as one. Beside it stands what never is: `node.json`, `attempts.json`,
//! `audit/`, `backups/`, `log/`, `run/`. Folders are 0700 and files 0600; looser modes are repaired if the
//! files are ours, else refused.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::os;

const BEFORE: &str = "live.before-";
const PREVIOUS: &str = "live.prev-";

/// What a folder is called while it is taken away.
const GOING: &str = "live.going";

#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

/// Held as long as a process works on the folder.
pub struct Lock {
    _file: File,
}

impl Folder {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn live(&self) -> PathBuf {
        self.root.join("live")
    }

    /// Where `init` builds what becomes `live`.
    pub fn unfinished(&self) -> PathBuf {
        self.root.join("live.new")
    }

    /// The copy of the store from before a migration.
    pub fn before(&self, migration: usize) -> PathBuf {
        self.root.join(format!("{BEFORE}{migration}"))
    }

    /// Where such a copy is made.
    pub fn before_unfinished(&self) -> PathBuf {
        self.root.join("live.before.new")
    }

    /// What a rollback took out of service.
    pub fn undone(&self) -> PathBuf {
        self.root.join("live.undone")
    }

    /// Where what a restore replaces is kept: beside those that are there already.
    pub fn previous(&self, now: Timestamp) -> PathBuf {
        let time = now.to_string();
        let time = time.get(..19).unwrap_or(&time).replace('T', "_");
        let name = format!("{PREVIOUS}{}", time.replace(':', "-"));
        let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
        let more = (2..1_000).map(|more| self.root.join(format!("{name}.{more:03}")));
        let first = self.root.join(&name);
        std::iter::once(first.clone())
            .chain(more)
            .find(free)
            .unwrap_or(first)
    }

    /// What restores replaced, the newest last.
    pub fn previous_ones(&self) -> Result<Vec<PathBuf>> {
        let unreadable = |error| failed("read", &self.root, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_name().to_string_lossy().starts_with(PREVIOUS) {
                found.push(entry.path());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Lies in `live` as long as a restore did not come to its end.
    pub fn restored(&self, live: &Path) -> PathBuf {
        live.join("restored")
    }

    /// The migrations of which a copy from before lies here, the newest last.
    pub fn befores(&self) -> Result<Vec<usize>> {
        let unreadable = |error| failed("read", &self.root, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(BEFORE));
            found.extend(number.and_then(|number| number.parse::<usize>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    pub fn config(&self) -> PathBuf {
        self.live().join("strongroom.toml")
    }

    pub fn seal(&self) -> PathBuf {
        self.live().join("seal.json")
    }

    /// What takes seal.json's place when the root key is made anew.
    pub fn seal_next(&self) -> PathBuf {
        self.live().join("seal.json.next")
    }

    pub fn tls(&self) -> PathBuf {
        self.live().join("tls")
    }

    /// The public half of the server's OpenPGP key.
    pub fn openpgp(&self) -> PathBuf {
        self.live().join("openpgp.asc")
    }

    pub fn node(&self) -> PathBuf {
        self.root.join("node.json")
    }

    /// What was tried while the server was sealed.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts.json")
    }

    /// Segments of the audit that left the store.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Where backups lie, unless they are written elsewhere.
    pub fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("run/admin.sock")
    }

    /// The folder itself where the path given is a link to it.
    fn real_root(&self) -> Result<PathBuf> {
        self.root
            .canonicalize()
            .map_err(|error| failed("read", &self.root, error))
    }

    /// How `service start` started it.
    pub fn service(&self) -> PathBuf {
        self.root.join("run/service.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("run/lock")
    }

    /// Whether `init` came to its end here.
    pub fn is_initialised(&self) -> bool {
        self.config().exists()
    }

    /// # Errors
    /// `not_initialised`, naming what to type.
    pub fn check_initialised(&self) -> Result<()> {
        match self.config().try_exists() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(failed("read", &self.config(), error)),
        }
        Err(Error::unavailable(
            "not_initialised",
            format!(
                "{0} holds no server; make one: strongroom init --data-dir {0} --fqdn HOST --passphrase-file F",
                self.root.display()
            ),
        ))
    }

    /// Makes the folder and those in it that are missing.
    pub fn create(&self) -> Result<()> {
        for folder in [self.root.clone(), self.root.join("run"), self.log()] {
            make_folder(&folder)?;
        }
        Ok(())
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// `folder_in_use` with the other process's id.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        if !os::try_lock(&file).map_err(|error| failed("lock", &path, error))? {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(Error::conflict(
                "folder_in_use",
                format!(
                    "{} is in use by process {}; stop it first",
                    self.root.display(),
                    holder.trim()
                ),
            ));
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(|error| failed("write", &path, error))?;
        Ok(Lock { _file: file })
    }

    /// The account that the folder belongs to.
    pub fn owner(&self) -> Result<u32> {
        fs::metadata(&self.root)
            .map(|it| it.uid())
            .map_err(|error| failed("read", &self.root, error))
    }

    /// The process that works on the folder, if one does.
    pub fn holder(&self) -> Result<Option<u32>> {
        let path = self.lock_file();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path, error)),
        };
        if os::try_lock(&file).map_err(|error| failed("lock", &path, error))? {
            return Ok(None);
        }
        let mut holder = String::new();
        file.take(32)
            .read_to_string(&mut holder)
            .map_err(|error| failed("read", &path, error))?;
        Ok(holder.trim().parse().ok())
    }

    /// Repairs modes that let others in; returns what it repaired.
    ///
    /// # Errors
    /// `loose_modes` for what belongs to another user.
    pub fn tighten(&self) -> Result<Vec<String>> {
        let mut repaired = Vec::new();
        tighten(&self.real_root()?, &mut repaired)?;
        Ok(repaired)
    }

    /// The files whose modes let others in.
    pub fn loose(&self) -> Result<Vec<String>> {
        let mut loose = Vec::new();
        walk(&self.real_root()?, &mut |path, metadata| {
            if metadata.mode() & 0o077 != 0 {
                loose.push(format!(
                    "{} is {:04o}",
                    path.display(),
                    metadata.mode() & 0o7777
                ));
            }
            Ok(())
        })?;
        Ok(loose)
    }
}

fn tighten(root: &Path, repaired: &mut Vec<String>) -> Result<()> {
    let own = os::effective_uid();
    walk(root, &mut |path, metadata| {
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 == 0 {
            return Ok(());
        }
        if metadata.uid() != own && own != 0 {
            return Err(Error::denied(
                "loose_modes",
                format!(
                    "{} is {mode:04o} and belongs to uid {}; others may read or change it. chmod go= it",
                    path.display(),
                    metadata.uid()
                ),
            ));
        }
        fs::set_permissions(path, Permissions::from_mode(mode & 0o700))
            .map_err(|error| failed("chmod", path, error))?;
        repaired.push(format!("{} was {mode:04o}", path.display()));
        Ok(())
    })
}

/// Folders and files below `root`, itself included; links are not followed.
fn walk(root: &Path, visit: &mut impl FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    let metadata = fs::symlink_metadata(root).map_err(|error| failed("read", root, error))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    visit(root, &metadata)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(root).map_err(|error| failed("read", root, error))? {
            walk(
                &entry.map_err(|error| failed("read", root, error))?.path(),
                visit,
            )?;
        }
    }
    Ok(())
}

/// Makes a folder for nobody else, and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("make", path, error))
}

/// Gives a file another name, in the same folder.
pub fn rename(path: &Path, to: &Path) -> Result<()> {
    fs::rename(path, to).map_err(|error| failed("rename", path, error))?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<()> {
    sync(path.parent().unwrap_or(Path::new(".")))
}

/// Waits until a folder's names are on the disk.
pub fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed("sync", folder, error))
}

/// Gives what lies at a path, and all below it, to an account.
pub fn give(path: &Path, owner: (u32, u32)) -> Result<()> {
    walk(path, &mut |path, _| {
        lchown(path, Some(owner.0), Some(owner.1)).map_err(|error| failed("chown", path, error))
    })
}

/// Takes a file away, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path, error)),
    }
}

/// Takes a folder away with all that is in it, if it is there. Under another name first, so that a crash
/// leaves none that is half there under its own.
pub fn remove_folder(path: &Path) -> Result<()> {
    let going = path.with_file_name(GOING);
    let removed = match fs::remove_dir_all(&going) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::rename(path, &going).and_then(|()| fs::remove_dir_all(&going)),
    };
    match removed {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path, error)),
    }
}

/// Copies a file, and waits until the copy is on the disk. The folder it lies in is not synced.
pub fn copy(path: &Path, to: &Path) -> Result<()> {
    fs::copy(path, to)
        .and_then(|_| File::open(to)?.sync_all())
        .map_err(|error| failed("copy", path, error))
}

/// Copies what lies in a folder into another, but for some names, and waits until it is on the disk.
pub fn copy_folder(from: &Path, to: &Path, but: &dyn Fn(&str) -> bool) -> Result<()> {
    make_folder(to)?;
    let unreadable = |error| failed("read", from, error);
    for entry in fs::read_dir(from).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, beside) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(unreadable)?;
        if but(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if kind.is_dir() {
            copy_folder(&path, &beside, &|_| false)?;
        } else if kind.is_file() {
            copy(&path, &beside)?;
        }
    }
    sync(to)
}

/// Gives each of two folders the other's name, at one instant.
///
/// # Errors
/// `file_failed`, also where the file system cannot do that.
pub fn exchange(path: &Path, other: &Path) -> Result<()> {
    os::exchange(path, other).map_err(|error| failed("exchange with another", path, error))?;
    sync_parent(path)
}

/// Replaces a file: beside it, synced, renamed, the folder synced. After a crash it is the old one
/// or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        // One that a crash left is ours to remove; what others put there meanwhile, a link above
        // all, is neither followed nor filled.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        // What root replaces stays the server's.
        if os::effective_uid() == 0
            && let Ok(before) = fs::symlink_metadata(path)
        {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed("write", path, error))
}

/// A file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= most).then_some(bytes))
    };
    match read() {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Error::new(
            Kind::TooLarge,
            "file_too_large",
            format!("{} is longer than {most} bytes", path.display()),
        )),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// An error of the file system, with what was tried on what.
pub fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::NotFound {
        Kind::NotFound
    } else {
        Kind::Unavailable
    };
    Error::new(
        kind,
        "file_failed",
        format!("cannot {what} {}: {error}", path.display()),
    )
}
