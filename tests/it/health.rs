//! How the server tells that it is well, what it does while it stops, and where its log goes.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Options, PATIENCE, Server, until, wire};

/// Metrics as name (labels included) and value; fails on a line that is neither that nor a comment.
fn metrics(text: &str) -> Vec<(String, f64)> {
    text.lines()
        .filter(|line| !line.starts_with("# HELP ") && !line.starts_with("# TYPE "))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (
                name.to_owned(),
                value.parse().unwrap_or_else(|_| panic!("{line}")),
            )
        })
        .collect()
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = String::from_utf8(server.health("/metrics").ok(200).body).unwrap();
    metrics(&text)
        .into_iter()
        .find(|(found, _)| found == name)
        .unwrap_or_else(|| panic!("{name}: {text}"))
        .1
}

#[test]
fn health_readiness_and_metrics_are_served_on_loopback() {
    let server = Server::start(Options::default());
    let look = || server.health("/healthz").ok(200).json();
    // Amber until there is a backup, once the server has looked.
    until(PATIENCE, || look()["state"] == "amber");
    let health = look();
    assert_eq!(health["server"], "serving", "{health}");
    let subsystems = health["subsystems"].as_array().unwrap();
    for name in ["store", "audit", "certificates"] {
        let found = subsystems
            .iter()
            .find(|it| it["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {health}"));
        assert_eq!(found["state"], "green");
        assert!(found["since"].is_string() && found["reason"] == "" && found["next_step"] == "");
    }
    server.health("/readyz").ok(200);
    assert_eq!(server.health("/elsewhere").status, 404);
    let mut wire = wire::Connection::plain(&server.health_url);
    assert_eq!(wire.request("POST", "/healthz", &[], Some(b"")).status, 405);

    let client = server.client("a", "acme");
    client.curl("/v1/deposits/key").put(b"x").send().ok(201);
    client.curl("/v1/deposits/none").send().ok(404);
    assert!((metric(&server, "strongroom_deposits") - 1.0).abs() < 0.5);
    assert!((metric(&server, "strongroom_clients") - 1.0).abs() < 0.5);
    assert!(metric(&server, "strongroom_requests_total{status=\"4xx\"}") >= 1.0);
    assert!(metric(&server, "strongroom_requests_total{status=\"2xx\"}") >= 2.0);
    assert!((metric(&server, "strongroom_subsystem_state{subsystem=\"store\"}")).abs() < 0.5);
}

#[test]
fn a_token_for_metrics_reads_them_on_8443_and_nothing_else() {
    let server = Server::start(Options::default());
    let token = server.token("superuser", &["metrics"]);
    let get = |path: &str| {
        server
            .curl(&format!("{}{path}", server.gui_url))
            .token(&token)
            .send()
    };
    let text = String::from_utf8(get("/metrics").ok(200).body).unwrap();
    assert!(
        metrics(&text)
            .iter()
            .any(|(name, _)| name == "strongroom_store_revision"),
        "{text}"
    );
    get("/v1/status").refused(403, "denied");
    get("/v1/orgs").refused(403, "denied");
    server
        .curl(&format!("{}/metrics", server.gui_url))
        .send()
        .refused(401, "unauthenticated");
    server
        .curl(&format!("{}/metrics", server.client_url))
        .token(&token)
        .send()
        .ok(404);
}

#[test]
fn what_was_taken_on_is_finished_while_the_server_stops() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut idle = client.wire();
    idle.get("/v1/deposits").ok(200);
    let mut taken_on = client.wire();
    taken_on
        .send(
            b"PUT /v1/deposits/key HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf ",
        )
        .unwrap();
    // The half is there once the server has counted what came after it.
    client.wire().get("/v1/deposits").ok(200);
    server.signal("TERM");
    until(PATIENCE, || server.health("/readyz").status == 503);
    let health = server.health("/healthz").json();
    assert_eq!(health["server"], "stopping", "{health}");
    server.health("/metrics").ok(200);
    assert!(idle.is_closed(), "an idle connection is closed at once");
    assert!(
        std::net::TcpStream::connect(
            wire::authority(&server.client_url).replace("localhost", "127.0.0.1")
        )
        .is_err(),
        "nothing new is taken on"
    );
    assert!(server.is_running());
    taken_on.send(b"done!").unwrap();
    taken_on.answer(false).unwrap().ok(201);
    assert_eq!(server.ended(), Some(0), "{}", server.log());
    assert!(server.log().contains("stopped"));
    server.serve();
    let client = client.at(&server);
    assert_eq!(
        client.curl("/v1/deposits/key").send().ok(200).body,
        b"half done!"
    );
    let events = server.json(&["audit", "list", "-F", "action = server.stop"]);
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
}

#[test]
fn sighup_names_the_keys_that_need_a_restart_and_what_is_wrong() {
    let server = Server::start(Options::default());
    let path = server.data.join("live/strongroom.toml");
    let right = fs::read_to_string(&path).unwrap();
    server.signal("HUP");
    server.logs("strongroom.toml is as it was");
    let port_of = |key: &str| {
        right
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap()
            .to_owned()
    };
    let changed = right.replace("fqdn = \"localhost\"", "fqdn = \"vault.example.com\"");
    assert_ne!(changed, right, "{}", port_of("fqdn"));
    fs::write(&path, &changed).unwrap();
    server.signal("HUP");
    server.logs("keys=fqdn");
    fs::write(&path, format!("colour = 1\n{right}")).unwrap();
    server.signal("HUP");
    server.logs("strongroom.toml was not taken over");
    assert!(server.log().contains("colour"), "{}", server.log());
    fs::write(&path, &right).unwrap();
    assert_eq!(server.health("/readyz").status, 200, "it goes on as it was");
}

