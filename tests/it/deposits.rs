//! Deposits beyond put and get: versions, the bin, lists, conditions, retries, writers at once.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Options, Server, run, wire};

const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    items
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn put(client: &mut wire::Connection, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    client.request("PUT", path, &[headers, &[OCTETS]].concat(), Some(body))
}

#[test]
fn every_version_stays_readable() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    for version in 1..=4 {
        let body = format!("version {version}");
        let out = client.cli_with(&["--json", "deposit", "put", "key", "-"], body.as_bytes());
        assert_eq!(out.ok().json()["version"], version);
    }
    for version in 1..=4 {
        let number = version.to_string();
        let out = client
            .cli(&["deposit", "get", "key", "--version", &number])
            .ok();
        assert_eq!(out.text(), format!("version {version}"));
        let answer = client
            .curl(&format!("/v1/deposits/key?version={version}"))
            .send()
            .ok(200);
        assert_eq!(answer.header("strongroom-version"), Some(number.as_str()));
        assert_eq!(
            answer.header("etag"),
            Some(format!("\"{version}\"").as_str())
        );
    }
    client
        .cli(&["deposit", "get", "key", "--version", "5"])
        .fails(4)
        .says(&["version 5"]);
    let versions = client
        .cli(&["--json", "deposit", "versions", "key"])
        .ok()
        .json();
    let numbers: Vec<_> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["version"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    let id = client
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        client.cli(&["deposit", "get", &id]).ok().text(),
        "version 4"
    );
}

#[test]
fn the_bin_keeps_the_name_until_purged() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "key", "-"], b"old")
        .ok();
    client.cli(&["deposit", "purge", "key", "--yes"]).fails(5);
    client.cli(&["deposit", "rm", "key", "--yes"]).ok();
    client
        .cli(&["deposit", "get", "key"])
        .fails(4)
        .says(&["bin"]);
    client
        .curl("/v1/deposits/key")
        .send()
        .refused(404, "in_bin");
    client
        .cli_with(&["deposit", "put", "key", "-"], b"new")
        .fails(5)
        .says(&["bin"]);
    client.cli(&["deposit", "rm", "key", "--yes"]).fails(5);
    let listed = client
        .cli(&["--json", "deposit", "list", "-F", "deleted > -1d"])
        .ok();
    assert!(listed.text().contains("key"), "{listed:?}");

    client.cli(&["deposit", "undelete", "key"]).ok();
    assert_eq!(client.cli(&["deposit", "get", "key"]).ok().text(), "old");
    client.cli(&["deposit", "undelete", "key"]).fails(5);

    client.cli(&["deposit", "rm", "key", "--yes"]).ok();
    client.cli(&["deposit", "purge", "key", "--yes"]).ok();
    client.cli(&["deposit", "show", "key"]).fails(4);
    client
        .cli_with(&["deposit", "put", "key", "-"], b"new")
        .ok();
    let shown = client
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(
        shown["version"], 1,
        "a purged deposit leaves nothing behind"
    );
    assert_eq!(client.cli(&["deposit", "get", "key"]).ok().text(), "new");
}

#[test]
fn labels_descriptions_and_types_are_kept_and_edited() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let args = [
        "--json",
        "deposit",
        "put",
        "key",
        "-",
        "--label",
        "env=prod",
        "--label",
        "note=a, b=c ü",
        "--description",
        "für €",
        "--content-type",
        "application/x-pem-file",
    ];
    let stored = client.cli_with(&args, b"x").ok().json();
    assert_eq!(stored["labels"], json!({"env": "prod", "note": "a, b=c ü"}));
    assert_eq!(stored["description"], "für €");
    assert_eq!(stored["content_type"], "application/x-pem-file");
    // A new version without labels keeps those that are there.
    let stored = client
        .cli_with(&["--json", "deposit", "put", "key", "-"], b"y")
        .ok()
        .json();
    assert_eq!(stored["labels"]["env"], "prod");
    client
        .cli(&[
            "deposit",
            "edit",
            "key",
            "--label",
            "env=test",
            "--remove-label",
            "note",
            "--description",
            "d",
        ])
        .ok();
    let shown = client
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(
        (&shown["labels"], &shown["description"], &shown["version"]),
        (&json!({"env": "test"}), &json!("d"), &json!(2))
    );
    client
        .cli(&[
            "deposit",
            "edit",
            "key",
            "--description",
            "x",
            "--if-version",
            "1",
        ])
        .fails(5)
        .says(&["version 2"]);
}

