//! Certificates of the operator's own: every form that authorities hand out, refusals by name, and a
//! server that shows another one without losing a request.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{Folder, Options, Output, PATIENCE, Server, run, run_with, tool, until};

/// An authority below a root, made with the real openssl.
struct Pki {
    folder: Folder,
}

const HOST: &str = "localhost";

impl Pki {
    fn new() -> Self {
        let pki = Self {
            folder: Folder::new(),
        };
        pki.key(
            "root",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        );
        pki.key(
            "between",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        );
        pki.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "root.key",
            "-subj",
            "/O=Acme/CN=Acme Root",
            "-days",
            "3650",
            "-out",
            "root.pem",
        ]);
        pki.openssl(&[
            "req",
            "-new",
            "-key",
            "between.key",
            "-subj",
            "/O=Acme/CN=Acme Issuing",
            "-out",
            "between.csr",
        ]);
        pki.folder.write("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n");
        pki.openssl(&[
            "x509",
            "-req",
            "-in",
            "between.csr",
            "-CA",
            "root.pem",
            "-CAkey",
            "root.key",
            "-days",
            "1000",
            "-extfile",
            "ca.ext",
            "-out",
            "between.pem",
        ]);
        pki
    }

    fn key(&self, name: &str, of: &[&str]) {
        let file = format!("{name}.key");
        let args = [&["genpkey"], of, &["-out", &file]].concat();
        self.openssl(&args);
    }

    fn openssl(&self, args: &[&str]) {
        run(Command::new("openssl")
            .current_dir(self.folder.path())
            .args(args))
        .ok();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A certificate for a request, by the authority in the middle.
    fn sign(&self, csr: &str, out: &str, names: &str, days: &str, usage: &str) {
        self.folder.write(
            "leaf.ext",
            format!(
                "subjectAltName={names}\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n"
            ),
        );
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            csr,
            "-CA",
            "between.pem",
            "-CAkey",
            "between.key",
            "-days",
            days,
            "-extfile",
            "leaf.ext",
            "-out",
            out,
        ]);
    }

    /// A key, and its certificate for this host.
    fn leaf(&self, name: &str, of: &[&str]) {
        self.key(name, of);
        self.request(name);
        self.sign(
            &format!("{name}.csr"),
            &format!("{name}.pem"),
            "DNS:localhost",
            "90",
            "serverAuth",
        );
    }

    fn request(&self, name: &str) {
        self.openssl(&[
            "req",
            "-new",
            "-key",
            &format!("{name}.key"),
            "-subj",
            &format!("/CN={name}"),
            "-out",
            &format!("{name}.csr"),
        ]);
    }

    fn join(&self, out: &str, parts: &[&str]) -> String {
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|part| std::fs::read(self.path(part)).unwrap())
            .collect();
        self.folder.write(out, bytes).display().to_string()
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const ED25519: &[&str] = &["-algorithm", "ED25519"];

/// `host:port` of a URL.
fn authority(url: &str) -> &str {
    url.trim_start_matches("https://")
}

/// What openssl finds when it connects, trusting this root alone: the chain's subjects.
#[track_caller]
fn shown(url: &str, root: &Path) -> String {
    let output = run(Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            authority(url),
            "-servername",
            HOST,
            "-verify_hostname",
            HOST,
            "-showcerts",
            "-verify_return_error",
            "-CAfile",
        ])
        .arg(root)
        .stdin(std::process::Stdio::null()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("Verify return code: 0 (ok)"),
        "{text}\n{}",
        output.stderr
    );
    text
}

#[track_caller]
fn install(server: &Server, args: &[&str]) -> Output {
    server.cli(&[&["tls", "install"], args].concat())
}

#[track_caller]
fn shows(server: &Server, pki: &Pki, name: &str) {
    let text = shown(&server.gui_url, &pki.path("root.pem"));
    assert!(
        text.contains(&format!("CN={name}")) || text.contains(&format!("CN = {name}")),
        "{text}"
    );
}

