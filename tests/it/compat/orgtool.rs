//! `keytrustee-orgtool`.

use serde_json::{Value, json};

use super::{typed, typed_with};
use crate::harness::{Options, Server};

fn listed(server: &Server) -> Value {
    typed(server, "keytrustee-orgtool list").ok().json()
}

/// Every `9` of the pattern stands for a digit.
#[track_caller]
fn looks_like(value: &Value, pattern: &str) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value}"));
    let same = text.len() == pattern.len()
        && text.chars().zip(pattern.chars()).all(|(c, p)| match p {
            '9' => c.is_ascii_digit(),
            p => c == p,
        });
    assert!(same, "{text} is not like {pattern}");
}

#[test]
fn the_manuals_lines_give_what_the_manual_shows() {
    let server = Server::start(Options::default());
    typed(
        &server,
        "keytrustee-orgtool add -n disaster-recov -c finn@example.com,jake@example.com",
    )
    .ok();
    let shown = listed(&server);
    let org = &shown["disaster-recov"];
    let keys: Vec<&String> = org.as_object().unwrap().keys().collect();
    let expected = [
        "auth_secret",
        "contacts",
        "creation",
        "expiration",
        "key_info",
        "name",
        "state",
        "uuid",
    ];
    assert_eq!(keys, expected);
    assert_eq!(shown.as_object().unwrap().len(), 1);
    assert_eq!(
        org["contacts"],
        json!(["finn@example.com", "jake@example.com"])
    );
    looks_like(&org["creation"], "9999-99-99T99:99:99");
    assert_eq!(org["expiration"], "9999-12-31T15:59:59");
    assert_eq!(org["key_info"], Value::Null);
    assert_eq!(
        (&org["name"], &org["state"]),
        (&json!("disaster-recov"), &json!(0))
    );
    assert!(org["uuid"].is_string());
    // 16 bytes in base64.
    let code = org["auth_secret"].as_str().unwrap().to_owned();
    assert!(code.len() == 24 && code.ends_with("=="), "{code}");
    // For people, too, it stands on lines of its own.
    let text = typed(&server, "keytrustee-orgtool list").ok().text();
    assert!(text.contains("\n    \"auth_secret\": \""), "{text}");

    typed(
        &server,
        "keytrustee-orgtool add -n disaster-recov -c marceline@example.com",
    )
    .ok();
    let again = listed(&server)["disaster-recov"].clone();
    assert_eq!(
        again["contacts"],
        json!([
            "finn@example.com",
            "jake@example.com",
            "marceline@example.com"
        ])
    );
    for same in ["auth_secret", "uuid", "creation"] {
        assert_eq!(again[same], org[same]);
    }

    typed(
        &server,
        "keytrustee-orgtool set-auth -n disaster-recov -s ThisISAs3cr3t!",
    )
    .ok()
    .says(&["-s -", "stdin"]);
    assert_eq!(
        listed(&server)["disaster-recov"]["auth_secret"],
        "ThisISAs3cr3t!"
    );
    let client = server.stranger("a", "disaster-recov");
    client.register(Some("ThisISAs3cr3t!")).ok();

    let blank = typed(
        &server,
        r#"keytrustee-orgtool set-auth -n disaster-recov -s """#,
    )
    .ok();
    assert!(!blank.stderr.contains("command line"), "{blank:?}");
    assert_eq!(listed(&server)["disaster-recov"]["auth_secret"], "");
    server.stranger("b", "disaster-recov").register(None).ok();
    let active = server.json(&["client", "list", "-F", "state = active"]);
    assert_eq!(active["items"].as_array().unwrap().len(), 2);

    let quiet = typed_with(
        &server,
        "keytrustee-orgtool set-auth -n disaster-recov -s -",
        b"from stdin\n",
    )
    .ok();
    assert!(!quiet.stderr.contains("command line"), "{quiet:?}");
    assert_eq!(
        listed(&server)["disaster-recov"]["auth_secret"],
        "from stdin"
    );
}

#[test]
fn an_end_and_the_lack_of_one_are_written_as_the_original_does() {
    let server = Server::start(Options::default());
    for line in [
        "org add ends --expires 2031-05-06T07:08:09.5Z",
        "org add ended",
        "org set-expiry ended 2020-01-01T00:00:00Z",
        "org add root --contacts root@kts01",
    ] {
        server.cli(&line.split(' ').collect::<Vec<_>>()).ok();
    }
    let all = listed(&server);
    assert_eq!(
        (&all["ends"]["expiration"], &all["ends"]["state"]),
        (&json!("2031-05-06T07:08:09"), &json!(0))
    );
    assert_eq!(
        (&all["ended"]["expiration"], &all["ended"]["state"]),
        (&json!("2020-01-01T00:00:00"), &json!(1))
    );
    assert_eq!(all["root"]["contacts"], json!(["root@kts01"]));
}

