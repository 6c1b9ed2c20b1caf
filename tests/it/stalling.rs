//! Connections that stall, break off or speak something else: they end, and others do not wait.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::bad_input::{is_clear, world};
use crate::harness::{Dice, PATIENCE, seed, wire};

#[test]
fn a_body_that_comes_too_slowly_is_refused_and_others_do_not_wait_for_it() {
    let world = world();
    let mut slow = world.client.wire();
    let started = Instant::now();
    slow.send(b"PUT /v1/deposits/slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nsent but not stored").unwrap();
    let mut quick = world.client.wire();
    for _ in 0..20 {
        quick.get("/v1/deposits/key").ok(200);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "others waited");
    let answer = slow.answer(false).unwrap().refused(408, "too_slow");
    is_clear(&answer);
    assert!(
        started.elapsed() >= Duration::from_secs(29),
        "{:?}",
        started.elapsed()
    );
    world
        .client
        .wire()
        .get("/v1/deposits/slow")
        .refused(404, "not_found");
    world.is_unharmed(&[answer]);
}

#[test]
fn half_open_handshakes_and_half_sent_requests_are_ended() {
    let world = world();
    let connect = |url: &str| {
        let stream =
            TcpStream::connect(wire::authority(url).replace("localhost", "127.0.0.1")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let started = Instant::now();
    let mut open = Vec::new();
    for (url, bytes) in [
        (&world.server.client_url, &b""[..]),
        // The beginning of a ClientHello.
        (
            &world.server.client_url,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        (
            &world.server.gui_url,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
    ] {
        let mut stream = connect(url);
        stream.write_all(bytes).unwrap();
        open.push(stream);
    }
    // The health listener, too, answers others meanwhile.
    let halves: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = connect(&world.server.health_url);
            stream.write_all(b"GET /healthz HT").unwrap();
            stream
        })
        .collect();
    assert_eq!(world.server.health("/healthz").status, 200);
    drop(halves);
    let mut half = world.client.wire();
    half.send(b"GET /v1/deposits/key HTTP/1.1\r\nhost: loc")
        .unwrap();
    // Plain HTTP on a TLS port, and noise, end at once.
    for noise in [
        &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
        b"\x00\x01\x02\x03\xff\xfe",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let mut stream = connect(&world.server.client_url);
        stream.write_all(noise).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    }
    world.client.wire().get("/v1/deposits/key").ok(200);
    let answer = half.answer(false);
    assert!(
        answer.is_err() || answer.is_ok_and(|answer| answer.status == 408 || answer.status == 400)
    );
    for (at, mut stream) in open.into_iter().enumerate() {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(30),
            "connection {at} stayed open for {took:?}"
        );
    }
    world.is_unharmed(&[]);
}

#[test]
fn heads_that_are_too_long_or_malformed_are_refused() {
    let world = world();
    let long = "x".repeat(20 << 10);
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for head in [
        format!("GET /v1/deposits/{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("GET /v1/deposits/key HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"),
        format!("GET /v1/deposits/key HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
        "GET /v1/deposits/key HTTP/9.9\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /v1/deposits/key HTTP/1.1\r\nhost: localhost\r\na b: c\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut wire = world.client.wire();
        let answer = wire.send(head.as_bytes()).and_then(|()| wire.answer(false));
        let shown = &head[..head.len().min(60)];
        assert!(
            answer.as_ref().is_err()
                || answer
                    .as_ref()
                    .is_ok_and(|it| (400..500).contains(&it.status)),
            "{shown}: {answer:?}"
        );
    }
    for query in [
        "version=0",
        "version=-1",
        "version=1&version=2",
        "version=4294967296",
        "version=x",
        "verison=1",
        "version=%FF",
    ] {
        let answer = world
            .client
            .wire()
            .get(&format!("/v1/deposits/key?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        is_clear(&answer);
    }
    world.is_unharmed(&[]);
}

#[test]
fn random_bytes_on_every_listener_end_in_a_refusal() {
    let world = world();
    let mut dice = Dice::new(seed());
    for round in 0..60 {
        let size = usize::try_from(dice.below(2_000) + 1).unwrap();
        let noise = dice.bytes(size);
        let mut wire = match round % 4 {
            0 => world.client.wire(),
            1 => world.server.wire(&world.server.gui_url),
            2 => world.server.socket(),
            _ => wire::Connection::plain(&world.server.health_url),
        };
        let _ = wire.send(&noise);
        let _ = wire.send(b"\r\n\r\n");
        let answer = wire.answer(false);
        assert!(
            answer.as_ref().is_err() || answer.as_ref().is_ok_and(|it| it.status >= 400),
            "{answer:?}"
        );
    }
    world.is_unharmed(&[]);
}
