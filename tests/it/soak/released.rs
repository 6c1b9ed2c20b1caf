//! What was answered stands in the audit, however the server ends; and an answer that was lost is
//! given again.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::faults::config_of;
use super::run::options;
use crate::harness::wire::{self, Connection};
use crate::harness::{Server, tool};

/// Fetches until the connection is gone or it has done so often enough; ids of answered requests.
fn fetch(url: &str, config: &Arc<rustls::ClientConfig>, times: usize) -> Vec<String> {
    let mut answered = Vec::new();
    let mut connection = Connection::with_config(url, Arc::clone(config));
    for _ in 0..times {
        let Ok(answer) = connection.try_request("GET", "/v1/deposits/a", &[], None) else {
            break;
        };
        let answer = answer.ok(200);
        answered.push(answer.header("strongroom-request-id").unwrap().to_owned());
    }
    answered
}

fn served() -> (Server, Arc<rustls::ClientConfig>) {
    let server = Server::start(options(None));
    let client = server.client("a", "acme");
    client
        .wire()
        .request("PUT", "/v1/deposits/a", &[], Some(b"x"))
        .ok(201);
    let config = config_of(&client, &server.ca());
    (server, config)
}

/// Each answered fetch has exactly one event.
fn all_in_the_audit(server: &Server, answered: &[String]) {
    server.cli(&["audit", "verify"]).ok();
    let mut events: HashMap<String, u32> = HashMap::new();
    for line in server.cli(&["audit", "export"]).ok().text().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["action"] == "deposit.get" {
            let request = event["request"].as_str().unwrap().to_owned();
            *events.entry(request).or_default() += 1;
        }
    }
    let missing = answered
        .iter()
        .filter(|id| events.get(*id) != Some(&1))
        .count();
    assert_eq!(missing, 0, "of {} answered", answered.len());
    assert!(answered.len() > 20, "{}", answered.len());
}

#[test]
fn every_release_is_in_the_audit_after_an_orderly_end() {
    let (mut server, config) = served();
    let url = server.client_url.clone();
    let answered: Vec<String> = std::thread::scope(|scope| {
        let fetching: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fetch(&url, &config, 200)))
            .collect();
        fetching
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    // At once: the last events were not yet written when their answers left.
    server.stop();
    server.serve();
    all_in_the_audit(&server, &answered);
}

#[test]
fn a_strict_audit_holds_every_release_after_kill_9() {
    let (mut server, config) = served();
    server.cli(&["setting", "set", "audit.strict", "true"]).ok();
    let url = server.client_url.clone();
    let answered: Vec<String> = std::thread::scope(|scope| {
        let fetching: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fetch(&url, &config, usize::MAX)))
            .collect();
        fetch(&url, &config, 40);
        server.kill9();
        fetching
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    server.serve();
    all_in_the_audit(&server, &answered);
}

#[test]
fn a_retry_gets_the_first_answer_though_its_object_is_gone() {
    let (server, config) = served();
    let mut connection = Connection::with_config(&server.client_url, config);
    let mut send = |method: &str, path: &str, key: &str| {
        connection.request(method, path, &[("idempotency-key", key)], Some(b""))
    };
    let removed = send("DELETE", "/v1/deposits/a", "rm").ok(200);
    send("POST", "/v1/deposits/a/purge", "purge").ok(204);
    send("POST", "/v1/deposits/a/purge", "purge").ok(204);
    let again = send("DELETE", "/v1/deposits/a", "rm").ok(200);
    assert_eq!(removed.json(), again.json());
    send("POST", "/v1/deposits/a/purge", "rm").refused(422, "key_reused");
    send("POST", "/v1/deposits/a/purge", "new").refused(404, "not_found");
    let exported = server.cli(&["audit", "export"]).ok().text();
    for action in ["deposit.rm", "deposit.purge"] {
        let count = exported
            .lines()
            .filter(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                event["action"] == action && event["outcome"] == "done"
            })
            .count();
        assert_eq!(count, 1, "{action}");
    }
}

#[test]
fn a_registration_whose_answer_was_lost_is_answered_again() {
    let server = Server::start(options(None));
    let code = server.org("acme");
    let path = |name: &str| server.path(name).to_str().unwrap().to_owned();
    let mut make: Vec<&str> =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=a"
            .split(' ')
            .collect();
    let (key, certificate) = (path("a.key"), path("a.crt"));
    make.extend(["-keyout", &key, "-out", &certificate]);
    tool("openssl", make);
    let config = wire::tls_config(&server.ca(), Some((certificate.as_ref(), key.as_ref())));
    let body = json!({ "org": "acme", "auth_code": code, "description": "a machine" }).to_string();
    let register = || {
        let headers = [
            ("idempotency-key", "register"),
            ("content-type", "application/json"),
        ];
        Connection::with_config(&server.client_url, Arc::clone(&config))
            .request("POST", "/v1/clients", &headers, Some(body.as_bytes()))
            .ok(201)
            .json()
    };
    assert_eq!(register(), register());
}
