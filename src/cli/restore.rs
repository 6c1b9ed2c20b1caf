//! `strongroom restore`: a backup makes a folder a server, or takes the place of what a folder holds.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::print::bar;
use super::serve::SlotArgs;
use super::{Global, Printer, files};
use crate::backup::manifest::Manifest;
use crate::backup::peel::{self, Decrypts, peel};
use crate::clock;
use crate::crypto::seal::SlotSecret;
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::model::id::shown;
use crate::server::restore::{As, Done, Live, Plan, Step, Wanted};

/// What `restore` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The backup: `.tar.age`, or a `.tar` that was decrypted elsewhere (`-`: stdin)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The age identity of one of the backup's recipients, or an SSH key without a passphrase
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The passphrase of a backup that has one, without its last line end; not that of a slot
    #[arg(long, value_name = "FILE")]
    pub age_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub slot: SlotArgs,
    /// What becomes of the server that was backed up
    #[arg(long = "as", value_name = "WHAT", value_enum, default_value = "same")]
    pub becomes: Becomes,
    /// The name by which clients reach it from now on [default: this machine's, with --as new or clone]
    #[arg(long, value_name = "HOST")]
    pub fqdn: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum Becomes {
    /// It goes on under its name
    Same,
    /// It goes on under another name; clients stay registered
    New,
    /// Another server with the same contents; clients do not know it
    Clone,
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    let now = clock::now();
    clock::check(now)?;
    #[cfg(debug_assertions)]
    if let Some(warning) = crate::backup::planted::warning()? {
        out.warn(&warning);
    }
    let wanted = wanted(&args, global, out)?;
    let (from, bytes) = open(&args.file)?;
    let progress = Progress::new(out, bytes);
    let from = Counted {
        from,
        done: 0,
        progress: &progress,
    };
    let passphrase = match &args.age_passphrase_file {
        Some(path) => Some(files::read_secret(path)?),
        None => None,
    };
    let with = Decrypts {
        identity: wanted.identity.as_ref(),
        passphrase: passphrase.as_ref(),
    };
    let from = peel(from, with).map_err(|error| how_to_decrypt(error, &args.file, global))?;
    let plan = Plan::of(from, wanted, &|step| progress.begins(step), now);
    progress.clear();
    let plan = plan?;
    if let Err(refused) = ask(&plan, global, out) {
        plan.give_up(now);
        return Err(refused);
    }
    let manifest = plan.manifest().clone();
    let back = plan.back().to_vec();
    progress.begins(Step::Replacing);
    let done = plan.apply(global.reason.as_deref().unwrap_or_default(), clock::now());
    progress.clear();
    let done = done?;
    tell(&done, &manifest, &back, out)?;
    if !manifest.bound_to_hsm.is_empty() {
        let names: Vec<String> = manifest.bound_to_hsm.iter().map(|it| shown(it)).collect();
        out.talk(&format!(
            "Organizations whose keys only an HSM unwraps, whatever else opens this server: {}.",
            names.join(", ")
        ));
    }
    if matches!(args.becomes, Becomes::Clone) {
        out.talk("Clients do not know this server: it has a certificate authority and a fingerprint of its own. What it would send to other machines is held.");
    }
    out.talk(&format!(
        "Next: strongroom serve --data-dir {} --passphrase-file FILE",
        global.data_dir().display()
    ));
    Ok(())
}

fn wanted(args: &Args, global: &Global, out: &Printer) -> Result<Wanted> {
    let from_stdin = args.file.as_os_str() == "-";
    let secret_file = args.slot.secret.file().map(|(_, path)| path);
    let mut others = secret_file
        .into_iter()
        .chain(args.identity.as_deref())
        .chain(args.age_passphrase_file.as_deref());
    if from_stdin && others.any(|path| path.as_os_str() == "-") {
        return Err(Error::invalid(
            "file",
            "stdin is the backup; give what opens it in files",
        ));
    }
    let identity = match &args.identity {
        Some(path) => Some(files::read(path, files::LONGEST_SMALL_FILE)?),
        None => None,
    };
    let secret = match args.slot.secret.secret()? {
        None if identity.is_none() && !from_stdin => {
            let typed = out.ask_secret("Passphrase of a slot:")?;
            typed.map(|typed| SlotSecret::Passphrase(super::init::bytes(typed)))
        }
        secret => secret,
    };
    Ok(Wanted {
        folder: Folder::new(global.data_dir()),
        secret,
        slot: args.slot.slot,
        identity,
        becomes: match args.becomes {
            Becomes::Same => As::Same,
            Becomes::New => As::New,
            Becomes::Clone => As::Clone,
        },
        fqdn: args.fqdn.clone(),
    })
}

/// What is read, and how long it is, where that is known.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let cannot = |error: io::Error| crate::folder::failed("read", path, error);
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(Error::invalid(
            "file",
            format!("{} is a folder, not a backup", path.display()),
        ));
    }
    let bytes = Some(metadata.len()).filter(|_| metadata.is_file());
    Ok((Box::new(io::BufReader::with_capacity(1 << 20, file)), bytes))
}

/// How far it is, on a terminal that shows stderr.
struct Progress<'a> {
    out: &'a Printer,
    on: bool,
    bytes: Option<u64>,
}

