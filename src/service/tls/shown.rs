//! What the listeners show, and how they speak TLS. New connections take the newest; those that are
//! there stay as they are, so a change loses no request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use tokio::sync::watch;
use uuid::Uuid;

use super::files::{ClientListener, Files, Installed, State};
use crate::clock::Timestamp;
use crate::crypto::tls::{ClientAuthority, Parameters, server_config, without_sessions};
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
    /// Held from reading the state to writing the next one, while a script may run; never taken by
    /// those who only look.
    turn: Mutex<()>,
    inner: Mutex<Inner>,
    client: watch::Sender<Arc<ServerConfig>>,
    gui: watch::Sender<Arc<ServerConfig>>,
}

struct Inner {
    own: OwnLeaf,
    state: State,
    installed: Option<Arc<Installed>>,
    authority: Option<Arc<ClientAuthority>>,
    faults: Faults,
    /// A sealed server keeps no sessions: they would outlive the sealing.
    sealed: bool,
}

/// Why something else is in force than was wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// listeners.json does not read; then it is left alone, and so is all that it may name.
    pub state: Option<String>,
    pub installed: Option<String>,
    pub authority: Option<String>,
    /// The instance identity's leaf could not be issued anew.
    pub renewal: Option<String>,
}

impl Faults {
    /// The first of those that a file's return would mend.
    pub fn of_files(&self) -> Option<&str> {
        [&self.state, &self.installed, &self.authority]
            .into_iter()
            .find_map(|fault| fault.as_deref())
    }
}

/// One listener's certificate.
#[derive(Clone, Debug)]
pub struct ShownCertificate {
    pub info: CertificateInfo,
    /// False: the instance's own leaf.
    pub installed: bool,
}

