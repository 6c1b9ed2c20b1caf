//! Deposits shared with other clients and with groups: who may, who can open, and who learns nothing.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::store::open;
use crate::harness::{Answer, Client, Options, Output, Server, run};

struct World {
    server: Server,
    owner: Client,
    reader: Client,
    id: String,
}

fn world() -> World {
    let server = Server::start(Options::default());
    let (owner, reader) = (
        server.client("owner", "acme"),
        server.client("reader", "acme"),
    );
    let stored = owner.cli_with(&["--json", "deposit", "put", "key", "-"], b"the secret");
    let id = stored.ok().json()["id"].as_str().unwrap().to_owned();
    World {
        server,
        owner,
        reader,
        id,
    }
}

impl World {
    fn share(&self, verb: &str, with: &str) -> Output {
        self.owner
            .cli(&["--yes", "deposit", verb, "key", "--with", with])
    }

    /// Whether `client`'s identity opens the newest bytes, as they are stored.
    fn opens(&self, client: &Client) -> bool {
        let bytes = self.owner.curl("/v1/deposits/key").send().ok(200).body;
        let file = self.server.path("bytes");
        std::fs::write(&file, bytes).unwrap();
        let mut age = Command::new("age");
        age.arg("-d")
            .arg("-i")
            .arg(client.file("identity.txt"))
            .arg(&file);
        run(&mut age).status == 0
    }
}

fn get(client: &Client, path: &str) -> Answer {
    client.wire().get(path)
}

#[test]
fn a_reader_fetches_and_opens_and_changes_nothing() {
    let it = world();
    let by_id = format!("/v1/deposits/id/{}", it.id);
    get(&it.reader, &by_id).refused(403, "denied");
    assert!(!it.opens(&it.reader));
    it.share("share", &it.reader.fingerprint())
        .ok()
        .says(&["stored anew", "2 recipients"]);

    for which in ["key", &it.id] {
        let got = it.reader.cli(&["deposit", "get", which]).ok();
        assert_eq!(got.stdout, b"the secret");
    }
    let shown = it
        .reader
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(shown["owner"], it.owner.fingerprint());
    it.reader.cli(&["deposit", "versions", "key"]).ok();
    let list = |more: &[&str]| {
        let args = [&["--json", "deposit", "list"], more].concat();
        let found = it.reader.cli(&args).ok().json();
        found["items"].as_array().unwrap().len()
    };
    assert_eq!((list(&["--shared"]), list(&[])), (1, 0));
    let readers = it
        .reader
        .cli(&["--json", "deposit", "readers", "key"])
        .ok()
        .json();
    assert_eq!(readers["readers"][0]["client"], it.reader.fingerprint());
    assert_eq!(readers["rights_only"], true);

    let share = json!({"client": it.owner.fingerprint()}).to_string();
    let json = ("content-type", "application/json");
    for (method, tail, body) in [
        ("PUT", "", "x"),
        ("DELETE", "", ""),
        ("PATCH", "/metadata", "{}"),
        ("POST", "/grant", ""),
        ("POST", "/undelete", ""),
        ("POST", "/purge", ""),
        ("POST", "/share", &share),
        ("POST", "/unshare", &share),
    ] {
        for path in [&by_id, "/v1/deposits/key"] {
            if (method, tail, path) == ("PUT", "", "/v1/deposits/key") {
                // A name that is another's.
                let answer = it.reader.wire().request("PUT", path, &[], Some(b"x"));
                answer.refused(409, "name_taken");
                continue;
            }
            let answer = it.reader.wire().request(
                method,
                &format!("{path}{tail}"),
                &[json],
                Some(body.as_bytes()),
            );
            answer.refused(403, "denied");
        }
    }
    // What the owner stores later opens for the reader too.
    it.owner
        .cli_with(&["deposit", "put", "key", "-"], b"a newer one")
        .ok();
    assert_eq!(
        it.reader.cli(&["deposit", "get", "key"]).ok().stdout,
        b"a newer one"
    );
    let filter = format!(
        "action = deposit.get and actor = {}",
        it.reader.fingerprint()
    );
    it.server.cli(&["audit", "verify"]).ok();
    let events = it
        .server
        .json(&["audit", "list", "-F", &filter, "-F", "outcome = done"]);
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "{events}");

    it.share("unshare", &it.reader.fingerprint())
        .ok()
        .says(&["stays known", "1 recipients"]);
    get(&it.reader, &by_id).refused(403, "denied");
    get(&it.reader, "/v1/deposits/key/readers").refused(403, "denied");
    assert!(!it.opens(&it.reader) && it.opens(&it.owner));
    assert_eq!(list(&["--shared"]), 0);
    it.share("unshare", &it.reader.fingerprint())
        .fails(4)
        .says(&["is not shared with"]);
}

