//! A sealed server: what it answers, how it opens, who is slowed down, what the audit hears of it; and
//! how an open one is sealed again.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::run::as_root;
use crate::harness::{Opens, Options, PATIENCE, Server, run, until, wire};

const SLOT: &str = "018f3b5e-5b6a-7c3d-8e9f-0123456789ab";
const BYTES: &[u8] = b"bytes behind the seal";

/// A server that holds a deposit of the client `a`, started again with nothing that opens it.
fn sealed() -> Server {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client.cli_with(&["deposit", "put", "key", "-"], BYTES).ok();
    server.ca();
    server.stop();
    server.options.opens = Opens::Nothing;
    server.serve();
    server
}

#[track_caller]
fn fetches(server: &Server) {
    let client = server.stranger("a", "acme");
    let fetched = client.cli(&["deposit", "get", "key"]).ok();
    assert_eq!(fetched.stdout, BYTES);
}

fn file(server: &Server, name: &str) -> String {
    server.path(name).display().to_string()
}

/// A request to open it, as the API takes one.
fn body(kind: &str, secret: &[u8]) -> String {
    json!({"opener": {kind: STANDARD.encode(secret)}}).to_string()
}

fn knock(server: &Server, body: &str) -> crate::harness::Answer {
    let mut wire = server.wire(&server.gui_url);
    let json = [("content-type", "application/json")];
    wire.request("POST", "/v1/unseal", &json, Some(body.as_bytes()))
}

/// Refused and done, oldest first: `who source outcome detail`.
fn unsealings(server: &Server) -> Vec<String> {
    let listed = server.json(&["audit", "list", "-F", "action = server.unseal"]);
    let mut lines: Vec<String> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let detail = text(&event["detail"]);
            let detail = detail.split(' ').next().unwrap();
            let who = text(&event["actor"]["kind"]);
            let source = text(&event["actor"]["source"]);
            format!("{who} {source} {} {detail}", text(&event["outcome"]))
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_sealed_server_answers_what_it_must_and_nothing_else() {
    let mut server = sealed();
    let info = server
        .wire(&server.gui_url)
        .get("/v1/server")
        .ok(200)
        .json();
    assert_eq!(info["state"], "sealed");
    assert_eq!(info["server_fingerprint"], server.fingerprint.as_str());
    assert_eq!(server.health("/readyz").status, 503);
    assert_eq!(server.health("/metrics").status, 503);
    let health = server.health("/healthz").ok(200).json();
    assert_eq!(
        (&health["server"], &health["state"]),
        (&json!("sealed"), &json!("amber"))
    );
    let parts = health["subsystems"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "seal").unwrap();
    assert!(
        part["next_step"]
            .as_str()
            .unwrap()
            .contains("strongroom unseal")
    );
    let ca = server
        .wire(&server.gui_url)
        .get("/v1/server/ca.pem")
        .ok(200);
    assert_eq!(ca.body, fs::read(server.ca()).unwrap());
    let page = server.wire(&server.gui_url).get("/").ok(200).text();
    assert!(
        page.contains("action=\"/unseal\"") && page.contains("sealed"),
        "{page}"
    );
    server.cli(&["status"]).fails(3).says(&["sealed"]);
    let client = server.stranger("a", "acme");
    client
        .cli(&["deposit", "get", "key"])
        .fails(3)
        .says(&["sealed", "unseal"]);
    for path in [
        "/v1/deposits/key",
        "/v1/status",
        "/v1/slots",
        "/v1/audit",
        "/metrics",
    ] {
        server
            .wire(&server.gui_url)
            .get(path)
            .refused(503, "sealed");
        server.socket().get(path).refused(503, "sealed");
    }
    let mut wire = client.wire();
    wire.get("/v1/deposits/key").refused(503, "sealed");
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"x"))
        .refused(503, "sealed");
    let log_in = json!({"user": "superuser", "password": server.password}).to_string();
    let json = [("content-type", "application/json")];
    let mut gui = server.wire(&server.gui_url);
    gui.request("POST", "/v1/sessions", &json, Some(log_in.as_bytes()))
        .refused(503, "sealed");
    // Who listens elsewhere is not asked.
    server
        .wire(&server.gui_url)
        .get("/v1/unseal")
        .refused(404, "other_listener");
    let slots = server.socket().get("/v1/unseal").ok(200).json();
    assert_eq!(slots["slots"].as_array().unwrap().len(), 2);
    server
        .cli(&["unseal", "--key-file", &file(&server, "key")])
        .ok();
    assert_eq!(server.health("/readyz").status, 200);
    fetches(&server);
    // The connection from before goes on.
    wire.get("/v1/deposits/key").ok(200);
    server
        .cli(&["unseal", "--key-file", &file(&server, "key")])
        .fails(5)
        .says(&["not sealed"]);
    let again: Value =
        serde_json::from_slice(&fs::read(server.path("ready.json")).unwrap()).unwrap();
    assert_eq!(again["state"], "serving");
    server.stop();
}

