//! `strongroom init`: makes a data folder.

use std::path::PathBuf;

use serde::Serialize;

use super::{Global, Printer, files};
use crate::clock;
use crate::crypto::seal::{NewSlot, SlotSecret, without_line_end};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::secret::Secret;
use crate::server::init::{Plan, SUPERUSER, init};

/// What `init` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The host name by which clients reach this server, such as kts01.example.com; its certificate
    /// is made for it
    #[arg(long, value_name = "HOST")]
    pub fqdn: String,
    /// A file with the passphrase of the first slot, without its last line end (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: PathBuf,
    /// Make a second slot, which this file's bytes open
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A file with the password of the user `superuser`, 12 to 1,024 bytes; made and printed once if
    /// left out
    #[arg(long, value_name = "FILE")]
    pub superuser_password_file: Option<PathBuf>,
}

/// The longest passphrase or key file.
const LONGEST: u64 = 1 << 20;

#[derive(Serialize)]
struct Printed<'a> {
    data_dir: String,
    instance: String,
    server_fingerprint: String,
    superuser: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    superuser_password: Option<&'a str>,
}

/// What a data folder is made with.
pub struct Wanted {
    pub fqdn: String,
    pub passphrase: Secret<Vec<u8>>,
    pub key_file: Option<PathBuf>,
    /// Made up, and printed once, if none is given.
    pub password: Option<Secret<String>>,
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    let password = args.superuser_password_file.as_deref();
    let wanted = Wanted {
        fqdn: args.fqdn,
        passphrase: passphrase_bytes(&args.passphrase_file)?,
        key_file: args.key_file,
        password: password.map(files::read_secret).transpose()?,
    };
    make(wanted, global, out)
}

pub fn make(wanted: Wanted, global: &Global, out: &Printer) -> Result<()> {
    let now = clock::now();
    clock::check(now)?;
    let folder = Folder::new(global.data_dir());
    let mut slots = vec![(NewSlot::passphrase(wanted.passphrase), "passphrase")];
    if let Some(path) = &wanted.key_file {
        slots.push((NewSlot::key_file(files::read(path, LONGEST)?), "key file"));
    }
    let (password, made_up) = match wanted.password {
        Some(password) => (password, false),
        None => (
            Secret::new(hex::encode(crate::crypto::random::<12>())),
            true,
        ),
    };
    let plan = Plan {
        fqdn: wanted.fqdn,
        slots,
        superuser_password: Secret::new(password.expose().as_bytes().to_vec()),
    };
    let made = init(&folder, plan, now)?;
    let shown = made_up.then(|| password.expose().as_str());
    let root = folder.root().display().to_string();
    let printed = Printed {
        data_dir: root.clone(),
        instance: made.instance.to_string(),
        server_fingerprint: made.server_fingerprint.to_string(),
        superuser: SUPERUSER,
        superuser_password: shown,
    };
    let mut fields = vec![
        ("data folder", root),
        ("instance", printed.instance.clone()),
        ("server fingerprint", printed.server_fingerprint.clone()),
        ("superuser", SUPERUSER.to_owned()),
    ];
    if let Some(password) = shown {
        fields.push(("superuser password (shown this once)", password.to_owned()));
    }
    out.record(&printed, &fields)?;
    out.talk("Keep the passphrase apart from the data folder: without a slot's secret nothing in it opens.");
    out.talk(&format!(
        "Next: strongroom serve --data-dir {} --passphrase-file FILE",
        folder.root().display()
    ));
    Ok(())
}

/// A passphrase out of a file, without its line end.
pub(super) fn passphrase(path: &std::path::Path) -> Result<SlotSecret> {
    passphrase_bytes(path).map(SlotSecret::Passphrase)
}

/// A passphrase that was typed, for a slot that is to be made.
pub(super) fn bytes(typed: Secret<String>) -> Secret<Vec<u8>> {
    Secret::new(typed.expose().clone().into_bytes())
}

/// The same, for a slot that is to be made.
pub(super) fn passphrase_bytes(path: &std::path::Path) -> Result<Secret<Vec<u8>>> {
    let bytes = files::read(path, LONGEST)?;
    let bytes = without_line_end(bytes.expose().clone());
    if bytes.expose().is_empty() {
        return Err(Error::invalid(
            "passphrase",
            format!("the passphrase in {} is empty", path.display()),
        ));
    }
    Ok(bytes)
}
