//! A client's home: its keys, and the server that it registered with (docs/formats/client.md).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::span::Span;
use super::{cache, files};
use crate::crypto::{agefile, tls, x509};
use crate::error::{Error, Kind, Result};
use crate::model::id::Fingerprint;
use crate::model::org::OrgName;
use crate::secret::Secret;

pub const REGISTRATION: &str = "client.toml";
pub const CERTIFICATE: &str = "client.crt";
pub const KEY: &str = "client.key";
pub const SERVER_CA: &str = "ca.pem";
pub const IDENTITY: &str = "identity.txt";
/// All of a home's files; the first is there when the home is registered.
pub const FILES: [&str; 5] = [REGISTRATION, CERTIFICATE, KEY, SERVER_CA, IDENTITY];

const VERSION: u32 = 1;
const HEADING: &str = "# Written by `strongroom client register`; see docs/formats/client.md.\n";

/// `client.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// Of the file's format.
    pub version: u32,
    /// `https://HOST:PORT`
    pub server: String,
    pub org: OrgName,
    /// Of the client's public key.
    pub fingerprint: Fingerprint,
    /// Of the server's instance identity: what is trusted.
    pub server_fingerprint: Fingerprint,
    /// The client's own age recipient.
    pub recipient: String,
    /// The organization's, as the server gave it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_recipient: Option<String>,
    /// For how long fetched deposits are kept for reads while the server is away; none: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Span>,
    /// False from before the request is sent until the server has answered.
    pub registered: bool,
}

impl Registered {
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |error: toml::de::Error| error.message().to_owned();
        let found = toml::from_str::<toml::Table>(text).map_err(wrong)?;
        if found.get("version").and_then(toml::Value::as_integer) != Some(i64::from(VERSION)) {
            return Err("its `version` is not 1; a newer program may have written it".to_owned());
        }
        toml::from_str(text).map_err(wrong)
    }
}

/// A folder that may hold a client.
pub struct Home {
    pub dir: PathBuf,
}

/// The client's keys, for TLS.
pub struct Keys {
    pub certificate: String,
    pub key: Secret<String>,
    pub fingerprint: Fingerprint,
}

/// Where this program keeps a client unless told otherwise.
pub fn default_dir() -> Result<PathBuf> {
    match std::env::var_os("HOME") {
        Some(home) if !home.is_empty() => Ok(Path::new(&home).join(".config/strongroom")),
        _ => Err(Error::invalid(
            "home",
            "the environment names no HOME; give --home DIR",
        )),
    }
}

impl Home {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.file(name).symlink_metadata().is_ok()
    }

    /// `client.toml`, if there is one.
    pub fn load(&self) -> Result<Option<Registered>> {
        if !self.has(REGISTRATION) {
            return Ok(None);
        }
        let path = self.file(REGISTRATION);
        let text = self.text(REGISTRATION)?;
        let wrong = |why: String| {
            Error::new(
                Kind::Internal,
                "client_toml",
                format!(
                    "{} is damaged: {why}; restore the home from its backup (strongroom client restore)",
                    path.display()
                ),
            )
        };
        Registered::parse(text.expose()).map(Some).map_err(wrong)
    }

    pub fn save(&self, registered: &Registered) -> Result<()> {
        let text = toml::to_string(registered)
            .map_err(|error| Error::internal(format!("client.toml: {error}")))?;
        files::replace(
            &self.file(REGISTRATION),
            format!("{HEADING}{text}").as_bytes(),
        )
    }

    /// Takes what others may do with the folder and with what is secret in it. Answers what was
    /// mended.
    pub fn mend_modes(&self) -> Result<Vec<PathBuf>> {
        let mut mended = Vec::new();
        for (path, mode) in [
            (self.dir.clone(), 0o700),
            (self.file(KEY), 0o600),
            (self.file(IDENTITY), 0o600),
            (self.file(cache::FOLDER), 0o700),
        ] {
            // What is not ours would be behind a link in the folder's place.
            let foreign = path.ends_with(cache::FOLDER) && path.is_symlink();
            if !foreign && path.exists() && files::narrow(&path, mode)? {
                mended.push(path);
            }
        }
        Ok(mended)
    }

    /// Reads one of the home's files.
    pub fn text(&self, name: &str) -> Result<Secret<String>> {
        let path = self.file(name);
        let bytes = files::read(&path, files::LONGEST_SMALL_FILE)?;
        std::str::from_utf8(bytes.expose())
            .map(|text| Secret::new(text.to_owned()))
            .map_err(|_| {
                Error::new(
                    Kind::Internal,
                    "home",
                    format!(
                        "{} is damaged: it is not text; restore the home from its backup",
                        path.display()
                    ),
                )
            })
    }

    pub fn keys(&self) -> Result<Keys> {
        let certificate = self.text(CERTIFICATE)?.expose().clone();
        let key = self.text(KEY)?;
        let chain = x509::parse_certificate_pem(certificate.as_bytes())?;
        let leaf = chain
            .first()
            .ok_or_else(|| Error::internal("a certificate file without a certificate"))?;
        x509::check_key_matches(leaf, &key)?;
        Ok(Keys {
            fingerprint: x509::spki_fingerprint(leaf)?,
            certificate,
            key,
        })
    }

    /// The keys, made if they are not there yet. Each file is whole or absent, and the private key
    /// is the last: a home that has it has all.
    pub fn make_keys(&self, common_name: &str) -> Result<(Keys, String)> {
        files::private_folder(&self.dir)?;
        self.mend_modes()?;
        if !self.has(IDENTITY) {
            let (identity, _) = agefile::generate_identity();
            files::create(&self.file(IDENTITY), identity.expose().as_bytes())?;
        }
        if !self.has(KEY) {
            let made = x509::client_certificate(common_name)?;
            // Without its key a certificate is of no use: an interrupted run left it.
            files::replace(&self.file(CERTIFICATE), made.cert_pem.as_bytes())?;
            files::create(&self.file(KEY), made.key_pem.expose().as_bytes())?;
        }
        Ok((self.keys()?, self.recipient()?))
    }

    /// The recipient that `identity.txt` names, proven to be one that it opens.
    pub fn recipient(&self) -> Result<String> {
        const PROOF: &[u8] = b"strongroom";
        let identity = self.identity()?;
        let path = self.file(IDENTITY);
        let named = named_recipient(identity.expose()).ok_or_else(|| {
            Error::invalid("identity", format!("{} has no line `# public key: age1…`; add it (age-keygen -y prints the recipient)", path.display()))
        })?;
        let sealed = agefile::encrypt(std::slice::from_ref(&named), PROOF)?;
        match agefile::decrypt(&identity, &sealed) {
            Ok(opened) if opened.expose() == PROOF => Ok(named),
            _ => Err(Error::invalid(
                "identity",
                format!(
                    "{} names the recipient {named}, but does not open what is encrypted to it; restore the file",
                    path.display()
                ),
            )),
        }
    }

    pub fn identity(&self) -> Result<Secret<Vec<u8>>> {
        let text = self.text(IDENTITY)?;
        Ok(Secret::new(text.expose().clone().into_bytes()))
    }

    pub fn has_identity(&self) -> bool {
        self.has(IDENTITY)
    }

    /// The server to trust: what was pinned, or the key of `ca.pem`.
    pub fn pinned(&self) -> Result<Option<Fingerprint>> {
        if let Some(registered) = self.load()? {
            return Ok(Some(registered.server_fingerprint));
        }
        if !self.has(SERVER_CA) {
            return Ok(None);
        }
        let pem = self.text(SERVER_CA)?;
        fingerprint_of_pem(pem.expose()).map(Some)
    }

    /// Names of files that a client's home has and that are here already.
    pub fn occupied(&self) -> Vec<&'static str> {
        FILES.into_iter().filter(|name| self.has(name)).collect()
    }
}

