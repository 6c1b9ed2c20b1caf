//! The main job on real input: the keys of a machine go in, and come back byte for byte, whoever
//! stored them and whoever fetches them, after a crash and at another place.

use std::path::PathBuf;

use crate::harness::{Answer, Client, Dice, Folder, Options, Server, seed, tool};

/// What a machine would lose with its disk.
struct Secrets {
    files: Vec<(&'static str, PathBuf)>,
    _folder: Folder,
}

/// Host keys, the header of an encrypted disk, a TLS key.
fn secrets_of_a_machine() -> Secrets {
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let mut files = Vec::new();
    for (kind, name) in [
        ("ed25519", "ssh_host_ed25519_key"),
        ("ecdsa", "ssh_host_ecdsa_key"),
        ("rsa", "ssh_host_rsa_key"),
    ] {
        tool(
            "ssh-keygen",
            ["-q", "-t", kind, "-N", "", "-f", &text(name)],
        );
        files.push((name, path(name)));
    }

    let disk = text("disk.img");
    tool("truncate", ["--size", "20M", &disk]);
    let passphrase = folder.write("disk-passphrase", "a disk's passphrase");
    let options = [
        "-q",
        "--type",
        "luks2",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
    ];
    let mut format: Vec<&str> = vec!["luksFormat"];
    format.extend(options);
    format.extend([disk.as_str(), passphrase.to_str().unwrap()]);
    tool("/sbin/cryptsetup", format);
    let header = text("luks-header");
    tool(
        "/sbin/cryptsetup",
        ["luksHeaderBackup", &disk, "--header-backup-file", &header],
    );
    files.push(("luks-header", path("luks-header")));
    assert!(std::fs::read(&header).unwrap().starts_with(b"LUKS\xba\xbe"));

    tool(
        "openssl",
        ["genpkey", "-algorithm", "RSA", "-out", &text("tls.key")],
    );
    files.push(("tls.key", path("tls.key")));
    Secrets {
        files,
        _folder: folder,
    }
}

fn read(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Opens with the real age what curl fetched.
#[track_caller]
fn opened_by_age(client: &Client, answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.header("strongroom-encryption"), Some("age"));
    let folder = Folder::new();
    client.age_decrypt(&folder.write("fetched.age", &answer.body))
}

/// Fetches each in both ways. `cli-…` was stored by the program, `curl-…` by curl.
#[track_caller]
fn everything_is_there(client: &Client, secrets: &Secrets, when: &str) {
    for (name, path) in &secrets.files {
        let bytes = read(path);
        let (by_cli, by_curl) = (format!("cli-{name}"), format!("curl-{name}"));
        let fetched = client
            .cli(&["deposit", "get", &by_cli, "-o", "-"])
            .ok()
            .stdout;
        assert!(fetched == bytes, "{by_cli} by the program {when}");
        let fetched = client
            .curl(&format!("/v1/deposits/{by_cli}"))
            .send()
            .ok(200);
        assert!(
            opened_by_age(client, &fetched) == bytes,
            "{by_cli} by curl {when}"
        );
        let fetched = client
            .cli(&["deposit", "get", &by_curl, "-o", "-"])
            .ok()
            .stdout;
        assert!(fetched == bytes, "{by_curl} by the program {when}");
        let fetched = client
            .curl(&format!("/v1/deposits/{by_curl}"))
            .send()
            .ok(200);
        assert!(fetched.body == bytes, "{by_curl} by curl {when}");
        assert_eq!(fetched.header("strongroom-encryption"), Some("none"));
    }
}

#[test]
fn a_machines_keys_come_back_four_ways_after_a_crash_and_at_another_place() {
    let secrets = secrets_of_a_machine();
    let mut server = Server::start(Options::default());
    let client = server.client("machine", "acme");
    // A header of LUKS2 is 16 MiB long, unless other sizes were asked for.
    server
        .cli(&["setting", "set", "deposit.max_bytes", "16777216"])
        .ok();
    for (name, path) in &secrets.files {
        let name_cli = format!("cli-{name}");
        client
            .cli(&["deposit", "put", &name_cli, path.to_str().unwrap()])
            .ok();
        let url = format!("/v1/deposits/curl-{name}");
        client.curl(&url).put(&read(path)).send().ok(201);
    }
    everything_is_there(&client, &secrets, "at once");

    server.kill9();
    server.serve();
    let client = client.at(&server);
    everything_is_there(&client, &secrets, "after kill -9");

    server.stop();
    server.move_data("elsewhere");
    server.serve();
    let client = client.at(&server);
    everything_is_there(&client, &secrets, "at another path");
    let verified = server.json(&["audit", "verify"]);
    for chain in verified["chains"].as_array().unwrap() {
        assert_eq!(chain["fault"], serde_json::Value::Null, "{verified}");
    }
}

#[test]
fn what_curl_encrypts_with_age_opens_in_the_program() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let recipient = client.cli(&["--json", "client", "show"]).ok().json();
    let recipient = recipient["client"]["age_recipient"]
        .as_str()
        .unwrap()
        .to_owned();
    let plain = server.file("plain", Dice::new(seed()).bytes(10_000));
    let sealed = tool("age", ["-r", &recipient, plain.to_str().unwrap()]);
    let url = "/v1/deposits/sealed";
    let put = client
        .curl(url)
        .header("strongroom-encryption", "age")
        .put(&sealed);
    put.send().ok(201);
    assert_eq!(
        client.cli(&["deposit", "get", "sealed"]).ok().stdout,
        read(&plain)
    );
    assert_eq!(
        client
            .cli(&["deposit", "get", "sealed", "--raw"])
            .ok()
            .stdout,
        sealed
    );
}

