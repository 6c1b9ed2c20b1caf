//! What an operator takes to a certificate authority, or signs himself.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::identity::{certificate_pem, date, key_pem, names, not_issued, params};
use crate::clock::Timestamp;
use crate::crypto::keygen;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// A new P-256 key, PKCS#8 in PEM.
pub fn new_key_pem() -> Result<Secret<String>> {
    Ok(key_pem(&keygen::p256()?))
}

/// A signing request (PKCS#10, PEM) of this key for `fqdn` and other names.
pub fn certificate_request(
    key_pem: &Secret<String>,
    fqdn: &str,
    others: &[String],
) -> Result<String> {
    let mut params = server_params(fqdn, others)?;
    // The authority's to choose.
    params.serial_number = None;
    let request = params
        .serialize_request(&loaded(key_pem)?)
        .map_err(not_issued)?;
    request.pem().map_err(not_issued)
}

/// A certificate of this key by itself, from an hour before `now`, PEM.
pub fn self_signed(
    key_pem: &Secret<String>,
    fqdn: &str,
    others: &[String],
    days: u32,
    now: Timestamp,
) -> Result<String> {
    let mut params = server_params(fqdn, others)?;
    params.not_before = date(now.plus(-Timestamp::HOUR))?;
    params.not_after = date(now.plus(i64::from(days) * Timestamp::DAY))?;
    let certificate = params.self_signed(&loaded(key_pem)?).map_err(not_issued)?;
    Ok(certificate_pem(certificate.der()))
}

fn server_params(fqdn: &str, others: &[String]) -> Result<CertificateParams> {
    let mut params = params(fqdn)?;
    params.subject_alt_names = names([fqdn].into_iter().chain(others.iter().map(String::as_str)))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Of any kind that certificates here may have.
fn loaded(key_pem: &Secret<String>) -> Result<KeyPair> {
    KeyPair::from_pem(key_pem.expose()).map_err(|why| {
        Error::invalid("key", "the private key is of a type that cannot sign here").because(why)
    })
}
