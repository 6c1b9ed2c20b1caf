//! What this program issues: the instance identity (a certificate authority of its own, made once),
//! the server's leaf below it, and clients' self-signed certificates.

use std::net::IpAddr;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SigningKey,
};
use rustls_pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;

use super::certificate::{inspect, spki_fingerprint};
use crate::clock::Timestamp;
use crate::crypto::{keygen, random, sha256};
use crate::error::{Error, Result};
use crate::model::id::{Fingerprint, InstanceId, shown};
use crate::secret::Secret;

/// How long a leaf is valid; what browsers accept at most.
pub const LEAF_DAYS: u32 = 397;
const CA_YEARS: i32 = 100;
const MAX_SANS: usize = 100;

/// The server's own certificate authority. Clients pin its public key, so it outlives every leaf,
/// moves with backups and is shared by a twin.
pub struct InstanceIdentity {
    key: P256,
    pkcs8: Secret<Vec<u8>>,
    certificate: CertificateDer<'static>,
    fingerprint: Fingerprint,
}

impl InstanceIdentity {
    /// A new one, valid from 2020 (no server here runs with an earlier clock) for 100 years from now.
    pub fn create(instance: InstanceId, now: Timestamp) -> Result<Self> {
        let pkcs8 = keygen::p256()?;
        let key = P256::load(&pkcs8)?;
        let mut params = params(&format!("Strongroom instance {instance}"))?;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let end = date(now)?;
        params.not_after = rcgen::date_time_ymd(end.year() + CA_YEARS, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(not_issued)?;
        Self::assemble(key, pkcs8, certificate.der().clone())
    }

    /// From what [`InstanceIdentity::pkcs8`] and [`InstanceIdentity::ca_der`] gave.
    pub fn load(pkcs8: Secret<Vec<u8>>, ca_der: &[u8]) -> Result<Self> {
        let key = P256::load(&pkcs8)?;
        Self::assemble(key, pkcs8, CertificateDer::from(ca_der.to_vec()))
    }

    fn assemble(
        key: P256,
        pkcs8: Secret<Vec<u8>>,
        certificate: CertificateDer<'static>,
    ) -> Result<Self> {
        let fingerprint = spki_fingerprint(&certificate)?;
        if sha256(&key.subject_public_key_info()) != fingerprint.0 {
            return Err(Error::internal(
                "the instance identity's key is not its certificate's",
            ));
        }
        Ok(Self {
            key,
            pkcs8,
            certificate,
            fingerprint,
        })
    }

    /// The private key, for whoever wraps it under the KEK.
    pub fn pkcs8(&self) -> &Secret<Vec<u8>> {
        &self.pkcs8
    }

    /// *The* server fingerprint: SHA-256 of the public key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub fn ca_der(&self) -> &[u8] {
        &self.certificate
    }

    /// What clients keep as `ca.pem`, for curl.
    pub fn ca_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// A leaf with a new key for this server, valid from one hour before `now` for `days`. Its names
    /// are `fqdn`, `extra_sans` (host names or addresses), `localhost`, 127.0.0.1 and ::1. The chain
    /// is leaf, then CA: clients that pin find the CA in it.
    pub fn issue_leaf(
        &self,
        fqdn: &str,
        extra_sans: &[String],
        days: u32,
        now: Timestamp,
    ) -> Result<Leaf> {
        let pkcs8 = keygen::p256()?;
        let key = P256::load(&pkcs8)?;
        let mut params = params(fqdn)?;
        let always = ["localhost", "127.0.0.1", "::1"];
        let extra = extra_sans.iter().map(String::as_str);
        params.subject_alt_names = names([fqdn].into_iter().chain(extra).chain(always))?;
        params.not_before = date(now.plus(-Timestamp::HOUR))?;
        params.not_after = date(now.plus(i64::from(days) * Timestamp::DAY - Timestamp::HOUR))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(not_issued)?;
        let certificate = params.signed_by(&key, &issuer).map_err(not_issued)?;
        let info = inspect(certificate.der())?;
        Ok(Leaf {
            cert_pem: certificate_pem(certificate.der()) + &self.ca_pem(),
            key_pem: key_pem(&pkcs8),
            sha256: info.sha256,
            not_after: info.not_after,
        })
    }
}

