//! Whoever administers one organization, or works in it, learns nothing of another: what is there reads
//! as what is not. And of two who decide at once, one does.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Options, Server};

const JSON: (&str, &str) = ("content-type", "application/json");

struct World {
    server: Server,
    ours: Client,
    theirs: Client,
    /// The id of their deposit.
    deposit: String,
}

fn world() -> World {
    let server = Server::start(Options::default());
    let (ours, theirs) = (
        server.client("ours", "acme"),
        server.client("theirs", "beta"),
    );
    let put = |client: &Client| {
        let stored = client.curl("/v1/deposits/key").put(b"bytes").send().ok(201);
        stored.json()["id"].as_str().unwrap().to_owned()
    };
    put(&ours);
    let deposit = put(&theirs);
    World {
        server,
        ours,
        theirs,
        deposit,
    }
}

impl World {
    /// A user's token, for all that the user may.
    fn token(&self, name: &str, roles: &[&str], scopes: &[&str]) -> String {
        self.server.user(name, "a long enough password", roles);
        self.server.token(name, scopes)
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let body = body.map(Value::to_string);
        self.server.wire(&self.server.gui_url).request(
            method,
            path,
            &[("authorization", &bearer), JSON],
            body.as_deref().map(str::as_bytes),
        )
    }
}

/// An answer without what names the object that was asked for, and the request.
fn bare(answer: &Answer, asked: &str) -> (u16, String, String) {
    let (code, message) = match answer.body.is_empty() {
        true => (String::new(), String::new()),
        false => (answer.code(), answer.message()),
    };
    (answer.status, code, message.replace(asked, "IT"))
}

#[test]
fn what_another_organization_has_reads_as_what_is_not_there() {
    let world = world();
    let nobody = "ab".repeat(32);
    let nowhere = "018f3b5e-5b6a-7c3d-8e9f-0123456789ab";
    let there = [
        world.theirs.fingerprint(),
        world.deposit.clone(),
        "beta".to_owned(),
    ];
    let absent = [nobody, nowhere.to_owned(), "none".to_owned()];
    let people = [
        world.token("olga", &["org_administrator:acme"], &["all"]),
        world.token("otto", &["org_administrator:acme"], &["read"]),
        world.token("quinn", &["key_operator:acme"], &["all"]),
        world.token(
            "both",
            &["org_administrator:acme", "key_operator:acme"],
            &["all"],
        ),
        world.token("ursa", &["auditor:acme"], &["all"]),
        world.token("roleless", &[], &["all"]),
    ];
    let none = json!({});
    let code = json!({"auth_code": ""});
    let contacts = json!({"contacts": ["a@x"]});
    let never = json!({"expires": null});
    let limit = json!({"objects": 1});
    let asked: [(&str, &str, usize, Option<&Value>); 33] = [
        ("GET", "/v1/clients/IT", 0, None),
        ("POST", "/v1/clients/IT/approve", 0, Some(&none)),
        ("POST", "/v1/clients/IT/deny", 0, Some(&none)),
        ("POST", "/v1/clients/IT/disable", 0, Some(&none)),
        ("POST", "/v1/clients/IT/enable", 0, Some(&none)),
        ("DELETE", "/v1/clients/IT", 0, None),
        ("GET", "/v1/clients/IT/quota", 0, None),
        ("PUT", "/v1/clients/IT/quota", 0, Some(&limit)),
        ("GET", "/v1/deposits/id/IT", 1, None),
        ("GET", "/v1/deposits/id/IT?version=1", 1, None),
        ("HEAD", "/v1/deposits/id/IT", 1, None),
        ("PUT", "/v1/deposits/id/IT", 1, Some(&none)),
        ("DELETE", "/v1/deposits/id/IT", 1, None),
        ("GET", "/v1/deposits/id/IT/metadata", 1, None),
        ("PATCH", "/v1/deposits/id/IT/metadata", 1, Some(&none)),
        ("GET", "/v1/deposits/id/IT/versions", 1, None),
        ("POST", "/v1/deposits/id/IT/undelete", 1, None),
        ("POST", "/v1/deposits/id/IT/purge", 1, None),
        ("GET", "/v1/orgs/IT", 2, None),
        ("PUT", "/v1/orgs/IT/auth", 2, Some(&code)),
        ("PUT", "/v1/orgs/IT/expiry", 2, Some(&never)),
        ("POST", "/v1/orgs/IT/contacts", 2, Some(&contacts)),
        ("DELETE", "/v1/orgs/IT/contacts/a@x", 2, None),
        ("GET", "/v1/orgs/IT/quota", 2, None),
        ("PUT", "/v1/orgs/IT/quota", 2, Some(&limit)),
        ("GET", "/v1/orgs/IT/key", 2, None),
        ("POST", "/v1/orgs/IT/key/rotate", 2, None),
        ("GET", "/v1/orgs/IT/deposits", 2, None),
        ("GET", "/v1/orgs/IT/deposits/key", 2, None),
        ("GET", "/v1/orgs/IT/deposits/key/metadata", 2, None),
        ("PUT", "/v1/orgs/IT/deposits/key", 2, Some(&none)),
        ("GET", "/v1/clients?org=IT", 2, None),
        (
            "GET",
            "/v1/deposits?org=IT&filter=name%20%3D%20key",
            2,
            None,
        ),
    ];
    for token in &people {
        for (method, path, which, body) in asked {
            let ask = |it: &str| bare(&world.ask(token, method, &path.replace("IT", it), body), it);
            let (their, no) = (ask(&there[which]), ask(&absent[which]));
            assert_eq!(their, no, "{method} {path}");
            assert!(
                [401, 403, 404].contains(&their.0),
                "{method} {path}: {their:?}"
            );
        }
    }
    for path in [
        "/v1/deposits/id/IT",
        "/v1/deposits/id/IT?version=1",
        "/v1/deposits/id/IT/metadata",
    ] {
        let ask = |it: &str| bare(&world.ours.curl(&path.replace("IT", it)).send(), it);
        assert_eq!(ask(&world.deposit), ask(nowhere), "a client: {path}");
    }
    // Their things are as they were.
    assert_eq!(
        world.theirs.curl("/v1/deposits/key").send().ok(200).body,
        b"bytes"
    );
    let refused =
        world
            .server
            .json(&["audit", "list", "-F", "outcome = refused", "--limit", "500"]);
    assert!(
        refused.to_string().contains(&world.theirs.fingerprint()),
        "the audit knows what was tried"
    );
}

