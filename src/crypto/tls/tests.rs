use std::os::unix::net::UnixStream;
use std::thread;

use rustls::{
    ClientConnection, HandshakeKind, ProtocolVersion, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::ServerName;

use super::*;
use crate::clock::{self, Timestamp};
use crate::crypto::x509::testing::{KeyKind, TestCertificate};
use crate::crypto::x509::{InstanceIdentity, LEAF_DAYS, Leaf, spki_fingerprint};
use crate::model::id::InstanceId;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

struct Server {
    identity: InstanceIdentity,
    leaf: Leaf,
}

impl Server {
    fn new(fqdn: &str) -> Self {
        Self::at(fqdn, clock::now())
    }

    fn at(fqdn: &str, now: Timestamp) -> Self {
        let identity = InstanceIdentity::create(InstanceId::new(), clock::now()).unwrap();
        let leaf = identity.issue_leaf(fqdn, &[], LEAF_DAYS, now).unwrap();
        Self { identity, leaf }
    }

    fn config(&self) -> Arc<ServerConfig> {
        server_config(
            &self.leaf.cert_pem,
            &self.leaf.key_pem,
            true,
            &[b"h2", b"http/1.1"],
            &Parameters::default(),
        )
        .unwrap()
    }

    fn pin(&self) -> Trust {
        Trust::Pinned(self.identity.fingerprint())
    }
}

/// What both ends know after a handshake, or the error that ended it.
struct Hands {
    client: ClientConnection,
    server: ServerConnection,
}

fn shake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> std::result::Result<Hands, String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    // Two rounds more than a handshake needs, so that tickets and alerts arrive too.
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server
                .process_new_packets()
                .map_err(|why| format!("server: {why:?}"))?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client
                .process_new_packets()
                .map_err(|why| format!("client: {why:?}"))?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Hands { client, server })
}

/// A client with any certificate and any key, matching or not, in one version of TLS.
fn client(
    server: &Server,
    version: &'static SupportedProtocolVersion,
    certificate: &TestCertificate,
    key: &TestCertificate,
) -> Arc<ClientConfig> {
    let identity = CertifiedKey::new(
        vec![CertificateDer::from(certificate.der.clone())],
        x509::load_key(&key.key_pem).unwrap(),
    );
    Arc::new(
        ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned::PinnedIdentity::new(
                server.identity.fingerprint(),
            )))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
    )
}

#[test]
fn any_certificate_is_taken_from_who_holds_its_key_and_from_nobody_else() {
    let server = Server::new("strongroom.example");
    let config = server.config();
    for kind in KeyKind::ALL {
        let (mine, other) = (TestCertificate::key(kind), TestCertificate::key(kind));
        for x509_version in [1, 3] {
            // Expired since 2001.
            let mine = mine.expired(x509_version);
            for version in VERSIONS {
                let case = format!("{kind:?}, X.509 v{x509_version}, {version:?}");
                let hands = shake(
                    &config,
                    &client(&server, version, &mine, &mine),
                    "strongroom.example",
                )
                .unwrap_or_else(|why| panic!("{case}: {why}"));
                let seen = hands.server.peer_certificates().unwrap();
                assert_eq!(
                    spki_fingerprint(&seen[0]).unwrap(),
                    mine.fingerprint(),
                    "{case}"
                );

                let thief = client(&server, version, &mine, &other);
                let refusal = shake(&config, &thief, "strongroom.example").err();
                let refusal = refusal.unwrap_or_else(|| panic!("{case}: a thief got in"));
                assert!(refusal.contains("BadSignature"), "{case}: {refusal}");
            }
        }
    }
}

#[test]
fn a_key_of_another_kind_than_the_certificates_is_refused() {
    let server = Server::new("strongroom.example");
    let config = server.config();
    let all = KeyKind::ALL.map(TestCertificate::key);
    for (at, mine) in all.iter().enumerate() {
        for (key_at, key) in all.iter().enumerate().filter(|(key_at, _)| *key_at != at) {
            for version in VERSIONS {
                let thief = client(&server, version, &mine.expired(3), key);
                assert!(
                    shake(&config, &thief, "strongroom.example").is_err(),
                    "certificate {at}, key {key_at}, {version:?}"
                );
            }
        }
    }
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let server = Server::new("strongroom.example");
    let config = server.config();
    let mut broken = TestCertificate::key(KeyKind::P256).expired(3);
    broken.der.truncate(broken.der.len() - 1);
    for version in VERSIONS {
        let refusal = shake(
            &config,
            &client(&server, version, &broken, &broken),
            "strongroom.example",
        );
        assert!(refusal.err().unwrap().contains("BadEncoding"));
    }
}

