//! A data folder of an older program: nothing of it is lost, the copy from before holds, and a program
//! that is killed on the way leaves the one schema or the other.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strongroom::crypto::sha256;

use crate::harness::disk::SmallDisk;
use crate::harness::store::{miscounted, open, open_at};
use crate::harness::{Dice, Opens, Options, Server, run, seed};

/// What each release left behind, and the schema it has.
const KEPT: &[(&str, i64)] = &[("data-folder-1", 1)];
/// The schema of today.
const NEWEST: i64 = 11;

fn schema(server: &Server) -> i64 {
    count(&open(server, "strongroom.db"), "migrations")
}

fn count(db: &rusqlite::Connection, table: &str) -> i64 {
    db.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| {
        row.get(0)
    })
    .unwrap()
}

fn copy_of(server: &Server, schema: i64) -> std::path::PathBuf {
    server.data.join(format!("live.before-{}", schema + 1))
}

/// The bytes that the folder's README says how to make.
fn large() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..300_000_usize.div_ceil(32) {
        bytes.extend_from_slice(&sha256(format!("large {number}").as_bytes()));
    }
    bytes.truncate(300_000);
    bytes
}

/// Everything that the README names is there, on a server of today.
pub fn has_everything(server: &Server) {
    let clients = ["client-one", "client-two"].map(|home| server.at_home(home, "acme"));
    let get = |client: usize, args: &[&str]| {
        let args = [&["deposit", "get"], args].concat();
        clients[client].cli(&args).ok().stdout
    };
    assert_eq!(get(0, &["db.password"]), b"third value");
    assert_eq!(get(0, &["db.password", "--version", "1"]), b"first value");
    assert_eq!(get(0, &["db.password", "--version", "2"]), b"second value");
    assert_eq!(get(0, &["raw.text"]), b"as it is");
    assert_eq!(get(0, &["large.bin"]), large());
    assert_eq!(get(1, &["twos.secret"]), b"two's value");
    let shown = clients[0]
        .cli(&["--json", "deposit", "show", "db.password"])
        .ok();
    assert_eq!(shown.json()["labels"]["env"], "prod");
    assert_eq!(shown.json()["description"], "the database's password");
    let versions = clients[0].cli(&["--json", "deposit", "versions", "db.password"]);
    assert_eq!(
        versions.ok().json()["versions"].as_array().unwrap().len(),
        3
    );
    clients[0].cli(&["deposit", "get", "in.bin"]).fails(4);
    clients[0].cli(&["deposit", "undelete", "in.bin"]).ok();
    assert_eq!(get(0, &["in.bin"]), b"binned value");
    clients[0].cli(&["deposit", "rm", "in.bin", "--yes"]).ok();
    let shared = ["deposit", "get", "shared.text", "--org", "globex"];
    assert_eq!(server.cli(&shared).ok().stdout, b"the operator's");

    // As the organization's recovery identity.
    let file = server.file(
        "sealed",
        clients[0]
            .curl("/v1/deposits/db.password")
            .send()
            .ok(200)
            .body,
    );
    let identity = server.path("org-recovery.txt");
    let opened = run(Command::new("age")
        .arg("-d")
        .arg("-i")
        .arg(identity)
        .arg(file));
    assert_eq!(opened.ok().stdout, b"third value");

    let names = |value: &Value| -> Vec<String> {
        let items = value["items"].as_array().unwrap();
        items
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&server.json(&["org", "list"])), ["acme", "globex"]);
    assert_eq!(
        names(&server.json(&["user", "list"])),
        ["audrey", "gone", "superuser"]
    );
    let audrey = server.json(&["user", "show", "audrey"]);
    assert_eq!(audrey["grants"].as_array().unwrap().len(), 2, "{audrey}");
    assert_eq!(server.json(&["user", "show", "gone"])["disabled"], true);
    for (setting, value) in [
        ("session.idle_minutes", "45"),
        ("deposit.max_bytes", "2097152"),
    ] {
        assert_eq!(
            server.json(&["setting", "get", setting])["value"]
                .to_string()
                .trim_matches('"'),
            value
        );
    }
    let token = server.path("token");
    let by_token = [
        "--server",
        &server.client_url,
        "--server-fingerprint",
        &server.fingerprint,
        "--token-file",
        token.to_str().unwrap(),
        "deposit",
        "list",
        "--org",
        "acme",
    ];
    let listed = run(server.command().args(["--home", "nowhere"]).args(by_token)).ok();
    assert!(listed.text().contains("twos.secret"));
    assert_eq!(
        server.json(&["slot", "list"])["slots"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    server.cli(&["audit", "verify"]).ok();
    let first = server.json(&[
        "audit",
        "list",
        "--limit",
        "1",
        "-F",
        "action = server.init",
    ]);
    assert_eq!(first["items"][0]["number"], 1, "{first}");
}

#[test]
fn a_folder_of_each_release_is_served_with_everything_in_it() {
    for (kept, from) in KEPT {
        let mut server = Server::kept(kept, Options::default());
        let key = server.path("key");
        let doctor = ["doctor", "--key-file", key.to_str().unwrap()];
        let said = server.cli(&doctor).ok().text();
        assert!(
            said.contains(&format!("look: {from} of {NEWEST}")),
            "{said}"
        );
        assert_eq!(schema(&server), *from, "doctor changes nothing");

        server.serve();
        has_everything(&server);
        let start = server.json(&[
            "audit",
            "list",
            "--limit",
            "1",
            "-F",
            "action = server.start",
        ]);
        let detail = start["items"][0]["detail"].as_str().unwrap();
        assert!(
            detail.ends_with(&format!("schema {from} brought to {NEWEST}")),
            "{detail}"
        );
        // What was there before quotas were is counted all the same.
        let acme = server.json(&["org", "show", "acme"]);
        assert!(acme["bytes"].as_u64().unwrap() > 300_000, "{acme}");
        assert_eq!(acme["quota"]["bytes"], Value::Null, "{acme}");
        server.stop();
        assert_eq!(schema(&server), NEWEST);
        assert_eq!(miscounted(&server), Vec::<String>::new());
        server.cli(&doctor).ok();

        // Each of its secrets still opens it.
        for (option, file) in [
            ("--passphrase-file", "passphrase"),
            ("--passphrase-file", "passphrase2"),
            ("--slot-identity", "recovery.txt"),
        ] {
            server.options.opens = Opens::Nothing;
            server.options.args = vec![option.to_owned(), server.path(file).display().to_string()];
            server.serve();
            server.stop();
        }
    }
}

#[test]
fn a_rollback_puts_the_copy_back_and_keeps_what_it_replaces() {
    for (kept, from) in KEPT {
        let mut server = Server::kept(kept, Options::default());
        server.serve();
        let client = server.at_home("client-one", "acme");
        client
            .cli_with(&["deposit", "put", "new.one", "-"], b"of today")
            .ok();
        let key = server.path("key").display().to_string();
        let rollback = ["rollback", "--key-file", &key];
        server.cli(&rollback).fails(5).says(&["in use by process"]);
        server.stop();

        // Nobody answers: nothing is done.
        server
            .cli(&rollback)
            .fails(2)
            .says(&["changes since then", "give --yes"]);
        assert_eq!(schema(&server), NEWEST);
        let wrong = server.file("wrong", "some other key, of some length");
        let wrong = ["rollback", "--yes", "--key-file", wrong.to_str().unwrap()];
        server.cli(&wrong).fails(5).says(&["does not open"]);

        let done = server.json(&[&rollback[..], &["--yes", "--reason", "too new"]].concat());
        assert_eq!(done["schema"], *from);
        assert!(done["changes_lost"].as_u64().unwrap() >= 4, "{done}");
        assert_eq!(schema(&server), *from);
        let undone = open_at(&server, &server.data.join("live.undone/strongroom.db"));
        assert_eq!(count(&undone, "migrations"), NEWEST);
        assert!(!copy_of(&server, *from).exists() && !server.data.join("live/copy.json").exists());
        server.cli(&rollback).fails(4).says(&["no copy"]);

        // And forward again: the rollback stands in the audit, what it gave up is not there.
        server.serve();
        has_everything(&server);
        let client = client.at(&server);
        client.cli(&["deposit", "get", "new.one"]).fails(4);
        let found = server.json(&["audit", "list", "-F", "action = server.rollback"]);
        assert_eq!(found["items"][0]["reason"], "too new", "{found}");
        assert!(copy_of(&server, *from).join("copy.json").exists());
        server.stop();

        // A damaged copy is no way back.
        let copy = copy_of(&server, *from).join("strongroom.db");
        let mut bytes = fs::read(&copy).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&copy, bytes).unwrap();
        server
            .cli(&[&rollback[..], &["--yes"]].concat())
            .fails(3)
            .says(&["damaged"]);
        assert_eq!(schema(&server), NEWEST);
    }
}

