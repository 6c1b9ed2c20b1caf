//! `strongroom doctor`: checks a data folder, part by part, and says what to do.

use std::net::{SocketAddr, TcpListener};

use serde::Serialize;

use super::serve::SlotArgs;
use super::{Global, Printer};
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::folder::Folder;
use crate::model::health::Light;
use crate::os;
use crate::server::unlock::{Unlocked, unlock};
use crate::server::{self, tls};
use crate::service::slot;
use crate::service::tls::shown::Ends;

/// Below so much free space writes are refused; twice that is worth a warning.
const NEEDED_FREE: u64 = 256 << 20;
const LEAF_WARNING: i64 = 14 * Timestamp::DAY;
const LOCKED_BYTES: usize = 64 << 10;

/// What `doctor` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub slot: SlotArgs,
}

/// One check's outcome. Amber is worth a look; red fails the command.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: Light,
    found: String,
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, state: Light, found: impl Into<String>) {
        let found = found.into();
        self.0.push(Finding {
            check,
            state,
            found,
        });
    }

    /// Green with what `outcome` says, or red with its error.
    fn judge(&mut self, check: &'static str, outcome: Result<String>) {
        match outcome {
            Ok(found) => self.add(check, Light::Green, found),
            Err(error) => self.add(check, Light::Red, error.public),
        }
    }
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    let folder = Folder::new(global.data_dir());
    folder.check_initialised()?;
    let now = clock::now();
    let mut findings = Findings(Vec::new());
    findings.judge("clock", clock::check(now).map(|()| now.to_string()));
    check_modes(&folder, &mut findings);
    check_space(&folder, &mut findings);
    let config = server::read_config(&folder);
    let held = folder.lock();
    let running = held
        .as_ref()
        .is_err_and(|error| error.code == "folder_in_use");
    match &config {
        Ok(config) => {
            findings.add(
                "configuration",
                Light::Green,
                format!("for {}", config.fqdn),
            );
            check_ports(config, running, &mut findings);
        }
        Err(error) => findings.add("configuration", Light::Red, error.public.clone()),
    }
    findings.judge("slots", describe_slots(&folder));
    check_memory_locking(&mut findings);
    check_store(
        &args,
        &folder,
        config.ok().as_ref(),
        running,
        &mut findings,
        now,
    );
    report(&findings.0, out)
}

fn check_modes(folder: &Folder, findings: &mut Findings) {
    match folder.loose() {
        Ok(loose) if loose.is_empty() => {
            findings.add("modes", Light::Green, "nobody else can read the folder");
        }
        Ok(loose) => findings.add(
            "modes",
            Light::Red,
            format!(
                "others can read or change: {}; chmod go= them",
                loose.join(", ")
            ),
        ),
        Err(error) => findings.add("modes", Light::Red, error.public),
    }
}

fn check_space(folder: &Folder, findings: &mut Findings) {
    match os::free_bytes(folder.root()) {
        Ok(free) => {
            let state = match free {
                0..NEEDED_FREE => Light::Red,
                free if free < 2 * NEEDED_FREE => Light::Amber,
                _ => Light::Green,
            };
            let text = format!(
                "{} MiB free; writing stops below {}",
                free >> 20,
                NEEDED_FREE >> 20
            );
            findings.add("space", state, text);
        }
        Err(error) => findings.add("space", Light::Red, error.to_string()),
    }
}

