//! What the listeners show, and how they speak TLS. New connections take the newest; those that are
//! there stay as they are, so a change loses no request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use tokio::sync::watch;
use uuid::Uuid;

use super::files::{ClientListener, Files, Installed, State};
use crate::clock::{self, Timestamp};
use crate::crypto::tls::{ClientAuthority, Parameters, server_config, suites, without_sessions};
use crate::crypto::x509::{self, CertificateInfo};
use crate::error::{Error, Result};
use crate::model::id::Fingerprint;
use crate::model::setting;
use crate::secret::Secret;
use crate::service::caller::Listener;

/// The leaf that the instance identity issued, and what it says.
pub struct OwnLeaf {
    pub cert_pem: String,
    pub key_pem: Secret<String>,
    pub info: CertificateInfo,
}

/// Where new connections find how to speak.
pub struct Configs {
    pub client: watch::Receiver<Arc<ServerConfig>>,
    pub gui: watch::Receiver<Arc<ServerConfig>>,
}

pub struct Shown {
    files: Files,
    inner: Mutex<Inner>,
    client: watch::Sender<Arc<ServerConfig>>,
    gui: watch::Sender<Arc<ServerConfig>>,
}

struct Inner {
    own: OwnLeaf,
    state: State,
    installed: Option<Arc<Installed>>,
    authority: Option<Arc<ClientAuthority>>,
    /// Why the state or what it names is not what is shown.
    fault: Option<String>,
    /// Why the instance identity's leaf could not be issued anew.
    renewal_fault: Option<String>,
    /// A sealed server keeps no sessions: they would outlive the sealing.
    sealed: bool,
}

/// One listener's certificate.
#[derive(Clone, Debug)]
pub struct ShownCertificate {
    pub info: CertificateInfo,
    /// False: the instance's own leaf.
    pub installed: bool,
}

impl Shown {
    /// What cannot be shown does not keep the server from starting: its own leaf takes the place.
    ///
    /// # Errors
    /// The own leaf cannot be shown.
    pub fn load(files: Files, own: OwnLeaf, sealed: bool) -> Result<(Self, Configs)> {
        let inner = Inner {
            own,
            state: State::default(),
            installed: None,
            authority: None,
            fault: None,
            renewal_fault: None,
            sealed,
        };
        let (client, gui) = inner.configs()?;
        let (client, client_shown) = watch::channel(client);
        let (gui, gui_shown) = watch::channel(gui);
        let shown = Self {
            inner: Mutex::new(inner),
            files,
            client,
            gui,
        };
        shown.reload();
        let configs = Configs {
            client: client_shown,
            gui: gui_shown,
        };
        Ok((shown, configs))
    }

    /// Reads the files anew, and shows what they say; what is wrong with them is kept for health.
    pub fn reload(&self) {
        let mut inner = self.lock();
        let read = inner.read(&self.files).and_then(|()| self.put(&mut inner));
        if let Err(error) = read {
            log::error!(error:? = error; "what the listeners should show cannot be shown; the instance's own certificate takes its place");
            inner.installed = None;
            inner.authority = None;
            inner.fault = Some(error.public);
            if let Err(error) = self.put(&mut inner) {
                log::error!(error:? = error; "the listeners show what they did before");
            }
        }
    }

    /// From now on, as an open server does.
    pub fn opened(&self, own: OwnLeaf) -> Result<()> {
        let mut inner = self.lock();
        inner.own = own;
        inner.sealed = false;
        self.put(&mut inner)
    }

    /// The instance identity issued another leaf.
    pub fn renewed(&self, own: OwnLeaf) -> Result<()> {
        let mut inner = self.lock();
        inner.own = own;
        inner.renewal_fault = None;
        self.put(&mut inner)
    }

    /// The instance identity's leaf could not be issued anew.
    pub fn not_renewed(&self, error: &Error) {
        self.lock().renewal_fault = Some(error.public.clone());
    }

    pub fn renewal_fault(&self) -> Option<String> {
        self.lock().renewal_fault.clone()
    }

