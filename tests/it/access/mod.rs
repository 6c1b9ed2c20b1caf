//! Every route, with every role, every scope, a client, a key that is not registered, and nobody,
//! over the real listeners, against a table that was written by hand.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use strongroom::http::routes;
use strongroom::service::caller::Listener;

use self::table::{CALLERS, CASES, Case};
use crate::harness::{Answer, Client, Options, Server, wire};

/// How a caller reaches the server, and with what.
struct Caller {
    listener: char,
    connect: Box<dyn Fn() -> wire::Connection>,
    connection: Option<wire::Connection>,
    headers: Vec<(String, String)>,
}

impl Caller {
    /// Over a connection that may have been closed since the request before.
    fn ask(&mut self, case: &Case, path: &str, body: &str) -> Answer {
        let mut headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let body = (!body.is_empty()).then_some(body.as_bytes());
        if let Some(connection) = &mut self.connection
            && let Ok(answer) = connection.try_request(case.method, path, &headers, body)
        {
            return answer;
        }
        let mut connection = (self.connect)();
        let answer = connection.request(case.method, path, &headers, body);
        self.connection = Some(connection);
        answer
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A server with an object of each kind in two organizations.
struct World {
    server: Server,
    client: Client,
    words: BTreeMap<&'static str, String>,
    password: String,
}

const PEOPLE: [(&str, &str); 9] = [
    // Those that things are done to.
    ("chief", "superuser"),
    ("someone", ""),
    ("promoted", ""),
    ("administrator", "administrator"),
    ("org-administrator", "org_administrator:acme"),
    ("operator", "key_operator"),
    ("operator-acme", "key_operator:acme"),
    ("auditor", "auditor"),
    ("roleless", ""),
];

fn world() -> World {
    let server = Server::start(Options::default());
    let client = server.client("client", "acme");
    let colleague = server.client("colleague", "acme");
    let spare = server.client("spare", "acme");
    let stranger = server.client("stranger", "other");
    let put = |client: &Client, name: &str| {
        let stored = client
            .curl(&format!("/v1/deposits/{name}"))
            .put(b"bytes")
            .send()
            .ok(201);
        stored.json()["id"].as_str().unwrap().to_owned()
    };
    let acme_deposit = put(&client, "key");
    put(&client, "gone");
    put(&client, "id");
    put(&colleague, "colleagues");
    let other_deposit = put(&stranger, "key");
    put(&stranger, "gone");
    let password = server.password.clone();
    for (name, role) in PEOPLE {
        let roles: &[&str] = if role.is_empty() { &[] } else { &[role] };
        server.user(name, &password, roles);
    }
    let rotated = server.json(&["org", "rotate-key", "acme"]);
    let pruned = server.json(&["schedule", "run", "pruning"]);
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let (acme_job, other_job) = (id(&rotated["rotation"]["job"]), id(&pruned["id"]));
    for job in [&acme_job, &other_job] {
        server.cli(&["job", "watch", job]).ok();
    }
    let words = BTreeMap::from([
        ("$acme_job", acme_job),
        ("$other_job", other_job),
        ("$acme_client", client.fingerprint()),
        ("$spare_client", spare.fingerprint()),
        ("$other_client", stranger.fingerprint()),
        ("$acme_deposit", acme_deposit),
        ("$other_deposit", other_deposit),
        ("$password", password.clone()),
        (
            "$key_file",
            base64(&std::fs::read(server.path("key")).unwrap()),
        ),
    ]);
    World {
        server,
        client,
        words,
        password,
    }
}

impl World {
    fn filled(&self, text: &str) -> String {
        self.words
            .iter()
            .fold(text.to_owned(), |text, (word, value)| {
                text.replace(word, value)
            })
    }

    /// Logs in; the headers of a session.
    fn session(&self, user: &str) -> Vec<(String, String)> {
        let body = json!({"user": user, "password": self.password}).to_string();
        let mut wire = self.server.wire(&self.server.gui_url);
        let json = ("content-type", "application/json");
        let answer = wire
            .request("POST", "/v1/sessions", &[json], Some(body.as_bytes()))
            .ok(201);
        let cookie = answer
            .header("set-cookie")
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let csrf = answer.json()["csrf"].as_str().unwrap().to_owned();
        vec![
            ("cookie".to_owned(), cookie),
            ("strongroom-csrf".to_owned(), csrf),
        ]
    }

    fn token(&self, user: &str, scope: &str) -> Vec<(String, String)> {
        let token = self.server.token(user, &[scope]);
        vec![("authorization".to_owned(), format!("Bearer {token}"))]
    }

    fn caller(&self, letter: char) -> Caller {
        let headers = match letter {
            't' | '1' => self.token("superuser", "all"),
            '2' => self.token("superuser", "read"),
            '3' => self.token("superuser", "deposits"),
            '4' => self.token("superuser", "metrics"),
            '5' => self.token("auditor", "all"),
            'S' => self.session("superuser"),
            'A' => self.session("administrator"),
            'O' => self.session("org-administrator"),
            'P' => self.session("operator"),
            'Q' => self.session("operator-acme"),
            'U' => self.session("auditor"),
            'E' => self.session("roleless"),
            _ => Vec::new(),
        };
        let ca = self.server.ca();
        let (listener, connect): (char, Box<dyn Fn() -> wire::Connection>) = match letter {
            'L' => {
                let socket = self.server.data.join("run/admin.sock");
                ('S', Box::new(move || wire::Connection::unix(&socket)))
            }
            'k' => {
                let unknown = self.server.stranger("unknown", "other");
                unknown.register(Some("a wrong code")).fails(5);
                ('C', Box::new(move || unknown.wire()))
            }
            'c' => {
                let (config, url) = (self.client.tls(), self.server.client_url.clone());
                (
                    'C',
                    Box::new(move || wire::Connection::with_config(&url, config.clone())),
                )
            }
            'n' | 't' => {
                let url = self.server.client_url.clone();
                (
                    'C',
                    Box::new(move || wire::Connection::tls(&url, &ca, None)),
                )
            }
            _ => {
                let url = self.server.gui_url.clone();
                (
                    'G',
                    Box::new(move || wire::Connection::tls(&url, &ca, None)),
                )
            }
        };
        Caller {
            listener,
            connect,
            connection: None,
            headers,
        }
    }
}

/// What came of a request, as far as rights go.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Through,
    Refused,
    /// The listener has no such route.
    Absent,
}

fn came(case: &Case, letter: char, answer: &Answer) -> Came {
    let code = answer.code();
    match answer.status {
        404 | 405 if code == "other_listener" || answer.message().contains("no such path") => {
            Came::Absent
        }
        401 | 403 => Came::Refused,
        // Whoever is of one organization learns nothing of what another one has.
        404 if "cOQ".contains(letter)
            && case.path.contains("$other")
            && !case.may.contains(letter) =>
        {
            Came::Refused
        }
        // By name alone, whoever is no client is asked for the organization.
        400 if case.may == "c"
            && letter != 'c'
            && (case.method == "HEAD" || answer.message().contains("organization")) =>
        {
            Came::Refused
        }
        400 if case.body.contains("\"short\"") => Came::Through,
        // What they bring is no certificate, so that the listeners stay as they are.
        400 if case.path.starts_with("/v1/tls/") => Came::Through,
        // Nor is it a backup.
        400 if case.path.starts_with("/v1/backups/") => Came::Through,
        200..=299 | 404 | 409 => Came::Through,
        _ => panic!("{letter} {} {}: {answer:?}", case.method, case.path),
    }
}

#[test]
fn every_route_stands_in_the_table() {
    let listed: BTreeSet<(String, String, String)> = CASES
        .iter()
        .map(|case| {
            (
                case.method.to_owned(),
                case.route.to_owned(),
                case.on.to_owned(),
            )
        })
        .collect();
    let there: BTreeSet<(String, String, String)> = routes::all()
        .map(|route| {
            let mut on: Vec<char> = route
                .on
                .iter()
                .map(|listener| match listener {
                    Listener::Client => 'C',
                    Listener::Gui => 'G',
                    Listener::Socket => 'S',
                })
                .collect();
            on.sort_unstable();
            (
                route.method.as_str().to_owned(),
                route.path.to_owned(),
                on.into_iter().collect(),
            )
        })
        .collect();
    let missing: Vec<_> = there.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the table: {missing:?}; not in the program: {gone:?}"
    );
}

