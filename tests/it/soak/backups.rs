//! Backups that are taken, rolled away and tried out, while the command or the server is killed at any
//! moment: those of before stay until another one counts, no file that has a name is damaged, and each job
//! comes to its end.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::run::{options, planted};
use crate::harness::run::Killed;
use crate::harness::{Dice, PATIENCE, Server, long, run, seed, strace, tool, until};
use crate::jobs::held_by_one_at_a_time;

/// With those of `jobs_killed`, 300 in the long form.
const KILLS: u64 = 240;
const KILLS_SHORT: u64 = 9;
/// So many stay of those that the command takes, and of those that the schedule takes.
const STAY: [usize; 2] = [2, 1];
/// The moments at which the command is killed.
const CALLS: [&str; 11] = [
    "fsync", "link", "linkat", "openat", "read", "recvfrom", "sendto", "unlink", "unlinkat",
    "write", "writev",
];

/// What is killed, and meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Command,
    ServerUnderCommand,
    ServerUnderJob,
    ServerUnderDrill,
}

#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
    command: u64,
    server_under_command: u64,
    server_under_job: u64,
    server_under_drill: u64,
    /// Jobs that were cut off, and went on.
    taken_up: u64,
    jobs: usize,
    /// Files of backups that were decrypted in full, by someone outside.
    opened: usize,
}

impl Outcome {
    fn kills(&self) -> u64 {
        self.command + self.server_under_command + self.server_under_job + self.server_under_drill
    }

    fn counts(&self) -> Value {
        json!({
            "kill_9": self.kills(),
            "command_while_it_creates": self.command,
            "server_while_a_command_creates": self.server_under_command,
            "server_while_a_job_creates": self.server_under_job,
            "server_while_a_drill_runs": self.server_under_drill,
            "jobs": self.jobs,
            "jobs_cut_off_and_taken_up": self.taken_up,
            "opened_in_full": self.opened,
        })
    }
}

struct Yard {
    server: Server,
    defect: Option<&'static str>,
    identity: PathBuf,
    recipient: String,
    /// Where the command writes, and where the server does.
    folders: [PathBuf; 2],
    /// Digests of the files that were opened in full.
    proven: BTreeSet<String>,
    moments: Vec<(String, usize)>,
    /// So often the scene changes while a backup is taken, and while one is tried out.
    changes: [u64; 2],
    /// Jobs that were acknowledged, and those of before.
    jobs: Vec<String>,
    earlier: Vec<String>,
}

/// The backups in a folder, by their names.
fn named(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let files = entries.map(|entry| entry.unwrap().path());
    let is_named = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("kts_bak_")
    };
    files.filter(is_named).collect()
}

fn digest(file: &Path) -> String {
    hex::encode(strongroom::crypto::sha256(&fs::read(file).unwrap()))
}

impl Yard {
    fn new(defect: Option<&'static str>) -> Self {
        let mut server = Server::start(options(defect));
        let client = server.client("one", "acme");
        let mut dice = Dice::new(seed());
        for number in 0..6 {
            let path = format!("/v1/deposits/d{number}");
            let body = dice.bytes(300_000);
            client
                .wire()
                .request("PUT", &path, &[], Some(&body))
                .ok(201);
        }
        let identity = server.path("identity.txt");
        tool("age-keygen", ["-o", identity.to_str().unwrap()]);
        let recipient = tool("age-keygen", ["-y", identity.to_str().unwrap()]);
        let recipient = String::from_utf8(recipient).unwrap().trim().to_owned();
        let folders = [server.path("commanded"), server.path("scheduled")];
        let set = |name: &str, value: &str| server.cli(&["setting", "set", name, value]).ok();
        set("backup.folder", folders[1].to_str().unwrap());
        for rung in ["hourly", "daily", "weekly", "monthly"] {
            set(&format!("backup.keep_{rung}"), "0");
        }
        server.cli(&["recipient", "add", &recipient]).ok();
        until(PATIENCE, || named(&folders[1]).len() == 1);
        if let Some(defect) = defect {
            server.options.env.push(planted(defect));
            server.restart();
        }
        let mut yard = Self {
            server,
            defect,
            identity,
            recipient,
            folders,
            proven: BTreeSet::new(),
            moments: Vec::new(),
            changes: [0; 2],
            jobs: Vec::new(),
            earlier: Vec::new(),
        };
        yard.settles();
        yard.earlier = yard.all_jobs().into_iter().map(|(id, _)| id).collect();
        for _ in 1..STAY[0] {
            run(&mut yard.create()).ok();
        }
        let log = yard.server.path("trace");
        yard.moments = strace::counted(&yard.create(), &CALLS, &log);
        yard.changes = ["backup", "drill"].map(|schedule| yard.watched(schedule));
        yard
    }

