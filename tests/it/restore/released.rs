//! Backups that each release left behind come back with everything that the README beside them names.

use std::fs;
use std::process::Command;

use serde_json::Value;
use strongroom::crypto::sha256;

use crate::harness::{Client, Opens, Options, Server, run};

/// What each release left behind.
const KEPT: &[&str] = &["backup-1"];

/// The bytes that the folder's README says how to make.
fn large() -> Vec<u8> {
    let parts = (0..313).map(|number| sha256(format!("large {number}").as_bytes()));
    parts.flatten().collect()
}

/// Each deposit, byte for byte, as those who may fetch it get it.
#[track_caller]
fn deposits_are_there(server: &Server, [one, two]: [&Client; 2]) {
    let get = |client: &Client, args: &[&str]| {
        let args = [&["deposit", "get"], args].concat();
        client.cli(&args).ok().stdout
    };
    assert_eq!(get(one, &["db.password"]), b"second value");
    assert_eq!(get(one, &["db.password", "--version", "1"]), b"first value");
    assert_eq!(get(one, &["raw.text"]), b"as it is");
    assert_eq!(get(one, &["large.bin"]), large());
    assert_eq!(get(one, &["shared.secret"]), b"for both of us");
    assert_eq!(get(two, &["shared.secret"]), b"for both of us");
    assert_eq!(get(two, &["twos.secret"]), b"two's value");
    let shared = ["deposit", "get", "shared.text", "--org", "globex"];
    assert_eq!(server.cli(&shared).ok().stdout, b"the operator's");

    one.cli(&["deposit", "get", "in.bin"]).fails(4);
    one.cli(&["deposit", "undelete", "in.bin"]).ok();
    assert_eq!(get(one, &["in.bin"]), b"binned value");

    // Two of three retrievals are left, and nobody else has any.
    two.cli(&["deposit", "get", "limited.secret"]).fails(5);
    assert_eq!(get(one, &["limited.secret"]), b"three times");
    assert_eq!(get(one, &["limited.secret"]), b"three times");
    assert_ne!(one.cli(&["deposit", "get", "limited.secret"]).status, 0);
    let refused = one.cli(&["deposit", "get", "later.secret"]);
    assert_ne!(refused.status, 0);
    refused.says(&["9000-01-01"]);
    one.cli(&["deposit", "edit", "later.secret", "--not-before", "none"])
        .ok();
    assert_eq!(get(one, &["later.secret"]), b"not yet");

    let shown = one.cli(&["--json", "deposit", "show", "db.password"]).ok();
    assert_eq!(shown.json()["labels"]["env"], "prod");
    assert_eq!(shown.json()["description"], "the database's password");

    // As the organization's recovery identity.
    let body = one.curl("/v1/deposits/db.password").send().ok(200).body;
    let file = server.file("sealed", body);
    let mut age = Command::new("age");
    age.arg("-d").arg("-i").arg(server.path("org-recovery.txt"));
    assert_eq!(run(age.arg(file)).ok().stdout, b"second value");
}

#[track_caller]
fn the_rest_is_there(server: &Server) {
    let names = |what: &str| -> Vec<String> {
        let items = server.json(&[what, "list"])["items"].clone();
        let items = items.as_array().unwrap().iter();
        items
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("org"), ["acme", "globex"]);
    assert_eq!(names("user"), ["audrey", "superuser"]);
    let audrey = server.json(&["user", "show", "audrey"]);
    assert_eq!(audrey["grants"].as_array().unwrap().len(), 2, "{audrey}");
    let acme = server.json(&["org", "show", "acme"]);
    assert_eq!(acme["quota"]["objects"], 100, "{acme}");
    assert_eq!(server.json(&["org", "key", "acme"])["version"], 2);
    for (setting, value) in [("session.idle_minutes", "45"), ("backup.keep_hourly", "3")] {
        assert_eq!(server.json(&["setting", "get", setting])["value"], value);
    }
    let recipients = server.json(&["recipient", "list"]);
    let text = recipients.to_string();
    assert!(text.contains("of backup 1"), "{text}");
    let known = server.json(&["backup", "list"]);
    assert!(!known["backups"].as_array().unwrap().is_empty(), "{known}");
    server.cli(&["audit", "verify"]).ok();
    let init = ["audit", "list", "--limit", "1", "-F"];
    let first = server.json(&[&init[..], &["action = server.init"]].concat());
    assert_eq!(first["items"][0]["number"], 1, "{first}");
}

#[test]
fn a_backup_of_each_release_brings_everything_back() {
    for kept in KEPT {
        for (file, slot, secret) in [
            ("with-slots.tar.age", "--key-file", "key"),
            ("with-slots.tar.age", "--passphrase-file", "passphrase"),
            // Its slot is the one that is made then.
            ("self-contained.tar.age", "--passphrase-file", "of-today"),
        ] {
            let mut server = Server::kept(kept, Options::default());
            server.file("of-today", "a passphrase of today\n");
            let [file, secret, identity] =
                [file, secret, "identity.txt"].map(|name| server.path(name).display().to_string());
            let verify = ["backup", "verify", &file, "--identity", &identity];
            let verified = server.json(&verify);
            assert_eq!(verified["deposits"], 9, "{verified}");
            let restore = ["restore", &file, "--identity", &identity, slot, &secret];
            let done: Value = server.json(&restore);
            assert_eq!(done["kept"], Value::Null, "{done}");
            assert_eq!(done["epoch"], 2, "{done}");
            server.options.opens = Opens::Nothing;
            server.options.args = vec![slot.to_owned(), secret.clone()];
            server.serve();
            assert_eq!(done["server_fingerprint"], server.fingerprint.as_str());
            let [one, two] = ["client-one", "client-two"].map(|home| server.at_home(home, "acme"));
            the_rest_is_there(&server);
            deposits_are_there(&server, [&one, &two]);
            // And so it goes on.
            one.cli_with(&["deposit", "put", "db.password", "-"], b"third value")
                .ok();
            let got = one.cli(&["deposit", "get", "db.password"]).ok();
            assert_eq!(got.stdout, b"third value");
            server.stop();
            server.cli(&["doctor", slot, &secret]).ok();
        }
    }
}

/// What was released stays what it was: the test above would pass with another one, too.
#[test]
fn what_was_released_is_not_made_anew() {
    for (name, expected) in [
        (
            "with-slots.tar.age",
            "d33aa46b72d34e3797b6b07d9fdd77640fc30649821a626ab259e741077f660f",
        ),
        (
            "self-contained.tar.age",
            "fadf3680e106000b958db31b254dacd521ae1e95d59be85d8d1cbcd66539a547",
        ),
    ] {
        let root = crate::harness::measured::root().join("tests/data/backup-1");
        let bytes = fs::read(root.join(name)).unwrap();
        assert_eq!(hex::encode(sha256(&bytes)), expected, "{name}");
    }
}
