//! The leaf that the listeners show: issued by the instance identity, kept in `tls/`, issued anew
//! before it ends.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::crypto::tls::server_config;
use crate::crypto::x509::{self, InstanceIdentity, LEAF_DAYS};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::id::Fingerprint;
use crate::secret::Secret;

/// A leaf is renewed within so many days of its end.
const RENEW_DAYS: i64 = 30;
const MOST_PEM: u64 = 256 << 10;

/// Shows the listeners a new leaf before the old one ends.
pub struct Renewal {
    folder: Folder,
    identity: InstanceIdentity,
    fqdn: String,
    not_after: Timestamp,
    client: watch::Sender<Arc<ServerConfig>>,
    gui: watch::Sender<Arc<ServerConfig>>,
}

/// What the listeners take their certificates from.
pub struct Shown {
    pub client: watch::Receiver<Arc<ServerConfig>>,
    pub gui: watch::Receiver<Arc<ServerConfig>>,
}

impl Renewal {
    pub fn new(
        folder: Folder,
        identity: InstanceIdentity,
        fqdn: String,
        leaf: Leaf,
    ) -> (Self, Shown) {
        let (client, client_shown) = watch::channel(leaf.client);
        let (gui, gui_shown) = watch::channel(leaf.gui);
        let renewal = Self {
            folder,
            identity,
            fqdn,
            not_after: leaf.not_after,
            client,
            gui,
        };
        (
            renewal,
            Shown {
                client: client_shown,
                gui: gui_shown,
            },
        )
    }

    /// The new leaf's SHA-256, if it was time for one.
    pub fn renew_if_due(&mut self, now: Timestamp) -> Result<Option<Fingerprint>> {
        if self.not_after >= now.plus(RENEW_DAYS * Timestamp::DAY) {
            return Ok(None);
        }
        let leaf = load(&self.folder, &self.identity, &self.fqdn, now)?;
        self.not_after = leaf.not_after;
        self.client.send_replace(leaf.client);
        self.gui.send_replace(leaf.gui);
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
    folder::replace(&tls.join("leaf.key"), leaf.key_pem.expose().as_bytes())?;
    folder::replace(&tls.join("leaf.pem"), leaf.cert_pem.as_bytes())
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

/// # Errors
/// Why the leaf cannot be used.
pub fn read(
    folder: &Folder,
    identity: &InstanceIdentity,
    fqdn: &str,
    now: Timestamp,
) -> Result<Leaf> {
    let unfit = |why: &str| Error::unavailable("certificate_unfit", format!("tls/leaf.pem {why}"));
    let pem = folder::read(&folder.tls().join("leaf.pem"), MOST_PEM)?;
    let key = folder::read(&folder.tls().join("leaf.key"), MOST_PEM)?;
    let key = Secret::new(String::from_utf8(key).map_err(|_| unfit("has a key that is not PEM"))?);
    let chain = x509::parse_certificate_pem(&pem)?;
    let info = x509::inspect(chain.first().ok_or_else(|| unfit("holds no certificate"))?)?;
    x509::check_key_matches(&chain[0], &key)?;
    if chain.last().map(Vec::as_slice) != Some(identity.ca_der()) {
        return Err(unfit("was issued by another instance"));
    }
    if info.subject != format!("CN={fqdn}") {
        return Err(unfit(&format!("is not for {fqdn}")));
    }
    if info.not_before > now || info.not_after < now.plus(RENEW_DAYS * Timestamp::DAY) {
        return Err(unfit(&format!(
            "is valid from {} to {}",
            info.not_before, info.not_after
        )));
    }
    let pem = String::from_utf8(pem).map_err(|_| unfit("is not PEM"))?;
    Ok(Leaf {
        client: server_config(&pem, &key, true, &[b"http/1.1"])?,
        gui: server_config(&pem, &key, false, &[b"h2", b"http/1.1"])?,
        sha256: Fingerprint(info.sha256),
        not_after: info.not_after,
    })
}
