//! Client certificates of any origin: what counts is that the client holds the key.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};

use crate::crypto::x509;

/// A client's certificate with all that it sends along, in bytes.
const LONGEST_CHAIN: usize = 16 << 10;

/// Takes any X.509 certificate, of version 1 or 3, expired or not, from any issuer, and none at all.
/// Dates, chain, names and extensions are ignored: a client is its public key, which is looked up at
/// each request. What is **never** left out is the handshake's signature, which proves that the
/// client holds the private key; without that anyone could come with another's certificate.
#[derive(Debug)]
pub struct AnyClientCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClientCertificate {
    #[allow(clippy::new_without_default, reason = "no value is a default verifier")]
    pub fn new() -> Self {
        Self {
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints, so that clients offer whatever they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // They are held as long as the connection, by strangers too.
        let chain = std::iter::once(end_entity).chain(intermediates);
        if chain.map(|certificate| certificate.len()).sum::<usize>() > LONGEST_CHAIN {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        parse(end_entity).map(|_| ClientCertVerified::assertion())
    }

    /// In TLS 1.2 an ECDSA scheme names a hash and not a curve, so each algorithm that goes with the
    /// scheme is tried that is for the key's own type.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let candidates = self
            .algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == dss.scheme && fits_tls12(*scheme))
            .flat_map(|(_, algorithms)| algorithms.iter().copied())
            .collect::<Vec<_>>();
        if candidates.is_empty() {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let certificate = parse(cert)?;
        let spki = certificate.public_key();
        if x509::verify_any(
            candidates,
            spki.raw,
            &spki.subject_public_key.data,
            message,
            dss.signature(),
        ) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    /// rustls' own check over the bare public key, which also refuses schemes that 1.3 has no more.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(cert)?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(certificate.public_key().raw),
            dss,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<x509_parser::certificate::X509Certificate<'a>, Error> {
    x509::parse(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// Not the schemes that came after TLS 1.2.
fn fits_tls12(scheme: SignatureScheme) -> bool {
    !matches!(
        scheme,
        SignatureScheme::ML_DSA_44 | SignatureScheme::ML_DSA_65 | SignatureScheme::ML_DSA_87
    )
}