#[test]
fn after_a_rotation_of_the_root_key_there_is_no_way_back() {
    let (kept, from) = KEPT[KEPT.len() - 1];
    let mut server = Server::kept(kept, Options::default());
    server.serve();
    let key = server.path("key").display().to_string();
    server
        .cli(&["root", "rotate", "--yes", "--key-file", &key])
        .ok();
    server.stop();
    server
        .cli(&["rollback", "--yes", "--key-file", &key])
        .fails(5)
        .says(&["root key was made anew"]);
    assert_eq!(schema(&server), NEWEST);
    assert!(copy_of(&server, from).exists());
}

#[test]
fn without_room_for_the_copy_nothing_is_changed() {
    let (kept, from) = KEPT[KEPT.len() - 1];
    let mut server = Server::kept(kept, Options::default());
    let disk = SmallDisk::under(&mut server);
    disk.fill(disk.free() - (256 << 20));
    server
        .serve_fails()
        .fails(3)
        .says(&["a copy is made", "MiB free", "Nothing was changed"]);
    assert!(!disk.data.join("live.before.new").exists());
    assert!(!disk.data.join(format!("live.before-{}", from + 1)).exists());
    let db = open_at(&server, &disk.data.join("live/strongroom.db"));
    assert_eq!(count(&db, "migrations"), from);
    drop(db);
    disk.give_back();
    server.serve();
    server.stop();
    assert!(disk.data.join(format!("live.before-{}", from + 1)).exists());
}

