//! The leaf that the instance identity issues for the listeners: kept in `tls/`, issued anew before it
//! ends. An operator's own certificate beside it is the service's (`service/tls`).

use std::path::Path;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::crypto::x509::{self, InstanceIdentity, LEAF_DAYS};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::id::Fingerprint;
use crate::secret::Secret;
use crate::service::tls::files::Files;
use crate::service::tls::shown::{OwnLeaf, Shown};

/// A leaf is renewed within so many days of its end.
const RENEW_DAYS: i64 = 30;
const MOST_PEM: u64 = 256 << 10;
const NEXT: &str = "leaf.pem.next";

/// The files of `tls/` beside the leaf.
pub fn files(folder: &Folder, config: &Config) -> Files {
    Files::new(folder.tls(), config.tls.key_password_script.clone())
}

/// Shows the listeners a new leaf before the old one ends.
pub struct Renewal {
    folder: Folder,
    identity: InstanceIdentity,
    fqdn: String,
    not_after: Timestamp,
    shown: Arc<Shown>,
}

impl Renewal {
    pub fn new(
        folder: Folder,
        identity: InstanceIdentity,
        fqdn: String,
        not_after: Timestamp,
        shown: Arc<Shown>,
    ) -> Self {
        Self {
            folder,
            identity,
            fqdn,
            not_after,
            shown,
        }
    }

    /// The new leaf's SHA-256, if it was time for one.
    pub fn renew_if_due(&mut self, now: Timestamp) -> Result<Option<Fingerprint>> {
        if self.not_after >= now.plus(RENEW_DAYS * Timestamp::DAY) {
            return Ok(None);
        }
        let leaf = load(&self.folder, &self.identity, &self.fqdn, now)?;
        let (not_after, sha256) = (leaf.info.not_after, Fingerprint(leaf.info.sha256));
        self.shown.renewed(leaf)?;
        self.not_after = not_after;
        Ok(Some(sha256))
    }
}

pub(super) fn write_leaf(
    tls: &Path,
    identity: &InstanceIdentity,
    fqdn: &str,
    now: Timestamp,
) -> Result<()> {
    let leaf = identity.issue_leaf(fqdn, &[], LEAF_DAYS, now)?;
    // A crash between the two leaves a key whose certificate is the next one.
    folder::replace(&tls.join(NEXT), leaf.cert_pem.as_bytes())?;
    folder::replace(&tls.join("leaf.key"), leaf.key_pem.expose().as_bytes())?;
    folder::replace(&tls.join("leaf.pem"), leaf.cert_pem.as_bytes())?;
    folder::remove(&tls.join(NEXT))
}

/// The leaf in `tls/`, or a new one where it is missing, about to end, not yet valid, of another
/// name, or of a key that lies not beside it.
pub fn load(
    folder: &Folder,
    identity: &InstanceIdentity,
    fqdn: &str,
    now: Timestamp,
) -> Result<OwnLeaf> {
    match read(folder, identity, fqdn, now) {
        Ok(leaf) => Ok(leaf),
        Err(why) => {
            log::warn!(reason = why.public.as_str(); "the server's certificate is issued anew");
            write_leaf(&folder.tls(), identity, fqdn, now)?;
            read(folder, identity, fqdn, now)
        }
    }
}

/// What lies in `tls/`: the leaf, and the chain up to the instance identity.
struct Lying {
    leaf: OwnLeaf,
    chain: Vec<Vec<u8>>,
}

fn unfit(why: &str) -> Error {
    Error::unavailable("certificate_unfit", format!("tls/leaf.pem {why}"))
}

fn lying(folder: &Folder) -> Result<Lying> {
    let next = folder.tls().join(NEXT);
    match lying_as(folder, "leaf.pem") {
        Err(_) if next.exists() => lying_as(folder, NEXT),
        found => found,
    }
}

fn lying_as(folder: &Folder, name: &str) -> Result<Lying> {
    let pem = folder::read(&folder.tls().join(name), MOST_PEM)?;
    let key = folder::read(&folder.tls().join("leaf.key"), MOST_PEM)?;
    let key = Secret::new(String::from_utf8(key).map_err(|_| unfit("has a key that is not PEM"))?);
    let chain = x509::parse_certificate_pem(&pem)?;
    let info = x509::inspect(chain.first().ok_or_else(|| unfit("holds no certificate"))?)?;
    x509::check_key_matches(&chain[0], &key)?;
    let pem = String::from_utf8(pem).map_err(|_| unfit("is not PEM"))?;
    let leaf = OwnLeaf {
        cert_pem: pem,
        key_pem: key,
        info,
    };
    Ok(Lying { leaf, chain })
}

/// # Errors
/// Why the leaf cannot be used.
pub fn read(
    folder: &Folder,
    identity: &InstanceIdentity,
    fqdn: &str,
    now: Timestamp,
) -> Result<OwnLeaf> {
    let lying = lying(folder)?;
    if lying.chain.last().map(Vec::as_slice) != Some(identity.ca_der()) {
        return Err(unfit("was issued by another instance"));
    }
    let info = &lying.leaf.info;
    if info.subject != format!("CN={fqdn}") {
        return Err(unfit(&format!("is not for {fqdn}")));
    }
    if info.not_before > now || info.not_after < now.plus(RENEW_DAYS * Timestamp::DAY) {
        return Err(unfit(&format!(
            "is valid from {} to {}",
            info.not_before, info.not_after
        )));
    }
    Ok(lying.leaf)
}

/// What a sealed server shows, and who it then says it is: the leaf as it lies there, since nothing
/// can be issued.
pub struct SealedLeaf {
    pub leaf: OwnLeaf,
    pub server_fingerprint: Fingerprint,
    pub ca_pem: String,
}

/// # Errors
/// The leaf cannot be used at all; started with a slot's secret, the server issues another.
pub fn read_sealed(folder: &Folder) -> Result<SealedLeaf> {
    let Lying { leaf, chain } = lying(folder)?;
    let issuer = chain.last().ok_or_else(|| unfit("holds no certificate"))?;
    Ok(SealedLeaf {
        server_fingerprint: x509::spki_fingerprint(issuer)?,
        ca_pem: x509::chain_pem(std::slice::from_ref(issuer)),
        leaf,
    })
}