    /// `backup create`, which rolls.
    fn create(&self) -> Command {
        let mut command = self.server.command();
        command.arg("--data-dir").arg(&self.server.data);
        command.args(["backup", "create", "--recipient", &self.recipient]);
        command.args(["--roll", &STAY[0].to_string(), "--output"]);
        command.arg(&self.folders[0]);
        command.envs(self.defect.map(planted));
        command
    }

    /// Asks for the job of a schedule.
    fn ask(&mut self, schedule: &str) -> String {
        let job = self.server.json(&["schedule", "run", schedule]);
        let id = job["id"].as_str().unwrap().to_owned();
        self.jobs.push(id.clone());
        id
    }

    /// Each job of backups, and who made it.
    fn all_jobs(&self) -> Vec<(String, String)> {
        let kinds = "kind in (backup, drill)";
        let list = ["job", "list", "--limit", "1000", "-F", kinds];
        let jobs = self.server.json(&list)["items"].clone();
        let text = |job: &Value, field: &str| job[field].as_str().unwrap().to_owned();
        let jobs = jobs.as_array().unwrap().iter();
        jobs.map(|job| (text(job, "id"), text(job, "created_by")))
            .collect()
    }

    /// Waits until no job is open.
    fn settles(&self) {
        let open = "state in (pending, queued, held, running)";
        until(PATIENCE * 2, || {
            let jobs = self.server.json(&["job", "list", "-F", open]);
            jobs["items"].as_array().unwrap().is_empty()
        });
    }

