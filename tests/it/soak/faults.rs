//! The disk that fails: syncs are watched, and made to fail, by strace.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use strongroom::clock;

use super::found;
use super::ledger::{body, tag_of};
use super::run::{options, planted};
use super::trace::{self, Report};
use crate::harness::wire::{self, Connection};
use crate::harness::{PATIENCE, Server, until};

pub fn strace(server: &Server, more: &[&str]) -> Vec<String> {
    let mut wrapper: Vec<String> = ["strace", "-f", "-yy", "-ttt", "-s", "0", "-o"]
        .map(str::to_owned)
        .into();
    wrapper.push(server.path("trace").to_str().unwrap().to_owned());
    wrapper.extend(more.iter().map(|&arg| arg.to_owned()));
    // Or it would outlive a strace that is killed.
    wrapper.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
    wrapper
}

pub fn trace_of(server: &Server) -> String {
    std::fs::read_to_string(server.path("trace")).unwrap()
}

fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

/// The traces of changes one after the other, and of changes at once.
fn traced(defect: Option<&str>) -> (Report, Report, usize) {
    let mut server = Server::start(options(defect));
    let client = server.client("a", "acme");
    server.stop();
    server.options.env.extend(defect.map(planted));
    server.options.wrapper = strace(&server, &["-e", trace::CALLS]);
    server.serve();
    let client = client.at(&server);
    let port = port(&server.client_url).to_owned();
    let mut connection = client.wire();
    connection
        .request("PUT", "/v1/deposits/first", &[], Some(b"x"))
        .ok(201);
    let mut connections: Vec<Connection> = (0..8).map(|_| client.wire()).collect();
    for connection in &mut connections {
        // A planted defect answers before it is there.
        until(Duration::from_secs(20), || {
            connection.get("/v1/deposits/first").status == 200
        });
    }
    let begin = quiet(&server);

    let changes: [(&str, &str, Vec<u8>); 8] = [
        ("PUT", "/v1/deposits/a", body(1, 1_024)),
        ("PUT", "/v1/deposits/a", body(2, 70_000)),
        ("PUT", "/v1/deposits/b", body(3, 600_000)),
        (
            "PATCH",
            "/v1/deposits/a/metadata",
            br#"{"labels":{"k":"v"}}"#.to_vec(),
        ),
        ("DELETE", "/v1/deposits/a", Vec::new()),
        ("POST", "/v1/deposits/a/undelete", Vec::new()),
        ("DELETE", "/v1/deposits/b", Vec::new()),
        ("POST", "/v1/deposits/b/purge", Vec::new()),
    ];
    for (method, path, body) in &changes {
        let json = [("content-type", "application/json")];
        let headers = if *method == "PATCH" { &json[..] } else { &[] };
        let answer = connection.request(method, path, headers, Some(body));
        assert!(answer.status < 300, "{answer:?}");
    }
    let between = quiet(&server);

    std::thread::scope(|scope| {
        for (writer, connection) in connections.iter_mut().enumerate() {
            scope.spawn(move || {
                for number in 0..6 {
                    let path = format!("/v1/deposits/c{writer}-{number}");
                    connection
                        .request("PUT", &path, &[], Some(&body(number, 1_024)))
                        .ok(201);
                }
            });
        }
    });
    server.stop();
    let whole = trace_of(&server);
    let alone = trace::judge(&whole[begin..between], &port, true);
    (
        alone,
        trace::judge(&whole[between..], &port, false),
        changes.len(),
    )
}

/// Waits until nothing happens any more, and returns how long the trace is then.
fn quiet(server: &Server) -> usize {
    let length = || std::fs::metadata(server.path("trace")).unwrap().len();
    let (mut last, mut since) = (length(), std::time::Instant::now());
    until(PATIENCE, || {
        if length() != last {
            (last, since) = (length(), std::time::Instant::now());
        }
        since.elapsed() > Duration::from_millis(400)
    });
    usize::try_from(last).unwrap()
}

