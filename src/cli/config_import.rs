//! `strongroom config import`: what the originals' configuration files say of certificates. Reading
//! decides; what follows is told to the running server.

use std::path::{Path, PathBuf};

use hyper::Method;

use super::client::{Call, Client};
use super::door::Context;
use super::files;
use super::noun::tls as tls_noun;
use super::print::Printer;
use crate::api::setting::{SetSetting, SettingView};
use crate::api::tls::{Install, InstalledCertificate, SetClientCa, Tls};
use crate::crypto::tls::{DEEPEST, suites};
use crate::error::{Error, Result};
use crate::model::id::shown;
use crate::secret::Secret;

const MOST: u64 = 256 << 10;
/// Where the original kept an authority's certificates, beside the server's.
const AUTHORITY: &str = "ssl-cert-keytrustee-ca.pem";

/// What a file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    /// Taken if it is there.
    chain: Option<PathBuf>,
    password_script: Option<String>,
    client_ca: Option<PathBuf>,
    verify_depth: Option<u8>,
    minimum_version: Option<&'static str>,
    ciphers: Option<String>,
    /// What is not taken over as it stands, and why.
    notes: Vec<String>,
}

/// Runs a password script.
pub type Script = fn(&str) -> Result<Secret<Vec<u8>>>;

pub async fn run(
    file: &Path,
    other_name: bool,
    dry_run: bool,
    script: Script,
    context: &Context,
) -> Result<()> {
    let out = &context.out;
    let plan = Plan::read(&text(file)?)?;
    plan.tell(out);
    if dry_run {
        return Ok(());
    }
    // Everything is read before anything is changed.
    let install = plan.install(other_name, script)?;
    let client_ca = plan.client_ca()?;
    let mut client = context.admin()?;
    // The certificate first: it is what is refused most often.
    if let Some(request) = install {
        let call = Call::new(Method::PUT, "/v1/tls/certificate").json(&request)?;
        let installed: InstalledCertificate = client.json(call).await?;
        tls_noun::said(out, &installed)?;
        out.talk("the clients' listener shows it, too, after: strongroom setting set tls.client_listener installed");
    }
    if let Some(request) = client_ca {
        let call = Call::new(Method::PUT, "/v1/tls/client-ca").json(&request)?;
        let _: Tls = client.json(call).await?;
        out.talk("certificates of this authority count for users that they are entered at");
    }
    for (name, value) in [
        ("tls.minimum_version", plan.minimum_version),
        ("tls.ciphers", plan.ciphers.as_deref()),
    ] {
        if let Some(value) = value {
            set(&mut client, name, value).await?;
            out.talk(&format!("{name} is {value}"));
        }
    }
    Ok(())
}

async fn set(client: &mut Client, name: &str, value: &str) -> Result<()> {
    let request = SetSetting {
        value: value.to_owned(),
    };
    let call = Call::new(Method::PUT, format!("/v1/settings/{name}")).json(&request)?;
    client.json::<SettingView>(call).await.map(|_| ())
}

fn text(path: &Path) -> Result<String> {
    let bytes = files::read(path, MOST)?;
    String::from_utf8(bytes.expose().clone())
        .map_err(|_| Error::invalid("file", format!("{} is not UTF-8", path.display())))
}

impl Plan {
    /// # Errors
    /// Neither of the files that are known, or one that says nothing of certificates.
    pub fn read(text: &str) -> Result<Self> {
        let plan = match text.trim_start().starts_with('{') {
            true => keytrustee(text)?,
            false => nginx(text)?,
        };
        if plan.certificate.is_some() == plan.key.is_some() {
            return Ok(plan);
        }
        Err(Error::invalid(
            "file",
            "the file names a certificate without its key, or a key without its certificate",
        ))
    }

    fn tell(&self, out: &Printer) {
        for (what, path) in [
            ("certificate", &self.certificate),
            ("private key", &self.key),
            ("API users' authority", &self.client_ca),
        ] {
            if let Some(path) = path {
                out.talk(&format!("{what}: {}", path.display()));
            }
        }
        for note in &self.notes {
            out.warn(note);
        }
    }

    fn install(&self, other_name: bool, script: Script) -> Result<Option<Install>> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        let chain = self.chain.as_deref().filter(|path| path.exists());
        let password = self.password_script.as_deref().map(script).transpose()?;
        let password = password.map(|bytes| String::from_utf8_lossy(bytes.expose()).into_owned());
        Ok(Some(Install {
            certificate: Some(text(certificate)?),
            chain: chain.map(text).transpose()?,
            key: Some(text(key)?),
            pkcs12: None,
            key_password: password,
            other_name,
        }))
    }

    fn client_ca(&self) -> Result<Option<SetClientCa>> {
        let Some(path) = &self.client_ca else {
            return Ok(None);
        };
        Ok(Some(SetClientCa {
            certificates: text(path)?,
            // As nginx has it where the file does not say.
            verify_depth: self.verify_depth.unwrap_or(1),
        }))
    }
}

