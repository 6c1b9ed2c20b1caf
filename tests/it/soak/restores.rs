//! Restores that are killed at any moment: what is there then is what was there before or what the backup
//! brings, deposit by deposit, and the next restore comes to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::backups::{kills, of_restores};
use super::run::{options, planted};
use crate::harness::{Client, Dice, Server, run, seed, strace};
use crate::restore::cut_off::{There, again, found, whole};

/// The moments at which it is killed.
const CALLS: [&str; 13] = [
    "fdatasync",
    "fsync",
    "ftruncate",
    "mkdir",
    "openat",
    "pwrite64",
    "read",
    "rename",
    "renameat2",
    "rmdir",
    "unlink",
    "unlinkat",
    "write",
];
const NAMES: [&str; 4] = ["changed", "later", "removed", "same"];

type Deposits = BTreeMap<&'static str, Vec<u8>>;

#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
    kills: u64,
    /// What was there afterwards.
    old: u64,
    new: u64,
}

impl Outcome {
    fn counts(&self) -> Value {
        json!({ "kill_9": self.kills, "old_after": self.old, "new_after": self.new })
    }
}

/// A stopped server whose backup is older than what it holds.
struct Yard {
    server: Server,
    client: Client,
    file: PathBuf,
    base: PathBuf,
    before: Deposits,
    after: Deposits,
}

/// What is there now, deposit by deposit.
fn deposits(client: &Client) -> Deposits {
    let mut wire = client.wire();
    let mut all = Deposits::new();
    for name in NAMES {
        let answer = wire.get(&format!("/v1/deposits/{name}"));
        match answer.status {
            200 => drop(all.insert(name, answer.body)),
            status => assert_eq!(status, 404, "{name}"),
        }
    }
    all
}

impl Yard {
    fn new(defect: Option<&str>) -> Self {
        let mut server = Server::start(options(defect));
        let client = server.client("one", "acme");
        let mut dice = Dice::new(seed());
        let mut put = |name: &str, bytes: usize| {
            let path = format!("/v1/deposits/{name}");
            let answer = client
                .wire()
                .request("PUT", &path, &[], Some(&dice.bytes(bytes)));
            assert!([200, 201].contains(&answer.status), "{answer:?}");
        };
        for (name, bytes) in [("same", 300_000), ("changed", 70_000), ("removed", 500)] {
            put(name, bytes);
        }
        let taken = server.cli(&["backup", "create", "--cleartext", "--output", "out"]);
        let file = PathBuf::from(taken.ok().text().trim());
        let after = deposits(&client);
        put("changed", 80_000);
        put("later", 900);
        client
            .wire()
            .request("DELETE", "/v1/deposits/removed", &[], None)
            .ok(200);
        let before = deposits(&client);
        assert!(before.len() == 3 && after.len() == 3 && before != after);
        server.stop();
        let base = server.path("base");
        run(Command::new("cp").arg("-a").arg(&server.data).arg(&base)).ok();
        Self {
            server,
            client,
            file,
            base,
            before,
            after,
        }
    }

    /// Serves what is there and reads it.
    fn content(&mut self) -> Result<There, String> {
        self.server.serve();
        self.client.server.clone_from(&self.server.client_url);
        let there = deposits(&self.client);
        self.server.cli(&["audit", "verify"]).ok();
        self.server.stop();
        match there {
            it if it == self.before => Ok(There::Old),
            it if it == self.after => Ok(There::New),
            it => Err(format!("a mixture of old and new: {:?}", it.keys())),
        }
    }

    /// What is there after a kill, by its files and by what is served.
    fn look(&mut self) -> Result<There, String> {
        let there = found(&self.server)?;
        let content = self.content()?;
        match there == content {
            true => Ok(there),
            false => Err(format!("{content:?} is served, and {there:?} lies there")),
        }
    }

    /// Another try comes to its end.
    fn again(&mut self) -> Result<(), String> {
        let done = run(&mut whole(&self.server, &self.file));
        if done.status != 0 {
            return Err(format!("the next restore failed: {done:?}"));
        }
        match self.look()? {
            There::New => Ok(()),
            other => Err(format!("{other:?} is there after the next restore")),
        }
    }
}

fn soak(kills: u64, defect: Option<&str>) -> Outcome {
    let mut yard = Yard::new(defect);
    let mut command = whole(&yard.server, &yard.file);
    command.envs(defect.map(planted));
    let log = yard.server.path("trace");
    let moments = strace::counted(&command, &CALLS, &log);
    let mut dice = Dice::new(seed());
    let mut out = Outcome::default();
    while out.kills < kills && out.failures.is_empty() {
        again(&yard.server, &yard.base);
        let (call, times) = &moments[dice.index(moments.len())];
        // What follows the exchange is short: each third kill is among the last calls of its kind.
        let step = match out.kills % 3 {
            2 => times - dice.index(3.min(*times)),
            _ => 1 + dice.index(*times),
        };
        let killed = strace::killed_at(&command, call, step);
        out.kills += u64::from(killed.status == -1);
        let looked = yard.look().and_then(|there| {
            match there {
                There::New => out.new += u64::from(killed.status == -1),
                There::Old if killed.status == -1 => out.old += 1,
                other => return Err(format!("{other:?} is there: {killed:?}")),
            }
            yard.again()
        });
        if let Err(what) = looked {
            out.failures.push(format!("{call} {step}: {what}"));
        }
    }
    out
}

/// What no planted defect leaves.
#[test]
fn a_mixture_of_old_and_new_is_noticed() {
    let mut yard = Yard::new(None);
    assert_eq!(yard.look(), Ok(There::Old));
    yard.again().unwrap();
    yard.server.serve();
    yard.client.server.clone_from(&yard.server.client_url);
    let gone = yard
        .client
        .wire()
        .request("DELETE", "/v1/deposits/removed", &[], None);
    gone.ok(200);
    yard.server.stop();
    let mixed = yard.look().unwrap_err();
    assert!(mixed.contains("a mixture"), "{mixed}");
}

#[test]
fn a_restore_that_is_killed_mixes_nothing() {
    let out = soak(of_restores(kills()), None);
    println!("{}", out.counts());
    assert!(out.failures.is_empty(), "{:?}", out.failures);
    let both = out.old > 0 && out.new > 0;
    assert!(both || out.kills < 60, "each kill left the same");
    super::found("restores_killed", out.counts());
}

#[test]
fn the_soak_catches_a_restore_that_swaps_before_it_checks() {
    let out = soak(40, Some("swap-before-check"));
    assert!(!out.failures.is_empty(), "after {} kills", out.kills);
    let caught = json!({ "caught_after_kills": out.kills, "first": out.failures[0] });
    println!("{caught}");
    super::found("planted_swap_before_check", caught);
}
