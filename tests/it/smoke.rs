//! The harness itself, and the shortest way through the product.

use crate::harness::{Options, Server, measured};

#[test]
fn a_deposit_comes_back_after_the_plug_was_pulled() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "key", "-"], b"bytes\0\xff")
        .ok();
    assert_eq!(
        client.cli(&["deposit", "get", "key"]).ok().stdout,
        b"bytes\0\xff"
    );
    server.kill9();
    server.serve();
    let client = client.at(&server);
    assert_eq!(
        client.cli(&["deposit", "get", "key"]).ok().stdout,
        b"bytes\0\xff"
    );
    let answer = client.curl("/v1/deposits/key").send().ok(200);
    assert_eq!(answer.header("strongroom-encryption"), Some("age"));
    assert_eq!(
        client.wire().get("/v1/deposits/key").ok(200).body,
        answer.body
    );
    assert_eq!(server.health("/readyz").status, 200);
    server.restart();
    server.stop();
    let (p50, p99) = measured::fsync(server.folder());
    assert!(p50 <= p99);
}
