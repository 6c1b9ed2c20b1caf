//! What an operator may set of TLS: the oldest version, and the cipher suites.

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SignatureAlgorithm, SupportedCipherSuite, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};

use crate::crypto::x509;
use crate::error::{Error, Result};
use crate::model::id::shown;
use crate::secret::Secret;

const MOST_TEXT: usize = 4_096;

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MinimumVersion {
    #[default]
    #[serde(rename = "tlsv1.2")]
    Tls12,
    #[serde(rename = "tlsv1.3")]
    Tls13,
}

impl MinimumVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "tlsv1.2",
            Self::Tls13 => "tlsv1.3",
        }
    }
}

impl std::str::FromStr for MinimumVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tlsv1.2" => Ok(Self::Tls12),
            "tlsv1.3" => Ok(Self::Tls13),
            _ => Err(Error::invalid(
                "value",
                format!("`{}` is none of tlsv1.2, tlsv1.3", shown(text)),
            )),
        }
    }
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    pub minimum_version: MinimumVersion,
    /// As given; empty: all there are.
    pub ciphers: String,
}

impl Parameters {
    /// Refuses suites with which nobody who speaks only TLS 1.2 could connect: what signs with this
    /// key is not among them.
    pub fn check_key(&self, key_pem: &Secret<String>) -> Result<()> {
        let kind = x509::load_key(key_pem)?.algorithm();
        // Ed25519 signs where ECDSA does.
        let signs = match kind {
            SignatureAlgorithm::RSA => "_RSA_",
            _ => "_ECDSA_",
        };
        let fits = |suite: &SupportedCipherSuite| {
            let name = suite.suite().as_str().unwrap_or_default();
            suite.tls13().is_none() && name.contains(signs)
        };
        match self.minimum_version {
            MinimumVersion::Tls12 if !suites(&self.ciphers)?.iter().any(fits) => {
                Err(Error::invalid(
                    "value",
                    format!(
                        "none of these ciphers goes with a listener's key ({kind:?}), so that nobody could connect by TLS 1.2; add one, or set tls.minimum_version to tlsv1.3"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self.minimum_version {
            MinimumVersion::Tls12 => &BOTH,
            MinimumVersion::Tls13 => &BOTH[..1],
        }
    }

    /// The provider with the chosen suites.
    pub(super) fn restrict(&self, provider: CryptoProvider) -> Result<CryptoProvider> {
        Ok(CryptoProvider {
            cipher_suites: suites(&self.ciphers)?,
            ..provider
        })
    }
}

/// The suites that a list names, in the list's order; both OpenSSL's and IANA's names, separated by
/// colons, commas or blanks. Of a version that none is named of, all stay: as in OpenSSL, a list for
/// TLS 1.2 says nothing of 1.3.
///
/// # Errors
/// `Invalid`, with the name that is unknown and those that are known.
pub fn suites(list: &str) -> Result<Vec<SupportedCipherSuite>> {
    if list.len() > MOST_TEXT {
        return Err(Error::invalid(
            "value",
            "the list of ciphers is longer than 4,096 bytes",
        ));
    }
    let mut named: Vec<SupportedCipherSuite> = Vec::new();
    for name in list.split([':', ',', ' ']).filter(|name| !name.is_empty()) {
        let known = ALL_CIPHER_SUITES
            .iter()
            .find(|suite| names(suite.suite()).contains(&name.to_ascii_uppercase()));
        let Some(suite) = known else {
            let known: Vec<String> = ALL_CIPHER_SUITES
                .iter()
                .filter_map(|suite| names(suite.suite()).into_iter().next())
                .collect();
            return Err(Error::invalid(
                "value",
                format!(
                    "the cipher `{}` is not there; there are {}",
                    shown(name),
                    known.join(", ")
                ),
            ));
        };
        if !named.contains(suite) {
            named.push(*suite);
        }
    }
    let (tls13, tls12): (Vec<_>, Vec<_>) = ALL_CIPHER_SUITES
        .iter()
        .partition(|suite| suite.tls13().is_some());
    for all in [tls13, tls12] {
        if !all.iter().any(|suite| named.contains(suite)) {
            named.extend(all);
        }
    }
    Ok(named)
}

/// OpenSSL's name, then IANA's. rustls calls suites of TLS 1.3 `TLS13_…`, both others `TLS_…`.
fn names(suite: CipherSuite) -> Vec<String> {
    let rustls = suite.as_str().unwrap_or_default();
    if let Some(rest) = rustls.strip_prefix("TLS13_") {
        return vec![format!("TLS_{rest}")];
    }
    let openssl = rustls
        .trim_start_matches("TLS_")
        .replace("_WITH_AES_128_GCM", "-AES128-GCM")
        .replace("_WITH_AES_256_GCM", "-AES256-GCM")
        .replace("_WITH_CHACHA20_POLY1305_SHA256", "-CHACHA20-POLY1305")
        .replace('_', "-");
    vec![openssl, rustls.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_and_all_separators_name_suites() {
        let chosen = suites("ECDHE-RSA-AES256-GCM-SHA384:TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, ecdhe-rsa-chacha20-poly1305").unwrap();
        let tls12: Vec<_> = chosen
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .map(|suite| suite.suite())
            .collect();
        assert_eq!(
            tls12,
            [
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ]
        );
        assert_eq!(chosen.len() - tls12.len(), 3, "TLS 1.3 keeps its own");
        let chosen = suites("TLS_AES_256_GCM_SHA384").unwrap();
        assert_eq!(
            chosen
                .iter()
                .filter(|suite| suite.tls13().is_some())
                .count(),
            1
        );
        assert_eq!(suites("").unwrap().len(), ALL_CIPHER_SUITES.len());
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (list, name) in [
            ("AES256:CAMELLIA256-SHA", "`AES256`"),
            (
                "ECDHE-RSA-AES256-GCM-SHA384:CAMELLIA256-SHA",
                "`CAMELLIA256-SHA`",
            ),
            ("HIGH:!aNULL", "`HIGH`"),
        ] {
            let error = suites(list).unwrap_err();
            assert!(error.public.contains(name), "{error}");
            assert!(
                error.public.contains("ECDHE-ECDSA-AES256-GCM-SHA384"),
                "{error}"
            );
        }
        assert!(suites(&"x".repeat(5_000)).is_err());
    }
}
