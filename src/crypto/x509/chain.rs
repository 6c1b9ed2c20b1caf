//! A server's certificate with those above it: found among files in any order, put in order, checked.

use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;

use super::certificate::{certificate_info, check_key_matches, inspect, parse, verify_any};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// A chain in order, the server's certificate first.
pub struct Arranged {
    pub chain: Vec<Vec<u8>>,
    /// The subjects of what was given and does not belong to it.
    pub left_out: Vec<String>,
}

/// Finds the certificate of this key among `given`, and those above it.
///
/// # Errors
/// No certificate is the key's; one above is missing, by name.
pub fn arrange(given: Vec<Vec<u8>>, key_pem: &Secret<String>) -> Result<Arranged> {
    let mut rest: Vec<Vec<u8>> = Vec::new();
    for der in given {
        if !rest.contains(&der) {
            rest.push(der);
        }
    }
    let leaf = leaf_of(&rest, key_pem)?;
    let mut chain = vec![rest.remove(leaf)];
    while let Some(last) = chain.last() {
        let last = parse(last)?;
        if is_self_issued(&last) {
            break;
        }
        let mut above = None;
        for (at, der) in rest.iter().enumerate() {
            if is_issued_by(&last, &parse(der)?) {
                above = Some(at);
                break;
            }
        }
        match above {
            Some(at) => {
                let next = rest.remove(at);
                chain.push(next);
            }
            // Whoever connects has the root; what lies between must be sent.
            None if chain.len() > 1 && rest.is_empty() => break,
            None => return Err(gap(&last, &rest)),
        }
    }
    let left_out = rest.iter().map(|der| inspect(der).map(|info| info.subject));
    Ok(Arranged {
        chain,
        left_out: left_out.collect::<Result<_>>()?,
    })
}

/// The newest certificate of the key.
fn leaf_of(given: &[Vec<u8>], key_pem: &Secret<String>) -> Result<usize> {
    let mut newest: Option<(usize, i64)> = None;
    let mut why = Error::invalid("certificate", "there is no certificate");
    for (at, der) in given.iter().enumerate() {
        match check_key_matches(der, key_pem) {
            Ok(()) => {
                let end = parse(der)?.validity().not_after.timestamp();
                if newest.is_none_or(|(_, newest)| end > newest) {
                    newest = Some((at, end));
                }
            }
            Err(error) => why = error,
        }
    }
    match (newest, given) {
        (Some((at, _)), _) => Ok(at),
        (None, [] | [_]) => Err(why),
        (None, many) => Err(Error::invalid(
            "key",
            format!(
                "the private key belongs to none of the {} certificates given",
                many.len()
            ),
        )
        .because(why)),
    }
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// By name and by signature. Signatures with SHA-1 or MD5 count as none.
fn is_issued_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let spki = issuer.public_key();
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && verify_any(
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .all
                .iter()
                .copied(),
            spki.raw,
            &spki.subject_public_key.data,
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
}

fn gap(last: &X509Certificate<'_>, rest: &[Vec<u8>]) -> Error {
    let named = rest.iter().any(|der| {
        parse(der).is_ok_and(|other| other.subject().as_raw() == last.issuer().as_raw())
    });
    let why = match named {
        true => "is given, and did not sign it with an algorithm that is taken here (not SHA-1)",
        false => "is not among the certificates given; give it with --chain",
    };
    Error::new(
        Kind::Invalid,
        "chain_incomplete",
        format!(
            "the issuer of `{}` is `{}`, which {why}",
            last.subject(),
            last.issuer()
        ),
    )
}

/// What a server's certificate must be: valid now, for servers, and for one of the names that it is
/// reached by.
///
/// # Errors
/// `certificate_not_valid`, `certificate_not_for_servers`, `certificate_other_name`.
pub fn check_server(leaf: &[u8], fqdn: &str, any_name: bool, now: Timestamp) -> Result<()> {
    let refused = |code, text: String| Err(Error::new(Kind::Invalid, code, text));
    let certificate = certificate_info(leaf)?;
    let info = &certificate.info;
    if info.not_after <= now || info.not_before > now {
        return refused(
            "certificate_not_valid",
            format!(
                "the certificate is valid from {} to {}, and now it is {now}",
                info.not_before, info.not_after
            ),
        );
    }
    if !certificate.for_servers {
        return refused(
            "certificate_not_for_servers",
            format!(
                "the certificate of `{}` is not for servers: its extended key usage lacks serverAuth",
                info.subject
            ),
        );
    }
    // Without any name but its subject's, as `openssl x509 -req` makes them, it is for that.
    let by_subject =
        certificate.names.is_empty() && certificate.common_name.as_deref() == Some(fqdn);
    if !any_name && !by_subject && !is_for(leaf, fqdn) {
        let names = match certificate.names.as_slice() {
            [] => format!("`{}`", info.subject),
            names => names.join(", "),
        };
        return refused(
            "certificate_other_name",
            format!(
                "the certificate is for {names}, and this server is {fqdn}; get one for {fqdn}, or take it as it is with --other-name"
            ),
        );
    }
    Ok(())
}

/// Whether clients take it for the host of this name.
fn is_for(leaf: &[u8], fqdn: &str) -> bool {
    let der = CertificateDer::from(leaf);
    let Ok(certificate) = webpki::EndEntityCert::try_from(&der) else {
        return false;
    };
    ServerName::try_from(fqdn)
        .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}
