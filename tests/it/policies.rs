//! When a deposit may be fetched, and how often: at the times, at the limits, and while others change
//! them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Options, Server, until};

fn put(client: &Client, name: &str, headers: &[(&str, &str)]) -> Answer {
    let mut wire = client.wire();
    wire.request(
        "PUT",
        &format!("/v1/deposits/{name}"),
        headers,
        Some(b"bytes"),
    )
}

fn get(client: &Client, name: &str) -> Answer {
    client.wire().get(&format!("/v1/deposits/{name}"))
}

fn edit(client: &Client, name: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    let path = format!("/v1/deposits/{name}/metadata");
    let body = body.to_string();
    client
        .wire()
        .request("PATCH", &path, &headers, Some(body.as_bytes()))
}

/// Codes of the refused fetches in the audit, the newest first.
fn refusals(server: &Server) -> Vec<String> {
    let filter = "action = deposit.get and outcome = refused";
    let mut codes = Vec::new();
    // On the disk within 100 ms.
    until(Duration::from_secs(10), || {
        let list = server.json(&["audit", "list", "-F", filter]);
        let items = list["items"].as_array().unwrap();
        codes = items
            .iter()
            .map(|it| it["detail"].as_str().unwrap().to_owned())
            .collect();
        !codes.is_empty()
    });
    codes
}

#[test]
fn a_deposit_is_fetched_from_its_beginning_to_its_end() {
    let server = Server::start(Options::stepped());
    let client = server.client("a", "acme");
    let put = [
        "deposit",
        "put",
        "key",
        "-",
        "--not-before",
        "+1h",
        "--expires",
        "+3h",
    ];
    client.cli_with(&put, b"bytes").ok();
    client
        .cli(&["deposit", "get", "key"])
        .fails(5)
        .says(&["may be fetched from"]);
    get(&client, "key").refused(403, "not_yet");
    let shown = client.cli(&["deposit", "show", "key"]).ok().text();
    assert!(
        shown.contains("not before") && shown.contains("expires"),
        "{shown}"
    );

    server.clock("+2h");
    // Twice: the second comes from memory.
    for _ in 0..2 {
        let answer = get(&client, "key").ok(200);
        assert!(answer.header("strongroom-expires").is_some(), "{answer:?}");
        assert!(answer.header("strongroom-not-before").is_some());
        assert_eq!(answer.header("strongroom-retrievals-left"), None);
    }
    server.clock("+4h");
    get(&client, "key").refused(403, "expired");
    let head = client
        .wire()
        .request("HEAD", "/v1/deposits/key", &[], None)
        .ok(200);
    assert!(head.header("strongroom-expires").is_some());
    let found = client
        .cli(&["deposit", "list", "-F", "expires < -30m"])
        .ok();
    assert!(found.text().contains("key"));
    assert_eq!(refusals(&server), ["expired", "not_yet", "not_yet"]);

    client
        .cli(&["deposit", "edit", "key", "--expires", "+1d"])
        .ok();
    get(&client, "key").ok(200);
    client
        .cli(&[
            "deposit",
            "edit",
            "key",
            "--expires",
            "none",
            "--not-before",
            "none",
        ])
        .ok();
    server.clock("+99d");
    assert_eq!(
        get(&client, "key").ok(200).header("strongroom-expires"),
        None
    );
}

