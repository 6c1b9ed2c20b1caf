//! A server's certificate with those above it: found among files in any order, put in order, checked.

use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Name;

use super::certificate::{certificate_info, check_key_matches, inspect, parse, verify_any};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::id::shown;
use crate::secret::Secret;

/// A chain in order, the server's certificate first.
#[derive(Debug)]
pub struct Arranged {
    pub chain: Vec<Vec<u8>>,
    /// The subjects of what was given and does not belong to it.
    pub left_out: Vec<String>,
}

/// Finds the certificate of this key among `given`, and those above it: up to one that signed itself
/// where that is given, else as far as it goes. An authority that several others signed is followed
/// whichever way leads furthest.
///
/// # Errors
/// No certificate is the key's; the one above it is missing, by name.
pub fn arrange(given: Vec<Vec<u8>>, key_pem: &Secret<String>) -> Result<Arranged> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for der in given {
        if !all.contains(&der) {
            all.push(der);
        }
    }
    let parsed = all
        .iter()
        .map(|der| parse(der))
        .collect::<Result<Vec<_>>>()?;
    let leaf = leaf_of(&all, key_pem)?;
    let best = best_path(&parsed, vec![leaf]);
    if best.len() == 1 && !is_self_issued(&parsed[leaf]) {
        return Err(gap(&parsed[leaf], &parsed));
    }
    let mut left_out = Vec::new();
    for (at, der) in all.iter().enumerate() {
        if !best.contains(&at) {
            left_out.push(shown(&inspect(der)?.subject));
        }
    }
    Ok(Arranged {
        chain: best.into_iter().map(|at| all[at].clone()).collect(),
        left_out,
    })
}

/// The longest way up from the last of `path`; one that ends in a certificate that signed itself wins.
/// At most sixteen certificates are given, and none comes twice, so this ends.
fn best_path(all: &[X509Certificate<'_>], path: Vec<usize>) -> Vec<usize> {
    let ends_well = |path: &[usize]| path.last().is_some_and(|at| is_self_issued(&all[*at]));
    if ends_well(&path) {
        return path;
    }
    let mut best = path.clone();
    for above in 0..all.len() {
        let last = path.last().copied().unwrap_or_default();
        if path.contains(&above) || !is_issued_by(&all[last], &all[above]) {
            continue;
        }
        let mut longer = path.clone();
        longer.push(above);
        let found = best_path(all, longer);
        if (ends_well(&found), found.len()) > (ends_well(&best), best.len()) {
            best = found;
        }
    }
    best
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
    same_name(certificate.issuer(), issuer.subject())
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

/// Whatever the type of their strings, in any case (RFC 5280, 7.1). The signature decides afterwards.
fn same_name(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    let words = |name: &X509Name<'_>| {
        let text = name.to_string().to_lowercase();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    one.as_raw() == other.as_raw() || words(one) == words(other)
}

fn gap(last: &X509Certificate<'_>, all: &[X509Certificate<'_>]) -> Error {
    let named = all
        .iter()
        .any(|other| same_name(other.subject(), last.issuer()));
    let why = match named {
        true => "is given, and did not sign it with an algorithm that is taken here (not SHA-1)",
        false => "is not among the certificates given; give it with --chain",
    };
    Error::new(
        Kind::Invalid,
        "chain_incomplete",
        format!(
            "the issuer of `{}` is `{}`, which {why}",
            shown(&last.subject().to_string()),
            shown(&last.issuer().to_string())
        ),
    )
}

/// What a server's chain must be: valid now, its first certificate for servers and for the name that
/// the server is reached by, the others authorities.
///
/// # Errors
/// `certificate_not_valid`, `certificate_not_for_servers`, `certificate_other_name`,
/// `chain_incomplete`.
pub fn check_server(chain: &[Vec<u8>], fqdn: &str, any_name: bool, now: Timestamp) -> Result<()> {
    let refused = |code, text: String| Err(Error::new(Kind::Invalid, code, text));
    let Some((leaf, above)) = chain.split_first() else {
        return refused("chain_incomplete", "there is no certificate".to_owned());
    };
    for der in chain {
        let info = inspect(der)?;
        if info.not_after <= now || info.not_before > now {
            return refused(
                "certificate_not_valid",
                format!(
                    "the certificate of `{}` is valid from {} to {}, and now it is {now}",
                    shown(&info.subject),
                    info.not_before,
                    info.not_after
                ),
            );
        }
    }
    for der in above {
        let certificate = certificate_info(der)?;
        if !certificate.may_issue {
            return refused(
                "chain_incomplete",
                format!(
                    "`{}` may not issue certificates (its basic constraints say so), and stands above the server's",
                    shown(&certificate.info.subject)
                ),
            );
        }
    }
    let certificate = certificate_info(leaf)?;
    if !certificate.for_servers {
        return refused(
            "certificate_not_for_servers",
            format!(
                "the certificate of `{}` is not for servers: its extended key usage lacks serverAuth",
                shown(&certificate.info.subject)
            ),
        );
    }
    // Without any name but its subject's, as `openssl x509 -req` makes them, it is for that.
    let by_subject =
        certificate.names.is_empty() && certificate.common_name.as_deref() == Some(fqdn);
    if !any_name && !by_subject && !is_for(leaf, fqdn) {
        let names = match certificate.names.as_slice() {
            [] => format!("`{}`", shown(&certificate.info.subject)),
            names => shown(&names.join(", ")),
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

/// Refuses a certificate that can chain to no authority here: of version 1, above all.
pub fn check_chainable(der: &[u8]) -> Result<()> {
    let der = CertificateDer::from(der);
    match webpki::EndEntityCert::try_from(&der) {
        Ok(_) => Ok(()),
        Err(why) => Err(Error::invalid(
            "certificate",
            format!(
                "the certificate cannot be followed to its authority ({why}); it must be X.509 version 3 (openssl x509 -extfile)"
            ),
        )),
    }
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
