//! Who becomes a client, and who stays one: codes, approvals, guessing, interruptions, backups.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Client, Options, Server, tool};

fn state(client: &Client) -> Value {
    client.cli(&["--json", "client", "show"]).ok().json()["client"]["state"].clone()
}

#[test]
fn with_the_organizations_code_a_client_is_active_at_once() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    assert_eq!(state(&client), "active");
    for name in [
        "client.toml",
        "client.crt",
        "client.key",
        "ca.pem",
        "identity.txt",
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(client.file(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let again = client.register(Some(&server.org("acme"))).ok();
    assert!(again.stderr.contains("already"), "{again:?}");
    assert_eq!(
        server.json(&["client", "list"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn without_the_code_a_client_waits_for_its_approval() {
    let server = Server::start(Options::default());
    server.org("acme");
    let client = server.stranger("a", "acme");
    let registered = client.register(None).ok();
    assert_eq!(registered.json()["state"], "pending");
    let print = client.fingerprint();
    registered.says(&["approve", &print]);
    client
        .cli_with(&["deposit", "put", "x", "-"], b"x")
        .fails(5)
        .says(&["approval"]);
    client
        .curl("/v1/deposits")
        .send()
        .refused(403, "client_pending");
    server.cli(&["client", "approve", &print]).ok();
    client.cli_with(&["deposit", "put", "x", "-"], b"x").ok();
    server
        .cli(&["client", "approve", &print])
        .fails(5)
        .says(&["active"]);
    server.cli(&["client", "deny", &print]).fails(5);
}

#[test]
fn a_denied_client_stays_out_until_its_entry_is_removed() {
    let server = Server::start(Options::default());
    let code = server.org("acme");
    let client = server.stranger("a", "acme");
    client.register(None).ok();
    let print = client.fingerprint();
    server
        .cli(&["client", "deny", &print, "--reason", "who is this?"])
        .ok();
    assert_eq!(
        server.json(&["client", "show", &print])["reason"],
        "who is this?"
    );
    client
        .curl("/v1/deposits")
        .send()
        .refused(403, "client_denied");
    // Not even the right code helps it: someone said no.
    let home = fs::remove_file(client.file("client.toml"));
    assert!(home.is_ok());
    let denied = client.register(Some(&code));
    assert_eq!(denied.json()["state"], "denied", "{denied:?}");
    server.cli(&["client", "rm", &print, "--yes"]).ok();
    client
        .curl("/v1/deposits")
        .send()
        .refused(401, "not_registered");
    client.register(Some(&code)).ok();
    assert_eq!(state(&client), "active");
}

#[test]
fn a_registration_that_nobody_approves_ends() {
    let server = Server::start(Options::stepped());
    server.org("acme");
    server
        .cli(&["setting", "set", "client.pending_hours", "2"])
        .ok();
    let client = server.stranger("a", "acme");
    client.register(None).ok();
    let print = client.fingerprint();
    server.clock("+3h");
    client
        .curl("/v1/deposits")
        .send()
        .refused(401, "not_registered");
    server
        .cli(&["client", "approve", &print])
        .fails(5)
        .says(&["register again"]);
    let again = client.register(None).ok().json();
    assert_eq!(again["state"], "pending");
    server.cli(&["client", "approve", &print]).ok();
    assert_eq!(state(&client), "active");
}

#[test]
fn where_the_code_is_blank_everyone_is_active() {
    let server = Server::start(Options::default());
    let old = server.org("acme");
    // What a failing program leaves must not open it.
    for blank in [&b""[..], b" \n"] {
        server
            .cli_with(&["org", "set-auth", "acme", "--secret-file", "-"], blank)
            .fails(2)
            .says(&["--open"]);
    }
    server.cli(&["org", "set-auth", "acme", "--open"]).ok();
    assert_eq!(
        server.json(&["org", "show", "acme"])["registration"],
        "open"
    );
    for (name, code) in [
        ("a", None),
        ("b", Some(old.as_str())),
        ("c", Some("whatever")),
    ] {
        let client = server.stranger(name, "acme");
        assert_eq!(
            client.register(code).ok().json()["state"],
            "active",
            "{name}"
        );
    }
}

#[test]
fn a_changed_code_replaces_the_old_one_and_clients_stay() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let old = server.org("acme");
    server
        .cli_with(
            &["org", "set-auth", "acme", "--secret-file", "-"],
            b"a new code\n",
        )
        .ok();
    let newcomer = server.stranger("b", "acme");
    newcomer.register(Some(&old)).fails(5).says(&["code"]);
    assert_eq!(
        newcomer.register(Some("a new code")).ok().json()["state"],
        "active"
    );
    assert_eq!(state(&client), "active");
}

/// Registers by curl, with the key of a client that has not registered.
fn guess(client: &Client, from: &str, org: &str, code: &str) -> crate::harness::Answer {
    let body = json!({"org": org, "auth_code": code});
    client
        .curl("/v1/clients")
        .option("--interface", from)
        .json(&body)
        .send()
}

#[test]
fn guessing_a_code_is_refused_counted_and_slowed_for_that_address_and_organization() {
    let server = Server::start(Options::stepped());
    server.freeze();
    let code = server.org("acme");
    server.org("other");
    let made = server.client("made", "other");
    let guesser = server.stranger("a", "acme");
    // It has keys as soon as it tried once.
    guesser
        .register(Some("wrong 0"))
        .fails(5)
        .says(&["registration code"]);
    guess(&guesser, "127.0.0.1", "acme", "wrong 1").refused(403, "wrong_code");
    guess(&guesser, "127.0.0.1", "acme", "wrong 2").refused(403, "wrong_code");
    let slowed = guess(&guesser, "127.0.0.1", "acme", &code).refused(429, "too_many_attempts");
    let seconds: u32 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{slowed:?}");
    // Neither another address nor another organization waits for it.
    guess(&guesser, "127.0.0.2", "acme", "wrong 3").refused(403, "wrong_code");
    guess(&guesser, "127.0.0.1", "other", "wrong 4").refused(403, "wrong_code");
    assert_eq!(state(&made), "active");
    // It waits, and nobody is locked out.
    server.clock("+31s");
    guess(&guesser, "127.0.0.1", "acme", &code).ok(201);

    let refusals = server.json(&[
        "audit",
        "list",
        "-F",
        "action = client.register and outcome = refused",
    ]);
    let refusals = refusals["items"].as_array().unwrap().clone();
    // One a minute for each address and reason.
    assert!(refusals.len() >= 2, "{refusals:?}");
    assert!(
        refusals.iter().all(|event| event["detail"] != ""),
        "{refusals:?}"
    );
    guess(&guesser, "127.0.0.1", "nowhere", "x").refused(404, "not_found");
}

#[test]
fn ten_thousand_wrong_codes_in_a_row_are_hardly_looked_at_and_tell_nobody_anything() {
    let server = Server::start(Options::stepped());
    let begin = strongroom::clock::now();
    let stand_at = |seconds: i64| {
        let time = begin.plus(seconds * strongroom::clock::Timestamp::SECOND);
        server.clock(&time.to_string()[..19].replace('T', " "));
    };
    stand_at(0);
    let code = server.org("acme");
    let member = server.client("member", "acme");
    let guesser = server.stranger("a", "acme");
    guesser.register(Some("guess-0")).fails(5);
    let mut wire = guesser.wire();
    let mut guess = |code: &str| {
        let body = json!({"org": "acme", "auth_code": code}).to_string();
        let json = [("content-type", "application/json")];
        wire.request("POST", "/v1/clients", &json, Some(body.as_bytes()))
    };
    let mut looked_at = 0;
    for number in 1..10_000 {
        let answer = guess(&format!("guess-{number}"));
        match answer.code().as_str() {
            "wrong_code" => looked_at += 1,
            "too_many_attempts" => assert_eq!(answer.status, 429),
            _ => panic!("{answer:?}"),
        }
        assert!(!answer.text().contains("guess-"), "{answer:?}");
    }
    assert!((1..=4).contains(&looked_at), "{looked_at}");
    // From then on one every 30 seconds at most: ten thousand take more than three days.
    let mut at = 0;
    for number in 0..8 {
        at += 31;
        stand_at(at);
        guess(&format!("guess-later-{number}")).refused(403, "wrong_code");
        guess("guess-too-soon").refused(429, "too_many_attempts");
    }
    at += 28;
    stand_at(at);
    guess(&code).refused(429, "too_many_attempts");
    // Nobody else has noticed, and nobody is locked out.
    assert_eq!(state(&member), "active");
    stand_at(at + 4);
    guess(&code).ok(201);
    let events = server.json(&[
        "audit",
        "list",
        "-F",
        "outcome = refused",
        "--limit",
        "1000",
    ]);
    let count = events["items"].as_array().unwrap().len();
    assert!((2..60).contains(&count), "{count}");
    for said in [server.log(), events.to_string()] {
        assert!(!said.contains("guess-") && !said.contains(&code), "{said}");
    }
}

#[test]
fn a_disabled_client_is_refused_from_its_next_request_on_the_same_connection() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"x"))
        .ok(201);
    let print = client.fingerprint();
    server.cli(&["client", "disable", &print]).ok();
    wire.get("/v1/deposits/key").refused(403, "client_disabled");
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"y"))
        .refused(403, "client_disabled");
    client
        .cli(&["deposit", "get", "key"])
        .fails(5)
        .says(&["disabled"]);
    server.cli(&["client", "enable", &print]).ok();
    assert_eq!(wire.get("/v1/deposits/key").ok(200).body, b"x");
    server
        .cli(&["client", "rm", &print, "--yes"])
        .fails(5)
        .says(&["key"]);
}

