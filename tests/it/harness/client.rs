//! A client of a test's server: its home, the program in it, and curl with its certificate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;

use super::run::{Output, run_with};
use super::{Curl, wire};

pub struct Client {
    pub home: PathBuf,
    pub org: String,
    /// Where the server was when the client was made.
    pub server: String,
    pub server_fingerprint: String,
    pub(super) ca: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) binary: PathBuf,
}

impl Client {
    /// A command as this client, at the server that it registered with.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_with(args, b"")
    }

    #[track_caller]
    pub fn cli_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        run_with(self.command().args(args), stdin)
    }

    /// A command as this client at its server's present address; ports change at a restart.
    pub fn command(&self) -> Command {
        let mut command = self.bare();
        if self.home.join("client.toml").exists() {
            command.args(["--server", &self.server]);
        }
        command
    }

    fn bare(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_remove("STRONGROOM_DATA_DIR")
            .env_remove("STRONGROOM_HOME")
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
            .arg("--home")
            .arg(&self.home);
        command
    }

    /// Registers, with the organization's code or without one.
    #[track_caller]
    pub fn register(&self, code: Option<&str>) -> Output {
        let mut command = self.bare();
        command.args([
            "--json",
            "client",
            "register",
            "--server",
            &self.server,
            "--org",
            &self.org,
            "--server-fingerprint",
            &self.server_fingerprint,
        ]);
        if code.is_some() {
            command.args(["--auth-file", "-"]);
        }
        run_with(&mut command, code.unwrap_or_default().as_bytes())
    }

    /// As `register`, with further arguments.
    #[track_caller]
    pub fn register_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut command = self.bare();
        command.args([
            "client",
            "register",
            "--server",
            &self.server,
            "--org",
            &self.org,
        ]);
        run_with(command.args(args), stdin)
    }

    /// The same client at a server that came back on other ports.
    #[must_use]
    pub fn at(mut self, server: &super::Server) -> Self {
        self.server.clone_from(&server.client_url);
        self
    }

    /// Its key's fingerprint.
    pub fn fingerprint(&self) -> String {
        let pem = std::fs::read(self.file("client.crt")).unwrap();
        let chain = strongroom::crypto::x509::parse_certificate_pem(&pem).unwrap();
        strongroom::crypto::x509::spki_fingerprint(&chain[0])
            .unwrap()
            .to_string()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// curl with this client's certificate; `path` such as `/v1/deposits/a`.
    pub fn curl(&self, path: &str) -> Curl {
        let url = format!("{}{path}", self.server);
        Curl::new(&self.folder, &self.ca, &url)
            .option("--cert", self.file("client.crt").to_str().unwrap())
            .option("--key", self.file("client.key").to_str().unwrap())
    }

    /// A connection with this client's certificate.
    pub fn wire(&self) -> wire::Connection {
        wire::Connection::with_config(&self.server, self.tls())
    }

    /// What makes such connections.
    pub fn tls(&self) -> Arc<ClientConfig> {
        let identity = (&*self.file("client.crt"), &*self.file("client.key"));
        wire::tls_config(&self.ca, Some(identity))
    }

    /// What `age -d` makes of a file, with this client's identity.
    #[track_caller]
    pub fn age_decrypt(&self, file: &Path) -> Vec<u8> {
        super::run(
            Command::new("age")
                .arg("-d")
                .arg("-i")
                .arg(self.file("identity.txt"))
                .arg(file),
        )
        .ok()
        .stdout
    }
}
