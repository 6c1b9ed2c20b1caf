//! `strongroom service`, and `supervisorctl` on top of it.

use super::typed;
use crate::harness::run::as_root;
use crate::harness::{Opens, Options, Output, PATIENCE, Server, run, run_with, until};

/// A folder that is made, whose ports are free ones, and that is stopped when the test ends.
struct Background(Server);

impl Background {
    fn new() -> Self {
        let server = Server::init(Options {
            opens: Opens::Nothing,
            ..Options::default()
        });
        let this = Self(server);
        for key in ["client_listen", "gui_listen", "health_listen"] {
            this.cli(&["config", "set", key, "127.0.0.1:0"]).ok();
        }
        this
    }

    #[track_caller]
    fn cli(&self, args: &[&str]) -> Output {
        self.0.cli(args)
    }

    #[track_caller]
    fn start(&self) -> Output {
        let key = self.0.path("key");
        self.cli(&["service", "start", "--key-file", key.to_str().unwrap()])
    }

    fn pid(&self) -> Option<u64> {
        let status = self.cli(&["--json", "service", "status"]);
        status.json()["pid"].as_u64()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let mut command = self.0.command();
        let _ = run(command
            .arg("--data-dir")
            .arg(&self.0.data)
            .args(["service", "stop"]));
    }
}

