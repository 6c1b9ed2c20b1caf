//! The audit: whatever changed, was released or refused stands there, once and in order.

use serde_json::{Value, json};

use crate::harness::{Options, Server, wire};

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

    server.user("ann", &server.password, &["auditor"]);
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

fn log_in(wire: &mut wire::Connection, password: &str) -> wire::Answer {
    let body = json!({"user": "ann", "password": password}).to_string();
    wire.request(
        "POST",
        "/v1/sessions",
        &[("content-type", "application/json")],
        Some(body.as_bytes()),
    )
}
