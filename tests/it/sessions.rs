//! People's sessions on the GUI's listener, and the admin socket's callers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Answer, Options, Output, PATIENCE, Server, run, until, wire};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A log-in's cookie, its header, and what changes repeat.
struct Session {
    cookie: String,
    csrf: String,
}

fn log_in(server: &Server, user: &str, password: &str) -> Answer {
    let body = json!({"user": user, "password": password}).to_string();
    let mut wire = server.wire(&server.gui_url);
    wire.request("POST", "/v1/sessions", &[JSON], Some(body.as_bytes()))
}

fn session(server: &Server, user: &str, password: &str) -> Session {
    let answer = log_in(server, user, password).ok(201);
    let cookie = answer.header("set-cookie").unwrap();
    Session {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        csrf: answer.json()["csrf"].as_str().unwrap().to_owned(),
    }
}

fn as_session(
    wire: &mut wire::Connection,
    session: &Session,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let headers = [
        JSON,
        ("cookie", session.cookie.as_str()),
        ("strongroom-csrf", session.csrf.as_str()),
    ];
    let body = body.map(|body| body.to_string());
    wire.request(method, path, &headers, body.as_deref().map(str::as_bytes))
}

fn is_alive(server: &Server, session: &Session) -> bool {
    let mut wire = server.wire(&server.gui_url);
    match as_session(&mut wire, session, "GET", "/v1/sessions/current", None) {
        answer if answer.status == 200 => true,
        answer => {
            answer.refused(401, "session_over");
            false
        }
    }
}