#[test]
fn certificates_come_in_any_form_and_order() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    for (name, of) in [("one", P256), ("two", RSA), ("three", ED25519)] {
        pki.leaf(name, of);
    }
    // The chain beside it.
    install(
        &server,
        &[
            "--gui",
            "--cert",
            &pki.text("one.pem"),
            "--key",
            &pki.text("one.key"),
            "--chain",
            &pki.text("between.pem"),
        ],
    )
    .ok();
    shows(&server, &pki, "one");
    // All in one file, the wrong way round, with the key in the middle and one that has no place there.
    pki.leaf("other", P256);
    let all = pki.join(
        "all.pem",
        &["root.pem", "between.pem", "two.key", "other.pem", "two.pem"],
    );
    let output = install(&server, &["--cert", &all]).ok();
    assert!(
        output
            .stderr
            .contains("CN=other does not belong to the chain"),
        "{}",
        output.stderr
    );
    shows(&server, &pki, "two");
    // Keys behind passwords: PKCS#8, and as OpenSSL wrote them before 1.0.
    server.file("pw", "a password\n");
    let pw = server.path("pw").display().to_string();
    pki.openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        "three.key",
        "-passout",
        "pass:a password",
        "-out",
        "three.enc",
    ]);
    install(
        &server,
        &[
            "--cert",
            &pki.text("three.pem"),
            "--key",
            &pki.text("three.enc"),
            "--chain",
            &pki.text("between.pem"),
            "--key-password-file",
            &pw,
        ],
    )
    .ok();
    shows(&server, &pki, "three");
    pki.openssl(&[
        "rsa",
        "-in",
        "two.key",
        "-traditional",
        "-aes256",
        "-passout",
        "pass:a password",
        "-out",
        "two.enc",
    ]);
    assert!(
        std::fs::read_to_string(pki.path("two.enc"))
            .unwrap()
            .contains("Proc-Type: 4,ENCRYPTED")
    );
    install(
        &server,
        &[
            "--cert",
            &pki.text("two.pem"),
            "--key",
            &pki.text("two.enc"),
            "--chain",
            &pki.text("between.pem"),
            "--key-password-file",
            &pw,
        ],
    )
    .ok();
    shows(&server, &pki, "two");
    // PKCS#12; and DER.
    pki.openssl(&[
        "pkcs12",
        "-export",
        "-in",
        "one.pem",
        "-inkey",
        "one.key",
        "-certfile",
        "between.pem",
        "-passout",
        "pass:a password",
        "-out",
        "one.p12",
    ]);
    install(
        &server,
        &["--cert", &pki.text("one.p12"), "--key-password-file", &pw],
    )
    .ok();
    shows(&server, &pki, "one");
    pki.openssl(&[
        "x509",
        "-in",
        "three.pem",
        "-outform",
        "DER",
        "-out",
        "three.der",
    ]);
    install(
        &server,
        &[
            "--cert",
            &pki.text("three.der"),
            "--key",
            &pki.text("three.key"),
            "--chain",
            &pki.text("between.pem"),
        ],
    )
    .ok();
    shows(&server, &pki, "three");
    // Nothing is left behind of those that nobody goes back to, and no password is.
    let tls = server.data.join("live/tls");
    let kept = std::fs::read_dir(&tls)
        .unwrap()
        .filter(|it| {
            it.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("installed-")
        })
        .count();
    assert_eq!(kept, 2);
    assert!(!server.log().contains("a password"));
    assert!(
        !String::from_utf8_lossy(&server.cli(&["audit", "export"]).ok().stdout)
            .contains("a password")
    );
}

#[test]
fn a_request_is_answered_by_an_authority_and_rolled_back_over_restarts() {
    let mut server = Server::start(Options::default());
    let pki = Pki::new();
    let own = server.json(&["tls", "show"])["gui"]["certificate"]["sha256"].clone();
    server
        .cli(&["tls", "rollback"])
        .fails(5)
        .says(&["no other certificate"]);
    let csr = server
        .cli(&["tls", "csr", "--new-key", "--name", "vault.example.com"])
        .ok();
    pki.folder.write("server.csr", &csr.stdout);
    pki.openssl(&["req", "-in", "server.csr", "-verify", "-noout"]);
    let text = String::from_utf8(tool(
        "openssl",
        ["req", "-noout", "-text", "-in", &pki.text("server.csr")],
    ))
    .unwrap();
    assert!(
        text.contains("DNS:localhost, DNS:vault.example.com"),
        "{text}"
    );
    pki.sign(
        "server.csr",
        "server.pem",
        "DNS:localhost,DNS:vault.example.com",
        "90",
        "serverAuth",
    );
    let chain = pki.join("chain.pem", &["between.pem", "server.pem"]);
    install(&server, &["--cert", &chain]).ok();
    let shown = shown(&server.gui_url, &pki.path("root.pem"));
    assert!(shown.contains("Acme Issuing"), "{shown}");
    let installed = server.json(&["tls", "show"]);
    assert_eq!(installed["gui"]["installed"], json!(true));
    assert_eq!(
        installed["client"]["installed"],
        json!(false),
        "clients pin the instance identity"
    );
    assert_eq!(installed["client"]["certificate"]["sha256"], own);
    // A client that is registered goes on; one that trusts the operator's authority is let in by a setting.
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "key", "-"], b"bytes")
        .ok();
    server
        .cli(&["setting", "set", "tls.client_listener", "installed"])
        .ok();
    let root = pki.path("root.pem");
    self::shown(&server.client_url, &root);
    client
        .cli(&["deposit", "get", "key", "-o", "-"])
        .fails(5)
        .says(&["not the pinned one"]);
    server.restart();
    let client = client.at(&server);
    self::shown(&server.client_url, &root);
    server
        .cli(&["setting", "set", "tls.client_listener", "identity"])
        .ok();
    client.cli(&["deposit", "get", "key", "-o", "-"]).ok();
    // Back to its own, forth, and back; what is shown outlives a restart, sealed or not.
    for (verb, expected) in [
        ("rollback", false),
        ("rollback", true),
        ("rollback", false),
        ("rollback", true),
    ] {
        server.cli(&["tls", verb]).ok();
        server.restart();
        let tls = server.json(&["tls", "show"]);
        assert_eq!(tls["gui"]["installed"], json!(expected));
        assert_eq!(tls["gui"]["certificate"]["sha256"] == own, !expected);
    }
    server.cli(&["seal", "--yes"]).ok();
    self::shown(&server.gui_url, &root);
    let info = server
        .curl(&format!("{}/v1/server", server.gui_url))
        .option("--cacert", &pki.text("root.pem"))
        .send()
        .ok(200);
    assert_eq!(
        info.json()["leaf_sha256"],
        installed["gui"]["certificate"]["sha256"]
    );
    let events = {
        server
            .cli(&[
                "unseal",
                "--passphrase-file",
                &server.path("passphrase").display().to_string(),
            ])
            .ok();
        server
            .cli(&["audit", "list", "-F", "action~tls."])
            .ok()
            .text()
    };
    for action in ["tls.csr", "tls.install", "tls.rollback"] {
        assert!(events.contains(action), "{events}");
    }
}

