//! Files of the data folder that are damaged, swapped, missing or newer: each is told apart, and
//! nothing that is whole is harmed.

use std::fs;

use crate::harness::{Dice, Options, Server, run, seed, store};
use crate::startup::{all_is_there, live, refuses, replace, stopped};

#[test]
fn every_flipped_byte_of_seal_json_is_found() {
    let mut server = stopped(Options::default());
    let path = live(&server, "seal.json");
    let right = fs::read(&path).unwrap();
    let mut dice = Dice::new(seed());
    for _ in 0..40 {
        let mut flipped = right.clone();
        let at = usize::try_from(dice.below(right.len() as u64)).unwrap();
        flipped[at] ^= 1 << dice.below(7);
        // Blanks, and the case of hex digits, may be as they like.
        let same = |bytes: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(&bytes.to_ascii_lowercase()).ok()
        };
        if same(&flipped) == same(&right) {
            continue;
        }
        fs::write(&path, &flipped).unwrap();
        let refused = server.serve_fails();
        assert!(matches!(refused.status, 3 | 5), "byte {at}: {refused:?}");
        assert!(
            refused.stderr.contains("seal.json") || refused.stderr.contains("slot"),
            "byte {at}: {refused:?}"
        );
        assert!(
            !refused.stderr.contains("panicked"),
            "byte {at}: {refused:?}"
        );
    }
    for length in [0, 1, right.len() / 2, right.len() - 2] {
        fs::write(&path, &right[..length]).unwrap();
        refuses(&server, 3, &["seal.json is damaged"]);
    }
    fs::remove_file(&path).unwrap();
    refuses(&server, 4, &["seal.json"]);
    fs::write(&path, &right).unwrap();
    all_is_there(&mut server);
}

#[test]
fn a_swapped_a_newer_and_an_older_seal_json_are_told_apart() {
    let mut server = stopped(Options::default());
    let other = Server::init(Options::default());
    let path = live(&server, "seal.json");
    let right = replace(&path, &fs::read(live(&other, "seal.json")).unwrap());
    let id = |bytes: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        json["instance"].as_str().unwrap().to_owned()
    };
    let (expected, found) = (id(&right), id(&fs::read(&path).unwrap()));
    refuses(&server, 5, &["another instance", &expected, &found]);

    let text = String::from_utf8(right.clone()).unwrap();
    let newer = text.replacen("strongroom-seal/1", "strongroom-seal/2", 1);
    assert_ne!(newer, text);
    replace(&path, newer.as_bytes());
    refuses(&server, 3, &["newer"]);
    replace(&path, &right);

    let node = server.data.join("node.json");
    let text = fs::read_to_string(&node).unwrap();
    let seen = text.replacen("\"seal_generation\": 2", "\"seal_generation\": 9", 1);
    assert_ne!(seen, text);
    replace(&node, seen.as_bytes());
    refuses(&server, 5, &["generation 2", "generation 9"]);
    replace(&node, text.as_bytes());
    all_is_there(&mut server);
}

