//! The executable that is handed out, in a root folder that holds nothing but it: no loader, no
//! libraries, no /dev, no /proc, no /etc. Of a development build, which needs all of these, there is
//! nothing to test here; STRONGROOM_BIN (`make dist-test`) names the file that must pass.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::run::Killed;
use crate::harness::{Folder, Output, PATIENCE, run, until_some};

/// Where names are asked for; any free address of this machine, since the port is fixed.
const DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 53, 53);

struct Root {
    folder: Folder,
}

impl Root {
    /// None of a development build.
    fn new() -> Option<Self> {
        let file = std::env::var_os("STRONGROOM_BIN").map(PathBuf::from)?;
        assert!(is_static(&file), "{} is not static", file.display());
        let folder = Folder::new();
        std::fs::copy(&file, folder.path().join("strongroom")).unwrap();
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if strongroom::os::effective_uid() != 0 {
            command.args(["unshare", "--map-root-user"]);
        }
        command.arg("chroot").arg(self.folder.path());
        command.arg("/strongroom").args(arguments).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// Makes a data folder and serves it; its client URL, fingerprint, and the server.
    fn serve(&self) -> (String, String, Killed) {
        self.folder.write("passphrase", "of an empty root folder\n");
        self.folder.write("key", [7; 32]);
        let slots = ["--passphrase-file", "/passphrase", "--key-file", "/key"];
        let init = ["init", "--data-dir", "/data", "--fqdn", "keys.example"];
        self.run(&[&init[..], &slots].concat()).ok();
        let any = "127.0.0.1:0";
        let mut command = self.command(&["serve", "--data-dir", "/data", "--key-file", "/key"]);
        command.args(["--client-listen", any, "--gui-listen", any]);
        command.args(["--health-listen", any, "--ready-file", "/ready"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Killed(child.unwrap());
        let ready: serde_json::Value = until_some(PATIENCE, || {
            serde_json::from_slice(&std::fs::read(self.path("ready")).ok()?).ok()
        });
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        (text("client_url"), text("server_fingerprint"), server)
    }

    fn register(&self, url: &str, fingerprint: &str, home: &str) -> Output {
        self.run(&[
            "client",
            "register",
            "--server",
            url,
            "--org",
            "acme",
            "--server-fingerprint",
            fingerprint,
            "--home",
            home,
        ])
    }
}

/// An ELF file without an interpreter (program header of type 3).
fn is_static(file: &Path) -> bool {
    let bytes = std::fs::read(file).unwrap();
    let half = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let headers = u64::from_le_bytes(bytes[32..40].try_into().unwrap()) as usize;
    (0..half(56)).all(|number| half(headers + number * half(54)) != 3)
}

#[test]
fn an_empty_root_folder_is_enough_for_a_server_and_its_client() {
    let Some(root) = Root::new() else { return };
    let (url, fingerprint, _server) = root.serve();
    let port = url.rsplit(':').next().unwrap();
    root.run(&["--data-dir", "/data", "org", "add", "acme"])
        .ok();
    let blank = ["org", "set-auth", "acme", "--open"];
    root.run(&[&["--data-dir", "/data"], &blank[..]].concat())
        .ok();

    // Without /etc/hosts and resolv.conf nobody knows the name, and that is said, not a crash.
    let unknown = root.register(&url, &fingerprint, "/nowhere");
    assert!((1..=5).contains(&unknown.status), "{unknown:?}");

    std::fs::create_dir(root.path("etc")).unwrap();
    root.folder.write("etc/hosts", "127.0.0.1 keys.example\n");
    root.register(&url, &fingerprint, "/by-hosts").ok();
    std::fs::write(root.path("secret"), "a secret").unwrap();
    let home = ["--home", "/by-hosts", "deposit"];
    root.run(&[&home[..], &["put", "one", "/secret"]].concat())
        .ok();
    let got = root.run(&[&home[..], &["get", "one"]].concat()).ok();
    assert_eq!(got.stdout, b"a secret");
    assert!(url.contains(&format!("keys.example:{port}")));
}

#[test]
fn names_resolve_by_the_name_server_of_resolv_conf() {
    let Some(root) = Root::new() else { return };
    let socket = UdpSocket::bind((DNS, 53)).expect("port 53 needs root");
    let (url, fingerprint, _server) = root.serve();
    root.run(&["--data-dir", "/data", "org", "add", "acme"])
        .ok();
    std::fs::create_dir(root.path("etc")).unwrap();
    let server = format!("nameserver {DNS}\noptions timeout:2 attempts:1\n");
    root.folder.write("etc/resolv.conf", server);
    let asked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| answer_names(&socket, &asked));
        // Without the organization's code it waits for approval; it has spoken with the server.
        root.register(&url, &fingerprint, "/by-dns").ok();
        let end = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        end.send_to(&[], (DNS, 53)).unwrap();
    });
    assert!(
        asked.load(Ordering::Relaxed),
        "the name server was not asked"
    );
}

/// Answers each question for an address with 127.0.0.1, until an empty packet comes.
fn answer_names(socket: &UdpSocket, asked: &AtomicBool) {
    let mut packet = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut packet).unwrap();
        let Some(question) = packet[..length].get(12..) else {
            return;
        };
        let name = question.iter().position(|byte| *byte == 0).unwrap();
        let question = &question[..name + 5];
        let is_a = question[name + 1..name + 3] == [0, 1];
        // The id, "an answer, recursion available", one question, one answer if it is for an A.
        let mut answer = packet[..2].to_vec();
        answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        answer.extend_from_slice(question);
        if is_a {
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            asked.store(true, Ordering::Relaxed);
        }
        socket.send_to(&answer, from).unwrap();
    }
}