#[test]
fn what_cannot_be_shown_is_refused_by_name_and_nothing_changes() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    pki.leaf("good", P256);
    install(
        &server,
        &[
            "--cert",
            &pki.text("good.pem"),
            "--key",
            &pki.text("good.key"),
            "--chain",
            &pki.text("between.pem"),
        ],
    )
    .ok();
    let before = server.json(&["tls", "show"]);
    pki.leaf("stranger", P256);
    pki.key("elsewhere", P256);
    pki.request("elsewhere");
    pki.sign(
        "elsewhere.csr",
        "elsewhere.pem",
        "DNS:elsewhere.example.com",
        "90",
        "serverAuth",
    );
    pki.key("client", P256);
    pki.request("client");
    pki.sign(
        "client.csr",
        "client.pem",
        "DNS:localhost",
        "90",
        "clientAuth",
    );
    pki.key("over", P256);
    pki.request("over");
    pki.folder
        .write("leaf.ext", "subjectAltName=DNS:localhost\n");
    run(Command::new("faketime")
        .current_dir(pki.folder.path())
        .args([
            "2020-01-01 00:00:00",
            "openssl",
            "x509",
            "-req",
            "-in",
            "over.csr",
        ])
        .args([
            "-CA",
            "between.pem",
            "-CAkey",
            "between.key",
            "-days",
            "366",
        ])
        .args(["-extfile", "leaf.ext", "-out", "over.pem"]))
    .ok();
    pki.openssl(&[
        "pkcs12",
        "-export",
        "-in",
        "good.pem",
        "-inkey",
        "good.key",
        "-certfile",
        "between.pem",
        "-passout",
        "pass:right",
        "-out",
        "good.p12",
    ]);
    pki.openssl(&[
        "pkcs12",
        "-export",
        "-legacy",
        "-in",
        "good.pem",
        "-inkey",
        "good.key",
        "-passout",
        "pass:right",
        "-out",
        "old.p12",
    ]);
    pki.openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        "good.key",
        "-passout",
        "pass:right",
        "-out",
        "good.enc",
    ]);
    server.file("wrong", "wrong");
    server.file("right", "right");
    let (wrong, right) = (
        server.path("wrong").display().to_string(),
        server.path("right").display().to_string(),
    );
    let between = pki.text("between.pem");
    let root = pki.text("root.pem");
    let file = |name: &str| pki.text(name);
    let garbage = pki
        .folder
        .write("garbage", [0x30, 0x82, 1, 2, 3, 4])
        .display()
        .to_string();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &[
                "--cert",
                &file("good.pem"),
                "--key",
                &file("stranger.key"),
                "--chain",
                &between,
            ],
            2,
            &["belongs to none of the 2"],
        ),
        (
            &["--cert", &file("good.pem"), "--key", &file("good.key")],
            2,
            &[
                "the issuer of `CN=good` is `O=Acme, CN=Acme Issuing`",
                "--chain",
            ],
        ),
        (
            &[
                "--cert",
                &file("good.pem"),
                "--key",
                &file("good.key"),
                "--chain",
                &root,
            ],
            2,
            &["Acme Issuing", "not among"],
        ),
        (
            &[
                "--cert",
                &file("over.pem"),
                "--key",
                &file("over.key"),
                "--chain",
                &between,
            ],
            2,
            &["valid from 2020-01-01", "2021-01-01"],
        ),
        (
            &[
                "--cert",
                &file("elsewhere.pem"),
                "--key",
                &file("elsewhere.key"),
                "--chain",
                &between,
            ],
            2,
            &["elsewhere.example.com", "localhost", "--other-name"],
        ),
        (
            &[
                "--cert",
                &file("client.pem"),
                "--key",
                &file("client.key"),
                "--chain",
                &between,
            ],
            2,
            &["serverAuth"],
        ),
        (
            &["--cert", &file("stranger.pem"), "--chain", &between],
            2,
            &["the private key"],
        ),
        (
            &["--cert", &file("good.p12"), "--key-password-file", &wrong],
            5,
            &["does not open the PKCS#12 file"],
        ),
        (&["--cert", &file("good.p12")], 2, &["--key-password-file"]),
        (
            &["--cert", &file("old.p12"), "--key-password-file", &right],
            2,
            &["RC2", "openssl pkcs12 -legacy"],
        ),
        (
            &[
                "--cert",
                &file("good.pem"),
                "--key",
                &file("good.enc"),
                "--chain",
                &between,
                "--key-password-file",
                &wrong,
            ],
            5,
            &["does not open the private key"],
        ),
        (
            &[
                "--cert",
                &file("good.pem"),
                "--key",
                &file("good.enc"),
                "--chain",
                &between,
            ],
            2,
            &["--key-password-file"],
        ),
        (
            &["--cert", &file("good.key"), "--key", &file("good.key")],
            2,
            &["no certificate"],
        ),
        (
            &["--cert", &file("good.pem"), "--key", &file("good.pem")],
            2,
            &["no private key"],
        ),
        (
            &["--cert", &garbage, "--key-password-file", &right],
            2,
            &["neither PEM"],
        ),
        (
            &["--client-ca", &between, "--verify-depth", "1"],
            2,
            &["no root", "Acme Root"],
        ),
        (
            &["--client-ca", &root, "--verify-depth", "7"],
            2,
            &["0 to 6"],
        ),
        (&["--client-ca", &root], 2, &["--verify-depth"]),
        (&["--key", &root], 2, &["--cert"]),
        (&[], 2, &["--cert"]),
    ];
    for (args, exit, parts) in cases {
        install(&server, args).fails(*exit).says(parts);
    }
    for days in ["0", "3651"] {
        server
            .cli(&["tls", "self-signed", "--days", days])
            .fails(2)
            .says(&["1 to 3650"]);
    }
    assert_eq!(server.json(&["tls", "show"]), before);
    shows(&server, &pki, "good");
    // By name it is taken.
    install(
        &server,
        &[
            "--other-name",
            "--cert",
            &file("elsewhere.pem"),
            "--key",
            &file("elsewhere.key"),
            "--chain",
            &between,
        ],
    )
    .ok();
    assert_eq!(
        server.json(&["tls", "show"])["gui"]["certificate"]["subject"],
        "CN=elsewhere"
    );
}

