//! The feed of changes: in order, resumed where it was cut off, and only what its caller may see.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::harness::run::Killed;
use crate::harness::{Client, Options, PATIENCE, Server, until, wire};

/// Ids and changes of a feed that was read to its end.
fn feed(connection: &mut wire::Connection, after: Option<&str>) -> (String, Vec<(String, Value)>) {
    let mut headers = Vec::new();
    headers.extend(after.map(|after| ("last-event-id", after)));
    let answer = connection
        .request("GET", "/v1/watch/deposits?wait=1", &headers, None)
        .ok(200);
    let text = answer.text();
    let mut id = String::new();
    let mut events = Vec::new();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", new)) => id = new.to_owned(),
            Some(("data", data)) => events.push((id.clone(), serde_json::from_str(data).unwrap())),
            _ => {}
        }
    }
    (id, events)
}

fn told(events: &[(String, Value)]) -> Vec<String> {
    let name = |event: &Value| {
        format!(
            "{} {}",
            event["change"].as_str().unwrap(),
            event["name"].as_str().unwrap()
        )
    };
    events.iter().map(|(_, event)| name(event)).collect()
}

fn put(client: &Client, name: &str) {
    let path = format!("/v1/deposits/{name}");
    let answer = client.wire().request("PUT", &path, &[], Some(b"bytes"));
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

#[test]
fn each_sees_what_he_may_in_order_and_goes_on_from_anywhere() {
    let server = Server::start(Options::default());
    let (one, two) = (server.client("one", "acme"), server.client("two", "acme"));
    let stranger = server.client("stranger", "other");
    let (begin, nothing) = feed(&mut one.wire(), None);
    assert_eq!(nothing, []);
    put(&one, "a");
    put(&two, "b");
    put(&stranger, "c");
    put(&one, "a");
    one.cli(&["deposit", "edit", "a", "--description", "x"])
        .ok();
    one.cli(&["deposit", "share", "a", "--with", &two.fingerprint()])
        .ok();
    one.cli(&["deposit", "rm", "a", "--yes"]).ok();
    put(&one, "gone");
    one.cli(&["deposit", "rm", "gone", "--yes"]).ok();
    one.cli(&["deposit", "purge", "gone", "--yes"]).ok();

    let (_, mine) = feed(&mut one.wire(), Some(&begin));
    let expected = ["put", "put", "edit", "share", "rm", "purge"];
    let names = ["a", "a", "a", "a", "a", "gone"];
    let expected: Vec<String> = expected
        .iter()
        .zip(names)
        .map(|(verb, name)| format!("deposit.{verb} acme/{name}"))
        .collect();
    // What is purged is told by its purge alone: nothing says whose it was before.
    let seen: Vec<String> = told(&mine)
        .into_iter()
        .filter(|it| it.ends_with("/a") || it.contains("purge"))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(mine[0].1["deposit"]["version"], 2, "as it is now");
    assert_eq!(mine.last().unwrap().1["deposit"], Value::Null);
    let (_, others) = feed(&mut two.wire(), Some(&begin));
    assert!(told(&others).contains(&"deposit.put acme/b".to_owned()));
    assert!(
        told(&others)
            .iter()
            .all(|it| !it.contains("gone") && !it.contains("/c")),
        "{others:?}"
    );
    let (_, all) = feed(&mut server.socket(), Some(&begin));
    assert!(told(&all).contains(&"deposit.put other/c".to_owned()));

    // From the middle, over another connection.
    let (middle, _) = &mine[2];
    let (_, rest) = feed(&mut one.wire(), Some(middle));
    assert_eq!(rest[..], mine[3..]);
    let (end, _) = feed(&mut one.wire(), None);
    let beyond = (end.parse::<u64>().unwrap() + 1_000).to_string();
    assert_eq!(feed(&mut one.wire(), Some(&beyond)).1, []);
    let wrong = one
        .wire()
        .request("GET", "/v1/watch/deposits", &[("last-event-id", "x")], None);
    wrong.refused(400, "invalid");
    one.wire()
        .get("/v1/watch/deposits?wait=61")
        .refused(400, "invalid");
}

#[test]
fn a_watcher_is_told_over_restarts_and_stops_nothing() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let start = |client: &Client| {
        let mut child = client
            .command()
            .args(["--json", "deposit", "watch", "--after", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap();
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        (Killed(child), told)
    };
    let (_child, told) = start(&client);
    for name in ["one", "two"] {
        put(&client, name);
        let line = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(line["change"]["name"], format!("acme/{name}"));
    }
    // An open feed does not keep the server from its end.
    let asked = std::time::Instant::now();
    server.stop();
    assert!(asked.elapsed().as_secs() < 20, "{:?}", asked.elapsed());
    server.serve();
    let client = client.at(&server);
    let (_child, told) = start(&client);
    let names: Vec<Value> = (0..2)
        .map(|_| told.recv_timeout(PATIENCE).unwrap()["change"]["name"].clone())
        .collect();
    assert_eq!(names, [json!("acme/one"), json!("acme/two")]);

    // Disabled, it is told nothing more.
    server
        .cli(&["client", "disable", &client.fingerprint()])
        .ok();
    server
        .cli(&[
            "deposit",
            "edit",
            "one",
            "--org",
            "acme",
            "--description",
            "x",
        ])
        .ok();
    assert!(matches!(
        told.recv_timeout(PATIENCE),
        Err(mpsc::RecvTimeoutError::Disconnected)
    ));
}

/// A connection on which a feed was asked for.
fn asked(mut wire: wire::Connection, token: &str) -> wire::Connection {
    let head = "GET /v1/watch/deposits HTTP/1.1\r\nhost: localhost\r\n";
    let token = match token {
        "" => String::new(),
        token => format!("authorization: Bearer {token}\r\n"),
    };
    wire.send(format!("{head}{token}\r\n").as_bytes()).unwrap();
    wire
}

#[test]
fn there_is_room_for_so_many_feeds() {
    let server = Server::start(Options::default());
    let clients: Vec<Client> = (0..8)
        .map(|n| server.client(&format!("c{n}"), "acme"))
        .collect();
    let other = server.client("other", "acme");
    let refused = |client: &Client| client.wire().get("/v1/watch/deposits?wait=1").status == 429;
    let mut open = Vec::new();
    for client in &clients {
        assert!(!refused(&other));
        open.extend((0..8).map(|_| asked(client.wire(), "")));
        // Whoever looks sooner takes the place of one of them.
        for feed in open.iter_mut().rev().take(8) {
            feed.answer(true).unwrap().ok(200);
        }
        assert!(refused(client));
    }
    // All are taken now, by whomever.
    until(PATIENCE, || refused(&other));
    other.wire().get("/v1/deposits?limit=1").ok(200);
    drop(open);
    until(PATIENCE, || !refused(&other) && !refused(&clients[0]));
}

#[test]
fn a_users_feed_ends_with_his_rights() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    server.file("new-password", "a long enough password");
    let password = server.path("new-password").display().to_string();
    let add = ["user", "add", "reader", "--password-file", &password];
    server
        .cli(&[&add[..], &["--role", "key_operator"]].concat())
        .ok();
    for end in [
        &["user", "revoke", "reader", "key_operator"][..],
        &["user", "disable", "reader"],
    ] {
        // A new role ends the tokens that there are.
        let token = server.token("reader", &["read"]);
        let mut feed = asked(server.wire(&server.gui_url), &token);
        server.cli(end).ok();
        put(&client, "after");
        // It ends long before its minute is over, and tells nothing of what came later.
        let told = feed.answer(false).unwrap().ok(200).text();
        assert!(!told.contains("acme/after"), "{told}");
        server
            .cli(&["user", "grant", "reader", "key_operator"])
            .ok();
    }
}