#[test]
fn a_sessions_cookie_is_guarded_and_changes_need_its_csrf_value() {
    let server = Server::start(Options::default());
    let answer = log_in(&server, "superuser", &server.password).ok(201);
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    let mut parts: Vec<&str> = cookie.split("; ").collect();
    let value = parts.remove(0).to_owned();
    parts.sort_unstable();
    assert_eq!(parts, ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"]);
    assert!(value.starts_with("__Host-strongroom="), "{value}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let mut wire = server.wire(&server.gui_url);
    let add = json!({"name": "acme"}).to_string();
    let mut post = |headers: &[(&str, &str)]| {
        let headers = [&[JSON, ("cookie", value.as_str())], headers].concat();
        wire.request("POST", "/v1/orgs", &headers, Some(add.as_bytes()))
    };
    post(&[]).refused(403, "csrf");
    post(&[("strongroom-csrf", "")]).refused(403, "csrf");
    post(&[("strongroom-csrf", "guessed")]).refused(403, "csrf");
    let csrf = answer.json()["csrf"].as_str().unwrap().to_owned();
    post(&[("strongroom-csrf", &csrf)]).ok(201);
    // What only reads needs none.
    wire.request("GET", "/v1/orgs", &[("cookie", &value)], None)
        .ok(200);
}

#[test]
fn the_client_listener_ignores_cookies() {
    let server = Server::start(Options::default());
    let session = session(&server, "superuser", &server.password);
    let mut wire = server.wire(&server.client_url);
    as_session(&mut wire, &session, "GET", "/v1/orgs", None).refused(401, "unauthenticated");
    let add = json!({"name": "acme"});
    as_session(&mut wire, &session, "POST", "/v1/orgs", Some(add)).refused(401, "unauthenticated");
}

#[test]
fn a_session_ends_by_log_out_idleness_age_and_restart_keeps_it() {
    let mut server = Server::start(Options::stepped());
    server
        .cli(&["setting", "set", "session.idle_minutes", "10"])
        .ok();
    let password = server.password.clone();
    let log_in = |server: &Server| session(server, "superuser", &password);
    let first = log_in(&server);
    let mut wire = server.wire(&server.gui_url);
    as_session(&mut wire, &first, "DELETE", "/v1/sessions/current", None).ok(204);
    assert!(!is_alive(&server, &first), "logged out");

    let busy = log_in(&server);
    let idle = log_in(&server);
    server.clock("+9m");
    assert!(is_alive(&server, &busy));
    server.clock("+18m");
    assert!(is_alive(&server, &busy), "used nine minutes before");
    assert!(!is_alive(&server, &idle), "idle for eighteen minutes");
    server.restart();
    assert!(is_alive(&server, &busy), "a restart ends nobody's work");
    for nines in 3..=79 {
        server.clock(&format!("+{}m", nines * 9));
        assert!(is_alive(&server, &busy), "after {} minutes", nines * 9);
    }
    server.clock("+721m");
    assert!(
        !is_alive(&server, &busy),
        "however busy, twelve hours are enough"
    );
}

#[test]
fn the_shortest_idle_time_counts_from_the_last_request() {
    let server = Server::start(Options::stepped());
    server
        .cli(&["setting", "set", "session.idle_minutes", "1"])
        .ok();
    let session = session(&server, "superuser", &server.password);
    for step in 1..=6 {
        server.clock(&format!("+{}s", step * 30));
        assert!(is_alive(&server, &session), "used half a minute before");
    }
    server.clock("+250s");
    assert!(!is_alive(&server, &session));
}

#[test]
fn sessions_end_with_a_change_of_password_or_role_and_with_the_user() {
    let server = Server::start(Options::default());
    let password = server.password.clone();
    let add = |name: &str| {
        server.user(name, &password, &["auditor"]);
        session(&server, name, &password)
    };
    let one = add("one");
    server
        .cli_with(
            &["user", "set-password", "one", "--password-file", "-"],
            b"another long one",
        )
        .ok();
    assert!(!is_alive(&server, &one), "another password");
    log_in(&server, "one", &password).refused(401, "log_in_refused");
    let one = session(&server, "one", "another long one");
    server.cli(&["user", "grant", "one", "administrator"]).ok();
    assert!(!is_alive(&server, &one), "another role");
    let one = session(&server, "one", "another long one");
    server.cli(&["user", "revoke", "one", "administrator"]).ok();
    assert!(!is_alive(&server, &one), "a role less");

    let two = add("two");
    server.cli(&["user", "disable", "two"]).ok();
    assert!(!is_alive(&server, &two), "disabled");
    log_in(&server, "two", &password).refused(401, "log_in_refused");
    let three = add("three");
    server.cli(&["user", "rm", "three", "--yes"]).ok();
    assert!(!is_alive(&server, &three), "removed");

    // One's own password, by whoever knows the one until now; one's own session ends, too.
    let four = add("four");
    let mut wire = server.wire(&server.gui_url);
    let new = json!({"password": "four's new password"});
    let mut set = |new: &Value| {
        let path = "/v1/users/four/password";
        as_session(&mut wire, &four, "PUT", path, Some(new.clone()))
    };
    let said = set(&new).refused(400, "invalid");
    assert!(said.message().contains("current_password"), "{said:?}");
    let mut with = new.clone();
    with["current_password"] = json!("a wrong password");
    set(&with).refused(403, "password_refused");
    assert!(is_alive(&server, &four));
    with["current_password"] = json!(password);
    // Wrong passwords from this address slow down the right one.
    until(PATIENCE, || set(&with).status == 204);
    assert!(!is_alive(&server, &four));
    let four = session(&server, "four", "four's new password");
    let mut wire = server.wire(&server.gui_url);
    as_session(&mut wire, &four, "PUT", "/v1/users/one/password", Some(new)).refused(403, "denied");
}

#[test]
fn guessing_a_password_is_slowed_and_says_nothing_of_the_user() {
    let server = Server::start(Options::stepped());
    server.freeze();
    let known = log_in(&server, "superuser", "wrong password").refused(401, "log_in_refused");
    let unknown = log_in(&server, "nobody-here", "wrong password").refused(401, "log_in_refused");
    assert_eq!(known.message(), unknown.message());
    log_in(&server, "superuser", "wrong password").refused(401, "log_in_refused");
    let slowed = log_in(&server, "superuser", &server.password).refused(429, "too_many_attempts");
    assert!(slowed.header("retry-after").is_some());
    // Tokens and the socket are not slowed.
    server.cli(&["status"]).ok();
    server.clock("+31s");
    log_in(&server, "superuser", &server.password).ok(201);
}

#[test]
fn guessing_at_once_is_slowed_like_guessing_in_a_row() {
    let server = Server::start(Options::stepped());
    server.freeze();
    let tried: usize = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..16)
            .map(|n| {
                let server = &server;
                scope.spawn(move || log_in(server, "superuser", &format!("wrong password {n}")))
            })
            .collect();
        let answers = guesses.into_iter().map(|guess| guess.join().unwrap());
        answers
            .filter(|answer| answer.code() == "log_in_refused")
            .count()
    });
    // Two are checked at a time, and the first two failures are a person's slip.
    assert!(
        (3..=4).contains(&tried),
        "{tried} of 16 passwords were tried"
    );
}

