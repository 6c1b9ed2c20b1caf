//! Old events leave the store for signed, encrypted files; what stays, and what left, verifies.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::wire::Connection;
use crate::harness::{Dice, Options, Output, Server, run, seed, store, until};
use crate::tampering::{verify_by_script, verify_export};

const WAIT: Duration = Duration::from_secs(60);
/// As long as a reason may be, so that few events fill a MiB.
const LONG: usize = 250;

/// Changes and fetches whose events are long.
fn talk(wire: &mut Connection, from: u32, to: u32) {
    let reason = "r".repeat(LONG);
    let headers = [("strongroom-reason", reason.as_str())];
    for n in from..to {
        let path = format!("/v1/deposits/key-{}", n % 16);
        let status = wire.request("PUT", &path, &headers, Some(b"x")).status;
        assert!(matches!(status, 200 | 201), "{status}");
        wire.request("GET", &path, &headers, None).ok(200);
    }
}

fn segments(server: &Server) -> Vec<Value> {
    let listed = server.json(&["audit", "segments"]);
    listed["segments"].as_array().unwrap().clone()
}

fn of_chain(server: &Server, chain: &str) -> Vec<Value> {
    let mut found = segments(server);
    found.retain(|segment| segment["chain"] == chain);
    found
}

fn keep(server: &Server, name: &str, value: &str) {
    server.cli(&["setting", "set", name, value]).ok();
}

fn verified(server: &Server) -> Vec<Value> {
    let found = server.json(&["audit", "verify"]);
    let chains = found["chains"].as_array().unwrap().clone();
    for chain in &chains {
        assert_eq!(chain["fault"], Value::Null, "{found}");
        let proven = chain["proven_to"].as_u64() > Some(0);
        assert!(!proven || chain["checkpoint_time"].is_string(), "{found}");
    }
    chains
}

/// Nothing more leaves; all that did.
fn settled(server: &Server) -> Vec<Value> {
    keep(server, "audit.keep_mib", "10240");
    // Waits for what leaves just now.
    verified(server);
    segments(server)
}

fn export(server: &Server, args: &[&str]) -> Vec<String> {
    let all = [&["audit", "export"], args].concat();
    let text = server.cli(&all).ok().text();
    text.lines().map(str::to_owned).collect()
}

fn left(server: &Server, file: &str) -> Output {
    server.cli(&["audit", "export", "--segment", file])
}

/// The recovery slot's identity, and a server that has such a slot.
fn with_recovery() -> Server {
    let server = Server::start(Options::default());
    let identity = server.path("recovery");
    run(Command::new("age-keygen").arg("-o").arg(&identity)).ok();
    let recipient = run(Command::new("age-keygen").arg("-y").arg(&identity)).ok();
    let recipient = recipient.text();
    let key = server.path("key").display().to_string();
    let add = ["slot", "add", "recovery", "--label", "safe", "--recipient"];
    let args = [&add[..], &[recipient.trim(), "--key-file", &key]].concat();
    server.cli(&args).ok();
    server
}

