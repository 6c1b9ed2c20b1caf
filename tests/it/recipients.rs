//! Recipients of backups: age, SSH and OpenPGP keys, from files and from a real gpg keyring.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Gnupg, Options, Output, Server, run};

const SSH: &str = include_str!("../data/age/ssh_ed25519.pub");
const SSH_SECRET: &str = include_str!("../data/age/ssh_ed25519");

fn age_identity() -> (String, String) {
    let made = run(&mut Command::new("age-keygen")).ok().text();
    let line = |start: &str| {
        let line = made.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap().to_owned()
    };
    let secret = line("AGE-SECRET-KEY-");
    (line("# public key: "), format!("AGE-SECRET-KEY-{secret}"))
}

#[track_caller]
fn listed(server: &Server) -> Vec<Value> {
    let listed = server.cli(&["--json", "recipient", "list"]).ok().json();
    listed["items"]
        .as_array()
        .or(listed.as_array())
        .unwrap()
        .clone()
}

#[track_caller]
fn events(server: &Server, action: &str) -> String {
    let filter = format!("action = {action}");
    server
        .cli(&["--json", "audit", "list", "-F", &filter])
        .ok()
        .text()
}

/// As a caller whose gpg keyring this is.
fn with(server: &Server, gpg: &Gnupg, args: &[&str]) -> Output {
    let mut command = server.command();
    command.env("GNUPGHOME", gpg.home());
    run(command.arg("--data-dir").arg(&server.data).args(args))
}

#[test]
fn lines_of_a_recipients_file_are_taken_once() {
    let server = Server::start(Options::default());
    let (one, _) = age_identity();
    let (two, _) = age_identity();
    server
        .cli(&["recipient", "add", &one, "--label", "safe"])
        .ok()
        .says(&[&one, "is a recipient now"]);
    let file = server.file(
        "recipients.txt",
        format!("# the operators\n\n{one}\r\n  {two}\n{SSH}\n"),
    );
    let file = file.to_str().unwrap();
    let told = server.cli(&["--json", "recipient", "add", file]).ok();
    let outcome = told.json();
    assert_eq!(outcome["added"].as_array().unwrap().len(), 2, "{outcome}");
    assert!(
        outcome["known"][0].as_str().unwrap().contains(&one),
        "{outcome}"
    );
    let all = listed(&server);
    let field =
        |name: &str| -> Vec<&str> { all.iter().map(|it| it[name].as_str().unwrap()).collect() };
    let ssh: Vec<&str> = SSH.split_whitespace().collect();
    let (key, comment) = (ssh[..2].join(" "), ssh[2..].join(" "));
    assert_eq!(field("recipient"), [&one, &two, &key]);
    assert_eq!(field("kind"), ["age", "age", "ssh"]);
    assert_eq!(field("label"), ["safe", "", &comment]);
    assert_eq!(field("added_by"), ["local 0"; 3]);
    // Told, and not doubled: however it is written.
    server
        .cli(&["recipient", "add", file])
        .ok()
        .says(&["already", &two]);
    server
        .cli(&["recipient", "add", ssh[0], ssh[1], "other comment"])
        .ok()
        .says(&["already"]);
    server
        .cli(&["recipient", "add", "-"])
        .fails(2)
        .says(&["holds no recipient"]);
    assert_eq!(listed(&server).len(), 3);
    assert_eq!(
        server
            .cli(&["recipient", "list", "-F", "kind = ssh"])
            .ok()
            .text()
            .lines()
            .count(),
        1
    );
    let made = events(&server, "recipient.add");
    assert!(
        made.contains(&one) && made.contains(&two) && made.contains(ssh[1]),
        "{made}"
    );

    // By id, and by what it is.
    server
        .cli(&["recipient", "rm", field("id")[0], "--yes"])
        .ok();
    server.cli(&["recipient", "rm", SSH.trim(), "--yes"]).ok();
    server.cli(&["recipient", "rm", &one, "--yes"]).fails(4);
    server
        .cli(&["recipient", "rm", field("id")[0], "--yes"])
        .fails(4);
    assert_eq!(listed(&server).len(), 1);
    assert!(events(&server, "recipient.rm").contains(&one));
    server.cli(&["audit", "verify"]).ok();
}