/// `keytrustee.conf`: one JSON object.
fn keytrustee(text: &str) -> Result<Plan> {
    let values: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|why| {
            Error::invalid(
                "file",
                format!(
                    "the file begins like keytrustee.conf, and is not JSON: line {}, column {}",
                    why.line(),
                    why.column()
                ),
            )
        })?;
    let mut plan = Plan::default();
    let mut others = Vec::new();
    for (name, value) in &values {
        let known = [
            "SSL_CERTIFICATE",
            "SSL_PRIVATE_KEY",
            "SSL_PRIVATE_KEY_PASSWORD_SCRIPT",
        ];
        if !known.contains(&name.as_str()) {
            others.push(shown(name).to_string());
            continue;
        }
        let value = value
            .as_str()
            .ok_or_else(|| Error::invalid("file", format!("{name} is not a text")))?;
        match (name.as_str(), value) {
            (_, "") => {}
            ("SSL_CERTIFICATE", path) => {
                let path = PathBuf::from(path);
                plan.chain = path.parent().map(|folder| folder.join(AUTHORITY));
                plan.certificate = Some(path);
            }
            ("SSL_PRIVATE_KEY", path) => plan.key = Some(PathBuf::from(path)),
            (_, line) => {
                let program = line.split_whitespace().next().unwrap_or_default();
                if program.rsplit('/').next() == Some("echo") {
                    plan.notes.push("SSL_PRIVATE_KEY_PASSWORD_SCRIPT is an `echo`: the password stands in the file, for everyone who can read it".to_owned());
                }
                plan.notes.push("the private key will lie in the data folder without a password (mode 0600); to keep it behind one, name the script in strongroom.toml (tls.key_password_script) and install it again".to_owned());
                plan.password_script = Some(line.to_owned());
            }
        }
    }
    if !others.is_empty() {
        others.sort();
        plan.notes
            .push(format!("not taken over: {}", others.join(", ")));
    }
    Ok(plan)
}

/// The `server` block of nginx's file that shows a certificate.
fn nginx(text: &str) -> Result<Plan> {
    let mut plan = Plan::default();
    for words in directives(text)? {
        let values = words.get(1..).unwrap_or_default();
        let path = || values.first().map(PathBuf::from);
        match words.first().map_or("", String::as_str) {
            "ssl_certificate" if plan.certificate.is_none() || plan.certificate == path() => {
                plan.certificate = path();
            }
            "ssl_certificate" => {
                return Err(Error::invalid(
                    "file",
                    "the file shows several certificates; install the one that is meant: strongroom tls install",
                ));
            }
            "ssl_certificate_key" => plan.key = path(),
            "ssl_client_certificate" => plan.client_ca = path(),
            "ssl_password_file" => plan.notes.push(
                "ssl_password_file is not taken over: strongroom tls install --key-password-file"
                    .to_owned(),
            ),
            "ssl_crl" => plan.notes.push(
                "ssl_crl is not taken over: put the list into one file with the authority's certificates, and install that with --client-ca".to_owned(),
            ),
            "ssl_verify_depth" => plan.verify_depth = Some(depth(values, &mut plan.notes)?),
            "ssl_protocols" => plan.minimum_version = versions(values, &mut plan.notes),
            "ssl_ciphers" => {
                let list = values.join(":");
                match suites(&list) {
                    Ok(_) => plan.ciphers = Some(list),
                    Err(why) => plan
                        .notes
                        .push(format!("ssl_ciphers is not taken over: {}", why.public)),
                }
            }
            _ => {}
        }
    }
    if plan == Plan::default() {
        return Err(Error::invalid(
            "file",
            "the file is neither a keytrustee.conf (JSON) nor one of nginx's that shows a certificate (ssl_certificate)",
        ));
    }
    Ok(plan)
}

fn depth(values: &[String], notes: &mut Vec<String>) -> Result<u8> {
    let text = values.first().map_or("", String::as_str);
    let depth: u32 = text.parse().map_err(|_| {
        Error::invalid(
            "file",
            format!("ssl_verify_depth `{}` is not a number", shown(text)),
        )
    })?;
    match u8::try_from(depth) {
        Ok(depth) if depth <= DEEPEST => Ok(depth),
        _ => {
            notes.push(format!(
                "ssl_verify_depth {depth} becomes {DEEPEST}, the deepest there is"
            ));
            Ok(DEEPEST)
        }
    }
}