#[test]
fn events_beyond_the_space_leave_and_stay_provable() {
    let mut server = with_recovery();
    let client = server.client("a", "acme");
    talk(&mut client.wire(), 0, 20);
    // What an auditor noted before anything left.
    let before = export(&server, &[]);
    let noted = server.file("noted.json", before.last().unwrap());
    let against = ["--against", noted.to_str().unwrap()];
    talk(&mut client.wire(), 20, 1_200);
    assert!(segments(&server).is_empty());
    keep(&server, "audit.keep_mib", "1");
    // The larger chain's oldest leave first.
    let mut told = 1_200;
    until(WAIT, || {
        talk(&mut client.wire(), told, told + 200);
        told += 200;
        keep(&server, "audit.keep_mib", "1");
        !of_chain(&server, "changes").is_empty() && !of_chain(&server, "access").is_empty()
    });
    let listed = settled(&server);

    // Each event is in a segment or here, once.
    for chain in verified(&server) {
        let name = chain["chain"].as_str().unwrap();
        let first = chain["first"].as_u64().unwrap();
        let ends: Vec<u64> = of_chain(&server, name)
            .iter()
            .flat_map(|it| [it["first"].as_u64().unwrap(), it["last"].as_u64().unwrap()])
            .collect();
        assert_eq!(ends[0], 1);
        assert_eq!(*ends.last().unwrap(), first - 1);
        for pair in ends[1..ends.len() - 1].chunks(2) {
            assert_eq!(pair[0] + 1, pair[1]);
        }
        // A list ends where the chain begins.
        let filter = format!("chain = {name}");
        let shown = server.json(&["audit", "list", "-F", &filter, "--limit", "100000"]);
        let items = shown["items"].as_array().unwrap();
        assert_eq!(items.last().unwrap()["number"], first, "{name}");
        assert!(shown["next"].is_null(), "{name}: there is nothing more");
    }
    let events = "action = audit.segment";
    let events = server.json(&["audit", "list", "-F", events, "--limit", "1000"]);
    let entered = events["items"].as_array().unwrap();
    assert!(!entered.is_empty());
    for event in entered {
        let file = event["object"]["name"].as_str().map_or("", |it| it);
        let id = event["object"]["id"].as_str().unwrap();
        let named = |it: &&Value| it["file"] == file || it["file"] == id;
        let segment = listed.iter().find(named).unwrap();
        let detail = event["detail"].as_str().unwrap();
        assert!(detail.contains(segment["sha256"].as_str().unwrap()));
    }

    // An export of what is here holds, against what was noted as well.
    let now = export(&server, &[]);
    verify_export(&server, &now, &against).ok();
    verify_by_script(&server, &now).ok();

    // Each segment holds by itself, and the first against what was noted.
    for segment in &listed {
        let file = segment["file"].as_str().unwrap();
        let lines = export(&server, &["--segment", file]);
        let report = verify_export(&server, &lines, &against).ok().json();
        let chain = &report["chains"][0];
        assert_eq!(chain["chain"], segment["chain"]);
        assert_eq!(chain["first"], segment["first"]);
        assert_eq!(chain["proven_to"], segment["last"], "{report}");
        verify_by_script(&server, &lines).ok();
        // One line less, and it is found.
        let mut cut = lines.clone();
        cut.remove(lines.len() / 2);
        verify_export(&server, &cut, &[]).fails(1);
        // Whoever has the recovery slot's identity needs no server.
        let path = server.data.join("audit").join(file);
        let script = "set -o pipefail; age --decrypt --identity \"$1\" \"$2\" | gunzip";
        let mut alone = Command::new("bash");
        alone.args(["-c", script, "-"]);
        alone.arg(server.path("recovery")).arg(&path);
        assert_eq!(
            run(&mut alone).ok().text().lines().collect::<Vec<_>>(),
            lines
        );
    }
    let names = |server: &Server| {
        let folder = fs::read_dir(server.data.join("audit")).unwrap();
        folder.count()
    };
    assert_eq!(
        names(&server),
        listed.len(),
        "nothing unfinished lies about"
    );

    // Whoever followed the changes is told that he missed some.
    client
        .wire()
        .request(
            "GET",
            "/v1/watch/deposits?wait=1",
            &[("last-event-id", "1")],
            None,
        )
        .refused(409, "changes_left");

    // The next start finds all of it.
    server.restart();
    verified(&server);
    server.stop();
    server.cli(&["doctor"]).ok();
    server.serve();
    missing_or_damaged(&server, &listed);
    what_is_done_underneath(&mut server);
    let client = client.at(&server);
    talk(&mut client.wire(), 0, 600);
    what_does_not_hold_stays(&mut server);
}

fn missing_or_damaged(server: &Server, listed: &[Value]) {
    let file = listed[0]["file"].as_str().unwrap();
    let path = server.data.join("audit").join(file);
    let bytes = fs::read(&path).unwrap();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&path, other).unwrap();
    left(server, file).fails(1).says(&[file, "not what it was"]);
    fs::remove_file(&path).unwrap();
    left(server, file).fails(4).says(&[file, "age --decrypt"]);
    assert_eq!(segments(server)[0]["here"], false);
    fs::write(&path, bytes).unwrap();
    left(server, file).ok();
    left(server, "../live/seal.json").fails(4);
    left(server, "").fails(4);
}