#[test]
fn a_server_is_started_in_the_background_and_stopped() {
    let server = Background::new();
    server
        .cli(&["service", "status"])
        .fails(3)
        .says(&["service start"]);
    server
        .cli(&["service", "stop"])
        .ok()
        .says(&["does not run"]);
    server.start().ok().says(&["the server runs: process"]);
    let first = server.pid().unwrap();
    server.cli(&["status"]).ok();
    server.start().ok().says(&["runs already"]);
    assert_eq!(server.pid(), Some(first));
    let tail = server.cli(&["service", "tail", "-n", "1"]).ok().text();
    assert_eq!(tail.lines().count(), 1, "{tail}");
    assert!(
        server
            .cli(&["service", "tail"])
            .ok()
            .text()
            .contains("serving")
    );
    server.cli(&["org", "add", "acme"]).ok();
    // Started anew as it was started.
    server.cli(&["service", "restart"]).ok();
    let second = server.pid().unwrap();
    assert_ne!(first, second);
    assert!(server.cli(&["status"]).ok().text().contains("serving"));
    server.cli(&["org", "show", "acme"]).ok();
    server.cli(&["service", "stop"]).ok();
    assert_eq!(server.pid(), None);
    server.cli(&["service", "start"]).ok();
    assert!(server.cli(&["status"]).ok().text().contains("serving"));
    server
        .cli(&["service", "restart", "--sealed"])
        .ok()
        .says(&["sealed", "unseal"]);
    server.cli(&["status"]).fails(3);
    let log = server.0.data.join("log/serve.log");
    let mode = std::os::unix::fs::PermissionsExt::mode(&log.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_server_that_ends_at_once_says_why_and_one_that_was_killed_starts_again() {
    let server = Background::new();
    let wrong = server.0.file("wrong", "wrong");
    server
        .cli(&[
            "service",
            "start",
            "--passphrase-file",
            wrong.to_str().unwrap(),
        ])
        .fails(3)
        .says(&["did not start", "does not open"]);
    // Nothing of that is remembered: without options it starts sealed.
    server.cli(&["service", "start"]).ok().says(&["sealed"]);
    server
        .cli(&["service", "restart"])
        .fails(2)
        .says(&["--key-file"]);
    assert!(server.pid().is_some(), "it still runs");
    server.cli(&["service", "stop"]).ok();
    server.start().ok();
    let pid = server.pid().unwrap();
    crate::harness::run::signal(u32::try_from(pid).unwrap(), "KILL");
    until(PATIENCE, || server.pid().is_none());
    server.cli(&["service", "stop"]).ok();
    server.cli(&["service", "start"]).ok();
    assert!(server.cli(&["status"]).ok().text().contains("serving"));
    // A passphrase from stdin opens it, and is kept nowhere.
    let mut passphrase = server.0.options.passphrase.clone();
    passphrase.push(b'\n');
    server.cli(&["service", "stop"]).ok();
    let mut command = server.0.command();
    command.arg("--data-dir").arg(&server.0.data).args([
        "service",
        "start",
        "--passphrase-file",
        "-",
    ]);
    run_with(&mut command, &passphrase).ok();
    assert!(server.cli(&["status"]).ok().text().contains("serving"));
    for file in ["run/service.json", "log/serve.log"] {
        let bytes = std::fs::read(server.0.data.join(file)).unwrap();
        assert!(
            !bytes
                .windows(12)
                .any(|it| it == &server.0.options.passphrase[..12]),
            "{file}"
        );
    }
}

#[test]
fn what_root_does_in_another_accounts_folder_leaves_it_that_accounts() {
    use std::os::unix::fs::MetadataExt as _;
    let server = Background::new();
    let data = server.0.data.clone();
    let owner = data.metadata().unwrap().uid();
    let give = |uid: u32, path: &std::path::Path| {
        run(as_root("chown").arg(uid.to_string()).arg(path)).ok();
    };
    let as_root_in = |args: &[&str]| {
        let mut command = as_root("env");
        command
            .arg(&server.0.options.binary)
            .arg("--data-dir")
            .arg(&data)
            .args(args);
        run(&mut command)
    };
    let config = data.join("live/strongroom.toml");
    give(65_534, &config);
    as_root_in(&["config", "set", "roles.frontend", "false"]).ok();
    assert_eq!(config.metadata().unwrap().uid(), 65_534);
    give(owner, &config);
    give(65_534, &data);
    as_root_in(&["service", "start", "--sealed"])
        .fails(5)
        .says(&["belongs to uid 65534", "setpriv"]);
    give(owner, &data);
    server.start().ok();
}

#[test]
fn two_that_start_it_at_once_start_one() {
    let server = Background::new();
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..2).map(|_| scope.spawn(|| server.start())).collect();
        started.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(outputs.iter().any(|it| it.status == 0), "{outputs:?}");
    for output in outputs.iter().filter(|it| it.status != 0) {
        assert!(output.stderr.contains("in use by process"), "{output:?}");
    }
    server.cli(&["status"]).ok();
}

#[test]
fn supervisorctl_speaks_of_the_whole_server() {
    let background = Background::new();
    let server = &background.0;
    assert_eq!(
        typed(server, "supervisorctl status").fails(3).text(),
        "backend STOPPED\nfrontend STOPPED\n"
    );
    background.start().ok();
    assert_eq!(
        typed(server, "supervisorctl status").ok().text(),
        "backend RUNNING\nfrontend RUNNING\n"
    );
    let first = background.pid();
    typed(server, "supervisorctl restart frontend:")
        .ok()
        .says(&["whole server"]);
    assert_ne!(background.pid(), first);
    typed(server, "supervisorctl stop backend:").ok();
    assert_eq!(
        typed(server, "supervisorctl status backend")
            .fails(3)
            .text(),
        "backend STOPPED\n"
    );
    typed(server, "supervisorctl start frontend: graphupdate redis")
        .ok()
        .says(&["graphupdate is not needed", "redis is not needed"]);
    typed(server, "supervisorctl start backend: redis")
        .ok()
        .says(&["runs already"]);
    assert_eq!(
        typed(server, "supervisorctl status all").ok().text(),
        "backend RUNNING\nfrontend RUNNING\n"
    );
    let tail = typed(server, "supervisorctl tail frontend").ok().text();
    assert!(tail.contains("serving"), "{tail}");
    for line in [
        "tail backend:host-executor",
        "stop backend:host-executor",
        "stop frontend:api-executor",
    ] {
        typed(server, &format!("supervisorctl {line}"))
            .ok()
            .says(&["part of the server"]);
    }
    typed(server, "supervisorctl stop frontend:nonsense").fails(2);
    assert_eq!(
        typed(server, "supervisorctl status all").ok().text(),
        "backend RUNNING\nfrontend RUNNING\n"
    );
    typed(server, "supervisorctl tail redis")
        .ok()
        .says(&["not needed"]);
    typed(server, "supervisorctl restart nginx")
        .fails(2)
        .says(&["`nginx` is no service here"]);
    typed(server, "supervisorctl start").fails(2);
    typed(server, "ssh-mgr-controller --disable-server-role=frontend").ok();
    typed(server, "supervisorctl restart all").ok();
    assert_eq!(
        typed(server, "supervisorctl status").ok().text(),
        "backend RUNNING\nfrontend STOPPED\n"
    );
}