    /// What changes while something is done: names in the folders, and what they name.
    fn scene(&self) -> Vec<(PathBuf, u64)> {
        let own = self.server.data.join("backups");
        let drill = own.join("unfinished-drill");
        let folders = self.folders.iter().chain([&own, &drill]);
        let entries = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let mut seen: Vec<_> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let inode = fs::symlink_metadata(&path).ok()?.ino();
                Some((path, inode))
            })
            .collect();
        seen.sort();
        seen
    }

    /// How often the scene changes until such a job has ended.
    fn watched(&mut self, schedule: &str) -> u64 {
        let path = format!("/v1/jobs/{}", self.ask(schedule));
        let mut socket = self.server.socket();
        let (mut scene, mut seen) = (self.scene(), 0);
        until(PATIENCE, || {
            let end = Instant::now() + Duration::from_millis(50);
            while Instant::now() < end {
                seen += u64::from(self.changed(&mut scene));
            }
            let shown = socket.get(&path).ok(200).json();
            shown["job"]["state"] == "succeeded"
        });
        seen
    }

    fn changed(&self, scene: &mut Vec<(PathBuf, u64)>) -> bool {
        park_timeout(Duration::from_micros(300));
        let now = self.scene();
        let changed = now != *scene;
        *scene = now;
        changed
    }

    /// Kills the server at a change of the scene, or after a while in which there were fewer.
    fn kill_server(&mut self, changes: u64, longest: Duration) {
        let (mut scene, mut seen) = (self.scene(), 0);
        let end = Instant::now() + longest;
        while seen < changes && Instant::now() < end {
            seen += u64::from(self.changed(&mut scene));
        }
        self.server.kill9();
    }

    /// As someone sees it who has the identity and the files alone: each that has a name opens in full, and
    /// no more are gone than are to be rolled away.
    fn files_stand(&mut self, before: [usize; 2]) -> Result<(), String> {
        for (at, folder) in self.folders.clone().iter().enumerate() {
            let files = named(folder);
            for file in &files {
                self.opens(file)?;
            }
            if files.len() < before[at].min(STAY[at]) {
                return Err(format!(
                    "{} verified backups are left in {}, and {} were there",
                    files.len(),
                    folder.display(),
                    before[at]
                ));
            }
        }
        Ok(())
    }

    fn opens(&mut self, file: &Path) -> Result<(), String> {
        let digest = digest(file);
        if self.proven.contains(&digest) {
            return Ok(());
        }
        let mut command = self.server.command();
        command.args(["backup", "verify"]).arg(file);
        let verified = run(command.arg("--identity").arg(&self.identity));
        if verified.status != 0 {
            return Err(format!("{} is damaged: {verified:?}", file.display()));
        }
        self.proven.insert(digest);
        Ok(())
    }

    /// What the server says that counts is there, as it was verified. One that was being removed may be gone:
    /// then those that take its place are there.
    fn catalogue_stands(&mut self) -> Result<(), String> {
        let listed = self.server.json(&["backup", "list"]);
        let mut newer = [0; 2];
        for backup in listed["backups"].as_array().unwrap() {
            let path = Path::new(backup["path"].as_str().unwrap());
            let at = self.folders.iter().position(|it| path.starts_with(it));
            let at = at.ok_or_else(|| format!("{} is elsewhere", path.display()))?;
            if !path.exists() {
                if newer[at] < STAY[at] {
                    return Err(format!("{} is listed, and gone", path.display()));
                }
                continue;
            }
            newer[at] += 1;
            if backup["sha256"] != digest(path).as_str() {
                return Err(format!("{} is not what was verified", path.display()));
            }
            self.opens(path)?;
        }
        Ok(())
    }

    /// It ended once, and well, or says why not; whether it was cut off on the way.
    fn job_stands(&self, id: &str) -> Result<bool, String> {
        let shown = self.server.json(&["job", "show", id]);
        held_by_one_at_a_time(&shown);
        let job = &shown["job"];
        let said = job["outcome"].as_str().is_some_and(|it| !it.is_empty());
        match job["state"].as_str() {
            Some("succeeded") => Ok(job["generation"].as_u64() > Some(1)),
            Some("failed") if said => Ok(job["generation"].as_u64() > Some(1)),
            _ => Err(format!("the job did not end: {shown}")),
        }
    }

    /// One kill; whether it was one.
    fn cut(&mut self, cut: Cut, dice: &mut Dice) -> Result<bool, String> {
        let before = self.folders.each_ref().map(|folder| named(folder).len());
        let of = self.changes[usize::from(cut == Cut::ServerUnderDrill)];
        let changes = 1 + dice.below(of + 1);
        let longest = Duration::from_millis(500 + dice.below(1_500));
        let mut job = None;
        match cut {
            Cut::Command => {
                let (call, times) = self.moments[dice.index(self.moments.len())].clone();
                let step = 1 + dice.index(times);
                let killed = strace::killed_at(&self.create(), &call, step);
                self.files_stand(before)
                    .map_err(|what| format!("{call} {step}: {what}"))?;
                self.catalogue_stands()?;
                return Ok(killed.status == -1);
            }
            Cut::ServerUnderCommand => {
                let mut command = self.create();
                command.stdout(Stdio::null()).stderr(Stdio::null());
                let mut creating = Killed(command.spawn().unwrap());
                self.kill_server(changes, longest);
                until(PATIENCE, || creating.0.try_wait().unwrap().is_some());
            }
            Cut::ServerUnderJob => {
                job = Some(self.ask("backup"));
                self.kill_server(changes, longest);
            }
            Cut::ServerUnderDrill => {
                job = Some(self.ask("drill"));
                self.kill_server(changes, longest);
            }
        }
        self.files_stand(before)?;
        self.server.serve();
        self.settles();
        self.files_stand(before)?;
        self.catalogue_stands()?;
        if let Some(job) = job {
            self.job_stands(&job)?;
        }
        let left = fs::read_dir(self.server.data.join("backups")).unwrap();
        match left.count() {
            0 => Ok(true),
            _ => Err("something is left in the server's own folder".to_owned()),
        }
    }

    /// At the end: nothing that was asked for is lost or doubled, and the files are sound.
    fn end(mut self, out: &mut Outcome) {
        for id in &self.jobs {
            match self.job_stands(id) {
                Ok(taken_up) => out.taken_up += u64::from(taken_up),
                Err(what) => out.failures.push(what),
            }
        }
        out.jobs = self.jobs.len();
        out.opened = self.proven.len();
        let others = self.all_jobs().into_iter().filter(|(id, by)| {
            !self.jobs.contains(id) && !self.earlier.contains(id) && !by.starts_with("schedule ")
        });
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            out.failures.push(format!("nobody asked for {others:?}"));
        }
        let drilled = self.server.cli(&["backup", "drill"]);
        if drilled.status != 0 {
            out.failures.push(format!("{drilled:?}"));
        }
        self.server.cli(&["audit", "verify"]).ok();
        self.server.stop();
        let key = self.server.path("key");
        self.server
            .cli(&["doctor", "--key-file", key.to_str().unwrap()])
            .ok();
    }
}