#[test]
fn versions_and_ciphers_hold_at_once_and_what_is_not_there_is_refused() {
    let mut server = Server::start(Options::default());
    let connects = |server: &Server, args: &[&str]| {
        let output = run(Command::new("openssl")
            .args(["s_client", "-connect", authority(&server.gui_url)])
            .args(args)
            .stdin(std::process::Stdio::null()));
        output.status == 0 && output.text().contains("BEGIN CERTIFICATE")
    };
    assert!(connects(&server, &["-tls1_2"]));
    server
        .cli(&["setting", "set", "tls.minimum_version", "tlsv1.3"])
        .ok();
    assert!(!connects(&server, &["-tls1_2"]));
    server.restart();
    assert!(!connects(&server, &["-tls1_2"]) && connects(&server, &["-tls1_3"]));
    for old in ["tlsv1", "tlsv1.1"] {
        server
            .cli(&["setting", "set", "tls.minimum_version", old])
            .fails(2)
            .says(&["tlsv1.2, tlsv1.3"]);
    }
    server
        .cli(&["setting", "set", "tls.minimum_version", "tlsv1.2"])
        .ok();
    server
        .cli(&[
            "setting",
            "set",
            "tls.ciphers",
            "ECDHE-ECDSA-AES256-GCM-SHA384 TLS_AES_128_GCM_SHA256",
        ])
        .ok();
    assert!(connects(
        &server,
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    ));
    assert!(!connects(
        &server,
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]
    ));
    assert!(!connects(
        &server,
        &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"]
    ));
    assert!(connects(
        &server,
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]
    ));
    server
        .cli(&["setting", "set", "tls.ciphers", "AES256:CAMELLIA256-SHA"])
        .fails(2)
        .says(&["`AES256`", "ECDHE-RSA-AES256-GCM-SHA384"]);
    assert_eq!(
        server.json(&["setting", "get", "tls.ciphers"])["value"],
        "ECDHE-ECDSA-AES256-GCM-SHA384 TLS_AES_128_GCM_SHA256"
    );
}

