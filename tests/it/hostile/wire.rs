//! Requests that two readers could read in two ways, paths that mean something else, floods of
//! headers.

use super::super::harness::{Client, Server, wire::Connection};
use super::server;

const HOST: &str = "host: localhost\r\n";
/// What an attacker hopes to have answered as a request of its own.
const SECOND: &str = "GET /v1/server HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Sends it, and returns the statuses of all answers up to the end of the connection.
fn answers(client: &Client, message: &str) -> Vec<u16> {
    let mut connection = client.wire();
    let _ = connection.send(message.as_bytes());
    let mut statuses = Vec::new();
    while let Ok(answer) = connection.answer(false) {
        statuses.push(answer.status);
    }
    statuses
}

#[test]
fn no_framing_is_read_in_two_ways() {
    let server = server();
    let client = server.client("a", "acme");
    let put = |headers: &str, rest: &str| {
        format!("PUT /v1/deposits/x HTTP/1.1\r\n{HOST}{headers}\r\n{rest}{SECOND}")
    };
    let refused = [
        put("content-length: 6\r\ncontent-length: 5\r\n", "abcdef"),
        put("content-length: 6, 6\r\n", "abcdef"),
        put("content-length: +6\r\n", "abcdef"),
        put("content-length : 6\r\n", "abcdef"),
        put("transfer-encoding: identity\r\n", "abcdef"),
        put("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        put("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        put(
            "transfer-encoding: chunked\r\n",
            "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        ),
        put("transfer-encoding: chunked\r\n", "-1\r\nabc\r\n0\r\n\r\n"),
        put("transfer-encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"),
        put("x: a\r\n b\r\ncontent-length: 6\r\n", "abcdef"),
        put("x: a\0b\r\ncontent-length: 6\r\n", "abcdef"),
        format!(
            "PUT /v1/deposits/x HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{SECOND}"
        ),
    ];
    for message in refused {
        assert_eq!(answers(&client, &message), [400], "{message:?}");
    }
    // The two together: the length is ignored, and the connection ends with the answer (RFC 9112, 6.1).
    let both = put(
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        "0\r\n\r\n",
    );
    assert_eq!(answers(&client, &both), [201]);
}

#[test]
fn a_request_has_one_host() {
    let server = server();
    for headers in ["", "host: a\r\nhost: b\r\n"] {
        let mut connection = server.wire(&server.gui_url);
        connection
            .send(format!("GET /v1/server HTTP/1.1\r\n{headers}\r\n").as_bytes())
            .unwrap();
        assert_eq!(connection.answer(false).unwrap().status, 400, "{headers:?}");
    }
    let mut connection = server.wire(&server.gui_url);
    connection.send(b"GET /v1/server HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(connection.answer(false).unwrap().status, 200);
}

#[test]
fn floods_of_headers_are_cut_off() {
    let server = server();
    let many: String = (0..101).map(|n| format!("x{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "a".repeat(17_000));
    let uri = format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(70_000));
    for message in [
        format!("GET /v1/server HTTP/1.1\r\n{HOST}{many}\r\n"),
        format!("GET /v1/server HTTP/1.1\r\n{HOST}{long}\r\n"),
        uri,
    ] {
        let mut connection = server.wire(&server.client_url);
        let _ = connection.send(message.as_bytes());
        assert_eq!(connection.answer(false).unwrap().status, 431);
        assert!(connection.is_closed());
    }
    let trailers: String = (0..5_000).map(|n| format!("x{n}: y\r\n")).collect();
    let client = server.client("a", "acme");
    let message = format!(
        "PUT /v1/deposits/x HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n{SECOND}"
    );
    assert_eq!(answers(&client, &message), [400]);
}

#[test]
fn a_path_means_what_it_says() {
    let server = server();
    let client = server.client("a", "acme");
    client.curl("/v1/deposits/abc").put(b"here").send().ok(201);
    let mut connection: Connection = client.wire();
    let mut status = |path: &str| connection.get(path).status;
    for path in [
        "/v1/deposits/abc",
        "/v1/deposits/%61bc",
        "/v1/orgs/%61cme/deposits/abc",
    ] {
        assert_eq!(status(path), 200, "{path}");
    }
    for path in [
        "/v1/deposits/%2e%2e",
        "/v1/deposits/..",
        "/v1/deposits/../server",
        "/v1/deposits/abc%00",
        "/v1/deposits/%2561bc",
        "/v1/deposits/a%2fb",
        "/v1/deposits/abc;x=1",
        "/v1/deposits/%ff",
        "/v1/deposits/%",
        "/v1/deposits/id/id",
        "/v1/deposits/abc?version=0",
        "/v1/deposits/abc?no_such=1",
        "//v1/server",
        "/v1//server",
        "/v1/server/",
        "/V1/server",
    ] {
        assert!([400, 404].contains(&status(path)), "{path}");
    }
}

#[test]
fn only_the_methods_that_are_there_are_answered() {
    let server: Server = server();
    let mut connection = server.wire(&server.gui_url);
    for (method, expected) in [
        ("TRACE", 405),
        ("PROPFIND", 405),
        ("get", 405),
        ("POST", 405),
    ] {
        let answer = connection.request(method, "/v1/server", &[], None);
        assert_eq!(answer.status, expected, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
}
