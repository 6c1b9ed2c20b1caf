//! Who a client and a server are to each other: whose deposits a client reaches, which server it
//! trusts, and certificates that are shown without their keys.

use std::fs;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use strongroom::crypto::x509;

use crate::harness::{Client, Options, Server, wire};

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
    assert_eq!(
        server.json(&["client", "show", &victim.fingerprint()])["state"],
        "active"
    );
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
