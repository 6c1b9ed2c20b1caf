//! Second factors of people: codes of an authenticator app (Python's hmac plays it), recovery codes,
//! guessing, losing the device, and proofs within a session.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Answer, Options, Server, run, tool};

const JSON: (&str, &str) = ("content-type", "application/json");

/// RFC 6238 by other people's code.
const APP: &str = "import base64, hashlib, hmac, struct, sys
tag = hmac.new(base64.b32decode(sys.argv[1]), struct.pack('>Q', int(sys.argv[2]) // 30), hashlib.sha1).digest()
at = tag[-1] & 15
print('%06d' % ((struct.unpack('>I', tag[at:at + 4])[0] & 0x7fffffff) % 1000000), end='')";

/// A server whose clock stands where the test puts it: `at` seconds after an even step.
struct Timed {
    server: Server,
}

/// 2027-01-01T00:00:00Z.
const START: u64 = 1_798_761_600;

impl Timed {
    fn start() -> Self {
        let this = Self {
            server: Server::start(Options::stepped()),
        };
        this.at(0);
        this
    }

    fn at(&self, seconds: u64) {
        let day = seconds / 86_400;
        let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
        let time = format!(
            "2027-01-{:02} {hours:02}:{minutes:02}:{:02}",
            day + 1,
            seconds % 60
        );
        self.server.clock(&time);
    }

    /// What the app shows at that moment.
    fn code(&self, secret: &str, seconds: u64) -> String {
        let time = (START + seconds).to_string();
        String::from_utf8(tool("python3", ["-c", APP, secret, &time])).unwrap()
    }

    fn post(&self, path: &str, session: Option<&Session>, body: &Value) -> Answer {
        let mut wire = self.server.wire(&self.server.gui_url);
        let mut headers = vec![JSON];
        if let Some(session) = session {
            headers.push(("cookie", &session.cookie));
            headers.push(("strongroom-csrf", &session.csrf));
        }
        wire.request("POST", path, &headers, Some(body.to_string().as_bytes()))
    }

    fn log_in(&self, user: &str, password: &str, code: Option<&str>) -> Answer {
        let mut body = json!({"user": user, "password": password});
        if let Some(code) = code {
            body["code"] = code.into();
        }
        self.post("/v1/sessions", None, &body)
    }

    /// A user with a second factor that was confirmed at the start; its secret and recovery codes.
    fn user(&self, name: &str) -> (String, Vec<String>) {
        self.server.user(name, PASSWORD, &["superuser"]);
        let enrolled = self.server.json(&["user", "totp", "enroll", name]);
        let secret = enrolled["secret"].as_str().unwrap().to_owned();
        let confirm = ["user", "totp", "confirm", name, "--code-file", "-"];
        let code = self.code(&secret, 0);
        let codes = self.server.cli_with(&confirm, code.as_bytes()).ok().text();
        (secret, codes.lines().map(str::to_owned).collect())
    }
}

const PASSWORD: &str = "a long enough password";

struct Session {
    cookie: String,
    csrf: String,
}

fn session(answer: &Answer) -> Session {
    let cookie = answer.header("set-cookie").unwrap();
    Session {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        csrf: answer.json()["csrf"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn a_person_enrolls_confirms_and_is_asked_from_then_on() {
    let timed = Timed::start();
    let server = &timed.server;
    server.user("ann", PASSWORD, &[]);
    let open = session(&timed.log_in("ann", PASSWORD, None).ok(201));
    let post = |path: &str, body: Value| timed.post(path, Some(&open), &body);
    post("/v1/users/ann/totp", json!({})).refused(400, "invalid");
    post(
        "/v1/users/ann/totp",
        json!({"current_password": "not the password"}),
    )
    .refused(403, "password_refused");
    post(
        "/v1/users/superuser/totp",
        json!({"current_password": PASSWORD}),
    )
    .refused(403, "denied");
    post("/v1/users/ann/totp/confirm", json!({"code": "123456"})).refused(409, "no_second_factor");
    let first = post("/v1/users/ann/totp", json!({"current_password": PASSWORD}))
        .ok(201)
        .json();
    // Enrolled anew before it was confirmed: the first secret is gone.
    let enrolled = post("/v1/users/ann/totp", json!({"current_password": PASSWORD}))
        .ok(201)
        .json();
    let secret = enrolled["secret"].as_str().unwrap();
    assert_ne!(first["secret"], secret);
    let uri = enrolled["uri"].as_str().unwrap();
    assert!(
        uri.starts_with("otpauth://totp/Strongroom%20localhost:ann?")
            && uri.contains(&format!("secret={secret}&"))
            && uri.ends_with("&algorithm=SHA1&digits=6&period=30"),
        "{uri}"
    );
    // Not asked for before it works.
    timed.log_in("ann", PASSWORD, None).ok(201);
    let old = timed.code(first["secret"].as_str().unwrap(), 0);
    post("/v1/users/ann/totp/confirm", json!({"code": old})).refused(403, "second_factor_refused");
    let shown = server.json(&["user", "show", "ann"]);
    assert_eq!(shown["second_factor"], false);
    let confirmed = post(
        "/v1/users/ann/totp/confirm",
        json!({"code": timed.code(secret, 0)}),
    )
    .ok(200)
    .json();
    assert_eq!(confirmed["recovery_codes"].as_array().unwrap().len(), 10);
    // What was open before has ended.
    post("/v1/users/ann/totp", json!({})).refused(401, "session_over");
    let listed = server.json(&["user", "list", "-F", "second_factor = yes"]);
    assert_eq!(listed["items"][0]["name"], "ann");

    timed
        .log_in("ann", PASSWORD, None)
        .refused(401, "second_factor_required");
    timed
        .log_in("ann", "a wrong password", Some("123456"))
        .refused(401, "log_in_refused");
    // The code that confirmed it is spent, and so is each that let somebody in.
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(secret, 0)))
        .refused(401, "second_factor_refused");
    timed.at(60);
    let code = timed.code(secret, 60);
    let open = session(&timed.log_in("ann", PASSWORD, Some(&code)).ok(201));
    timed
        .log_in("ann", PASSWORD, Some(&code))
        .refused(401, "second_factor_refused");
    // One step early or late counts; two do not, nor does one before the last.
    timed.at(120);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(secret, 60)))
        .refused(401, "second_factor_refused");
    timed.at(200);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(secret, 150)))
        .ok(201);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(secret, 239)))
        .ok(201);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(secret, 240)))
        .refused(401, "second_factor_refused");

    // After so many wrong ones, the next attempt waits.
    timed.at(300);
    let post = |path: &str, body: Value| timed.post(path, Some(&open), &body);
    post("/v1/users/ann/totp", json!({"current_password": PASSWORD}))
        .refused(409, "second_factor_there");
    post("/v1/users/ann/totp/remove", json!({})).refused(400, "invalid");
    post(
        "/v1/users/ann/totp/remove",
        json!({"current_password": PASSWORD}),
    )
    .ok(204);
    timed.log_in("ann", PASSWORD, None).ok(201);
    let events = server
        .json(&["audit", "list", "-F", "object ~ ann"])
        .to_string();
    for action in [
        "user.totp_enroll",
        "user.totp_confirm",
        "user.totp_remove",
        "session.open",
    ] {
        assert!(events.contains(action), "{action}: {events}");
    }
    assert!(
        events.contains("with a code") && !events.contains(secret) && !events.contains(PASSWORD)
    );
    assert!(!server.log().contains(secret));
}

