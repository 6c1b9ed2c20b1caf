//! The certificates of the listeners: shown, asked for, installed, rolled back. A change holds for
//! connections made from then on.

pub mod files;
mod script;
pub mod shown;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::{Action, Target};
use super::caller::{Context, Listener};
use super::{Service, object, once, to_its_end};
use crate::api::tls::{
    Certificate, ClientCa, Install, InstalledCertificate, NewRequest, SelfSign, SetClientCa,
    Shown as ShownView, SigningRequest, Tls,
};
use crate::clock::{self, Timestamp};
use crate::crypto::tls::ClientAuthority;
use crate::crypto::x509::{self, Arranged, CertificateInfo, Material};
use crate::error::{Error, Kind, Result};
use crate::model::id::Fingerprint;
use crate::secret::Secret;
use files::{ClientCaState, Files, State};
pub use script::password;
use shown::{Ends, Shown, with_installed};

const MOST_DAYS: u32 = 3_650;
/// The part of health that is about certificates.
pub const BOARD: &str = "certificates";
/// What mends one that cannot be shown.
pub const MEND: &str =
    "mend that (it is tried again each minute), or install another: strongroom tls install";
const NEXT_STEP: &str =
    "install another: strongroom tls csr, then strongroom tls install (or tls self-signed)";

/// What an installation wants to be shown.
struct Wanted {
    arranged: Arranged,
    /// As it is to lie in `tls/`: behind the script's password, or plain.
    key_to_keep: Secret<String>,
}