#[test]
fn a_client_without_a_certificate_is_let_in_as_nobody() {
    let server = Server::new("strongroom.example");
    let client = client_config(server.pin(), None).unwrap();
    let hands = shake(&server.config(), &client, "strongroom.example").unwrap();
    assert!(hands.server.peer_certificates().is_none());
}

#[test]
fn without_client_certs_none_is_asked_for() {
    let server = Server::new("strongroom.example");
    let leaf = &server.leaf;
    let config = server_config(
        &leaf.cert_pem,
        &leaf.key_pem,
        false,
        &[],
        &Parameters::default(),
    )
    .unwrap();
    let mine = TestCertificate::key(KeyKind::P256).expired(3);
    let client = client(&server, &TLS13, &mine, &mine);
    let hands = shake(&config, &client, "strongroom.example").unwrap();
    assert!(hands.server.peer_certificates().is_none());
}

#[test]
fn the_hybrid_key_exchange_comes_first_and_1_2_still_works() {
    let server = Server::new("strongroom.example");
    let client = client_config(server.pin(), None).unwrap();
    let hands = shake(&server.config(), &client, "strongroom.example").unwrap();
    let group = hands.server.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(
        hands.server.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(hands.server.handshake_kind(), Some(HandshakeKind::Full));
}

#[test]
fn a_resumed_session_keeps_its_client_and_a_sealed_server_resumes_none() {
    let server = Server::new("strongroom.example");
    let mine = TestCertificate::key(KeyKind::P256).expired(1);
    let open = server.config();
    let sealed = without_sessions(&open);
    for version in VERSIONS {
        for (config, second) in [
            (&open, HandshakeKind::Resumed),
            (&sealed, HandshakeKind::Full),
        ] {
            let client = client(&server, version, &mine, &mine);
            let first = shake(config, &client, "strongroom.example").unwrap();
            assert_eq!(first.server.handshake_kind(), Some(HandshakeKind::Full));
            let again = shake(config, &client, "strongroom.example").unwrap();
            assert_eq!(again.server.handshake_kind(), Some(second), "{version:?}");
            let seen = again.server.peer_certificates().unwrap();
            assert_eq!(spki_fingerprint(&seen[0]).unwrap(), mine.fingerprint());
        }
    }
}

#[test]
fn alpn_is_agreed_upon() {
    let server = Server::new("strongroom.example");
    let mut client = (*client_config(server.pin(), None).unwrap()).clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let hands = shake(&server.config(), &Arc::new(client), "strongroom.example").unwrap();
    assert_eq!(hands.client.alpn_protocol(), Some(b"http/1.1".as_slice()));
}

#[test]
fn the_pinned_server_is_known_by_every_name_of_its_leaf() {
    let server = Server::new("strongroom.example");
    for name in ["strongroom.example", "localhost", "127.0.0.1", "::1"] {
        for trust in [server.pin(), Trust::CaPem(server.identity.ca_pem())] {
            let client = client_config(trust, None).unwrap();
            shake(&server.config(), &client, name).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
    for trust in [server.pin(), Trust::CaPem(server.identity.ca_pem())] {
        let client = client_config(trust, None).unwrap();
        let refusal = shake(&server.config(), &client, "other.example")
            .err()
            .unwrap();
        assert!(refusal.contains("NotValidForName"), "{refusal}");
    }
}

#[test]
fn another_server_is_refused() {
    let (server, other) = (
        Server::new("strongroom.example"),
        Server::new("strongroom.example"),
    );
    for trust in [server.pin(), Trust::CaPem(server.identity.ca_pem())] {
        let client = client_config(trust, None).unwrap();
        let refusal = shake(&other.config(), &client, "strongroom.example");
        assert!(refusal.err().unwrap().contains("UnknownIssuer"));
    }
}

/// The pinned certificate is public: whoever sends it after a leaf of its own has proven nothing.
#[test]
fn a_leaf_that_the_pinned_key_did_not_sign_is_refused() {
    let (server, thief) = (
        Server::new("strongroom.example"),
        Server::new("strongroom.example"),
    );
    let own_leaf = thief
        .leaf
        .cert_pem
        .split_inclusive("-----END CERTIFICATE-----\n");
    let chain = own_leaf.take(1).collect::<String>() + &server.identity.ca_pem();
    let config = server_config(
        &chain,
        &thief.leaf.key_pem,
        false,
        &[],
        &Parameters::default(),
    )
    .unwrap();
    let client = client_config(server.pin(), None).unwrap();
    let refusal = shake(&config, &client, "strongroom.example").err().unwrap();
    assert!(refusal.contains("client: "), "{refusal}");

    // Nor does the pinned key itself make a server, even in first place.
    let config = server_config(
        &server.leaf.cert_pem,
        &thief.leaf.key_pem,
        false,
        &[],
        &Parameters::default(),
    );
    assert!(config.is_err(), "a key that is not the leaf's");
}

#[test]
fn an_expired_leaf_is_refused() {
    let long_ago = clock::now().plus(-400 * Timestamp::DAY);
    let server = Server::at("strongroom.example", long_ago);
    let client = client_config(server.pin(), None).unwrap();
    let refusal = shake(&server.config(), &client, "strongroom.example");
    assert!(refusal.err().unwrap().contains("Expired"));
}

#[test]
fn the_clients_own_certificate_may_be_of_version_1() {
    let server = Server::new("strongroom.example");
    let mine = TestCertificate::key(KeyKind::P256).expired(1);
    let identity = ClientIdentity {
        cert_pem: &mine.cert_pem(),
        key_pem: &mine.key_pem,
    };
    let client = client_config(server.pin(), Some(identity)).unwrap();
    let hands = shake(&server.config(), &client, "strongroom.example").unwrap();
    assert!(hands.server.peer_certificates().is_some());

    let other = TestCertificate::key(KeyKind::P256);
    let mixed = ClientIdentity {
        cert_pem: &mine.cert_pem(),
        key_pem: &other.key_pem,
    };
    let error = client_config(server.pin(), Some(mixed)).unwrap_err();
    assert!(error.public.contains("not the certificate's"), "{error}");
}

/// A server on the other end of a socket, as `probe` finds it.
fn probed(config: Arc<ServerConfig>) -> Presented {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut connection = ServerConnection::new(config).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut theirs).unwrap();
        }
    });
    let presented = probe("whatever.example", &mut ours).unwrap();
    server.join().unwrap();
    presented
}