#[test]
fn a_script_gives_the_password_at_each_start_sealed_too() {
    let mut server = Server::start(Options::default());
    let pki = Pki::new();
    pki.leaf("locked", P256);
    pki.openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        "locked.key",
        "-passout",
        "pass:over and out",
        "-out",
        "locked.enc",
    ]);
    let script = server.file("script", "#!/bin/sh\nprintf '%s\\n' \"$1\"\n");
    run(Command::new("chmod").arg("700").arg(&script)).ok();
    let config = server.data.join("live/strongroom.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let with = |line: &str| {
        std::fs::write(
            &config,
            before.replace(
                "[tls]\n",
                &format!("[tls]\nkey_password_script = \"{line}\"\n"),
            ),
        )
        .unwrap()
    };
    with(&format!("{} 'over and out'", script.display()));
    let locked = [
        "--cert",
        &pki.text("locked.pem"),
        "--key",
        &pki.text("locked.enc"),
        "--chain",
        &pki.text("between.pem"),
    ];
    server.restart();
    install(&server, &locked).ok();
    shows(&server, &pki, "locked");
    let lies = std::fs::read_dir(server.data.join("live/tls"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .find(|it| {
            it.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("installed-")
        })
        .unwrap();
    let lies = std::fs::read_to_string(lies).unwrap();
    assert!(lies.contains("BEGIN ENCRYPTED PRIVATE KEY") && !lies.contains("BEGIN PRIVATE KEY"));
    server.restart();
    shows(&server, &pki, "locked");
    server.cli(&["seal", "--yes"]).ok();
    shows(&server, &pki, "locked");
    server.stop();
    let doctor = |server: &Server| {
        server.cli(&["doctor", "--key-file", server.path("key").to_str().unwrap()])
    };
    assert!(doctor(&server).ok().text().contains("CN=locked ends "));
    // Without its password the server comes up with its own certificate, and says so; with it again,
    // it mends itself.
    for (line, why) in [
        ("/no/such/script", "No such file"),
        ("/bin/echo wrong", "does not open"),
        ("/bin/sleep 300", "did not end within 10 seconds"),
    ] {
        with(line);
        assert!(doctor(&server).fails(1).text().contains(why));
        server.serve();
        let tls = server.json(&["tls", "show"]);
        assert_eq!(tls["gui"]["installed"], json!(false));
        assert!(tls["fault"].as_str().unwrap().contains(why), "{tls}");
        until(PATIENCE, || {
            let health = server.health("/healthz").text();
            health.contains("certificates") && health.contains(why)
        });
        server.stop();
    }
    // Mended while it runs, sealed, and once it is open.
    let broken = server.file("late", "#!/bin/sh\nexit 1\n");
    run(Command::new("chmod").arg("700").arg(&broken)).ok();
    with(&broken.display().to_string());
    server.serve();
    assert_eq!(
        server.json(&["tls", "show"])["gui"]["installed"],
        json!(false)
    );
    std::fs::write(&broken, "#!/bin/sh\necho 'over and out'\n").unwrap();
    until(PATIENCE * 2, || {
        server.json(&["tls", "show"])["gui"]["installed"] == json!(true)
    });
    shows(&server, &pki, "locked");
    // A request for the key in use leaves no copy, and its certificate keeps the key behind the
    // password.
    let csr = server.cli(&["tls", "csr"]).ok();
    assert!(!server.data.join("live/tls/request.key").exists());
    pki.folder.write("again.csr", &csr.stdout);
    pki.sign(
        "again.csr",
        "again.pem",
        "DNS:localhost",
        "60",
        "serverAuth",
    );
    let chain = pki.join("again.chain", &["again.pem", "between.pem"]);
    install(&server, &["--cert", &chain]).ok();
    for entry in std::fs::read_dir(server.data.join("live/tls")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("installed-")
        {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(
                text.contains("BEGIN ENCRYPTED PRIVATE KEY") && !text.contains("BEGIN PRIVATE KEY")
            );
        }
    }
    assert!(!server.log().contains("over and out"));
}

#[test]
fn an_end_that_comes_near_shows_in_health_log_and_audit() {
    let server = Server::start(Options::stepped());
    server.cli(&["tls", "self-signed", "--days", "40"]).ok();
    let health = |part: &str| {
        until(PATIENCE * 2, || {
            server.health("/healthz").text().contains(part)
        })
    };
    for (offset, light) in [
        ("+11d", "amber"),
        ("+27d", "amber"),
        ("+38d", "red"),
        ("+41d", "red"),
    ] {
        server.clock(offset);
        let days = offset.trim_start_matches('+').trim_end_matches('d');
        until(PATIENCE * 2, || {
            let events = server.cli(&["audit", "list", "-F", "action = certificate.ends_soon"]);
            events.text().lines().count()
                >= match days {
                    "11" => 1,
                    "27" => 2,
                    "38" => 3,
                    _ => 4,
                }
        });
        health(&format!("\"state\":\"{light}\""));
    }
    server.logs("the certificate of CN=localhost ends");
    // Another one, and all is well again.
    server.cli(&["tls", "self-signed", "--days", "40"]).ok();
    health("\"name\":\"certificates\",\"state\":\"green\"");
}

/// The original's pages "Generating a New Certificate" and "Replacing Key Trustee Server
/// Certificates", line by line, in a folder of the test's; then what takes the place of the restart.
#[test]
fn the_originals_runbook_for_certificates_leads_here() {
    let server = Server::start(Options::default());
    let folder = Folder::new();
    let in_folder = |line: &str, stdin: &[u8]| {
        let mut command = Command::new("sh");
        run_with(command.current_dir(folder.path()).args(["-c", line]), stdin).ok()
    };
    in_folder(
        "mkdir .ssl && openssl genrsa -traditional -aes256 -passout pass:'two words' -out keytrustee_private_key.pem 2048",
        b"",
    );
    // It asks for the subject and, behind the key's password, for nothing else.
    let answers = b"DE\n.\n.\nAcme\n.\nlocalhost\n.\n.\n.\n";
    in_folder(
        "openssl req -new -key keytrustee_private_key.pem -out new.csr -passin pass:'two words'",
        answers,
    );
    in_folder(
        "openssl x509 -req -days 365 -in new.csr -signkey keytrustee_private_key.pem -out new_keytrustee_certificate.pem -passin pass:'two words'",
        b"",
    );
    in_folder(
        "cp -r .ssl .ssl.bak; chmod 600 new_keytrustee_certificate.pem keytrustee_private_key.pem",
        b"",
    );
    let path = |name: &str| folder.path().join(name).display().to_string();
    let conf = folder.write(
        "keytrustee.conf",
        json!({
            "SSL_CERTIFICATE": path("new_keytrustee_certificate.pem"),
            "SSL_PRIVATE_KEY": path("keytrustee_private_key.pem"),
            "SSL_PRIVATE_KEY_PASSWORD_SCRIPT": "/bin/echo -n 'two words'",
            "DB_CONNECT": "postgresql://localhost:11381/keytrustee",
        })
        .to_string(),
    );
    let conf = conf.display().to_string();
    let before = server.json(&["tls", "show"]);
    server
        .cli(&["config", "import", &conf, "--dry-run"])
        .ok()
        .says(&["an `echo`", "DB_CONNECT"]);
    assert_eq!(server.json(&["tls", "show"]), before);
    let output = server.cli(&["config", "import", &conf]).ok();
    assert!(!output.stderr.contains("two words"), "{}", output.stderr);
    let root = folder.path().join("new_keytrustee_certificate.pem");
    let connected = run(Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            authority(&server.gui_url),
            "-CAfile",
        ])
        .arg(&root)
        .stdin(std::process::Stdio::null()));
    assert!(
        connected.text().contains("Verify return code: 0 (ok)"),
        "{connected:?}"
    );
    for (content, exit, part) in [
        ("{", 2, "not JSON"),
        ("hello;", 2, "neither"),
        (
            "{\"SSL_CERTIFICATE\":\"/no/such\",\"SSL_PRIVATE_KEY\":\"/no/such\"}",
            2,
            "/no/such",
        ),
    ] {
        let file = folder.write("other.conf", content).display().to_string();
        server
            .cli(&["config", "import", &file])
            .fails(exit)
            .says(&[part]);
    }
}

