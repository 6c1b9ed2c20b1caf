//! The server's OpenPGP identity: made once, in the background, since it takes a second or more of a
//! processor. Its public half lies in clear beside the store, so that a sealed server tells it, too.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::{Service, object};
use crate::clock;
use crate::crypto::openpgp::{self, Made, Public};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};

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
    known: watch::Sender<Option<Arc<Public>>>,
    wanted: Notify,
}

impl OpenPgp {
    /// Reads the public half, if it is there.
    pub fn load(folder: &Folder) -> Self {
        let path = folder.openpgp();
        let read = path.exists().then(|| {
            let text = folder::read(&path, MOST)?;
            openpgp::read_public(&String::from_utf8_lossy(&text))
        });
        let known = match read {
            Some(Ok(public)) => Some(Arc::new(public)),
            // Written anew from the store as soon as that is open.
            Some(Err(error)) => {
                log::warn!(error:? = error; "openpgp.asc cannot be read");
                None
            }
            None => None,
        };
        Self {
            path,
            known: watch::Sender::new(known),
            wanted: Notify::new(),
        }
    }

    /// The public half; waits for it while it is made. `open`: whether it can be made.
    ///
    /// # Errors
    /// `sealed`, or `openpgp_not_ready` after a minute.
    pub async fn public(&self, open: impl Fn() -> Result<()>) -> Result<Arc<Public>> {
        let mut known = self.known.subscribe();
        if let Some(public) = known.borrow().as_ref() {
            return Ok(Arc::clone(public));
        }
        open()?;
        self.wanted.notify_one();
        let there = tokio::time::timeout(PATIENCE, known.wait_for(Option::is_some)).await;
        let public = there.ok().and_then(|found| found.ok()?.clone());
        public.ok_or_else(|| {
            Error::unavailable(
                "openpgp_not_ready",
                "the server's OpenPGP key is still being made; ask again in a minute",
            )
            .after(60)
        })
    }

    /// What the store says; a file that says something else was put there by someone.
    fn found(&self, public: Public) -> Result<()> {
        let before = self.known.borrow().clone();
        if before.as_deref() == Some(&public) {
            return Ok(());
        }
        if before.is_some() {
            log::error!(fingerprint = public.fingerprint.as_str(); "openpgp.asc held another key than the store's, and is written anew");
        }
        folder::replace(&self.path, public.armored.as_bytes())?;
        self.known.send_replace(Some(Arc::new(public)));
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
            // Of another store, or put there: what is told is what this one has.
            openpgp.known.send_replace(None);
            return Ok(false);
        };
        let secret = self.keyring.open_system(NAME, &kept.wrapped)?;
        openpgp.found(openpgp::public_half(&secret)?)?;
        Ok(true)
    }

    async fn openpgp_keep(&self, openpgp: &OpenPgp, made: Made) -> Result<()> {
        let Made { secret, public } = made;
        let key_object = object("openpgp_key", "", &public.fingerprint);
        self.keep_system_key(NAME, &secret, VERB, key_object)
            .await?;
        openpgp.found(public)
    }
}