/// Kills in turn, and ends at the first failure.
fn soak(kills: u64, turn: &[Cut], defect: Option<&'static str>) -> Outcome {
    let mut yard = Yard::new(defect);
    let mut dice = Dice::new(seed());
    let mut out = Outcome::default();
    for cut in turn.iter().cycle() {
        if out.kills() >= kills || !out.failures.is_empty() {
            break;
        }
        let counted = match cut {
            Cut::Command => &mut out.command,
            Cut::ServerUnderCommand => &mut out.server_under_command,
            Cut::ServerUnderJob => &mut out.server_under_job,
            Cut::ServerUnderDrill => &mut out.server_under_drill,
        };
        match yard.cut(*cut, &mut dice) {
            Ok(killed) => *counted += u64::from(killed),
            Err(what) => {
                *counted += 1;
                out.failures.push(format!("{cut:?}: {what}"));
            }
        }
    }
    if out.failures.is_empty() {
        yard.end(&mut out);
    }
    out
}

/// Of all but `jobs_killed`.
pub fn kills() -> u64 {
    match (std::env::var("STRONGROOM_KILLS"), long("soak")) {
        (Ok(kills), _) => kills.parse().unwrap(),
        (Err(_), true) => KILLS,
        (Err(_), false) => KILLS_SHORT,
    }
}

/// So many of them hit a restore.
pub fn of_restores(kills: u64) -> u64 {
    kills.div_ceil(3)
}

#[test]
fn backups_of_before_stay_until_another_one_counts_whatever_is_killed() {
    use Cut::{Command, ServerUnderCommand, ServerUnderDrill, ServerUnderJob};
    let turn = [
        ServerUnderJob,
        Command,
        ServerUnderDrill,
        ServerUnderCommand,
    ];
    let out = soak(kills() - of_restores(kills()), &turn, None);
    println!("{}", out.counts());
    assert!(out.failures.is_empty(), "{:?}", out.failures);
    assert!(out.taken_up > 0 || out.kills() < 60, "none cut a job off");
    super::found("backups_killed", out.counts());
}

#[test]
fn the_soak_catches_older_backups_that_go_before_the_new_one_is_verified() {
    for (part, cut) in [
        ("planted_roll_before_verify", Cut::Command),
        ("planted_roll_before_verify_by_job", Cut::ServerUnderJob),
    ] {
        let out = soak(40, &[cut], Some("roll-before-verify"));
        let first = out.failures.first();
        assert!(
            first.is_some_and(|it| it.contains("verified backups are left")),
            "{:?} after {} kills",
            out.failures,
            out.kills()
        );
        let caught = json!({ "caught_after_kills": out.kills(), "first": first });
        println!("{caught}");
        super::found(part, caught);
    }
}

/// What no planted defect does.
#[test]
fn a_damaged_and_a_missing_backup_are_noticed() {
    let mut yard = Yard::new(None);
    let before = yard.folders.each_ref().map(|folder| named(folder).len());
    assert_eq!(before, STAY);
    yard.files_stand(before).unwrap();
    yard.catalogue_stands().unwrap();
    let file = named(&yard.folders[1]).remove(0);
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&file, flipped).unwrap();
    let damaged = yard.files_stand(before).unwrap_err();
    assert!(damaged.contains("is damaged"), "{damaged}");
    let changed = yard.catalogue_stands().unwrap_err();
    assert!(changed.contains("is not what was verified"), "{changed}");
    fs::remove_file(&file).unwrap();
    let missing = yard.catalogue_stands().unwrap_err();
    assert!(missing.contains("is listed, and gone"), "{missing}");
    fs::write(&file, bytes).unwrap();
    yard.catalogue_stands().unwrap();
}