#[test]
fn a_line_that_is_no_recipient_keeps_the_whole_file_out() {
    let server = Server::start(Options::default());
    let (one, secret) = age_identity();
    for (wrong, says) in [
        ("age1qqqq", "line 3"),
        ("someone@example.com", "line 3"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAO", "line 3"),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "recipient import"),
    ] {
        let file = server.file("wrong.txt", format!("{one}\n\n{wrong}\n"));
        let refused = server.cli(&["recipient", "add", file.to_str().unwrap()]);
        refused.fails(2).says(&[says]);
    }
    // A secret key is refused wherever it stands, and is shown nowhere.
    let core = &secret[20..40];
    let block = SSH_SECRET.lines().nth(2).unwrap();
    let identity = server.file("identity.txt", format!("# mine\n{secret}\n"));
    let ssh = server.file("id_ed25519", SSH_SECRET);
    for given in [
        identity.to_str().unwrap(),
        ssh.to_str().unwrap(),
        &secret,
        &secret.to_lowercase(),
        SSH_SECRET,
    ] {
        let refused = server.cli(&["recipient", "add", given]).fails(2);
        let refused = refused.says(&["secret key"]);
        assert!(!refused.stderr.to_uppercase().contains(core), "{refused:?}");
        assert!(!refused.stderr.contains(block), "{refused:?}");
    }
    // The server refuses it as well, whoever sends it.
    let mut socket = server.socket();
    for text in [
        secret.as_str(),
        SSH_SECRET,
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxx",
    ] {
        let body = serde_json::json!({"recipient": text}).to_string();
        let answer = socket.request(
            "POST",
            "/v1/recipients",
            &[("content-type", "application/json")],
            Some(body.as_bytes()),
        );
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{said}");
        assert!(
            said.contains("secret") && !said.contains(core) && !said.contains(block),
            "{said}"
        );
    }
    assert_eq!(listed(&server).len(), 0);
    let log = events(&server, "recipient.add");
    assert!(!log.contains(core) && !log.contains(block), "{log}");
}

#[test]
fn openpgp_keys_are_imported_from_a_ring_and_each_is_told() {
    let server = Server::start(Options::default());
    let gpg = Gnupg::new();
    let one = gpg.key("One <one@example.com>", "ed25519", "cert", "never");
    gpg.subkey(&one, "cv25519", "never");
    let two = gpg.key("Two <two@example.com>", "rsa2048", "cert", "never");
    gpg.subkey(&two, "rsa2048", "2d");
    let signs = gpg.key("Signs <signs@example.com>", "ed25519", "sign", "never");
    let gone = gpg.key("Gone <gone@example.com>", "ed25519", "cert", "never");
    gpg.subkey(&gone, "cv25519", "never");
    gpg.revoke(&gone);
    let ring = gpg.file("ring.pub", gpg.export(&[]));
    let import = |path: &str| server.cli(&["recipient", "import", path]);
    import(ring.to_str().unwrap()).ok().says(&[
        &format!("{one} (One <one@example.com>) is a recipient now"),
        &format!("{two} (Two <two@example.com>) is a recipient now"),
        &format!("{signs} (Signs <signs@example.com>) is for signing only"),
        &format!("{gone} (Gone <gone@example.com>) is revoked"),
    ]);
    let all = listed(&server);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|it| it["kind"] == "openpgp"));
    assert!(all.iter().any(|it| it["expires"].is_string()));
    // Armored, once more: nothing is doubled.
    let armored = gpg.gpg(&["--armor", "--export", &one]).stdout;
    let armored = gpg.file("one.asc", armored);
    import(armored.to_str().unwrap()).ok().says(&["already"]);
    assert_eq!(listed(&server).len(), 2);
    // A key that none of its parts can be encrypted to, alone.
    let alone = gpg.file("signs.pub", gpg.export(&[&signs]));
    import(alone.to_str().unwrap())
        .fails(5)
        .says(&["for signing only"]);
    // Secret keys are refused before anything is sent.
    let secret = gpg.gpg(&["--armor", "--export-secret-keys", &one]).stdout;
    let shown = String::from_utf8(secret.clone()).unwrap();
    let file = gpg.file("secret.asc", secret);
    let refused = import(file.to_str().unwrap()).fails(2).says(&["secret"]);
    assert!(!refused.stderr.contains(shown.lines().nth(3).unwrap()));
    for nothing in [&b""[..], b"hello", &[0x99; 60]] {
        let file = server.file("nothing", nothing);
        let refused = import(file.to_str().unwrap());
        assert!([2, 5].contains(&refused.status), "{refused:?}");
    }

    // Its owner gives it more time, and then takes it back: each copy takes the place of the one before.
    gpg.gpg(&["--quick-set-expire", &two, "90d", "*"]);
    let later = gpg.file("later.pub", gpg.export(&[&two]));
    let before = all.iter().find(|it| it["recipient"] == *two).unwrap();
    import(later.to_str().unwrap()).ok().says(&["is renewed"]);
    let all = listed(&server);
    let after = all.iter().find(|it| it["recipient"] == *two).unwrap();
    assert_eq!(after["id"], before["id"]);
    assert!(after["expires"].as_str() > before["expires"].as_str());
    gpg.revoke(&two);
    let revoked = gpg.file("revoked.pub", gpg.export(&[&two]));
    import(revoked.to_str().unwrap())
        .ok()
        .says(&["renewed", "is revoked"]);
    // An older copy does not bring it back.
    import(later.to_str().unwrap())
        .fails(5)
        .says(&["is revoked"]);
    server
        .cli(&["recipient", "rm", "two@example.com", "--yes"])
        .ok();
    let all = listed(&server);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["recipient"], *one);
}

