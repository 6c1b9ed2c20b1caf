//! `strongroom install-links`: the old commands' names, as links to this program.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::compat::{ALL, Old};
use super::{Printer, files};
use crate::error::{Error, Result};

/// What `install-links` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where the links are made, such as /usr/local/bin; the folder must be there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Also make the absolute paths that runbooks use, below /usr/bin and /opt
    #[arg(long)]
    original_paths: bool,
    /// Also let `systemctl start keytrusteed` mean strongroom.service, where that is installed
    #[arg(long)]
    services: bool,
    /// Also link supervisorctl, which another program may well use by that name
    #[arg(long)]
    supervisorctl: bool,
    /// Put this before every absolute path, DIR too: the root of an image that is being built
    #[arg(long, value_name = "PREFIX")]
    root: Option<PathBuf>,
}

const UNITS: &str = "/etc/systemd/system";
const UNIT: &str = "strongroom.service";
const ALIAS: &str = "keytrusteed.service";

/// What became of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    Made,
    /// It led to an older place of the program.
    Refreshed,
    Unchanged,
    /// Something that is not ours lies there.
    Kept,
}

#[derive(Serialize)]
struct Link {
    path: PathBuf,
    target: PathBuf,
    done: Done,
}

pub fn run(args: Args, out: &Printer) -> Result<()> {
    let program = std::env::current_exe().map_err(|error| Error::internal(error.to_string()))?;
    let mut links = Vec::new();
    let mut link = |path: PathBuf, target: &Path| -> Result<()> {
        let path = placed(args.root.as_deref(), &path);
        let done = make(&path, target)?;
        links.push(Link {
            path,
            target: target.to_owned(),
            done,
        });
        Ok(())
    };
    let folder = std::path::absolute(&args.folder)
        .map_err(|error| files::cannot("find", &args.folder, error))?;
    check_folder(&placed(args.root.as_deref(), &folder))?;
    for old in ALL.iter().filter(|old| args.supervisorctl || !old.shadows) {
        link(folder.join(old.name), &program)?;
        for path in paths(old).filter(|_| args.original_paths) {
            // Both lists may name the same place.
            if path != folder.join(old.name) {
                link(path, &program)?;
            }
        }
    }
    if args.services {
        let unit = placed(args.root.as_deref(), &Path::new(UNITS).join(UNIT));
        if !unit.exists() {
            return Err(Error::not_found(format!(
                "{} is not there; install the unit first (docs/operating.md, Install)",
                unit.display()
            )));
        }
        link(Path::new(UNITS).join(ALIAS), Path::new(UNIT))?;
    }
    report(&links, out)
}

fn paths(old: &Old) -> impl Iterator<Item = PathBuf> + '_ {
    old.paths
        .iter()
        .map(|folder| Path::new(folder).join(old.name))
}

fn placed(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

fn check_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Error::invalid(
        "folder",
        format!("{} is no folder; make it first", folder.display()),
    ))
}

/// Makes a link; one of ours that leads elsewhere is made anew, and what is not ours stays.
fn make(path: &Path, target: &Path) -> Result<Done> {
    use std::os::unix::fs::symlink;
    make_folders(path.parent().unwrap_or(Path::new("/")))?;
    match symlink(target, path) {
        Ok(()) => return Ok(Done::Made),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(files::cannot("link", path, error)),
    }
    match std::fs::read_link(path) {
        Ok(there) if there == target => Ok(Done::Unchanged),
        Ok(there) if is_ours(&there, target) => refresh(path, target),
        // A file, a folder, or a link to something else.
        _ => Ok(Done::Kept),
    }
}

/// Folders that are missing, for everyone to look into: what this program makes is for its owner alone
/// otherwise.
fn make_folders(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(|error| files::cannot("make", folder, error))?,
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| files::cannot("chmod", folder, error))
}

/// Whether a link's target is this program at another place, as an earlier version or an update of its
/// folder left it.
fn is_ours(there: &Path, target: &Path) -> bool {
    there.file_name().is_some_and(|name| {
        name == "strongroom" || (name == UNIT && target.file_name() == Some(name))
    })
}

/// In one step, so that the name is never missing.
fn refresh(path: &Path, target: &Path) -> Result<Done> {
    let failed = |error| files::cannot("link", path, error);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    std::os::unix::fs::symlink(target, &beside).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })?;
    Ok(Done::Refreshed)
}

fn report(links: &[Link], out: &Printer) -> Result<()> {
    let columns = &["link", "target", "done"];
    out.table(
        &serde_json::json!({ "links": links }),
        links,
        columns,
        |_, it| {
            let done = match it.done {
                Done::Made => "made",
                Done::Refreshed => "refreshed",
                Done::Unchanged => "unchanged",
                Done::Kept => "kept what was there",
            };
            vec![
                it.path.display().to_string(),
                it.target.display().to_string(),
                done.to_owned(),
            ]
        },
    )?;
    let kept: Vec<String> = links
        .iter()
        .filter(|link| link.done == Done::Kept)
        .map(|link| link.path.display().to_string())
        .collect();
    if kept.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(
        "not_ours",
        format!(
            "{} was not made by this program, and stays; move it away to have the link",
            kept.join(", ")
        ),
    ))
}
