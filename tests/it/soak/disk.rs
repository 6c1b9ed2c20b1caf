//! The disk that is full.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::faults::{config_of, strace, trace_of};
use super::found;
use super::ledger::{body, tag_of};
use super::run::options;
use super::trace;
use crate::harness::disk::SmallDisk;
use crate::harness::wire::Connection;
use crate::harness::{Answer, PATIENCE, Server, run, until, until_some};

const FILLER_MIB: u64 = 24;

/// Stores new deposits one after the other.
struct Store {
    connection: Connection,
    writer: u64,
    next: u64,
    acknowledged: Vec<u64>,
    refused: Vec<String>,
}

impl Store {
    fn new(server: &Server, config: &Arc<rustls::ClientConfig>, writer: u64) -> Self {
        Self {
            connection: Connection::with_config(&server.client_url, Arc::clone(config)),
            writer,
            next: 0,
            acknowledged: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn put(&mut self, length: usize) -> Answer {
        let number = self.next;
        self.next += 1;
        let tag = self.tag(number);
        let path = format!("/v1/deposits/d{}-{number}", self.writer);
        let answer = self
            .connection
            .request("PUT", &path, &[], Some(&body(tag, length)));
        match answer.status {
            201 => self.acknowledged.push(number),
            503 => self.refused.push(answer.code()),
            _ => panic!("{answer:?}"),
        }
        answer
    }

    fn tag(&self, number: u64) -> u64 {
        (self.writer + 1) << 32 | number
    }

    /// All that was acknowledged comes back; what was refused is not there.
    fn check(&mut self) {
        for number in 0..self.next {
            let path = format!("/v1/deposits/d{}-{number}", self.writer);
            let answer = self.connection.get(&path);
            if self.acknowledged.contains(&number) {
                assert_eq!(tag_of(&answer.ok(200).body), Ok(self.tag(number)), "{path}");
            } else {
                answer.refused(404, "not_found");
            }
        }
    }
}

fn health_of(server: &Server, subsystem: &str) -> String {
    let health = server.health("/healthz").json();
    let all = health["subsystems"].as_array().cloned().unwrap_or_default();
    all.iter()
        .find(|it| it["name"] == subsystem)
        .and_then(|it| it["state"].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Ends the server, looks at every page and reference of its files, and starts it again.
fn sound_after_restart(server: &mut Server, disk: Option<&SmallDisk>) {
    server.stop();
    let mut doctor = if disk.is_some() {
        let mut command = Command::new(&server.options.wrapper[0]);
        command.args(&server.options.wrapper[1..]);
        command.arg(&server.options.binary);
        command
    } else {
        server.options.wrapper.clear();
        server.command()
    };
    doctor
        .args(["doctor", "--data-dir"])
        .arg(&server.data)
        .arg("--key-file")
        .arg(server.path("key"));
    let found = run(&mut doctor);
    assert!(
        found.text().contains("every page and index holds"),
        "{found:?}"
    );
    server.serve();
}

#[test]
fn writing_stops_at_the_reserve_and_goes_on_when_there_is_room() {
    let mut server = Server::start(options(None));
    let client = server.client("a", "acme");
    let config = config_of(&client, &server.ca());
    server.stop();
    let disk = SmallDisk::under(&mut server);
    disk.fill(FILLER_MIB << 20);
    server.serve();
    let mut store = Store::new(&server, &config, 0);
    let refused = until_some(PATIENCE, || {
        Some(store.put(500_000)).filter(|it| it.status == 503)
    });
    assert_eq!(refused.code(), "disk_nearly_full");
    assert!(
        refused.message().contains("256 MiB are needed"),
        "{refused:?}"
    );
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(
        store.acknowledged.len() > 10,
        "{}",
        store.acknowledged.len()
    );
    assert!(disk.free() > 200 << 20, "{} bytes are left", disk.free());
    store.check();
    until(PATIENCE, || health_of(&server, "disk") == "amber");

    // A restart on a full disk serves what is there.
    server.kill9();
    disk.give_back();
    // The log's space comes back at the start.
    disk.fill(disk.free() - (150 << 20));
    server.serve();
    store.connection = Connection::with_config(&server.client_url, Arc::clone(&config));
    store.check();
    store.put(1_000).refused(503, "disk_nearly_full");

    disk.give_back();
    until(PATIENCE, || store.put(1_000).status == 201);
    until(PATIENCE, || health_of(&server, "disk") == "green");
    store.check();
    sound_after_restart(&mut server, Some(&disk));
    store.connection = Connection::with_config(&server.client_url, config);
    store.check();
    found(
        "disk_reserve",
        json!({ "acknowledged": store.acknowledged.len(), "refused": store.refused.len() }),
    );
}

/// Four writers write, and then somebody else takes all that is left.
fn write_while_it_fills(disk: &SmallDisk, stores: &mut [Store]) {
    let full = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for store in stores {
            scope.spawn(|| {
                // Until long after the disk is full.
                let mut last = 0;
                while last < 20 {
                    let answer = store.put(300_000);
                    if full.load(Ordering::SeqCst) {
                        last += 1;
                    } else if answer.status == 503 {
                        break;
                    }
                }
            });
        }
        let begun = Instant::now();
        until(PATIENCE, || begun.elapsed() > Duration::from_millis(700));
        disk.fill(u64::MAX);
        full.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_disk_filled_by_others_loses_nothing_acknowledged() {
    let mut server = Server::start(options(None));
    let client = server.client("a", "acme");
    let config = config_of(&client, &server.ca());
    server.stop();
    let disk = SmallDisk::under(&mut server);
    server.serve();
    let mut stores: Vec<Store> = (0..4)
        .map(|writer| Store::new(&server, &config, writer))
        .collect();
    write_while_it_fills(&disk, &mut stores);
    let store = &mut stores[0];
    store.put(1_000);
    assert!(!store.refused.is_empty(), "nothing was refused");
    assert!(
        store
            .refused
            .iter()
            .all(|code| code == "disk_full" || code == "disk_nearly_full"),
        "{:?}",
        store.refused
    );
    // What needs no entry in the audit is read; no secret leaves without its entry.
    store.connection.get("/v1/deposits/d0-0/metadata").ok(200);
    store.connection.get("/v1/deposits").ok(200);
    until(PATIENCE, || {
        let stopped = store.connection.get("/v1/deposits/d0-0").status == 503;
        // What the store's own log gives back is room, too. What the reserve gives is the audit's.
        if !stopped && disk.data.join("run/ballast").exists() {
            disk.fill(u64::MAX);
        }
        stopped
    });
    store
        .connection
        .get("/v1/deposits/d0-0")
        .refused(503, "audit_unavailable");
    until(PATIENCE, || health_of(&server, "audit") == "red");

    disk.give_back();
    until(PATIENCE, || {
        store.connection.get("/v1/deposits/d0-0").status == 200
    });
    until(PATIENCE, || store.put(300_000).status == 201);
    // The reserve comes back where there is room for it beside what is needed for writing.
    until(PATIENCE, || health_of(&server, "audit") != "red");
    assert!(server.is_running());
    println!(
        "{} acknowledged; refused: {:?}",
        stores.iter().map(|it| it.acknowledged.len()).sum::<usize>(),
        stores
            .iter()
            .flat_map(|it| &it.refused)
            .collect::<std::collections::BTreeSet<_>>()
    );
    for store in &mut stores {
        store.check();
    }
    sound_after_restart(&mut server, Some(&disk));
    for store in &mut stores {
        store.connection = Connection::with_config(&server.client_url, Arc::clone(&config));
        store.check();
    }
    let acknowledged: usize = stores.iter().map(|it| it.acknowledged.len()).sum();
    let refused: usize = stores.iter().map(|it| it.refused.len()).sum();
    found(
        "disk_filled_by_others",
        json!({ "acknowledged": acknowledged, "refused": refused }),
    );
}

#[test]
fn a_commit_without_room_is_refused_and_the_next_one_holds() {
    let mut server = Server::start(options(None));
    let client = server.client("a", "acme");
    let config = config_of(&client, &server.ca());
    server.stop();
    let log = server.data.join("live/strongroom.db-wal");
    let inject = "inject=pwrite64:error=ENOSPC:when=400..1900+150";
    server.options.wrapper = strace(
        &server,
        &[
            "-P",
            log.to_str().unwrap(),
            "-e",
            "trace=pwrite64",
            "-e",
            inject,
        ],
    );
    server.serve();
    let mut store = Store::new(&server, &config, 0);
    for number in 0..80 {
        store.put(if number % 8 == 0 { 280_000 } else { 2_000 });
    }
    assert!(
        trace::injected(&trace_of(&server)).is_some(),
        "no write was made to fail"
    );
    assert!(
        store.refused.iter().all(|code| code == "disk_full"),
        "{:?}",
        store.refused
    );
    let (stored, refused) = (store.acknowledged.len(), store.refused.len());
    println!("{stored} acknowledged, {refused} refused");
    assert!(stored > 20 && refused > 3, "{stored} {refused}");
    store.check();
    server.cli(&["audit", "verify"]).ok();
    sound_after_restart(&mut server, None);
    store.connection = Connection::with_config(&server.client_url, config);
    store.check();
    found(
        "commit_without_room",
        json!({ "acknowledged": stored, "refused": refused }),
    );
}
