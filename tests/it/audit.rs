//! The audit: whatever changed, was released or refused stands there, once and in order; and what is
//! done to it afterwards shows, with the server and without it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Options, Output, Server, measured, run, store, wire};

/// The events of both chains, oldest first, less the server's own.
fn events(server: &Server) -> Vec<Value> {
    let listed = server.json(&["audit", "list"]);
    let mut events = listed["items"].as_array().unwrap().clone();
    events.reverse();
    events.retain(|event| event["actor"]["kind"] != "server");
    events
}

/// `who action object outcome`, as the test writes them down.
fn lines(events: &[Value]) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| {
            let object = match word(&event["object"]["name"]).as_str() {
                "" => word(&event["object"]["kind"]),
                name => name.to_owned(),
            };
            let (who, action) = (word(&event["actor"]["kind"]), word(&event["action"]));
            match event["outcome"].as_str() {
                Some("done") => format!("{who} {action} {object}"),
                _ => format!("{who} {action} {object}: {}", word(&event["detail"])),
            }
        })
        .collect()
}

#[test]
fn every_change_release_and_refusal_is_there_once_and_in_order() {
    let server = Server::start(Options::default());
    let code = server.org("acme");
    let client = server.stranger("a", "acme");
    client
        .register_with(
            &[
                "--server-fingerprint",
                &server.fingerprint,
                "--description",
                "machine",
            ],
            b"",
        )
        .ok();
    let print = client.fingerprint();
    let mut wire = client.wire();
    wire.get("/v1/deposits").refused(403, "client_pending");
    server
        .cli(&["client", "approve", &print, "--reason", "ticket 42"])
        .ok();
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"x"))
        .ok(201);
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"y"))
        .ok(200);
    wire.get("/v1/deposits/key").ok(200);
    wire.get("/v1/deposits/key?version=1").ok(200);
    // What shows no bytes is no release; what was refused for its form changed nothing.
    wire.get("/v1/deposits/key/metadata").ok(200);
    wire.request("HEAD", "/v1/deposits/key", &[], None).ok(200);
    wire.request(
        "PUT",
        "/v1/deposits/key",
        &[("if-match", "\"1\"")],
        Some(b"z"),
    )
    .ok(412);
    let json = ("content-type", "application/json");
    wire.request(
        "PATCH",
        "/v1/deposits/key/metadata",
        &[json],
        Some(b"{\"description\":\"d\"}"),
    )
    .ok(200);
    wire.request("DELETE", "/v1/deposits/key", &[], None)
        .ok(200);
    wire.request("POST", "/v1/deposits/key/undelete", &[], None)
        .ok(200);
    wire.request("DELETE", "/v1/deposits/key", &[], None)
        .ok(200);
    wire.request("POST", "/v1/deposits/key/purge", &[], None)
        .ok(204);
    wire.get("/v1/orgs").refused(403, "denied");
    wire.get("/v1/orgs/other/deposits").refused(403, "denied");
    server.cli(&["client", "disable", &print]).ok();
    server.cli(&["client", "enable", &print]).ok();
    server.cli(&["client", "rm", &print, "--yes"]).ok();

    server.cli(&["org", "show", "acme"]).ok();
    server
        .cli_with(&["org", "set-auth", "acme", "--secret-file", "-"], b"new")
        .ok();
    server
        .cli(&["org", "recovery-recipient", "acme", "--remove"])
        .ok();
    let other = server.stranger("b", "acme");
    other.register(Some(&code)).fails(5);
    let named = [
        "--server-fingerprint",
        &server.fingerprint,
        "--description",
        "neighbour",
    ];
    other.register_with(&named, b"").ok();
    server.cli(&["client", "deny", &other.fingerprint()]).ok();

    let password = server.password.as_bytes();
    server
        .cli_with(
            &[
                "user",
                "add",
                "ann",
                "--password-file",
                "-",
                "--role",
                "auditor",
            ],
            password,
        )
        .ok();
    server
        .cli(&["user", "grant", "ann", "key_operator:acme"])
        .ok();
    server
        .cli(&["user", "revoke", "ann", "key_operator:acme"])
        .ok();
    server.cli(&["user", "disable", "ann"]).ok();
    server.cli(&["user", "enable", "ann"]).ok();
    server
        .cli_with(
            &["user", "set-password", "ann", "--password-file", "-"],
            b"another long one",
        )
        .ok();
    let added = server.json(&[
        "token", "add", "--label", "ci", "--user", "ann", "--scope", "all",
    ]);
    let bearer = format!("Bearer {}", added["secret"].as_str().unwrap());
    let mut gui = server.wire(&server.gui_url);
    gui.request(
        "PUT",
        "/v1/settings/log.level",
        &[("authorization", &bearer), json],
        Some(b"{\"value\":\"debug\"}"),
    )
    .refused(403, "denied");
    log_in(&mut gui, "wrong password!").refused(401, "log_in_refused");
    let session = log_in(&mut gui, "another long one").ok(201);
    let cookie = session
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let csrf = session.json()["csrf"].as_str().unwrap().to_owned();
    gui.request(
        "DELETE",
        "/v1/sessions/current",
        &[("cookie", &cookie), ("strongroom-csrf", &csrf)],
        None,
    )
    .ok(204);
    server
        .cli(&[
            "token",
            "rm",
            added["token"]["id"].as_str().unwrap(),
            "--yes",
        ])
        .ok();
    server.cli(&["user", "rm", "ann", "--yes"]).ok();
    server
        .cli(&[
            "setting",
            "set",
            "log.level",
            "warn",
            "--reason",
            "too loud",
        ])
        .ok();

    let found = events(&server);
    assert_eq!(
        lines(&found).join("\n"),
        "local org.add acme
key client.register acme/machine
key request server: client_pending
local client.approve acme/machine
client deposit.put acme/key
client deposit.put acme/key
client deposit.get acme/key
client deposit.get acme/key
client deposit.edit acme/key
client deposit.rm acme/key
client deposit.undelete acme/key
client deposit.rm acme/key
client deposit.purge acme/key
client org.list org: denied
client deposit.list other: denied
local client.disable acme/machine
local client.enable acme/machine
local client.rm acme/machine
local org.show_code acme
local org.set_auth acme
local org.set_recovery_recipient acme
key client.register acme: wrong_code
key client.register acme/neighbour
local client.deny acme/neighbour
local user.add ann
local user.grant ann
local user.revoke ann
local user.edit ann
local user.edit ann
local user.set_password ann
local token.add ci
token setting.set log.level: denied
nobody session.open ann: log_in_refused
user session.open ann
user session.close ann
local token.rm ci
local user.rm ann
local setting.set log.level"
    );
    let approved = found
        .iter()
        .find(|event| event["action"] == "client.approve")
        .unwrap();
    assert_eq!(approved["reason"], "ticket 42");
    let denied = server.json(&[
        "audit",
        "list",
        "-F",
        "outcome = refused",
        "-F",
        "action = setting.set",
    ]);
    assert_eq!(denied["items"].as_array().unwrap().len(), 1, "{denied}");
    // Every event tells its request, its time, and where the caller was.
    for event in &found {
        assert!(
            event["request"].as_str().is_some_and(|id| id.len() == 36),
            "{event}"
        );
        let local = event["actor"]["kind"] == "local";
        assert_eq!(
            event["actor"]["source"],
            if local { "socket" } else { "127.0.0.1" },
            "{event}"
        );
    }
    server.json(&["audit", "verify"]);
}

#[test]
fn a_release_is_in_the_audit_even_if_the_plug_is_pulled_where_audit_is_strict() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    server.cli(&["setting", "set", "audit.strict", "true"]).ok();
    let mut wire = client.wire();
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"x"))
        .ok(201);
    wire.get("/v1/deposits/key").ok(200);
    server.kill9();
    server.serve();
    let lines = lines(&events(&server));
    assert_eq!(
        lines.last().map(String::as_str),
        Some("client deposit.get acme/key"),
        "{lines:?}"
    );
    server.cli(&["audit", "verify"]).ok();
}

/// What `audit verify --export` says of these lines.
fn verify_export(server: &Server, lines: &[String], further: &[&str]) -> Output {
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
fn verify_by_script(server: &Server, lines: &[String]) -> Output {
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

fn log_in(wire: &mut wire::Connection, password: &str) -> wire::Answer {
    let body = json!({"user": "ann", "password": password}).to_string();
    wire.request(
        "POST",
        "/v1/sessions",
        &[("content-type", "application/json")],
        Some(body.as_bytes()),
    )
}
