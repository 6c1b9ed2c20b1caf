//! The server's OpenPGP identity, as the original's runbooks ask for it and as the real gpg reads it.

use std::process::Command;

use crate::harness::{Opens, Options, PATIENCE, Server, run, until};

#[track_caller]
fn fingerprint(server: &Server) -> String {
    let answer = server.curl(&format!("{}/?a=fingerprint", server.client_url));
    let answer = answer.flag("-k").send().ok(200);
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let line = answer.text();
    let fingerprint = line.strip_suffix('\n').unwrap();
    let digits = fingerprint.strip_prefix("4096R/").unwrap();
    assert!(
        digits.len() == 40 && digits.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F')),
        "{line}"
    );
    fingerprint.to_owned()
}

#[test]
fn the_fingerprint_is_the_keys_over_restarts_rotation_and_sealing() {
    let mut server = Server::start(Options::default());
    let first = fingerprint(&server);
    let key = server
        .curl(&format!("{}/v1/server/openpgp-key", server.gui_url))
        .send()
        .ok(200);
    let key = server.file("server.asc", &key.body);
    let home = server.path("gnupg");
    std::fs::create_dir(&home).unwrap();
    run(Command::new("chmod").arg("700").arg(&home)).ok();
    let gpg = |args: &[&str]| {
        run(Command::new("gpg")
            .arg("--homedir")
            .arg(&home)
            .args(["--batch", "--with-colons"])
            .args(args)
            .arg(&key))
        .ok()
        .text()
    };
    let shown = gpg(&["--show-keys"]);
    assert!(shown.contains(&first["4096R/".len()..]), "{shown}");
    assert!(
        shown.contains("pub:") && shown.contains(":4096:1:"),
        "{shown}"
    );
    assert!(shown.contains("Strongroom localhost"), "{shown}");
    // gpg checks the signature that binds the name before it takes the key.
    gpg(&["--import"]);
    server.restart();
    assert_eq!(fingerprint(&server), first);
    let passphrase = server.path("passphrase").display().to_string();
    let key_file = server.path("key").display().to_string();
    server
        .cli(&[
            "root",
            "rotate",
            "--passphrase-file",
            &passphrase,
            "--key-file",
            &key_file,
            "--yes",
        ])
        .ok();
    server.cli(&["seal", "--yes"]).ok();
    assert_eq!(fingerprint(&server), first, "sealed");
    // The public half is written anew from the store if it is lost.
    std::fs::remove_file(server.data.join("live/openpgp.asc")).unwrap();
    server.cli(&["seal", "--yes"]).fails(3);
    server.stop();
    server.serve();
    assert_eq!(fingerprint(&server), first);
    // Another's in its place is noticed.
    let own = std::fs::read(server.data.join("live/openpgp.asc")).unwrap();
    let other = Server::start(Options::default());
    fingerprint(&other);
    server.stop();
    std::fs::copy(
        other.data.join("live/openpgp.asc"),
        server.data.join("live/openpgp.asc"),
    )
    .unwrap();
    server.serve();
    until(PATIENCE, || fingerprint(&server) == first);
    assert_eq!(
        std::fs::read(server.data.join("live/openpgp.asc")).unwrap(),
        own
    );
    server.logs("held another key");
    let events = server
        .cli(&["audit", "list", "-F", "action = server.openpgp_key"])
        .ok();
    assert_eq!(
        events.text().lines().count(),
        1,
        "made once: {}",
        events.text()
    );
}

#[test]
fn a_server_that_was_sealed_before_it_had_a_key_says_so() {
    let mut server = Server::init(Options {
        opens: Opens::Nothing,
        ..Options::default()
    });
    server.serve();
    let url = format!("{}/?a=fingerprint", server.client_url);
    server.curl(&url).send().refused(503, "sealed");
    for (path, status) in [("/?a=other", 400), ("/", 404), ("/?b=fingerprint", 400)] {
        let answer = server.curl(&format!("{}{path}", server.client_url)).send();
        assert_eq!(answer.status, status, "{path}");
    }
}
