//! Completions and manual pages, made from the commands themselves.

use std::path::PathBuf;

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
        .map_err(|error| cannot("write to", &args.folder, error))?;
    out.talk(&format!(
        "the manual pages are in {}; read them with man -l {0}/strongroom.1",
        args.folder.display()
    ));
    Ok(())
}