#[test]
fn lists_are_narrowed_by_prefix_label_and_filter_and_read_by_cursor() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    for n in 0..250 {
        let label = format!("env={},n={n}", if n % 5 == 0 { "prod" } else { "test" });
        let name = if n < 100 {
            format!("db-{n:03}")
        } else {
            format!("web-{n:03}")
        };
        put(
            &mut wire,
            &format!("/v1/deposits/{name}"),
            &[("strongroom-labels", &label)],
            &vec![0; n],
        )
        .ok(201);
    }
    let count = |args: &[&str]| {
        let listed = client
            .cli(&[&["--json", "deposit", "list"], args].concat())
            .ok()
            .json();
        names(&listed).len()
    };
    assert_eq!(count(&[]), 250);
    assert_eq!(count(&["--prefix", "db-"]), 100);
    assert_eq!(count(&["--label", "env=prod"]), 50);
    assert_eq!(count(&["--label", "env=prod", "--prefix", "web-"]), 30);
    assert_eq!(count(&["-F", "size > 199"]), 50);
    assert_eq!(count(&["-F", "size > 199", "-F", "label.env != prod"]), 40);
    assert_eq!(count(&["-F", "name ~ '-00' or label.n in (249, 248)"]), 12);
    assert_eq!(count(&["--limit", "7"]), 7);
    client
        .cli(&["deposit", "list", "-F", "colour = red"])
        .fails(2)
        .says(&["colour", "content_type"]);

    let mut seen = Vec::new();
    let mut pages = Vec::new();
    let mut path = "/v1/deposits?limit=60".to_owned();
    loop {
        let page = wire.get(&path).ok(200).json();
        seen.extend(names(&page));
        pages.push(page.clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/deposits?limit=60&cursor={next}");
    }
    assert_eq!(seen.len(), 250);
    assert!(
        seen.is_sorted() && pages.len() == 5,
        "{} pages",
        pages.len()
    );
    wire.get("/v1/deposits?limit=1001").refused(400, "invalid");
    wire.get("/v1/deposits?cursor=nonsense")
        .refused(400, "invalid");
    wire.get("/v1/deposits?limti=1").refused(400, "invalid");
    // A cursor holds its place while rows before it go.
    let page = wire.get("/v1/deposits?limit=2").ok(200).json();
    wire.request("DELETE", "/v1/deposits/db-000", &[], None)
        .ok(200);
    wire.request("POST", "/v1/deposits/db-000/purge", &[], None)
        .ok(204);
    let next = wire
        .get(&format!(
            "/v1/deposits?limit=2&cursor={}",
            page["next"].as_str().unwrap()
        ))
        .ok(200)
        .json();
    assert_eq!(names(&next), ["db-002", "db-003"]);
}

#[test]
fn conditions_hold_a_writer_back_who_saw_another_version() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let mut wire = client.wire();
    let path = "/v1/deposits/key";
    put(&mut wire, path, &[("if-match", "*")], b"1").refused(412, "precondition_failed");
    put(&mut wire, path, &[("if-match", "\"1\"")], b"1").refused(412, "precondition_failed");
    let stored = put(&mut wire, path, &[("if-none-match", "*")], b"1").ok(201);
    assert_eq!(stored.header("etag"), Some("\"1\""));
    put(&mut wire, path, &[("if-none-match", "*")], b"2").refused(412, "precondition_failed");
    put(&mut wire, path, &[("if-match", "\"1\"")], b"2").ok(200);
    put(&mut wire, path, &[("if-match", "\"1\"")], b"3").refused(412, "precondition_failed");
    put(&mut wire, path, &[("if-match", "*")], b"3").ok(200);
    wire.request("DELETE", path, &[("if-match", "\"2\"")], None)
        .refused(412, "precondition_failed");
    put(&mut wire, path, &[("if-match", "3")], b"4").refused(400, "invalid");
    assert_eq!(wire.get(path).ok(200).body, b"3");
    wire.request("DELETE", path, &[("if-match", "\"3\"")], None)
        .ok(200);
    client
        .cli_with(&["deposit", "put", "other", "-", "--if-version", "0"], b"x")
        .ok();
    client
        .cli_with(&["deposit", "put", "other", "-", "--if-version", "0"], b"x")
        .fails(5);
    client
        .cli_with(&["deposit", "put", "other", "-", "--if-version", "1"], b"x")
        .ok();
    client
        .cli_with(&["deposit", "put", "other", "-", "--if-version", "1"], b"x")
        .fails(5);
}

fn retried(client: &Client) -> (Answer, Answer) {
    let mut wire = client.wire();
    let key = ("idempotency-key", "retry-1");
    let first = put(&mut wire, "/v1/deposits/key", &[key], b"once");
    let second = put(&mut wire, "/v1/deposits/key", &[key], b"once");
    (first, second)
}

#[test]
fn a_retry_under_its_key_gets_the_first_answer_and_acts_once() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let other = server.client("b", "acme");
    let (first, second) = retried(&client);
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.body, second.body);
    let other_requests = |client: &Client| {
        let key = ("idempotency-key", "retry-1");
        let mut wire = client.wire();
        put(&mut wire, "/v1/deposits/key", &[key], b"twice").refused(422, "key_reused");
        put(&mut wire, "/v1/deposits/kez", &[key], b"once").refused(422, "key_reused");
        put(
            &mut wire,
            "/v1/deposits/key",
            &[key, ("if-match", "*")],
            b"once",
        )
        .refused(422, "key_reused");
        wire.request("DELETE", "/v1/deposits/key", &[key], None)
            .refused(422, "key_reused");
    };
    other_requests(&client);
    server.kill9();
    server.serve();
    let client = client.at(&server);
    let (third, _) = retried(&client);
    assert_eq!((third.status, &third.body), (201, &first.body));
    other_requests(&client);
    let mut wire = client.wire();
    assert_eq!(
        wire.get("/v1/deposits/key/metadata").ok(200).json()["version"],
        1
    );
    // Another caller's key is another key.
    let mut other = other.at(&server).wire();
    put(
        &mut other,
        "/v1/deposits/b-key",
        &[("idempotency-key", "retry-1")],
        b"x",
    )
    .ok(201);
    let long = "k".repeat(65);
    put(
        &mut wire,
        "/v1/deposits/key",
        &[("idempotency-key", &long)],
        b"x",
    )
    .refused(400, "invalid");
}