#[test]
fn an_administrator_changes_rights_and_says_that_he_changes_nothing_else() {
    let it = world();
    let reader = it.reader.fingerprint();
    let admin = [
        "deposit", "share", "key", "--org", "acme", "--with", &reader,
    ];
    it.server.cli(&admin).ok().says(&["changed rights alone"]);
    get(&it.reader, "/v1/deposits/key").ok(200);
    it.reader.cli(&["deposit", "get", "key"]).fails(5);
    // The owner did not name it: what he stores is not for it, and he learns of it.
    it.owner
        .cli_with(&["deposit", "put", "key", "-"], b"newer")
        .ok()
        .says(&["not encrypted to", &reader]);
    assert!(!it.opens(&it.reader));
    it.share("share", &reader).ok();
    assert_eq!(
        it.reader.cli(&["deposit", "get", "key"]).ok().stdout,
        b"newer"
    );
    it.share("share", &it.owner.fingerprint())
        .fails(5)
        .says(&["owns the deposit"]);
    it.share("share", &"ab".repeat(32)).fails(4);
    let stranger = it.server.client("stranger", "other");
    it.share("share", &stranger.fingerprint())
        .fails(4)
        .says(&["no client of this organization"]);
    get(&stranger, &format!("/v1/deposits/id/{}", it.id)).refused(404, "not_found");

    // What lies there as it is needs no encrypting.
    it.owner
        .cli_with(&["deposit", "put", "raw", "-", "--raw"], b"as it is")
        .ok();
    it.owner
        .cli(&["deposit", "share", "raw", "--with", &reader])
        .ok()
        .says(&["nothing to encrypt"]);
    assert_eq!(
        it.reader.cli(&["deposit", "get", "raw"]).ok().stdout,
        b"as it is"
    );
    it.server.cli(&["client", "rm", &reader, "--yes"]).ok();
    let readers = it
        .owner
        .cli(&["--json", "deposit", "readers", "raw"])
        .ok()
        .json();
    assert_eq!(readers["readers"], json!([]));
    // The one who is asked for is gone, with all that he read.
    it.owner.cli(&["deposit", "rm", "key", "--yes"]).ok();
    it.owner.cli(&["deposit", "purge", "key", "--yes"]).ok();
}

#[test]
fn a_group_reads_as_long_as_one_is_in_it() {
    let it = world();
    let (server, member) = (&it.server, it.reader.fingerprint());
    let late = server.client("late", "acme");
    let group = |args: &[&str]| {
        server.cli(&[&["client", "group"], args, &["--org", "acme", "--yes"]].concat())
    };
    group(&["add", "web"]).ok();
    group(&["add", "web"]).fails(5).says(&["already"]);
    group(&["add-member", "web", &member]).ok();
    group(&["add-member", "web", &member]).ok();
    let stranger = server.client("stranger", "other").fingerprint();
    group(&["add-member", "web", &stranger]).fails(4);
    it.share("share", "web").ok().says(&[&member]);
    assert_eq!(
        it.reader.cli(&["deposit", "get", "key"]).ok().stdout,
        b"the secret"
    );
    get(&late, "/v1/deposits/key").refused(403, "denied");

    // One who comes later may fetch, and opens what the owner shares again.
    group(&["add-member", "web", &late.fingerprint()]).ok();
    get(&late, "/v1/deposits/key").ok(200);
    assert!(!it.opens(&late));
    it.share("share", "web").ok();
    assert_eq!(
        late.cli(&["deposit", "get", &it.id]).ok().stdout,
        b"the secret"
    );
    group(&["remove-member", "web", &member]).ok();
    get(&it.reader, "/v1/deposits/key").refused(403, "denied");
    group(&["rm", "web"])
        .fails(5)
        .says(&["unshare them first", "`key`"]);
    let listed = server.json(&["client", "group", "list", "--org", "acme"]);
    assert_eq!(listed["items"][0]["members"], 1, "{listed}");
    let shown = server.json(&["client", "group", "show", "web", "--org", "acme"]);
    assert_eq!(shown["clients"][0]["fingerprint"], late.fingerprint());
    it.share("unshare", "web").ok();
    get(&late, "/v1/deposits/key").refused(403, "denied");
    group(&["rm", "web"]).ok();
    group(&["show", "web"]).fails(4);
}

#[test]
fn a_recipient_that_its_client_did_not_sign_gets_nothing() {
    let mut it = world();
    let reader = it.reader.fingerprint();
    it.server.stop();
    // A server that puts its own recipient in the reader's place.
    let forged = run(Command::new("age-keygen")
        .arg("-o")
        .arg(it.server.path("forged")));
    drop(forged.ok());
    let recipient = run(Command::new("age-keygen")
        .arg("-y")
        .arg(it.server.path("forged")))
    .ok()
    .text();
    let db = open(&it.server, "strongroom.db");
    let changed = db.execute("UPDATE clients SET age_recipient = ?1 WHERE description LIKE '%' AND id = (SELECT client FROM client_keys WHERE hex(spki) = upper(?2))", [recipient.trim(), &reader]);
    assert_eq!(changed.unwrap(), 1);
    drop(db);
    it.server.serve();
    it.owner = it.owner.at(&it.server);
    it.share("share", &reader)
        .fails(1)
        .says(&["not vouched for", "nothing was encrypted"]);
    let shown = it
        .owner
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(shown["version"], 1);
    it.owner
        .cli_with(&["deposit", "put", "key", "-"], b"x")
        .fails(1);
}

#[test]
fn sharing_what_may_be_fetched_so_often_asks_first() {
    let it = world();
    it.owner
        .cli(&["deposit", "edit", "key", "--max-retrievals", "2"])
        .ok();
    let reader = it.reader.fingerprint();
    it.owner
        .cli(&["deposit", "share", "key", "--with", &reader])
        .fails(2)
        .says(&["which counts", "2 retrievals"]);
    it.share("share", &reader).ok();
    assert_eq!(
        it.reader.cli(&["deposit", "get", "key"]).ok().stdout,
        b"the secret"
    );
    get(&it.reader, "/v1/deposits/key").refused(403, "retrievals_used");
    let shown: Value = it
        .owner
        .cli(&["--json", "deposit", "show", "key"])
        .ok()
        .json();
    assert_eq!(shown["retrievals_left"], 0);
}
