//! The leaf that the listeners show: issued by the instance identity, kept in `tls/`, issued anew
//! before it ends.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::crypto::tls::server_config;
use crate::crypto::x509::{self, CertificateInfo, InstanceIdentity, LEAF_DAYS};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::http::Tls;
use crate::model::id::Fingerprint;
use crate::secret::Secret;

/// A leaf is renewed within so many days of its end.
const RENEW_DAYS: i64 = 30;
const MOST_PEM: u64 = 256 << 10;
const NEXT: &str = "leaf.pem.next";

/// Changes what the listeners show.
#[derive(Clone)]
pub struct Show {
    client: watch::Sender<Arc<ServerConfig>>,
    gui: watch::Sender<Arc<ServerConfig>>,
}

impl Show {
    pub fn new(leaf: &Leaf) -> (Self, Tls) {
        let (client, client_shown) = watch::channel(Arc::clone(&leaf.client));
        let (gui, gui_shown) = watch::channel(Arc::clone(&leaf.gui));
        let tls = Tls {
            client: client_shown,
            gui: gui_shown,
            fingerprint: x509::spki_fingerprint,
        };
        (Self { client, gui }, tls)
    }

    /// New connections are shown this leaf from now on.
    pub fn put(&self, leaf: &Leaf) {
        self.client.send_replace(Arc::clone(&leaf.client));
        self.gui.send_replace(Arc::clone(&leaf.gui));
    }
}

/// Shows the listeners a new leaf before the old one ends.
pub struct Renewal {
    folder: Folder,
    identity: InstanceIdentity,
    fqdn: String,
    not_after: Timestamp,
    show: Show,
}

impl Renewal {
    pub fn new(
        folder: Folder,
        identity: InstanceIdentity,
        fqdn: String,
        leaf: &Leaf,
        show: Show,
    ) -> Self {
        Self {
            folder,
            identity,
            fqdn,
            not_after: leaf.not_after,
            show,
        }
    }

    /// The new leaf's SHA-256, if it was time for one.
    pub fn renew_if_due(&mut self, now: Timestamp) -> Result<Option<Fingerprint>> {
        if self.not_after >= now.plus(RENEW_DAYS * Timestamp::DAY) {
            return Ok(None);
        }
        let leaf = load(&self.folder, &self.identity, &self.fqdn, now)?;
        self.not_after = leaf.not_after;
        self.show.put(&leaf);
        Ok(Some(leaf.sha256))
    }
}

pub struct Leaf {
    pub client: Arc<ServerConfig>,
    pub gui: Arc<ServerConfig>,
    pub sha256: Fingerprint,
    pub not_after: Timestamp,
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
) -> Result<Leaf> {
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
    pem: String,
    key: Secret<String>,
    chain: Vec<Vec<u8>>,
    info: CertificateInfo,
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
    Ok(Lying {
        pem,
        key,
        chain,
        info,
    })
}

impl Lying {
    fn leaf(&self) -> Result<Leaf> {
        Ok(Leaf {
            client: server_config(&self.pem, &self.key, true, &[b"http/1.1"])?,
            gui: server_config(&self.pem, &self.key, false, &[b"h2", b"http/1.1"])?,
            sha256: Fingerprint(self.info.sha256),
            not_after: self.info.not_after,
        })
    }
}

/// # Errors
/// Why the leaf cannot be used.
pub fn read(
    folder: &Folder,
    identity: &InstanceIdentity,
    fqdn: &str,
    now: Timestamp,
) -> Result<Leaf> {
    let lying = lying(folder)?;
    if lying.chain.last().map(Vec::as_slice) != Some(identity.ca_der()) {
        return Err(unfit("was issued by another instance"));
    }
    let info = &lying.info;
    if info.subject != format!("CN={fqdn}") {
        return Err(unfit(&format!("is not for {fqdn}")));
    }
    if info.not_before > now || info.not_after < now.plus(RENEW_DAYS * Timestamp::DAY) {
        return Err(unfit(&format!(
            "is valid from {} to {}",
            info.not_before, info.not_after
        )));
    }
    lying.leaf()
}

/// What a sealed server shows, and who it then says it is: the leaf as it lies there, since nothing
/// can be issued, and no tickets, since they would outlive the sealing.
pub struct SealedLeaf {
    pub leaf: Leaf,
    pub server_fingerprint: Fingerprint,
    pub ca_pem: String,
}

/// # Errors
/// The leaf cannot be used at all; started with a slot's secret, the server issues another.
pub fn read_sealed(folder: &Folder) -> Result<SealedLeaf> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let lying = lying(folder)?;
    let issuer = lying
        .chain
        .last()
        .ok_or_else(|| unfit("holds no certificate"))?;
    let ca_pem = lying.pem.rfind(BEGIN).map_or("", |at| &lying.pem[at..]);
    let mut leaf = lying.leaf()?;
    for config in [&mut leaf.client, &mut leaf.gui] {
        let config = Arc::make_mut(config);
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(SealedLeaf {
        leaf,
        server_fingerprint: x509::spki_fingerprint(issuer)?,
        ca_pem: ca_pem.to_owned(),
    })
}