#[test]
fn a_key_of_the_callers_own_keyring_is_imported_by_name() {
    let server = Server::start(Options::default());
    let gpg = Gnupg::new();
    let ops = gpg.key("Operations <ops@example.com>", "ed25519", "cert", "never");
    gpg.subkey(&ops, "cv25519", "never");
    let dev = gpg.key(
        "Development <devops@example.com>",
        "ed25519",
        "cert",
        "never",
    );
    gpg.subkey(&dev, "cv25519", "never");
    let signs = gpg.key("Signs <signs@example.com>", "ed25519", "sign", "never");
    let old = ["--faked-system-time", "20200101T000000"];
    gpg.gpg(
        &[
            &old[..],
            &[
                "--quick-gen-key",
                "Old <old@example.com>",
                "rsa2048",
                "cert",
                "1y",
            ],
        ]
        .concat(),
    );
    let import = |name: &str| with(&server, &gpg, &["recipient", "import", "--from-gpg", name]);
    import("operations")
        .ok()
        .says(&[&ops, "is a recipient now"]);
    for name in [
        "<ops@example.com>",
        "=Operations <ops@example.com>",
        &ops,
        &ops[24..],
        &ops[32..],
    ] {
        import(name).ok().says(&[&ops, "already"]);
    }
    import("example.com")
        .fails(5)
        .says(&["several", &ops, &dev, &signs, "for signing only"]);
    import("signs@example.com")
        .fails(5)
        .says(&["for signing only"]);
    import("old@example.com")
        .fails(5)
        .says(&["has expired (2020-12-31"]);
    gpg.revoke(&dev);
    import("Development").fails(5).says(&["is revoked"]);
    import("nobody").fails(4).says(&["`nobody`", "gpg keyring"]);
    import("--version").fails(2);
    with(
        &server,
        &gpg,
        &["recipient", "import", "--from-gpg=--version"],
    )
    .fails(4);
    import(" ").fails(2);
    assert_eq!(listed(&server).len(), 1);
    let made = events(&server, "recipient.add");
    assert!(made.contains(&ops) && !made.contains(&dev), "{made}");

    let empty = server.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let lonely = run(server.command().env("PATH", &empty).args([
        "--data-dir",
        server.data.to_str().unwrap(),
        "recipient",
        "import",
        "--from-gpg",
        "operations",
    ]));
    lonely
        .fails(3)
        .says(&["gpg is not on the PATH", "recipient import FILE"]);
}

#[test]
fn there_is_an_end_to_how_many_there_may_be() {
    let server = Server::start(Options::default());
    let lines: Vec<String> = (0..257)
        .map(|_| strongroom::crypto::agefile::generate_identity().1)
        .collect();
    let file = server.file("many.txt", lines.join("\n"));
    let told = server.cli(&["recipient", "add", file.to_str().unwrap()]);
    told.fails(5).says(&["256 recipients"]);
    assert_eq!(listed(&server).len(), 256);
}
