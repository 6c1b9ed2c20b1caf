//! Others on the same machine: links in the way, what /proc shows, what the log can be made to say.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use serde_json::json;

use super::super::harness::{Options, Server};
use super::{log_in, server};

#[test]
fn a_link_beside_the_ready_file_is_not_written_through() {
    let mut server = Server::init(Options::default());
    let victim = server.file("victim", "precious");
    symlink(&victim, server.path("ready.new")).unwrap();
    server.serve();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(
        fs::symlink_metadata(server.path("ready.json"))
            .unwrap()
            .is_file()
    );
}

#[test]
fn links_in_a_clients_home_are_replaced_or_refused_and_never_written_through() {
    let server = server();
    server.org("acme");
    for name in [
        "client.toml",
        "client.key",
        "client.crt",
        "ca.pem",
        "identity.txt",
    ] {
        let client = server.stranger(&name.replace('.', "-"), "acme");
        fs::create_dir(&client.home).unwrap();
        let victim = server.file(&format!("victim-{name}"), "precious");
        symlink(&victim, client.file(name)).unwrap();
        client.register(None);
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
    }
}

#[test]
fn loose_modes_behind_a_link_to_the_data_folder_are_mended() {
    let mut server = Server::init(Options::default());
    let real = server.path("real");
    fs::rename(&server.data, &real).unwrap();
    symlink(&real, &server.data).unwrap();
    let seal = real.join("live/seal.json");
    fs::set_permissions(&seal, Permissions::from_mode(0o644)).unwrap();
    server.serve();
    assert_eq!(fs::metadata(&seal).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn the_admin_socket_and_the_process_are_closed_to_others() {
    let server = server();
    let mode = |path: &str| fs::metadata(server.data.join(path)).unwrap().mode() & 0o777;
    assert_eq!(
        (mode("run"), mode("run/admin.sock"), mode("")),
        (0o700, 0o600, 0o700)
    );
    let proc = |name: &str| fs::read(format!("/proc/{}/{name}", server.pid)).unwrap();
    let limits = String::from_utf8(proc("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    // Not dumpable: its memory and environment belong to root, whoever runs it.
    let owner = fs::metadata(format!("/proc/{}/mem", server.pid))
        .unwrap()
        .uid();
    assert_eq!(owner, 0);
    let passphrase = &server.options.passphrase;
    // Its environment is root's to read, so that others do not find it at all.
    let readable: &[&str] = match strongroom::os::effective_uid() {
        0 => &["cmdline", "environ"],
        _ => &["cmdline"],
    };
    for name in readable {
        let shown = proc(name);
        assert!(
            !shown
                .windows(passphrase.len())
                .any(|piece| piece == passphrase),
            "{name}"
        );
    }
}

#[test]
fn the_log_tells_no_secret_and_no_lie() {
    let server = server();
    server.cli(&["setting", "set", "log.level", "debug"]).ok();
    let code = server.org("acme");
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "--raw", "key", "-"], b"THE-BYTES")
        .ok();
    client.curl("/v1/deposits/key").send().ok(200);
    let token = server.token("superuser", &["all"]);
    let forged = "%0d%0a2026-11-22T08:00:00Z%20ERROR%20forged%1b%5b2J";
    for path in [
        format!("/v1/deposits/{forged}"),
        format!("/v1/{forged}"),
        format!("/v1/orgs?filter={forged}"),
    ] {
        server
            .curl(&format!("{}{path}", server.gui_url))
            .token(&token)
            .send();
    }
    server
        .curl(&format!("{}/v1/orgs", server.gui_url))
        .token(&token)
        .header("strongroom-reason", forged)
        .json(&json!({ "name": "beta" }))
        .send()
        .ok(400);
    let session = log_in(&server, "superuser", &server.password).ok(201);
    let cookie = session
        .header("set-cookie")
        .unwrap()
        .split([';', '='])
        .nth(1)
        .unwrap()
        .to_owned();
    log_in(&server, "superuser", "a wrong password");
    server
        .curl(&format!("{}/v1/orgs", server.gui_url))
        .token("srt_a-wrong-token")
        .send()
        .ok(401);
    server.logs("forged");
    let log = server.log();
    let passphrase = String::from_utf8(server.options.passphrase.clone()).unwrap();
    for secret in [
        &code,
        &token,
        &cookie,
        &server.password,
        &passphrase,
        &"THE-BYTES".to_owned(),
        &"a wrong password".to_owned(),
        &"srt_a-wrong-token".to_owned(),
    ] {
        assert!(!log.contains(secret.as_str()), "the log tells `{secret}`");
    }
    assert!(!log.contains('\u{1b}'));
    for line in log.lines() {
        assert!(
            !line.contains("Z ERROR forged") || !line.starts_with("2026-11-22T08:00:00Z ERROR"),
            "{line}"
        );
    }
}