#[test]
fn a_token_ends_with_its_time_its_user_and_its_removal() {
    let server = Server::start(Options::stepped());
    server.user("ci", &server.password, &["auditor"]);
    let added = |args: &[&str]| {
        let args = [&["token", "add", "--label", "x", "--user", "ci"], args].concat();
        server.json(&args)
    };
    let short = added(&["--scope", "read", "--expires", "+1d"]);
    let lasting = added(&["--scope", "read"]);
    // A token with an end makes none that lasts longer.
    let all = server.json(&[
        "token",
        "add",
        "--label",
        "all",
        "--user",
        "superuser",
        "--scope",
        "all",
        "--expires",
        "+1d",
    ]);
    let bearer = format!("Bearer {}", all["secret"].as_str().unwrap());
    let made_by_it = |expires: Value| {
        let body = json!({"label": "y", "user": "ci", "scopes": ["read"], "expires": expires});
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = body.to_string();
        let mut wire = server.wire(&server.gui_url);
        wire.request("POST", "/v1/tokens", &headers, Some(body.as_bytes()))
    };
    made_by_it(Value::Null).refused(400, "invalid");
    made_by_it(json!("2099-01-01T00:00:00Z")).refused(400, "invalid");
    made_by_it(all["token"]["expires"].clone()).ok(201);
    let use_it = |added: &Value| {
        let bearer = format!("Bearer {}", added["secret"].as_str().unwrap());
        let mut wire = server.wire(&server.gui_url);
        wire.request("GET", "/v1/settings", &[("authorization", &bearer)], None)
    };
    use_it(&short).ok(200);
    use_it(&lasting).ok(200);
    server.clock("+25h");
    use_it(&short).refused(401, "token_refused");
    use_it(&lasting).ok(200);
    server.cli(&["user", "disable", "ci"]).ok();
    use_it(&lasting).refused(401, "token_refused");
    server.cli(&["user", "enable", "ci"]).ok();
    use_it(&lasting).ok(200);
    server.cli(&["user", "revoke", "ci", "auditor"]).ok();
    use_it(&lasting).refused(403, "denied");
    // Whoever made a token before a role was granted does not have that role by it.
    server.cli(&["user", "grant", "ci", "auditor"]).ok();
    use_it(&lasting).refused(401, "token_refused");
    let lasting = added(&["--scope", "read"]);
    use_it(&lasting).ok(200);
    let id = lasting["token"]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{lasting}"));
    server.cli(&["token", "rm", id, "--yes"]).ok();
    use_it(&lasting).refused(401, "token_refused");
    let listed = server.cli(&["--json", "token", "list"]).ok();
    assert!(!listed.text().contains(lasting["secret"].as_str().unwrap()));
}

/// Nobody's uid on every Debian.
const OTHER: &str = "65534";