impl Service {
    pub async fn tls_show(&self, ctx: &Context) -> Result<Tls> {
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsRead, &Target::Server, "tls.show", tls)?;
        view(&self.tls)
    }

    /// A signing request. A new key is kept until a certificate for it is installed; of the one in use
    /// there is no copy.
    pub async fn tls_request(
        self: &Arc<Self>,
        ctx: &Context,
        request: NewRequest,
    ) -> Result<SigningRequest> {
        const VERB: &str = "tls.csr";
        self.may_change_tls(ctx, VERB)?;
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        to_its_end(async move { this.tls_requested(&ctx, VERB, request).await }).await
    }

    async fn tls_requested(
        &self,
        ctx: &Context,
        verb: &str,
        request: NewRequest,
    ) -> Result<SigningRequest> {
        let _turn = self.tls_turn.lock().await;
        if let Some(first) = self.first_tls_answer(ctx)? {
            return Ok(first);
        }
        let (fqdn, shown) = (self.facts.config.fqdn.clone(), Arc::clone(&self.tls));
        let answer = tokio::task::spawn_blocking(move || {
            let files = shown.files();
            let (key, is_kept) = match (request.new_key, shown.installed()) {
                (true, _) => (x509::new_key_pem()?, false),
                (false, Some(it)) => (Secret::new(it.key_pem.expose().clone()), true),
                // A copy: the leaf's own changes when it is renewed.
                (false, None) => (files.leaf_key()?, false),
            };
            let csr = x509::certificate_request(&key, &fqdn, &request.names)?;
            if !is_kept {
                files.write_request_key(&key)?;
            }
            Ok::<_, Error>(SigningRequest {
                request: csr,
                spki_sha256: x509::key_fingerprint(&key)?,
            })
        });
        let answer = answer
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        let name = &self.facts.config.fqdn;
        let mut change = self.change(ctx, verb, object("tls", "", name), clock::now());
        change.event.detail = format!("public key {}", answer.spki_sha256);
        self.store.note_with(change, answer).await
    }

    /// A certificate that signs itself, with a key of its own.
    pub async fn tls_self_sign(
        self: &Arc<Self>,
        ctx: &Context,
        request: SelfSign,
    ) -> Result<InstalledCertificate> {
        const VERB: &str = "tls.self_signed";
        self.may_change_tls(ctx, VERB)?;
        if !(1..=MOST_DAYS).contains(&request.days) {
            return Err(Error::invalid(
                "days",
                format!("a certificate is made for 1 to {MOST_DAYS} days"),
            ));
        }
        let fqdn = self.facts.config.fqdn.clone();
        self.tls_installing(ctx, VERB, move |_| {
            let key = x509::new_key_pem()?;
            let pem = x509::self_signed(&key, &fqdn, &request.names, request.days, clock::now())?;
            Ok(Wanted {
                arranged: x509::arrange(x509::parse_certificate_pem(pem.as_bytes())?, &key)?,
                key_to_keep: key,
            })
        })
        .await
    }

    pub async fn tls_install(
        self: &Arc<Self>,
        ctx: &Context,
        request: Install,
    ) -> Result<InstalledCertificate> {
        const VERB: &str = "tls.install";
        self.may_change_tls(ctx, VERB)?;
        let (fqdn, shown) = (self.facts.config.fqdn.clone(), Arc::clone(&self.tls));
        self.tls_installing(ctx, VERB, move |files| {
            let any_name = request.other_name;
            let wanted = wanted(files, &shown, request)?;
            x509::check_server(&wanted.arranged.chain, &fqdn, any_name, clock::now())?;
            Ok(wanted)
        })
        .await
    }

    /// Back to what was shown before; once more, and forth again.
    pub async fn tls_roll_back(self: &Arc<Self>, ctx: &Context) -> Result<Tls> {
        const VERB: &str = "tls.rollback";
        self.may_change_tls(ctx, VERB)?;
        let alter = |shown: &Shown| {
            let state = shown.state();
            if state.installed.is_none() && state.previous.is_none() {
                return Err(Error::conflict(
                    "nothing_before",
                    "no other certificate was shown before this one",
                ));
            }
            let state = State {
                installed: state.previous,
                previous: state.installed,
                ..state
            };
            Ok((state, ()))
        };
        self.tls_change(ctx, VERB, alter, |tls, ()| tls).await
    }

    pub async fn tls_set_client_ca(
        self: &Arc<Self>,
        ctx: &Context,
        request: SetClientCa,
    ) -> Result<Tls> {
        const VERB: &str = "tls.set_client_ca";
        self.may_change_tls(ctx, VERB)?;
        let (pem, depth) = (request.certificates, request.verify_depth);
        ClientAuthority::parse(pem.as_bytes(), depth)?.check_dates(clock::now())?;
        let alter = move |shown: &Shown| {
            let id = shown.files().write_authority(&pem)?;
            let state = State {
                client_ca: Some(ClientCaState { id, depth }),
                ..shown.state()
            };
            Ok((state, ()))
        };
        self.tls_change(ctx, VERB, alter, |tls, ()| tls).await
    }

    pub async fn tls_remove_client_ca(self: &Arc<Self>, ctx: &Context) -> Result<Tls> {
        const VERB: &str = "tls.remove_client_ca";
        self.may_change_tls(ctx, VERB)?;
        let alter = |shown: &Shown| {
            let state = State {
                client_ca: None,
                ..shown.state()
            };
            Ok((state, ()))
        };
        self.tls_change(ctx, VERB, alter, |tls, ()| tls).await
    }

    /// Keeps a certificate and shows it, unless it is shown already.
    async fn tls_installing(
        self: &Arc<Self>,
        ctx: &Context,
        verb: &'static str,
        want: impl FnOnce(&Files) -> Result<Wanted> + Send + 'static,
    ) -> Result<InstalledCertificate> {
        let alter = move |shown: &Shown| {
            let Wanted {
                arranged,
                key_to_keep,
            } = want(shown.files())?;
            let same = shown.installed().is_some_and(|it| {
                it.chain == arranged.chain
                    && it.key_as_kept.expose().trim() == key_to_keep.expose().trim()
            });
            let state = match same {
                true => shown.state(),
                false => {
                    let pem = x509::chain_pem(&arranged.chain);
                    let id = shown.files().write_certificate(&pem, &key_to_keep)?;
                    with_installed(&shown.state(), id)
                }
            };
            Ok((state, arranged.left_out))
        };
        let installed = self
            .tls_change(ctx, verb, alter, |tls, left_out| InstalledCertificate {
                tls,
                left_out,
            })
            .await?;
        // Whatever the last request's key was, nothing is asked for with it any more.
        if let Err(error) = self.tls.files().drop_request_key() {
            log::warn!(error:? = error; "the key of the last signing request could not be removed");
        }
        Ok(installed)
    }

    /// Makes another state, shows it, and enters that in the audit; if the store does not take the
    /// event, what was shown before comes back. Goes on if the caller does not wait.
    async fn tls_change<T, R>(
        self: &Arc<Self>,
        ctx: &Context,
        verb: &'static str,
        alter: impl FnOnce(&Shown) -> Result<(State, T)> + Send + 'static,
        answer: impl FnOnce(Tls, T) -> R + Send + 'static,
    ) -> Result<R>
    where
        T: Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        to_its_end(async move { this.tls_changed(&ctx, verb, alter, answer).await }).await
    }

    async fn tls_changed<T, R>(
        &self,
        ctx: &Context,
        verb: &str,
        alter: impl FnOnce(&Shown) -> Result<(State, T)> + Send + 'static,
        answer: impl FnOnce(Tls, T) -> R + Send + 'static,
    ) -> Result<R>
    where
        T: Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let _turn = self.tls_turn.lock().await;
        if let Some(first) = self.first_tls_answer(ctx)? {
            return Ok(first);
        }
        let shown = Arc::clone(&self.tls);
        let changed = tokio::task::spawn_blocking(move || {
            let mut beside = None;
            let before = shown.change(|shown| {
                let (state, with) = alter(shown)?;
                beside = Some(with);
                Ok(state)
            })?;
            let beside = beside.ok_or_else(|| Error::internal("nothing was changed"))?;
            Ok::<_, Error>((before, view(&shown)?, beside))
        });
        let (before, tls, beside) = changed
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        let name = &self.facts.config.fqdn;
        let mut change = self.change(ctx, verb, object("tls", "", name), clock::now());
        let gui = &tls.gui.certificate;
        change.event.detail = format!(
            "8443 shows {} of {}, until {}",
            gui.sha256, gui.subject, gui.not_after
        );
        let noted = self.store.note_with(change, answer(tls, beside)).await;
        match &noted {
            Ok(_) => self.tidy(),
            // It may be in the store, so it stays.
            Err(error) if error.kind == Kind::Unknown => {}
            Err(_) => {
                let shown = Arc::clone(&self.tls);
                let back = tokio::task::spawn_blocking(move || shown.change(|_| Ok(before))).await;
                if !matches!(back, Ok(Ok(_))) {
                    log::error!(
                        "another certificate is shown, and that could be neither audited nor undone"
                    );
                }
            }
        }
        noted
    }

    /// Tries again to show what could not be shown: whatever was missing may be there again.
    pub async fn show_again(&self) {
        let shown = Arc::clone(&self.tls);
        if shown.faults().of_files().is_some()
            && let Err(error) = tokio::task::spawn_blocking(move || shown.reload()).await
        {
            log::error!(error:% = error; "certificates were not read anew");
        }
    }

    /// The ends of all certificates that this server shows or trusts, one a line.
    pub fn certificate_ends(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (port, listener) in [("clients", Listener::Client), ("GUI", Listener::Gui)] {
            let shown = self.tls.certificate(listener)?.info;
            lines.push(format!(
                "the {port} listener shows {}, until {}",
                shown.subject, shown.not_after
            ));
        }
        if let Some(authority) = self.tls.authority() {
            lines.extend(authority.certificates().iter().map(|it| {
                format!(
                    "the authority of API users {} ends {}",
                    it.subject, it.not_after
                )
            }));
        }
        Ok(lines)
    }

    /// Says on the board how the certificates are that nobody renews by himself, and enters in log and
    /// audit when one comes nearer to its end: 30, 14 and 3 days before it.
    pub async fn look_at_certificates(&self, now: Timestamp) -> Result<()> {
        let mut watched = Vec::new();
        if let Some(installed) = self.tls.installed() {
            watched.push(installed.info()?);
        }
        if let Some(authority) = self.tls.authority() {
            watched.extend(authority.certificates().iter().cloned());
        }
        watched.sort_by_key(|certificate| certificate.not_after);
        let first = watched.first().map(|it| (Ends::of(it.not_after, now), it));
        let said = |it: &CertificateInfo| {
            format!("the certificate of {} ends {}", it.subject, it.not_after)
        };
        let faults = self.tls.faults();
        match (faults.of_files(), first) {
            (Some(why), _) => self.board.red(BOARD, &not_shown(why), MEND),
            (None, Some((Ends::Over | Ends::Within3Days, it))) => {
                self.board.red(BOARD, &said(it), NEXT_STEP);
            }
            (None, Some((Ends::Within14Days | Ends::Within30Days, it))) => {
                self.board.amber(BOARD, &said(it), NEXT_STEP);
            }
            (None, Some((Ends::Later, _)) | None) => match faults.renewal {
                None => self.board.green(BOARD),
                Some(why) => self.board.amber(
                    BOARD,
                    &format!("the server's own certificate could not be renewed: {why}"),
                    "see the server's log; a restart tries again at once",
                ),
            },
        }
        for it in self.tls_watch.nearer(now, &watched) {
            log::warn!("{}", said(&it));
            self.note("certificate.ends_soon", &said(&it)).await?;
            self.tls_watch.told(now, &it);
        }
        Ok(())
    }

    /// Certificates that nothing names any more are removed.
    fn tidy(&self) {
        if let Err(error) = self.tls.files().drop_others(&self.tls.state()) {
            log::warn!(error:? = error; "a certificate that is not shown any more could not be removed");
        }
    }

    fn may_change_tls(&self, ctx: &Context, verb: &str) -> Result<()> {
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsChange, &Target::Server, verb, tls)
    }

    /// The answer that a change had before; none: it is to be made, and there is room for it.
    fn first_tls_answer<T: DeserializeOwned>(&self, ctx: &Context) -> Result<Option<T>> {
        let first = match once(ctx) {
            Some(once) => self.store.first_answer(&once)?,
            None => None,
        };
        if first.is_none() {
            self.store.room()?;
        }
        Ok(first)
    }
}

