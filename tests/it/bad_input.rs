//! Requests that are wrong, hostile or unlucky: a clear refusal, nothing lost, nothing secret shown.

use serde_json::json;

use crate::harness::{Answer, Client, Options, PATIENCE, Server, until};

const JSON: (&str, &str) = ("content-type", "application/json");

pub struct World {
    pub server: Server,
    pub client: Client,
    code: String,
}

pub fn world() -> World {
    let server = Server::start(Options::default());
    let code = server.org("acme");
    let client = server.client("a", "acme");
    client
        .wire()
        .request(
            "PUT",
            "/v1/deposits/key",
            &[],
            Some(b"a secret that was stored"),
        )
        .ok(201);
    World {
        server,
        client,
        code,
    }
}

impl World {
    /// What was there still is, and no secret stands in the log or in these answers.
    #[track_caller]
    pub fn is_unharmed(&self, answers: &[Answer]) {
        let key = self.client.wire().get("/v1/deposits/key").ok(200);
        assert_eq!(key.body, b"a secret that was stored");
        assert_eq!(self.server.health("/healthz").status, 200);
        let passphrase = String::from_utf8_lossy(&self.server.options.passphrase).into_owned();
        let secrets = [
            passphrase.as_str(),
            &self.server.password,
            &self.code,
            "a secret that was stored",
            "sent but not stored",
            "srt_",
        ];
        let said: Vec<String> = answers
            .iter()
            .map(|answer| format!("{answer:?}"))
            .chain([self.server.log()])
            .collect();
        for said in &said {
            for secret in secrets {
                assert!(!said.contains(secret), "`{secret}` in: {said}");
            }
            assert!(!said.contains("panicked"), "{said}");
        }
    }
}

/// Every refusal tells its kind, code, text and request.
#[track_caller]
pub fn is_clear(answer: &Answer) {
    let error = &answer.json()["error"];
    for field in ["kind", "code", "message", "request_id"] {
        assert!(
            error[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {answer:?}"
        );
    }
    assert_eq!(
        answer.header("strongroom-request-id"),
        error["request_id"].as_str(),
        "{answer:?}"
    );
}

#[test]
fn names_that_could_mislead_are_refused_with_their_rule() {
    let world = world();
    let mut wire = world.client.wire();
    let mut answers = Vec::new();
    let long = "a".repeat(256);
    let huge = "a".repeat(300);
    for name in [
        "a%2Fb",
        "..%2Fkey",
        "%2e%2e",
        "a%00b",
        "a%0Ab",
        "%20a",
        "a%20b",
        "p%D0%B0ypal",
        "%C3%A9",
        "e%CC%81",
        "%E2%80%AEyek",
        "-a",
        ".a",
        "_a",
        "018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
        "018F3B5E5B6A7C3D8E9F0123456789AB",
        "a%FFb",
        "a%zz",
        "a%2",
        "%",
        &long,
        &huge,
    ] {
        for (method, body) in [("PUT", Some(&b"sent but not stored"[..])), ("GET", None)] {
            let answer = wire.request(method, &format!("/v1/deposits/{name}"), &[], body);
            assert_eq!(answer.status, 400, "{method} {name}: {answer:?}");
            is_clear(&answer);
            answers.push(answer);
        }
    }
    for path in [
        "/v1/deposits/a/b",
        "/v1/deposits//",
        "/v1/deposits/../server",
        "/v1//deposits",
        "/v1/deposits/key/",
        "/v2/deposits",
        "/V1/deposits",
    ] {
        let answer = wire.get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        is_clear(&answer);
        answers.push(answer);
    }
    let boundary = "a".repeat(255);
    wire.request("PUT", &format!("/v1/deposits/{boundary}"), &[], Some(b"x"))
        .ok(201);
    wire.request("PUT", "/v1/deposits/%61bc", &[], Some(b"x"))
        .ok(201);
    wire.get("/v1/deposits/abc").ok(200);
    // What is capital is another name.
    wire.get("/v1/deposits/KEY").ok(404);
    world.is_unharmed(&answers);
}

#[test]
fn bodies_that_are_too_large_cut_off_or_of_the_wrong_type_are_refused() {
    let world = world();
    let mut answers = Vec::new();
    let mut send =
        |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8], status: u16| {
            // A refused body may end its connection.
            let answer = world
                .client
                .wire()
                .request(method, path, headers, Some(body));
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            is_clear(&answer);
            answers.push(answer);
        };
    let large = vec![b'x'; (1 << 20) + 1];
    send("PUT", "/v1/deposits/key", &[], &large, 413);
    send(
        "POST",
        "/v1/clients",
        &[JSON],
        &vec![b' '; (64 << 10) + 1],
        413,
    );
    send("PATCH", "/v1/deposits/key/metadata", &[], b"{}", 415);
    send(
        "PATCH",
        "/v1/deposits/key/metadata",
        &[("content-type", "text/plain")],
        b"{}",
        415,
    );
    for wrong in [
        "",
        "{",
        "[]",
        "[\"x\"]",
        "null",
        "{\"description\":1}",
        "{\"colour\":\"red\"}",
        "{\"labels\":{\"a b\":\"c\"}}",
        "{\"description\":\"\\u0000\"}",
        "\u{feff}{}",
    ] {
        send(
            "PATCH",
            "/v1/deposits/key/metadata",
            &[JSON],
            wrong.as_bytes(),
            400,
        );
    }
    let deep = "[".repeat(10_000);
    send(
        "PATCH",
        "/v1/deposits/key/metadata",
        &[JSON],
        deep.as_bytes(),
        400,
    );
    send(
        "PATCH",
        "/v1/deposits/key/metadata",
        &[JSON],
        b"{\"description\":\"\xff\"}",
        400,
    );
    for (name, value) in [
        ("content-type", "nonsense"),
        ("strongroom-encryption", "rot13"),
        ("strongroom-labels", "a"),
        ("strongroom-description", "%FF"),
        ("if-match", "1"),
        ("idempotency-key", ""),
    ] {
        send(
            "PUT",
            "/v1/deposits/key",
            &[(name, value)],
            b"sent but not stored",
            400,
        );
    }
    let mut wire = world.client.wire();
    let answer = wire.request("POST", "/v1/deposits/key", &[], None);
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("DELETE, GET, HEAD, PUT"))
    );
    is_clear(&answer);

    // Announced and never sent: the connection ends, and nothing is stored.
    for head in [
        "content-length: 1000\r\n\r\nsent but not stored",
        "transfer-encoding: chunked\r\n\r\n13\r\nsent but not stored\r\n",
    ] {
        let mut cut = world.client.wire();
        cut.send(format!("PUT /v1/deposits/cut HTTP/1.1\r\nhost: localhost\r\n{head}").as_bytes())
            .unwrap();
        drop(cut);
    }
    for wrong in [
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "content-length: -1\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut wire = world.client.wire();
        wire.send(
            format!("PUT /v1/deposits/cut HTTP/1.1\r\nhost: localhost\r\n{wrong}").as_bytes(),
        )
        .unwrap();
        let answer = wire.answer(false);
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.status == 400) || answer.is_err(),
            "{answer:?}"
        );
    }
    world
        .client
        .wire()
        .get("/v1/deposits/cut")
        .refused(404, "not_found");
    world.is_unharmed(&answers);
}

