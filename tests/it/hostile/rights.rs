//! Nobody does what his role does not allow, nor gives it to himself.

use serde_json::json;

use super::super::harness::Server;
use super::{ask, code, events, log_in, password, server, user};

fn grant(role: &str) -> serde_json::Value {
    json!({ "role": role, "org": null })
}

#[test]
fn an_administrator_comes_by_no_right_that_is_not_an_administrators() {
    let server = server();
    let client = server.client("host", "acme");
    client
        .cli_with(&["deposit", "put", "--raw", "key", "-"], b"secret")
        .ok();
    let alice = user(&server, "alice", &["administrator"]);
    user(&server, "ko", &["key_operator"]);
    user(&server, "aud", &["auditor"]);
    let bytes = || ask(&server, &alice, "GET", "/v1/orgs/acme/deposits/key", None).status;
    assert_eq!(bytes(), 403);
    for role in ["superuser", "key_operator", "auditor"] {
        let to_self = ask(
            &server,
            &alice,
            "POST",
            "/v1/users/alice/grants",
            Some(grant(role)),
        );
        assert_eq!(to_self.status, 403, "{role}: {to_self:?}");
        let new =
            json!({ "name": "new", "password": "twelve bytes long", "grants": [grant(role)] });
        assert_eq!(
            ask(&server, &alice, "POST", "/v1/users", Some(new)).status,
            403,
            "{role}"
        );
    }
    for name in ["superuser", "ko", "aud"] {
        let password = json!({ "password": "twelve bytes long" });
        let path = format!("/v1/users/{name}/password");
        assert_eq!(
            ask(&server, &alice, "PUT", &path, Some(password)).status,
            403,
            "{name}"
        );
        let token = json!({ "user": name, "label": "x", "scopes": ["all"] });
        assert_eq!(
            ask(&server, &alice, "POST", "/v1/tokens", Some(token)).status,
            403,
            "{name}"
        );
    }
    assert_eq!(bytes(), 403);
    // What is an administrator's still goes.
    for role in ["administrator", "org_administrator"] {
        let org = (role == "org_administrator").then_some("acme");
        let name = role.replace('_', "-");
        let grants = json!([{ "role": role, "org": org }]);
        let new = json!({ "name": name, "password": "twelve bytes long", "grants": grants });
        ask(&server, &alice, "POST", "/v1/users", Some(new)).ok(201);
    }
    let refused = events(
        &server,
        "outcome = refused and actor ^ alice and detail = beyond_own_rights",
    );
    assert!(refused.len() >= 8, "{refused:?}");
}

#[test]
fn an_administrator_does_not_take_a_superusers_token_away() {
    let server = server();
    let alice = user(&server, "alice", &["administrator"]);
    server.token("superuser", &["all"]);
    let tokens = server.json(&["token", "list"]);
    let items = tokens["items"].as_array().or(tokens.as_array()).unwrap();
    let theirs = items
        .iter()
        .find(|token| token["user"] == "superuser")
        .unwrap();
    let path = format!("/v1/tokens/{}", theirs["id"].as_str().unwrap());
    assert_eq!(ask(&server, &alice, "DELETE", &path, None).status, 403);
}