#[test]
fn of_two_log_ins_with_one_code_one_gets_in() {
    let timed = Timed::start();
    let (secret, _) = timed.user("ann");
    for round in 1..=2 {
        timed.at(60 * round);
        let code = timed.code(&secret, 60 * round);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| timed.log_in("ann", PASSWORD, Some(&code))))
                .collect();
            started.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let mut came: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        came.sort_unstable();
        assert_eq!(came, [201, 401], "{answers:?}");
        let refused = answers
            .into_iter()
            .find(|answer| answer.status == 401)
            .unwrap();
        refused.refused(401, "second_factor_refused");
    }
}

#[test]
fn ten_thousand_wrong_codes_take_days_whatever_the_address_and_the_password() {
    let timed = Timed::start();
    let (secret, _) = timed.user("ann");
    let server = &timed.server;
    let mut now = 0;
    let (mut tried, mut waited) = (0, Vec::new());
    while waited.len() < 10 {
        let wrong = format!("{:06}", 7 * tried + 1);
        let answer = timed.log_in("ann", PASSWORD, Some(&wrong));
        if answer.status == 429 {
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            waited.push(seconds);
            now += seconds;
            timed.at(now);
            continue;
        }
        answer.refused(401, "second_factor_refused");
        tried += 1;
        // A right password in between, without a code, forgets none of them.
        let between = timed.log_in("ann", PASSWORD, None);
        assert!([401, 429].contains(&between.status), "{between:?}");
    }
    assert!(tried <= 13, "{tried} in {now} s");
    let slowest = *waited.iter().max().unwrap();
    assert!((30..=31).contains(&slowest), "{waited:?}");
    assert!(10_000 * slowest / 86_400 >= 3);
    // Another address knows the password as well, and has to wait as well.
    let from = |address: &str, user: &str, password: &str| {
        let body = json!({"user": user, "password": password, "code": "000000"}).to_string();
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--interface",
            address,
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
        ])
        .arg("--cacert")
        .arg(server.ca())
        .args([
            "--json",
            &body,
            &format!(
                "{}/v1/sessions",
                server.gui_url.replace("localhost", "127.0.0.1")
            ),
        ]);
        run(&mut curl).ok().text()
    };
    timed.log_in("ann", PASSWORD, Some("000000"));
    assert_eq!(from("127.0.0.2", "ann", PASSWORD), "429");
    assert_eq!(from("127.0.0.3", "ann", "no password of hers"), "401");
    // Nobody is locked out.
    now += 120;
    timed.at(now);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(&secret, now)))
        .ok(201);
}