impl<'a> Progress<'a> {
    /// `bytes`: of the backup, where that is known.
    fn new(out: &'a Printer, bytes: Option<u64>) -> Self {
        let on = out.redraws() && !out.json;
        Self { out, on, bytes }
    }

    fn begins(&self, step: Step) {
        self.draw(step, 0);
    }

    /// `done`: of the backup, in bytes.
    fn draw(&self, step: Step, done: u64) {
        const MIB: u64 = 1 << 20;
        if !self.on {
            return;
        }
        // Reading it is about half of the work.
        let (percent, text) = match (step, self.bytes) {
            (Step::Reading, Some(bytes)) => (
                done.min(bytes).saturating_mul(50) / bytes.max(1),
                format!(
                    "reading the backup, {} of {} MiB",
                    done / MIB,
                    bytes.div_ceil(MIB)
                ),
            ),
            (Step::Reading, None) => (0, format!("reading the backup, {} MiB", done / MIB)),
            (Step::Rekeying, _) => (50, "giving it this node's key".to_owned()),
            (Step::Verifying, _) => (60, "verifying what was in it".to_owned()),
            (Step::Migrating, _) => (80, "bringing it to this program's schema".to_owned()),
            (Step::Replacing, _) => (95, "putting it in its place".to_owned()),
        };
        self.out.redraw(&bar(percent, 100, &text));
    }

    /// Takes the bar away, so that a line can stand there.
    fn clear(&self) {
        if self.on {
            self.out.redraw("");
        }
    }
}

/// The backup as it is read.
struct Counted<'a, R> {
    from: R,
    done: u64,
    progress: &'a Progress<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        const PIECE: u64 = 1 << 20;
        let read = self.from.read(into)?;
        let before = self.done / PIECE;
        self.done += read as u64;
        if self.done / PIECE > before {
            self.progress.draw(Step::Reading, self.done);
        }
        Ok(read)
    }
}

/// What gpg has to open first: the line that does.
fn how_to_decrypt(error: Error, file: &Path, global: &Global) -> Error {
    if error.code != peel::OPENPGP || file.as_os_str() == "-" {
        return error;
    }
    let quoted = |path: &Path| {
        let text = path.to_string_lossy().into_owned();
        shlex::try_quote(&text).map_or_else(|_| text.clone(), |quoted| quoted.into_owned())
    };
    let text = format!(
        "{} is encrypted by OpenPGP; type, with the options that you gave:\n  gpg --decrypt {} | strongroom restore - --data-dir {}",
        file.display(),
        quoted(file),
        quoted(&global.data_dir())
    );
    Error::new(error.kind, error.code, text)
}

/// Says what would be replaced, and asks, where something would be.
fn ask(plan: &Plan, global: &Global, out: &Printer) -> Result<()> {
    let manifest = plan.manifest();
    let Some(live) = plan.live() else {
        return Ok(());
    };
    let newer = match live {
        Ok(Live { mark, last, .. }) => format!(
            "What is there is of revision {}, its last change of {last}; the backup is of revision {}: {} changes since then, and the log of what was released since, are not in it",
            mark.revision,
            manifest.revision,
            mark.revision.saturating_sub(manifest.revision)
        ),
        Err(error) => format!(
            "What is there cannot be read, so that how much newer it is cannot be told: {}",
            error.public
        ),
    };
    let mut text = format!(
        "The backup {} is whole: of {}, made {}. It takes the place of what {} holds, which is kept beside it. {newer}.",
        manifest.id,
        manifest.fqdn,
        manifest.created,
        global.data_dir().display()
    );
    if !plan.back().is_empty() {
        text.push_str(&format!(
            " Slots that are not there any more open the server again: {}.",
            plan.back().join(", ")
        ));
    }
    out.talk(&text);
    out.confirm("Restore it?")
}

fn tell(done: &Done, manifest: &Manifest, back: &[String], out: &Printer) -> Result<()> {
    let kept = done.kept.as_ref().map(|kept| kept.display().to_string());
    let value = json!({
        "backup": manifest.id,
        "created": manifest.created,
        "revision": manifest.revision,
        "newest_deposit": manifest.newest_deposit,
        "instance": done.instance.to_string(),
        "server_fingerprint": done.server_fingerprint.to_string(),
        "fqdn": done.fqdn,
        "epoch": done.epoch,
        "timeline": done.timeline,
        "kept": kept,
        "slots_back": back,
        "bound_to_hsm": manifest.bound_to_hsm,
    });
    let newest = manifest.newest_deposit;
    let mut fields = vec![
        ("backup", manifest.id.to_string()),
        ("as of", out.time(manifest.created)),
        (
            "newest deposit",
            newest.map_or("none".to_owned(), |time| out.time(time)),
        ),
        ("instance", done.instance.to_string()),
        ("server fingerprint", done.server_fingerprint.to_string()),
        ("host name", done.fqdn.clone()),
    ];
    if let Some(kept) = kept {
        fields.push(("what was replaced", kept));
    }
    for slot in back {
        fields.push(("slot that is back", slot.clone()));
    }
    out.record(&value, &fields)?;
    out.talk(&format!(
        "Nothing that was stored or changed after {} is in it.",
        manifest.created
    ));
    Ok(())
}