#[test]
fn no_answer_leaves_before_its_rows_are_synced() {
    let (alone, together, changes) = traced(None);
    println!("{alone:?} {together:?}");
    for report in [&alone, &together] {
        assert!(report.violations.is_empty(), "{report:#?}");
    }
    assert_eq!(alone.answers, changes);
    assert!(together.answers >= 48, "{together:?}");
    found(
        "sync_traced",
        json!({ "answers_alone": alone.answers, "answers_at_once": together.answers, "syncs": alone.syncs + together.syncs }),
    );
    assert!(alone.syncs >= changes);
}

#[test]
fn the_trace_catches_a_store_that_does_not_sync() {
    let (alone, together, changes) = traced(Some("sync-off"));
    assert_eq!(
        (alone.violations.len(), alone.syncs),
        (changes, 0),
        "{alone:#?}"
    );
    assert!(!together.violations.is_empty());
    found(
        "planted_sync_off",
        json!({ "answers": changes, "caught": alone.violations.len() }),
    );
}

#[test]
fn the_trace_catches_answers_before_the_commit() {
    let (alone, _, _) = traced(Some("early-answer"));
    assert!(!alone.violations.is_empty(), "{alone:#?}");
}

/// One attempt of a writer.
struct Tried {
    name: String,
    tag: u64,
    sent: i64,
    acknowledged: bool,
}

/// Stores new deposits until the connection is gone.
fn store_until_gone(url: &str, config: &Arc<rustls::ClientConfig>, writer: u64) -> Vec<Tried> {
    let mut tried = Vec::new();
    let Ok(mut connection) = Connection::try_with_config(url, Arc::clone(config)) else {
        return tried;
    };
    for number in 0.. {
        let tag = (writer + 1) << 32 | number;
        let name = format!("e{writer}-{number}");
        let sent = clock::now().0;
        let path = format!("/v1/deposits/{name}");
        let answer = connection.try_request("PUT", &path, &[], Some(&body(tag, 3_000)));
        tried.push(Tried {
            name,
            tag,
            sent,
            acknowledged: answer.as_ref().is_ok_and(|answer| answer.status == 201),
        });
        if answer.is_err() {
            break;
        }
    }
    tried
}

/// Polls health until it is red for the store's sake; false if the server ends without.
fn turned_red(url: &str, ended: &AtomicBool) -> bool {
    while !ended.load(Ordering::SeqCst) {
        let health: io::Result<_> = Connection::try_plain(url)
            .and_then(|mut connection| connection.try_request("GET", "/healthz", &[], None));
        if health.is_ok_and(|answer| {
            answer.status == 503
                && answer.json()["subsystems"].as_array().is_some_and(|all| {
                    all.iter()
                        .any(|it| it["name"] == "store" && it["state"] == "red")
                })
        }) {
            return true;
        }
    }
    false
}

/// A request that never ends holds the server's end up, so that its health can be looked at.
fn half_sent(url: &str, config: &Arc<rustls::ClientConfig>) -> Connection {
    let mut connection = Connection::try_with_config(url, Arc::clone(config)).unwrap();
    connection
        .send(
            b"PUT /v1/deposits/never HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nabc",
        )
        .unwrap();
    connection
}

