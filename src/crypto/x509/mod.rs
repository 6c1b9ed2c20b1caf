//! Certificates: the instance identity and what it issues, clients' certificates, and reading
//! whatever others send. Here a certificate is a way to carry a public key: who may do what is
//! decided by the key's fingerprint elsewhere.

mod certificate;
mod identity;
mod statement;
#[cfg(test)]
pub(in crate::crypto) mod testing;
#[cfg(test)]
mod tests;

pub use certificate::{
    CertificateInfo, check_key_matches, inspect, parse_certificate_pem, sign_with_key_pem,
    spki_fingerprint, verify_by_certificate,
};
pub(in crate::crypto) use certificate::{load_key, parse, verify_any};
pub use identity::{ClientCertificate, InstanceIdentity, LEAF_DAYS, Leaf, client_certificate};
pub use statement::recipient_statement;