#[test]
fn it_stays_sealed_though_something_could_open_it_and_ends_when_told() {
    let mut server = sealed();
    server.stop();
    server.options.args = vec!["--sealed".to_owned()];
    server.options.env = vec![(
        "CREDENTIALS_DIRECTORY".to_owned(),
        "/nonexistent".to_owned(),
    )];
    server.serve();
    assert_eq!(
        server.socket().get("/v1/server").ok(200).json()["state"],
        "sealed"
    );
    server.kill9();
    server
        .options
        .args
        .extend(["--key-file".to_owned(), file(&server, "key")]);
    server.serve_fails().fails(2).says(&["--sealed"]);
}

#[test]
fn wrong_secrets_are_refused_and_stand_in_the_audit_once_it_is_open() {
    let mut server = sealed();
    let wrong = server.file("wrong", "wrong\n");
    let unseal = |server: &Server, option: &str, file: &str| server.cli(&["unseal", option, file]);
    unseal(&server, "--passphrase-file", wrong.to_str().unwrap())
        .fails(5)
        .says(&["passphrase does not open", "slot 1"]);
    let told = knock(&server, &body("passphrase", b"guess"));
    assert!(
        !told.message().contains("slot"),
        "labels are not for everyone: {told:?}"
    );
    told.refused(403, "wrong_passphrase");
    knock(&server, &body("key_file", b"guess")).refused(403, "wrong_key_file");
    knock(&server, &body("recovered", b"guess")).refused(403, "wrong_identity");
    for (garbage, code) in [
        ("{}", "invalid"),
        ("[", "invalid"),
        (r#"{"opener":{"passphrase":"not base64!"}}"#, "invalid"),
        (r#"{"opener":{"identity":"eA=="}}"#, "invalid"),
        (r#"{"opener":{"passphrase":"eA=="},"more":1}"#, "invalid"),
    ] {
        knock(&server, garbage).refused(400, code);
    }
    for (field, value) in [("slot", json!(SLOT)), ("accept_old_seal", json!(true))] {
        let mut asked: Value = serde_json::from_str(&body("key_file", b"guess")).unwrap();
        asked[field] = value;
        knock(&server, &asked.to_string()).refused(400, "invalid");
    }
    // Whoever does not wait for the answer has tried all the same.
    let guess = body("passphrase", b"hung up");
    let head = format!(
        "POST /v1/unseal HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        guess.len()
    );
    let mut wire = server.wire(&server.gui_url);
    wire.send(head.as_bytes()).unwrap();
    wire.send(guess.as_bytes()).unwrap();
    let attempts = server.data.join("attempts.json");
    let kept = || {
        fs::read_to_string(&attempts)
            .unwrap()
            .matches("refused")
            .count()
    };
    // Argon2 takes three times as long.
    let since = Instant::now();
    until(PATIENCE, || since.elapsed() > Duration::from_millis(100));
    assert_eq!(kept(), 4);
    drop(wire);
    until(PATIENCE, || kept() == 5);
    // What was tried is not lost with the process.
    server.kill9();
    server.serve();
    knock(
        &server,
        &body("key_file", &fs::read(server.path("key")).unwrap()),
    )
    .ok(200);
    assert_eq!(
        unsealings(&server),
        [
            "local socket refused wrong_passphrase",
            "nobody 127.0.0.1 done slot",
            "nobody 127.0.0.1 refused wrong_identity",
            "nobody 127.0.0.1 refused wrong_key_file",
            "nobody 127.0.0.1 refused wrong_passphrase",
            "nobody 127.0.0.1 refused wrong_passphrase",
        ]
    );
    assert!(!attempts.exists());
    server.cli(&["audit", "verify"]).ok();
    fetches(&server);
    let log = server.log();
    for secret in [
        "guess",
        &STANDARD.encode("guess"),
        &STANDARD.encode(fs::read(server.path("key")).unwrap()),
    ] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn an_address_tries_five_times_a_minute_and_the_socket_always() {
    let server = sealed();
    for _ in 0..5 {
        knock(&server, &body("key_file", b"guess")).refused(403, "wrong_key_file");
    }
    let slowed = knock(
        &server,
        &body("key_file", &fs::read(server.path("key")).unwrap()),
    );
    let wait: u32 = slowed.header("retry-after").unwrap().parse().unwrap();
    slowed.refused(429, "too_many_attempts");
    assert!((1..=61).contains(&wait), "{wait}");
    let wrong = server.file("wrong", [1; 32]).display().to_string();
    for _ in 0..8 {
        server.cli(&["unseal", "--key-file", &wrong]).fails(5);
    }
    server
        .cli(&["unseal", "--key-file", &file(&server, "key")])
        .ok();
    fetches(&server);
}

#[test]
fn without_the_network_only_the_machine_itself_unseals() {
    let mut server = sealed();
    server.stop();
    let config = server.data.join("live/strongroom.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("network = true", "network = false")).unwrap();
    server.serve();
    let right = body("key_file", &fs::read(server.path("key")).unwrap());
    knock(&server, &right).refused(403, "unseal_local");
    let page = server
        .curl(&format!("{}/unseal", server.gui_url))
        .option("--data-urlencode", "passphrase=x")
        .send();
    assert_eq!(page.status, 403);
    assert!(
        page.text().contains("on its own machine alone"),
        "{}",
        page.text()
    );
    server
        .cli(&["unseal", "--key-file", &file(&server, "key")])
        .ok();
    fetches(&server);
}

#[test]
fn the_page_opens_it_and_says_why_it_does_not() {
    let server = sealed();
    let form = |field: String| {
        server
            .curl(&format!("{}/unseal", server.gui_url))
            .option("--data-urlencode", &field)
            .send()
    };
    let refused = form("passphrase=<b>wrong</b>".to_owned());
    assert_eq!(refused.status, 403);
    let text = refused.text();
    assert!(
        text.contains("role=\"alert\"") && text.contains("does not open the server"),
        "{text}"
    );
    assert!(!text.contains("wrong</b>"), "{text}");
    assert_eq!(form("other=x".to_owned()).status, 400);
    let foreign = server
        .curl(&format!("{}/unseal", server.gui_url))
        .header("sec-fetch-site", "cross-site")
        .option("--data-urlencode", "passphrase=x")
        .send();
    foreign.refused(403, "other_site");
    let right = String::from_utf8(server.options.passphrase.clone()).unwrap();
    let opened = form(format!("passphrase={right}"));
    assert_eq!((opened.status, opened.header("location")), (303, Some("/")));
    let page = server.wire(&server.gui_url).get("/").ok(200).text();
    assert!(
        page.contains("serving") && !page.contains("<form"),
        "{page}"
    );
    fetches(&server);
}

#[test]
fn two_at_once_open_it_once() {
    let server = sealed();
    let right = body("key_file", &fs::read(server.path("key")).unwrap());
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let knocking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| knock(&server, &right).status))
            .collect();
        knocking.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(
        answers.iter().filter(|status| **status == 200).count(),
        1,
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .all(|status| [200, 409, 429].contains(status)),
        "{answers:?}"
    );
    fetches(&server);
}

#[test]
fn sealing_finishes_what_was_taken_on_forgets_the_keys_and_keeps_the_ports() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client.cli_with(&["deposit", "put", "key", "-"], BYTES).ok();
    let (pid, gui, url) = (
        server.pid,
        server.gui_url.clone(),
        server.client_url.clone(),
    );
    let session = {
        let body = json!({"user": "superuser", "password": server.password}).to_string();
        let json = [("content-type", "application/json")];
        let mut wire = server.wire(&server.gui_url);
        let answer = wire
            .request("POST", "/v1/sessions", &json, Some(body.as_bytes()))
            .ok(201);
        answer
            .header("set-cookie")
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    };
    let (stop, stored) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (stop, stored, client) = (&stop, &stored, &client);
            scope.spawn(move || {
                let mut wire: Option<wire::Connection> = None;
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let path = format!("/v1/deposits/w{writer}-{number}");
                    let connection = wire.get_or_insert_with(|| client.wire());
                    match connection.try_request("PUT", &path, &[], Some(BYTES)) {
                        Ok(answer) if answer.status == 201 => {
                            stored.fetch_add(1, Ordering::Relaxed)
                        }
                        Ok(answer) => {
                            assert_eq!(answer.status, 503, "{answer:?}");
                            return;
                        }
                        // Closed between two requests, or listened to by nobody for a moment.
                        Err(_) => return,
                    };
                }
            });
        }
        until(PATIENCE, || stored.load(Ordering::Relaxed) > 20);
        server.cli(&["seal"]).fails(2).says(&["--yes"]);
        server.cli(&["seal", "--yes", "--reason", "ticket 7"]).ok();
        stop.store(true, Ordering::Relaxed);
    });
    let ready: Value =
        serde_json::from_slice(&fs::read(server.path("ready.json")).unwrap()).unwrap();
    assert_eq!(
        (&ready["state"], &ready["pid"]),
        (&json!("sealed"), &json!(pid))
    );
    assert_eq!(
        (&ready["gui_url"], &ready["client_url"]),
        (&json!(gui), &json!(url))
    );
    client
        .cli(&["deposit", "get", "key"])
        .fails(3)
        .says(&["sealed"]);
    server.cli(&["seal", "--yes"]).fails(3).says(&["sealed"]);
    server
        .cli(&["unseal", "--passphrase-file", &file(&server, "passphrase")])
        .ok();
    fetches(&server);
    let kept = server.json(&["status"])["deposits"].as_u64().unwrap();
    assert!(kept > u64::from(stored.load(Ordering::Relaxed)), "{kept}");
    let mut wire = server.wire(&server.gui_url);
    wire.request("GET", "/v1/sessions/current", &[("cookie", &session)], None)
        .refused(401, "session_over");
    let sealed = server.json(&["audit", "list", "-F", "action = server.seal"]);
    assert_eq!(sealed["items"][0]["reason"], "ticket 7", "{sealed}");
    server.cli(&["audit", "verify"]).ok();
    server.stop();
}

