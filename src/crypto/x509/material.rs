//! Certificates and keys as authorities and people hand them over: PEM or DER, PKCS#12, keys behind
//! a password in any of the ways that OpenSSL writes. What comes out is plain: DER certificates and a
//! PKCS#8 key in PEM.

use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};

use super::certificate::{parse, parse_certificate_pem};
use crate::error::{Error, Result};
use crate::secret::Secret;

const MAX_FILE: usize = 256 << 10;
const MAX_PASSWORD: usize = 1_024;

/// What a file held.
pub struct Material {
    /// DER, in the file's order.
    pub certificates: Vec<Vec<u8>>,
    /// PKCS#8, PEM, without a password.
    pub key: Option<Secret<String>>,
}

/// Certificates of a PEM or DER file, or all of a PKCS#12 file. A PEM file may hold the key, too.
///
/// # Errors
/// `Invalid`, naming what is wrong; `wrong_password` for a password that does not open it.
pub fn read_material(bytes: &[u8], password: Option<&Secret<Vec<u8>>>) -> Result<Material> {
    if bytes.len() > MAX_FILE {
        return Err(Error::invalid(
            "certificate",
            "the certificate file is larger than 256 KiB",
        ));
    }
    if bytes.first() == Some(&0x30) {
        if parse(bytes).is_ok() {
            return Ok(Material {
                certificates: vec![bytes.to_vec()],
                key: None,
            });
        }
        return pkcs12(bytes, password);
    }
    let key = match holds_key(bytes) {
        true => Some(read_key(bytes, password)?),
        false => None,
    };
    Ok(Material {
        certificates: parse_certificate_pem(bytes)?,
        key,
    })
}

/// Whether a PEM file has a private key in it.
fn holds_key(pem: &[u8]) -> bool {
    contains(pem, b"PRIVATE KEY-----")
}

/// Whether a PEM file's key needs a password.
pub fn is_encrypted(pem: &[u8]) -> bool {
    contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || contains(pem, b"Proc-Type: 4,ENCRYPTED")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The private key of a PEM file (PKCS#8, SEC 1, PKCS#1; behind a password or not), as PKCS#8 in PEM.
///
/// # Errors
/// `password_missing`, `wrong_password`, or `Invalid`.
pub fn read_key(pem: &[u8], password: Option<&Secret<Vec<u8>>>) -> Result<Secret<String>> {
    if pem.len() > MAX_FILE {
        return Err(Error::invalid("key", "the key file is larger than 256 KiB"));
    }
    if !holds_key(pem) {
        return Err(Error::invalid(
            "key",
            "the file holds no private key in PEM (-----BEGIN PRIVATE KEY-----)",
        ));
    }
    let encrypted = is_encrypted(pem);
    let password = match (encrypted, password) {
        (true, None) => return Err(missing_password()),
        (true, Some(password)) => bounded(password)?,
        (false, _) => &[],
    };
    // Without a password at all OpenSSL would ask the terminal.
    let key = PKey::private_key_from_pem_passphrase(pem, password).map_err(|why| {
        if encrypted {
            wrong_password("the private key", &why)
        } else {
            Error::invalid("key", "the private key is damaged or of an unknown type")
                .because(reasons(&why))
        }
    })?;
    pkcs8(&key)
}

/// The part of a PEM file that is the key, as it stands.
pub fn key_section(pem: &[u8]) -> Result<Secret<String>> {
    let text = String::from_utf8_lossy(pem);
    let begins = text
        .match_indices("-----BEGIN ")
        .map(|(at, _)| at)
        .find(|at| {
            text[*at..]
                .lines()
                .next()
                .is_some_and(|it| it.ends_with("PRIVATE KEY-----"))
        });
    let section = begins.and_then(|at| {
        let end = text[at..].find("-----END ")? + at;
        let end = text[end..].find('\n').map_or(text.len(), |it| end + it + 1);
        Some(text[at..end].to_owned())
    });
    section
        .map(Secret::new)
        .ok_or_else(|| Error::invalid("key", "the file's private key is cut off"))
}

fn pkcs12(der: &[u8], password: Option<&Secret<Vec<u8>>>) -> Result<Material> {
    let file = Pkcs12::from_der(der).map_err(|why| {
        Error::invalid(
            "certificate",
            "the file is neither PEM, a DER certificate nor PKCS#12",
        )
        .because(reasons(&why))
    })?;
    let password = password.ok_or_else(missing_password)?;
    let password = std::str::from_utf8(bounded(password)?)
        .map_err(|_| Error::invalid("key_password", "the password is not UTF-8"))?;
    if password.contains('\0') {
        return Err(Error::invalid(
            "key_password",
            "the password holds a zero byte",
        ));
    }
    let parsed = file.parse2(password).map_err(|why| {
        // Older OpenSSL and Java wrapped certificates with 40-bit RC2, which no default build has.
        if reasons(&why).contains("unsupported") {
            return Error::invalid(
                "certificate",
                "the PKCS#12 file is encrypted with a cipher that is broken (RC2); write it anew: openssl pkcs12 -legacy -in OLD -nodes | openssl pkcs12 -export -out NEW",
            );
        }
        wrong_password("the PKCS#12 file", &why)
    })?;
    let mut certificates = Vec::new();
    let others = parsed.ca.iter().flatten().map(|it| it.to_der());
    for der in parsed.cert.iter().map(|it| it.to_der()).chain(others) {
        let der = der.map_err(|why| Error::internal(reasons(&why)))?;
        parse(&der)?;
        certificates.push(der);
    }
    Ok(Material {
        certificates,
        key: parsed.pkey.as_ref().map(pkcs8).transpose()?,
    })
}

fn pkcs8(key: &PKey<Private>) -> Result<Secret<String>> {
    let pem = key
        .private_key_to_pem_pkcs8()
        .map_err(|why| Error::internal(reasons(&why)))?;
    String::from_utf8(pem)
        .map(Secret::new)
        .map_err(|_| Error::internal("a PEM key is not text"))
}

fn bounded(password: &Secret<Vec<u8>>) -> Result<&[u8]> {
    match password.expose().len() {
        0..=MAX_PASSWORD => Ok(password.expose()),
        _ => Err(Error::invalid(
            "key_password",
            "a key's password has up to 1,024 bytes",
        )),
    }
}

fn missing_password() -> Error {
    Error::new(
        crate::error::Kind::Invalid,
        "password_missing",
        "the private key is behind a password; give it with --key-password-file",
    )
}

fn wrong_password(what: &str, why: &ErrorStack) -> Error {
    Error::denied(
        "wrong_password",
        format!("the password does not open {what}, or {what} is damaged"),
    )
    .because(reasons(why))
}

/// OpenSSL's reasons; they name functions and formats, never content.
fn reasons(why: &ErrorStack) -> String {
    why.errors()
        .iter()
        .filter_map(|error| error.reason())
        .collect::<Vec<_>>()
        .join(", ")
}
