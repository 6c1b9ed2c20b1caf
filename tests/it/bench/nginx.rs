//! nginx, serving the same bytes as files over the same TLS.

use std::path::Path;
use std::process::Command;

use super::load::Target;
use super::ours::Ours;
use super::{DEPOSITS, Peer, body, free_port, name, until_it_listens, version};

pub struct Nginx {
    _peer: Peer,
    pub target: Target,
}

impl Nginx {
    /// As Debian ships it but for: no access log (ours cannot be switched off), no session reuse,
    /// and connections that stay open. The leaf and its key are those of our server.
    pub fn start(folder: &Path, ours: &Ours, count: u64) -> Self {
        let files = folder.join(DEPOSITS);
        std::fs::create_dir_all(&files).unwrap();
        for number in 0..count {
            std::fs::write(files.join(name(number)), body(number)).unwrap();
        }
        let port = free_port();
        let root = folder.display();
        // Workers of root's nginx would be another user, who does not reach a private folder.
        let user = match strongroom::os::effective_uid() {
            0 => "user root;",
            _ => "",
        };
        let (leaf, key) = ours.leaf();
        let text = format!(
            "daemon off; {user} worker_processes auto; pid {root}/pid; error_log {root}/error.log;
            events {{ worker_connections 4096; }}
            http {{
              access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
              default_type application/octet-stream;
              server {{
                listen 127.0.0.1:{port} ssl backlog=4096; server_name localhost; root {root};
                ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;
                ssl_verify_client optional_no_ca; ssl_session_cache off; ssl_session_tickets off;
              }}
            }}",
            leaf.display(),
            key.display()
        );
        let config = folder.join("nginx.conf");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&config);
        let peer = Peer::start(&command, None, &folder.join("said"));
        until_it_listens(port);
        Self {
            target: ours.target_at(port, peer.pid()),
            _peer: peer,
        }
    }

    pub fn version() -> String {
        version(Command::new("nginx").arg("-v"))
    }
}
