//! What lies in `tls/` beside the instance's own leaf: `listeners.json`, which says what the listeners
//! show and how they speak; the operator's certificates, each with its key in one file, so that both
//! change as one; the authority of API users (docs/formats/tls.md).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::script;
use crate::crypto::tls::{ClientAuthority, Parameters};
use crate::crypto::x509;
use crate::error::{Error, Kind, Result};
use crate::folder;
use crate::model::id::shown;
use crate::secret::Secret;

const FORMAT: &str = "strongroom-listeners/1";
const MOST_STATE: u64 = 64 << 10;
const MOST_PEM: u64 = 512 << 10;

/// What the clients' listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientListener {
    /// The leaf that the instance identity issued: what clients pin.
    #[default]
    Identity,
    /// The operator's certificate.
    Installed,
}

/// `listeners.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub format: String,
    /// The operator's certificate; none: the instance's own leaf.
    pub installed: Option<Uuid>,
    /// What `rollback` goes back to.
    pub previous: Option<Uuid>,
    pub client_listener: ClientListener,
    pub parameters: Parameters,
    /// The authority of API users, where there is one.
    pub client_ca: Option<ClientCaState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCaState {
    pub id: Uuid,
    /// How deep chains may be.
    pub depth: u8,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: FORMAT.to_owned(),
            installed: None,
            previous: None,
            client_listener: ClientListener::default(),
            parameters: Parameters::default(),
            client_ca: None,
        }
    }
}

/// An operator's certificate, ready to be shown.
pub struct Installed {
    pub cert_pem: String,
    pub key_pem: Secret<String>,
    /// The key as it lies here, perhaps behind the script's password.
    pub key_as_kept: Secret<String>,
    pub chain: Vec<Vec<u8>>,
}

/// The files, by what they hold.
#[derive(Clone, Debug)]
pub struct Files {
    tls: PathBuf,
    /// What opens keys that lie here behind a password.
    script: Option<String>,
}

impl Files {
    pub fn new(tls: PathBuf, script: Option<String>) -> Self {
        Self { tls, script }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tls.join(name)
    }

    fn state_path(&self) -> PathBuf {
        self.path("listeners.json")
    }

    fn certificate_path(&self, id: Uuid) -> PathBuf {
        self.path(&format!("installed-{id}.pem"))
    }

    /// The key that the last signing request was for.
    fn request_key_path(&self) -> PathBuf {
        self.path("request.key")
    }

    /// # Errors
    /// `tls_state_damaged`.
    pub fn state(&self) -> Result<State> {
        let bytes = match optional(&self.state_path(), MOST_STATE)? {
            Some(bytes) => bytes,
            None => return Ok(State::default()),
        };
        let damaged = |why: String| {
            Error::unavailable(
                "tls_state_damaged",
                format!("tls/listeners.json does not read: {why}"),
            )
        };
        let state: State =
            serde_json::from_slice(&bytes).map_err(|why| damaged(why.to_string()))?;
        match state.format.as_str() {
            FORMAT => Ok(state),
            other => Err(damaged(format!(
                "its format is `{}`, this program knows {FORMAT}",
                shown(other)
            ))),
        }
    }

    pub fn write_state(&self, state: &State) -> Result<()> {
        let mut bytes =
            serde_json::to_vec_pretty(state).map_err(|why| Error::internal(why.to_string()))?;
        bytes.push(b'\n');
        folder::replace(&self.state_path(), &bytes)
    }

    /// Removes certificates and authorities that the state does not name.
    pub fn drop_others(&self, state: &State) -> Result<()> {
        let certificates = [state.installed, state.previous].into_iter().flatten();
        let kept: Vec<PathBuf> = certificates
            .map(|id| self.certificate_path(id))
            .chain(state.client_ca.iter().map(|it| self.authority_path(it.id)))
            .collect();
        let entries = std::fs::read_dir(&self.tls)
            .map_err(|error| folder::failed("read", &self.tls, error))?;
        for entry in entries {
            let path = entry
                .map_err(|error| folder::failed("read", &self.tls, error))?
                .path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = name.starts_with("installed-") || name.starts_with("client-ca-");
            if ours && !kept.contains(&path) {
                folder::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Keeps a certificate with its key, as PEM; the key may be behind the script's password.
    pub fn write_certificate(&self, chain_pem: &str, key_pem: &Secret<String>) -> Result<Uuid> {
        let id = Uuid::now_v7();
        let mut text = String::with_capacity(chain_pem.len() + key_pem.expose().len() + 1);
        text.push_str(chain_pem);
        text.push_str(key_pem.expose());
        let text = Secret::new(text);
        folder::replace(&self.certificate_path(id), text.expose().as_bytes())?;
        Ok(id)
    }

    /// # Errors
    /// The file is missing or damaged, or the script gives no password that opens the key.
    pub fn certificate(&self, id: Uuid) -> Result<Installed> {
        let path = self.certificate_path(id);
        let bytes = Secret::new(folder::read(&path, MOST_PEM)?);
        let password = match x509::is_encrypted(bytes.expose()) {
            true => Some(self.script_password()?),
            false => None,
        };
        let key_pem = x509::read_key(bytes.expose(), password.as_ref())?;
        let chain = x509::parse_certificate_pem(bytes.expose())?;
        Ok(Installed {
            cert_pem: x509::chain_pem(&chain),
            key_pem,
            key_as_kept: x509::key_section(bytes.expose())?,
            chain,
        })
    }

    /// # Errors
    /// `password_missing` where strongroom.toml names no script.
    pub fn script_password(&self) -> Result<Secret<Vec<u8>>> {
        match &self.script {
            Some(line) => script::password(line),
            None => Err(Error::new(
                Kind::Invalid,
                "password_missing",
                "the private key is behind a password; give it with --key-password-file, or name a script that prints it in strongroom.toml (tls.key_password_script)",
            )),
        }
    }

    pub fn has_script(&self) -> bool {
        self.script.is_some()
    }

    pub fn request_key(&self) -> Result<Option<Secret<String>>> {
        let Some(bytes) = optional(&self.request_key_path(), MOST_PEM)? else {
            return Ok(None);
        };
        let bytes = Secret::new(bytes);
        x509::read_key(bytes.expose(), None).map(Some)
    }

    pub fn write_request_key(&self, key_pem: &Secret<String>) -> Result<()> {
        folder::replace(&self.request_key_path(), key_pem.expose().as_bytes())
    }

    /// Its certificate is installed.
    pub fn drop_request_key(&self) -> Result<()> {
        folder::remove(&self.request_key_path())
    }

    /// The key of the instance's own leaf.
    pub fn leaf_key(&self) -> Result<Secret<String>> {
        let bytes = Secret::new(folder::read(&self.path("leaf.key"), MOST_PEM)?);
        x509::read_key(bytes.expose(), None)
    }

    fn authority_path(&self, id: Uuid) -> PathBuf {
        self.path(&format!("client-ca-{id}.pem"))
    }

    /// Of API users, with its lists of revoked certificates.
    pub fn authority(&self, state: &ClientCaState) -> Result<ClientAuthority> {
        let pem = folder::read(&self.authority_path(state.id), MOST_PEM)?;
        ClientAuthority::parse(&pem, state.depth)
    }

    pub fn write_authority(&self, pem: &str) -> Result<Uuid> {
        let id = Uuid::now_v7();
        folder::replace(&self.authority_path(id), pem.as_bytes())?;
        Ok(id)
    }
}

fn optional(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match path.try_exists() {
        Ok(true) => folder::read(path, most).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(folder::failed("read", path, error)),
    }
}