/// A command as another user than the one that this test and its server run as.
fn as_other(args: &[&str]) -> Output {
    let root = fs::metadata("/proc/self")
        .map(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
        .unwrap();
    let other = [
        "setpriv",
        "--reuid",
        OTHER,
        "--regid",
        OTHER,
        "--clear-groups",
        "--",
    ];
    // A test that is not root itself asks sudo for it.
    let before: &[&str] = if root { &[] } else { &["sudo", "-n"] };
    let line = [before, &other, args].concat();
    run(Command::new(line[0]).args(&line[1..]).current_dir("/"))
}

/// Lets others reach the socket, as far as the file system has a say.
fn open_the_way(server: &Server) -> String {
    for folder in [server.folder(), &server.data, &server.data.join("run")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let socket = server.data.join("run/admin.sock");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    socket.to_str().unwrap().to_owned()
}

fn ask_as_other(socket: &str, args: &[&str]) -> Output {
    let curl = [
        "curl",
        "--silent",
        "--disable",
        "--max-time",
        "60",
        "--unix-socket",
        socket,
    ];
    as_other(&[&curl[..], args].concat())
}

#[test]
fn the_admin_socket_refuses_another_uid_though_it_can_connect() {
    let server = Server::start(Options::default());
    let socket = server.data.join("run/admin.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let outside = ask_as_other(socket.to_str().unwrap(), &["http://localhost/v1/status"]);
    assert_eq!(
        outside.status, 7,
        "its folder keeps others out: {outside:?}"
    );
    let socket = open_the_way(&server);
    let refused = ask_as_other(&socket, &["http://localhost/v1/status"]).ok();
    assert_eq!(refused.json()["error"]["code"], "denied");
    assert!(refused.text().contains(OTHER), "{refused:?}");
    let refused = ask_as_other(
        &socket,
        &["http://localhost/v1/orgs", "--json", r#"{"name":"acme"}"#],
    )
    .ok();
    assert_eq!(refused.json()["error"]["code"], "denied");
    assert_eq!(server.json(&["org", "list"])["items"], json!([]));
    // A token makes nobody someone else here: the kernel alone names the caller.
    let token = format!(
        "authorization: Bearer {}",
        server.token("superuser", &["all"])
    );
    let refused = ask_as_other(&socket, &["http://localhost/v1/status", "--header", &token]).ok();
    assert_eq!(refused.json()["error"]["code"], "denied");
}

#[test]
fn a_uid_that_the_configuration_maps_has_that_role_and_no_more() {
    let mut server = Server::start(Options::default());
    server.stop();
    let config = server.data.join("live/strongroom.toml");
    let text = without_admin_table(&config);
    let folder = server.folder().join("for-others");
    let socket = folder.join("admin.sock").to_str().unwrap().to_owned();
    fs::write(
        &config,
        format!(
            "{text}\n[admin]\nsocket = \"{socket}\"\n[admin.socket_users]\n{OTHER} = \"auditor\"\n"
        ),
    )
    .unwrap();
    let said = server.serve_fails();
    assert!(said.stderr.contains("for-others: No such file"), "{said:?}");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let said = server.serve_fails();
    assert!(said.stderr.contains("others can write to"), "{said:?}");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(server.folder(), fs::Permissions::from_mode(0o711)).unwrap();
    server.serve();
    let said = run(Command::new(&server.options.binary).args(["--socket", &socket, "org", "list"]));
    assert_eq!(said.status, 0, "{said:?}");
    let status = ask_as_other(&socket, &["http://localhost/v1/status"]).ok();
    assert_eq!(status.json()["state"], "serving", "{status:?}");
    let refused = ask_as_other(
        &socket,
        &["http://localhost/v1/orgs", "--json", r#"{"name":"acme"}"#],
    )
    .ok();
    assert_eq!(refused.json()["error"]["code"], "denied");
    let events = server.json(&["audit", "list", "-F", "outcome = refused"]);
    let actor = &events["items"][0]["actor"];
    assert_eq!(
        (&actor["kind"], &actor["name"]),
        (&json!("local"), &json!(OTHER)),
        "{events}"
    );
}

/// The configuration as `init` wrote it, less the table that is added anew.
fn without_admin_table(config: &Path) -> String {
    let text = fs::read_to_string(config).unwrap();
    text.split("[admin").next().unwrap().to_owned()
}

#[test]
fn a_retried_change_of_a_setting_is_answered_and_changes_nothing() {
    let server = Server::start(Options::default());
    let token = server.token("superuser", &["all"]);
    let bearer = format!("Bearer {token}");
    let set = |key: &str, value: &str| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let body = json!({ "value": value }).to_string();
        server
            .wire(&server.gui_url)
            .request(
                "PUT",
                "/v1/settings/audit.strict",
                &headers,
                Some(body.as_bytes()),
            )
            .ok(200);
    };
    set("first", "false");
    set("second", "true");
    set("first", "false");
    let shown = |server: &Server| server.json(&["setting", "get", "audit.strict"])["value"].clone();
    assert_eq!(shown(&server), "true");
    let mut server = server;
    server.restart();
    assert_eq!(shown(&server), "true");
}

#[test]
fn who_has_an_organization_sees_it_alone_however_he_lists() {
    let server = Server::start(Options::default());
    for name in ["acme", "beta", "zulu"] {
        server.org(name);
    }
    server.client("a", "acme");
    let password = server.password.clone();
    let roles = ["org_administrator:acme", "key_operator:acme"];
    server.user("olga", &password, &roles);
    let olga = session(&server, "olga", &password);
    let mut wire = server.wire(&server.gui_url);
    let mut list = |path: &str| {
        as_session(&mut wire, &olga, "GET", path, None)
            .ok(200)
            .json()
    };
    for path in [
        "/v1/orgs",
        "/v1/orgs?limit=1",
        "/v1/orgs?limit=1&filter=name%20%21%3D%20zulu",
        "/v1/orgs?filter=registration%20%3D%20code",
    ] {
        let page = list(path);
        let names: Vec<&Value> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(names, ["acme"], "{path}: {page}");
        assert_eq!(page["next"], Value::Null, "{path}: {page}");
    }
    assert_eq!(
        list("/v1/orgs?filter=name%20%3D%20beta")["items"],
        json!([])
    );
    // Two roles on one organization are no less than one.
    assert_eq!(list("/v1/clients")["items"].as_array().unwrap().len(), 1);
    assert_eq!(list("/v1/deposits")["items"], json!([]));
}
