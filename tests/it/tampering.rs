//! What is done to the audit afterwards shows, with the server and without it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Options, Output, Server, measured, run, store};

/// What `audit verify --export` says of these lines.
pub fn verify_export(server: &Server, lines: &[String], further: &[&str]) -> Output {
    let file = server.file("export.jsonl", lines.join("\n") + "\n");
    let key = public_key(server);
    let args = [
        "audit",
        "verify",
        "--json",
        "--export",
        file.to_str().unwrap(),
        "--public-key",
        &key,
    ];
    // It needs neither a server nor its folder.
    run(server.command().args(args).args(further))
}

/// What the script in docs/formats/audit.md says of them.
pub fn verify_by_script(server: &Server, lines: &[String]) -> Output {
    let page = fs::read_to_string(measured::root().join("docs/formats/audit.md")).unwrap();
    let script = page
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let script = server.file("verify.py", script);
    let file = server.file("export.jsonl", lines.join("\n") + "\n");
    run(Command::new("/usr/bin/python3")
        .arg(script)
        .arg(file)
        .arg(public_key(server)))
}

fn public_key(server: &Server) -> String {
    let path = server.path("public-key");
    if !path.exists() {
        let verified = server.json(&["audit", "verify"]);
        fs::write(&path, verified["public_key"].as_str().unwrap()).unwrap();
    }
    fs::read_to_string(path).unwrap()
}

/// An export of a server that did something.
fn exported(server: &Server) -> Vec<String> {
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    for n in 0..5 {
        wire.request("PUT", &format!("/v1/deposits/key-{n}"), &[], Some(b"x"))
            .ok(201);
        wire.get(&format!("/v1/deposits/key-{n}")).ok(200);
    }
    let text = server.cli(&["audit", "export"]).ok().text();
    text.lines().map(str::to_owned).collect()
}

/// The line of an event.
fn line_of(lines: &[String], chain: &str, number: u64) -> usize {
    let is_it = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["chain"] == chain && line["number"] == number
    };
    lines.iter().position(is_it).unwrap()
}

#[test]
fn an_export_holds_without_the_server_by_the_program_and_by_the_script() {
    let mut server = Server::start(Options::default());
    let lines = exported(&server);
    public_key(&server);
    server.stop();
    let report = verify_export(&server, &lines, &[]).ok().json();
    for chain in report["chains"].as_array().unwrap() {
        assert_eq!(chain["fault"], Value::Null, "{report}");
        assert!(chain["events"].as_u64() >= Some(5), "{report}");
        // The newest checkpoint's own event comes after what it proves.
        let own = u64::from(chain["chain"] == "changes");
        assert_eq!(
            chain["events"].as_u64().unwrap() - own,
            chain["proven_to"],
            "{report}"
        );
    }
    let script = verify_by_script(&server, &lines).ok().text();
    assert!(script.contains("'proven_to'"), "{script}");
}

#[test]
fn what_is_done_to_an_export_is_named() {
    let server = Server::start(Options::default());
    let lines = exported(&server);
    let at = |number| line_of(&lines, "changes", number);
    let edited = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        edit(&mut lines);
        lines
    };
    let last = (1..)
        .take_while(|n| {
            lines
                .iter()
                .any(|line| line.contains(&format!("\"chain\":\"changes\",\"number\":{n},")))
        })
        .last()
        .unwrap();
    let cases = [
        (
            "changed",
            "event 4 of changes",
            edited(&|it| it[at(4)] = it[at(4)].replace("acme", "acne")),
        ),
        (
            "removed",
            "event 4 of changes",
            edited(&|it| drop(it.remove(at(4)))),
        ),
        (
            "reordered",
            "of changes",
            edited(&|it| it.swap(at(4), at(5))),
        ),
        (
            "inserted",
            "of changes",
            edited(&|it| it.insert(at(4), it[at(4)].clone())),
        ),
        (
            "cut off",
            "changes",
            edited(&|it| drop(it.drain(at(last - 1)..=at(last)))),
        ),
        (
            "released unseen",
            "event 2 of access",
            edited(&|it| drop(it.remove(line_of(&lines, "access", 2)))),
        ),
    ];
    for (what, named, spoiled) in cases {
        assert_ne!(spoiled, lines, "{what}");
        let by_program = verify_export(&server, &spoiled, &[]);
        assert_eq!(by_program.status, 1, "{what}: {by_program:?}");
        assert!(by_program.stderr.contains(named), "{what}: {by_program:?}");
        let by_script = verify_by_script(&server, &spoiled);
        assert_eq!(by_script.status, 1, "{what}: {by_script:?}");
    }
    // A checkpoint's signature covers it.
    let checkpoint = lines
        .iter()
        .rposition(|line| line.contains("\"signature\""))
        .unwrap();
    let moved =
        edited(&|it| it[checkpoint] = it[checkpoint].replacen("\"epoch\":1", "\"epoch\":2", 1));
    assert_ne!(moved, lines);
    verify_export(&server, &moved, &[])
        .fails(5)
        .says(&["signed"]);
    assert_eq!(verify_by_script(&server, &moved).status, 1);
    // Cut off together with the checkpoints that knew it: one kept elsewhere still does.
    let before = edited(&|it| {
        it.retain(|line| !line.contains("\"signature\""));
        it.drain(at(last - 1)..=at(last));
    });
    verify_export(&server, &before, &[]).ok();
    let kept = server.file("checkpoint.json", &lines[checkpoint]);
    verify_export(&server, &before, &["--against", kept.to_str().unwrap()])
        .fails(1)
        .says(&["cut off"]);
}

/// Stops the server, changes its files underneath, and says what `audit verify` finds then.
fn spoiled(file: &str, sql: &str) -> Output {
    let mut server = Server::start(Options::default());
    exported(&server);
    server.stop();
    let changed = store::open(&server, file).execute(sql, ()).unwrap();
    assert!(changed > 0, "{sql}");
    server.serve();
    server.cli(&["audit", "verify"])
}

#[test]
fn what_is_changed_in_the_store_underneath_is_found() {
    let flipped = "substr(body, 1, 100) || char(64) || substr(body, 102)";
    let body = format!("UPDATE events SET body = CAST({flipped} AS BLOB) WHERE number = 4");
    spoiled("strongroom.db", &body)
        .fails(1)
        .says(&["event 4 of changes", "changed"]);
    spoiled("strongroom.db", "DELETE FROM events WHERE number = 4")
        .fails(1)
        .says(&["event 4 of changes", "removed"]);
    spoiled(
        "strongroom.db",
        "UPDATE events SET tag = zeroblob(32) WHERE number = 4",
    )
    .fails(1)
    .says(&["event 4 of changes", "tag"]);
    spoiled("strongroom.db", "DELETE FROM checkpoints WHERE number = 1").ok();
    spoiled(
        "strongroom.db",
        "UPDATE checkpoints SET signature = zeroblob(64) WHERE number = 1",
    )
    .fails(1)
    .says(&["checkpoint"]);
}

#[test]
fn what_is_changed_in_the_access_log_underneath_is_found() {
    let flipped = "substr(body, 1, 100) || char(64) || substr(body, 102)";
    let body = format!("UPDATE segments SET body = CAST({flipped} AS BLOB) WHERE first = 1");
    spoiled("access.db", &body).fails(1).says(&["of access"]);
    let last = "DELETE FROM segments WHERE first = (SELECT max(first) FROM segments)";
    spoiled("access.db", last).fails(1).says(&["access"]);
    spoiled("access.db", "DELETE FROM segments")
        .fails(1)
        .says(&["access"]);
}