#[test]
fn a_limited_deposit_is_fetched_so_many_times_and_no_more() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(
            &["deposit", "put", "key", "-", "--max-retrievals", "3"],
            b"bytes",
        )
        .ok();
    let shown = || {
        client
            .cli(&["--json", "deposit", "show", "key"])
            .ok()
            .json()
    };
    for left in ["2", "1"] {
        // The same key is no retry: each one counts.
        let again = [("idempotency-key", "the same")];
        let answer = client
            .wire()
            .request("GET", "/v1/deposits/key", &again, None)
            .ok(200);
        assert_eq!(answer.header("strongroom-retrievals-left"), Some(left));
    }
    let head = client
        .wire()
        .request("HEAD", "/v1/deposits/key", &[], None)
        .ok(200);
    assert_eq!(head.header("strongroom-retrievals-left"), Some("1"));
    assert_eq!(shown()["retrievals_left"], 1);
    client
        .cli(&["deposit", "get", "key"])
        .ok()
        .says(&["0 more times"]);
    client
        .cli(&["deposit", "get", "key"])
        .fails(5)
        .says(&["as often as it may be"]);
    client
        .cli(&["deposit", "get", "key", "--version", "1"])
        .fails(5);
    assert_eq!(refusals(&server), ["retrievals_used", "retrievals_used"]);
    let counted = "action = deposit.get and outcome = done and chain = changes";
    let events = server.json(&["audit", "list", "-F", counted]);
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "{events}");
    assert_eq!(events["items"][0]["detail"], "version 1, 0 retrievals left");

    // A new version keeps the count; the owner grants more, or sets another limit.
    client
        .cli_with(&["deposit", "put", "key", "-"], b"newer")
        .ok();
    get(&client, "key").refused(403, "retrievals_used");
    client
        .cli(&["deposit", "grant", "key", "2"])
        .ok()
        .says(&["2 more times"]);
    let now = shown();
    assert_eq!(
        (&now["max_retrievals"], &now["retrievals_left"]),
        (&json!(5), &json!(2))
    );
    get(&client, "key").ok(200);
    client.cli(&["deposit", "edit", "key", "--single-use"]).ok();
    get(&client, "key").ok(200);
    get(&client, "key").refused(403, "retrievals_used");
    client
        .cli(&["deposit", "edit", "key", "--max-retrievals", "none"])
        .ok();
    for _ in 0..3 {
        get(&client, "key").ok(200);
    }
    client
        .cli(&["deposit", "grant", "key"])
        .fails(5)
        .says(&["not limited"]);
    client.cli(&["deposit", "edit", "key", "--single-use"]).ok();
    get(&client, "key").ok(200);
    get(&client, "key").refused(403, "retrievals_used");
    client.cli(&["deposit", "rm", "key", "--yes"]).ok();
    get(&client, "key").refused(404, "in_bin");
}

#[test]
fn what_is_no_limit_and_no_time_is_refused() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    for limit in [
        "0",
        "9223372036854775808",
        "18446744073709551616",
        "1000000001",
        "-1",
        "x",
        "",
    ] {
        let answer = put(&client, "key", &[("strongroom-max-retrievals", limit)]);
        answer.clone().refused(400, "invalid");
        assert!(
            answer.message().contains("1 to 1000000000"),
            "{limit}: {answer:?}"
        );
    }
    for (name, value) in [
        ("strongroom-expires", "2020-01-01T00:00:00Z"),
        ("strongroom-expires", "soon"),
        ("strongroom-not-before", "1"),
    ] {
        put(&client, "key", &[(name, value)]).refused(400, "invalid");
    }
    let end = ("strongroom-expires", "2090-01-01T00:00:00Z");
    let begin = ("strongroom-not-before", "2090-01-01T00:00:00Z");
    let answer = put(&client, "key", &[begin, end]);
    assert!(
        answer
            .refused(400, "invalid")
            .message()
            .contains("must lie before")
    );
    put(&client, "key", &[end]).ok(201);
    for body in [
        json!({"max_retrievals": 0}),
        json!({"max_retrievals": 1_u64 << 63}),
        json!({"max_retrievals": -1}),
        json!({"max_retrievals": "3"}),
        json!({"expires": "2020-01-01T00:00:00Z"}),
        json!({"not_before": "2091-01-01T00:00:00Z"}),
    ] {
        let answer = edit(&client, "key", &body).refused(400, "invalid").json();
        let field = body.as_object().unwrap().keys().next().unwrap();
        assert_eq!(answer["error"]["field"], field.as_str(), "{answer}");
    }
    // Nothing of the refused ones was kept.
    let shown = client
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(shown["max_retrievals"], Value::Null);
    assert_eq!(
        (&shown["version"], &shown["not_before"]),
        (&json!(1), &Value::Null)
    );
    edit(
        &client,
        "key",
        &json!({"max_retrievals": null, "expires": null}),
    )
    .ok(200);
}

