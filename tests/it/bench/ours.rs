//! The server that is measured: the executable itself, in a folder of its own, with one client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use strongroom::crypto::tls::{ClientIdentity, Trust, client_config};
use strongroom::secret::Secret;

use super::load::{Ask, Target};
use super::{DEPOSITS, body, end, name, pick, said, spawn, until};

pub struct Ours {
    folder: PathBuf,
    child: Option<Child>,
    pub target: Target,
    tls: Arc<ClientConfig>,
}

/// What opens the root key at a start.
#[derive(Clone, Copy, Debug)]
pub enum Slot {
    KeyFile,
    Passphrase,
}

fn program() -> PathBuf {
    std::env::var_os("STRONGROOM_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_strongroom").into(), PathBuf::from)
}

impl Ours {
    /// Initialised, started, with one organization and one active client.
    pub fn start(folder: &Path) -> Self {
        std::fs::write(folder.join("passphrase"), "a passphrase of the bench\n").unwrap();
        std::fs::write(folder.join("key-file"), body(0)).unwrap();
        std::fs::write(folder.join("empty"), "").unwrap();
        let cli = |arguments: &[&str]| {
            said(Command::new(program()).args(arguments).current_dir(folder).env("STRONGROOM_DATA_DIR", "data"))
        };
        cli(&["init", "--fqdn", "localhost", "--passphrase-file", "passphrase", "--key-file", "key-file"]);
        let (child, ready, _) = serve(folder, Slot::KeyFile);
        cli(&["org", "add", "acme"]);
        cli(&["org", "set-auth", "acme", "--secret-file", "empty"]);
        let url = ready["client_url"].as_str().unwrap();
        let fingerprint = ready["server_fingerprint"].as_str().unwrap();
        cli(&["client", "register", "--server", url, "--org", "acme", "--server-fingerprint", fingerprint, "--home", "home"]);
        let read = |name: &str| std::fs::read_to_string(folder.join("home").join(name)).unwrap();
        let mut tls = ClientConfig::clone(
            &*client_config(
                Trust::CaPem(read("ca.pem")),
                Some(ClientIdentity {
                    cert_pem: &read("client.crt"),
                    key_pem: &Secret::new(read("client.key")),
                }),
            )
            .unwrap(),
        );
        // Every handshake is a full one, with every server.
        tls.resumption = rustls::client::Resumption::disabled();
        let tls = Arc::new(tls);
        Self {
            target: target(&tls, port(&ready), child.id()),
            folder: folder.to_owned(),
            child: Some(child),
            tls,
        }
    }

    /// Stops it and starts it again; returns how long it took until it was ready.
    pub fn restart(&mut self, slot: Slot) -> Duration {
        self.stop();
        let (child, ready, took) = serve(&self.folder, slot);
        self.target = target(&self.tls, port(&ready), child.id());
        self.child = Some(child);
        took
    }

    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        said(Command::new("kill").arg(child.id().to_string()));
        let status = child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
    }

    pub fn cli(&self, arguments: &[&str]) -> String {
        said(
            Command::new(program())
                .args(arguments)
                .current_dir(&self.folder)
                .env("STRONGROOM_DATA_DIR", "data"),
        )
    }

    /// A server at another port, spoken to in the same way by the same client.
    pub fn target_at(&self, port: u16, pid: u32) -> Target {
        target(&self.tls, port, pid)
    }

    /// Its certificate with the chain, and the key: other servers show the same.
    pub fn leaf(&self) -> (PathBuf, PathBuf) {
        let tls = self.folder.join("data/live/tls");
        (tls.join("leaf.pem"), tls.join("leaf.key"))
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.join("home/ca.pem")
    }

    pub fn is_root(&self) -> bool {
        strongroom::os::effective_uid() == 0
    }

    /// A new deposit with a label and an idempotency key.
    pub fn put(&self, prefix: &'static str) -> Ask {
        let bodies: Vec<Vec<u8>> = (0..64).map(body).collect();
        Arc::new(move |number, request| {
            let name = name(number);
            let body = &bodies[number as usize % bodies.len()];
            let head = format!(
                "PUT /{DEPOSITS}/{prefix}{name} HTTP/1.1\r\nhost: localhost\r\nstrongroom-labels: use=bench\r\nidempotency-key: {prefix}{name}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(body);
        })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// Asks for one of the first `count` deposits, in an order that no cache foresees.
pub fn get(count: u64) -> Ask {
    Arc::new(move |number, request| {
        let name = name(pick(number, count));
        let head = format!("GET /{DEPOSITS}/{name} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        request.extend_from_slice(head.as_bytes());
    })
}

fn serve(folder: &Path, slot: Slot) -> (Child, serde_json::Value, Duration) {
    let ready = folder.join("ready");
    let _ = std::fs::remove_file(&ready);
    let slot = match slot {
        Slot::KeyFile => ["--key-file", "key-file"],
        Slot::Passphrase => ["--passphrase-file", "passphrase"],
    };
    let any = "127.0.0.1:0";
    let started = Instant::now();
    let child = spawn(
        Command::new(program())
            .args(["serve", "--data-dir", "data", "--ready-file", "ready"])
            .args(["--client-listen", any, "--gui-listen", any, "--health-listen", any])
            .args(slot)
            .stdin(Stdio::null())
            .current_dir(folder),
        &folder.join("said"),
    );
    until(Duration::from_secs(60), "the server is ready", || ready.exists());
    let took = started.elapsed();
    let text = std::fs::read(&ready).unwrap();
    (child, serde_json::from_slice(&text).unwrap(), took)
}

fn port(ready: &serde_json::Value) -> u16 {
    let url = ready["client_url"].as_str().unwrap();
    url.rsplit(':').next().unwrap().parse().unwrap()
}

fn target(tls: &Arc<ClientConfig>, port: u16, pid: u32) -> Target {
    Target {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        name: ServerName::try_from("localhost").unwrap(),
        tls: Arc::clone(tls),
        pid,
    }
}