#[test]
fn a_probe_shows_who_signed_the_leaf_and_trusts_nobody() {
    let server = Server::new("strongroom.example");
    let presented = probed(server.config());
    assert_eq!(presented.identity, Some(server.identity.fingerprint()));
    assert_eq!(
        presented.authority.as_deref(),
        Some(server.identity.ca_der())
    );
    assert_eq!(presented.chain.len(), 2);

    let long_ago = clock::now().plus(-400 * Timestamp::DAY);
    let expired = Server::at("strongroom.example", long_ago);
    let presented = probed(expired.config());
    assert_eq!(presented.identity, Some(expired.identity.fingerprint()));

    // A CA that did not sign the leaf is nobody.
    let leaf = server
        .leaf
        .cert_pem
        .split_inclusive("-----END CERTIFICATE-----\n");
    let chain = leaf.take(1).collect::<String>() + &expired.identity.ca_pem();
    let config = server_config(
        &chain,
        &server.leaf.key_pem,
        true,
        &[],
        &Parameters::default(),
    )
    .unwrap();
    assert_eq!(probed(config).identity, None);
}

#[test]
fn a_probe_of_what_speaks_no_tls_is_an_error() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut theirs, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    drop(theirs);
    let error = probe("whatever.example", &mut ours).unwrap_err();
    assert_eq!(error.code, "tls_failed");
    let error = probe("not a name", &mut ours).unwrap_err();
    assert_eq!(error.field, Some("server"));
}