#[test]
fn of_many_at_once_one_gets_what_is_for_single_use() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    for round in 0..8 {
        let name = format!("once-{round}");
        client
            .cli_with(&["deposit", "put", &name, "-", "--single-use"], b"bytes")
            .ok();
        let path = format!("/v1/deposits/{name}");
        let (config, url) = (client.tls(), client.server.clone());
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(|| {
                        let connect = crate::harness::wire::Connection::with_config;
                        connect(&url, config.clone()).get(&path)
                    })
                })
                .collect();
            asking.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let got = answers.iter().filter(|it| it.status == 200).count();
        let refused = answers.iter().filter(|it| it.code() == "retrievals_used");
        assert_eq!((got, refused.count()), (1, 11));
    }
}

#[test]
fn the_bin_is_emptied_after_its_days_and_no_sooner() {
    let mut server = Server::start(Options::stepped());
    let client = server.client("a", "acme");
    for name in ["old", "kept", "back"] {
        put(&client, name, &[]).ok(201);
    }
    for name in ["old", "back"] {
        client.cli(&["deposit", "rm", name, "--yes"]).ok();
    }
    let names = |server: &Server| -> Vec<String> {
        let list = server.json(&["deposit", "list", "--org", "acme"]);
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // Upkeep runs at the start, and each minute.
    let upkeep = |server: &mut Server, at: &str| {
        server.clock(at);
        server.restart();
    };
    upkeep(&mut server, "+100d");
    assert_eq!(names(&server), ["back", "kept", "old"], "0 is never");
    server
        .cli(&["setting", "set", "deposit.bin_days", "30"])
        .ok();
    // Into the bin anew, at the time of now.
    let client = server.at_home("home-a", "acme");
    client.cli(&["deposit", "undelete", "back"]).ok();
    client.cli(&["deposit", "rm", "back", "--yes"]).ok();
    upkeep(&mut server, "+129d");
    until(Duration::from_secs(30), || {
        names(&server) == ["back", "kept"]
    });
    upkeep(&mut server, "+131d");
    until(Duration::from_secs(30), || names(&server) == ["kept"]);
    let events = server.json(&["audit", "list", "-F", "action = deposit.purge"]);
    let items = events["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{events}");
    assert!(
        items.iter().all(|it| it["actor"]["kind"] == "server"
            && it["detail"]
                .as_str()
                .unwrap()
                .starts_with("in the bin since")),
        "{events}"
    );
    assert_eq!(server.json(&["org", "show", "acme"])["deposits"], 1);
    server.cli(&["audit", "verify"]).ok();
}

/// What a fetch saw, and when it was asked for.
struct Seen {
    asked: Instant,
    status: u16,
    code: String,
    version: String,
}

/// Fetches by name and by id, over and over, while `change` runs; what was seen, and when the change
/// was answered.
fn while_fetching(
    client: &Client,
    paths: &[String],
    change: impl FnOnce(),
) -> (Vec<Seen>, Instant) {
    let ended = AtomicBool::new(false);
    let fetched = AtomicU64::new(0);
    let after = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        let fetching: Vec<_> = (0..4)
            .map(|number| {
                let path = &paths[number % paths.len()];
                let (ended, fetched) = (&ended, &fetched);
                scope.spawn(move || {
                    let mut wire = client.wire();
                    let mut seen = Vec::new();
                    while !ended.load(Ordering::SeqCst) {
                        let asked = Instant::now();
                        let answer = wire.get(path);
                        seen.push(Seen {
                            asked,
                            status: answer.status,
                            code: answer.code(),
                            version: answer
                                .header("strongroom-version")
                                .unwrap_or_default()
                                .to_owned(),
                        });
                        fetched.fetch_add(1, Ordering::SeqCst);
                    }
                    seen
                })
            })
            .collect();
        let wait = |many: u64| {
            let enough = fetched.load(Ordering::SeqCst) + many;
            until(Duration::from_secs(20), || {
                fetched.load(Ordering::SeqCst) >= enough
            });
        };
        wait(20);
        change();
        let answered = Instant::now();
        after.store(fetched.load(Ordering::SeqCst), Ordering::SeqCst);
        wait(40);
        ended.store(true, Ordering::SeqCst);
        let seen = fetching
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect();
        (seen, answered)
    })
}

