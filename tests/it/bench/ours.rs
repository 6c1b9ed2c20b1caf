//! The server that is measured, with the one client that asks it, and the requests it is asked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group::X25519;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use strongroom::crypto::tls::{ClientIdentity, Trust, client_config};
use strongroom::secret::Secret;

use super::load::{Ask, Target};
use super::{DEPOSITS, body, name, pick};
use crate::harness::{Opens, Options, Server};

pub struct Ours {
    pub server: Server,
    pub target: Target,
}

impl Ours {
    /// Initialised, started, with one organization and one active client.
    pub fn start() -> Self {
        let server = Server::start(Options::default());
        let client = server.client("bench", "acme");
        let read = |name: &str| std::fs::read_to_string(client.file(name)).unwrap();
        let identity = ClientIdentity {
            cert_pem: &read("client.crt"),
            key_pem: &Secret::new(read("client.key")),
        };
        let tls = client_config(Trust::CaPem(read("ca.pem")), Some(identity)).unwrap();
        let mut tls = ClientConfig::clone(&tls);
        // Every handshake is a full one, with every server.
        tls.resumption = Resumption::disabled();
        let target = Target {
            address: SocketAddr::from(([127, 0, 0, 1], port(&server))),
            name: ServerName::try_from("localhost").unwrap(),
            tls: Arc::new(tls),
            pid: server.pid,
        };
        Self { server, target }
    }

    /// Stops it and starts it again; returns how long it took until it was ready.
    pub fn restart(&mut self, opens: Opens) -> Duration {
        self.server.stop();
        self.server.options.opens = opens;
        let started = Instant::now();
        self.server.serve();
        let took = started.elapsed();
        self.target = self.target_at(port(&self.server), self.server.pid);
        took
    }

    /// Starts it again after `server.stop()`.
    pub fn serve_again(&mut self) {
        self.server.serve();
        self.target = self.target_at(port(&self.server), self.server.pid);
    }

    /// The same target for handshakes that are compared: X25519, which every server here speaks, and
    /// a client that checks no certificate, so that most of the work is the server's.
    pub fn shaking(target: &Target) -> Target {
        let provider = CryptoProvider {
            kx_groups: vec![X25519],
            ..CryptoProvider::clone(target.tls.crypto_provider())
        };
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(schemes)))
            .with_client_cert_resolver(Arc::clone(&target.tls.client_auth_cert_resolver));
        tls.resumption = Resumption::disabled();
        Target {
            tls: Arc::new(tls),
            ..target.clone()
        }
    }

    /// A server at another port, spoken to in the same way by the same client.
    pub fn target_at(&self, port: u16, pid: u32) -> Target {
        Target {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            pid,
            ..self.target.clone()
        }
    }

    /// Its certificate with the chain, and the key: other servers show the same.
    pub fn leaf(&self) -> (PathBuf, PathBuf) {
        let tls = self.server.data.join("live/tls");
        (tls.join("leaf.pem"), tls.join("leaf.key"))
    }

    /// Whether a release waits until it is on disk in the audit.
    pub fn audit_strictly(&self, strict: bool) {
        let strict = if strict { "true" } else { "false" };
        self.server
            .cli(&["setting", "set", "audit.strict", strict])
            .ok();
    }
}

/// Takes every certificate for the server's.
#[derive(Debug)]
struct Unchecked(Vec<SignatureScheme>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

fn port(server: &Server) -> u16 {
    let (_, port) = server.client_url.rsplit_once(':').unwrap();
    port.parse().unwrap()
}

/// Stores a new deposit with a label and an idempotency key.
pub fn put(prefix: &'static str) -> Ask {
    let bodies: Vec<Vec<u8>> = (0..64).map(body).collect();
    Arc::new(move |number, request| {
        let name = name(number);
        let body = &bodies[number as usize % bodies.len()];
        let head = format!(
            "PUT /{DEPOSITS}/{prefix}{name} HTTP/1.1\r\nhost: localhost\r\nstrongroom-labels: use=bench\r\nidempotency-key: {prefix}{name}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(body);
    })
}

/// Ninety-nine fetches, then a new version of one of the deposits that are fetched.
pub fn get_with_puts(count: u64) -> Ask {
    let get = get(count);
    let bytes = body(0);
    Arc::new(move |number, request| {
        if number % 100 != 99 {
            return get(number, request);
        }
        let head = format!(
            "PUT /{DEPOSITS}/{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            name(pick(number, count)),
            bytes.len()
        );
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(&bytes);
    })
}

/// Asks for one of the first `count` deposits, in an order that no cache foresees.
pub fn get(count: u64) -> Ask {
    Arc::new(move |number, request| {
        let name = name(pick(number, count));
        let head = format!("GET /{DEPOSITS}/{name} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        request.extend_from_slice(head.as_bytes());
    })
}