/// What a state names, read.
struct Loaded {
    state: State,
    installed: Option<Arc<Installed>>,
    authority: Option<Arc<ClientAuthority>>,
    faults: Faults,
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
            faults: Faults::default(),
            sealed,
        };
        let (client, gui) = inner.configs()?;
        let (client, client_shown) = watch::channel(client);
        let (gui, gui_shown) = watch::channel(gui);
        let shown = Self {
            inner: Mutex::new(inner),
            turn: Mutex::default(),
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

    /// Reads the files anew, and shows what they say as far as that can be; blocks while a script
    /// runs.
    pub fn reload(&self) {
        let _turn = self.turn();
        let loaded = match self.files.state() {
            Ok(state) => Loaded::leniently(&self.files, state),
            Err(error) => {
                log::error!(error:? = error; "what the listeners should show is not known");
                let faults = Faults {
                    state: Some(error.public),
                    ..Faults::default()
                };
                // What settings said meanwhile stays in force.
                Loaded {
                    state: State {
                        installed: None,
                        previous: None,
                        client_ca: None,
                        ..self.state()
                    },
                    installed: None,
                    authority: None,
                    faults,
                }
            }
        };
        if let Err(error) = self.put(loaded) {
            log::error!(error:? = error; "the listeners show what they did before");
        }
    }

    /// From now on, as an open server does.
    pub fn opened(&self, own: OwnLeaf) -> Result<()> {
        let mut inner = self.lock();
        inner.own = own;
        inner.sealed = false;
        self.send(&inner)
    }

    /// The instance identity issued another leaf.
    pub fn renewed(&self, own: OwnLeaf) -> Result<()> {
        let mut inner = self.lock();
        inner.own = own;
        inner.faults.renewal = None;
        self.send(&inner)
    }

    /// The instance identity's leaf could not be issued anew.
    pub fn not_renewed(&self, error: &Error) {
        self.lock().faults.renewal = Some(error.public.clone());
    }

    fn send(&self, inner: &Inner) -> Result<()> {
        let (client, gui) = inner.configs()?;
        self.client.send_replace(client);
        self.gui.send_replace(gui);
        Ok(())
    }

    /// Shows it, or leaves everything as it is.
    fn put(&self, loaded: Loaded) -> Result<()> {
        let mut inner = self.lock();
        let (client, gui) = inner.configs_of(&loaded)?;
        let renewal = inner.faults.renewal.take();
        (inner.state, inner.installed, inner.authority) =
            (loaded.state, loaded.installed, loaded.authority);
        inner.faults = Faults {
            renewal,
            ..loaded.faults
        };
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

    pub fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }

    pub fn authority(&self) -> Option<Arc<ClientAuthority>> {
        self.lock().authority.clone()
    }

    /// What a listener shows; the socket shows nothing, and counts as the clients' one.
    pub fn certificate(&self, listener: Listener) -> Result<ShownCertificate> {
        let inner = self.lock();
        let installed = match listener {
            Listener::Gui => inner.installed.as_deref(),
            Listener::Client | Listener::Socket => for_clients(&inner.state, &inner.installed),
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
    pub fn installed(&self) -> Option<Arc<Installed>> {
        self.lock().installed.clone()
    }

    /// SHA-256 of what a listener shows.
    pub fn sha256(&self, listener: Listener) -> Fingerprint {
        match self.certificate(listener) {
            Ok(shown) => Fingerprint(shown.info.sha256),
            Err(_) => Fingerprint([0; 32]),
        }
    }

    /// Makes another state of the one there is, writes it and shows it; one at a time, and blocking
    /// while a script runs. What it gives up is returned, to go back to.
    ///
    /// # Errors
    /// It cannot be shown, or the state there is does not read; then everything is as it was.
    pub fn change(&self, alter: impl FnOnce(&Self) -> Result<State>) -> Result<State> {
        let _turn = self.turn();
        if let Some(why) = &self.lock().faults.state {
            return Err(Error::conflict(
                "tls_state_damaged",
                format!(
                    "{why}; put back the file, or move it away and restart: what it named is still beside it"
                ),
            ));
        }
        let before = self.state();
        let state = alter(self)?;
        if state == before {
            return Ok(before);
        }
        // Tried before it is written: what cannot be shown must not be found at the next start.
        let loaded = self.loaded(state.clone(), &before)?;
        self.lock().configs_of(&loaded)?;
        self.files.write_state(&state).inspect_err(|_| {
            if let Err(error) = self.files.write_state(&before) {
                log::error!(error:? = error; "tls/listeners.json may be changed");
            }
        })?;
        self.put(loaded)?;
        Ok(before)
    }

    /// What a state names. What it shares with the one before stays as it is, its faults included: a
    /// certificate that cannot be read just now must not keep others from being changed.
    fn loaded(&self, state: State, before: &State) -> Result<Loaded> {
        let (installed, authority, old) = {
            let inner = self.lock();
            (
                inner.installed.clone(),
                inner.authority.clone(),
                inner.faults.clone(),
            )
        };
        let mut faults = Faults::default();
        let installed = match state.installed {
            same if same == before.installed => {
                faults.installed = old.installed;
                installed
            }
            Some(id) => Some(Arc::new(self.files.certificate(id)?)),
            None => None,
        };
        let authority = match &state.client_ca {
            same if *same == before.client_ca => {
                faults.authority = old.authority;
                authority
            }
            Some(wanted) => Some(Arc::new(self.files.authority(wanted)?)),
            None => None,
        };
        Ok(Loaded {
            state,
            installed,
            authority,
            faults,
        })
    }

    /// Makes a setting hold; true if it was one of these. Does not block: nothing is read anew.
    ///
    /// # Errors
    /// The value cannot take effect.
    pub fn apply(&self, name: &str, value: &str) -> Result<bool> {
        let with = |state: &State| -> Result<Option<State>> {
            let mut state = state.clone();
            match name {
                setting::TLS_MINIMUM_VERSION => state.parameters.minimum_version = value.parse()?,
                setting::TLS_CIPHERS => state.parameters.ciphers = value.to_owned(),
                setting::TLS_CLIENT_LISTENER => {
                    state.client_listener = match value {
                        "installed" => ClientListener::Installed,
                        _ => ClientListener::Identity,
                    }
                }
                _ => return Ok(None),
            }
            Ok(Some(state))
        };
        let state = self.state();
        let Some(wanted) = with(&state)? else {
            return Ok(false);
        };
        if wanted == state {
            return Ok(true);
        }
        if self.faults().state.is_some() {
            // In force, and not written: whatever stands in the file stays there.
            let loaded = self.loaded(wanted, &state)?;
            let faults = self.faults();
            self.put(Loaded { faults, ..loaded })?;
            return Ok(true);
        }
        self.change(|shown| Ok(with(&shown.state())?.unwrap_or(wanted)))?;
        Ok(true)
    }

    /// A poisoned lock holds what was shown last.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    /// As much of it as can be read; the rest is a fault.
    fn leniently(files: &Files, state: State) -> Self {
        let mut faults = Faults::default();
        let installed = state.installed.and_then(|id| {
            files
                .certificate(id)
                .inspect_err(|error| {
                    log::error!(error:? = error; "the certificate that was installed cannot be shown; the server's own takes its place");
                    faults.installed = Some(error.public.clone());
                })
                .ok()
        });
        let authority = state.client_ca.as_ref().and_then(|wanted| {
            files
                .authority(wanted)
                .inspect_err(|error| {
                    log::error!(error:? = error; "the authority of API users cannot be read; none of them is let in by certificate");
                    faults.authority = Some(error.public.clone());
                })
                .ok()
        });
        Self {
            state,
            installed: installed.map(Arc::new),
            authority: authority.map(Arc::new),
            faults,
        }
    }
}

fn for_clients<'a>(state: &State, installed: &'a Option<Arc<Installed>>) -> Option<&'a Installed> {
    match state.client_listener {
        ClientListener::Identity => None,
        ClientListener::Installed => installed.as_deref(),
    }
}

impl Inner {
    fn configs(&self) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>)> {
        let client = for_clients(&self.state, &self.installed);
        self.built(client, self.installed.as_deref(), &self.state.parameters)
    }

    fn configs_of(&self, loaded: &Loaded) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>)> {
        let client = for_clients(&loaded.state, &loaded.installed);
        let gui = loaded.installed.as_deref();
        self.built(client, gui, &loaded.state.parameters)
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
            parameters.check_key(key)?;
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

/// How near the ends of certificates were when they were spoken of last.
#[derive(Default)]
pub struct Watch(Mutex<BTreeMap<[u8; 32], Ends>>);

impl Watch {
    /// Those whose ends came nearer since.
    pub fn nearer(&self, now: Timestamp, all: &[CertificateInfo]) -> Vec<CertificateInfo> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_nearer = |it: &&CertificateInfo| {
            let before = known.get(&it.sha256).copied();
            Ends::of(it.not_after, now) > before.unwrap_or(Ends::Later)
        };
        all.iter().filter(is_nearer).cloned().collect()
    }

    /// It was spoken of.
    pub fn told(&self, now: Timestamp, it: &CertificateInfo) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(it.sha256, Ends::of(it.not_after, now));
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