/// What was done to the store while it was stopped is found.
fn what_is_done_underneath(server: &mut Server) {
    let mut spoiled = |file: &str, sql: &str, back: &str, says: &str| {
        server.stop();
        let db = store::open(server, file);
        db.execute_batch("CREATE TABLE kept AS SELECT * FROM audit_segments")
            .unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        server.serve();
        server.cli(&["audit", "verify"]).fails(1).says(&[says]);
        server.stop();
        let db = store::open(server, file);
        db.execute_batch("DELETE FROM audit_segments; INSERT INTO audit_segments SELECT * FROM kept; DROP TABLE kept;")
            .unwrap();
        db.execute_batch(back).unwrap();
        drop(db);
        server.serve();
        verified(server);
    };
    for file in ["strongroom.db", "access.db"] {
        let forget = "DELETE FROM audit_segments";
        spoiled(file, forget, "", "removed");
        let first = "DELETE FROM audit_segments WHERE first = 1";
        spoiled(file, first, "", "the audit does not hold");
        let signature = "UPDATE audit_segments SET signature = zeroblob(64)";
        spoiled(file, signature, "", "checkpoint");
        let further = "UPDATE audit_segments SET last = last + 1 WHERE first = (SELECT max(first) FROM audit_segments)";
        spoiled(file, further, "", "checkpoint");
    }
}

/// What was changed is not signed anew, nor deleted.
fn what_does_not_hold_stays(server: &mut Server) {
    let before = of_chain(server, "changes").len();
    server.stop();
    let flipped = "substr(body, 1, 100) || char(64) || substr(body, 102)";
    let first = "WHERE number = (SELECT min(number) + 1 FROM events)";
    let sql = format!("UPDATE events SET body = CAST({flipped} AS BLOB) {first}");
    store::open(server, "strongroom.db")
        .execute(&sql, ())
        .unwrap();
    server.serve();
    keep(server, "audit.keep_mib", "1");
    let mut health = String::new();
    until(WAIT, || {
        health = server.health("/healthz").text();
        health.contains("old events cannot leave the store")
    });
    assert!(health.contains("was changed"), "{health}");
    server.cli(&["audit", "verify"]).fails(1).says(&["changed"]);
    assert_eq!(of_chain(server, "changes").len(), before);
}

#[test]
fn events_of_past_days_leave_when_their_time_is_over() {
    let server = Server::start(Options::stepped());
    let client = server.client("a", "acme");
    talk(&mut client.wire(), 0, 5);
    keep(&server, "audit.keep_days", "30");
    verified(&server);
    server.clock("+29d");
    keep(&server, "audit.keep_days", "30");
    talk(&mut client.wire(), 5, 6);
    assert!(segments(&server).is_empty());
    server.clock("+32d");
    keep(&server, "audit.keep_days", "30");
    until(WAIT, || {
        !of_chain(&server, "changes").is_empty() && !of_chain(&server, "access").is_empty()
    });
    for chain in verified(&server) {
        assert!(chain["first"].as_u64() > Some(1), "{chain}");
    }
    // What happened later is here.
    let shown = server.json(&["audit", "list", "-F", "action = deposit.put"]);
    assert_eq!(shown["items"].as_array().unwrap().len(), 1);
    let asked: Vec<(&str, &str)> = vec![
        ("audit.keep_days", "0"),
        ("audit.keep_days", "36501"),
        ("audit.keep_mib", "0"),
        ("audit.keep_mib", "9223372036854775808"),
        ("audit.keep_days", "-1"),
    ];
    for (name, value) in asked {
        let args = ["setting", "set", "--", name, value];
        server.cli(&args).fails(2).says(&[name]);
    }
}

#[test]
fn what_leaves_survives_kill_9() {
    let mut server = Server::start(Options::default());
    let mut client = server.client("a", "acme");
    keep(&server, "audit.keep_mib", "1");
    let mut dice = Dice::new(seed());
    let mut told = 0;
    for _ in 0..6 {
        talk(&mut client.wire(), told, told + 400);
        told += 400;
        keep(&server, "audit.keep_mib", "1");
        // Somewhere while it writes, enters or deletes.
        for _ in 0..dice.below(60) {
            server.health("/healthz");
        }
        server.kill9();
        server.serve();
        client = client.at(&server);
    }
    settled(&server);
    let unfinished = server.data.join("audit/unfinished");
    until(WAIT, || !unfinished.exists());
    let chains = verified(&server);
    let puts = "action = deposit.put";
    let mut found = 0;
    for segment in of_chain(&server, "changes") {
        let file = segment["file"].as_str().unwrap().to_owned();
        let lines = export(&server, &["--segment", &file]);
        verify_export(&server, &lines, &[]).ok();
        found += lines
            .iter()
            .filter(|it| it.contains("\"deposit.put\""))
            .count();
    }
    let here = server.json(&["audit", "list", "-F", puts, "--limit", "100000"]);
    found += here["items"].as_array().unwrap().len();
    assert_eq!(found, told as usize, "{chains:?}");
}