#[test]
fn the_longest_bodies_come_back_and_longer_ones_are_refused() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut dice = Dice::new(seed());
    let bytes = dice.bytes((16 << 20) + 1);
    let by_curl = |name: &str, length: usize| {
        let url = format!("/v1/deposits/{name}");
        client.curl(&url).put(&bytes[..length]).send()
    };
    let by_cli = |name: &str, length: usize| {
        let file = Folder::new();
        let file = file.write("plain", &bytes[..length]);
        client.cli(&["deposit", "put", name, file.to_str().unwrap()])
    };
    let mebibyte = 1 << 20;
    by_curl("curl-1", mebibyte).ok(201);
    by_cli("cli-1", mebibyte).ok();
    let refused = by_curl("more", mebibyte + 1).refused(413, "too_large");
    assert!(refused.message().contains("1048576"), "{refused:?}");
    by_cli("more", mebibyte + (80 << 10))
        .fails(5)
        .says(&["1048576", "deposit.max_bytes"]);

    let set = |value: &str| server.cli(&["setting", "set", "deposit.max_bytes", value]);
    set("16777217").fails(2).says(&["16777216"]);
    set("16777216").ok();
    by_curl("curl-16", 16 << 20).ok(201);
    by_cli("cli-16", 16 << 20).ok();
    by_curl("more", (16 << 20) + 1).refused(413, "too_large");
    by_cli("more", (16 << 20) + 1).fails(5).says(&["16777216"]);

    for crashed in [false, true] {
        if crashed {
            server.kill9();
            server.serve();
        }
        let client = server.stranger("a", "acme");
        for (size, length) in [("1", mebibyte), ("16", 16 << 20)] {
            let fetched = client
                .curl(&format!("/v1/deposits/curl-{size}"))
                .send()
                .ok(200);
            assert!(fetched.body == bytes[..length], "curl-{size}");
            let fetched = client.cli(&["deposit", "get", &format!("cli-{size}")]).ok();
            assert!(fetched.stdout == bytes[..length], "cli-{size}");
        }
        client
            .curl("/v1/deposits/more")
            .send()
            .refused(404, "not_found");
    }
}

#[test]
fn an_empty_body_and_every_byte_come_back() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let every: Vec<u8> = (0..=255).collect();
    for (name, bytes) in [("empty", &[][..]), ("every", &every)] {
        client
            .curl(&format!("/v1/deposits/curl-{name}"))
            .put(bytes)
            .send()
            .ok(201);
        client
            .cli_with(&["deposit", "put", &format!("cli-{name}"), "-"], bytes)
            .ok();
        for way in ["curl", "cli"] {
            let fetched = client
                .cli(&["deposit", "get", &format!("{way}-{name}")])
                .ok();
            assert_eq!(fetched.stdout, bytes);
        }
    }
}
