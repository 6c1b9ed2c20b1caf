//! A backup takes the place of what a folder holds, or makes an empty folder a server: everything is there
//! again, under the same pins; and nothing that is wrong with a backup harms what is there.

pub mod cut_off;
mod released;
mod wrong;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strongroom::backup::manifest::PURPOSE;
use strongroom::backup::peel::{Decrypts, verify};
use strongroom::clock;
use strongroom::crypto::{envelope, kdf};
use strongroom::secret::Secret;
use strongroom::service::drill::{Openers, drill};

use crate::harness::backup::{Wish, age_of, tar_of};
use crate::harness::store::{kek, open};
use crate::harness::{Client, Opens, Options, Output, Server, run, tool};

/// A server that ran, with deposits in it; stopped. Also a client of it.
fn filled() -> (Server, Client) {
    let mut server = Server::start(Options::default());
    let client = server.client("one", "acme");
    client
        .cli_with(&["deposit", "put", "a", "-"], b"first")
        .ok();
    client
        .cli_with(&["deposit", "put", "raw", "-", "--raw"], b"as it is")
        .ok();
    client
        .cli_with(&["deposit", "put", "long", "-"], &long())
        .ok();
    server.cli(&["org", "add", "globex"]).ok();
    server.stop();
    (server, client)
}

fn long() -> Vec<u8> {
    (0..400_000_u32).map(|at| (at % 251) as u8).collect()
}

/// Whatever its name is, it is on this machine.
fn at_hand(server: &Server) -> String {
    let port = server.client_url.rsplit(':').next().unwrap();
    format!("https://localhost:{port}")
}

/// What is read now, as that client: each deposit, byte for byte.
#[track_caller]
fn everything_is_there(server: &Server, client: &mut Client) {
    client.server = at_hand(server);
    let get = |name: &str| client.cli(&["deposit", "get", name]).ok().stdout;
    assert_eq!(get("a"), b"first");
    assert_eq!(get("raw"), b"as it is");
    assert_eq!(get("long"), long());
    server.cli(&["audit", "verify"]).ok();
}

