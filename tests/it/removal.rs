//! An organization that is removed: at once for whoever asks, under load, and to the last row whatever
//! happens meanwhile.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::store::open;
use crate::harness::wire::Connection;
use crate::harness::{Client, Options, Server, until};

fn count(server: &Server, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    open(server, "strongroom.db")
        .query_row(&sql, (), |row| row.get(0))
        .unwrap()
}

/// Stops the server, and says whether its files hold.
fn is_sound(server: &mut Server) {
    server.stop();
    let key = server.path("key").display().to_string();
    let found: Value = server.json(&["doctor", "--key-file", &key]);
    let integrity = found
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["check"] == "integrity");
    assert_eq!(integrity.unwrap()["state"], "green", "{found}");
}

fn swept(server: &Server) -> bool {
    let events = server.json(&["audit", "list", "-F", "action = org.purge"]);
    !events["items"].as_array().unwrap().is_empty()
}

#[test]
fn an_organization_goes_under_load_and_its_name_is_free() {
    let mut server = Server::start(Options::default());
    let clients: Vec<Client> = (0..4)
        .map(|n| server.client(&format!("c{n}"), "acme"))
        .collect();
    let kept = server.client("kept", "other");
    kept.cli_with(&["deposit", "put", "key", "-"], b"another's")
        .ok();
    let first = clients[0]
        .cli_with(&["--json", "deposit", "put", "key", "-"], b"x")
        .ok()
        .json();
    server.user("op", &server.password, &["key_operator:acme"]);
    server
        .cli(&["org", "rm", "acme"])
        .fails(2)
        .says(&["deposits and 4 clients", "give --yes"]);
    server.cli(&["org", "rm", "nobody", "--yes"]).fails(4);

    for with in ["readers", &clients[1].fingerprint()] {
        if with == "readers" {
            let member = clients[2].fingerprint();
            for args in [&["add", with][..], &["add-member", with, &member]] {
                let group = [&["client", "group"], args, &["--org", "acme"]].concat();
                server.cli(&group).ok();
            }
        }
        clients[0]
            .cli(&["--yes", "deposit", "share", "key", "--with", with])
            .ok();
    }
    let readers = clients[0].cli(&["--json", "deposit", "readers", "key"]);
    assert_eq!(readers.ok().json()["readers"].as_array().unwrap().len(), 2);

    let (done, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let codes: Mutex<BTreeSet<(u16, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            let (done, ended, codes) = (&done, &ended, &codes);
            scope.spawn(move || {
                let config = client.tls();
                let mut wire = Connection::with_config(&client.server, config.clone());
                for round in 0.. {
                    if ended.load(Ordering::SeqCst) {
                        break;
                    }
                    let path = format!("/v1/deposits/d{number}-{}", round % 40);
                    // Some of them long, and so in parts.
                    let body = vec![7; if round % 16 == 0 { 600_000 } else { 300 }];
                    let answers = [
                        wire.request("PUT", &path, &[("strongroom-labels", "k=v")], Some(&body)),
                        wire.request("GET", &path, &[], None),
                    ];
                    for answer in answers {
                        codes.lock().unwrap().insert((answer.status, answer.code()));
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let wait = |more: u64| {
            let enough = done.load(Ordering::SeqCst) + more;
            until(Duration::from_secs(60), || {
                done.load(Ordering::SeqCst) >= enough
            });
        };
        wait(60);
        server.cli(&["org", "rm", "acme", "--yes"]).ok();
        let before = codes.lock().unwrap().clone();
        assert!(before.iter().any(|(status, _)| *status == 201));
        wait(40);
        ended.store(true, Ordering::SeqCst);
    });
    let codes = codes.into_inner().unwrap();
    let clean = |(status, _): &(u16, String)| matches!(status, 200 | 201 | 401 | 403 | 404);
    assert!(codes.iter().all(clean), "{codes:?}");
    assert!(
        codes.contains(&(401, "not_registered".to_owned())),
        "{codes:?}"
    );

    // Nothing of it is to be seen, and another of its name begins empty.
    let id = first["id"].as_str().unwrap();
    server.cli(&["deposit", "get", id, "--raw"]).fails(4);
    server.cli(&["org", "show", "acme"]).fails(4);
    assert!(server.cli(&["deposit", "list"]).ok().text().lines().count() <= 2);
    assert_eq!(
        server.json(&["user", "show", "op"])["grants"],
        serde_json::json!([])
    );
    let added = server.json(&["org", "add", "acme"]);
    assert_eq!(
        (&added["deposits"], &added["clients"]),
        (&0.into(), &0.into())
    );
    // The same keys may register anew at once.
    let again = &clients[1];
    std::fs::remove_file(again.file("client.toml")).unwrap();
    again.register(added["auth_code"].as_str()).ok();
    let stored = again
        .cli_with(&["--json", "deposit", "put", "key", "-"], b"new")
        .ok()
        .json();
    assert_eq!(stored["version"], 1);

    // Upkeep runs at a start.
    server.restart();
    until(Duration::from_secs(60), || swept(&server));
    let again = server.at_home("home-c1", "acme");
    assert_eq!(again.cli(&["deposit", "get", "key"]).ok().stdout, b"new");
    let kept = kept.at(&server);
    assert_eq!(
        kept.cli(&["deposit", "get", "key"]).ok().stdout,
        b"another's"
    );
    server.cli(&["audit", "verify"]).ok();
    is_sound(&mut server);
    for (table, rows) in [
        ("deposits", 2),
        ("deposit_versions", 2),
        ("deposit_parts", 0),
        ("pending_parts", 0),
        ("deposit_labels", 0),
        ("deposit_readers", 0),
        ("client_groups", 0),
        ("client_group_members", 0),
        ("key_rotations", 0),
        // The superuser's own.
        ("grants", 1),
        ("clients", 2),
        ("client_keys", 2),
        ("removed_orgs", 0),
        ("org_keys", 2),
    ] {
        assert_eq!(count(&server, table), rows, "{table}");
    }
}

#[test]
fn what_a_removed_organization_had_goes_over_crashes_too() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    for number in 0..700 {
        let path = format!("/v1/deposits/d{number}");
        wire.request("PUT", &path, &[("strongroom-labels", "k=v")], Some(b"x"))
            .ok(201);
    }
    server.cli(&["org", "rm", "acme", "--yes"]).ok();
    server.kill9();
    assert_eq!(count(&server, "removed_orgs"), 1);
    assert_eq!(count(&server, "org_keys"), 0);
    let mut left = vec![count(&server, "deposits")];
    // Killed as soon as some of it is gone, again and again.
    for _ in 0..20 {
        server.serve();
        server.kill9();
        left.push(count(&server, "deposits"));
    }
    assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
    server.serve();
    until(Duration::from_secs(60), || swept(&server));
    server.cli(&["audit", "verify"]).ok();
    is_sound(&mut server);
    for table in [
        "deposits",
        "deposit_labels",
        "deposit_versions",
        "clients",
        "removed_orgs",
    ] {
        assert_eq!(count(&server, table), 0, "{table}");
    }
}