#[test]
fn lists_totals_and_events_are_of_the_own_organization_alone() {
    let world = world();
    let all = world.token("olga", &["org_administrator:acme"], &["all"]);
    let read = world.token("otto", &["org_administrator:acme"], &["read"]);
    for token in [&all, &read] {
        let ask = |path: &str| world.ask(token, "GET", path, None);
        for path in [
            "/v1/clients",
            "/v1/deposits",
            "/v1/orgs",
            "/v1/clients?filter=org%20%3D%20beta%20or%20org%20%3D%20acme",
            "/v1/deposits?filter=name%20~%20key",
            "/v1/clients?filter=description%20!%3D%20x",
        ] {
            let page = ask(path).ok(200).json();
            let items = page["items"].as_array().unwrap();
            assert_eq!(items.len(), 1, "{path}: {page}");
            assert!(
                !page.to_string().contains("beta") && page["next"].is_null(),
                "{path}: {page}"
            );
        }
        let org = ask("/v1/orgs/acme").ok(200).json();
        assert_eq!((&org["clients"], &org["deposits"]), (&json!(1), &json!(1)));
        // What speaks of the whole server.
        for path in [
            "/v1/status",
            "/metrics",
            "/v1/audit",
            "/v1/audit/verify",
            "/v1/audit/export",
            "/v1/users",
            "/v1/users/superuser",
            "/v1/roles",
            "/v1/tokens",
            "/v1/settings",
            "/v1/slots",
        ] {
            ask(path).refused(403, "denied");
        }
        let wrong = ask("/v1/clients?filter=colour%20%3D%20red");
        assert!(
            wrong.status == 400 && !wrong.message().contains("beta"),
            "{wrong:?}"
        );
    }
    // Reading is all that the scope gives: the code is for those who may set it.
    assert!(world.ask(&all, "GET", "/v1/orgs/acme", None).json()["auth_code"].is_string());
    assert!(world.ask(&read, "GET", "/v1/orgs/acme", None).json()["auth_code"].is_null());
    world
        .ask(
            &read,
            "POST",
            "/v1/orgs/acme/contacts",
            Some(&json!({"contacts": ["a@x"]})),
        )
        .refused(403, "denied");
    // A token for metrics was made for them by somebody who may see them.
    let metrics = world.server.token("olga", &["metrics"]);
    world.ask(&metrics, "GET", "/metrics", None).ok(200);
    world
        .ask(&metrics, "GET", "/v1/orgs", None)
        .refused(403, "denied");

    let two = world.token(
        "twice",
        &["org_administrator:acme", "org_administrator:beta"],
        &["all"],
    );
    let which = world.ask(&two, "GET", "/v1/clients", None);
    assert!(
        which.status == 400 && which.message().contains("acme, beta"),
        "{which:?}"
    );
    assert_eq!(
        world
            .ask(&two, "GET", "/v1/clients?org=beta", None)
            .ok(200)
            .json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn an_organization_is_run_by_its_own_administrator_until_the_grant_ends() {
    let world = world();
    let olga = world.token("olga", &["org_administrator:acme"], &["all"]);
    let ask = |method: &str, path: &str, body: Value| world.ask(&olga, method, path, Some(&body));
    ask(
        "PUT",
        "/v1/orgs/acme/auth",
        json!({"auth_code": "a code of olga's"}),
    )
    .ok(200);
    ask(
        "POST",
        "/v1/orgs/acme/contacts",
        json!({"contacts": ["olga@example.com"]}),
    )
    .ok(200);
    ask(
        "POST",
        "/v1/orgs/acme/contacts",
        json!({"contacts": ["olga @example.com"]}),
    )
    .refused(400, "invalid");
    ask(
        "DELETE",
        "/v1/orgs/acme/contacts/olga@example.com",
        json!({}),
    )
    .ok(200);
    // How much its clients may use is theirs to say, how much it may use itself is not.
    let client = format!("/v1/clients/{}/quota", world.ours.fingerprint());
    ask("PUT", &client, json!({"objects": 5})).ok(200);
    ask("PUT", "/v1/orgs/acme/quota", json!({"objects": 5})).refused(403, "denied");
    ask("GET", "/v1/orgs/acme/quota", json!({})).ok(200);
    // When it ends, and who it trusts to read along, is not theirs to say.
    ask("PUT", "/v1/orgs/acme/expiry", json!({"expires": null})).refused(403, "denied");
    ask(
        "PUT",
        "/v1/orgs/acme/recovery-recipient",
        json!({"recipient": null}),
    )
    .refused(403, "denied");
    let waiting = world.server.stranger("waiting", "acme");
    waiting.register(None).ok();
    let path = format!("/v1/clients/{}", waiting.fingerprint());
    ask("POST", &format!("{path}/approve"), json!({})).ok(200);
    ask("POST", &format!("{path}/disable"), json!({})).ok(200);
    ask("POST", &format!("{path}/enable"), json!({})).ok(200);
    ask("DELETE", &path, json!({})).ok(204);
    world.ours.curl("/v1/deposits/key").send().ok(200);
    // The token goes by its user's rights of the moment.
    world
        .server
        .cli(&["user", "revoke", "olga", "org_administrator:acme"])
        .ok();
    ask("PUT", "/v1/orgs/acme/auth", json!({"auth_code": "x"})).refused(403, "denied");
    world
        .ask(&olga, "GET", "/v1/clients", None)
        .refused(403, "denied");
    world.server.cli(&["user", "disable", "olga"]).ok();
    world
        .ask(&olga, "GET", "/v1/clients", None)
        .refused(401, "token_refused");
}

#[test]
fn of_two_who_approve_and_deny_at_once_one_decides_and_the_other_is_told() {
    let world = world();
    let (olga, otto) = (
        world.token("olga", &["org_administrator:acme"], &["all"]),
        world.token("otto", &["org_administrator:acme"], &["all"]),
    );
    let mut winners = std::collections::BTreeSet::new();
    for round in 0..8 {
        let client = world.server.stranger(&format!("c{round}"), "acme");
        client.register(None).ok();
        let path = format!("/v1/clients/{}", client.fingerprint());
        let start = std::sync::Barrier::new(2);
        let decide = |token: &str, verb: &str| {
            start.wait();
            world.ask(
                token,
                "POST",
                &format!("{path}/{verb}"),
                Some(&json!({"reason": "decided"})),
            )
        };
        let (approved, denied) = std::thread::scope(|scope| {
            let approving = scope.spawn(|| decide(&olga, "approve"));
            let denied = decide(&otto, "deny");
            (approving.join().unwrap(), denied)
        });
        let (state, loser) = match (approved.status, denied.status) {
            (200, 409) => ("active", denied),
            (409, 200) => ("denied", approved),
            both => panic!("{both:?}: {approved:?} {denied:?}"),
        };
        let told = loser.refused(409, "wrong_state");
        assert!(
            told.message().contains(&format!("the client is {state}")),
            "{told:?}"
        );
        let known = world
            .server
            .json(&["client", "show", &client.fingerprint()]);
        assert_eq!(known["state"], state);
        let events = world.server.json(&[
            "audit",
            "list",
            "-F",
            &format!("object ~ {}", client.fingerprint()),
            "-F",
            "outcome = done",
        ]);
        let decided = events["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["action"] != "client.register")
            .count();
        assert_eq!(decided, 1, "{events}");
        winners.insert(state);
    }
    assert!(!winners.is_empty());
}