fn versions(values: &[String], notes: &mut Vec<String>) -> Option<&'static str> {
    let oldest = values.iter().map(|it| it.to_ascii_lowercase()).min()?;
    match oldest.as_str() {
        "tlsv1.3" => Some("tlsv1.3"),
        "tlsv1.2" => Some("tlsv1.2"),
        old => {
            notes.push(format!(
                "the oldest version of ssl_protocols, {}, becomes tlsv1.2: older ones are broken",
                shown(old)
            ));
            Some("tlsv1.2")
        }
    }
}

/// Each directive's words, in the file's order; blocks are gone through as if they were not there.
fn directives(text: &str) -> Result<Vec<Vec<String>>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let mut quote: Option<char> = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => {
                quote = None;
                words.push(std::mem::take(&mut word));
            }
            (Some(_), c) => word.push(c),
            (None, '\\') => word.extend(characters.next()),
            (None, '\'' | '"') if word.is_empty() => quote = Some(c),
            (None, '#') if word.is_empty() => {
                while characters.peek().is_some_and(|c| *c != '\n') {
                    characters.next();
                }
            }
            (None, c) if c.is_whitespace() || ";{}".contains(c) => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                if ";{}".contains(c) && !words.is_empty() {
                    all.push(std::mem::take(&mut words));
                }
            }
            (None, c) => word.push(c),
        }
    }
    if quote.is_some() || !word.is_empty() || !words.is_empty() {
        return Err(Error::invalid(
            "file",
            "the file is neither a keytrustee.conf (JSON) nor one of nginx's: its last directive has no end",
        ));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_files_are_read_with_comments_blocks_and_quotes() {
        let plan = Plan::read(
            "# ssl_certificate /no;\nserver {\n  listen 443 ssl default_server; server_name _;\n  ssl_certificate \"/etc/pki/tls/certs/ukm server.crt\";\n  ssl_certificate_key /etc/pki/tls/private/ukmserver.key; # key\n  ssl_client_certificate /etc/pki/tls/certs/ukmca.crt;\n  ssl_verify_depth 9;\n  ssl_protocols TLSv1 TLSv1.1 TLSv1.2;\n  ssl_ciphers 'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256';\n  location / { proxy_pass http://127.0.0.1:8000; }\n}\n",
        )
        .unwrap();
        assert_eq!(
            plan.certificate.unwrap(),
            Path::new("/etc/pki/tls/certs/ukm server.crt")
        );
        assert_eq!(
            plan.key.unwrap(),
            Path::new("/etc/pki/tls/private/ukmserver.key")
        );
        assert_eq!(
            plan.client_ca.unwrap(),
            Path::new("/etc/pki/tls/certs/ukmca.crt")
        );
        assert_eq!(plan.verify_depth, Some(6));
        assert_eq!(plan.minimum_version, Some("tlsv1.2"));
        assert_eq!(
            plan.ciphers.as_deref(),
            Some("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256")
        );
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    }

    #[test]
    fn keytrustee_conf_is_read_and_an_echo_is_warned_about() {
        let plan = Plan::read(
            r#"{"SSL_CERTIFICATE": "/k/.ssl/cert.pem", "SSL_PRIVATE_KEY": "/k/.ssl/pk.pem",
                "SSL_PRIVATE_KEY_PASSWORD_SCRIPT": "/bin/echo -n password", "DB_CONNECT": "x", "LOCAL_FINGERPRINT": ""}"#,
        )
        .unwrap();
        assert_eq!(
            plan.chain.unwrap(),
            Path::new("/k/.ssl/ssl-cert-keytrustee-ca.pem")
        );
        assert_eq!(plan.password_script.unwrap(), "/bin/echo -n password");
        let notes = plan.notes.join("\n");
        assert!(notes.contains("is an `echo`") && notes.contains("DB_CONNECT, LOCAL_FINGERPRINT"));
        assert!(!notes.contains("-n password"), "{notes}");
    }

    #[test]
    fn what_is_neither_says_so() {
        for (text, part) in [
            ("{\"SSL_CERTIFICATE\": ", "line 1"),
            (
                "{\"SSL_CERTIFICATE\": 5, \"SSL_PRIVATE_KEY\": \"/k\"}",
                "not a text",
            ),
            ("{\"SSL_CERTIFICATE\": \"/c\"}", "without its key"),
            ("hello world", "no end"),
            ("hello world;", "neither"),
            (
                "ssl_certificate /a; ssl_certificate_key /k; ssl_certificate /b;",
                "several",
            ),
            ("ssl_verify_depth many;", "not a number"),
            ("ssl_certificate 'unclosed;", "no end"),
        ] {
            let error = Plan::read(text).unwrap_err();
            assert!(error.public.contains(part), "{text}: {error}");
        }
    }
}