impl Keys {
    pub fn for_tls(&self) -> tls::ClientIdentity<'_> {
        tls::ClientIdentity {
            cert_pem: &self.certificate,
            key_pem: &self.key,
        }
    }
}

impl Registered {
    pub fn new(
        server: String,
        org: OrgName,
        keys: &Keys,
        server_fingerprint: Fingerprint,
        recipient: String,
    ) -> Self {
        Self {
            version: VERSION,
            server,
            org,
            fingerprint: keys.fingerprint,
            server_fingerprint,
            recipient,
            recovery_recipient: None,
            cache: None,
            registered: false,
        }
    }
}

pub fn fingerprint_of_pem(pem: &str) -> Result<Fingerprint> {
    let chain = x509::parse_certificate_pem(pem.as_bytes())?;
    let first = chain
        .first()
        .ok_or_else(|| Error::internal("a certificate file without a certificate"))?;
    x509::spki_fingerprint(first)
}

/// The comment that age-keygen writes, too.
fn named_recipient(identity: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(identity).ok()?;
    text.lines().find_map(|line| {
        let named = line
            .strip_prefix('#')?
            .trim_start()
            .strip_prefix("public key:")?
            .trim();
        (!named.is_empty()).then(|| named.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipient_is_read_from_the_comment() {
        let text = b"# created: 2026-01-01\n# public key: age1abc\nAGE-SECRET-KEY-1X\n";
        assert_eq!(named_recipient(text).as_deref(), Some("age1abc"));
        assert_eq!(named_recipient(b"AGE-SECRET-KEY-1X\n"), None);
    }

    #[test]
    fn an_interrupted_home_keeps_its_keys_and_makes_what_is_missing() {
        let folder = files::TestFolder::new();
        let home = Home::new(folder.0.join("home"));
        let (keys, recipient) = home.make_keys("host").unwrap_or_else(|e| panic!("{e}"));
        let (again, same) = home.make_keys("host").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((keys.fingerprint, &recipient), (again.fingerprint, &same));
        std::fs::remove_file(home.file(KEY)).unwrap();
        let (new, same) = home.make_keys("host").unwrap_or_else(|e| panic!("{e}"));
        assert!(new.fingerprint != keys.fingerprint && same == recipient);
        let registered = Registered::new(
            "https://h:1".to_owned(),
            "acme".parse().unwrap(),
            &new,
            keys.fingerprint,
            recipient,
        );
        assert!(home.load().unwrap().is_none());
        home.save(&registered).unwrap();
        assert_eq!(home.load().unwrap(), Some(registered));
        std::fs::write(home.file(REGISTRATION), "version = 2\n").unwrap();
        assert!(home.load().unwrap_err().public.contains("newer"));
    }
}
