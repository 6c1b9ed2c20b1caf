//! The server's OpenPGP identity: made once, in the background, since it takes a second or more of a
//! processor. Its public half lies in clear beside the store, so that a sealed server tells it, too.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::{Service, object};
use crate::clock;
use crate::crypto::openpgp::{self, Made, Public};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::store::WrappedKey;

/// The name under which the secret half lies in the store.
const NAME: &str = "openpgp";
const VERB: &str = "server.openpgp_key";
const MOST: u64 = 64 << 10;
/// Whoever asks while it is made waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server that was just started has better things to do, unless someone asks.
const NOT_YET: Duration = Duration::from_secs(10);

/// What is known of it, sealed or open.
pub struct OpenPgp {
    path: PathBuf,
    known: OnceLock<Public>,
    there: watch::Sender<bool>,
    wanted: Notify,
}

impl OpenPgp {
    /// Reads the public half, if it is there.
    pub fn load(folder: &Folder) -> Self {
        let path = folder.openpgp();
        let known = OnceLock::new();
        let read = path.exists().then(|| {
            let text = folder::read(&path, MOST)?;
            openpgp::read_public(&String::from_utf8_lossy(&text))
        });
        match read {
            Some(Ok(public)) => {
                let _ = known.set(public);
            }
            // Written anew from the store as soon as that is open.
            Some(Err(error)) => log::warn!(error:? = error; "openpgp.asc cannot be read"),
            None => {}
        }
        Self {
            path,
            there: watch::Sender::new(known.get().is_some()),
            known,
            wanted: Notify::new(),
        }
    }

    /// The public half; waits for it while it is made. `open`: whether it can be made.
    ///
    /// # Errors
    /// `sealed`, or `openpgp_not_ready` after a minute.
    pub async fn public(&self, open: impl Fn() -> Result<()>) -> Result<&Public> {
        if let Some(public) = self.known.get() {
            return Ok(public);
        }
        open()?;
        self.wanted.notify_one();
        let mut there = self.there.subscribe();
        let _ = tokio::time::timeout(PATIENCE, there.wait_for(|there| *there)).await;
        self.known.get().ok_or_else(|| {
            Error::unavailable(
                "openpgp_not_ready",
                "the server's OpenPGP key is still being made; ask again in a minute",
            )
            .after(60)
        })
    }

    fn found(&self, public: Public) -> Result<()> {
        folder::replace(&self.path, public.armored.as_bytes())?;
        let _ = self.known.set(public);
        self.there.send_replace(true);
        Ok(())
    }
}

/// Makes the key if there is none yet. Runs beside all else, and keeps no server from ending.
pub async fn ensure(service: Weak<Service>, openpgp: Arc<OpenPgp>) {
    if let Err(error) = made(&service, &openpgp).await {
        log::warn!(error:? = error; "the server's OpenPGP key is not there; the next start tries again");
    }
}

async fn made(service: &Weak<Service>, openpgp: &OpenPgp) -> Result<()> {
    let Some(open) = service.upgrade() else {
        return Ok(());
    };
    if open.openpgp_is_kept(openpgp)? {
        return Ok(());
    }
    let user_id = format!("Strongroom {}", open.facts.config.fqdn);
    drop(open);
    let _ = tokio::time::timeout(NOT_YET, openpgp.wanted.notified()).await;
    let (made, making) = oneshot::channel();
    // Not one of the runtime's threads: those are waited for when the server ends.
    std::thread::Builder::new()
        .name("openpgp".to_owned())
        .spawn(move || {
            let _ = made.send(openpgp::generate(&user_id, clock::now()));
        })
        .map_err(|error| Error::internal(error.to_string()))?;
    let made = making
        .await
        .map_err(|_| Error::internal("the OpenPGP key was not made"))??;
    match service.upgrade() {
        Some(open) => open.openpgp_keep(openpgp, made).await,
        None => Ok(()),
    }
}

impl Service {
    /// Whether the store has the key; then its public half is known.
    fn openpgp_is_kept(&self, openpgp: &OpenPgp) -> Result<bool> {
        let Some(kept) = self.store.system_key(NAME)? else {
            return Ok(false);
        };
        if openpgp.known.get().is_none() {
            let secret = self.keyring.open_system(NAME, &kept.wrapped)?;
            openpgp.found(openpgp::public_half(&secret)?)?;
        }
        Ok(true)
    }

    async fn openpgp_keep(&self, openpgp: &OpenPgp, made: Made) -> Result<()> {
        let Made { secret, public } = made;
        let _root = self.root.read().await;
        let key = WrappedKey {
            name: NAME.to_owned(),
            version: 1,
            wrapped: self.keyring.seal_system(NAME, &secret)?,
        };
        // Opened once before it is relied on.
        self.keyring.open_system(NAME, &key.wrapped)?;
        let own = Self::own_context();
        let key_object = object("openpgp_key", "", &public.fingerprint);
        let change = self.change(&own, VERB, key_object, clock::now());
        self.store.add_system_key(change, key).await?;
        openpgp.found(public)
    }
}
