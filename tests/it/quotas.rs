//! Quotas: what organizations and clients may keep and ask for, and that the counters behind them are
//! right whatever happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};
use strongroom::clock::Timestamp;

use crate::harness::store::miscounted;
use crate::harness::{Client, Dice, Options, PATIENCE, Server, seed, until, wire};

const JSON: (&str, &str) = ("content-type", "application/json");

fn put(client: &Client, name: &str, bytes: usize) -> crate::harness::Answer {
    let path = format!("/v1/deposits/{name}");
    let body = vec![7; bytes];
    client.wire().request("PUT", &path, &[], Some(&body))
}

/// What `show` says is kept.
fn used(server: &Server, what: &[&str]) -> (u64, u64) {
    let shown = server.json(what);
    let number = |field: &str| shown[field].as_u64().unwrap();
    (number("deposits"), number("bytes"))
}

/// `org quota` with these words.
fn limit(server: &Server, words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    server.cli(&[&["org", "quota"], &words[..]].concat()).ok();
}

#[test]
fn an_organization_and_a_client_keep_what_their_quotas_allow() {
    let mut server = Server::start(Options::default());
    let (one, two) = (server.client("one", "acme"), server.client("two", "acme"));
    let fingerprint = one.fingerprint();
    let quota_of = |of: &str| {
        let args = ["--json", "org", "quota", of];
        let plain = server.cli(&args[1..]).ok().text();
        (server.cli(&args).ok().json(), plain)
    };
    let (none, text) = quota_of("acme");
    assert_eq!(
        none,
        json!({"quota": {"objects": null, "bytes": null, "requests": null}, "used": {"objects": 0, "bytes": 0}})
    );
    assert!(text.contains("0, no limit"), "{text}");
    server
        .cli(&["org", "quota", "acme", "--objects", "3", "--bytes", "1MiB"])
        .ok()
        .says(&["the quota of acme is 3 deposits, 1048576 bytes"]);
    server
        .cli(&["client", "quota", &fingerprint, "--objects", "2"])
        .ok();
    put(&one, "a", 1_000).ok(201);
    put(&one, "b", 1_000).ok(201);
    let full = put(&one, "c", 1_000).refused(409, "quota_objects");
    let text = full.message();
    for part in [
        "the client may keep 2 deposits and keeps 2",
        "the bin included",
        "administrator of its organization",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // A new version is no new deposit; what is in the bin is kept.
    put(&one, "a", 500).ok(200);
    one.cli(&["deposit", "rm", "b", "--yes"]).ok();
    put(&one, "c", 1).refused(409, "quota_objects");
    one.cli(&["deposit", "purge", "b", "--yes"]).ok();
    put(&one, "c", 1).ok(201);
    put(&two, "d", 1).ok(201);
    let text = put(&two, "e", 1).refused(409, "quota_objects").message();
    assert!(
        text.contains("the organization may keep 3 deposits and keeps 3")
            && text.contains("administrator of this server"),
        "{text}"
    );
    // As a user of the program sees it.
    two.cli_with(&["deposit", "put", "e", "-"], b"x")
        .fails(5)
        .says(&["the organization may keep 3 deposits"]);
    // An operator's deposits are nobody's, and the organization's.
    server
        .cli_with(
            &["deposit", "put", "f", "-", "--org", "acme", "--raw"],
            b"x",
        )
        .fails(5)
        .says(&["may keep 3 deposits"]);
    assert_eq!(used(&server, &["org", "show", "acme"]), (3, 1_502));
    let shown = server.json(&["client", "show", &fingerprint]);
    assert_eq!(
        (
            &shown["deposits"],
            &shown["bytes"],
            &shown["quota"]["objects"]
        ),
        (&json!(2), &json!(1_501), &json!(2)),
        "{shown}"
    );
    // A client reads its own.
    let own = one.cli(&["--json", "client", "show"]).ok().json();
    assert_eq!(own["client"]["quota"]["objects"], 2, "{own}");
    let listed = server.json(&["client", "list", "-F", "deposits > 1 and bytes = 1501"]);
    assert_eq!(listed["items"][0]["fingerprint"], fingerprint.as_str());
    let (full, text) = quota_of("acme");
    assert_eq!(full["used"], json!({"objects": 3, "bytes": 1_502}));
    assert!(
        text.contains("3 of 3") && text.contains("1502 of 1048576"),
        "{text}"
    );

    // Long bodies lie in parts, which a refusal leaves nothing of; an exact fit fits.
    put(&one, "a", 600_000).ok(200);
    let left = 1_048_576 - 601_502;
    let text = put(&one, "a", left + 1)
        .refused(409, "quota_bytes")
        .message();
    assert!(
        text.contains("the organization may keep 1048576 bytes and keeps 601502"),
        "{text}"
    );
    put(&one, "a", left).ok(200);
    put(&one, "a", 1).refused(409, "quota_bytes");
    put(&one, "a", 0).refused(409, "quota_bytes");
    assert_eq!(used(&server, &["org", "show", "acme"]), (3, 1_048_576));

    // Below what is there: it is read and deleted, and nothing is added.
    server
        .cli(&["org", "quota", "acme", "--bytes", "10", "--objects", "0"])
        .ok()
        .says(&["more than that"]);
    assert_eq!(one.wire().get("/v1/deposits/a").ok(200).body.len(), left);
    let older = one.wire().get("/v1/deposits/a?version=1").ok(200);
    assert_eq!(older.body.len(), 1_000);
    one.cli(&["deposit", "edit", "a", "--description", "still"])
        .ok();
    put(&one, "a", 1).refused(409, "quota_bytes");
    one.cli(&["deposit", "rm", "a", "--yes"]).ok();
    one.cli(&["deposit", "undelete", "a"]).ok();
    one.cli(&["deposit", "rm", "a", "--yes"]).ok();
    one.cli(&["deposit", "purge", "a", "--yes"]).ok();
    assert_eq!(used(&server, &["org", "show", "acme"]), (2, 2));
    server
        .cli(&[
            "org",
            "quota",
            "acme",
            "--bytes",
            "none",
            "--objects",
            "none",
        ])
        .ok()
        .says(&["acme has no quota"]);
    put(&two, "e", 1).ok(201);
    server.stop();
    assert_eq!(miscounted(&server), Vec::<String>::new());
}

#[test]
fn each_change_of_a_quota_is_in_the_audit_with_the_old_one_and_refusals_once_a_minute() {
    let server = Server::start(Options::stepped());
    server.freeze();
    let client = server.client("a", "acme");
    let fingerprint = client.fingerprint();
    server
        .cli(&[
            "org",
            "quota",
            "acme",
            "--objects",
            "0",
            "--reason",
            "read only",
        ])
        .ok();
    limit(&server, "acme --objects none --requests 9");
    server
        .cli(&["client", "quota", &fingerprint, "--bytes", "5KiB"])
        .ok();
    let details = |action: &str| -> Vec<String> {
        let filter = format!("action = {action}");
        let events = server.json(&["audit", "list", "-F", &filter]);
        let items = events["items"].as_array().unwrap();
        items
            .iter()
            .map(|it| it["detail"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        details("org.set_quota"),
        ["objects 0 to none, requests none to 9", "objects none to 0"]
    );
    assert_eq!(details("client.set_quota"), ["bytes none to 5120"]);
    let events = server.json(&["audit", "list", "-F", "action = org.set_quota"]);
    assert_eq!(events["items"][1]["reason"], "read only", "{events}");
    assert_eq!(events["items"][0]["object"]["name"], "acme", "{events}");

    for _ in 0..5 {
        put(&client, "large", 6_000).refused(409, "quota_bytes");
    }
    for _ in 0..9 {
        client.wire().get("/v1/clients/self");
    }
    let refusals = || {
        let events = server.json(&["audit", "list", "-F", "outcome = refused"]);
        let items = events["items"].as_array().unwrap().clone();
        let of = |code: &str| {
            let mut found = items.iter().filter(|it| it["detail"] == code);
            (found.next().cloned(), found.count())
        };
        (of("quota_bytes"), of("quota_requests"))
    };
    let ((bytes, more_bytes), (requests, more_requests)) = refusals();
    assert_eq!((more_bytes, more_requests), (0, 0));
    for event in [bytes, requests] {
        let event = event.unwrap();
        assert_eq!(event["actor"]["kind"], "client", "{event}");
        assert_eq!(event["actor"]["name"], fingerprint.as_str(), "{event}");
    }
}

#[test]
fn a_retried_put_gets_its_first_answer_from_a_full_quota() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    limit(&server, "acme --objects 2");
    let send = |key: &str, name: &str, bytes: usize| {
        let path = format!("/v1/deposits/{name}");
        let (headers, body) = ([("idempotency-key", key)], vec![1; bytes]);
        client.wire().request("PUT", &path, &headers, Some(&body))
    };
    // In one piece, and in parts.
    let first = [
        send("k1", "a", 10).ok(201).json(),
        send("k2", "b", 600_000).ok(201).json(),
    ];
    send("k3", "c", 10).refused(409, "quota_objects");
    send("k4", "c", 600_000).refused(409, "quota_objects");
    limit(&server, "acme --bytes 0");
    let again = [
        send("k1", "a", 10).ok(201).json(),
        send("k2", "b", 600_000).ok(201).json(),
    ];
    assert_eq!(first, again);
    assert_eq!(used(&server, &["org", "show", "acme"]), (2, 600_010));
    server.stop();
    assert_eq!(miscounted(&server), Vec::<String>::new());
}

#[test]
fn sixteen_writers_at_once_keep_a_hundred_deposits_and_no_more() {
    const LIMIT: u64 = 100;
    let mut server = Server::start(Options::default());
    let clients: Vec<Client> = (0..4)
        .map(|n| server.client(&format!("c{n}"), "acme"))
        .collect();
    limit(&server, "acme --objects 100 --bytes 1MiB");
    server
        .cli(&[
            "client",
            "quota",
            &clients[0].fingerprint(),
            "--objects",
            "10",
        ])
        .ok();
    let (stored, own) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for writer in 0..16 {
            let client = &clients[writer % 4];
            let (stored, own) = (&stored, &own);
            scope.spawn(move || {
                let mut wire = client.wire();
                for n in 0..25 {
                    let path = format!("/v1/deposits/w{writer}-{n}");
                    let answer = wire.request("PUT", &path, &[], Some(b"bytes"));
                    match answer.status {
                        201 => {
                            stored.fetch_add(1, Ordering::SeqCst);
                            own.fetch_add(u64::from(writer % 4 == 0), Ordering::SeqCst);
                        }
                        409 => drop(answer.refused(409, "quota_objects")),
                        _ => panic!("{answer:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(stored.load(Ordering::SeqCst), LIMIT);
    assert_eq!(own.load(Ordering::SeqCst), 10);
    assert_eq!(used(&server, &["org", "show", "acme"]), (LIMIT, 500));

    // The same of bytes, with versions of the same deposits.
    let stored = AtomicU64::new(0);
    thread::scope(|scope| {
        for (at, client) in clients.iter().enumerate() {
            let stored = &stored;
            scope.spawn(move || {
                let mut wire = client.wire();
                for _ in 0..40 {
                    let path = format!("/v1/deposits/w{}-0", at);
                    let answer = wire.request("PUT", &path, &[], Some(&[7; 10_000]));
                    match answer.status {
                        200 => drop(stored.fetch_add(1, Ordering::SeqCst)),
                        201 => panic!("the writers before stored none of it: {answer:?}"),
                        _ => drop(answer.refused(409, "quota_bytes")),
                    }
                }
            });
        }
    });
    assert_eq!(stored.load(Ordering::SeqCst), (1_048_576 - 500) / 10_000);

    // And with long bodies, whose parts are there before it is known whether they fit.
    limit(&server, "acme --objects none --bytes 4MiB");
    let stored = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..8 {
            let (client, stored) = (&clients[1 + writer % 3], &stored);
            scope.spawn(move || {
                let name = format!("long{writer}");
                let answer = put(client, &name, 1_000_000);
                match answer.status {
                    201 => drop(stored.fetch_add(1, Ordering::SeqCst)),
                    _ => drop(answer.refused(409, "quota_bytes")),
                }
            });
        }
    });
    assert_eq!(stored.load(Ordering::SeqCst), 3);
    server.stop();
    assert_eq!(miscounted(&server), Vec::<String>::new());
}

#[test]
fn limits_that_are_none_are_refused_by_their_field_and_range() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut socket = server.socket();
    let paths = [
        "/v1/orgs/acme/quota".to_owned(),
        format!("/v1/clients/{}/quota", client.fingerprint()),
    ];
    let whole = "a whole number from 0 to 9223372036854775807";
    let rate = "a whole number from 1 to 1000000";
    let odd = [
        "-1",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "1.5",
        "1.0",
        "\"7\"",
        "\"none\"",
        "true",
        "[1]",
        "{\"most\":1}",
    ];
    for path in &paths {
        let mut send = |body: &str| socket.request("PUT", path, &[JSON], Some(body.as_bytes()));
        for (field, rule) in [("objects", whole), ("bytes", whole), ("requests", rate)] {
            for value in odd {
                let answer = send(&format!("{{\"{field}\":{value}}}"));
                let answer = answer.refused(400, "invalid");
                // A number that no number type holds is no JSON to begin with.
                if value != "1e400" {
                    let text = answer.message();
                    assert!(text.contains(rule), "{field} {value}: {text}");
                    assert_eq!(answer.json()["error"]["field"], field, "{text}");
                }
            }
        }
        for value in ["0", "1000001", "4294967296", "9223372036854775807"] {
            let answer = send(&format!("{{\"requests\":{value}}}"));
            let text = answer.refused(400, "invalid").message();
            assert!(text.contains(rate) && text.contains("disable"), "{text}");
        }
        for body in [
            "{}",
            "[]",
            "",
            "null",
            "{\"object\":1}",
            "{\"objects\":1,\"objects\":2}",
        ] {
            send(body).refused(400, "invalid");
        }
        // The ends of the ranges are in them.
        let most = json!({"objects": i64::MAX, "bytes": i64::MAX, "requests": 1_000_000});
        let answer = send(&most.to_string()).ok(200).json();
        assert_eq!(answer["quota"], most);
        put(&client, "key", 10);
        client.wire().get("/v1/deposits/key").ok(200);
        let none = json!({"objects": 0, "bytes": 0, "requests": null});
        let answer = send(&none.to_string()).ok(200).json();
        assert_eq!(answer["quota"], none);
        put(&client, "key", 10).refused(409, "quota_bytes");
        send(r#"{"objects":null,"bytes":null}"#).ok(200);
    }
    for (option, value) in [
        ("--objects", "-1"),
        ("--objects", "9223372036854775808"),
        ("--objects", "1.5"),
        ("--objects", "many"),
        ("--bytes", "10MB"),
        ("--bytes", "8388608TiB"),
        ("--bytes", ""),
        ("--requests", "0"),
        ("--requests", "1000001"),
    ] {
        for noun in [
            ["org", "quota", "acme"],
            ["client", "quota", &client.fingerprint()],
        ] {
            let range = if option == "--requests" {
                "1 to 1000000"
            } else {
                "0 to"
            };
            server
                .cli(&[&noun[..], &[option, value]].concat())
                .fails(2)
                .says(&[option, range]);
        }
    }
    server.cli(&["org", "quota", "none"]).fails(4);
    server
        .cli(&["org", "quota", "none", "--objects", "1"])
        .fails(4);
    server.cli(&["client", "quota", &"ab".repeat(32)]).fails(4);
}

/// A server whose clock stands still, and is put forward in steps.
struct Frozen {
    server: Server,
    from: Timestamp,
}

impl Frozen {
    fn start() -> Self {
        let server = Server::start(Options::stepped());
        let from = strongroom::clock::now();
        let frozen = Self { server, from };
        frozen.seconds(0);
        frozen
    }

    fn seconds(&self, seconds: i64) {
        let time = self.from.plus(seconds * Timestamp::SECOND).to_string();
        self.server.clock(&time[..19].replace('T', " "));
    }
}

/// How many of so many requests are let through; all others are refused for their number.
fn let_through(wire: &mut wire::Connection, method: &str, path: &str, count: usize) -> usize {
    let body = (method == "PUT").then_some(&b"bytes"[..]);
    (0..count)
        .filter(|_| {
            let answer = wire.request(method, path, &[], body);
            if answer.status < 300 {
                return true;
            }
            let answer = answer.refused(429, "quota_requests");
            assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
            false
        })
        .count()
}

#[test]
fn requests_a_second_are_counted_for_clients_and_their_organization() {
    let frozen = Frozen::start();
    let server = &frozen.server;
    let (one, two) = (server.client("one", "acme"), server.client("two", "acme"));
    let other = server.client("other", "beta");
    for client in [&one, &two, &other] {
        put(client, &format!("key-{}", &client.fingerprint()[..8]), 10).ok(201);
    }
    let key = |client: &Client| format!("/v1/deposits/key-{}", &client.fingerprint()[..8]);
    let (mut wire, mut second, mut third) = (one.wire(), two.wire(), other.wire());
    // What is in the cache is counted like anything else.
    let_through(&mut wire, "GET", &key(&one), 3);
    server
        .cli(&["client", "quota", &one.fingerprint(), "--requests", "5"])
        .ok();
    frozen.seconds(10);
    assert_eq!(let_through(&mut wire, "GET", &key(&one), 20), 5);
    assert_eq!(let_through(&mut wire, "PUT", &key(&one), 3), 0);
    assert_eq!(let_through(&mut wire, "GET", "/v1/clients/self", 3), 0);
    assert_eq!(let_through(&mut one.wire(), "GET", &key(&one), 3), 0);
    // What anybody may ask, and what others ask, is not slowed down.
    wire.get("/v1/server").ok(200);
    assert_eq!(let_through(&mut second, "GET", &key(&two), 20), 20);
    frozen.seconds(11);
    assert_eq!(let_through(&mut wire, "PUT", &key(&one), 20), 5);
    // A change takes effect with the next request.
    server
        .cli(&["client", "quota", &one.fingerprint(), "--requests", "none"])
        .ok();
    assert_eq!(let_through(&mut wire, "GET", &key(&one), 30), 30);
    limit(server, "acme --requests 8");
    assert_eq!(let_through(&mut wire, "GET", &key(&one), 6), 6);
    assert_eq!(let_through(&mut second, "GET", &key(&two), 6), 2);
    assert_eq!(let_through(&mut third, "GET", &key(&other), 30), 30);
    // People and programs are not the organization's clients.
    let mut socket = server.socket();
    for _ in 0..20 {
        socket.get("/v1/orgs/acme/deposits").ok(200);
    }
    frozen.seconds(12);
    assert_eq!(let_through(&mut second, "GET", &key(&two), 30), 8);
    frozen.seconds(9);
    assert_eq!(
        let_through(&mut second, "GET", &key(&two), 5),
        0,
        "set back"
    );
    frozen.seconds(10);
    assert_eq!(let_through(&mut second, "GET", &key(&two), 30), 8);
    limit(server, "acme --requests none");
    assert_eq!(let_through(&mut second, "GET", &key(&two), 30), 30);
}

#[test]
fn a_command_waits_its_turn() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    limit(&server, "acme --requests 1");
    // More than one request each.
    for n in 0..2 {
        let name = format!("key{n}");
        client
            .cli_with(&["deposit", "put", &name, "-"], b"a value")
            .ok();
        assert_eq!(
            client.cli(&["deposit", "get", &name]).ok().stdout,
            b"a value"
        );
    }
}

/// A machine of the random run, and how often it was made.
struct Machine {
    client: Client,
    org: &'static str,
    number: u64,
}

/// One step of the random run: any verb that stores, moves or deletes, or that makes it refused.
fn step(server: &Server, machine: &Machine, dice: &mut Dice) -> u16 {
    let name = format!("d{}", dice.below(12));
    let path = format!("/v1/deposits/{name}");
    let in_org = format!("/v1/orgs/{}/deposits/{name}", machine.org);
    let mut wire = machine.client.wire();
    let mut socket = server.socket();
    let length = match dice.below(8) {
        0 => 262_140 + dice.below(9),
        1 => 600_000,
        2 => 0,
        _ => dice.below(2_000),
    };
    let body = dice.bytes(usize::try_from(length).unwrap());
    let quota = |dice: &mut Dice| {
        let mut limit = |most: u64| match dice.below(3) {
            0 => json!(dice.below(most)),
            _ => Value::Null,
        };
        json!({"objects": limit(10), "bytes": limit(3_000_000)}).to_string()
    };
    let answer = match dice.below(20) {
        0..8 => wire.request("PUT", &path, &[], Some(&body)),
        8..10 => socket.request("PUT", &in_org, &[], Some(&body)),
        10..12 => wire.request("DELETE", &path, &[], None),
        12 => socket.request("DELETE", &in_org, &[], None),
        13 => wire.request("POST", &format!("{path}/undelete"), &[], None),
        14 => wire.request("POST", &format!("{path}/purge"), &[], None),
        15 => socket.request("POST", &format!("{in_org}/purge"), &[], None),
        16 => wire.request(
            "PATCH",
            &format!("{path}/metadata"),
            &[JSON],
            Some(br#"{"description":"edited"}"#),
        ),
        17 => {
            let path = format!("/v1/orgs/{}/quota", machine.org);
            socket.request("PUT", &path, &[JSON], Some(quota(dice).as_bytes()))
        }
        18 => {
            let path = format!("/v1/clients/{}/quota", machine.client.fingerprint());
            socket.request("PUT", &path, &[JSON], Some(quota(dice).as_bytes()))
        }
        _ => {
            let verb = ["disable", "enable", "enable"][usize::try_from(dice.below(3)).unwrap()];
            let path = format!("/v1/clients/{}/{verb}", machine.client.fingerprint());
            socket.request("POST", &path, &[], None)
        }
    };
    assert!(
        matches!(answer.status, 200 | 201 | 204 | 403 | 404 | 409),
        "{answer:?}"
    );
    answer.status
}

#[test]
fn the_counters_are_what_the_rows_add_up_to_whatever_happened() {
    let mut server = Server::start(Options::stepped());
    let mut dice = Dice::new(seed());
    let machine = |server: &Server, org: &'static str, number: u64| Machine {
        client: server.client(&format!("m{number}"), org),
        org,
        number,
    };
    let mut machines = vec![
        machine(&server, "acme", 0),
        machine(&server, "acme", 1),
        machine(&server, "beta", 2),
    ];
    server
        .cli(&["setting", "set", "deposit.bin_days", "30"])
        .ok();
    let mut done = 0;
    for round in 0..6_u64 {
        for _ in 0..60 {
            let at = usize::try_from(dice.below(machines.len() as u64)).unwrap();
            done += u32::from(step(&server, &machines[at], &mut dice) < 300);
        }
        match round {
            // In the middle of writes, some of them in parts.
            0 | 3 => {
                let number = AtomicU64::new(0);
                let config = machines[2].client.tls();
                let url = machines[2].client.server.clone();
                thread::scope(|scope| {
                    for writer in 0..4 {
                        let (number, config, url) = (&number, config.clone(), url.clone());
                        scope.spawn(move || {
                            let connected = wire::Connection::try_with_config(&url, config);
                            let Ok(mut wire) = connected else { return };
                            let body = vec![5; if writer == 0 { 900_000 } else { 700 }];
                            for n in 0.. {
                                let path = format!("/v1/deposits/k{writer}-{}", n % 5);
                                if wire.try_request("PUT", &path, &[], Some(&body)).is_err() {
                                    return;
                                }
                                number.fetch_add(1, Ordering::SeqCst);
                            }
                        });
                    }
                    until(PATIENCE, || number.load(Ordering::SeqCst) > 40);
                    server.kill9();
                });
                server.serve();
            }
            // The bin is emptied at the start.
            1 => {
                server.clock("+40d");
                server.restart();
            }
            2 => drop(server.cli(&["org", "rotate-key", "acme", "--wait"]).ok()),
            4 => {
                server.cli(&["org", "rm", "beta", "--yes"]).ok();
                server.cli(&["org", "add", "beta"]).ok();
            }
            _ => server.restart(),
        }
        for machine in &mut machines {
            machine.client.server.clone_from(&server.client_url);
        }
        if round == 4 {
            let code = server.json(&["org", "show", "beta"]);
            let number = machines[2].number + 10;
            let client = server.stranger(&format!("m{number}"), "beta");
            client.register(code["auth_code"].as_str()).ok();
            machines[2] = Machine {
                client,
                org: "beta",
                number,
            };
        }
    }
    // A client that keeps nothing any more goes.
    let gone = server.client("gone", "acme");
    limit(&server, "acme --objects none --bytes none");
    put(&gone, "gone-key", 700_000).ok(201);
    gone.cli(&["deposit", "rm", "gone-key", "--yes"]).ok();
    server
        .cli(&["client", "rm", &gone.fingerprint(), "--yes"])
        .fails(5);
    gone.cli(&["deposit", "purge", "gone-key", "--yes"]).ok();
    server
        .cli(&["client", "rm", &gone.fingerprint(), "--yes"])
        .ok();
    assert!(done > 100, "{done} of the steps did something");
    server.stop();
    assert_eq!(miscounted(&server), Vec::<String>::new(), "seed {}", seed());
}