#[test]
fn nginxs_file_of_the_original_is_taken_over() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    pki.leaf("ukmserver", RSA);
    let chain = pki.join("ukmserver.crt", &["ukmserver.pem", "between.pem"]);
    let site = pki.folder.write(
        "sshmgr",
        format!("server {{listen 443 ssl default_server;server_name _;# Server certificates\nssl_certificate {chain};# Server private keys\nssl_certificate_key {};# CA used for signing api client certificates\nssl_client_certificate {};ssl_verify_depth 5;ssl_protocols TLSv1.1 TLSv1.2;ssl_ciphers HIGH:!aNULL;\n}}\n", pki.text("ukmserver.key"), pki.text("root.pem")),
    );
    server
        .cli(&["config", "import", &site.display().to_string()])
        .ok()
        .says(&["tlsv1.1", "`HIGH`"]);
    shows(&server, &pki, "ukmserver");
    let tls = server.json(&["tls", "show"]);
    assert_eq!(tls["client_ca"]["verify_depth"], json!(5));
    assert_eq!(
        tls["client_ca"]["certificates"][0]["subject"],
        "O=Acme, CN=Acme Root"
    );
    assert_eq!(tls["minimum_version"], "tlsv1.2");
}

/// A certificate that chains to the authority and is entered at a user; neither alone is enough.
#[test]
fn api_users_come_with_certificates_of_the_operators_authority() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    let user = |name: &str, usage: &str| {
        pki.key(name, P256);
        pki.request(name);
        pki.sign(
            &format!("{name}.csr"),
            &format!("{name}.pem"),
            "DNS:api.example.com",
            "90",
            usage,
        );
        pki.join(
            &format!("{name}.chain"),
            &[&format!("{name}.pem"), "between.pem"],
        );
    };
    user("ci", "clientAuth");
    user("web", "serverAuth");
    let ask = |chain: &str, key: &str| {
        let url = format!("{}/v1/settings", server.client_url);
        server
            .curl(&url)
            .option("--cert", &pki.text(chain))
            .option("--key", &pki.text(key))
            .send()
    };
    server.user("ci", "a long enough one", &["auditor"]);
    ask("ci.chain", "ci.key").refused(401, "not_registered");
    let added = server.json(&["user", "certificate", "add", "ci", &pki.text("ci.chain")]);
    assert_eq!(added["subject"], "CN=ci");
    ask("ci.chain", "ci.key").refused(401, "certificate_refused");
    install(
        &server,
        &["--client-ca", &pki.text("root.pem"), "--verify-depth", "1"],
    )
    .ok();
    ask("ci.chain", "ci.key").ok(200);
    // With the rights of the user, and no more; the audit names him.
    let url = format!("{}/v1/settings/log.level", server.client_url);
    server
        .curl(&url)
        .option("--cert", &pki.text("ci.chain"))
        .option("--key", &pki.text("ci.key"))
        .method("PUT")
        .json(&json!({"value": "info"}))
        .send()
        .refused(403, "denied");
    let events = server
        .cli(&[
            "audit",
            "list",
            "-F",
            "outcome = refused and action = setting.set",
        ])
        .ok()
        .text();
    assert!(events.contains("user ci"), "{events}");
    // Without what lies between, unless the server knows it; deeper than allowed.
    ask("ci.pem", "ci.key").refused(401, "certificate_refused");
    let both = pki.join("both.pem", &["between.pem", "root.pem"]);
    install(&server, &["--client-ca", &both, "--verify-depth", "1"]).ok();
    ask("ci.pem", "ci.key").ok(200);
    install(&server, &["--client-ca", &both, "--verify-depth", "0"]).ok();
    let answer = ask("ci.pem", "ci.key").refused(401, "certificate_refused");
    assert!(
        answer.message().contains("more than 0 authorities"),
        "{}",
        answer.message()
    );
    install(&server, &["--client-ca", &both, "--verify-depth", "6"]).ok();
    // Another purpose, another authority's.
    server
        .cli(&["user", "certificate", "add", "ci", &pki.text("web.pem")])
        .ok();
    ask("web.chain", "web.key").refused(401, "certificate_refused");
    pki.openssl(&[
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=self", "-days", "10",
        "-keyout", "self.key", "-out", "self.pem",
    ]);
    server
        .cli(&["user", "certificate", "add", "ci", &pki.text("self.pem")])
        .ok();
    ask("self.pem", "self.key").refused(401, "certificate_refused");
    // Revoked: on the very next request.
    ask("ci.chain", "ci.key").ok(200);
    pki.folder.write("index.txt", "");
    pki.folder.write("ca.cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\ncrlnumber=crlnumber\n[crl]\nauthorityKeyIdentifier=keyid\n");
    pki.folder.write("crlnumber", "01\n");
    pki.openssl(&[
        "ca",
        "-config",
        "ca.cnf",
        "-cert",
        "between.pem",
        "-keyfile",
        "between.key",
        "-revoke",
        "ci.pem",
    ]);
    pki.openssl(&[
        "ca",
        "-config",
        "ca.cnf",
        "-cert",
        "between.pem",
        "-keyfile",
        "between.key",
        "-gencrl",
        "-crlexts",
        "crl",
        "-out",
        "revoked.pem",
    ]);
    let with_list = pki.join("with-list.pem", &["both.pem", "revoked.pem"]);
    install(&server, &["--client-ca", &with_list, "--verify-depth", "6"]).ok();
    let answer = ask("ci.chain", "ci.key").refused(401, "certificate_refused");
    assert!(
        answer.message().to_lowercase().contains("revoked"),
        "{}",
        answer.message()
    );
    install(&server, &["--client-ca", &both, "--verify-depth", "6"]).ok();
    ask("ci.chain", "ci.key").ok(200);
    server.cli(&["user", "disable", "ci"]).ok();
    ask("ci.chain", "ci.key").refused(401, "certificate_refused");
    server.cli(&["user", "enable", "ci"]).ok();
    // One key is a user's or a client's.
    let client = server.client("a", "acme");
    server
        .cli(&[
            "user",
            "certificate",
            "add",
            "ci",
            &client.file("client.crt").display().to_string(),
        ])
        .fails(5)
        .says(&["belongs to a client"]);
    server
        .cli(&["user", "certificate", "add", "ci", &pki.text("ci.pem")])
        .fails(5)
        .says(&["belongs to a user"]);
    let code = server.org("acme");
    let register = server
        .curl(&format!("{}/v1/clients", server.client_url))
        .option("--cert", &pki.text("ci.chain"))
        .option("--key", &pki.text("ci.key"));
    register
        .json(&json!({"org": "acme", "auth_code": code}))
        .send()
        .refused(409, "key_taken");
    // A role more makes whoever has the key come anew: the certificate is to be entered again.
    let fingerprint = added["fingerprint"].as_str().unwrap();
    assert_eq!(
        server.json(&["user", "certificate", "list", "ci"])["certificates"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    server
        .cli(&["user", "certificate", "rm", "ci", fingerprint])
        .ok();
    ask("ci.chain", "ci.key").refused(401, "not_registered");
    server
        .cli(&["user", "certificate", "rm", "ci", fingerprint])
        .fails(4);
    server
        .cli(&["user", "certificate", "add", "ci", &pki.text("ci.pem")])
        .ok();
    server.cli(&["user", "grant", "ci", "administrator"]).ok();
    ask("ci.chain", "ci.key").refused(401, "not_registered");
    install(&server, &["--no-client-ca"]).ok();
    assert_eq!(server.json(&["tls", "show"])["client_ca"], json!(null));
}

#[test]
fn chains_are_followed_whichever_way_leads_up() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    pki.leaf("leaf", P256);
    // The same authority, signed by another root, too; and that root signed by the first one.
    pki.key("second", RSA);
    pki.openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "second.key",
        "-subj",
        "/O=Acme/CN=Second Root",
        "-days",
        "3650",
        "-out",
        "second.pem",
    ]);
    pki.openssl(&[
        "x509",
        "-req",
        "-in",
        "between.csr",
        "-CA",
        "second.pem",
        "-CAkey",
        "second.key",
        "-days",
        "1000",
        "-extfile",
        "ca.ext",
        "-out",
        "cross.pem",
    ]);
    pki.openssl(&[
        "req",
        "-new",
        "-key",
        "root.key",
        "-subj",
        "/O=Acme/CN=Acme Root",
        "-out",
        "root.csr",
    ]);
    pki.openssl(&[
        "x509",
        "-req",
        "-in",
        "root.csr",
        "-CA",
        "second.pem",
        "-CAkey",
        "second.key",
        "-days",
        "1000",
        "-extfile",
        "ca.ext",
        "-out",
        "root-by-second.pem",
    ]);
    pki.leaf("unrelated", P256);
    // An authority whose certificate writes its name in another type of string.
    pki.folder.write(
        "utf8.cnf",
        "[req]\ndistinguished_name=dn\nstring_mask=utf8only\n[dn]\n",
    );
    pki.folder.write(
        "printable.cnf",
        "[req]\ndistinguished_name=dn\nstring_mask=nombstr\n[dn]\n",
    );
    for (parts, length) in [
        (&["leaf.pem", "between.pem", "cross.pem"][..], 2),
        (&["leaf.pem", "cross.pem", "between.pem", "root.pem"], 3),
        (
            &["leaf.pem", "between.pem", "root-by-second.pem", "root.pem"],
            3,
        ),
        (&["leaf.pem", "between.pem", "root-by-second.pem"], 3),
        (&["unrelated.pem", "between.pem", "leaf.pem"], 2),
    ] {
        let chain = pki.join("chain.pem", parts);
        install(&server, &["--cert", &chain, "--key", &pki.text("leaf.key")]).ok();
        shows(&server, &pki, "leaf");
        let sent = shown(&server.gui_url, &pki.path("root.pem"))
            .matches("-----BEGIN CERTIFICATE-----")
            .count();
        assert_eq!(sent, length, "{parts:?}");
    }
    // What stands above must be an authority, and valid.
    pki.openssl(&[
        "x509",
        "-req",
        "-in",
        "between.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-days",
        "10",
        "-extfile",
        "leaf.ext",
        "-out",
        "no-authority.pem",
    ]);
    let chain = pki.join("chain.pem", &["leaf.pem", "no-authority.pem"]);
    install(&server, &["--cert", &chain, "--key", &pki.text("leaf.key")])
        .fails(2)
        .says(&["may not issue"]);
}