/// For health, sealed or open.
pub fn not_shown(why: &str) -> String {
    format!("what the listeners should show is not as it was set: {why}")
}

/// The chain and the key that a request gives, or whose key is here already.
fn wanted(files: &Files, shown: &Shown, request: Install) -> Result<Wanted> {
    let Install {
        certificate,
        chain,
        key,
        pkcs12,
        key_password,
        other_name: _,
    } = request;
    let key = key.map(Secret::new);
    let given = key_password.map(|text| Secret::new(text.into_bytes()));
    let bytes = match (certificate, pkcs12) {
        (Some(pem), None) => Secret::new(pem.into_bytes()),
        (None, Some(text)) => Secret::new(
            STANDARD
                .decode(Secret::new(text).expose())
                .map_err(|_| Error::invalid("pkcs12", "`pkcs12` is not base64"))?,
        ),
        _ => {
            return Err(Error::invalid(
                "certificate",
                "give either `certificate` or `pkcs12`",
            ));
        }
    };
    // A key that only the script opens stays behind its password.
    let locked = |pem: &[u8]| x509::is_encrypted(pem);
    let key_file = key.as_ref().map(|key| key.expose().as_bytes());
    let by_script =
        given.is_none() && files.has_script() && locked(key_file.unwrap_or(bytes.expose()));
    let password = match by_script {
        true => Some(files.script_password()?),
        false => given,
    };
    let Material {
        mut certificates,
        key: beside,
    } = match key_file {
        Some(_) => Material {
            certificates: x509::parse_certificate_pem(bytes.expose())?,
            key: None,
        },
        None => x509::read_material(bytes.expose(), password.as_ref())?,
    };
    if let Some(chain) = chain {
        certificates.extend(x509::parse_certificate_pem(chain.as_bytes())?);
    }
    let opened = match key_file {
        Some(pem) => Some(x509::read_key(pem, password.as_ref())?),
        None => beside,
    };
    let Some(opened) = opened else {
        return with_key_at_hand(files, shown, certificates);
    };
    let arranged = x509::arrange(certificates, &opened)?;
    let key_to_keep = match (by_script, &key) {
        (false, _) => opened,
        (true, Some(key)) => x509::key_section(key.expose().as_bytes())?,
        (true, None) => x509::key_section(bytes.expose())?,
    };
    Ok(Wanted {
        arranged,
        key_to_keep,
    })
}

