//! Who becomes a client, and who stays one: codes, approvals, guessing, the pinned server, keys that
//! are shown without being held.

use std::fs;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use strongroom::crypto::x509;

use crate::harness::{Client, Options, Server, tool, wire};

fn state(client: &Client) -> Value {
    client.cli(&["--json", "client", "show"]).ok().json()["client"]["state"].clone()
}

#[test]
fn with_the_organizations_code_a_client_is_active_at_once() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    assert_eq!(state(&client), "active");
    for name in [
        "client.toml",
        "client.crt",
        "client.key",
        "ca.pem",
        "identity.txt",
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(client.file(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let again = client.register(Some(&server.org("acme"))).ok();
    assert!(again.stderr.contains("already"), "{again:?}");
    assert_eq!(
        server.json(&["client", "list"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn without_the_code_a_client_waits_for_its_approval() {
    let server = Server::start(Options::default());
    server.org("acme");
    let client = server.stranger("a", "acme");
    let registered = client.register(None).ok();
    assert_eq!(registered.json()["state"], "pending");
    let print = client.fingerprint();
    registered.says(&["approve", &print]);
    client
        .cli_with(&["deposit", "put", "x", "-"], b"x")
        .fails(5)
        .says(&["approval"]);
    client
        .curl("/v1/deposits")
        .send()
        .refused(403, "client_pending");
    server.cli(&["client", "approve", &print]).ok();
    client.cli_with(&["deposit", "put", "x", "-"], b"x").ok();
    server
        .cli(&["client", "approve", &print])
        .fails(5)
        .says(&["active"]);
    server.cli(&["client", "deny", &print]).fails(5);
}

#[test]
fn a_denied_client_stays_out_until_its_entry_is_removed() {
    let server = Server::start(Options::default());
    let code = server.org("acme");
    let client = server.stranger("a", "acme");
    client.register(None).ok();
    let print = client.fingerprint();
    server
        .cli(&["client", "deny", &print, "--reason", "who is this?"])
        .ok();
    assert_eq!(
        server.json(&["client", "show", &print])["reason"],
        "who is this?"
    );
    client
        .curl("/v1/deposits")
        .send()
        .refused(403, "client_denied");
    // Not even the right code helps it: someone said no.
    let home = fs::remove_file(client.file("client.toml"));
    assert!(home.is_ok());
    let denied = client.register(Some(&code));
    assert_eq!(denied.json()["state"], "denied", "{denied:?}");
    server.cli(&["client", "rm", &print, "--yes"]).ok();
    client
        .curl("/v1/deposits")
        .send()
        .refused(401, "not_registered");
    client.register(Some(&code)).ok();
    assert_eq!(state(&client), "active");
}

#[test]
fn a_registration_that_nobody_approves_ends() {
    let server = Server::start(Options::stepped());
    server.org("acme");
    server
        .cli(&["setting", "set", "client.pending_hours", "2"])
        .ok();
    let client = server.stranger("a", "acme");
    client.register(None).ok();
    let print = client.fingerprint();
    server.clock("+3h");
    client
        .curl("/v1/deposits")
        .send()
        .refused(401, "not_registered");
    server
        .cli(&["client", "approve", &print])
        .fails(5)
        .says(&["register again"]);
    let again = client.register(None).ok().json();
    assert_eq!(again["state"], "pending");
    server.cli(&["client", "approve", &print]).ok();
    assert_eq!(state(&client), "active");
}

#[test]
fn where_the_code_is_blank_everyone_is_active() {
    let server = Server::start(Options::default());
    let old = server.org("acme");
    let empty = server.file("empty", "");
    server
        .cli(&[
            "org",
            "set-auth",
            "acme",
            "--secret-file",
            empty.to_str().unwrap(),
        ])
        .ok();
    assert_eq!(
        server.json(&["org", "show", "acme"])["registration"],
        "open"
    );
    for (name, code) in [
        ("a", None),
        ("b", Some(old.as_str())),
        ("c", Some("whatever")),
    ] {
        let client = server.stranger(name, "acme");
        assert_eq!(
            client.register(code).ok().json()["state"],
            "active",
            "{name}"
        );
    }
}

#[test]
fn a_changed_code_replaces_the_old_one_and_clients_stay() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let old = server.org("acme");
    server
        .cli_with(
            &["org", "set-auth", "acme", "--secret-file", "-"],
            b"a new code\n",
        )
        .ok();
    let newcomer = server.stranger("b", "acme");
    newcomer.register(Some(&old)).fails(5).says(&["code"]);
    assert_eq!(
        newcomer.register(Some("a new code")).ok().json()["state"],
        "active"
    );
    assert_eq!(state(&client), "active");
}

/// Registers by curl, with the key of a client that has not registered.
fn guess(client: &Client, from: &str, org: &str, code: &str) -> crate::harness::Answer {
    let body = json!({"org": org, "auth_code": code});
    client
        .curl("/v1/clients")
        .option("--interface", from)
        .json(&body)
        .send()
}

#[test]
fn guessing_a_code_is_refused_counted_and_slowed_for_that_address_and_organization() {
    let server = Server::start(Options::stepped());
    server.freeze();
    let code = server.org("acme");
    server.org("other");
    let made = server.client("made", "other");
    let guesser = server.stranger("a", "acme");
    // It has keys as soon as it tried once.
    guesser
        .register(Some("wrong 0"))
        .fails(5)
        .says(&["registration code"]);
    guess(&guesser, "127.0.0.1", "acme", "wrong 1").refused(403, "wrong_code");
    guess(&guesser, "127.0.0.1", "acme", "wrong 2").refused(403, "wrong_code");
    let slowed = guess(&guesser, "127.0.0.1", "acme", &code).refused(429, "too_many_attempts");
    let seconds: u32 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{slowed:?}");
    // Neither another address nor another organization waits for it.
    guess(&guesser, "127.0.0.2", "acme", "wrong 3").refused(403, "wrong_code");
    guess(&guesser, "127.0.0.1", "other", "wrong 4").refused(403, "wrong_code");
    assert_eq!(state(&made), "active");
    // It waits, and nobody is locked out.
    server.clock("+31s");
    guess(&guesser, "127.0.0.1", "acme", &code).ok(201);

    let refusals = server.json(&[
        "audit",
        "list",
        "-F",
        "action = client.register and outcome = refused",
    ]);
    let refusals = refusals["items"].as_array().unwrap().clone();
    // One a minute for each address and reason.
    assert!(refusals.len() >= 2, "{refusals:?}");
    assert!(
        refusals.iter().all(|event| event["detail"] != ""),
        "{refusals:?}"
    );
    guess(&guesser, "127.0.0.1", "nowhere", "x").refused(404, "not_found");
}

#[test]
fn a_disabled_client_is_refused_from_its_next_request_on_the_same_connection() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"x"))
        .ok(201);
    let print = client.fingerprint();
    server.cli(&["client", "disable", &print]).ok();
    wire.get("/v1/deposits/key").refused(403, "client_disabled");
    wire.request("PUT", "/v1/deposits/key", &[], Some(b"y"))
        .refused(403, "client_disabled");
    client
        .cli(&["deposit", "get", "key"])
        .fails(5)
        .says(&["disabled"]);
    server.cli(&["client", "enable", &print]).ok();
    assert_eq!(wire.get("/v1/deposits/key").ok(200).body, b"x");
    server
        .cli(&["client", "rm", &print, "--yes"])
        .fails(5)
        .says(&["key"]);
}

#[test]
fn clients_reach_neither_each_others_deposits_nor_other_organizations() {
    let server = Server::start(Options::default());
    let owner = server.client("owner", "acme");
    let colleague = server.client("colleague", "acme");
    let stranger = server.client("stranger", "other");
    let stored = owner
        .curl("/v1/deposits/key")
        .put(b"secret")
        .send()
        .ok(201)
        .json();
    let id = stored["id"].as_str().unwrap();
    let refused = |client: &Client, path: &str, status: u16| {
        let mut wire = client.wire();
        for (method, path, body) in [
            ("GET", path.to_owned(), None),
            ("HEAD", path.to_owned(), None),
            ("GET", format!("{path}?version=1"), None),
            ("GET", format!("{path}/metadata"), None),
            ("GET", format!("{path}/versions"), None),
            (
                "PATCH",
                format!("{path}/metadata"),
                Some(&b"{\"description\":\"x\"}"[..]),
            ),
            ("DELETE", path.to_owned(), None),
            ("POST", format!("{path}/undelete"), None),
            ("POST", format!("{path}/purge"), None),
        ] {
            let answer = wire.request(method, &path, &[("content-type", "application/json")], body);
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            assert!(!answer.body.windows(6).any(|six| six == b"secret"));
        }
    };
    refused(&colleague, "/v1/deposits/key", 403);
    refused(&colleague, "/v1/orgs/acme/deposits/key", 403);
    refused(&colleague, &format!("/v1/deposits/id/{id}"), 403);
    colleague
        .curl("/v1/deposits/key")
        .put(b"mine")
        .send()
        .refused(409, "name_taken");
    refused(&stranger, "/v1/deposits/key", 404);
    refused(&stranger, "/v1/orgs/acme/deposits/key", 403);
    refused(&stranger, &format!("/v1/deposits/id/{id}"), 404);
    stranger
        .curl("/v1/orgs/acme/deposits/new")
        .put(b"x")
        .send()
        .refused(403, "denied");
    stranger
        .curl("/v1/orgs/acme/deposits")
        .send()
        .refused(403, "denied");
    stranger
        .curl("/v1/deposits?org=acme")
        .send()
        .refused(403, "denied");
    for client in [&colleague, &stranger] {
        assert_eq!(
            client.curl("/v1/deposits").send().ok(200).json()["items"],
            json!([])
        );
    }
    // The same name in another organization is another deposit.
    stranger
        .curl("/v1/deposits/key")
        .put(b"other")
        .send()
        .ok(201);
    assert_eq!(
        owner.curl("/v1/deposits/key").send().ok(200).body,
        b"secret"
    );
    for client in [&owner, &stranger] {
        for path in [
            "/v1/clients",
            "/v1/orgs",
            "/v1/audit",
            "/v1/users",
            "/v1/settings",
        ] {
            client.curl(path).send().refused(403, "denied");
        }
    }
}

#[test]
fn another_server_than_the_pinned_one_gets_nothing() {
    let server = Server::start(Options::default());
    let impostor = Server::start(Options::default());
    let code = server.org("acme");
    impostor.org("acme");
    // At registration.
    let mut misled = impostor.stranger("a", "acme");
    misled.server_fingerprint.clone_from(&server.fingerprint);
    misled.register(Some(&code)).fails(5).says(&["fingerprint"]);
    assert_eq!(impostor.json(&["client", "list"])["items"], json!([]));
    // Afterwards.
    let mut client = server.client("b", "acme");
    client.server.clone_from(&impostor.client_url);
    client
        .cli_with(&["deposit", "put", "key", "-"], b"secret")
        .fails(5)
        .says(&["pinned"]);
    let curl = client.curl("/v1/deposits/key").put(b"secret").send();
    assert_eq!((curl.exit, curl.status), (60, 0), "{curl:?}");
    assert!(!impostor.log().contains("deposits/key"));
    // Nobody is there to compare it.
    let hasty = server.stranger("c", "acme");
    hasty
        .register_with(&["--yes"], b"")
        .fails(2)
        .says(&["--server-fingerprint"]);
}

#[test]
fn an_interrupted_registration_goes_on_where_it_stopped() {
    let mut server = Server::start(Options::default());
    let code = server.org("acme");
    let client = server.stranger("a", "acme");
    server.stop();
    client.register(Some(&code)).fails(3);
    let print = client.fingerprint();
    server.serve();
    // The port is another one now; a home that never reached its server is not bound to it.
    let client = client.at(&server);
    client.register(Some(&code)).ok();
    assert_eq!(client.fingerprint(), print, "the keys that were made stay");

    // The server's answer was lost.
    let toml = fs::read_to_string(client.file("client.toml")).unwrap();
    assert!(toml.contains("registered = true"), "{toml}");
    fs::write(
        client.file("client.toml"),
        toml.replace("registered = true", "registered = false"),
    )
    .unwrap();
    client
        .cli(&["deposit", "list"])
        .fails(2)
        .says(&["register"]);
    client.register(Some(&code)).ok();
    client.cli_with(&["deposit", "put", "key", "-"], b"x").ok();
    // So was all that the client had written down, but its keys.
    fs::remove_file(client.file("client.toml")).unwrap();
    fs::remove_file(client.file("ca.pem")).unwrap();
    client.register(Some(&code)).ok();
    assert_eq!(client.cli(&["deposit", "get", "key"]).ok().stdout, b"x");
    assert_eq!(
        server.json(&["client", "list"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_client_comes_back_from_its_backup() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "key", "-"], b"secret")
        .ok();
    let identity = server.path("safe.txt");
    tool("age-keygen", ["-o", identity.to_str().unwrap()]);
    let recipient =
        String::from_utf8(tool("age-keygen", ["-y", identity.to_str().unwrap()])).unwrap();
    let file = server.path("client.age");
    let (file, identity) = (file.to_str().unwrap(), identity.to_str().unwrap());
    client
        .cli(&[
            "client",
            "backup",
            "--output",
            file,
            "--recipient",
            recipient.trim(),
        ])
        .ok();
    client
        .cli(&[
            "client",
            "backup",
            "--output",
            file,
            "--recipient",
            recipient.trim(),
        ])
        .fails(5);
    // The real age opens it, too.
    tool("age", ["-d", "-i", identity, "-o", "/dev/null", file]);
    client
        .cli(&["client", "restore", file, "--identity", identity])
        .fails(5);
    let before = fs::read(client.file("client.key")).unwrap();
    fs::remove_dir_all(&client.home).unwrap();
    client
        .cli(&["client", "restore", file, "--identity", identity])
        .ok();
    assert_eq!(fs::read(client.file("client.key")).unwrap(), before);
    assert_eq!(
        client.cli(&["deposit", "get", "key"]).ok().stdout,
        b"secret"
    );
}

#[test]
fn the_recovery_recipient_opens_what_clients_encrypt_from_then_on() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let identity = server.path("recovery.txt");
    tool("age-keygen", ["-o", identity.to_str().unwrap()]);
    let recipient =
        String::from_utf8(tool("age-keygen", ["-y", identity.to_str().unwrap()])).unwrap();
    server
        .cli(&["org", "recovery-recipient", "acme", "age1nonsense"])
        .fails(2);
    server
        .cli(&["org", "recovery-recipient", "acme", recipient.trim()])
        .ok();
    let put = client
        .cli_with(&["deposit", "put", "key", "-"], b"secret")
        .ok();
    assert!(put.stderr.contains(recipient.trim()), "{put:?}");
    let sealed = client.curl("/v1/deposits/key").send().ok(200).body;
    let sealed = server.file("sealed", sealed);
    let opened = tool(
        "age",
        [
            "-d",
            "-i",
            identity.to_str().unwrap(),
            sealed.to_str().unwrap(),
        ],
    );
    assert_eq!(opened, b"secret");
    assert_eq!(
        client.cli(&["deposit", "get", "key"]).ok().stdout,
        b"secret"
    );
}

/// Shows one certificate and signs with whatever key it has.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A connection that shows `certificate`'s certificate and signs with `key`'s key.
fn shows(
    certificate: &Client,
    key: &Client,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let ca = x509::parse_certificate_pem(&fs::read(certificate.file("ca.pem")).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca[0].clone())).unwrap();
    let chain =
        x509::parse_certificate_pem(&fs::read(certificate.file("client.crt")).unwrap()).unwrap();
    let pem = PrivateKeyDer::from_pem_file(key.file("client.key")).unwrap();
    let key: Arc<dyn SigningKey> = aws_lc_rs::sign::any_supported_type(&pem).unwrap();
    let shown = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key);
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = builder
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))));
    Arc::new(config)
}