#[test]
fn every_route_lets_through_whom_the_table_names_and_nobody_else() {
    let world = world();
    let mut callers: BTreeMap<char, Caller> = CALLERS
        .chars()
        .map(|letter| (letter, world.caller(letter)))
        .collect();
    let mut wrong = Vec::new();
    for case in CASES {
        let (path, body) = (world.filled(case.path), world.filled(case.body));
        // Who is refused asks first: those who are let through may change what there is.
        let (may, may_not): (Vec<char>, Vec<char>) = CALLERS
            .chars()
            .partition(|letter| case.may.contains(*letter));
        let first = if case.ends { may.len() - 1 } else { 0 };
        let may = may.into_iter().skip(first);
        for letter in may_not.into_iter().chain(may) {
            let caller = callers.get_mut(&letter).unwrap();
            let answer = caller.ask(case, &path, &body);
            let expected = match (case.on.contains(caller.listener), case.may.contains(letter)) {
                (false, _) => Came::Absent,
                (true, true) => Came::Through,
                (true, false) => Came::Refused,
            };
            let came = came(case, letter, &answer);
            if came != expected {
                wrong.push(format!(
                    "{letter} {} {path}: {came:?}, not {expected:?} ({} {})",
                    case.method,
                    answer.status,
                    answer.code()
                ));
            }
            assert!(
                answer.header("strongroom-request-id").is_some(),
                "{answer:?}"
            );
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        CASES.len() * CALLERS.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_code_of_an_organization_is_shown_to_those_alone_who_may_set_it() {
    let world = world();
    for letter in "tSAOPQU125L".chars() {
        let mut caller = world.caller(letter);
        let case = CASES
            .iter()
            .find(|case| case.path == "/v1/orgs/acme")
            .unwrap();
        let shown = caller.ask(case, case.path, "").ok(200).json();
        let may = "tSAO1L".contains(letter);
        assert_eq!(shown["auth_code"].is_string(), may, "{letter}: {shown}");
        assert_eq!(shown["auth_code"] == Value::Null, !may, "{letter}");
    }
}