#[test]
fn the_same_certificate_twice_leaves_the_way_back_as_it_was() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    let own = server.json(&["tls", "show"])["gui"]["certificate"]["sha256"].clone();
    pki.leaf("one", P256);
    let chain = pki.join("chain.pem", &["one.pem", "between.pem", "one.key"]);
    for _ in 0..3 {
        install(&server, &["--cert", &chain]).ok();
    }
    server.cli(&["tls", "rollback"]).ok();
    assert_eq!(
        server.json(&["tls", "show"])["gui"]["certificate"]["sha256"],
        own
    );
}

#[test]
fn a_listeners_file_that_does_not_read_is_left_alone_with_all_that_it_names() {
    let mut server = Server::start(Options::default());
    let pki = Pki::new();
    pki.leaf("one", P256);
    let chain = pki.join("chain.pem", &["one.pem", "between.pem", "one.key"]);
    install(&server, &["--cert", &chain]).ok();
    server
        .cli(&["setting", "set", "tls.minimum_version", "tlsv1.3"])
        .ok();
    server.stop();
    let path = server.data.join("live/tls/listeners.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let newer = good.replace("listeners/1", "listeners/2");
    std::fs::write(&path, &newer).unwrap();
    server.serve();
    let tls = server.json(&["tls", "show"]);
    assert!(
        tls["fault"].as_str().unwrap().contains("listeners/2"),
        "{tls}"
    );
    assert_eq!(
        tls["minimum_version"], "tlsv1.3",
        "what the store says is in force"
    );
    until(PATIENCE, || {
        let health = server.health("/healthz").text();
        health.contains("listeners/2") && health.contains("\"red\"")
    });
    install(&server, &["--cert", &chain])
        .fails(5)
        .says(&["put back the file"]);
    server.cli(&["tls", "self-signed", "--days", "9"]).fails(5);
    server
        .cli(&["setting", "set", "tls.minimum_version", "tlsv1.2"])
        .ok();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    server.stop();
    std::fs::write(&path, &good).unwrap();
    server.serve();
    shows(&server, &pki, "one");
    assert_eq!(server.json(&["tls", "show"])["minimum_version"], "tlsv1.2");
}

#[test]
fn an_authority_that_ends_or_is_lost_takes_nothing_else_with_it() {
    let mut server = Server::start(Options::stepped());
    let pki = Pki::new();
    pki.openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "root.key",
        "-subj",
        "/CN=Short",
        "-days",
        "5",
        "-out",
        "short.pem",
    ]);
    server.cli(&["tls", "self-signed", "--days", "400"]).ok();
    install(
        &server,
        &["--client-ca", &pki.text("short.pem"), "--verify-depth", "1"],
    )
    .ok();
    server.clock("+10d");
    install(
        &server,
        &["--client-ca", &pki.text("short.pem"), "--verify-depth", "1"],
    )
    .fails(2)
    .says(&["`CN=Short` ended"]);
    server
        .cli(&["setting", "set", "tls.minimum_version", "tlsv1.3"])
        .ok();
    server.restart();
    let tls = server.json(&["tls", "show"]);
    assert_eq!(
        (&tls["gui"]["installed"], &tls["fault"]),
        (&json!(true), &json!(null))
    );
    server.stop();
    for entry in std::fs::read_dir(server.data.join("live/tls")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("client-ca-")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    server.serve();
    let tls = server.json(&["tls", "show"]);
    assert_eq!(tls["gui"]["installed"], json!(true));
    assert!(
        tls["fault"].as_str().unwrap().contains("client-ca-"),
        "{tls}"
    );
    server.cli(&["tls", "self-signed", "--days", "300"]).ok();
    server
        .cli(&["setting", "set", "tls.minimum_version", "tlsv1.2"])
        .ok();
    install(&server, &["--no-client-ca"]).ok();
    assert_eq!(server.json(&["tls", "show"])["fault"], json!(null));
}