#[test]
fn writers_at_once_on_one_name_each_get_a_version_of_their_own() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let each = 20;
    let versions: Vec<Vec<(u64, String)>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let mut wire = client.wire();
                scope.spawn(move || {
                    (0..each)
                        .map(|n| {
                            let body = format!("writer {writer}, {n}");
                            let stored = put(&mut wire, "/v1/deposits/key", &[], body.as_bytes());
                            assert!(matches!(stored.status, 200 | 201), "{stored:?}");
                            (stored.json()["version"].as_u64().unwrap(), body)
                        })
                        .collect()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let mut all: Vec<(u64, String)> = versions.concat();
    all.sort();
    let mut wire = client.wire();
    for (index, (version, body)) in all.iter().enumerate() {
        assert_eq!(
            *version,
            index as u64 + 1,
            "versions have no gap and no double"
        );
        let fetched = wire
            .get(&format!("/v1/deposits/key?version={version}"))
            .ok(200);
        assert_eq!(fetched.body, body.as_bytes());
    }
    // With conditions exactly one of two wins each round.
    for round in 0..10 {
        let version = wire.get("/v1/deposits/key/metadata").ok(200).json()["version"].to_string();
        let tag = format!("\"{version}\"");
        let codes: Vec<u16> = std::thread::scope(|scope| {
            let race: Vec<_> = (0..2)
                .map(|_| {
                    let (mut wire, tag) = (client.wire(), &tag);
                    scope.spawn(move || {
                        put(&mut wire, "/v1/deposits/key", &[("if-match", tag)], b"r").status
                    })
                })
                .collect();
            race.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(
            codes.contains(&200) && codes.contains(&412),
            "round {round}: {codes:?}"
        );
    }
}

#[test]
fn an_export_is_a_tar_of_what_is_stored() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let long = format!("long.{}", "n".repeat(250));
    for (name, bytes) in [("key", "a secret"), (long.as_str(), "another")] {
        client
            .cli_with(&["deposit", "put", name, "-"], bytes.as_bytes())
            .ok();
    }
    client
        .cli_with(
            &["deposit", "put", "raw", "-", "--raw", "--label", "k=v"],
            &[7; 300_000],
        )
        .ok();
    client
        .cli_with(&["deposit", "put", "once", "-", "--single-use"], b"x")
        .ok();
    client.cli_with(&["deposit", "put", "gone", "-"], b"x").ok();
    client.cli(&["deposit", "rm", "gone", "--yes"]).ok();
    let file = server.path("all.tar").display().to_string();
    let out = client.cli(&["deposit", "export", "-o", &file]).ok();
    out.says(&["3 deposits", "2 left out"]);
    client
        .cli(&["deposit", "export", "-o", &file])
        .fails(5)
        .says(&["exists"]);
    let read = |file: &str, name: &str| {
        let mut tar = std::process::Command::new("tar");
        run(tar.args(["-xOf", file, &format!("acme/{name}")]))
            .ok()
            .stdout
    };
    assert_eq!(read(&file, "raw/1"), [7; 300_000]);
    let metadata: Value = serde_json::from_slice(&read(&file, "raw/metadata.json")).unwrap();
    assert_eq!(metadata["labels"]["k"], "v");
    for (name, bytes) in [("key", "a secret"), (long.as_str(), "another")] {
        let sealed = server.file("sealed", read(&file, &format!("{name}/1")));
        assert_eq!(client.age_decrypt(&sealed), bytes.as_bytes());
    }
    assert_eq!(
        client
            .cli(&["--json", "deposit", "show", "once"])
            .ok()
            .json()["retrievals_left"],
        1
    );

    // All of the organization, encrypted, by an operator; what has expired is said.
    let age = server.path("all.age").display().to_string();
    let recipient = run(std::process::Command::new("age-keygen")
        .arg("-y")
        .arg(client.file("identity.txt")));
    let recipient = recipient.ok().text();
    client
        .cli(&["deposit", "edit", "key", "--not-before", "+1h"])
        .ok();
    let export = [
        "deposit",
        "export",
        "--org",
        "acme",
        "-o",
        &age,
        "--recipient",
        recipient.trim(),
        "-F",
        "name != raw",
    ];
    server.cli(&export).fails(5).says(&[
        "acme/key: this deposit may be fetched from",
        "1 deposits could not",
    ]);
    let tar = server.file("opened.tar", client.age_decrypt(age.as_ref()));
    assert!(!read(tar.to_str().unwrap(), &format!("{long}/1")).is_empty());
}