    fn put(&self, inner: &mut Inner) -> Result<()> {
        let (client, gui) = inner.configs()?;
        self.client.send_replace(client);
        self.gui.send_replace(gui);
        Ok(())
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Why something else is shown than the operator wants.
    pub fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    pub fn authority(&self) -> Option<Arc<ClientAuthority>> {
        self.lock().authority.clone()
    }

    /// What a listener shows; the socket shows nothing, and counts as the clients' one.
    pub fn certificate(&self, listener: Listener) -> Result<ShownCertificate> {
        let inner = self.lock();
        let installed = match listener {
            Listener::Gui => inner.installed.as_deref(),
            Listener::Client | Listener::Socket => inner.for_clients(),
        };
        Ok(match installed {
            Some(installed) => ShownCertificate {
                info: installed.info()?,
                installed: true,
            },
            None => ShownCertificate {
                info: inner.own.info.clone(),
                installed: false,
            },
        })
    }

    /// The operator's certificate, whoever shows it.
    pub fn installed(&self) -> Result<Option<CertificateInfo>> {
        let inner = self.lock();
        inner.installed.as_ref().map(|it| it.info()).transpose()
    }

    /// SHA-256 of what a listener shows.
    pub fn sha256(&self, listener: Listener) -> Fingerprint {
        match self.certificate(listener) {
            Ok(shown) => Fingerprint(shown.info.sha256),
            Err(_) => Fingerprint([0; 32]),
        }
    }

    /// The key of the operator's certificate.
    pub fn installed_key(&self) -> Option<Secret<String>> {
        let inner = self.lock();
        inner
            .installed
            .as_ref()
            .map(|it| Secret::new(it.key_pem.expose().clone()))
    }

    /// Writes another state, and shows it. Whoever calls has a turn.
    ///
    /// # Errors
    /// It cannot be shown; then everything is as it was.
    pub fn change(&self, state: &State) -> Result<()> {
        let before = self.state();
        // Tried before it is written: what cannot be shown must not be found at the next start. A script
        // may have to give a password, which takes its time, so nobody waits for the lock meanwhile.
        let kept = self.lock().installed.clone();
        let kept = kept.filter(|_| state.installed == before.installed);
        let fresh = Inner::loaded(&self.files, state.clone(), kept)?;
        let mut inner = self.lock();
        let (client, gui) = inner.configs_of(&fresh)?;
        self.files.write_state(state).inspect_err(|_| {
            if let Err(error) = self.files.write_state(&before) {
                log::error!(error:? = error; "tls/listeners.json may be changed");
            }
        })?;
        (inner.state, inner.installed, inner.authority) =
            (fresh.state, fresh.installed, fresh.authority);
        inner.fault = None;
        self.client.send_replace(client);
        self.gui.send_replace(gui);
        Ok(())
    }

    /// Makes a setting hold; true if it was one of these.
    ///
    /// # Errors
    /// The value cannot take effect.
    pub fn apply(&self, name: &str, value: &str) -> Result<bool> {
        let mut state = self.state();
        match name {
            setting::TLS_MINIMUM_VERSION => state.parameters.minimum_version = value.parse()?,
            setting::TLS_CIPHERS => {
                suites(value)?;
                state.parameters.ciphers = value.to_owned();
            }
            setting::TLS_CLIENT_LISTENER => {
                state.client_listener = match value {
                    "installed" => ClientListener::Installed,
                    _ => ClientListener::Identity,
                }
            }
            _ => return Ok(false),
        }
        if state != self.state() {
            self.change(&state)?;
        }
        Ok(true)
    }

    /// A poisoned lock holds what was shown last.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a state names, read.
struct Loaded {
    state: State,
    installed: Option<Arc<Installed>>,
    authority: Option<Arc<ClientAuthority>>,
}

impl Inner {
    fn loaded(files: &Files, state: State, kept: Option<Arc<Installed>>) -> Result<Loaded> {
        let installed = match (kept, state.installed) {
            (Some(kept), _) => Some(kept),
            (None, Some(id)) => Some(Arc::new(files.certificate(id)?)),
            (None, None) => None,
        };
        let authority = state
            .client_ca_depth
            .map(|depth| files.authority(depth, clock::now()));
        Ok(Loaded {
            installed,
            authority: authority.transpose()?.map(Arc::new),
            state,
        })
    }

    fn read(&mut self, files: &Files) -> Result<()> {
        self.state = files.state()?;
        let loaded = Self::loaded(files, self.state.clone(), None)?;
        self.installed = loaded.installed;
        self.authority = loaded.authority;
        self.fault = None;
        Ok(())
    }

    fn for_clients(&self) -> Option<&Installed> {
        match self.state.client_listener {
            ClientListener::Identity => None,
            ClientListener::Installed => self.installed.as_deref(),
        }
    }

    fn configs(&self) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>)> {
        self.built(
            self.for_clients(),
            self.installed.as_deref(),
            &self.state.parameters,
        )
    }

    fn configs_of(&self, loaded: &Loaded) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>)> {
        let for_clients = match loaded.state.client_listener {
            ClientListener::Identity => None,
            ClientListener::Installed => loaded.installed.as_deref(),
        };
        self.built(
            for_clients,
            loaded.installed.as_deref(),
            &loaded.state.parameters,
        )
    }

