//! How a client knows the server: by the public key of its instance identity.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConnection, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::client_config_with;
use crate::clock::Timestamp;
use crate::crypto::x509;
use crate::error::{Error, Result};
use crate::model::id::{Fingerprint, shown};

/// A server is right if it sends a certificate with the pinned public key, that key signed its leaf,
/// the leaf is in date and is for the host name asked for.
#[derive(Debug)]
pub(super) struct PinnedIdentity {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedIdentity {
    pub(super) fn new(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            algorithms: algorithms(),
        }
    }
}

impl ServerCertVerifier for PinnedIdentity {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let authority = intermediates
            .iter()
            .find(|certificate| {
                x509::spki_fingerprint(certificate).is_ok_and(|found| found == self.fingerprint)
            })
            .ok_or(CertificateError::UnknownIssuer)?;
        signed_by(&leaf, authority, now)?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The usual check, against the authorities in a PEM file.
pub(super) fn by_authorities(
    pem: &str,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    for der in x509::parse_certificate_pem(pem.as_bytes())? {
        roots.add(CertificateDer::from(der)).map_err(|why| {
            Error::invalid("ca", "a certificate in the CA file cannot be a root").because(why)
        })?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| Error::internal(format!("the CA file gives no verifier: {why}")))
}

/// What a server showed of itself. Nothing in it is trusted yet: a person compares the fingerprint.
#[derive(Clone, Debug)]
pub struct Presented {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The public key of the certificate that signed the leaf: what `register` shows and pins. None
    /// if the server sent no such certificate, so that there is nothing to pin.
    pub identity: Option<Fingerprint>,
    /// That certificate, DER.
    pub authority: Option<Vec<u8>>,
}

/// Shakes hands over `stream` and answers what the server showed. The server proved that it holds
/// its leaf's key; no name, date or issuer is checked. Nothing else may be sent on this connection.
/// The caller connects, and sets the stream's time-outs.
pub fn probe<S: Read + Write>(host: &str, stream: &mut S) -> Result<Presented> {
    let verifier = Arc::new(Onlooker {
        algorithms: algorithms(),
        seen: Mutex::new(Vec::new()),
    });
    let config = client_config_with(verifier.clone(), None)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Error::invalid(
            "server",
            format!("`{}` is neither a host name nor an IP address", shown(host)),
        )
    })?;
    let failed = |why: String| {
        Error::unavailable(
            "tls_failed",
            format!("no TLS handshake with {}: {why}", shown(host)),
        )
    };
    let mut connection =
        ClientConnection::new(config, name).map_err(|why| failed(why.to_string()))?;
    while connection.is_handshaking() {
        connection
            .complete_io(stream)
            .map_err(|why| failed(why.to_string()))?;
    }
    connection.send_close_notify();
    // Whether the server still hears the farewell does not matter.
    let _ = connection.write_tls(stream);
    let chain = std::mem::take(
        &mut *verifier
            .seen
            .lock()
            .map_err(|_| Error::internal("the handshake panicked"))?,
    );
    Ok(presented(chain))
}

fn presented(chain: Vec<CertificateDer<'static>>) -> Presented {
    let authority = chain.split_first().and_then(|(leaf, others)| {
        // Judged at a time when the leaf was in date: an expired one still says who issued it.
        let begin = x509::inspect(leaf).ok()?.not_before.0 / Timestamp::SECOND;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(begin).ok()?));
        let leaf = ParsedCertificate::try_from(leaf).ok()?;
        others
            .iter()
            .find(|authority| signed_by(&leaf, authority, then).is_ok())
    });
    Presented {
        identity: authority.and_then(|der| x509::spki_fingerprint(der).ok()),
        authority: authority.map(|der| der.to_vec()),
        chain: chain.iter().map(|der| der.to_vec()).collect(),
    }
}

/// Whether `authority`'s key signed the leaf, directly, and the leaf is in date and for servers.
fn signed_by(
    leaf: &ParsedCertificate<'_>,
    authority: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), TlsError> {
    let mut root = RootCertStore::empty();
    root.add(authority.clone().into_owned())?;
    verify_server_cert_signed_by_trust_anchor(leaf, &root, &[], now, algorithms().all)
}

/// Looks at the server's certificates and lets them pass.
#[derive(Debug)]
struct Onlooker {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let mut seen = self
            .seen
            .lock()
            .map_err(|_| TlsError::General("poisoned".to_owned()))?;
        *seen = [end_entity]
            .into_iter()
            .chain(intermediates)
            .map(|der| der.clone().into_owned())
            .collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
