//! nginx, serving the same bytes as files over the same TLS.

use std::path::Path;
use std::process::{Child, Command};

use super::ours::Ours;
use super::load::Target;
use super::{DEPOSITS, body, free_port, name, spawn};

pub struct Nginx {
    child: Child,
    pub target: Target,
}

impl Nginx {
    /// As Debian ships it but for: no access log (ours cannot be switched off), no session reuse,
    /// and connections that stay open. The leaf and its key are those of our server.
    pub fn start(folder: &Path, ours: &Ours, count: u64) -> Self {
        let files = folder.join("v1/deposits");
        std::fs::create_dir_all(&files).unwrap();
        for number in 0..count {
            std::fs::write(files.join(name(number)), body(number)).unwrap();
        }
        let port = free_port();
        let root = folder.display();
        // Workers of root's nginx would be another user, who does not reach a private folder.
        let user = if ours.is_root() { "user root;" } else { "" };
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
        let child = spawn(
            Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&config),
            &folder.join("said"),
        );
        let target = ours.target_at(port, child.id());
        target.until_it_answers(&format!("/{DEPOSITS}/{}", name(0)));
        Self { child, target }
    }

    pub fn version() -> String {
        super::said(Command::new("nginx").arg("-v"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        super::end(&mut self.child);
    }
}