    fn built(
        &self,
        client: Option<&Installed>,
        gui: Option<&Installed>,
        parameters: &Parameters,
    ) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>)> {
        let config = |installed: Option<&Installed>, asks: bool, alpn: &[&[u8]]| {
            let (pem, key) = match installed {
                Some(it) => (&it.cert_pem, &it.key_pem),
                None => (&self.own.cert_pem, &self.own.key_pem),
            };
            let config = server_config(pem, key, asks, alpn, parameters)?;
            Ok::<_, Error>(match self.sealed {
                true => without_sessions(&config),
                false => config,
            })
        };
        Ok((
            config(client, true, &[b"http/1.1"])?,
            config(gui, false, &[b"h2", b"http/1.1"])?,
        ))
    }
}

impl Installed {
    pub fn info(&self) -> Result<CertificateInfo> {
        match self.chain.first() {
            Some(leaf) => x509::inspect(leaf),
            None => Err(Error::internal("an installed certificate is empty")),
        }
    }
}

/// How long before its end a certificate is spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    Later,
    Within30Days,
    Within14Days,
    Within3Days,
    Over,
}

impl Ends {
    pub fn of(not_after: Timestamp, now: Timestamp) -> Self {
        let left = not_after.0 - now.0;
        match left {
            ..=0 => Self::Over,
            _ if left <= 3 * Timestamp::DAY => Self::Within3Days,
            _ if left <= 14 * Timestamp::DAY => Self::Within14Days,
            _ if left <= 30 * Timestamp::DAY => Self::Within30Days,
            _ => Self::Later,
        }
    }
}

/// The certificates that end by themselves, and how near their ends were when last looked at.
#[derive(Default)]
pub struct Watch(Mutex<BTreeMap<[u8; 32], Ends>>);

impl Watch {
    /// Those whose ends came nearer since the last look.
    pub fn nearer(
        &self,
        now: Timestamp,
        certificates: &[CertificateInfo],
    ) -> Vec<(Ends, CertificateInfo)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = BTreeMap::new();
        let mut nearer = Vec::new();
        for certificate in certificates {
            let ends = Ends::of(certificate.not_after, now);
            let before = known.get(&certificate.sha256);
            if ends > before.copied().unwrap_or(Ends::Later) {
                nearer.push((ends, certificate.clone()));
            }
            found.insert(certificate.sha256, ends);
        }
        *known = found;
        nearer
    }
}

/// A state that names this certificate; what was shown before is what `rollback` goes back to.
pub fn with_installed(state: &State, id: Uuid) -> State {
    State {
        previous: state.installed,
        installed: Some(id),
        ..state.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_spoken_of_at_30_14_and_3_days() {
        let now = Timestamp(1_000_000_000_000_000);
        let at = |days: i64, micros: i64| Ends::of(now.plus(days * Timestamp::DAY + micros), now);
        assert_eq!(at(30, 1), Ends::Later);
        assert_eq!(at(30, 0), Ends::Within30Days);
        assert_eq!(at(14, 1), Ends::Within30Days);
        assert_eq!(at(14, 0), Ends::Within14Days);
        assert_eq!(at(3, 1), Ends::Within14Days);
        assert_eq!(at(3, 0), Ends::Within3Days);
        assert_eq!(at(0, 1), Ends::Within3Days);
        assert_eq!(at(0, 0), Ends::Over);
    }
}
