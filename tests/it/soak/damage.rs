//! A page that the disk gives back otherwise than it was written.

use super::run::options;
use crate::harness::{PATIENCE, Server, until};

#[test]
fn a_damaged_page_is_refused_and_turns_health_red() {
    let mut server = Server::start(options(None));
    let client = server.client("a", "acme");
    let mut connection = client.wire();
    connection
        .request("PUT", "/v1/deposits/small", &[], Some(b"x"))
        .ok(201);
    connection
        .request("PUT", "/v1/deposits/large", &[], Some(&[7; 1 << 20]))
        .ok(201);
    server.stop();
    let path = server.data.join("live/strongroom.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Most of the file is the long body.
    let at = bytes.len() / 4 * 3;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    server.serve();
    let mut connection = client.at(&server).wire();
    connection
        .get("/v1/deposits/large")
        .refused(500, "store_failed");
    connection.get("/v1/deposits/small").ok(200);
    // A commit empties the readers' caches: each page is read anew.
    connection
        .request("PUT", "/v1/deposits/other", &[], Some(b"y"))
        .ok(201);
    for name in ["small", "large", "other", "small"] {
        let answer = connection.get(&format!("/v1/deposits/{name}"));
        match name {
            "large" => answer.refused(500, "store_failed"),
            _ => answer.ok(200),
        };
    }
    until(PATIENCE, || server.health("/healthz").status == 503);
    let health = String::from_utf8(server.health("/healthz").body).unwrap();
    assert!(health.contains("could not be read"), "{health}");
    server.stop();
}
