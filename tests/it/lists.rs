//! Lists: pages both ways, by name, by label, by the time of change, and the audit over both chains.

use serde_json::Value;

use crate::harness::{Answer, Options, Server, store, wire};

const DEPOSITS: usize = 25;

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn page(socket: &mut wire::Connection, path: &str) -> Value {
    let answer = socket.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
    serde_json::from_slice(&answer.body).unwrap()
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The pages from the one at `path` on, by the cursor that `way` names.
fn follow(socket: &mut wire::Connection, path: &str, from: &Value, way: &str) -> Vec<Value> {
    let mut pages = vec![];
    let mut cursor = from[way].clone();
    while let Some(text) = cursor.as_str() {
        let next = page(socket, &format!("{path}&cursor={text}"));
        cursor = next[way].clone();
        pages.push(next);
    }
    pages
}

#[test]
fn pages_lead_on_and_back_in_every_order() {
    let server = Server::start(Options::default());
    server.org("acme");
    let mut socket = server.socket();
    for number in 0..DEPOSITS {
        let label = format!("parity={}", number % 2);
        let path = format!("/v1/orgs/acme/deposits/k{number:02}");
        let headers = [("strongroom-labels", label.as_str())];
        let answer = socket.request("PUT", &path, &headers, Some(b"x"));
        assert_eq!(answer.status, 201, "{}", text(&answer));
    }
    for (filter, expected) in [
        ("", DEPOSITS),
        ("&filter=name%20%5E%20'k1'", 10),
        ("&filter=label.parity%3D1", 12),
        ("&filter=modified%20%3E%20-1h", DEPOSITS),
        ("&filter=name%20~%20'9'", 2),
    ] {
        let path = format!("/v1/orgs/acme/deposits?limit=7{filter}");
        let first = page(&mut socket, &path);
        assert!(
            first["previous"].is_null(),
            "{filter}: nothing precedes the first page"
        );
        let mut pages = vec![first.clone()];
        pages.extend(follow(&mut socket, &path, &first, "next"));
        let forward: Vec<String> = pages.iter().flat_map(names).collect();
        assert_eq!(forward.len(), expected, "{filter}");
        assert!(forward.is_sorted(), "{filter}: {forward:?}");
        // The last page is the first in reverse, and leads back over all of them.
        let end = page(&mut socket, &format!("{path}&page=last"));
        assert!(
            end["next"].is_null(),
            "{filter}: nothing follows the last page"
        );
        let mut from_the_end = follow(&mut socket, &path, &end, "previous");
        from_the_end.reverse();
        let all: Vec<String> = from_the_end.iter().chain([&end]).flat_map(names).collect();
        assert_eq!(all, forward, "{filter}");
        let last = pages.pop().unwrap();
        let mut back = follow(&mut socket, &path, &last, "previous");
        back.reverse();
        let backward: Vec<String> = back.iter().chain([&last]).flat_map(names).collect();
        assert_eq!(backward, forward, "{filter}");
    }
}

#[test]
fn the_last_page_is_asked_for_by_name_and_without_a_cursor() {
    let server = Server::start(Options::default());
    server.org("acme");
    let mut socket = server.socket();
    for (query, status) in [
        ("page=last", 200),
        ("page=first", 400),
        ("page=last&cursor=x", 400),
        ("page=last&page=last", 400),
    ] {
        assert_eq!(
            socket.get(&format!("/v1/orgs?{query}")).status,
            status,
            "{query}"
        );
    }
    assert_eq!(socket.get("/v1/audit?page=last").status, 400);
}

#[test]
fn a_cursor_of_another_list_is_refused() {
    let server = Server::start(Options::default());
    server.org("acme");
    server.org("other");
    let mut socket = server.socket();
    let orgs = page(&mut socket, "/v1/orgs?limit=1");
    let cursor = orgs["next"].as_str().unwrap();
    let answer = socket.get(&format!("/v1/users?cursor={cursor}"));
    assert_eq!(answer.status, 400, "{}", text(&answer));
    assert!(text(&answer).contains("cursor"), "{}", text(&answer));
}

#[test]
fn the_audit_pages_through_both_chains_once() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    for number in 0..8 {
        let name = format!("k{number}");
        client
            .cli_with(&["deposit", "put", &name, "-"], b"secret")
            .ok();
        client.cli(&["deposit", "get", &name]).ok();
    }
    let mut socket = server.socket();
    let path = "/v1/audit?limit=3&filter=object_kind%3Ddeposit";
    let first = page(&mut socket, path);
    let mut pages = vec![first.clone()];
    pages.extend(follow(&mut socket, path, &first, "next"));
    let events: Vec<&Value> = pages
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .collect();
    let times: Vec<&str> = events
        .iter()
        .map(|event| event["time"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
    for (action, chain) in [("deposit.put", "changes"), ("deposit.get", "access")] {
        let found = events
            .iter()
            .filter(|event| event["action"] == action && event["chain"] == chain);
        assert_eq!(found.count(), 8, "{action}");
    }
}

#[test]
fn a_count_says_how_many_up_to_ten_thousand() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut connection = client.wire();
    for number in 0..3 {
        let path = format!("/v1/deposits/k{number}");
        connection.request("PUT", &path, &[], Some(b"x")).ok(201);
    }
    let count = |server: &Server, args: &[&str]| {
        let list = ["deposit", "list", "--org", "acme", "--count"];
        server
            .cli(&[&list, args].concat())
            .ok()
            .text()
            .trim()
            .to_owned()
    };
    assert_eq!(count(&server, &[]), "3");
    assert_eq!(count(&server, &["-F", "name ~ 2"]), "1");
    assert_eq!(
        server.json(&["deposit", "list", "--org", "acme", "--count"]),
        serde_json::json!({"count": 3, "more": false})
    );
    server.stop();
    let db = store::open(&server, "strongroom.db");
    // Copies of a row; what they hold is not asked for.
    for (rows, said) in [(9_997, "10000"), (1, "more than 10,000")] {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO deposits (id, org, name, owner, version, size, encryption, content_type, description, labels, created, modified) SELECT randomblob(16), org, 'c-' || hex(randomblob(8)), owner, version, size, encryption, content_type, description, labels, created, modified FROM deposits, n WHERE name = 'k0'"
        );
        db.execute(&sql, ()).unwrap();
        server.serve();
        assert_eq!(count(&server, &[]), said);
        server.stop();
    }
}
