//! Organizations: contacts, and their end.

use crate::harness::{Options, Server};

#[test]
fn contacts_come_and_go_one_by_one() {
    let server = Server::start(Options::default());
    server
        .cli(&["org", "add", "acme", "--contacts", "a@x,a@x,b@y"])
        .ok();
    let contacts = |server: &Server| server.json(&["org", "show", "acme"])["contacts"].clone();
    assert_eq!(contacts(&server), serde_json::json!(["a@x", "b@y"]));
    server
        .cli(&["org", "contact", "add", "acme", "root@kts01"])
        .ok()
        .says(&["a@x,b@y,root@kts01"]);
    server.cli(&["org", "contact", "add", "acme", "a@x"]).ok();
    server.cli(&["org", "contact", "rm", "acme", "b@y"]).ok();
    assert_eq!(contacts(&server), serde_json::json!(["a@x", "root@kts01"]));
    server
        .cli(&["org", "contact", "rm", "acme", "b@y"])
        .fails(4)
        .says(&["no contact of `acme`"]);
    server
        .cli(&["org", "contact", "add", "none", "b@y"])
        .fails(4);
    // Blanks, wherever they stand, and through the API as by the command.
    for bad in [
        "b @y",
        " b@y",
        "b@y ",
        "b@ y",
        "b\t@y",
        "b@y\n",
        "b\u{a0}@y",
        " ",
    ] {
        for (path, method) in [("/v1/orgs", "POST"), ("/v1/orgs/acme/contacts", "POST")] {
            let body = serde_json::json!({"name": "blank", "contacts": [bad]});
            let mut body = body.as_object().unwrap().clone();
            if path != "/v1/orgs" {
                body.remove("name");
            }
            let answer = server.socket().request(
                method,
                path,
                &[("content-type", "application/json")],
                Some(serde_json::Value::from(body).to_string().as_bytes()),
            );
            let answer = answer.refused(400, "invalid");
            assert_eq!(answer.json()["error"]["field"], "contacts", "{answer:?}");
        }
        server
            .cli(&["org", "add", "blank", "--contacts", &format!("a@x,{bad}")])
            .fails(2)
            .says(&["not a contact"]);
    }
    server.cli(&["org", "show", "blank"]).fails(4);
    for bad in ["b @y", "b", "@y", "b@", "b@y,c@z", ""] {
        server
            .cli(&["org", "contact", "add", "acme", bad])
            .fails(2)
            .says(&["not a contact"]);
    }
    // The odd characters that an address may have go through the path as they are.
    for odd in ["a/b@x", "50%@x", "a?b#c@x"] {
        server.cli(&["org", "contact", "add", "acme", odd]).ok();
        server.cli(&["org", "contact", "rm", "acme", odd]).ok();
    }
    for count in 2..100 {
        let address = format!("c{count}@x");
        server
            .socket()
            .request(
                "POST",
                "/v1/orgs/acme/contacts",
                &[("content-type", "application/json")],
                Some(format!(r#"{{"contacts":["{address}"]}}"#).as_bytes()),
            )
            .ok(200);
    }
    server
        .cli(&["org", "contact", "add", "acme", "onemore@x"])
        .fails(2)
        .says(&["up to 100 contacts"]);
    let events = server.json(&["audit", "list", "-F", "action = org.remove_contact"]);
    assert!(events.to_string().contains("b@y"), "{events}");
}

#[test]
fn an_organization_that_has_ended_refuses_its_clients_and_keeps_its_data() {
    let server = Server::start(Options::stepped());
    server.cli(&["org", "add", "acme", "--expires", "+2h"]).ok();
    let code = server.json(&["org", "show", "acme"])["auth_code"]
        .as_str()
        .unwrap()
        .to_owned();
    let client = server.stranger("a", "acme");
    client.register(Some(&code)).ok();
    let waiting = server.stranger("waiting", "acme");
    waiting.register(None).ok();
    client.curl("/v1/deposits/key").put(b"bytes").send().ok(201);
    server.clock("+3h");
    client
        .curl("/v1/deposits/key")
        .send()
        .refused(403, "org_over");
    client
        .curl("/v1/deposits/key")
        .put(b"more")
        .send()
        .refused(403, "org_over");
    client
        .cli(&["deposit", "list"])
        .fails(5)
        .says(&["`acme` has ended", "kept"]);
    let late = server.stranger("late", "acme");
    for given in [Some(code.as_str()), Some("a wrong code"), None] {
        late.register(given).fails(5).says(&["has ended"]);
    }
    // Who administers it still sees it all.
    let org = server.json(&["org", "list", "-F", "expires < -30m"])["items"][0].clone();
    assert_eq!(
        (&org["name"], &org["deposits"]),
        (&"acme".into(), &1.into()),
        "{org}"
    );
    let kept = server
        .cli(&["deposit", "list", "--org", "acme"])
        .ok()
        .text();
    assert!(kept.contains("key"), "{kept}");
    let refused = server
        .json(&["audit", "list", "-F", "detail = org_over"])
        .to_string();
    assert!(refused.contains(&client.fingerprint()), "{refused}");
    server
        .cli(&["client", "approve", &waiting.fingerprint()])
        .ok();
    waiting.curl("/v1/deposits").send().refused(403, "org_over");
    server
        .cli(&["org", "set-expiry", "acme", "--never"])
        .ok()
        .says(&["no end"]);
    client.curl("/v1/deposits/key").send().ok(200);
    waiting.curl("/v1/deposits").send().ok(200);
    // A time that has passed ends it at once; the request after is refused.
    server
        .cli(&["org", "set-expiry", "acme", "2020-01-01T00:00:00Z"])
        .ok()
        .says(&["has ended"]);
    client
        .curl("/v1/deposits/key")
        .send()
        .refused(403, "org_over");
    server
        .cli(&["org", "add", "late", "--expires", "2020-01-01T00:00:00Z"])
        .fails(2)
        .says(&["in the future"]);
    server
        .cli(&["org", "set-expiry", "none", "--never"])
        .fails(4);
}
