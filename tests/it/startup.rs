//! What keeps a server from starting says what and why, with the right exit code, and loses nothing:
//! once the cause is gone, the server starts and has everything.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use crate::harness::run::Killed;
use crate::harness::{Folder, Opens, Options, PATIENCE, Server, run, until};

const BYTES: &[u8] = b"bytes of a deposit";

/// A server that holds a deposit, stopped.
pub fn stopped(options: Options) -> Server {
    let mut server = Server::start(options);
    let client = server.client("a", "acme");
    client.cli_with(&["deposit", "put", "key", "-"], BYTES).ok();
    server.stop();
    server
}

/// Starts it, and sees that nothing was lost.
#[track_caller]
pub fn all_is_there(server: &mut Server) {
    server.serve();
    let client = server.stranger("a", "acme");
    assert_eq!(client.cli(&["deposit", "get", "key"]).ok().stdout, BYTES);
    server.cli(&["audit", "verify"]).ok();
    server.stop();
}

/// The refusal to start: its exit code, what it says, and nothing that is secret.
#[track_caller]
pub fn refuses(server: &Server, status: i32, says: &[&str]) {
    let refused = server.serve_fails().fails(status).says(says);
    let key = hex::encode(fs::read(server.path("key")).unwrap());
    let passphrase = String::from_utf8_lossy(&server.options.passphrase).into_owned();
    for secret in [
        passphrase.as_str(),
        &server.password,
        &key,
        "bytes of a deposit",
    ] {
        assert!(!refused.stderr.contains(secret), "{refused:?}");
    }
    assert!(!refused.stderr.contains("panicked"), "{refused:?}");
    assert!(!server.path("ready.json").exists());
}

pub fn live(server: &Server, name: &str) -> PathBuf {
    server.data.join("live").join(name)
}

/// Replaces a file, keeping its old content for `put_back`.
pub fn replace(path: &PathBuf, bytes: &[u8]) -> Vec<u8> {
    let before = fs::read(path).unwrap_or_default();
    fs::write(path, bytes).unwrap();
    before
}

#[test]
fn a_wrong_an_empty_and_a_huge_passphrase_are_told_apart() {
    let mut server = stopped(Options {
        opens: Opens::Passphrase,
        ..Options::default()
    });
    let right = fs::read(server.path("passphrase")).unwrap();
    let with = |bytes: &[u8]| fs::write(server.path("passphrase"), bytes).unwrap();
    with(b"another passphrase\n");
    refuses(&server, 3, &["passphrase does not open", "slot"]);
    for empty in [&b""[..], b"\n"] {
        with(empty);
        refuses(&server, 2, &["passphrase", "empty"]);
    }
    with(&vec![b'x'; 1 << 20]);
    refuses(&server, 3, &["passphrase"]);
    with(&vec![b'x'; (1 << 20) + 2]);
    refuses(&server, 5, &["1048576"]);
    fs::remove_file(server.path("passphrase")).unwrap();
    refuses(&server, 2, &["cannot read", "passphrase"]);
    with(&right);
    all_is_there(&mut server);
}

#[test]
fn a_wrong_key_file_is_refused() {
    let mut server = stopped(Options::default());
    let right = replace(&server.path("key"), &[7; 32]);
    refuses(&server, 3, &["key file does not open"]);
    replace(&server.path("key"), &[7; 8]);
    refuses(&server, 3, &["key file does not open"]);
    replace(&server.path("key"), b"");
    let empty = server.serve_fails().fails(3);
    assert!(empty.stderr.contains("it is empty"), "{empty:?}");
    replace(&server.path("key"), &right);
    all_is_there(&mut server);
}

