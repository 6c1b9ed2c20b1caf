//! Keys made anew under load, and the server killed meanwhile: nothing is unreadable at any time, and
//! in the end nothing lies under the older keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::faults::config_of;
use super::run::options;
use crate::harness::wire::Connection;
use crate::harness::{Dice, PATIENCE, Server, long, seed, store, until};

const DEPOSITS: u64 = 300;

/// Every third one is long enough to lie in parts; each has two versions, and one is in the bin.
fn content(number: u64, version: u64) -> Vec<u8> {
    let length = if number % 30 == 3 { 300_000 } else { 100 };
    Dice::new(number * 10 + version).bytes(length)
}

fn fill(connection: &mut Connection) {
    for version in 1..=2 {
        for number in 0..DEPOSITS {
            let path = format!("/v1/deposits/d{number:03}");
            let answer = connection.request("PUT", &path, &[], Some(&content(number, version)));
            assert!([200, 201].contains(&answer.status), "{}", answer.text());
        }
    }
    connection
        .request("DELETE", "/v1/deposits/d007", &[], None)
        .ok(200);
    for number in [8, 9] {
        connection
            .request(
                "PUT",
                "/v1/deposits/d008",
                &[],
                Some(&content(8, 3 + number)),
            )
            .ok(200);
    }
}

/// Reads a version and compares it; false if the connection is gone.
fn reads(connection: &mut Connection, number: u64, version: u64) -> bool {
    let path = format!("/v1/deposits/d{number:03}?version={version}");
    match connection.try_request("GET", &path, &[], None) {
        Ok(answer) => {
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert!(
                answer.body == content(number, version),
                "{path} came back changed"
            );
            true
        }
        Err(_) => false,
    }
}

#[test]
fn a_rotation_under_load_that_is_killed_leaves_nothing_unreadable() {
    let kills = if long("soak") { 100 } else { 4 };
    let mut server = Server::start(options(None));
    let mut client = server.client("a", "acme");
    fill(&mut client.wire());
    let mut dice = Dice::new(seed());
    let (read, written) = (AtomicU64::new(0), AtomicU64::new(0));
    // What each of the deposits that are stored meanwhile may hold: what was acknowledged last, or what
    // was on its way when the server was killed.
    let latest: Mutex<BTreeMap<String, Vec<u64>>> = Mutex::default();
    let mut inside = 0;
    let mut newest = 1;
    for kill in 0..kills {
        newest = server.json(&["org", "rotate-key", "acme"])["version"]
            .as_u64()
            .unwrap();
        // Now and then the root key, too.
        if kill % 5 == 1 {
            let (passphrase, key) = (server.path("passphrase"), server.path("key"));
            server
                .cli(&[
                    "root",
                    "rotate",
                    "--yes",
                    "--passphrase-file",
                    passphrase.to_str().unwrap(),
                    "--key-file",
                    key.to_str().unwrap(),
                ])
                .ok();
        }
        let config = config_of(&client, &server.ca());
        let stop = AtomicBool::new(false);
        let after = read.load(Ordering::Relaxed) + 1 + dice.below(200);
        let (url, first) = (server.client_url.clone(), dice.next());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice::new(first);
                let Ok(mut connection) = Connection::try_with_config(&url, Arc::clone(&config))
                else {
                    return;
                };
                while !stop.load(Ordering::Relaxed) {
                    let number = [dice.below(7), 10 + dice.below(DEPOSITS - 10)]
                        [usize::from(dice.below(9) > 0)];
                    if !reads(&mut connection, number, 1 + dice.below(2)) {
                        return;
                    }
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                let Ok(mut connection) = Connection::try_with_config(&url, Arc::clone(&config))
                else {
                    return;
                };
                while !stop.load(Ordering::Relaxed) {
                    let number = written.load(Ordering::Relaxed);
                    let name = format!("new{}", number % 50);
                    let mut held = latest.lock().unwrap();
                    held.entry(name.clone()).or_default().push(number);
                    drop(held);
                    let path = format!("/v1/deposits/{name}");
                    match connection.try_request("PUT", &path, &[], Some(&content(number, 1))) {
                        Ok(answer) if [200, 201].contains(&answer.status) => {
                            latest.lock().unwrap().insert(name, vec![number]);
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => panic!("{}", answer.text()),
                        Err(_) => {
                            written.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    };
                }
            });
            until(PATIENCE, || read.load(Ordering::Relaxed) >= after);
            stop.store(kill % 3 == 2, Ordering::Relaxed);
            server.kill9();
            stop.store(true, Ordering::Relaxed);
        });
        server.serve();
        client = client.at(&server);
        inside += u32::from(!server.json(&["org", "key", "acme"])["rotation"].is_null());
    }
    assert!(inside > 0, "no kill fell into a rotation");
    // It ends by itself, and the older keys are gone.
    until(PATIENCE * 3, || {
        server.json(&["org", "key", "acme"])["rotation"].is_null()
    });
    assert_eq!(
        server.json(&["org", "key", "acme"])["version"].as_u64(),
        Some(newest)
    );
    let mut connection = client.wire();
    for number in (0..DEPOSITS).filter(|number| *number != 7) {
        for version in 1..=2 {
            assert!(reads(&mut connection, number, version));
        }
    }
    connection
        .request("POST", "/v1/deposits/d007/undelete", &[], None)
        .ok(200);
    assert!(reads(&mut connection, 7, 2));
    for (version, number) in [(3, 8), (4, 9)] {
        let answer = connection.get(&format!("/v1/deposits/d008?version={version}"));
        assert!(answer.body == content(8, 3 + number), "version {version}");
    }
    for (name, numbers) in latest.into_inner().unwrap() {
        let answer = connection.get(&format!("/v1/deposits/{name}"));
        match answer.status {
            200 => assert!(
                numbers.iter().any(|it| answer.body == content(*it, 1)),
                "{name}"
            ),
            status => assert!(status == 404 && numbers.len() == 1, "{name}: {status}"),
        }
    }
    server.cli(&["audit", "verify"]).ok();
    server.stop();
    let db = store::open(&server, "strongroom.db");
    let keys: Vec<i64> = db
        .prepare("SELECT version FROM org_keys")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(keys, [i64::try_from(newest).unwrap()]);
    let under_others: i64 = db
        .query_row(
            "SELECT count(*) FROM deposit_versions WHERE substr(body, 7, 4) <> ?1",
            [u32::try_from(newest).unwrap().to_be_bytes()],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(under_others, 0);
    drop(db);
    server
        .cli(&["doctor", "--key-file", server.path("key").to_str().unwrap()])
        .ok();
    let counts = json!({ "kill_9": kills, "inside_a_rotation": inside, "reads": read.into_inner(), "puts": written.into_inner(), "unreadable": 0 });
    println!("{counts}");
    super::found("rotation_killed", counts);
}