#[test]
fn no_answer_from_memory_outlives_the_change_that_forbids_it() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let stored = put(&client, "key", &[]).ok(201).json();
    let paths = [
        "/v1/deposits/key".to_owned(),
        format!("/v1/deposits/id/{}", stored["id"].as_str().unwrap()),
    ];
    let judge = |what: &str, change: &dyn Fn(), holds: &dyn Fn(&Seen) -> bool, most: usize| {
        let (seen, answered) = while_fetching(&client, &paths, change);
        let late: Vec<&Seen> = seen.iter().filter(|it| it.asked > answered).collect();
        let wrong = late.iter().filter(|it| !holds(it)).count();
        assert!(
            late.len() >= 20 && wrong <= most,
            "{what}: {wrong} of {}",
            late.len()
        );
        assert!(seen.iter().any(|it| it.status == 200), "{what}");
    };
    for round in 2..5_u32 {
        let version = round.to_string();
        judge(
            "put",
            &|| drop(put(&client, "key", &[]).ok(200)),
            &|it| it.version == version,
            0,
        );
        let future = json!({"not_before": "2090-01-01T00:00:00Z"});
        judge(
            "not before",
            &|| drop(edit(&client, "key", &future).ok(200)),
            &|it| it.code == "not_yet",
            0,
        );
        edit(&client, "key", &json!({"not_before": null})).ok(200);
        // The limit is set while others fetch: after its answer there are five.
        judge(
            "limit",
            &|| drop(edit(&client, "key", &json!({"max_retrievals": 5})).ok(200)),
            &|it| it.code == "retrievals_used",
            5,
        );
        edit(&client, "key", &json!({"max_retrievals": null})).ok(200);
        judge(
            "rm",
            &|| {
                drop(
                    client
                        .wire()
                        .request("DELETE", "/v1/deposits/key", &[], None)
                        .ok(200),
                )
            },
            &|it| it.status == 404,
            0,
        );
        client
            .wire()
            .request("POST", "/v1/deposits/key/undelete", &[], None)
            .ok(200);
        let fingerprint = client.fingerprint();
        judge(
            "disable",
            &|| drop(server.cli(&["client", "disable", &fingerprint]).ok()),
            &|it| it.code == "client_disabled",
            0,
        );
        server.cli(&["client", "enable", &fingerprint]).ok();
    }
}

#[test]
fn no_answer_from_memory_outlives_the_right_to_it() {
    let server = Server::start(Options::default());
    let (owner, reader) = (server.client("a", "acme"), server.client("b", "acme"));
    let stored = put(&owner, "key", &[]).ok(201).json();
    let paths = [
        "/v1/deposits/key".to_owned(),
        format!("/v1/deposits/id/{}", stored["id"].as_str().unwrap()),
    ];
    let headers = [("content-type", "application/json")];
    let with = |verb: &str, reader: &Value| {
        let path = format!("/v1/deposits/key/{verb}");
        owner
            .wire()
            .request("POST", &path, &headers, Some(reader.to_string().as_bytes()))
            .ok(200);
    };
    let group = |args: &[&str]| {
        server
            .cli(&[&["client", "group"], args, &["--org", "acme"]].concat())
            .ok();
    };
    let fingerprint = reader.fingerprint();
    let (client, web) = (json!({"client": fingerprint}), json!({"group": "web"}));
    group(&["add", "web"]);
    let judge = |what: &str, change: &dyn Fn()| {
        let (seen, answered) = while_fetching(&reader, &paths, change);
        let late: Vec<&Seen> = seen.iter().filter(|it| it.asked > answered).collect();
        let wrong = late.iter().filter(|it| it.code != "denied").count();
        assert!(
            late.len() >= 20 && wrong == 0,
            "{what}: {wrong} of {}",
            late.len()
        );
        assert!(seen.iter().any(|it| it.status == 200), "{what}");
    };
    for _ in 0..3 {
        with("share", &client);
        judge("unshare", &|| with("unshare", &client));
        group(&["add-member", "web", &fingerprint]);
        with("share", &web);
        judge("remove-member", &|| {
            group(&["remove-member", "web", &fingerprint])
        });
        with("unshare", &web);
    }
}