/// Ports of a running server are taken by it; of another they must be free.
fn check_ports(config: &Config, running: bool, findings: &mut Findings) {
    let ports: [(&'static str, SocketAddr); 3] = [
        ("client_listen", config.client_listen),
        ("gui_listen", config.gui_listen),
        ("health_listen", config.health_listen),
    ];
    for (name, address) in ports {
        if name == "gui_listen" && !config.roles.frontend {
            findings.add(name, Light::Green, "off (roles.frontend)");
            continue;
        }
        match TcpListener::bind(address) {
            Ok(_) if running => findings.add(
                name,
                Light::Amber,
                format!(
                    "{address} is free, though a server runs: it was started with another address"
                ),
            ),
            Ok(_) => findings.add(name, Light::Green, format!("{address} is free")),
            Err(_) if running => {
                findings.add(
                    name,
                    Light::Green,
                    format!("{address} is taken; a server runs"),
                );
            }
            Err(error) => findings.add(name, Light::Red, format!("{address}: {error}")),
        }
    }
}

fn describe_slots(folder: &Folder) -> Result<String> {
    let (seal, _) = slot::read(folder)?;
    let slots = seal.slots();
    if slots.is_empty() {
        return Err(Error::unavailable(
            "no_slots",
            "seal.json has no slot; restore it from a backup",
        ));
    }
    let slots: Vec<String> = slots
        .iter()
        .map(|slot| format!("{} {:?} ({})", slot.kind, slot.label, slot.id))
        .collect();
    Ok(format!(
        "generation {}: {}",
        seal.generation(),
        slots.join(", ")
    ))
}

fn check_memory_locking(findings: &mut Findings) {
    let page = vec![0_u8; LOCKED_BYTES];
    match os::lock_memory(&page) {
        Ok(()) => findings.add("memory locking", Light::Green, "allowed"),
        Err(error) => findings.add(
            "memory locking",
            Light::Amber,
            format!("{error}; raise the limit (LimitMEMLOCK=, ulimit -l), or turn swap off"),
        ),
    }
}

/// What lies under the root key: schema, every page, the certificate.
fn check_store(
    args: &Args,
    folder: &Folder,
    config: Option<&Config>,
    running: bool,
    findings: &mut Findings,
    now: Timestamp,
) {
    if running {
        findings.add(
            "store",
            Light::Amber,
            "a server works on it; stop it to check every page",
        );
        return;
    }
    let secret = match args.slot.secret.secret() {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            findings.add(
                "store",
                Light::Amber,
                "not checked; give --passphrase-file F or --key-file F",
            );
            return;
        }
        Err(error) => return findings.add("slot secret", Light::Red, error.public),
    };
    let unlocked = match unlock(folder, &secret, args.slot.slot, false, false, now) {
        Ok(unlocked) => unlocked,
        Err(error) => return findings.add("store", Light::Red, error.public),
    };
    findings.add("slot", Light::Green, format!("{} opens", unlocked.slot));
    if let Some(older) = &unlocked.older {
        findings.add("seal.json", Light::Red, older.refusal().public);
    }
    match unlocked.opened.schema() {
        Ok((found, known)) if found < known => findings.add(
            "schema",
            Light::Amber,
            format!(
                "{found} of {known}: the next start makes a copy of the store, and brings it there"
            ),
        ),
        schema => findings.judge(
            "schema",
            schema.map(|(found, known)| format!("{found} of {known}")),
        ),
    }
    findings.judge("integrity", integrity(&unlocked));
    if let Some(config) = config {
        check_leaf(folder, &unlocked, &config.fqdn, findings, now);
        check_installed(folder, config, findings, now);
    }
}

fn integrity(unlocked: &Unlocked) -> Result<String> {
    let found = unlocked.opened.integrity()?;
    if found.is_empty() {
        return Ok("every page and index holds".to_owned());
    }
    let text = format!("{}; restore a backup", found.join("; "));
    Err(Error::unavailable("store_damaged", text))
}

fn check_leaf(
    folder: &Folder,
    unlocked: &Unlocked,
    fqdn: &str,
    findings: &mut Findings,
    now: Timestamp,
) {
    match tls::read(folder, &unlocked.identity, fqdn, now) {
        Ok(leaf) => {
            let soon = leaf.info.not_after < now.plus(LEAF_WARNING);
            let state = if soon { Light::Amber } else { Light::Green };
            findings.add(
                "certificate",
                state,
                format!("ends {}", leaf.info.not_after),
            );
        }
        Err(error) => findings.add(
            "certificate",
            Light::Amber,
            format!("{}; the next start issues another", error.public),
        ),
    }
}

/// The operator's own certificate, if one is shown.
fn check_installed(folder: &Folder, config: &Config, findings: &mut Findings, now: Timestamp) {
    const CHECK: &str = "installed";
    let files = tls::files(folder, config);
    let installed = files
        .state()
        .and_then(|state| state.installed.map(|id| files.certificate(id)).transpose())
        .and_then(|found| found.map(|it| it.info()).transpose());
    match installed {
        Ok(None) => {}
        Ok(Some(info)) => {
            let state = match Ends::of(info.not_after, now) {
                Ends::Later => Light::Green,
                Ends::Within30Days | Ends::Within14Days => Light::Amber,
                Ends::Within3Days | Ends::Over => Light::Red,
            };
            let found = format!("{} ends {}", info.subject, info.not_after);
            findings.add(CHECK, state, found);
        }
        Err(error) => findings.add(CHECK, Light::Red, error.public),
    }
}

fn report(findings: &[Finding], out: &Printer) -> Result<()> {
    let word = |state: Light| match state {
        Light::Green => "ok",
        Light::Amber => "look",
        Light::Red => "FAILED",
    };
    let fields: Vec<(&str, String)> = findings
        .iter()
        .map(|finding| {
            (
                finding.check,
                format!("{}: {}", word(finding.state), finding.found),
            )
        })
        .collect();
    out.record(&findings, &fields)?;
    let failed = findings
        .iter()
        .filter(|finding| finding.state == Light::Red)
        .count();
    if failed == 0 {
        return Ok(());
    }
    Err(Error::new(
        Kind::Internal,
        "doctor_found",
        format!("{failed} of {} checks failed", findings.len()),
    ))
}