#[test]
fn labels_of_ten_kilobytes_are_refused_wherever_there_are_labels() {
    let world = world();
    let (long, client) = ("y".repeat(10 << 10), &world.client);
    let mut answers = Vec::new();
    for labels in [
        format!("k={long}"),
        format!("{long}=v"),
        format!("a=b,k={long}"),
        vec!["k=v"; 2_000].join(","),
        (0..65)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(","),
    ] {
        let headers = [("strongroom-labels", labels.as_str())];
        let answer = client
            .wire()
            .request("PUT", "/v1/deposits/long", &headers, Some(b"x"));
        answers.push(answer.refused(400, "invalid"));
    }
    for labels in [json!({"k": long}), json!({long.as_str(): "v"})] {
        let body = json!({"labels": labels}).to_string();
        let answer = client.wire().request(
            "PATCH",
            "/v1/deposits/key/metadata",
            &[JSON],
            Some(body.as_bytes()),
        );
        answers.push(answer.refused(400, "invalid"));
    }
    let body = json!({"label": long, "scopes": ["read"], "user": "superuser"}).to_string();
    let answer =
        world
            .server
            .socket()
            .request("POST", "/v1/tokens", &[JSON], Some(body.as_bytes()));
    answers.push(answer.refused(400, "invalid"));
    for answer in &answers {
        is_clear(answer);
        let message = answer.message();
        assert!(message.contains("label"), "{message}");
        assert!(message.len() < 400, "it comes back: {message}");
        let field = answer.json()["error"]["field"].clone();
        let fields = ["label", "labels", "strongroom-labels"];
        assert!(
            fields.map(serde_json::Value::from).contains(&field),
            "{answer:?}"
        );
    }
    // By the command, before anything is sent.
    let label = format!("k={long}");
    for args in [
        &["deposit", "put", "long", "-", "--label", &label][..],
        &["deposit", "edit", "key", "--label", &label],
        &["deposit", "list", "--label", &label],
    ] {
        client.cli_with(args, b"x").fails(2).says(&["255"]);
    }
    let secret = world.server.file("secret", "another passphrase");
    let (secret, key) = (secret.to_str().unwrap(), world.server.path("key"));
    let slot = [
        "slot",
        "add",
        "passphrase",
        "--label",
        &long,
        "--secret-file",
        secret,
    ];
    let opener = ["--key-file", key.to_str().unwrap()];
    let refused = world.server.cli(&[&slot[..], &opener].concat()).fails(2);
    assert!(refused.says(&["label"]).stderr.len() < 600);
    assert_eq!(
        world.server.json(&["slot", "list"])["slots"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // Nothing of it is there.
    client
        .wire()
        .get("/v1/deposits/long")
        .refused(404, "not_found");
    let shown = client
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(shown["labels"], json!({}));
    assert_eq!(world.server.json(&["token", "list"])["items"], json!([]));
    world.is_unharmed(&answers);
}

#[test]
fn wrong_credentials_are_refused_and_never_repeated() {
    let world = world();
    let mut answers = Vec::new();
    let mut gui = world.server.wire(&world.server.gui_url);
    let token = world.server.token("superuser", &["read"]);
    let almost = format!("{}x", &token[..token.len() - 1]);
    for bearer in [almost.as_str(), "", "a b", &"y".repeat(5_000)] {
        let answer = gui.request(
            "GET",
            "/v1/status",
            &[("authorization", &format!("Bearer {bearer}"))],
            None,
        );
        assert_eq!(answer.status, 401, "{answer:?}");
        is_clear(&answer);
        answers.push(answer);
    }
    for (name, value) in [
        ("authorization", "Basic c3VwZXJ1c2VyOng="),
        ("cookie", "__Host-strongroom=guessed"),
    ] {
        let answer = gui.request("GET", "/v1/status", &[(name, value)], None);
        assert_eq!(answer.status, 401, "{answer:?}");
        answers.push(answer);
    }
    let body =
        json!({"user": "superuser", "password": format!("{}x", world.server.password)}).to_string();
    answers.push(
        gui.request("POST", "/v1/sessions", &[JSON], Some(body.as_bytes()))
            .refused(401, "log_in_refused"),
    );
    let wrong = world.server.stranger("b", "acme");
    let refused = wrong.register(Some(&format!("{}x", world.code))).fails(5);
    assert!(!refused.stderr.contains(&world.code), "{refused:?}");
    world.is_unharmed(&answers);
}

#[test]
fn the_log_holds_no_secret_even_where_everything_is_logged() {
    let mut world = world();
    world
        .server
        .cli(&["setting", "set", "log.level", "debug"])
        .ok();
    let client = &world.client;
    client
        .cli_with(&["deposit", "put", "other", "-"], b"sent but not stored")
        .ok();
    client.curl("/v1/deposits/other").send().ok(200);
    let token = world.server.token("superuser", &["all"]);
    let url = format!("{}/v1/orgs/acme", world.server.gui_url);
    world.server.curl(&url).token(&token).send().ok(200);
    let body = json!({"user": "superuser", "password": world.server.password});
    let session = world
        .server
        .curl(&format!("{}/v1/sessions", world.server.gui_url))
        .json(&body)
        .send()
        .ok(201);
    let cookie = session
        .header("set-cookie")
        .unwrap()
        .split(['=', ';'])
        .nth(1)
        .unwrap()
        .to_owned();
    until(PATIENCE, || world.server.log().contains("/v1/sessions"));
    let log = world.server.log();
    assert!(log.contains("DEBUG"), "{log}");
    let csrf = session.json()["csrf"].as_str().unwrap().to_owned();
    for secret in [token.as_str(), &cookie, &csrf] {
        assert!(!log.contains(secret), "{log}");
    }
    world.is_unharmed(&[]);
    world.server.stop();
    // Nor does anything else in the data folder.
    let found = crate::harness::run(
        std::process::Command::new("grep")
            .args([
                "-rlaF",
                "-e",
                "a secret that was stored",
                "-e",
                &token,
                "-e",
                &cookie,
                "-e",
                &world.server.password,
                "-e",
                &world.code,
            ])
            .arg(&world.server.data),
    );
    assert_eq!((found.status, found.text().as_str()), (1, ""), "{found:?}");
}
