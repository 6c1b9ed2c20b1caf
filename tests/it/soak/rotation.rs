//! Keys made anew under load, and the server killed meanwhile: nothing is unreadable at any time, and
//! in the end nothing lies under the older keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    let mut newest = 1;
    for kill in 0..kills {
        newest = server.json(&["org", "rotate-key", "acme"])["version"]
            .as_u64()
            .unwrap();
        // Every fifth time the root key, too.
        if kill % 5 == 4 {
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
                    let path = format!("/v1/deposits/new{}", number % 50);
                    match connection.try_request("PUT", &path, &[], Some(&content(number, 1))) {
                        Ok(answer) if [200, 201].contains(&answer.status) => {
                            written.fetch_add(1, Ordering::Relaxed)
                        }
                        _ => return,
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
    }
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
    let counts = json!({ "kill_9": kills, "reads": read.into_inner(), "puts": written.into_inner(), "unreadable": 0 });
    println!("{counts}");
    super::found("rotation_killed", counts);
}