#[test]
fn an_old_seal_json_is_not_taken_from_the_network_either_unless_by_name() {
    let mut server = Server::start(Options::default());
    let seal = server.data.join("live/seal.json");
    let old = fs::read(&seal).unwrap();
    let key = file(&server, "key");
    let slots = server.json(&["slot", "list"]);
    let passphrase = slots["slots"][0]["id"].as_str().unwrap().to_owned();
    server
        .cli(&["slot", "remove", &passphrase, "--key-file", &key, "--yes"])
        .ok();
    server.stop();
    fs::write(&seal, old).unwrap();
    server.options.opens = Opens::Nothing;
    server.serve();
    let passphrase = server.options.passphrase.clone();
    knock(&server, &body("passphrase", &passphrase)).refused(409, "seal_older");
    server
        .cli(&["unseal", "--key-file", &key])
        .fails(5)
        .says(&["--accept-old-seal"]);
    server
        .cli(&["unseal", "--key-file", &key, "--accept-old-seal"])
        .ok();
    assert_eq!(
        unsealings(&server),
        [
            "local socket done slot",
            "local socket refused seal_older",
            "nobody 127.0.0.1 refused seal_older",
        ]
    );
}

/// What a process's memory holds of these bytes: how often each. Only root reads another's memory.
fn in_memory(pid: u32, wanted: &[&[u8]]) -> Vec<u64> {
    const SCAN: &str = r#"
import sys
wanted = [bytes.fromhex(word) for word in sys.argv[2:]]
found = [0] * len(wanted)
with open(f"/proc/{sys.argv[1]}/maps") as maps, open(f"/proc/{sys.argv[1]}/mem", "rb", 0) as memory:
    for line in maps:
        places, mode, *_ = line.split()
        if mode[0] != "r" or "[v" in line:
            continue
        begin, end = (int(place, 16) for place in places.split("-"))
        memory.seek(begin)
        held = memory.read(end - begin)
        found = [count + held.count(word) for count, word in zip(found, wanted)]
print(*found)
"#;
    let mut command = as_root("python3");
    command.args(["-c", SCAN, &pid.to_string()]);
    let said = run(command.args(wanted.iter().map(hex::encode)))
        .ok()
        .text();
    said.split_whitespace()
        .map(|count| count.parse().unwrap())
        .collect()
}

