//! Completions and manual pages, made from the commands themselves.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::files::cannot;
use super::{Cli, Printer};
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub struct Completions {
    /// Whose completions
    shell: clap_complete::Shell,
}

#[derive(clap::Args, Debug)]
pub struct Man {
    /// The folder, made if it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn completions(args: Completions, out: &Printer) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strongroom", &mut script);
    out.bytes(&script, true)
}

pub fn man(args: Man, out: &Printer) -> Result<()> {
    std::fs::create_dir_all(&args.folder).map_err(|error| cannot("make", &args.folder, error))?;
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .and_then(|()| readable(&args.folder))
        .map_err(|error| cannot("write to", &args.folder, error))?;
    out.talk(&format!(
        "the manual pages are in {}; read them with man -l {0}/strongroom.1",
        args.folder.display()
    ));
    Ok(())
}
/// Everyone reads manual pages; all else that this program writes is for its owner alone.
fn readable(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for page in std::fs::read_dir(folder)? {
        let page = page?;
        if page
            .file_name()
            .as_encoded_bytes()
            .starts_with(b"strongroom")
        {
            std::fs::set_permissions(page.path(), Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}
