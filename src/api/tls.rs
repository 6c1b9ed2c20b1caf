//! The certificates that the listeners show, and how they speak TLS.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::id::Fingerprint;

/// A certificate, as far as anyone who connects may see it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of the whole certificate, as browsers show it.
    pub sha256: Fingerprint,
    /// SHA-256 of its public key.
    pub spki_sha256: Fingerprint,
}

/// What one listener shows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// An operator's certificate; else the leaf that the instance identity issued, which renews itself.
    pub installed: bool,
    pub certificate: Certificate,
}

/// All about TLS.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Tls {
    pub client: Shown,
    pub gui: Shown,
    /// Whether `rollback` has something to go back to.
    pub can_roll_back: bool,
    /// Why something else is shown than was installed.
    pub fault: Option<String>,
    pub minimum_version: String,
    /// Empty: all that there are.
    pub ciphers: String,
    pub client_ca: Option<ClientCa>,
}

/// The authority behind API users' certificates.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClientCa {
    /// How many authorities may stand between a certificate and its root.
    pub verify_depth: u8,
    pub certificates: Vec<Certificate>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewRequest {
    /// For a key made now; else for the one in use.
    pub new_key: bool,
    /// Host names and addresses beside the server's own.
    pub names: Vec<String>,
}

/// A signing request, for a certificate authority.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SigningRequest {
    /// PKCS#10, PEM.
    pub request: String,
    /// SHA-256 of its public key.
    pub spki_sha256: Fingerprint,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfSign {
    /// 1 to 3,650.
    pub days: u32,
    /// Host names and addresses beside the server's own.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A certificate to be shown. Either `certificate`, or `pkcs12`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// PEM: the certificate, perhaps with those above it, perhaps with its key; in any order.
    #[serde(default)]
    pub certificate: Option<String>,
    /// PEM: those above it.
    #[serde(default)]
    pub chain: Option<String>,
    /// PEM; without it the key of the last signing request, or the one in use.
    #[serde(default)]
    pub key: Option<String>,
    /// A PKCS#12 file, base64.
    #[serde(default)]
    pub pkcs12: Option<String>,
    /// What the key or the PKCS#12 file is behind.
    #[serde(default)]
    pub key_password: Option<String>,
    /// Takes a certificate that is not for the server's own name.
    #[serde(default)]
    pub other_name: bool,
}

/// What was installed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InstalledCertificate {
    pub tls: Tls,
    /// Subjects of certificates that were given and do not belong to the chain.
    pub left_out: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetClientCa {
    /// PEM: roots, authorities below them, lists of revoked certificates.
    pub certificates: String,
    /// 0 to 6.
    pub verify_depth: u8,
}
