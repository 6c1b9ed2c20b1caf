//! Reading certificates of any origin: X.509 v1 to v3, expired or not, self-signed or not.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::{self, sign::any_supported_type};
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SignatureVerificationAlgorithm};
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::extensions::GeneralName;
use x509_parser::nom::Parser;
use x509_parser::x509::X509Version;

use crate::clock::Timestamp;
use crate::crypto::sha256;
use crate::error::{Error, Kind, Result};
use crate::model::id::Fingerprint;
use crate::secret::Secret;

/// A certificate is at most this long; so is a PEM file with a chain.
const MAX_DER: usize = 64 << 10;
const MAX_PEM: usize = 256 << 10;
const MAX_CHAIN: usize = 16;

/// What is worth knowing of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject as one line, `CN=host`.
    pub subject: String,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of the public key.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the whole certificate, as browsers show it.
    pub sha256: [u8; 32],
}

/// SHA-256 of the certificate's public key (SubjectPublicKeyInfo).
pub fn spki_fingerprint(cert_der: &[u8]) -> Result<Fingerprint> {
    parse(cert_der).map(|certificate| Fingerprint(sha256(certificate.public_key().raw)))
}

/// The certificates of a PEM file, in its order; the first is the one that the rest explain.
pub fn parse_certificate_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    let wrong = |why: &str| Err(Error::invalid("certificate", why));
    if pem.len() > MAX_PEM {
        return wrong("the certificate file is larger than 256 KiB");
    }
    let mut chain = Vec::new();
    for section in CertificateDer::pem_slice_iter(pem) {
        let Ok(der) = section else {
            return wrong("the certificate file is not PEM, or is cut off");
        };
        parse(&der)?;
        chain.push(der.to_vec());
    }
    match chain.len() {
        0 => wrong("the file holds no certificate (-----BEGIN CERTIFICATE-----)"),
        1..=MAX_CHAIN => Ok(chain),
        _ => wrong("the file holds more than 16 certificates"),
    }
}

/// Names, dates and fingerprints.
pub fn inspect(cert_der: &[u8]) -> Result<CertificateInfo> {
    let certificate = parse(cert_der)?;
    let validity = certificate.validity();
    let time = |seconds: i64| Timestamp(seconds.saturating_mul(Timestamp::SECOND));
    Ok(CertificateInfo {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
        fingerprint: Fingerprint(sha256(certificate.public_key().raw)),
        sha256: sha256(cert_der),
    })
}

/// What a server's certificate says beyond that.
pub struct ServerCertificate {
    pub info: CertificateInfo,
    pub common_name: Option<String>,
    /// Host names and addresses that it is for.
    pub names: Vec<String>,
    /// Whether its key may be a server's.
    pub for_servers: bool,
    /// Whether it may stand above another: an authority, or too old to say (version 1).
    pub may_issue: bool,
}

/// Names and purposes too.
pub fn certificate_info(cert_der: &[u8]) -> Result<ServerCertificate> {
    let wrong = || Error::invalid("certificate", "the certificate's extensions are damaged");
    let (_, certificate) = X509Certificate::from_der(cert_der).map_err(|_| wrong())?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| wrong())?
        .map_or_else(Vec::new, |names| {
            names.value.general_names.iter().filter_map(name).collect()
        });
    let usage = certificate.extended_key_usage().map_err(|_| wrong())?;
    Ok(ServerCertificate {
        info: inspect(cert_der)?,
        common_name: certificate
            .subject()
            .iter_common_name()
            .find_map(|name| name.as_str().ok().map(str::to_owned)),
        names,
        for_servers: usage.is_none_or(|usage| usage.value.server_auth || usage.value.any),
        may_issue: match certificate.basic_constraints().map_err(|_| wrong())? {
            Some(constraints) => constraints.value.ca,
            None => certificate.version() == X509Version::V1,
        },
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                Some(IpAddr::from(v4).to_string())
            } else {
                let v6 = <[u8; 16]>::try_from(*bytes).ok()?;
                Some(IpAddr::from(v6).to_string())
            }
        }
        _ => None,
    }
}

/// Refuses a private key that is not the certificate's.
pub fn check_key_matches(cert_der: &[u8], key_pem: &Secret<String>) -> Result<()> {
    let certificate = parse(cert_der)?;
    let key = load_key(key_pem)?;
    match key.public_key() {
        Some(public) if public.as_ref() == certificate.public_key().raw => Ok(()),
        Some(public) => Err(Error::invalid(
            "key",
            format!(
                "the private key is not the certificate's: the certificate's public key is {}, the private key's is {}",
                Fingerprint(sha256(certificate.public_key().raw)),
                Fingerprint(sha256(&public))
            ),
        )),
        None => Err(Error::invalid(
            "key",
            "the private key is of a type that this program cannot use",
        )),
    }
}

