//! The README's tour, typed line by line against a fresh server that `scripts/run` starts, as
//! `make run` does. Ids, times, keys, sizes and ports may differ from what stands there, but each of
//! them in one way only: what the README calls by one value is one value here, too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::run::{Killed, signal};
use crate::harness::{Folder, PATIENCE, binary, measured, run, until, until_some};

/// Where the README's reader is.
const READERS_FOLDER: &str = "/home/you/strongroom";

#[test]
fn the_readmes_tour_says_what_happens() {
    let readme = fs::read_to_string(measured::root().join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() > 20, "the tour was not found: {steps:?}");
    let mut tour = Tour::begin();
    let mut differences = Vec::new();
    for step in &steps {
        let said = if step.command == "make run" {
            tour.start_server(step.said.len())
        } else {
            tour.type_in(&step.command)
        };
        if let Err(difference) = tour.bound.compare(&step.said, &said) {
            let said = said.join("\n");
            differences.push(format!(
                "$ {}\n{difference}\nit says:\n{said}",
                step.command
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    tour.interrupt_server();
}

#[derive(Debug)]
struct Step {
    command: String,
    said: Vec<String>,
}

/// The lines of all blocks marked `console`: `$ ` and a command, then what it says.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut within = false;
    for line in readme.lines() {
        match (within, line) {
            (false, "```console") => within = true,
            (true, "```") => within = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    command: command.to_owned(),
                    said: Vec::new(),
                }),
                None => steps.last_mut().unwrap().said.push(line.to_owned()),
            },
            (false, _) => {}
        }
    }
    steps
}

struct Tour {
    folder: Folder,
    bound: Bound,
    server: Option<Killed>,
    /// The listeners' addresses, once known: a second start takes the same.
    addresses: Vec<String>,
}