#[test]
fn secrets_do_not_stay_in_memory_and_keys_are_locked() {
    let mut server = Server::start(Options {
        opens: Opens::Passphrase,
        ..Options::default()
    });
    let client = server.client("a", "acme");
    let body = hex::encode(strongroom::crypto::random::<40>());
    let args = ["deposit", "put", "key", "-", "--raw"];
    client.cli_with(&args, body.as_bytes()).ok();
    client.cli(&["deposit", "get", "key"]).ok();
    // The same secret in all the ways that it takes: at the start, with a command, through the page.
    let passphrase = server.options.passphrase.clone();
    let key = fs::read(server.path("key")).unwrap();
    let file_of = file(&server, "passphrase");
    server
        .cli(&[
            "slot",
            "add",
            "key-file",
            "--label",
            "x",
            "--secret-file",
            &file(&server, "key"),
            "--passphrase-file",
            &file_of,
        ])
        .ok();
    let gone = |server: &Server, keys: bool| {
        let encoded = [STANDARD.encode(&passphrase), STANDARD.encode(&key)];
        let fingerprint = hex::decode(&server.fingerprint).unwrap();
        // The last groups depend on what follows.
        let encoded: Vec<&[u8]> = encoded.iter().map(|text| &text.as_bytes()[..24]).collect();
        let wanted = [
            &fingerprint,
            &passphrase,
            &key,
            encoded[0],
            encoded[1],
            body.as_bytes(),
        ];
        let found = in_memory(server.pid, &wanted);
        assert!(found[0] > 0, "the scan finds nothing at all: {found:?}");
        assert_eq!(found[1..], [0; 5], "{found:?}");
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid)).unwrap();
        let locked = status
            .lines()
            .find_map(|line| line.strip_prefix("VmLck:"))
            .unwrap();
        assert_eq!(locked.trim() != "0 kB", keys, "{locked}");
    };
    gone(&server, true);
    server.cli(&["seal", "--yes"]).ok();
    gone(&server, false);
    let right = String::from_utf8(server.options.passphrase.clone()).unwrap();
    let page = server.curl(&format!("{}/unseal", server.gui_url));
    let opened = page
        .option("--data-urlencode", &format!("passphrase={right}"))
        .send();
    assert_eq!(opened.status, 303);
    gone(&server, true);
    server.stop();
}
