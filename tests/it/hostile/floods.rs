//! Guessing, and requests that cost the server more than the attacker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use strongroom::crypto::x509;

use super::super::harness::{PATIENCE, Server, until, wire};
use super::{code, events, log_in, server};

type Http2 = StreamOwned<ClientConnection, TcpStream>;

/// A connection that speaks HTTP/2, its preface and settings sent.
fn http2(server: &Server) -> Http2 {
    let mut config = (*wire::tls_config(&server.ca(), None)).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let authority = wire::authority(&server.gui_url);
    let port = authority.rsplit(':').next().unwrap();
    let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header without Huffman coding, not indexed.
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0, u8::try_from(name.len()).unwrap()];
    out.extend(name.as_bytes());
    out.push(u8::try_from(value.len()).unwrap());
    out.extend(value.as_bytes());
    out
}

/// GET over https.
fn request() -> Vec<u8> {
    [
        vec![0x82, 0x87],
        header(":path", "/v1/server"),
        header(":authority", "localhost"),
    ]
    .concat()
}

/// Sends pieces until the server hangs up; how many went out.
fn until_cut_off(mut stream: Http2, most: usize, mut piece: impl FnMut(usize) -> Vec<u8>) -> usize {
    for sent in 0..most {
        if stream
            .write_all(&piece(sent))
            .and_then(|()| stream.flush())
            .is_err()
        {
            return sent;
        }
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    // Frames: length, kind. 7 is GOAWAY.
    let mut at = 0;
    while let Some(head) = rest.get(at..at + 9) {
        if head[3] == 7 {
            return most - 1;
        }
        at += 9 + usize::from(head[0]) * 65_536 + usize::from(head[1]) * 256 + usize::from(head[2]);
    }
    most
}

#[test]
fn http2_streams_reset_as_fast_as_they_are_opened_end_the_connection() {
    let server = server();
    let sent = until_cut_off(http2(&server), 20_000, |n| {
        let stream = 2 * u32::try_from(n).unwrap() + 1;
        [
            frame(1, 5, stream, &request()),
            frame(3, 0, stream, &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    assert!(sent < 20_000, "{sent} streams were opened and reset");
    server.wire(&server.gui_url).get("/v1/server").ok(200);
}

#[test]
fn http2_headers_without_end_end_the_connection() {
    let server = server();
    for long in [true, false] {
        let mut stream = http2(&server);
        stream.write_all(&frame(1, 0, 1, &request())).unwrap();
        let sent = until_cut_off(stream, 4_000, |_| {
            let payload = if long {
                header("x", &"y".repeat(120)).repeat(100)
            } else {
                Vec::new()
            };
            frame(9, 0, 1, &payload)
        });
        assert!(sent < 4_000, "{sent} continuations, long: {long}");
    }
    server.wire(&server.gui_url).get("/v1/server").ok(200);
}

#[test]
fn guesses_at_once_are_few_and_another_forwarded_address_gives_no_more() {
    let server = server();
    let judged = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..24)
            .map(|n| {
                let server = &server;
                scope.spawn(move || {
                    server
                        .curl(&format!("{}/v1/sessions", server.gui_url))
                        .header("x-forwarded-for", &format!("192.0.2.{n}"))
                        .header("forwarded", &format!("for=192.0.2.{n}"))
                        .json(&json!({ "user": "superuser", "password": format!("guess number {n}") }))
                        .send()
                        .status
                })
            })
            .collect();
        let statuses: Vec<u16> = guesses
            .into_iter()
            .map(|guess| guess.join().unwrap())
            .collect();
        assert!(
            statuses.iter().all(|status| [401, 429].contains(status)),
            "{statuses:?}"
        );
        statuses.iter().filter(|status| **status == 401).count()
    });
    assert!(
        (1..=12).contains(&judged),
        "{judged} of 24 guesses were judged"
    );
    // One event an address, reason and minute, and none that tells another address than the real one.
    let refused = events(&server, "action = session.open and outcome = refused");
    assert!(
        refused
            .iter()
            .any(|event| event["detail"] == "too_many_attempts"),
        "{refused:?}"
    );
    assert!(refused.len() <= 4, "{refused:?}");
    assert!(
        refused
            .iter()
            .all(|event| event["actor"]["source"] == "127.0.0.1"),
        "{refused:?}"
    );
    // It delays, and locks nobody out.
    until(Duration::from_secs(90), || {
        let answer = log_in(&server, "superuser", &server.password);
        answer.status == 201 || {
            std::thread::park_timeout(Duration::from_millis(500));
            false
        }
    });
}

/// Registers a new key; nothing but the name is known.
fn register(server: &Server, org: &str) -> wire::Answer {
    let made = x509::client_certificate("flood").unwrap_or_else(|error| panic!("{error}"));
    let (cert, key) = (server.path("flood.crt"), server.path("flood.key"));
    std::fs::write(&cert, &made.cert_pem).unwrap();
    std::fs::write(&key, made.key_pem.expose()).unwrap();
    let mut connection =
        wire::Connection::tls(&server.client_url, &server.ca(), Some((&cert, &key)));
    let body = json!({ "org": org }).to_string();
    let headers = [("content-type", "application/json")];
    connection.request("POST", "/v1/clients", &headers, Some(body.as_bytes()))
}

#[test]
fn trying_names_of_organizations_is_slowed_down_like_trying_codes() {
    let server = server();
    let statuses: Vec<u16> = (0..6)
        .map(|n| register(&server, &format!("name-{n}")).status)
        .collect();
    assert_eq!(statuses[..3], [404, 404, 404]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
}

#[test]
fn registrations_that_wait_for_an_approval_are_bounded() {
    let server = server();
    server.org("acme");
    let known = server.client("known", "acme");
    let full = (0..600)
        .map(|_| register(&server, "acme"))
        .find(|answer| answer.status != 202)
        .unwrap();
    assert_eq!(
        (full.status, code(&full).as_str()),
        (429, "too_many_pending"),
        "{full:?}"
    );
    // Who has the code is not kept out, and approvals make room.
    server.client("another", "acme");
    known.curl("/v1/deposits").send().ok(200);
    let waiting = server.json(&["client", "list", "-F", "state = pending"]);
    let items = waiting["items"].as_array().or(waiting.as_array()).unwrap();
    let first = items[0]["fingerprint"].as_str().unwrap();
    server.cli(&["client", "deny", first]).ok();
    assert_eq!(register(&server, "acme").status, 202);
}

#[test]
fn bodies_that_do_not_end_keep_no_log_in_out() {
    let server = server();
    let config = wire::tls_config(&server.ca(), None);
    let body = vec![b' '; 65_000];
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 65001\r\n\r\n";
    let held: Vec<_> = (0..300)
        .map(|_| {
            let mut connection =
                wire::Connection::with_config(&server.gui_url, Arc::clone(&config));
            connection.send(head.as_bytes()).unwrap();
            connection.send(&body).unwrap();
            connection
        })
        .collect();
    log_in(&server, "superuser", &server.password).ok(201);
    drop(held);
}