#[test]
fn a_recovery_code_stands_for_a_code_once() {
    let timed = Timed::start();
    let (_, codes) = timed.user("ann");
    let (_, others) = timed.user("bob");
    assert_eq!(codes.len(), 10);
    timed.log_in("ann", PASSWORD, Some(&codes[0])).ok(201);
    timed
        .log_in("ann", PASSWORD, Some(&codes[0]))
        .refused(401, "second_factor_refused");
    let typed = codes[1].to_lowercase().replace('-', " ");
    timed.log_in("ann", PASSWORD, Some(&typed)).ok(201);
    timed
        .log_in("ann", PASSWORD, Some(&others[0]))
        .refused(401, "second_factor_refused");
    timed.log_in("bob", PASSWORD, Some(&others[0])).ok(201);
    let long = "A".repeat(10_000);
    timed
        .log_in("ann", PASSWORD, Some(&long))
        .refused(401, "second_factor_refused");
    let events = timed
        .server
        .json(&["audit", "list", "-F", "action = session.open"])
        .to_string();
    assert!(events.contains("with a recovery code, 8 left"), "{events}");
    assert!(!events.contains(&codes[0]));
}

#[test]
fn who_lost_the_device_is_let_in_again_on_the_servers_machine() {
    let timed = Timed::start();
    let server = &timed.server;
    timed.user("ann");
    let token = server.token("ann", &["read"]);
    let with_token = |status: u16| {
        let bearer = format!("Bearer {token}");
        let mut wire = server.wire(&server.gui_url);
        let answer = wire.request("GET", "/v1/status", &[("authorization", &bearer)], None);
        assert_eq!(answer.status, status, "{answer:?}");
    };
    with_token(200);
    server.cli(&["user", "disable", "ann"]).ok();
    server
        .cli(&["user", "reset", "ann"])
        .fails(2)
        .says(&["--yes"]);
    // Kept: the password alone does not let anyone in.
    let password = server.cli(&["user", "reset", "ann", "--yes"]).ok().text();
    timed
        .log_in("ann", password.trim(), None)
        .refused(401, "second_factor_required");
    timed
        .log_in("ann", PASSWORD, None)
        .refused(401, "log_in_refused");
    with_token(401);
    let password = server
        .cli(&["user", "reset", "ann", "--clear-second-factor", "--yes"])
        .ok()
        .text();
    timed.log_in("ann", password.trim(), None).ok(201);
    server.cli(&["user", "reset", "nobody", "--yes"]).fails(4);
    server
        .cli(&["user", "totp", "remove", "ann"])
        .fails(5)
        .says(&["no second factor"]);
    let events = server
        .json(&["audit", "list", "-F", "action = user.reset"])
        .to_string();
    assert!(
        events.contains("second factor cleared") && !events.contains(password.trim()),
        "{events}"
    );
    // A user that is removed takes its second factor along; one of the same name begins without.
    timed.user("bob");
    server.cli(&["user", "rm", "bob", "--yes"]).ok();
    server.user("bob", PASSWORD, &[]);
    timed.log_in("bob", PASSWORD, None).ok(201);
}