impl Tour {
    /// A folder that looks like the reader's.
    fn begin() -> Self {
        let folder = Folder::new();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("target/debug")).unwrap();
        fs::create_dir(at("scripts")).unwrap();
        symlink(binary(), at("target/debug/strongroom")).unwrap();
        symlink(measured::root().join("scripts/run"), at("scripts/run")).unwrap();
        Self {
            folder,
            bound: Bound::default(),
            server: None,
            addresses: ["0.0.0.0", "0.0.0.0", "127.0.0.1"]
                .map(|address| format!("{address}:{}", lasting_port()))
                .to_vec(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn clean(&self, mut command: Command) -> Command {
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("NO_PROXY", "*")
            .env_remove("STRONGROOM_BIN")
            .env_remove("STRONGROOM_DATA_DIR")
            .env_remove("STRONGROOM_EVAL")
            .env_remove("STRONGROOM_HOME");
        command
    }

    /// What `make run` does at its end; returns what it says, once that has so many lines.
    fn start_server(&mut self, lines: usize) -> Vec<String> {
        let out = self.at("run.out");
        let log = self.at("run.log");
        let mut command = self.clean(Command::new("setpriv"));
        command.args(["--pdeathsig", "KILL", "--", "scripts/run"]);
        for (option, address) in ["--client-listen", "--gui-listen", "--health-listen"]
            .iter()
            .zip(&self.addresses)
        {
            command.args([option, &address.as_str()]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        let said = until_some(PATIENCE, || {
            if let Some(status) = child.0.try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(&log).unwrap());
            }
            let said = fs::read_to_string(&out).unwrap();
            (said.lines().count() >= lines && said.ends_with("--help\n\n")).then_some(said)
        });
        self.server = Some(child);
        self.keep_addresses();
        self.readers_view(&said)
    }

    /// Writes the free ports that it took to where the usual ones stand by default.
    fn keep_addresses(&mut self) {
        let ready: serde_json::Value =
            serde_json::from_slice(&fs::read(self.at("strongroom-eval/ready.json")).unwrap())
                .unwrap();
        let config = self.at("strongroom-eval/data/live/strongroom.toml");
        let mut text = fs::read_to_string(&config).unwrap();
        for ((name, usual), address) in [
            ("client", "0.0.0.0:11371"),
            ("gui", "0.0.0.0:8443"),
            ("health", "127.0.0.1:11380"),
        ]
        .into_iter()
        .zip(&mut self.addresses)
        {
            let url = ready[format!("{name}_url")].as_str().unwrap();
            let mut at: SocketAddr = usual.parse().unwrap();
            at.set_port(url.rsplit(':').next().unwrap().parse().unwrap());
            text = text.replace(&format!("\"{usual}\""), &format!("\"{at}\""));
            *address = at.to_string();
        }
        fs::write(&config, text).unwrap();
    }

    /// One line, in a terminal; variables live on for the next one.
    fn type_in(&mut self, command: &str) -> Vec<String> {
        let here = self.folder.path().to_str().unwrap();
        let command = self.bound.ours(command).replace(READERS_FOLDER, here);
        let killed = command.starts_with("kill ") || command == "strongroom service stop";
        let script = format!(
            "set -a\n[[ ! -e variables ]] || . ./variables\n{command}\n\
             export -p | grep -vE '^declare -x (PWD|OLDPWD|SHLVL)' >variables\n"
        );
        fs::write(self.at("line.sh"), script).unwrap();
        let mut typed = self.clean(Command::new("timeout"));
        typed.args(["120", "script", "--quiet", "--return", "--command"]);
        typed.args(["bash ./line.sh", "/dev/null"]);
        let output = run(&mut typed);
        if killed {
            let mut server = self.server.take().unwrap();
            until(PATIENCE, || server.0.try_wait().unwrap().is_some());
        }
        self.readers_view(&output.text().replace('\r', ""))
    }

    fn readers_view(&self, said: &str) -> Vec<String> {
        let here = self.folder.path().to_str().unwrap();
        let said = said.replace(here, READERS_FOLDER);
        // A bar is gone when the command is done.
        let stays = |line: &str| line.rsplit("\x1b[K").next().unwrap_or_default().to_owned();
        said.trim_end().lines().map(stays).collect()
    }

    /// Ctrl-C ends it in order.
    fn interrupt_server(&mut self) {
        let mut server = self.server.take().unwrap();
        assert!(signal(server.0.id(), "INT"));
        let status = until_some(PATIENCE, || server.0.try_wait().unwrap());
        let log = fs::read_to_string(self.at("run.log")).unwrap();
        assert!(status.success(), "{status}: {log}");
    }
}

/// Which value here stands for which value of the README.
#[derive(Default)]
struct Bound(BTreeMap<String, String>);

impl Bound {
    /// A line of the README with this run's values.
    fn ours(&self, line: &str) -> String {
        self.0.iter().fold(line.to_owned(), |line, (theirs, ours)| {
            line.replace(theirs, ours)
        })
    }

    /// `…` stands for any number of lines, at the beginning.
    fn compare(&mut self, readme: &[String], said: &[String]) -> Result<(), String> {
        let readme: Vec<&String> = readme
            .iter()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let mut said: Vec<&String> = said.iter().filter(|line| !line.trim().is_empty()).collect();
        let readme = match readme.split_first() {
            Some((first, rest)) if *first == "…" => {
                said.drain(..said.len().saturating_sub(rest.len()));
                rest
            }
            _ => &readme[..],
        };
        for (theirs, ours) in readme.iter().zip(&said) {
            self.compare_line(theirs, ours)
                .map_err(|why| format!("README:  {theirs}\nit says: {ours}\n({why})"))?;
        }
        if readme.len() != said.len() {
            return Err(format!("{} lines, not {}", said.len(), readme.len()));
        }
        Ok(())
    }

    fn compare_line(&mut self, theirs: &str, ours: &str) -> Result<(), String> {
        let (theirs, ours) = (pieces(theirs), pieces(ours));
        if theirs.len() != ours.len() {
            return Err(format!("{} words, not {}", ours.len(), theirs.len()));
        }
        for at in 0..theirs.len() {
            let (their, our) = (theirs[at], ours[at]);
            let context = (
                at.checked_sub(1).map_or("", |before| theirs[before]),
                theirs.get(at + 1).copied().unwrap_or(""),
            );
            match (kind(their, context), kind(our, context)) {
                (Some(kind), Some(same)) if kind == same => self.bind(kind, their, our)?,
                _ if their == our => {}
                _ => return Err(format!("`{our}`, not `{their}`")),
            }
        }
        Ok(())
    }

    fn bind(&mut self, kind: Kind, theirs: &str, ours: &str) -> Result<(), String> {
        let prefix = match kind {
            Kind::Time | Kind::Count => return Ok(()),
            Kind::Port => ":",
            Kind::Id => "",
        };
        let ours = format!("{prefix}{ours}");
        match self.0.insert(format!("{prefix}{theirs}"), ours.clone()) {
            Some(before) if before != ours => Err(format!(
                "`{ours}`, but what the README calls `{theirs}` was `{before}`"
            )),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Port,
    Time,
    Count,
}

/// Words, and within a URL or JSON its parts; blanks do not count, since columns are as wide as what
/// is in them.
fn pieces(line: &str) -> Vec<&str> {
    line.split_whitespace()
        .flat_map(|word| {
            if kind(word, ("", "")).is_some() {
                return vec![word];
            }
            // A time with a colon behind it.
            if let Some(time) = word.strip_suffix(':')
                && kind(time, ("", "")).is_some()
            {
                return vec![time, ":"];
            }
            word.split_inclusive(|c: char| "\"(),:;/".contains(c))
                .flat_map(|part| match part.char_indices().last() {
                    Some((end, c)) if "\"(),:;/".contains(c) => {
                        vec![&part[..end], &part[end..]]
                    }
                    _ => vec![part],
                })
                .filter(|part| !part.is_empty())
                .collect()
        })
        .collect()
}

/// What may differ, and how far its value is one. `context`: the pieces before and after.
fn kind(piece: &str, (before, after): (&str, &str)) -> Option<Kind> {
    let hex = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let digits = !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_digit());
    let is_time = piece.len() >= 20
        && piece.ends_with('Z')
        && piece.as_bytes()[10] == b'T'
        && piece[..4].bytes().all(|b| b.is_ascii_digit());
    let is_uuid =
        piece.len() == 36 && hex(&piece.replace('-', "")) && piece.matches('-').count() == 4;
    let is_key = piece.len() == 44 && piece.ends_with('=');
    let is_cut = piece.len() == 19 && piece.ends_with('…') && hex(&piece[..16]);
    match () {
        () if is_time || piece.starts_with("kts_bak_") => Some(Kind::Time),
        () if is_uuid || is_key || is_cut => Some(Kind::Id),
        () if piece.starts_with("age1") && piece.len() == 62 => Some(Kind::Id),
        () if matches!(piece.len(), 24 | 64) && hex(piece) && !digits => Some(Kind::Id),
        () if digits && before == ":" && (3..=5).contains(&piece.len()) => Some(Kind::Port),
        () if digits
            && (matches!(after, "bytes" | "MiB" | "age")
                || matches!(before, "revision" | "process")) =>
        {
            Some(Kind::Count)
        }
        () => None,
    }
}

#[test]
fn a_difference_in_the_tour_is_found() {
    let compare = |bound: &mut Bound, theirs: &str, ours: &str| {
        bound.compare(&[theirs.to_owned()], &[ours.to_owned()])
    };
    let (a, b) = ("ab".repeat(32), "cd".repeat(32));
    let mut bound = Bound::default();
    let line = |fingerprint: &str, port: u16| format!("at  https://h:{port}/v1 {fingerprint}");
    compare(&mut bound, &line(&a, 11371), &line(&b, 4000)).unwrap();
    compare(&mut bound, &line(&a, 11371), &line(&b, 4001)).unwrap_err();
    compare(&mut bound, &line(&a, 11371), &line(&a, 4000)).unwrap_err();
    assert_eq!(bound.ours(&line(&a, 11371)), line(&b, 4000));
    compare(&mut bound, "state active", "state  active").unwrap();
    compare(&mut bound, "state active", "state pending").unwrap_err();
    compare(&mut bound, "clients 1", "clients 2").unwrap_err();
    compare(&mut bound, "3 bytes", "4 bytes").unwrap();
    compare(&mut bound, "201", "200").unwrap_err();
    assert!(bound.compare(&["x".to_owned()], &[]).is_err());
}

/// A free port that nobody else is given meanwhile: below those that the system hands out.
fn lasting_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id();
        let port = u16::try_from(20_000 + number % 10_000).unwrap();
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