#[test]
fn anothers_certificate_with_ones_own_key_ends_the_handshake() {
    let server = Server::start(Options::default());
    let victim = server.client("victim", "acme");
    let thief = server.client("thief", "acme");
    victim
        .curl("/v1/deposits/key")
        .put(b"secret")
        .send()
        .ok(201);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connect = |config| wire::Connection::with_config(&server.client_url, config);
        let honest = connect(shows(&victim, &victim, version)).get("/v1/deposits/key");
        assert_eq!(honest.ok(200).body, b"secret", "{version:?}");
        let stolen = connect(shows(&victim, &thief, version)).try_request(
            "GET",
            "/v1/deposits/key",
            &[],
            None,
        );
        assert!(stolen.is_err(), "{version:?}: {stolen:?}");
    }
    assert_eq!(state(&victim), "active");
}

#[test]
fn tls_below_1_2_is_refused_and_both_newer_ones_serve_curl() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    for version in ["1.2", "1.3"] {
        let answer = client
            .curl("/v1/deposits")
            .option("--tls-max", version)
            .flag(&format!("--tlsv{version}"))
            .send();
        assert_eq!(answer.ok(200).json()["items"], json!([]), "{version}");
    }
    let old = client
        .curl("/v1/deposits")
        .option("--tls-max", "1.1")
        .option("--ciphers", "DEFAULT@SECLEVEL=0")
        .send();
    assert_eq!(old.status, 0, "{old:?}");
    // Without a certificate one reads what is public, and nothing else.
    let url = |path: &str| format!("{}{path}", server.client_url);
    server.curl(&url("/v1/server")).send().ok(200);
    server
        .curl(&url("/v1/deposits"))
        .send()
        .refused(401, "unauthenticated");
    server
        .curl(&url("/v1/clients"))
        .json(&json!({"org": "acme"}))
        .send()
        .refused(401, "unauthenticated");
}