#[test]
fn the_log_goes_where_a_setting_says_in_the_form_that_it_says() {
    let server = Server::start(Options::default());
    let set = |name: &str, value: &str| server.cli(&["setting", "set", name, value]);
    set("log.level", "loud")
        .fails(2)
        .says(&["error, warn, info, debug"]);
    set("log.format", "xml").fails(2).says(&["text, json"]);
    set("log.target", "printer")
        .fails(2)
        .says(&["stderr, file, syslog"]);
    assert_eq!(
        server.json(&["setting", "get", "log.format"])["value"],
        "text"
    );

    set("log.format", "json").ok();
    let refused = server
        .curl(&format!("{}/v1/deposits", server.client_url))
        .send()
        .ok(401);
    let id = refused.header("strongroom-request-id").unwrap().to_owned();
    server.logs(&id);
    let log = server.log();
    let line = log.lines().find(|line| line.contains(&id)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(line["request"].as_str(), Some(id.as_str()), "{line}");
    assert_eq!(
        (line["path"].as_str(), line["code"].as_str()),
        (Some("/v1/deposits"), Some("unauthenticated")),
        "{line}"
    );

    set("log.target", "file").ok();
    let before = server.log();
    let refused = server
        .curl(&format!("{}/v1/deposits", server.client_url))
        .send()
        .ok(401);
    let id = refused.header("strongroom-request-id").unwrap().to_owned();
    let written = || {
        let files = fs::read_dir(server.data.join("log")).unwrap();
        files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect::<String>()
    };
    until(PATIENCE, || written().contains(&id));
    assert_eq!(server.log(), before, "and to no other place");
    for file in fs::read_dir(server.data.join("log")).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", file.path().display());
    }
}

#[test]
fn a_log_setting_outlives_a_restart() {
    let mut server = Server::start(Options::default());
    server.cli(&["setting", "set", "log.target", "file"]).ok();
    server.cli(&["setting", "set", "log.format", "json"]).ok();
    server.restart();
    let refused = server
        .curl(&format!("{}/v1/deposits", server.client_url))
        .send()
        .ok(401);
    let id = refused.header("strongroom-request-id").unwrap().to_owned();
    let current = server.data.join("log");
    let written = || {
        let files = fs::read_dir(&current).unwrap();
        files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect::<String>()
    };
    until(PATIENCE, || written().contains(&id));
    server.stop();
}

fn log_files(server: &Server) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(server.data.join("log"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn log_files_of_ten_megabytes_are_kept_ten_beside_the_current_one() {
    let mut server = Server::start(Options::default());
    server.cli(&["setting", "set", "log.target", "file"]).ok();
    server.stop();
    assert_eq!(log_files(&server).len(), 1, "{:?}", log_files(&server));
    let folder = server.data.join("log");
    let current = folder.join(&log_files(&server)[0]);
    let file = fs::OpenOptions::new().write(true).open(&current).unwrap();
    file.set_len(10_000_000).unwrap();
    for number in 0..12 {
        fs::write(folder.join(format!("strongroom_r{number:05}.log")), "old\n").unwrap();
    }
    server.serve();
    let kept = |name: &str| folder.join(format!("strongroom_{name}.log"));
    until(PATIENCE, || {
        server
            .curl(&format!("{}/v1/deposits", server.client_url))
            .send()
            .ok(401);
        kept("r00012").exists() && !kept("r00002").exists()
    });
    assert!(fs::metadata(kept("r00012")).unwrap().len() >= 10_000_000);
    assert!(fs::metadata(&current).unwrap().len() < 1_000_000);
    assert!(kept("r00003").exists());
    assert_eq!(log_files(&server).len(), 11, "{:?}", log_files(&server));
}

#[test]
fn the_log_goes_to_syslog_where_there_is_one() {
    let mut server = Server::start(Options::default());
    if !Path::new("/dev/log").exists() {
        server
            .cli(&["setting", "set", "log.target", "syslog"])
            .fails(2)
            .says(&["the log cannot go to syslog"]);
    }
    server.stop();
    // A /dev of the server's own, with a syslog that this test reads.
    let socket = server.path("syslog");
    let syslog = UnixDatagram::bind(&socket).unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    let script = format!(
        "mkdir '{0}' && mount -t tmpfs dev '{0}' && ln -s '{1}' '{0}/log' && for it in null zero random urandom; do
             : >'{0}'/$it && mount --bind /dev/$it '{0}'/$it; done && mount --rbind '{0}' /dev && exec \"$@\"",
        server.path("dev").display(),
        socket.display()
    );
    server.options.wrapper = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-ec",
        &script,
        "sh",
    ]
    .map(str::to_owned)
    .to_vec();
    server.serve();
    server.cli(&["setting", "set", "log.target", "syslog"]).ok();
    let refused = server
        .curl(&format!("{}/v1/deposits", server.client_url))
        .send()
        .ok(401);
    let id = refused.header("strongroom-request-id").unwrap().to_owned();
    let mut line = [0; 4_096];
    until(PATIENCE, || {
        let length = syslog.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        // Facility 3 (daemon) and the line's own severity.
        line.starts_with('<') && line.contains("strongroom") && line.contains(&id)
    });
    assert!(!server.log().contains(&id), "and to no other place");
}