/// One row that its disk spoiled must not keep all others, or other organizations, from a newer key.
#[test]
fn what_does_not_open_is_told_and_keeps_the_older_key_alone() {
    let mut server = Server::start(options(None));
    let mut clients = ["acme", "other"].map(|org| server.client(org, org));
    for client in &clients {
        for number in 0..5 {
            let path = format!("/v1/deposits/k{number}");
            client
                .wire()
                .request("PUT", &path, &[], Some(b"bytes"))
                .ok(201);
        }
    }
    server.stop();
    let db = store::open(&server, "strongroom.db");
    let spoiled = db.execute("UPDATE deposit_versions SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE deposit = (SELECT d.id FROM deposits d JOIN orgs o ON o.id = d.org WHERE o.name = 'acme' AND d.name = 'k2')", ()).unwrap();
    assert_eq!(spoiled, 1);
    drop(db);
    server.serve();
    clients = clients.map(|client| client.at(&server));
    server
        .cli(&["org", "rotate-key", "acme", "--wait"])
        .fails(5)
        .says(&["`k2`", "older keys stay"]);
    server.cli(&["org", "rotate-key", "other", "--wait"]).ok();
    let key = server.json(&["org", "key", "acme"]);
    assert_eq!(
        (&key["rotation"]["failed"], &key["rotation"]["first_failed"]),
        (&json!(1), &json!("k2"))
    );
    until(PATIENCE, || {
        server.health("/healthz").text().contains("`k2` among them")
    });
    for client in &clients {
        client.wire().get("/v1/deposits/k3").ok(200);
    }
    clients[0]
        .wire()
        .request("DELETE", "/v1/deposits/k2", &[], None)
        .ok(200);
    clients[0]
        .wire()
        .request("POST", "/v1/deposits/k2/purge", &[], None)
        .ok(204);
    server
        .cli(&["org", "rotate-key", "acme", "--wait"])
        .ok()
        .says(&["destroyed"]);
    until(PATIENCE, || {
        !server.health("/healthz").text().contains("k2")
    });
}

/// How far a rotation is stays on its node; keys go wherever the store goes.
#[test]
fn older_keys_without_a_rotation_get_one_at_the_start() {
    for lost in [
        "DELETE FROM key_rotations",
        "UPDATE key_rotations SET version = version - 1, ended = 0",
    ] {
        let mut server = Server::start(options(None));
        let client = server.client("acme", "acme");
        for number in 0..5 {
            let path = format!("/v1/deposits/k{number}");
            client
                .wire()
                .request("PUT", &path, &[], Some(b"bytes"))
                .ok(201);
        }
        server.stop();
        let keys = |server: &Server| -> i64 {
            store::open(server, "strongroom.db")
                .query_row("SELECT count(*) FROM org_keys", (), |row| row.get(0))
                .unwrap()
        };
        store::open(&server, "strongroom.db")
            .execute("UPDATE deposit_versions SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE deposit = (SELECT id FROM deposits WHERE name = 'k2')", ())
            .unwrap();
        server.serve();
        server
            .cli(&["org", "rotate-key", "acme", "--wait"])
            .fails(5);
        // One that went as far as it could is not begun again by a start alone.
        server.restart();
        let key = server.json(&["org", "key", "acme"]);
        assert_eq!(key["rotation"]["ended"], true, "{key}");
        let client = client.at(&server);
        let mut wire = client.wire();
        wire.request("DELETE", "/v1/deposits/k2", &[], None).ok(200);
        wire.request("POST", "/v1/deposits/k2/purge", &[], None)
            .ok(204);
        server.stop();
        assert_eq!(keys(&server), 2);
        let changed = store::open(&server, "strongroom.db").execute(lost, ());
        assert_eq!(changed.unwrap(), 1);
        server.serve();
        let client = client.at(&server);
        let ended = [
            "audit",
            "list",
            "-F",
            "action = org.key_rotated",
            "--limit",
            "1",
        ];
        until(PATIENCE, || {
            server.json(&ended)["items"][0]["detail"] == "key 2, 1 older ones destroyed"
        });
        let key = server.json(&["org", "key", "acme"]);
        assert!(key["version"] == 2 && key["rotation"].is_null(), "{key}");
        client.wire().get("/v1/deposits/k3").ok(200);
        server.stop();
        assert_eq!(keys(&server), 1);
    }
}