/// What a listener serves.
pub struct Leaf {
    /// Leaf, then CA.
    pub cert_pem: String,
    pub key_pem: Secret<String>,
    /// SHA-256 of the leaf, as browsers show it; not the server's fingerprint.
    pub sha256: [u8; 32],
    pub not_after: Timestamp,
}

/// A client's key and self-signed certificate.
pub struct ClientCertificate {
    pub cert_pem: String,
    pub key_pem: Secret<String>,
    pub fingerprint: Fingerprint,
}

/// A new key with a self-signed certificate. The server goes by the key alone, so the dates (1975
/// to 4096) never end a registration.
pub fn client_certificate(common_name: &str) -> Result<ClientCertificate> {
    let pkcs8 = keygen::p256()?;
    let key = P256::load(&pkcs8)?;
    let mut params = params(common_name)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).map_err(not_issued)?;
    Ok(ClientCertificate {
        cert_pem: certificate_pem(certificate.der()),
        key_pem: key_pem(&pkcs8),
        fingerprint: spki_fingerprint(certificate.der())?,
    })
}

/// A P-256 key as rcgen needs it. rcgen's own key type keeps a copy of the private key that is never
/// wiped; AWS-LC wipes its own.
struct P256 {
    pair: EcdsaKeyPair,
}

impl P256 {
    fn load(pkcs8: &Secret<Vec<u8>>) -> Result<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.expose())
            .map(|pair| Self { pair })
            .map_err(|why| Error::internal(format!("a P-256 key does not load: {why}")))
    }
}

impl PublicKeyData for P256 {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for P256 {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rcgen::Error> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Parameters with a random serial number (positive, 127 bits) and a common name, which is left out
/// where X.509 has no room for it.
pub(super) fn params(common_name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if (1..=64).contains(&common_name.chars().count()) {
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
    }
    let mut serial = random::<16>();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Each name once, in order.
pub(super) fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> Result<Vec<SanType>> {
    let mut names = Vec::new();
    for (at, name) in all.into_iter().enumerate() {
        if at >= MAX_SANS {
            return Err(Error::invalid(
                "names",
                format!("a certificate has at most {MAX_SANS} names"),
            ));
        }
        let name = san(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A host name, perhaps with `*.` in front, or an IP address.
fn san(name: &str) -> Result<SanType> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let legal = ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok();
    match name.to_ascii_lowercase().try_into() {
        Ok(dns) if legal => Ok(SanType::DnsName(dns)),
        Ok(_) | Err(_) => Err(Error::invalid(
            "names",
            format!("`{}` is neither a host name nor an IP address", shown(name)),
        )),
    }
}

pub(super) fn date(time: Timestamp) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(time.0.div_euclid(Timestamp::SECOND))
        .map_err(|_| Error::invalid("days", format!("{time} is out of a certificate's range")))
}

pub(super) fn not_issued(why: rcgen::Error) -> Error {
    Error::internal(format!("a certificate could not be made: {why}"))
}

/// Certificates one after the other.
pub fn chain_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| certificate_pem(der)).collect()
}

pub(super) fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", &STANDARD.encode(der))
}

pub(super) fn key_pem(pkcs8: &Secret<Vec<u8>>) -> Secret<String> {
    let base64 = Secret::new(STANDARD.encode(pkcs8.expose()));
    Secret::new(pem("PRIVATE KEY", base64.expose()))
}

/// RFC 7468: 64 characters a line. The room is taken first, so that no copy is left behind.
fn pem(kind: &str, base64: &str) -> String {
    let lines = base64.len() / 64 + 1;
    let mut pem = String::with_capacity(base64.len() + lines + 2 * (kind.len() + 20));
    pem.push_str("-----BEGIN ");
    pem.push_str(kind);
    pem.push_str("-----\n");
    let mut rest = base64;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END ");
    pem.push_str(kind);
    pem.push_str("-----\n");
    pem
}