#[test]
fn clients_are_let_in_and_kept_out_by_their_fingerprint() {
    let server = Server::start(Options::default());
    server.org("acme");
    let client = server.stranger("a", "acme");
    client.register(None).ok();
    let print = client.fingerprint();
    let colons: Vec<&str> = (0..32).map(|at| &print[2 * at..2 * at + 2]).collect();
    let colons = colons.join(":").to_uppercase();
    client
        .curl("/v1/deposits")
        .send()
        .refused(403, "client_pending");
    typed(
        &server,
        &format!("keytrustee-orgtool enable-client --fingerprint {colons}"),
    )
    .ok()
    .says(&["active"]);
    client.curl("/v1/deposits").send().ok(200);
    typed(
        &server,
        &format!("keytrustee-orgtool disable-client --fingerprint={print}"),
    )
    .ok();
    client
        .curl("/v1/deposits")
        .send()
        .refused(403, "client_disabled");
    typed(
        &server,
        &format!("keytrustee-orgtool disable-client --fingerprint {print}"),
    )
    .fails(5)
    .says(&["disabled"]);
    typed(
        &server,
        &format!(
            "keytrustee-orgtool enable-client --fingerprint {}",
            print.to_uppercase()
        ),
    )
    .ok();
    client.curl("/v1/deposits").send().ok(200);
    let unknown = "ab".repeat(32);
    typed(
        &server,
        &format!("keytrustee-orgtool enable-client --fingerprint {unknown}"),
    )
    .fails(4);
    typed(&server, "keytrustee-orgtool enable-client --fingerprint 12")
        .fails(2)
        .says(&["64 hex digits"]);
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let server = Server::start(Options::default());
    for (line, says) in [
        ("add -n two words -c a@x", "without blanks"),
        ("add -n 'two words' -c a@x", "not an organization's name"),
        ("add -n acme -c a@x, b@y", "not a contact"),
        (
            "add -n acme -c a@x b@y",
            "separated by commas, without blanks",
        ),
        ("add -n acme -c 'a@x, b@y'", "not a contact"),
        ("add -n acme -c ''", "not a contact"),
        ("add -n acme", "--contacts"),
        ("add -n acme -c a@x --colour red", "--colour"),
        ("set-auth -n acme", "--secret"),
        ("remove -n acme", "remove"),
    ] {
        typed(&server, &format!("keytrustee-orgtool {line}"))
            .fails(2)
            .says(&[says]);
    }
    typed(&server, "keytrustee-orgtool set-auth -n acme -s x").fails(4);
    assert_eq!(listed(&server), json!({}));
    for help in ["-h", "--help", "add -h", "set-auth --help"] {
        let text = typed(&server, &format!("keytrustee-orgtool {help}"))
            .ok()
            .text();
        assert!(text.contains("Usage: keytrustee-orgtool"), "{text}");
    }
}

#[test]
fn the_options_of_every_command_go_with_it_and_a_secret_goes_nowhere_else() {
    let server = Server::start(Options::default());
    server.org("acme");
    let data = server.data.display();
    let line = format!(
        "env -u STRONGROOM_DATA_DIR keytrustee-orgtool --data-dir {data} --quiet --reason 'as agreed' set-auth -n acme -s 'a very secret code'"
    );
    typed(&server, &line).ok();
    let line = format!(
        "env -u STRONGROOM_DATA_DIR {} --data-dir {data} as keytrustee-orgtool list",
        server.options.binary.display()
    );
    let all = typed(&server, &line).ok().json();
    assert_eq!(all["acme"]["auth_secret"], "a very secret code");
    // What follows the name is the old command's, whatever it is.
    let program = server.options.binary.display();
    let help = typed(&server, &format!("{program} as ssh-mgr-setup --help")).ok();
    assert!(help.text().contains("--encryption-passphrase"), "{help:?}");
    let list = format!("{program} --json as ssh-mgr-client -o csv list-organizations");
    assert!(typed(&server, &list).ok().text().contains("acme"));
    // Who may not see the code does not take it for a blank one.
    let token = server.file("token", server.token("superuser", &["read"]));
    let line = format!(
        "env -u STRONGROOM_DATA_DIR keytrustee-orgtool --server {} --token-file {} --server-fingerprint {} list",
        server.gui_url,
        token.display(),
        server.fingerprint
    );
    assert_eq!(
        typed(&server, &line).ok().json()["acme"]["auth_secret"],
        Value::Null
    );
    let events = server.json(&["audit", "list"]).to_string();
    assert!(
        events.contains("as agreed") && !events.contains("very secret"),
        "{events}"
    );
    assert!(!server.log().contains("very secret"));
    typed(
        &server,
        &format!("{} as keyhsm start", server.options.binary.display()),
    )
    .fails(2)
    .says(&["no old command", "keytrustee-orgtool"]);
}