/// `restore`, with the key file of the server's slot.
fn restore(server: &Server, file: &Path, more: &[&str]) -> Output {
    let key = server.path("key");
    let args = [
        "--json",
        "restore",
        file.to_str().unwrap(),
        "--key-file",
        key.to_str().unwrap(),
    ];
    server.cli(&[&args, more].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn node(server: &Server) -> Value {
    serde_json::from_slice(&fs::read(server.data.join("node.json")).unwrap()).unwrap()
}

fn previous(server: &Server) -> Vec<PathBuf> {
    let entries = fs::read_dir(&server.data).unwrap();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| text(path).contains("live.prev-"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_folder_that_is_lost_comes_back_with_everything_and_the_same_pins() {
    let (mut server, mut client) = filled();
    let fingerprint = server.fingerprint.clone();
    let (file, identity) = age_of(&server, "b", &tar_of(&server, &Wish::default()));
    fs::remove_dir_all(&server.data).unwrap();
    let done = restore(&server, &file, &["--identity", text(&identity)]).ok();
    assert!(
        done.stderr
            .contains("Nothing that was stored or changed after"),
        "{done:?}"
    );
    let done = done.json();
    assert_eq!(done["server_fingerprint"], fingerprint.as_str());
    assert_eq!(done["kept"], Value::Null);
    assert_eq!(done["epoch"], 2);
    assert_eq!(node(&server)["epoch"], 2);
    assert!(done["timeline"].as_u64().unwrap() > 1);

    server.serve();
    assert_eq!(server.fingerprint, fingerprint);
    everything_is_there(&server, &mut client);
    let events = server.json(&["audit", "list", "-F", "action = server.restore"]);
    let event = &events["items"][0];
    let detail = event["detail"].as_str().unwrap();
    let backup = done["backup"].as_str().unwrap();
    assert!(
        detail.contains(backup) && detail.contains("revision"),
        "{event}"
    );
    assert_eq!(
        event["actor"]["name"],
        strongroom::os::effective_uid().to_string()
    );
    client
        .cli_with(&["deposit", "put", "b", "-"], b"second")
        .ok();
    server.restart();
    client.server.clone_from(&server.client_url);
    assert_eq!(client.cli(&["deposit", "get", "b"]).ok().stdout, b"second");
    for slot in ["--passphrase-file", "--key-file"] {
        server.stop();
        let secret = server.path(if slot == "--key-file" {
            "key"
        } else {
            "passphrase"
        });
        server.cli(&["doctor", slot, text(&secret)]).ok();
        server.serve();
    }
}

/// The program's options, from here on with a passphrase that opens the server.
fn opened_by(server: &mut Server, option: &str, file: &Path) {
    server.options.opens = Opens::Nothing;
    server.options.args = vec![option.to_owned(), text(file).to_owned()];
}

#[test]
fn what_is_replaced_is_asked_about_and_kept() {
    let (mut server, mut client) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    server.serve();
    client.server.clone_from(&server.client_url);
    client
        .cli_with(&["deposit", "put", "later", "-"], b"lost")
        .ok();
    let slots = server.json(&["slot", "list"]);
    let slot = slots["slots"][0]["id"].as_str().unwrap().to_owned();
    let key = server.path("key");
    server
        .cli(&["slot", "remove", &slot, "--key-file", text(&key), "--yes"])
        .ok();
    let in_use = restore(&server, &file, &["--yes"]).fails(5);
    assert_eq!(code(&in_use), "folder_in_use");
    server.stop();

    let before = fs::read(server.data.join("node.json")).unwrap();
    let asked = restore(&server, &file, &[]).fails(2);
    asked.says(&[
        "revision",
        "changes since then",
        "Slots that are not there any more",
        "--yes",
    ]);
    assert_eq!(fs::read(server.data.join("node.json")).unwrap(), before);
    assert!(!server.data.join("live.new").exists() && previous(&server).is_empty());

    let done = restore(&server, &file, &["--yes", "--reason", "lost disk"])
        .ok()
        .json();
    assert_eq!(done["slots_back"].as_array().unwrap().len(), 1, "{done}");
    let kept = previous(&server);
    assert_eq!(done["kept"], text(&kept[0]));
    assert!(kept[0].join("strongroom.db").exists() && !kept[0].join("restored").exists());
    assert!(!server.data.join("live/restored").exists());
    server.serve();
    everything_is_there(&server, &mut client);
    client.cli(&["deposit", "get", "later"]).fails(4);
    let events = server.json(&["audit", "list", "-F", "action = server.restore"]);
    let event = &events["items"][0];
    assert_eq!(event["reason"], "lost disk");
    assert!(event["detail"].as_str().unwrap().contains(&slot), "{event}");
    server
        .cli(&[
            "slot",
            "add",
            "passphrase",
            "--label",
            "l",
            "--secret-file",
            text(&server.path("passphrase")),
            "--key-file",
            text(&key),
        ])
        .ok();
    server.stop();

    // What was kept opens as it was: back to it by hand.
    let away = server.data.join("live.away");
    fs::rename(server.data.join("live"), &away).unwrap();
    fs::rename(&kept[0], server.data.join("live")).unwrap();
    server.options.args = vec!["--accept-old-seal".to_owned()];
    server.serve();
    client.server.clone_from(&server.client_url);
    assert_eq!(
        client.cli(&["deposit", "get", "later"]).ok().stdout,
        b"lost"
    );
    server.stop();
    for _ in 0..3 {
        restore(&server, &file, &["--yes"]).ok();
    }
    assert_eq!(previous(&server).len(), 2);
    server.options.args.clear();
    server.serve();
    everything_is_there(&server, &mut client);
    assert_eq!(server.json(&["status"])["state"], "serving");
}

#[test]
fn a_backup_from_before_the_root_key_was_made_anew_comes_back() {
    let (mut server, mut client) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    server.serve();
    let key = server.path("key");
    let passphrase = server.path("passphrase");
    let rotate = [
        "root",
        "rotate",
        "--key-file",
        text(&key),
        "--passphrase-file",
        text(&passphrase),
        "--yes",
    ];
    server.cli(&rotate).ok();
    server.cli(&["org", "add", "initech"]).ok();
    server.stop();
    let asked = restore(&server, &file, &[]).fails(2);
    asked.says(&["cannot be read"]);
    // Cut off, what is there opens as before, and node.json has nothing that is not needed.
    server.serve();
    server.stop();
    restore(&server, &file, &["--yes"]).ok();
    assert_eq!(node(&server)["database_key_next"], Value::Null);
    server.serve();
    everything_is_there(&server, &mut client);
    server.stop();

    // What was kept still opens, with the node.json in it.
    let (live, kept) = (server.data.join("live"), previous(&server).pop().unwrap());
    fs::rename(&live, server.path("away")).unwrap();
    fs::rename(&kept, &live).unwrap();
    fs::rename(live.join("node.json"), server.data.join("node.json")).unwrap();
    server.serve();
    everything_is_there(&server, &mut client);
    server.cli(&["org", "show", "initech"]).ok();
    server.stop();
    restore(&server, &file, &["--yes"]).ok();
    server.serve();
    server.cli(&["org", "show", "initech"]).fails(4);
    everything_is_there(&server, &mut client);
    server.cli(&rotate).ok();
    server.restart();
    everything_is_there(&server, &mut client);
}

#[test]
fn a_backup_that_holds_its_root_key_gets_a_new_slot() {
    let (mut server, mut client) = filled();
    let wish = Wish {
        self_contained: true,
        ..Wish::default()
    };
    let (file, identity) = age_of(&server, "b", &tar_of(&server, &wish));
    fs::remove_dir_all(&server.data).unwrap();
    let args = [
        "--json",
        "restore",
        text(&file),
        "--identity",
        text(&identity),
    ];
    let refused = server.cli(&args).fails(5);
    assert_eq!(code(&refused), "slot_secret_missing");
    assert!(!server.data.exists());
    let passphrase = server.file("new", "another one\n");
    server
        .cli(&[&args[..], &["--passphrase-file", text(&passphrase)]].concat())
        .ok();
    opened_by(&mut server, "--passphrase-file", &passphrase);
    server.serve();
    everything_is_there(&server, &mut client);
    let slots = server.json(&["slot", "list"]);
    assert_eq!(slots["slots"].as_array().unwrap().len(), 1);
    server
        .cli(&[
            "root",
            "rotate",
            "--yes",
            "--passphrase-file",
            text(&passphrase),
        ])
        .ok();
    server.restart();
    everything_is_there(&server, &mut client);
}

#[test]
fn the_identity_of_a_recovery_slot_is_enough_alone() {
    let (mut server, mut client) = filled();
    server.serve();
    let (identity, recipient) = strongroom::crypto::agefile::generate_identity();
    let identity = server.file("recovery.txt", identity.expose());
    let key = server.path("key");
    server
        .cli(&[
            "slot",
            "add",
            "recovery",
            "--label",
            "safe",
            "--recipient",
            &recipient,
            "--key-file",
            text(&key),
        ])
        .ok();
    server.stop();
    let sealed =
        strongroom::crypto::agefile::encrypt(&[recipient], &tar_of(&server, &Wish::default()));
    let file = server.file("b.tar.age", sealed.unwrap());
    fs::remove_dir_all(&server.data).unwrap();
    server
        .cli(&["restore", text(&file), "--identity", text(&identity)])
        .ok();
    opened_by(&mut server, "--slot-identity", &identity);
    server.serve();
    everything_is_there(&server, &mut client);

    // Another recipient's is not.
    server.stop();
    let tar = tar_of(&server, &Wish::default());
    let (file, other) = age_of(&server, "c", &tar);
    let refused = server
        .cli(&[
            "--json",
            "restore",
            text(&file),
            "--identity",
            text(&other),
            "--yes",
        ])
        .fails(5);
    assert_eq!(code(&refused), "slot_secret_missing");
    refused.says(&["passphrase", "key file", "recovery"]);
}

#[test]
fn under_another_name_clients_go_on_and_a_clone_is_a_stranger() {
    let (mut server, mut client) = filled();
    let fingerprint = server.fingerprint.clone();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    fs::remove_dir_all(&server.data).unwrap();
    let refused = restore(&server, &file, &["--fqdn", "kts02.example.com"]).fails(2);
    refused.says(&["--as new"]);
    let done = restore(
        &server,
        &file,
        &["--as", "new", "--fqdn", "kts02.example.com"],
    )
    .ok()
    .json();
    assert_eq!(done["fqdn"], "kts02.example.com");
    server.serve();
    assert_eq!(server.fingerprint, fingerprint);
    everything_is_there(&server, &mut client);
    let shown = server.json(&["tls", "show"]).to_string();
    assert!(shown.contains("kts02.example.com"), "{shown}");
    let instance = server.json(&["status"])["instance"].clone();
    server.stop();

    let refused = restore(
        &server,
        &file,
        &["--as", "clone", "--fqdn", "kts03", "--yes"],
    )
    .fails(5);
    assert_eq!(code(&refused), "folder_not_empty");
    server.move_data("first");
    server.data = server.path("second");
    let done = restore(&server, &file, &["--as", "clone", "--fqdn", "kts03"])
        .ok()
        .json();
    assert_ne!(done["server_fingerprint"], fingerprint.as_str());
    assert_ne!(done["instance"], instance);
    fs::remove_file(server.path("ca.pem")).unwrap();
    server.serve();
    assert_ne!(server.fingerprint, fingerprint);
    client.server = at_hand(&server);
    client
        .cli(&["deposit", "get", "a"])
        .fails(5)
        .says(&["another server"]);
    let get = ["deposit", "get", "raw", "--org", "acme"];
    assert_eq!(server.cli(&get).ok().stdout, b"as it is");
    assert_eq!(server.json(&["status"])["instance"], done["instance"]);
    // The slot at hand alone came along.
    let slots = server.json(&["slot", "list"]);
    assert_eq!(slots["slots"].as_array().unwrap().len(), 1, "{slots}");
    server.cli(&["audit", "verify"]).ok();
    server.stop();
    let held: String = open(&server, "strongroom.db")
        .query_row(
            "SELECT value FROM meta WHERE name = 'outgoing_held'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(held, "1");
}

/// Taken while it serves, by the program itself.
#[test]
fn a_terminal_shows_how_far_a_restore_is() {
    let (server, _) = filled();
    let tar = tar_of(&server, &Wish::default());
    let (file, identity) = age_of(&server, "backup", &tar);
    let identity = ["--identity", text(&identity)];
    let asked = restore(&server, &file, &[&identity[..], &["--yes"]].concat()).ok();
    assert!(!asked.stderr.contains("\x1b[K"), "{asked:?}");
    let shown = |option: &str| {
        let line = format!(
            "{} {option} --yes --data-dir {} restore {} --key-file {} --identity {}",
            server.options.binary.display(),
            server.data.display(),
            file.display(),
            server.path("key").display(),
            identity[1]
        );
        String::from_utf8(tool("script", ["-qec", &line, "/dev/null"])).unwrap()
    };
    let said = shown("");
    let mut rest = &said[..];
    for step in [
        "\r\x1b[K[------------------------------] 0% reading the backup, 0 of ",
        "giving it this node's key",
        "verifying what was in it",
        "takes the place of what",
        "putting it in its place",
        "what was replaced",
    ] {
        let at = rest.find(step);
        rest = &rest[at.unwrap_or_else(|| panic!("no `{step}` in {rest:?}"))..];
    }
    // The bar is gone where a line stands.
    let lines = said.lines();
    let ends = lines.map(|line| line.rsplit("\x1b[K").next().unwrap());
    for line in ends {
        assert!(!line.starts_with('['), "{said:?}");
    }
    assert!(!shown("--quiet").contains("\x1b[K"));
}

#[test]
fn what_backup_create_wrote_comes_back_as_of_its_time() {
    let (mut server, mut client) = filled();
    server.serve();
    client.server = at_hand(&server);
    let (identity, recipient) = strongroom::crypto::agefile::generate_identity();
    let identity = server.file("backup-key.txt", identity.expose());
    let out = server.path("backups");
    let taken = server.cli(&[
        "backup",
        "create",
        "--recipient",
        &recipient,
        "--output",
        text(&out),
    ]);
    let file = PathBuf::from(taken.ok().text().trim());
    client
        .cli_with(&["deposit", "put", "a", "-"], b"changed")
        .ok();
    client
        .cli_with(&["deposit", "put", "late", "-"], b"late")
        .ok();
    server.kill9();
    let verified = verify(
        File::open(&file).unwrap(),
        Decrypts {
            identity: Some(&secret(&identity)),
            passphrase: None,
        },
    );
    let verified = verified.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(verified.manifest.counts["deposits"], 3);

    let done = restore(&server, &file, &["--identity", text(&identity), "--yes"]).ok();
    let newest = done.json()["newest_deposit"].as_str().unwrap().to_owned();
    let created = done.json()["created"].as_str().unwrap().to_owned();
    assert!(newest < created, "{newest}, {created}");
    server.serve();
    everything_is_there(&server, &mut client);
    client.cli(&["deposit", "get", "late"]).fails(4);
    // And so do backups of what was restored.
    let again = server.cli(&[
        "backup",
        "create",
        "--recipient",
        &recipient,
        "--output",
        text(&out),
    ]);
    let file = PathBuf::from(again.ok().text().trim());
    server.stop();
    fs::remove_dir_all(&server.data).unwrap();
    let done = restore(&server, &file, &["--identity", text(&identity)]).ok();
    assert_eq!(done.json()["epoch"], 3);
    server.serve();
    everything_is_there(&server, &mut client);
}

fn secret(path: &Path) -> Secret<Vec<u8>> {
    Secret::new(fs::read(path).unwrap())
}

#[test]
fn a_backup_of_an_older_schema_is_brought_to_this_programs() {
    let mut server = Server::kept("data-folder-1", Options::default());
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    fs::remove_dir_all(&server.data).unwrap();
    restore(&server, &file, &[]).ok();
    server.serve();
    crate::upgrade::has_everything(&server);
    server.stop();
    let before = fs::read_dir(&server.data).unwrap();
    let before: Vec<_> = before.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !before
            .iter()
            .any(|name| name.to_str().unwrap().starts_with("live.")),
        "{before:?}"
    );
}

/// What a server does with its own backups, with the keys that it has.
#[test]
fn a_drill_reads_everything_and_leaves_nothing() {
    let (server, _) = filled();
    let folder = server.path("drill");
    let run = |tar: &[u8]| {
        let kek = kek(&server);
        let own = kdf::derive(&kek, PURPOSE);
        let openers = Openers {
            backup: &|aad, sealed| envelope::open(&own, aad, sealed),
            store: &|aad, sealed| envelope::open(&kek, aad, sealed),
        };
        let drilled = drill(tar, &folder, &openers, clock::now());
        assert!(!folder.exists(), "something is left");
        drilled
    };
    let tar = tar_of(&server, &Wish::default());
    let drilled = run(&tar).unwrap();
    assert_eq!(drilled.org_keys, 2);
    assert_eq!(drilled.bytes, tar.len() as u64);
    assert_eq!(drilled.manifest.counts["deposits"], 3);
    let inside = Wish {
        self_contained: true,
        ..Wish::default()
    };
    run(&tar_of(&server, &inside)).unwrap();
    let spoilt = Wish {
        spoil: "UPDATE org_keys SET wrapped = randomblob(length(wrapped))",
        ..Wish::default()
    };
    assert_eq!(
        run(&tar_of(&server, &spoilt)).err().unwrap().code,
        "backup_damaged"
    );
    assert_eq!(
        run(&tar[..tar.len() / 2]).err().unwrap().code,
        "backup_damaged"
    );
    let (other, _) = filled();
    assert_eq!(
        run(&tar_of(&other, &Wish::default())).err().unwrap().code,
        "backup_damaged"
    );
}

/// As root, in a folder of the server's own account.
#[test]
fn what_root_restores_belongs_to_the_folders_account() {
    if strongroom::os::effective_uid() != 0 {
        return;
    }
    let (server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    run(Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(&server.data))
    .ok();
    restore(&server, &file, &["--yes"]).ok();
    let found = run(Command::new("find")
        .arg(&server.data)
        .args(["!", "-user", "65534"]));
    assert_eq!(found.ok().text(), "");
    let empty = server.path("empty");
    fs::create_dir(&empty).unwrap();
    run(Command::new("chown").arg("65534:65534").arg(&empty)).ok();
    let key = server.path("key");
    let args = [
        "restore",
        text(&file),
        "--key-file",
        text(&key),
        "--data-dir",
        text(&empty),
    ];
    run(server.command().args(args)).ok();
    let found = run(Command::new("find")
        .arg(&empty)
        .args(["!", "-user", "65534"]));
    assert_eq!(found.ok().text(), "");
}

/// The code of a refusal with `--json`.
fn code(output: &Output) -> String {
    let lines = output.stderr.lines();
    let error = lines
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .unwrap_or_else(|| panic!("no JSON: {output:?}"));
    error["error"]["code"]
        .as_str()
        .or(error["code"].as_str())
        .unwrap()
        .to_owned()
}