#[test]
fn a_second_factor_outlives_a_new_root_key_and_a_restart() {
    let mut timed = Timed::start();
    let (secret, codes) = timed.user("ann");
    let key = timed.server.path("key");
    let passphrase = timed.server.path("passphrase");
    timed
        .server
        .cli(&[
            "root",
            "rotate",
            "--yes",
            "--key-file",
            key.to_str().unwrap(),
            "--passphrase-file",
            passphrase.to_str().unwrap(),
        ])
        .ok();
    timed.at(60);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(&secret, 60)))
        .ok(201);
    timed.server.kill9();
    timed.server.serve();
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(&secret, 60)))
        .refused(401, "second_factor_refused");
    timed.at(120);
    timed
        .log_in("ann", PASSWORD, Some(&timed.code(&secret, 120)))
        .ok(201);
    timed.log_in("ann", PASSWORD, Some(&codes[9])).ok(201);
}

#[test]
fn a_session_left_open_changes_no_users_until_it_is_proven_again() {
    let timed = Timed::start();
    let (secret, _) = timed.user("ann");
    timed.at(60);
    let open = timed
        .log_in("ann", PASSWORD, Some(&timed.code(&secret, 60)))
        .ok(201);
    assert_eq!(open.json()["proven"], "2027-01-01T00:01:00Z");
    let open = session(&open);
    let add = |session: &Session, name: &str| {
        timed.post(
            "/v1/users",
            Some(session),
            &json!({"name": name, "password": PASSWORD}),
        )
    };
    add(&open, "one").ok(201);
    timed.at(60 + 14 * 60);
    add(&open, "two").ok(201);
    timed.at(60 + 15 * 60);
    let late = 60 + 15 * 60;
    add(&open, "three").refused(403, "step_up_required");
    for (path, body) in [
        ("/v1/tokens", json!({"label": "x", "scopes": ["read"]})),
        ("/v1/users/one/grants", json!({"role": "auditor"})),
        ("/v1/orgs", json!({"name": "acme"})),
        (
            "/v1/users/ann/totp/remove",
            json!({"current_password": PASSWORD}),
        ),
    ] {
        timed
            .post(path, Some(&open), &body)
            .refused(403, "step_up_required");
    }
    // What only reads goes on.
    let headers = [("cookie", open.cookie.as_str())];
    let mut wire = timed.server.wire(&timed.server.gui_url);
    wire.request("GET", "/v1/orgs", &headers, None).ok(200);
    let prove = |body: Value| timed.post("/v1/sessions/current/prove", Some(&open), &body);
    let code = timed.code(&secret, late);
    prove(json!({"password": "a wrong password", "code": code})).refused(403, "password_refused");
    prove(json!({"password": PASSWORD})).refused(403, "second_factor_required");
    prove(json!({"password": PASSWORD, "code": "000000"})).refused(403, "second_factor_refused");
    let proven = session(&prove(json!({"password": PASSWORD, "code": code})).ok(200));
    assert_ne!(proven.cookie, open.cookie);
    add(&open, "three").refused(401, "session_over");
    add(&proven, "three").ok(201);
    // Without a second factor nothing of this is asked.
    let plain = session(
        &timed
            .log_in("superuser", &timed.server.password, None)
            .ok(201),
    );
    timed.at(late + 20 * 60);
    add(&plain, "four").ok(201);
    let events = timed
        .server
        .json(&["audit", "list", "-F", "action = session.prove"])
        .to_string();
    assert!(
        events.contains("with a code") && events.contains("refused"),
        "{events}"
    );
}

/// A token found somewhere is its user for what it does, and not a way to become its user.
#[test]
fn a_token_does_not_take_its_own_user_over() {
    let server = Server::start(Options::default());
    let token = server.token("superuser", &["all"]);
    let ask = |method: &str, path: &str, body: Value| {
        let url = format!("{}/v1/users/superuser/{path}", server.gui_url);
        server
            .curl(&url)
            .method(method)
            .token(&token)
            .json(&body)
            .send()
    };
    for (method, path, body) in [
        ("PUT", "password", json!({"password": "another long one"})),
        (
            "PUT",
            "password",
            json!({"password": "another long one", "current_password": "a wrong long one"}),
        ),
        ("POST", "totp", json!({})),
        ("POST", "totp/remove", json!({})),
    ] {
        let answer = ask(method, path, body);
        assert!(
            [400, 401, 403].contains(&answer.status),
            "{method} {path}: {answer:?}"
        );
    }
    // With the password, too: a session is there for that.
    let both = json!({"password": "another long one", "current_password": server.password});
    assert_eq!(ask("PUT", "password", both).status, 403);
}