#[test]
fn the_node_json_of_another_machine_or_a_damaged_one_is_refused() {
    let mut server = stopped(Options::default());
    let other = Server::init(Options::default());
    let path = server.data.join("node.json");
    let right = replace(&path, &fs::read(other.data.join("node.json")).unwrap());
    refuses(&server, 5, &["instance"]);
    let text = String::from_utf8(right.clone()).unwrap();
    replace(&path, &right[..right.len() / 2]);
    refuses(&server, 3, &["node.json is damaged"]);
    replace(
        &path,
        text.replace("strongroom-node/1", "strongroom-node/2")
            .as_bytes(),
    );
    refuses(&server, 3, &["strongroom-node/2"]);
    // The right instance's, with the other's key.
    let key = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["database_key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let others = fs::read_to_string(other.data.join("node.json")).unwrap();
    replace(&path, text.replace(&key(&text), &key(&others)).as_bytes());
    refuses(&server, 3, &["node.json was not made under"]);
    replace(&path, &right);
    all_is_there(&mut server);
}

#[test]
fn a_swapped_a_damaged_a_missing_and_a_newer_database_are_refused() {
    let mut server = stopped(Options::default());
    let other = stopped(Options::default());
    for file in ["strongroom.db", "access.db"] {
        let path = live(&server, file);
        let right = replace(&path, &fs::read(live(&other, file)).unwrap());
        refuses(&server, 3, &[file, "does not open with this folder's key"]);
        for at in [0, 16, 100, 2_000, 4_095] {
            let mut flipped = right.clone();
            flipped[at] ^= 0x10;
            replace(&path, &flipped);
            refuses(&server, 3, &[file]);
        }
        replace(&path, &right[..right.len() / 2 + 17]);
        let cut = server.serve_fails();
        assert!(cut.status == 3 || file == "access.db", "{cut:?}");
        fs::remove_file(&path).unwrap();
        refuses(&server, 3, &[file, "missing"]);
        replace(&path, &right);
        let db = store::open(&server, file);
        db.execute("INSERT INTO migrations VALUES (99, 'later', 0)", ())
            .unwrap();
        drop(db);
        refuses(&server, 3, &[file, "schema", "newer program"]);
        replace(&path, &right);
        for left in ["-wal", "-shm"] {
            let _ = fs::remove_file(live(&server, &format!("{file}{left}")));
        }
    }
    all_is_there(&mut server);
}

#[test]
fn a_flip_in_any_page_of_the_database_is_found_by_the_doctor() {
    let mut server = stopped(Options::default());
    let path = live(&server, "strongroom.db");
    let right = fs::read(&path).unwrap();
    let doctor = || {
        let mut command = server.command();
        run(command
            .arg("doctor")
            .arg("--data-dir")
            .arg(&server.data)
            .arg("--key-file")
            .arg(server.path("key")))
    };
    doctor().ok();
    let mut dice = Dice::new(seed());
    for _ in 0..12 {
        let mut flipped = right.clone();
        let at = usize::try_from(dice.below(right.len() as u64)).unwrap();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let found = doctor();
        assert_eq!(found.status, 1, "byte {at}: {found:?}");
        assert!(!found.stderr.contains("panicked"), "byte {at}: {found:?}");
    }
    fs::write(&path, &right).unwrap();
    doctor().ok();
    all_is_there(&mut server);
}

/// A WAL that a server left when the plug was pulled, after `changes` changes.
fn foreign_wal(changes: usize) -> Vec<u8> {
    let mut other = Server::start(Options::default());
    let client = other.client("b", "other");
    other.restart();
    let client = client.at(&other);
    let mut wire = client.wire();
    for n in 0..changes {
        wire.request("PUT", &format!("/v1/deposits/foreign-{n}"), &[], Some(b"x"))
            .ok(201);
    }
    other.kill9();
    fs::read(live(&other, "strongroom.db-wal")).unwrap()
}

#[test]
fn the_write_ahead_log_of_another_database_is_refused_and_harms_nothing() {
    let mut server = stopped(Options::default());
    let before = fs::read(live(&server, "strongroom.db")).unwrap();
    let wal = live(&server, "strongroom.db-wal");
    for changes in [1, 3, 40] {
        let foreign = foreign_wal(changes);
        assert!(foreign.len() > 4_096, "{changes}");
        fs::write(&wal, &foreign).unwrap();
        refuses(&server, 3, &["strongroom.db-wal", "another database"]);
        let after = fs::read(live(&server, "strongroom.db")).unwrap();
        assert!(after == before, "{changes}: the database was written to");
        fs::remove_file(&wal).unwrap();
        let _ = fs::remove_file(live(&server, "strongroom.db-shm"));
    }
    all_is_there(&mut server);
}