/// SHA-256 of a private key's public one (SubjectPublicKeyInfo).
pub fn key_fingerprint(key_pem: &Secret<String>) -> Result<Fingerprint> {
    match load_key(key_pem)?.public_key() {
        Some(public) => Ok(Fingerprint(sha256(&public))),
        None => Err(Error::invalid(
            "key",
            "the private key is of a type that this program cannot use",
        )),
    }
}

/// Signs with a private key of any type that a certificate here may have: ECDSA with the hash of
/// its curve's size, Ed25519, or RSA-PSS with SHA-256.
pub fn sign_with_key_pem(key_pem: &Secret<String>, message: &[u8]) -> Result<Vec<u8>> {
    const SCHEMES: [SignatureScheme; 5] = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ECDSA_NISTP521_SHA512,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PSS_SHA256,
    ];
    let key = load_key(key_pem)?;
    let Some(signer) = key.choose_scheme(&SCHEMES) else {
        return Err(Error::invalid(
            "key",
            "the private key is of a type that cannot sign here",
        ));
    };
    signer
        .sign(message)
        .map_err(|why| Error::internal(format!("a signature could not be made: {why}")))
}

/// Whether the certificate's key signed exactly this message. Takes what [`sign_with_key_pem`]
/// makes, and what `openssl dgst -sha256 -sign` makes with the same key.
pub fn verify_by_certificate(cert_der: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let certificate = parse(cert_der)?;
    let spki = certificate.public_key();
    let schemes = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ECDSA_NISTP521_SHA512,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let accepted = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| schemes.contains(scheme))
        .flat_map(|(_, algorithms)| algorithms.iter().copied());
    if verify_any(
        accepted,
        spki.raw,
        &spki.subject_public_key.data,
        message,
        signature,
    ) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Denied,
        "signature_wrong",
        format!(
            "the signature is not by the certificate's key {} over this content",
            Fingerprint(sha256(spki.raw))
        ),
    ))
}

/// Whether the signature verifies under one of `algorithms` that is for the key's own algorithm. A
/// key's algorithm is compared as DER, parameters (the curve) included.
pub(in crate::crypto) fn verify_any(
    algorithms: impl IntoIterator<Item = &'static dyn SignatureVerificationAlgorithm>,
    spki: &[u8],
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Some(algorithm_id) = algorithm_id(spki) else {
        return false;
    };
    algorithms.into_iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == algorithm_id
            && algorithm
                .verify_signature(public_key, message, signature)
                .is_ok()
    })
}

/// The content of the AlgorithmIdentifier at the beginning of a SubjectPublicKeyInfo.
fn algorithm_id(spki: &[u8]) -> Option<&[u8]> {
    let (_, outer) = Any::from_der(spki).ok()?;
    let (_, algorithm) = Any::from_der(outer.data).ok()?;
    Some(algorithm.data)
}

/// The private key of a PEM file (PKCS#8, SEC 1 or PKCS#1).
pub(in crate::crypto) fn load_key(key_pem: &Secret<String>) -> Result<Arc<dyn SigningKey>> {
    let wrong = |why: &str| Error::invalid("key", why);
    let pem = key_pem.expose();
    if pem.len() > MAX_PEM {
        return Err(wrong("the key file is larger than 256 KiB"));
    }
    if pem.contains("ENCRYPTED") {
        return Err(wrong(
            "the private key is encrypted with a password; give it without one (openssl pkey -in FILE)",
        ));
    }
    // Base64 errors are not passed on: they quote the content.
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| wrong("the file holds no private key in PEM (-----BEGIN PRIVATE KEY-----)"))?;
    any_supported_type(&der).map_err(|_| {
        wrong(
            "the private key is damaged or of a type that this program cannot use: ECDSA (P-256, P-384, P-521), Ed25519, RSA",
        )
    })
}

/// Any certificate whose outline is right. Extensions are not looked into: nothing here depends on
/// them, and a strange one is no reason to refuse a key.
pub(in crate::crypto) fn parse(cert_der: &[u8]) -> Result<X509Certificate<'_>> {
    let wrong = |why: String| {
        Error::invalid("certificate", "this is not an X.509 certificate").because(why)
    };
    if cert_der.len() > MAX_DER {
        return Err(wrong(format!("{} bytes", cert_der.len())));
    }
    let (rest, certificate) = X509CertificateParser::new()
        .with_deep_parse_extensions(false)
        .parse(cert_der)
        .map_err(|why| wrong(why.to_string()))?;
    if !rest.is_empty() {
        return Err(wrong(format!("{} bytes after its end", rest.len())));
    }
    Ok(certificate)
}
