//! Certificates by which API users come.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::id::Fingerprint;

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUserCertificate {
    /// PEM; the first one counts.
    pub certificate: String,
}

/// A key by whose certificate a user comes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserCertificate {
    /// SHA-256 of the public key.
    pub fingerprint: Fingerprint,
    /// As the certificate that was entered says; a later one of the same key counts just as well.
    pub subject: String,
    pub not_after: Timestamp,
    pub added: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserCertificates {
    pub certificates: Vec<UserCertificate>,
}