#[test]
fn an_interrupted_registration_goes_on_where_it_stopped() {
    let mut server = Server::start(Options::default());
    let code = server.org("acme");
    let client = server.stranger("a", "acme");
    server.stop();
    client.register(Some(&code)).fails(3);
    let print = client.fingerprint();
    server.serve();
    // The port is another one now; a home that never reached its server is not bound to it.
    let client = client.at(&server);
    client.register(Some(&code)).ok();
    assert_eq!(client.fingerprint(), print, "the keys that were made stay");

    // The server's answer was lost.
    let toml = fs::read_to_string(client.file("client.toml")).unwrap();
    assert!(toml.contains("registered = true"), "{toml}");
    fs::write(
        client.file("client.toml"),
        toml.replace("registered = true", "registered = false"),
    )
    .unwrap();
    client
        .cli(&["deposit", "list"])
        .fails(2)
        .says(&["register"]);
    client.register(Some(&code)).ok();
    client.cli_with(&["deposit", "put", "key", "-"], b"x").ok();
    // So was all that the client had written down, but its keys.
    fs::remove_file(client.file("client.toml")).unwrap();
    fs::remove_file(client.file("ca.pem")).unwrap();
    client.register(Some(&code)).ok();
    assert_eq!(client.cli(&["deposit", "get", "key"]).ok().stdout, b"x");
    assert_eq!(
        server.json(&["client", "list"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_client_comes_back_from_its_backup() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "key", "-"], b"secret")
        .ok();
    let identity = server.path("safe.txt");
    tool("age-keygen", ["-o", identity.to_str().unwrap()]);
    let recipient =
        String::from_utf8(tool("age-keygen", ["-y", identity.to_str().unwrap()])).unwrap();
    let file = server.path("client.age");
    let (file, identity) = (file.to_str().unwrap(), identity.to_str().unwrap());
    client
        .cli(&[
            "client",
            "backup",
            "--output",
            file,
            "--recipient",
            recipient.trim(),
        ])
        .ok();
    client
        .cli(&[
            "client",
            "backup",
            "--output",
            file,
            "--recipient",
            recipient.trim(),
        ])
        .fails(5);
    // The real age opens it, too.
    tool("age", ["-d", "-i", identity, "-o", "/dev/null", file]);
    client
        .cli(&["client", "restore", file, "--identity", identity])
        .fails(5);
    let before = fs::read(client.file("client.key")).unwrap();
    fs::remove_dir_all(&client.home).unwrap();
    client
        .cli(&["client", "restore", file, "--identity", identity])
        .ok();
    assert_eq!(fs::read(client.file("client.key")).unwrap(), before);
    assert_eq!(
        client.cli(&["deposit", "get", "key"]).ok().stdout,
        b"secret"
    );
}

#[test]
fn the_recovery_recipient_opens_what_clients_encrypt_from_then_on() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let identity = server.path("recovery.txt");
    tool("age-keygen", ["-o", identity.to_str().unwrap()]);
    let recipient =
        String::from_utf8(tool("age-keygen", ["-y", identity.to_str().unwrap()])).unwrap();
    server
        .cli(&["org", "recovery-recipient", "acme", "age1nonsense"])
        .fails(2);
    server
        .cli(&["org", "recovery-recipient", "acme", recipient.trim()])
        .ok();
    let put = client
        .cli_with(&["deposit", "put", "key", "-"], b"secret")
        .ok();
    assert!(put.stderr.contains(recipient.trim()), "{put:?}");
    let sealed = client.curl("/v1/deposits/key").send().ok(200).body;
    let sealed = server.file("sealed", sealed);
    let opened = tool(
        "age",
        [
            "-d",
            "-i",
            identity.to_str().unwrap(),
            sealed.to_str().unwrap(),
        ],
    );
    assert_eq!(opened, b"secret");
    assert_eq!(
        client.cli(&["deposit", "get", "key"]).ok().stdout,
        b"secret"
    );
}

#[test]
fn a_client_that_is_disabled_while_it_sends_does_not_store() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    wire.send(b"PUT /v1/deposits/late HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nla")
        .unwrap();
    // What came before this was taken on by now.
    client.wire().get("/v1/deposits").ok(200);
    server
        .cli(&["client", "disable", &client.fingerprint()])
        .ok();
    wire.send(b"te").unwrap();
    wire.answer(false).unwrap().refused(403, "client_disabled");
    server
        .cli(&["client", "enable", &client.fingerprint()])
        .ok();
    client.curl("/v1/deposits/late").send().ok(404);
}