#[test]
fn roles_of_one_organization_end_at_its_border() {
    let server = server();
    let (ours, theirs) = (
        server.client("ours", "acme"),
        server.client("theirs", "beta"),
    );
    for client in [&ours, &theirs] {
        client
            .cli_with(&["deposit", "put", "--raw", "key", "-"], b"secret")
            .ok();
    }
    let id = theirs
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let by_id = format!("/v1/deposits/id/{id}");
    let client = format!("/v1/clients/{}", theirs.fingerprint());
    for role in ["org_administrator:acme", "key_operator:acme"] {
        let name = role.split(':').next().unwrap().replace('_', "-");
        let token = user(&server, &name, &[role]);
        let denied = |method: &str, path: &str, body| {
            let answer = ask(&server, &token, method, path, body);
            assert!(
                [403, 404].contains(&answer.status),
                "{role}: {method} {path}: {answer:?}"
            );
        };
        assert_eq!(
            ask(&server, &token, "GET", "/v1/orgs/acme", None).status,
            200
        );
        denied("GET", "/v1/orgs/beta", None);
        denied(
            "PUT",
            "/v1/orgs/beta/auth",
            Some(json!({ "auth_code": "" })),
        );
        denied("GET", "/v1/clients?org=beta", None);
        denied("GET", &client, None);
        denied("POST", &format!("{client}/disable"), Some(json!({})));
        denied("DELETE", &client, None);
        denied("GET", "/v1/orgs/beta/deposits/key", None);
        denied("GET", "/v1/orgs/beta/deposits", None);
        denied("GET", &by_id, None);
        denied("DELETE", &by_id, None);
        denied(
            "POST",
            "/v1/tokens",
            Some(json!({ "label": "x", "scopes": ["all"] })),
        );
        denied(
            "POST",
            &format!("/v1/users/{name}/grants"),
            Some(grant("superuser")),
        );
        let orgs = ask(&server, &token, "GET", "/v1/orgs", None).json();
        assert!(
            orgs["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|org| org["name"] == "acme"),
            "{orgs}"
        );
    }
    // A client of the other organization learns not even that it is there.
    assert_eq!(ours.curl(&by_id).send().status, 404);
    assert_eq!(ours.curl("/v1/orgs/beta/deposits/key").send().status, 403);
}

#[test]
fn a_client_neither_reads_nor_overwrites_its_neighbours_deposit() {
    let server = server();
    let (one, other) = (server.client("one", "acme"), server.client("other", "acme"));
    one.cli_with(&["deposit", "put", "--raw", "key", "-"], b"secret")
        .ok();
    let statuses = [
        other.curl("/v1/deposits/key").send().status,
        other.curl("/v1/deposits/key").put(b"planted").send().status,
        other
            .curl("/v1/deposits/key")
            .method("DELETE")
            .send()
            .status,
    ];
    assert_eq!(statuses, [403, 409, 403]);
    let refused = events(&server, "outcome = refused and object = 'acme/key'");
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(one.curl("/v1/deposits/key").send().ok(200).body, b"secret");
}

#[test]
fn a_token_ends_with_its_user_and_its_scope() {
    let server = server();
    user(&server, "bob", &["superuser"]);
    let metrics = server.token("bob", &["metrics"]);
    let read = server.token("bob", &["read"]);
    assert_eq!(ask(&server, &metrics, "GET", "/v1/orgs", None).status, 403);
    assert_eq!(ask(&server, &metrics, "GET", "/metrics", None).status, 200);
    let new = || Some(json!({ "label": "x", "scopes": ["all"] }));
    assert_eq!(ask(&server, &read, "POST", "/v1/tokens", new()).status, 403);
    server.cli(&["user", "disable", "bob"]).ok();
    for token in [&metrics, &read] {
        assert_eq!(ask(&server, token, "GET", "/v1/status", None).status, 401);
        assert_eq!(ask(&server, token, "GET", "/metrics", None).status, 401);
    }
    assert_eq!(log_in(&server, "bob", &password("bob")).status, 401);
}

#[test]
fn an_idempotency_key_is_its_callers_alone() {
    let server = server();
    let (alice, bob) = (
        user(&server, "alice", &["superuser"]),
        user(&server, "bob", &["superuser"]),
    );
    let add = |token: &str| {
        let answer = server
            .curl(&format!("{}/v1/tokens", server.gui_url))
            .token(token)
            .header("idempotency-key", "one")
            .json(&json!({ "label": "x", "scopes": ["read"] }))
            .send()
            .ok(201);
        answer.json()["secret"].as_str().unwrap().to_owned()
    };
    let first = add(&alice);
    assert_eq!(add(&alice), first, "a retry");
    assert_ne!(add(&bob), first);
}

#[test]
fn the_client_listener_believes_no_cookie() {
    let server = server();
    let (cookie, _) = session(&server);
    for path in ["/v1/sessions/current", "/v1/orgs"] {
        let answer = server
            .curl(&format!("{}{path}", server.client_url))
            .header("cookie", &cookie)
            .send();
        assert!([401, 404].contains(&answer.status), "{path}: {answer:?}");
    }
}

#[test]
fn within_a_session_a_change_needs_its_csrf_value_and_a_refusal_is_an_event() {
    let server = server();
    let (cookie, csrf) = session(&server);
    let add = |headers: &[(&str, &str)]| {
        let mut curl = server
            .curl(&format!("{}/v1/orgs", server.gui_url))
            .header("cookie", &cookie);
        for (name, value) in headers {
            curl = curl.header(name, value);
        }
        curl.json(&json!({ "name": "acme" })).send()
    };
    for headers in [
        &[][..],
        &[("strongroom-csrf", "")],
        &[("strongroom-csrf", "guess")],
        &[("origin", "https://localhost")],
    ] {
        let answer = add(headers);
        assert_eq!(
            (answer.status, code(&answer).as_str()),
            (403, "csrf"),
            "{headers:?}: {answer:?}"
        );
    }
    let refused = events(&server, "outcome = refused and detail = csrf");
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert_eq!(refused[0]["actor"]["name"], "superuser");
    add(&[("strongroom-csrf", &csrf)]).ok(201);
}

#[test]
fn a_session_is_new_at_each_log_in_and_ends_with_the_password() {
    let server = server();
    let (cookie, _) = session(&server);
    // One that the attacker chose is not taken over.
    let chosen = server
        .curl(&format!("{}/v1/sessions", server.gui_url))
        .header("cookie", "__Host-strongroom=chosen")
        .json(&json!({ "user": "superuser", "password": server.password }))
        .send()
        .ok(201);
    let given = chosen.header("set-cookie").unwrap();
    assert!(
        !given.contains("chosen") && !given.contains(&cookie),
        "{given}"
    );
    let current = |cookie: &str| {
        let url = format!("{}/v1/sessions/current", server.gui_url);
        server.curl(&url).header("cookie", cookie).send().status
    };
    assert_eq!(
        (current(&cookie), current("__Host-strongroom=chosen")),
        (200, 401)
    );
    let file = server.file("new-password", "another password");
    server
        .cli(&[
            "user",
            "set-password",
            "superuser",
            "--password-file",
            file.to_str().unwrap(),
        ])
        .ok();
    assert_eq!(current(&cookie), 401);
}

/// The superuser's cookie and CSRF value.
fn session(server: &Server) -> (String, String) {
    let answer = log_in(server, "superuser", &server.password).ok(201);
    let cookie = answer
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    (cookie, answer.json()["csrf"].as_str().unwrap().to_owned())
}