#[test]
fn a_passphrase_of_bytes_that_are_no_text_opens() {
    let passphrase = vec![0xff, 0x00, 0x80, b' ', 0xfe, b'\t', 0xc3];
    let mut server = stopped(Options {
        opens: Opens::Passphrase,
        passphrase,
        ..Options::default()
    });
    all_is_there(&mut server);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let mut server = stopped(Options::default());
    let data = server.data.to_str().unwrap().to_owned();
    let script = format!(
        "mount --bind '{data}' '{data}' && mount -o remount,ro,bind '{data}' && exec \"$@\""
    );
    let wrapper = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    server.options.wrapper = wrapper.map(str::to_owned).to_vec();
    refuses(&server, 3, &["ead-only file system", &data]);
    server.options.wrapper.clear();
    all_is_there(&mut server);
}

#[test]
fn a_folder_in_use_names_the_process_and_one_with_a_server_is_not_made_anew() {
    let mut server = Server::start(Options::default());
    let pid = server.pid.to_string();
    let second = server.serve_fails().fails(5).says(&["in use", &pid]);
    assert!(!second.stderr.contains("panicked"));
    server.run_init().fails(5).says(&["in use", &pid]);
    server.stop();
    server.run_init().fails(5).says(&["holds a server already"]);
    server.serve();
    let empty = Folder::new();
    let nothing = run(server
        .command()
        .args(["serve", "--data-dir"])
        .arg(empty.path())
        .arg("--key-file")
        .arg(server.path("key")));
    nothing
        .fails(3)
        .says(&["holds no server", "strongroom init"]);
}

#[test]
fn loose_modes_are_repaired_with_a_warning() {
    let mut server = stopped(Options::default());
    let loose = [
        (live(&server, "seal.json"), 0o644, 0o600),
        (server.data.clone(), 0o755, 0o700),
        (live(&server, "tls"), 0o770, 0o700),
    ];
    for (path, mode, _) in &loose {
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    all_is_there(&mut server);
    for (path, mode, tight) in &loose {
        let found = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, *tight, "{}", path.display());
        assert!(
            server
                .log()
                .contains(&format!("{} was {mode:04o}", path.display())),
            "{}",
            server.log()
        );
    }
}