/// The system calls by which anything gets onto the disk.
const CALLS: &str = "pwrite64,write,fsync,fdatasync,ftruncate,rename,unlink,unlinkat,mkdir,copy_file_range,sendfile,renameat2,rmdir";

/// Runs the command until the given call of the main thread, which kills it; false if it came to its
/// end before.
fn killed_at(call: usize, server: &Server, command: &mut Command) -> bool {
    let mut traced = Command::new("strace");
    traced
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={CALLS}"),
            "-e",
        ])
        .arg(format!("inject={CALLS}:signal=KILL:when={call}"))
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(server.folder());
    run(&mut traced).status == -1
}

/// Whole, of the one schema or the other, and nothing of what was committed before is missing.
fn stands(server: &Server, from: i64, call: usize) {
    let found = schema(server);
    assert!(
        found == from || found == NEWEST,
        "schema {found} at call {call}"
    );
    let copy = copy_of(server, from);
    if found == NEWEST {
        assert!(copy.join("copy.json").exists(), "call {call}");
    }
    if copy.join("copy.json").exists() {
        let db = open_at(server, &copy.join("strongroom.db"));
        assert_eq!(count(&db, "migrations"), from, "call {call}");
        assert_eq!(count(&db, "deposits"), 6, "call {call}");
    }
    assert_eq!(count(&open(server, "strongroom.db"), "deposits"), 6);
}

#[test]
fn killed_anywhere_on_the_way_there_or_back_it_goes_on() {
    let (kept, from) = KEPT[KEPT.len() - 1];
    let mut dice = Dice::new(seed());
    let (mut call, mut kills) = (1, 0);
    // There: `serve` with a port that is taken ends after the upgrade.
    loop {
        let mut server = Server::kept(kept, Options::default());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.options.args = vec![
            "--health-listen".to_owned(),
            taken.local_addr().unwrap().to_string(),
        ];
        let mut serve = server.command();
        let key = server.path("key");
        serve
            .arg("serve")
            .arg("--data-dir")
            .arg(&server.data)
            .arg("--key-file")
            .arg(&key)
            .args(&server.options.args);
        let killed = killed_at(call, &server, &mut serve);
        stands(&server, from, call);
        server.options.args.clear();
        if !killed || call % 7 == 0 {
            server.serve();
            server.cli(&["audit", "verify"]).ok();
            server.stop();
            stands(&server, from, call);
            assert_eq!(schema(&server), NEWEST);
            assert!(!server.data.join("live.before.new").exists());
        }
        if !killed {
            break;
        }
        kills += 1;
        call += 1 + usize::try_from(dice.below(6)).unwrap();
    }
    assert!(kills > 15, "{kills}");

    // Back.
    let server = Server::kept(kept, Options::default());
    let mut server = server;
    server.serve();
    server.stop();
    let before = server.path("before");
    copy_tree(&server.data, &before);
    (call, kills) = (1, 0);
    loop {
        fs::remove_dir_all(&server.data).unwrap();
        copy_tree(&before, &server.data);
        let key = server.path("key").display().to_string();
        let mut command = server.command();
        command
            .arg("--data-dir")
            .arg(&server.data)
            .args(["rollback", "--yes", "--key-file", &key]);
        let killed = killed_at(call, &server, &mut command);
        let now = schema(&server);
        assert!(now == from || now == NEWEST, "schema {now} at call {call}");
        let key = server.path("key").display().to_string();
        let again = server.cli(&["rollback", "--yes", "--key-file", &key]);
        // Tried again it goes on, or there is no copy any more because it came to its end.
        again.fails(if now == from { 4 } else { 0 });
        assert_eq!(schema(&server), from, "call {call}");
        assert!(server.data.join("live.undone/strongroom.db").exists());
        assert!(!server.data.join("live/copy.json").exists());
        if !killed {
            break;
        }
        kills += 1;
        call += 1 + usize::try_from(dice.below(4)).unwrap();
    }
    assert!(kills > 10, "{kills}");
}

fn copy_tree(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
}
