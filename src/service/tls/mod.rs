//! The certificates of the listeners: shown, asked for, installed, rolled back. A change holds for
//! connections made from then on.

pub mod files;
mod script;
pub mod shown;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::access::{Action, Target};
use super::caller::{Context, Listener};
use super::{Service, object, once};
use crate::api::tls::{
    Certificate, ClientCa, Install, InstalledCertificate, NewRequest, SelfSign, SetClientCa,
    Shown as ShownView, SigningRequest, Tls,
};
use crate::clock::{self, Timestamp};
use crate::crypto::x509::{self, Arranged, CertificateInfo, Material};
use crate::error::{Error, Kind, Result};
use crate::model::id::Fingerprint;
use crate::secret::Secret;
use files::{Files, State};
pub use script::password;
use shown::{Ends, Shown, with_installed};

const MOST_DAYS: u32 = 3_650;
/// The part of health that is about certificates.
const BOARD: &str = "certificates";
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

    /// A signing request; its key is kept until a certificate for it is installed.
    pub async fn tls_request(&self, ctx: &Context, request: NewRequest) -> Result<SigningRequest> {
        const VERB: &str = "tls.csr";
        let (tls, fqdn) = (object("tls", "", ""), self.facts.config.fqdn.clone());
        self.allow(ctx, Action::TlsChange, &Target::Server, VERB, tls)?;
        let _turn = self.tls_turn.lock().await;
        if let Some(first) = self.first_tls_answer(ctx)? {
            return Ok(first);
        }
        let files = self.tls.files();
        let key = match (request.new_key, self.tls.installed_key()) {
            (true, _) => x509::new_key_pem()?,
            (false, Some(key)) => key,
            // A copy: the leaf's own changes when it is renewed.
            (false, None) => files.leaf_key()?,
        };
        let csr = x509::certificate_request(&key, &fqdn, &request.names)?;
        let answer = SigningRequest {
            request: csr,
            spki_sha256: x509::key_fingerprint(&key)?,
        };
        files.write_request_key(&key)?;
        let mut change = self.change(ctx, VERB, object("tls", "", &fqdn), clock::now());
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
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsChange, &Target::Server, VERB, tls)?;
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
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsChange, &Target::Server, VERB, tls)?;
        let (fqdn, shown) = (self.facts.config.fqdn.clone(), Arc::clone(&self.tls));
        self.tls_installing(ctx, VERB, move |files| {
            let any_name = request.other_name;
            let wanted = wanted(files, &shown, request)?;
            let leaf = wanted.arranged.chain.first();
            let leaf = leaf.ok_or_else(|| Error::internal("a chain is empty"))?;
            x509::check_server(leaf, &fqdn, any_name, clock::now())?;
            Ok(wanted)
        })
        .await
    }

    /// Back to what was shown before; once more, and forth again.
    pub async fn tls_roll_back(self: &Arc<Self>, ctx: &Context) -> Result<Tls> {
        const VERB: &str = "tls.rollback";
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsChange, &Target::Server, VERB, tls)?;
        let changed = self.tls_change(ctx, VERB, |shown| {
            let state = shown.state();
            if state.installed.is_none() && state.previous.is_none() {
                return Err(Error::conflict(
                    "nothing_before",
                    "no other certificate was shown before this one",
                ));
            }
            Ok(State {
                installed: state.previous,
                previous: state.installed,
                ..state
            })
        });
        changed.await
    }

    pub async fn tls_set_client_ca(
        self: &Arc<Self>,
        ctx: &Context,
        request: SetClientCa,
    ) -> Result<Tls> {
        const VERB: &str = "tls.set_client_ca";
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsChange, &Target::Server, VERB, tls)?;
        let (pem, depth) = (request.certificates, request.verify_depth);
        crate::crypto::tls::ClientAuthority::parse(pem.as_bytes(), depth, clock::now())?;
        self.tls_client_ca(ctx, VERB, Some((pem, depth))).await
    }

    pub async fn tls_remove_client_ca(self: &Arc<Self>, ctx: &Context) -> Result<Tls> {
        const VERB: &str = "tls.remove_client_ca";
        let tls = object("tls", "", "");
        self.allow(ctx, Action::TlsChange, &Target::Server, VERB, tls)?;
        self.tls_client_ca(ctx, VERB, None).await
    }

    /// The file is put back if the rest does not come to its end.
    async fn tls_client_ca(
        self: &Arc<Self>,
        ctx: &Context,
        verb: &'static str,
        wanted: Option<(String, u8)>,
    ) -> Result<Tls> {
        let (this, before) = (Arc::clone(self), self.tls.files().authority_pem()?);
        let changed = self
            .tls_change(ctx, verb, move |shown| {
                let depth = wanted.as_ref().map(|(_, depth)| *depth);
                // Without an authority the state is changed first, else it would name a missing file.
                if let Some((pem, _)) = &wanted {
                    shown.files().write_authority(Some(pem.as_bytes()))?;
                }
                Ok(State {
                    client_ca_depth: depth,
                    ..shown.state()
                })
            })
            .await;
        match &changed {
            Ok(tls) if tls.client_ca.is_none() => this.tls.files().write_authority(None)?,
            Err(error) if error.kind != Kind::Unknown => {
                this.tls.files().write_authority(before.as_deref())?;
                this.tls.reload();
            }
            _ => {}
        }
        changed
    }

    /// Keeps a certificate, shows it, and enters that in the audit.
    async fn tls_installing(
        self: &Arc<Self>,
        ctx: &Context,
        verb: &'static str,
        want: impl FnOnce(&Files) -> Result<Wanted> + Send + 'static,
    ) -> Result<InstalledCertificate> {
        let left_out = Arc::new(std::sync::Mutex::new(Vec::new()));
        let left = Arc::clone(&left_out);
        let tls = self
            .tls_change(ctx, verb, move |shown| {
                let Wanted {
                    arranged,
                    key_to_keep,
                } = want(shown.files())?;
                let pem = x509::chain_pem(&arranged.chain);
                let id: Uuid = shown.files().write_certificate(&pem, &key_to_keep)?;
                if let Ok(mut left) = left.lock() {
                    *left = arranged.left_out;
                }
                Ok(with_installed(&shown.state(), id))
            })
            .await?;
        let left_out = left_out.lock().map(|it| it.clone()).unwrap_or_default();
        Ok(InstalledCertificate { tls, left_out })
    }

    /// Makes another state, shows it, and enters that in the audit; if the store does not take the
    /// event, what was shown before comes back. Goes on if the caller does not wait.
    async fn tls_change(
        self: &Arc<Self>,
        ctx: &Context,
        verb: &'static str,
        alter: impl FnOnce(&Shown) -> Result<State> + Send + 'static,
    ) -> Result<Tls> {
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        tokio::spawn(async move { this.tls_changed(&ctx, verb, alter).await })
            .await
            .map_err(|error| Error::internal(error.to_string()))?
    }

    async fn tls_changed(
        &self,
        ctx: &Context,
        verb: &str,
        alter: impl FnOnce(&Shown) -> Result<State> + Send + 'static,
    ) -> Result<Tls> {
        let _turn = self.tls_turn.lock().await;
        if let Some(first) = self.first_tls_answer(ctx)? {
            return Ok(first);
        }
        self.store.room()?;
        let (shown, before) = (Arc::clone(&self.tls), self.tls.state());
        let tls = tokio::task::spawn_blocking(move || {
            let state = alter(&shown)?;
            shown.change(&state)?;
            view(&shown)
        })
        .await
        .map_err(|error| Error::internal(error.to_string()))?
        .inspect_err(|_| self.tidy())?;
        let name = &self.facts.config.fqdn;
        let mut change = self.change(ctx, verb, object("tls", "", name), clock::now());
        let gui = &tls.gui.certificate;
        change.event.detail = format!(
            "8443 shows {} of {}, until {}",
            gui.sha256, gui.subject, gui.not_after
        );
        let noted = self.store.note_with(change, tls).await;
        match &noted {
            // It may be in the store, so it stays.
            Err(error) if error.kind != Kind::Unknown => {
                let shown = Arc::clone(&self.tls);
                let back = tokio::task::spawn_blocking(move || shown.change(&before)).await;
                if !matches!(back, Ok(Ok(()))) {
                    log::error!(
                        "another certificate is shown, and that could be neither audited nor undone"
                    );
                }
            }
            _ => {}
        }
        self.tidy();
        noted
    }

    /// Tries again to show what could not be shown: whatever was missing may be there again.
    pub async fn show_again(&self) {
        if self.tls.fault().is_some() {
            let _turn = self.tls_turn.lock().await;
            let shown = Arc::clone(&self.tls);
            if let Err(error) = tokio::task::spawn_blocking(move || shown.reload()).await {
                log::error!(error:% = error; "certificates were not read anew");
            }
        }
    }

    /// Says on the board how the certificates are that nobody renews by himself, and enters in log and
    /// audit when one comes nearer to its end: 30, 14 and 3 days before it.
    pub async fn look_at_certificates(&self, now: Timestamp) -> Result<()> {
        let mut watched: Vec<CertificateInfo> = self.tls.installed()?.into_iter().collect();
        if let Some(authority) = self.tls.authority() {
            watched.extend(authority.certificates().iter().cloned());
        }
        watched.sort_by_key(|certificate| certificate.not_after);
        let first = watched.first().map(|it| (Ends::of(it.not_after, now), it));
        let said = |it: &CertificateInfo| {
            format!("the certificate of {} ends {}", it.subject, it.not_after)
        };
        match (self.tls.fault(), first) {
            (Some(why), _) => self.board.red(
                BOARD,
                &format!("the certificate that was installed is not shown: {why}"),
                "mend that (it is tried again each minute), or install another: strongroom tls install",
            ),
            (None, Some((Ends::Over | Ends::Within3Days, it))) => {
                self.board.red(BOARD, &said(it), NEXT_STEP);
            }
            (None, Some((Ends::Within14Days | Ends::Within30Days, it))) => {
                self.board.amber(BOARD, &said(it), NEXT_STEP);
            }
            (None, Some((Ends::Later, _)) | None) => match self.tls.renewal_fault() {
                None => self.board.green(BOARD),
                Some(why) => self.board.amber(
                    BOARD,
                    &format!("the server's own certificate could not be renewed: {why}"),
                    "see the server's log; a restart tries again at once",
                ),
            },
        }
        for (_, it) in self.tls_watch.nearer(now, &watched) {
            log::warn!("{}", said(&it));
            self.note("certificate.ends_soon", &said(&it)).await?;
        }
        Ok(())
    }

    /// Certificates that nothing names any more are removed.
    fn tidy(&self) {
        if let Err(error) = self.tls.files().drop_others(&self.tls.state()) {
            log::warn!(error:? = error; "a certificate that is not shown any more could not be removed");
        }
    }

    fn first_tls_answer<T: serde::de::DeserializeOwned>(&self, ctx: &Context) -> Result<Option<T>> {
        match once(ctx) {
            Some(once) => self.store.first_answer(&once),
            None => Ok(None),
        }
    }
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
        (true, Some(key)) => Secret::new(key.expose().clone()),
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
    for key in [files.request_key()?, shown.installed_key()]
        .into_iter()
        .flatten()
    {
        match x509::arrange(certificates.clone(), &key) {
            Ok(arranged) => {
                return Ok(Wanted {
                    arranged,
                    key_to_keep: key,
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
        fault: shown.fault(),
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
