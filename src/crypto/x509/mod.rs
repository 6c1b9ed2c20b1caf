//! Certificates: the instance identity and what it issues, clients' certificates, and reading
//! whatever others send. Here a certificate is a way to carry a public key: who may do what is
//! decided by the key's fingerprint elsewhere.

mod certificate;
mod chain;
mod identity;
mod material;
mod request;
mod statement;
#[cfg(test)]
pub(in crate::crypto) mod testing;
#[cfg(test)]
mod tests;

pub use certificate::{
    CertificateInfo, ServerCertificate, certificate_info, check_key_matches, inspect,
    key_fingerprint, parse_certificate_pem, sign_with_key_pem, spki_fingerprint,
    verify_by_certificate,
};
pub(in crate::crypto) use certificate::{load_key, parse, verify_any};
pub use chain::{Arranged, arrange, check_chainable, check_server};
pub use identity::{
    ClientCertificate, InstanceIdentity, LEAF_DAYS, Leaf, chain_pem, client_certificate,
};
pub use material::{Material, is_encrypted, key_section, read_key, read_material};
pub use request::{certificate_request, new_key_pem, self_signed};
pub use statement::recipient_statement;
