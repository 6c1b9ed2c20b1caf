//! TLS as this program speaks it: 1.3 and 1.2 only, X25519MLKEM768 first, AWS-LC below.
//!
//! Sessions are resumed from the server's memory alone (256 of them): there is no ticket key, so
//! nothing that outlives the process opens a recorded session. [`without_sessions`] turns even that
//! off, for a sealed server.

mod any_client;
mod authority;
mod parameters;
mod pinned;

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;

pub use self::any_client::AnyClientCertificate;
pub use self::authority::{ClientAuthority, DEEPEST};
pub use self::parameters::{MinimumVersion, Parameters, suites};
pub use self::pinned::{Presented, probe};
use super::x509;
use crate::error::{Error, Result};
use crate::model::id::Fingerprint;
use crate::secret::Secret;

/// What the client trusts.
pub enum Trust {
    /// The instance identity's public key; the server sends the certificate itself.
    Pinned(Fingerprint),
    /// One or more certificate authorities, PEM: `ca.pem`, or an operator's own.
    CaPem(String),
}

/// Who the client is: its certificate, perhaps with a chain, and its key.
pub struct ClientIdentity<'a> {
    pub cert_pem: &'a str,
    pub key_pem: &'a Secret<String>,
}

/// A listener's configuration. With `client_certs` a certificate is asked for, from no authority in
/// particular, and not required; see [`AnyClientCertificate`] for what one proves. The private key
/// must be the certificate's.
pub fn server_config(
    cert_chain_pem: &str,
    key_pem: &Secret<String>,
    client_certs: bool,
    alpn: &[&[u8]],
    parameters: &Parameters,
) -> Result<Arc<ServerConfig>> {
    let identity = certified(cert_chain_pem, key_pem)?;
    let provider = Arc::new(parameters.restrict(provider())?);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(parameters.versions())
        .map_err(unusable)?;
    let builder = if client_certs {
        builder.with_client_cert_verifier(Arc::new(AnyClientCertificate::new()))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The same, without any session to resume: for a sealed server.
pub fn without_sessions(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// A client's configuration. The server's host name is always checked against its leaf.
pub fn client_config(
    trust: Trust,
    identity: Option<ClientIdentity<'_>>,
) -> Result<Arc<ClientConfig>> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Pinned(fingerprint) => Arc::new(pinned::PinnedIdentity::new(fingerprint)),
        Trust::CaPem(pem) => pinned::by_authorities(&pem, Arc::new(provider()))?,
    };
    client_config_with(verifier, identity)
}

fn client_config_with(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<ClientIdentity<'_>>,
) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some(ClientIdentity { cert_pem, key_pem }) => {
            let identity: Arc<dyn ResolvesClientCert> =
                Arc::new(SingleCertAndKey::from(certified(cert_pem, key_pem)?));
            builder.with_client_cert_resolver(identity)
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// A certificate and its key, checked by ourselves: rustls reads only X.509 v3 here.
fn certified(cert_chain_pem: &str, key_pem: &Secret<String>) -> Result<CertifiedKey> {
    let chain = x509::parse_certificate_pem(cert_chain_pem.as_bytes())?;
    if let Some(first) = chain.first() {
        x509::check_key_matches(first, key_pem)?;
    }
    Ok(CertifiedKey::new(
        chain.into_iter().map(CertificateDer::from).collect(),
        x509::load_key(key_pem)?,
    ))
}

/// AWS-LC's defaults with the hybrid key exchange in front: recorded traffic stays closed to a later
/// quantum computer.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn unusable(why: rustls::Error) -> Error {
    Error::internal(format!("TLS could not be set up: {why}"))
}

#[cfg(test)]
mod tests;