#[test]
fn a_taken_port_is_named_with_its_setting() {
    let mut server = stopped(Options::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["client_listen", "gui_listen", "health_listen"] {
        let option = format!("--{}", setting.replace('_', "-"));
        server.options.args = vec![option, address.clone()];
        refuses(&server, 3, &[&address, setting, "taken"]);
    }
    server.options.args = vec!["--health-listen".to_owned(), "0.0.0.0:0".to_owned()];
    let refused = server.serve_fails();
    assert_ne!(refused.status, 0, "{refused:?}");
    server.options.args.clear();
    all_is_there(&mut server);
}

#[test]
fn a_clock_before_2020_is_refused_by_init_and_serve() {
    let mut server = stopped(Options::stepped());
    server.clock("@2019-12-31 23:00:00");
    refuses(&server, 3, &["clock", "2020"]);
    let folder = Folder::new();
    let early = run(std::process::Command::new("faketime")
        .args(["-f", "@2019-12-31 23:00:00"])
        .arg(&server.options.binary)
        .args(["init", "--fqdn", "localhost", "--passphrase-file"])
        .arg(server.path("passphrase"))
        .arg("--data-dir")
        .arg(folder.path().join("data")));
    early.fails(3).says(&["clock", "2020"]);
    assert!(!folder.path().join("data").exists());
    server.clock("+0");
    all_is_there(&mut server);
}

#[test]
fn a_certificate_that_does_not_fit_is_issued_anew_and_clients_stay() {
    let mut server = stopped(Options::stepped());
    let other = Server::init(Options::default());
    let leaf = |server: &Server, name: &str| fs::read(live(server, "tls").join(name)).unwrap();
    let set = |name: &str, bytes: &[u8]| fs::write(live(&server, "tls").join(name), bytes).unwrap();
    let (pem, key) = (leaf(&server, "leaf.pem"), leaf(&server, "leaf.key"));
    let reissued = |server: &mut Server, why: &str| {
        let before = server.log().matches("issued anew").count();
        all_is_there(server);
        assert_eq!(
            server.log().matches("issued anew").count(),
            before + 1,
            "{why}: {}",
            server.log()
        );
    };
    set("leaf.pem", &leaf(&other, "leaf.pem"));
    reissued(&mut server, "another's certificate");
    let set = |name: &str, bytes: &[u8]| fs::write(live(&server, "tls").join(name), bytes).unwrap();
    set("leaf.key", &leaf(&other, "leaf.key"));
    reissued(&mut server, "another's key");
    let set = |name: &str, bytes: &[u8]| fs::write(live(&server, "tls").join(name), bytes).unwrap();
    set("leaf.pem", &leaf(&other, "leaf.pem"));
    set("leaf.key", &leaf(&other, "leaf.key"));
    reissued(&mut server, "another server's");
    let set = |name: &str, bytes: &[u8]| fs::write(live(&server, "tls").join(name), bytes).unwrap();
    set("leaf.pem", b"nonsense");
    reissued(&mut server, "no certificate");
    let set = |name: &str, bytes: &[u8]| fs::write(live(&server, "tls").join(name), bytes).unwrap();
    set("leaf.pem", &pem);
    set("leaf.key", &key);
    fs::remove_file(live(&server, "tls").join("leaf.key")).unwrap();
    reissued(&mut server, "no key");
}

#[test]
fn an_expired_certificate_is_issued_anew() {
    let mut server = stopped(Options::stepped());
    let before = fs::read(live(&server, "tls/leaf.pem")).unwrap();
    server.clock("+5000d");
    server.serve();
    assert!(server.log().contains("issued anew"), "{}", server.log());
    let after = fs::read(live(&server, "tls/leaf.pem")).unwrap();
    assert!(before != after);
    server.stop();
}

#[test]
fn an_init_that_was_killed_half_way_is_done_again_from_the_beginning() {
    let server = Server::init(Options::default());
    for seen in [
        "live.new",
        "live.new/seal.json",
        "live.new/strongroom.db",
        "live.new/tls/leaf.pem",
        "node.json",
    ] {
        fs::remove_dir_all(&server.data).unwrap();
        let child = server
            .command()
            .args(["init", "--fqdn", "localhost", "--data-dir"])
            .arg(&server.data)
            .arg("--passphrase-file")
            .arg(server.path("passphrase"))
            .arg("--superuser-password-file")
            .arg(server.path("password"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = Killed(child.unwrap());
        until(PATIENCE, || server.data.join(seen).exists());
        drop(child);
        if !server.data.join("live").exists() {
            refuses(&server, 3, &["holds no server"]);
            server.run_init().ok();
        }
    }
    fs::remove_dir_all(&server.data).unwrap();
    server.run_init().ok();
    let mut server = server;
    server.serve();
    server
        .client("a", "acme")
        .cli_with(&["deposit", "put", "key", "-"], BYTES)
        .ok();
    server.stop();
    all_is_there(&mut server);
}

#[test]
fn a_wrong_configuration_names_the_key_and_the_line() {
    let mut server = stopped(Options::default());
    let path = live(&server, "strongroom.toml");
    let right = fs::read_to_string(&path).unwrap();
    for (wrong, says) in [
        (format!("nonsense = 1\n{right}"), "nonsense"),
        (
            right.replace("fqdn = \"localhost\"", "fqdn = \"local host\""),
            "local host",
        ),
        (
            right.replace(
                "[admin.socket_users]",
                "[admin.socket_users]\n1000 = \"auditor\"",
            ),
            "admin.socket does not say",
        ),
        ("fqdn".to_owned(), "line 1"),
    ] {
        assert_ne!(wrong, right);
        fs::write(&path, wrong).unwrap();
        refuses(&server, 2, &[says]);
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    refuses(&server, 2, &["UTF-8"]);
    fs::write(&path, right).unwrap();
    all_is_there(&mut server);
}