#[test]
fn a_failing_sync_ends_the_server_and_loses_nothing_acknowledged() {
    let mut server = Server::start(options(None));
    let client = server.client("a", "acme");
    let config = config_of(&client, &server.ca());
    server.stop();
    let inject = "inject=fsync,fdatasync:error=EIO:when=60+";
    server.options.wrapper = strace(
        &server,
        &["-e", "trace=fsync,fdatasync,pwrite64", "-e", inject],
    );
    server.serve();
    let (url, health) = (server.client_url.clone(), server.health_url.clone());
    let _half = half_sent(&url, &config);
    let ended = AtomicBool::new(false);
    let (tried, red, code) = std::thread::scope(|scope| {
        let red = scope.spawn(|| turned_red(&health, &ended));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn({
                    let (url, config) = (&url, &config);
                    move || store_until_gone(url, config, writer)
                })
            })
            .collect();
        let code = server.ended();
        ended.store(true, Ordering::SeqCst);
        let tried: Vec<Tried> = writers
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect();
        (tried, red.join().unwrap(), code)
    });
    let (failed, count) = trace::injected(&trace_of(&server)).expect("no sync was made to fail");
    let acknowledged = tried.iter().filter(|it| it.acknowledged).count();
    println!(
        "{count} syncs failed; {acknowledged} of {} acknowledged",
        tried.len()
    );
    assert_eq!(code, Some(1), "{}", server.log());
    assert!(red, "health was never red: {}", server.log());
    assert!(acknowledged > 50, "{acknowledged}");
    for it in tried.iter().filter(|it| it.sent > failed) {
        assert!(
            !it.acknowledged,
            "{} was acknowledged after a failed sync",
            it.name
        );
    }
    assert!(
        !trace::writes_after_failure(&trace_of(&server)),
        "the log was written after its sync failed"
    );

    server.options.wrapper.clear();
    server.serve();
    all_there(&server, &config, &tried);
    found(
        "sync_fails",
        json!({ "syncs_failed": count, "changes_tried": tried.len(), "changes_acknowledged": acknowledged, "exit_code": code }),
    );
    server.cli(&["audit", "verify"]).ok();
}

#[test]
fn an_access_log_that_cannot_be_synced_ends_the_server() {
    let mut server = Server::start(options(None));
    let client = server.client("a", "acme");
    let config = config_of(&client, &server.ca());
    client
        .wire()
        .request("PUT", "/v1/deposits/a", &[], Some(b"x"))
        .ok(201);
    server.stop();
    let log = server.data.join("live/access.db-wal");
    let inject = "inject=fsync,fdatasync:error=EIO:when=4+";
    server.options.wrapper = strace(
        &server,
        &[
            "-P",
            log.to_str().unwrap(),
            "-e",
            "trace=fsync,fdatasync",
            "-e",
            inject,
        ],
    );
    server.serve();
    let mut connection = Connection::try_with_config(&server.client_url, config).unwrap();
    let mut released = Vec::new();
    loop {
        let sent = clock::now().0;
        match connection.try_request("GET", "/v1/deposits/a", &[], None) {
            Ok(answer) if answer.status == 200 => released.push(sent),
            Ok(answer) => {
                answer.refused(503, "audit_unavailable");
            }
            Err(_) => break,
        }
    }
    assert_eq!(server.ended(), Some(1), "{}", server.log());
    let (failed, _) = trace::injected(&trace_of(&server)).expect("no sync was made to fail");
    let late = released
        .iter()
        .filter(|sent| **sent > failed + 100_000)
        .count();
    assert!(
        released.len() > 20 && late == 0,
        "{late} of {}",
        released.len()
    );
    server.options.wrapper.clear();
    server.serve();
    server.cli(&["audit", "verify"]).ok();
    found(
        "access_log_sync_fails",
        json!({ "released_before": released.len(), "released_after": late }),
    );
}

pub fn config_of(client: &crate::harness::Client, ca: &Path) -> Arc<rustls::ClientConfig> {
    let identity = (&*client.file("client.crt"), &*client.file("client.key"));
    wire::tls_config(ca, Some(identity))
}

/// What was acknowledged is there; what was not is there wholly or not at all.
fn all_there(server: &Server, config: &Arc<rustls::ClientConfig>, tried: &[Tried]) {
    let mut connection = Connection::with_config(&server.client_url, Arc::clone(config));
    for it in tried {
        let answer = connection.get(&format!("/v1/deposits/{}", it.name));
        match answer.status {
            200 => assert_eq!(tag_of(&answer.body), Ok(it.tag), "{}", it.name),
            404 => assert!(!it.acknowledged, "{} is lost", it.name),
            _ => panic!("{}: {answer:?}", it.name),
        }
    }
}