/// A DELETE whose answer was lost is answered again, and does not take away what came after it.
#[test]
fn a_change_that_is_sent_again_changes_nothing_more() {
    let server = Server::start(Options::default());
    let pki = Pki::new();
    let authority = std::fs::read_to_string(pki.path("root.pem")).unwrap();
    let mut socket = server.socket();
    let mut send = |method: &str, key: &str, body: Option<serde_json::Value>| {
        let body = body.map(|body| body.to_string());
        let headers = [
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        socket
            .request(
                method,
                "/v1/tls/client-ca",
                &headers,
                body.as_deref().map(str::as_bytes),
            )
            .ok(200)
    };
    let set = json!({"certificates": authority, "verify_depth": 1});
    send("PUT", "a", Some(set.clone()));
    send("DELETE", "b", None);
    send("PUT", "c", Some(set));
    assert_eq!(
        send("DELETE", "b", None).json()["client_ca"],
        json!(null),
        "the first answer"
    );
    assert_eq!(
        server.json(&["tls", "show"])["client_ca"]["verify_depth"],
        json!(1)
    );
    let kept = std::fs::read_dir(server.data.join("live/tls"))
        .unwrap()
        .filter(|it| {
            it.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("client-ca-")
        })
        .count();
    assert_eq!(kept, 1);
    // What is shown is not for everyone who may set a setting; and not beside the listeners' keys.
    server.user("adm", "a long enough one", &["administrator"]);
    let token = server.token("adm", &["all"]);
    for (name, value) in [
        ("tls.client_listener", "installed"),
        ("tls.minimum_version", "tlsv1.3"),
        ("tls.ciphers", ""),
    ] {
        let url = format!("{}/v1/settings/{name}", server.gui_url);
        server
            .curl(&url)
            .method("PUT")
            .token(&token)
            .json(&json!({"value": value}))
            .send()
            .refused(403, "denied");
    }
    server
        .cli(&[
            "setting",
            "set",
            "tls.ciphers",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ])
        .fails(2)
        .says(&["ECDSA", "nobody could connect"]);
}
