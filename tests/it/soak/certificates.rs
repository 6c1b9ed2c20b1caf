//! Certificates replaced under load: on connections that stay, on new ones, and on the listener whose
//! certificate changes, no request fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::harness::wire::Connection;
use crate::harness::{Options, Server, long};

/// Five hundred in the long form; under load, on connections that stay and on new ones.
#[test]
fn certificates_change_under_load_and_no_request_fails() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "--raw", "key", "-"], b"bytes")
        .ok();
    let token = server.token("superuser", &["read"]);
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let changes = if long("soak") { 500 } else { 25 };
    let get = |connection: &mut Connection| {
        let answer = connection.get("/v1/deposits/key");
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"bytes"[..])
        );
        asked.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        let staying = || {
            let mut connection = client.wire();
            while !stop.load(Ordering::Relaxed) {
                get(&mut connection);
            }
        };
        let coming = || {
            while !stop.load(Ordering::Relaxed) {
                get(&mut client.wire());
            }
        };
        // The GUI's listener shows what changes; whoever pins nothing takes any.
        let looking = || {
            while !stop.load(Ordering::Relaxed) {
                let url = format!("{}/v1/settings", server.gui_url);
                server
                    .curl(&url)
                    .flag("--insecure")
                    .token(&token)
                    .send()
                    .ok(200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        };
        scope.spawn(staying);
        scope.spawn(coming);
        scope.spawn(looking);
        let mut last = String::new();
        for change in 0..changes {
            let days = (change % 300 + 40).to_string();
            let tls = match change % 5 {
                4 => server.json(&["tls", "rollback"]),
                _ => server.json(&["tls", "self-signed", "--days", &days])["tls"].clone(),
            };
            let now = tls["gui"]["certificate"]["sha256"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_ne!(now, last);
            last = now;
            if change % 10 == 0 {
                // Clients pin the identity, so for them it changes how it speaks, not what it shows.
                let version = ["tlsv1.2", "tlsv1.3"][change / 10 % 2];
                server
                    .cli(&["setting", "set", "tls.minimum_version", version])
                    .ok();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let requests = asked.into_inner();
    assert!(requests > 50, "{requests}");
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    let counts = json!({ "replaced": changes, "requests": requests, "failed": 0 });
    println!("{counts}");
    super::found("certificates_replaced", counts);
}