/// The certificate is for the key of the last signing request, or for the one in use.
fn with_key_at_hand(files: &Files, shown: &Shown, certificates: Vec<Vec<u8>>) -> Result<Wanted> {
    let mut why = Error::invalid("key", "there is no private key; give it with --key");
    let requested = files.request_key()?;
    let requested = requested.map(|key| (Secret::new(key.expose().clone()), key));
    // In use, and kept as it is kept: perhaps behind the script's password.
    let in_use = shown.installed().map(|it| {
        let copy = |text: &Secret<String>| Secret::new(text.expose().clone());
        (copy(&it.key_pem), copy(&it.key_as_kept))
    });
    for (key, as_kept) in [requested, in_use].into_iter().flatten() {
        match x509::arrange(certificates.clone(), &key) {
            Ok(arranged) => {
                return Ok(Wanted {
                    arranged,
                    key_to_keep: as_kept,
                });
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn view(shown: &Shown) -> Result<Tls> {
    let state = shown.state();
    let listener = |listener| -> Result<ShownView> {
        let found = shown.certificate(listener)?;
        Ok(ShownView {
            installed: found.installed,
            certificate: certificate(&found.info),
        })
    };
    Ok(Tls {
        client: listener(Listener::Client)?,
        gui: listener(Listener::Gui)?,
        can_roll_back: state.installed.is_some() || state.previous.is_some(),
        fault: shown.faults().of_files().map(str::to_owned),
        minimum_version: state.parameters.minimum_version.as_str().to_owned(),
        ciphers: state.parameters.ciphers,
        client_ca: shown.authority().map(|authority| ClientCa {
            verify_depth: authority.depth(),
            certificates: authority.certificates().iter().map(certificate).collect(),
        }),
    })
}

fn certificate(info: &CertificateInfo) -> Certificate {
    Certificate {
        subject: info.subject.clone(),
        issuer: info.issuer.clone(),
        not_before: info.not_before,
        not_after: info.not_after,
        sha256: Fingerprint(info.sha256),
        spki_sha256: info.fingerprint,
    }
}
