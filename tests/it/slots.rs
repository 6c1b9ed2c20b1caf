//! Slots of seal.json: each kind opens, whatever happens to the others; the last one stays; an older
//! file put back is noticed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::run::as_root;
use crate::harness::{Client, Opens, Options, Server, run, run_with, wire};

/// A server with a slot of every kind; each one's secret lies in the file of its name.
struct Vault {
    server: Server,
    client: Client,
    recipient: String,
}

const KINDS: [&str; 4] = ["passphrase", "key-file", "credential", "recovery"];
const BYTES: &[u8] = b"what the vault holds";

impl Vault {
    fn new() -> Self {
        let server = Server::start(Options::default());
        let client = server.client("a", "acme");
        client.cli_with(&["deposit", "put", "key", "-"], BYTES).ok();
        let identity = server.path("recovery");
        run(Command::new("age-keygen").arg("-o").arg(&identity)).ok();
        let recipient = run(Command::new("age-keygen").arg("-y").arg(&identity)).ok();
        server.file("credential", strongroom::crypto::random::<32>());
        let vault = Self {
            server,
            client,
            recipient: recipient.text().trim().to_owned(),
        };
        vault.add("credential", "", "the machine");
        vault.add("recovery", "", "in the safe");
        vault
    }

    /// Where the secret of a kind's slot lies; a suffix names another slot's.
    fn secret(&self, kind: &str, suffix: &str) -> PathBuf {
        let name = match kind {
            "key-file" => "key",
            other => other,
        };
        self.server.path(&format!("{name}{suffix}"))
    }

    /// The options that make a slot of a kind; its secret is made if it is not there.
    fn made_of(&self, kind: &str, suffix: &str) -> Vec<String> {
        let file = self.secret(kind, suffix);
        if !file.exists() {
            fs::write(&file, hex::encode(strongroom::crypto::random::<16>())).unwrap();
        }
        let file = file.display().to_string();
        let options = match kind {
            "recovery" => vec!["--recipient", &self.recipient],
            "credential" => vec!["--secret-file", &file, "--name", "strongroom-slot"],
            _ => vec!["--secret-file", &file],
        };
        options.into_iter().map(str::to_owned).collect()
    }

    fn add(&self, kind: &str, suffix: &str, label: &str) -> String {
        let made_of = self.made_of(kind, suffix);
        let mut args = vec!["slot", "add", kind, "--label", label];
        args.extend(made_of.iter().map(String::as_str));
        let key = self.secret("key-file", "").display().to_string();
        args.extend(["--key-file", &key]);
        self.id(&args)
    }

    fn id(&self, args: &[&str]) -> String {
        self.server.json(args)["id"].as_str().unwrap().to_owned()
    }

    /// The option that opens with a kind's secret.
    fn opener(&self, kind: &str) -> [String; 2] {
        let option = match kind {
            "passphrase" => "--passphrase-file",
            "recovery" => "--slot-identity",
            _ => "--key-file",
        };
        [
            option.to_owned(),
            self.secret(kind, "").display().to_string(),
        ]
    }

    fn slots(&self) -> Vec<Value> {
        let listed = self.server.json(&["slot", "list"]);
        listed["slots"].as_array().unwrap().clone()
    }

    /// The id of a kind's first slot.
    fn slot(&self, kind: &str) -> String {
        let kind = kind.replace('-', "_");
        let slots = self.slots();
        let slot = slots.iter().find(|slot| slot["kind"] == kind.as_str());
        slot.unwrap()["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn opens(&self, kind: &str) {
        let [option, file] = self.opener(kind);
        let id = self.slot(kind);
        self.server.cli(&["slot", "test", &id, &option, &file]).ok();
    }

    /// Starts it with nothing but what opens one kind of slot, and fetches.
    #[track_caller]
    fn starts_with(&mut self, kind: &str) {
        let server = &mut self.server;
        server.options.opens = Opens::Nothing;
        server.options.args = Vec::new();
        server.options.env = Vec::new();
        if kind == "credential" {
            let handed = server.path("credentials");
            fs::create_dir_all(&handed).unwrap();
            fs::copy(server.path("credential"), handed.join("strongroom-slot")).unwrap();
            let handed = handed.display().to_string();
            server.options.env = vec![("CREDENTIALS_DIRECTORY".to_owned(), handed)];
        } else {
            self.server.options.args = self.opener(kind).to_vec();
        }
        self.server.serve();
        self.client.server = self.server.client_url.clone();
        let fetched = self.client.cli(&["deposit", "get", "key"]).ok();
        assert_eq!(fetched.stdout, BYTES, "{kind}");
    }
}

#[test]
fn each_kind_opens_after_each_other_was_added_replaced_and_removed() {
    let mut vault = Vault::new();
    for other in KINDS {
        let added = vault.add(other, "-other", "one more");
        let everyone_opens = |vault: &Vault| KINDS.iter().for_each(|kind| vault.opens(kind));
        everyone_opens(&vault);
        let made_of = vault.made_of(other, "-another");
        let [option, file] = vault.opener("key-file");
        let mut args = vec!["slot", "replace", &added, &option, &file];
        args.extend(made_of.iter().map(String::as_str));
        let replaced = vault.id(&args);
        assert_ne!(replaced, added);
        everyone_opens(&vault);
        vault
            .server
            .cli(&["slot", "remove", &replaced, &option, &file, "--yes"])
            .ok();
        everyone_opens(&vault);
        if other != "recovery" {
            let option = if other == "passphrase" {
                "--passphrase-file"
            } else {
                "--key-file"
            };
            let gone = vault.secret(other, "-other").display().to_string();
            let id = vault.slot(other);
            let refused = vault.server.cli(&["slot", "test", &id, option, &gone]);
            refused.fails(5).says(&["does not open"]);
        }
    }
    assert_eq!(vault.slots().len(), 4);
    vault.server.stop();
    for kind in KINDS {
        vault.starts_with(kind);
        vault.server.stop();
    }
}

#[test]
fn the_recovery_identity_alone_opens_the_folder_wherever_it_lies() {
    let mut vault = Vault::new();
    vault.server.stop();
    for lost in ["key", "passphrase", "credential"] {
        fs::remove_file(vault.server.path(lost)).unwrap();
    }
    vault.server.move_data("elsewhere");
    vault.starts_with("recovery");
    let other = vault.server.path("other-identity");
    run(Command::new("age-keygen").arg("-o").arg(&other)).ok();
    let id = vault.slot("recovery");
    let other = other.display().to_string();
    let refused = vault
        .server
        .cli(&["slot", "test", &id, "--slot-identity", &other]);
    refused.fails(5).says(&["opens no recovery slot"]);
    // With the recovery identity a lost passphrase is replaced.
    let passphrase = vault.slot("passphrase");
    let file = vault.server.file("passphrase", "a new passphrase\n");
    let [option, identity] = vault.opener("recovery");
    let args = [
        "slot",
        "replace",
        &passphrase,
        "--secret-file",
        file.to_str().unwrap(),
    ];
    vault
        .server
        .cli(&[&args[..], &[&option, &identity]].concat())
        .ok();
    vault.server.stop();
    vault.starts_with("passphrase");
}

/// systemd-creds keeps the machine key where only root reads it.
fn systemd_creds(args: &[&str]) -> Vec<u8> {
    let mut command = as_root("systemd-creds");
    run(command.args(args)).ok().stdout
}

#[test]
fn a_credential_that_systemd_sealed_opens_without_anyone() {
    let mut vault = Vault::new();
    vault.server.stop();
    let plain = vault.server.path("credential");
    let path = plain.display().to_string();
    let seal = [
        "encrypt",
        "--with-key=host",
        "--name=strongroom-slot",
        &path,
        "-",
    ];
    let sealed = vault.server.file("sealed", systemd_creds(&seal));
    assert!(fs::read(&sealed).unwrap() != fs::read(&plain).unwrap());
    fs::remove_file(&plain).unwrap();
    // What systemd does before it starts the service.
    let path = sealed.display().to_string();
    let opened = systemd_creds(&["decrypt", "--name=strongroom-slot", &path, "-"]);
    fs::write(&plain, opened).unwrap();
    vault.starts_with("credential");
    vault.server.stop();
    // One that is there and does not open is said so, and nothing else is tried.
    let handed = vault.server.path("credentials/strongroom-slot");
    fs::write(handed, [1; 32]).unwrap();
    let refused = vault.server.serve_fails().fails(3);
    refused.says(&["does not open", "the machine"]);
}

#[test]
fn an_older_seal_json_is_refused_audited_and_taken_by_name_only() {
    let mut vault = Vault::new();
    let seal = vault.server.data.join("live/seal.json");
    let old = fs::read(&seal).unwrap();
    let [option, file] = vault.opener("key-file");
    let passphrase = vault.slot("passphrase");
    vault
        .server
        .cli(&["slot", "remove", &passphrase, &option, &file, "--yes"])
        .ok();
    let removed = vault.server.json(&["slot", "list"])["generation"].clone();
    let node = vault.server.data.join("node.json");
    let mut known: Value = serde_json::from_slice(&fs::read(&node).unwrap()).unwrap();
    assert_eq!(known["seal_generation"], removed);
    vault.server.stop();
    fs::write(&seal, &old).unwrap();
    // Neither the file beside the store nor the one in it is needed to notice.
    for forget in [false, true] {
        if forget {
            known["seal_generation"] = json!(1);
            fs::write(&node, known.to_string()).unwrap();
        }
        vault.server.options.opens = Opens::Passphrase;
        vault
            .server
            .serve_fails()
            .fails(5)
            .says(&["older copy", "--accept-old-seal"]);
    }
    vault.server.options.args = vec!["--accept-old-seal".to_owned()];
    vault.server.serve();
    let events = vault
        .server
        .json(&["audit", "list", "-F", "action = server.unseal"]);
    let events = events["items"].as_array().unwrap();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events.iter().all(|event| event["outcome"] == "refused"));
    let taken = vault
        .server
        .json(&["audit", "list", "-F", "action = slot.accept_old"]);
    let taken = taken["items"].as_array().unwrap();
    assert_eq!(taken.len(), 1, "{taken:?}");
    // Newer than all that ever was, so that no other copy passes for the newest.
    let generation = vault.server.json(&["slot", "list"])["generation"].clone();
    let detail = taken[0]["detail"].as_str().unwrap();
    assert!(detail.ends_with(&format!("now {generation}")), "{detail}");
    assert!(generation.as_u64().unwrap() > removed.as_u64().unwrap());
    vault.server.cli(&["audit", "verify"]).ok();
    vault.server.stop();
    // Accepted once, it is the one that is known.
    vault.server.options.args.clear();
    vault.server.serve();
}

#[test]
fn an_older_seal_json_that_is_put_back_while_serving_is_not_built_on() {
    let vault = Vault::new();
    let seal = vault.server.data.join("live/seal.json");
    let old = fs::read(&seal).unwrap();
    let [option, key] = vault.opener("key-file");
    let passphrase = vault.slot("passphrase");
    let remove = ["slot", "remove", &passphrase, &option, &key, "--yes"];
    vault.server.cli(&remove).ok();
    let newest = fs::read(&seal).unwrap();
    fs::write(&seal, &old).unwrap();
    let credential = vault.slot("credential");
    for args in [
        vec!["slot", "test", &credential, &option, &key],
        vec!["slot", "remove", &credential, &option, &key, "--yes"],
    ] {
        vault.server.cli(&args).fails(5).says(&["older copy"]);
    }
    assert_eq!(fs::read(&seal).unwrap(), old);
    let other = Server::init(Options::default());
    fs::copy(other.data.join("live/seal.json"), &seal).unwrap();
    let args = ["slot", "remove", &credential, &option, &key, "--yes"];
    vault.server.cli(&args).fails(5).says(&["another instance"]);
    fs::write(&seal, &newest).unwrap();
    let file = vault.made_of("key-file", "-new");
    let mut args = vec![
        "slot",
        "replace",
        &credential,
        &option,
        &key,
        "--kind",
        "key-file",
    ];
    args.extend(file.iter().map(String::as_str));
    vault.server.cli(&args).ok();
    let events = vault
        .server
        .json(&["audit", "list", "-F", "action ~ slot."]);
    let said: Vec<String> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| format!("{} {}", event["action"], event["detail"]))
        .collect();
    let refused = said.iter().filter(|event| event.contains("seal_older"));
    assert_eq!(refused.count(), 2, "{said:?}");
    assert!(
        said[0].contains(&format!("instead of {credential}")),
        "{said:?}"
    );
}

#[test]
fn the_last_slot_stays_and_nobody_changes_slots_without_a_secret() {
    let mut vault = Vault::new();
    let [option, key] = vault.opener("key-file");
    for kind in ["passphrase", "credential", "recovery"] {
        let id = vault.slot(kind);
        let args = ["slot", "remove", &id, "--yes", &option];
        let wrong = vault.server.file("wrong", [9; 32]);
        let refused = vault
            .server
            .cli(&[&args[..], &[wrong.to_str().unwrap()]].concat());
        refused.fails(5).says(&["does not open"]);
        vault.server.cli(&[&args[..], &[&key]].concat()).ok();
        vault.server.cli(&[&args[..], &[&key]].concat()).fails(4);
    }
    let last = vault.slot("key-file");
    let args = ["slot", "remove", &last, "--yes", &option, &key];
    vault.server.cli(&args).fails(5).says(&["last one"]);
    let no_terminal = vault.server.cli(&["slot", "remove", &last, &option, &key]);
    no_terminal.fails(2).says(&["--yes"]);
    assert_eq!(vault.slots().len(), 1);
    // What was refused changed nothing: the file is the one that was there.
    let before = fs::read(vault.server.data.join("live/seal.json")).unwrap();
    let refusals: [(&[&str], &str); 6] = [
        (&["passphrase", "--label", "x"], "--secret-file"),
        (
            &["credential", "--label", "x", "--secret-file", &key],
            "--name",
        ),
        (
            &["recovery", "--label", "x", "--recipient", "age1nobody"],
            "recipient",
        ),
        (
            &[
                "recovery",
                "--label",
                "x",
                "--recipient",
                &vault.recipient,
                "--name",
                "n",
            ],
            "--name",
        ),
        (
            &["key-file", "--label", "a\tb", "--secret-file", &key],
            "label",
        ),
        (
            &[
                "credential",
                "--label",
                "x",
                "--name",
                "a/b",
                "--secret-file",
                &key,
            ],
            "credential's name",
        ),
    ];
    for (args, says) in refusals {
        let args = [&["slot", "add"], args, &[&option, &key]].concat();
        vault.server.cli(&args).fails(2).says(&[says]);
    }
    let short = vault.server.file("short", [7; 8]);
    let args = [
        "slot",
        "add",
        "key-file",
        "--label",
        "x",
        "--secret-file",
        short.to_str().unwrap(),
    ];
    let refused = vault.server.cli(&[&args[..], &[&option, &key]].concat());
    refused.fails(2).says(&["16 or more"]);
    assert_eq!(
        fs::read(vault.server.data.join("live/seal.json")).unwrap(),
        before
    );
    vault.server.stop();
    vault.starts_with("key-file");
}

#[test]
fn a_change_that_a_crash_cut_off_is_found_at_the_next_start() {
    let mut vault = Vault::new();
    vault.server.stop();
    // The store as it was before the change, seal.json as it was after it.
    let store = ["strongroom.db", "strongroom.db-wal"]
        .map(|name| vault.server.data.join("live").join(name));
    let before: Vec<Option<Vec<u8>>> = store.iter().map(|path| fs::read(path).ok()).collect();
    vault.starts_with("key-file");
    vault.add("passphrase", "-other", "one more");
    vault.server.stop();
    for (path, bytes) in store.iter().zip(before) {
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
    vault.starts_with("key-file");
    let found = vault
        .server
        .json(&["audit", "list", "-F", "action = slot.found"]);
    let found = found["items"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["detail"].as_str().unwrap().contains("after"));
    assert_eq!(vault.slots().len(), 5);
}

#[test]
fn two_changes_at_once_are_both_made_and_a_retry_gets_the_first_answer() {
    let vault = Vault::new();
    let body = |label: &str| {
        let bytes = |path: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .encode(fs::read(vault.server.path(path)).unwrap())
        };
        json!({"label": label, "secret": {"key_file": bytes("credential")}, "opener": {"key_file": bytes("key")}}).to_string()
    };
    let post = |label: &str, key: &str| {
        let mut socket: wire::Connection = vault.server.socket();
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        socket
            .request("POST", "/v1/slots", &headers, Some(body(label).as_bytes()))
            .ok(201)
            .json()
    };
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || post(&format!("slot {number}"), &format!("key-{number}")))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(vault.slots().len(), 12);
    assert_eq!(post("slot 3", "key-3")["id"], made[3]["id"]);
    assert_eq!(vault.slots().len(), 12);
    let listed = run_with(
        vault
            .server
            .command()
            .args(["slot", "list", "--data-dir"])
            .arg(&vault.server.data),
        b"",
    );
    let listed = listed.ok().text();
    assert!(
        listed.contains("slot 7") && listed.contains("in the safe"),
        "{listed}"
    );
    for secret in ["key", "credential"] {
        let bytes = fs::read(vault.server.path(secret)).unwrap();
        assert!(!listed.contains(&hex::encode(bytes)));
    }
}

/// What lies under the root key is readable: a code, deposits, the chains; and takes new ones.
#[track_caller]
fn all_opens(vault: &mut Vault, kind: &str, number: usize) {
    vault.starts_with(kind);
    let code = vault.server.json(&["org", "show", "acme"])["auth_code"].clone();
    assert_eq!(code, vault.server.org("acme").as_str());
    let name = format!("org-{number}");
    let client = vault.server.client(&name, &name);
    client.cli_with(&["deposit", "put", "x", "-"], BYTES).ok();
    vault.server.cli(&["audit", "verify"]).ok();
}

#[test]
fn a_new_root_key_ends_what_the_old_one_opened() {
    let mut vault = Vault::new();
    let live = |vault: &Vault, name: &str| vault.server.data.join("live").join(name);
    let old_seal = fs::read(live(&vault, "seal.json")).unwrap();
    let old_node = fs::read(vault.server.data.join("node.json")).unwrap();
    let [key_option, key] = vault.opener("key-file");
    let passphrase = vault.secret("passphrase", "").display().to_string();
    let wrong = vault.server.file("wrong", [9; 32]).display().to_string();
    let rotate = ["root", "rotate", "--yes"];
    vault
        .server
        .cli(&rotate)
        .fails(2)
        .says(&["--passphrase-file"]);
    let refused = [&rotate[..], &[&key_option, &key, "--key-file", &wrong]].concat();
    vault.server.cli(&refused).fails(5).says(&["does not open"]);
    assert_eq!(fs::read(live(&vault, "seal.json")).unwrap(), old_seal);
    // Others work on meanwhile.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let rotated = std::thread::scope(|scope| {
        let (vault, stop) = (&vault, &stop);
        for worker in 0..2 {
            scope.spawn(move || {
                let mut round = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let name = format!("busy-{worker}-{round}");
                    vault.server.json(&["org", "add", &name]);
                    vault
                        .server
                        .cli_with(&["org", "set-auth", &name, "--secret-file", "-"], b"a code")
                        .ok();
                    assert_eq!(
                        vault.client.cli(&["deposit", "get", "key"]).ok().stdout,
                        BYTES
                    );
                    round += 1;
                }
            });
        }
        let args = [
            "--json",
            "root",
            "rotate",
            "--yes",
            "--passphrase-file",
            &passphrase,
            &key_option,
            &key,
        ];
        let mut rotated = Value::Null;
        for _ in 0..4 {
            rotated = vault.server.cli(&args).ok().json();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        rotated
    });
    // The credential's secret was not given; that of the recovery slot is not needed.
    let kinds: Vec<&str> = rotated["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| slot["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["passphrase", "key_file", "recovery"]);
    assert_eq!(vault.slots().len(), 3);
    for number in 0.. {
        let name = format!("busy-0-{number}");
        let shown = vault.server.cli(&["--json", "org", "show", &name]);
        if shown.status != 0 {
            assert!(number > 1, "nobody worked meanwhile");
            break;
        }
        assert_eq!(shown.json()["auth_code"], "a code");
    }
    assert!(!live(&vault, "seal.json.next").exists());
    vault.server.stop();
    for (number, kind) in ["passphrase", "key-file", "recovery"]
        .into_iter()
        .enumerate()
    {
        all_opens(&mut vault, kind, number);
        vault.server.stop();
    }
    // Whoever kept the old files and a secret has nothing.
    let (new_seal, new_node) = (
        fs::read(live(&vault, "seal.json")).unwrap(),
        fs::read(vault.server.data.join("node.json")).unwrap(),
    );
    fs::write(live(&vault, "seal.json"), &old_seal).unwrap();
    vault.server.options.args = vec!["--accept-old-seal".to_owned()];
    vault.server.options.opens = Opens::KeyFile;
    vault.server.serve_fails().fails(3).says(&["node.json"]);
    fs::write(vault.server.data.join("node.json"), &old_node).unwrap();
    let refused = vault.server.serve_fails().fails(3);
    refused.says(&["from before the root key was made anew"]);
    assert_eq!(fs::read(live(&vault, "seal.json")).unwrap(), old_seal);
    fs::write(live(&vault, "seal.json"), &new_seal).unwrap();
    fs::write(vault.server.data.join("node.json"), &new_node).unwrap();
    all_opens(&mut vault, "recovery", 9);
}

/// The files that a rotation changes, and the store's.
fn files_of(vault: &Vault) -> Vec<(PathBuf, Vec<u8>)> {
    let live = fs::read_dir(vault.server.data.join("live")).unwrap();
    let live = live.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = live.filter(|path| path.is_file()).collect();
    paths.push(vault.server.data.join("node.json"));
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_rotation_that_is_cut_off_anywhere_is_finished_or_undone() {
    let mut vault = Vault::new();
    vault.server.stop();
    let put = |vault: &Vault, files: &[(PathBuf, Vec<u8>)]| {
        files_of(vault)
            .iter()
            .for_each(|(path, _)| fs::remove_file(path).unwrap());
        files
            .iter()
            .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    };
    let before = files_of(&vault);
    vault.starts_with("key-file");
    let [option, key] = vault.opener("key-file");
    vault
        .server
        .cli(&["root", "rotate", "--yes", &option, &key])
        .ok();
    vault.server.stop();
    let after = files_of(&vault);
    let of = |files: &[(PathBuf, Vec<u8>)], name: &str| {
        files
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .unwrap()
            .1
            .clone()
    };
    // One that was never wrapped for is dropped, whatever generation has been reached since.
    put(&vault, &before);
    vault.starts_with("key-file");
    vault.add("key-file", "-more", "one more");
    vault.server.stop();
    fs::write(
        vault.server.data.join("live/seal.json.next"),
        of(&after, "seal.json"),
    )
    .unwrap();
    all_opens(&mut vault, "passphrase", 99);
    assert_eq!(vault.slots().len(), 5);
    assert!(!vault.server.data.join("live/seal.json.next").exists());
    vault.server.stop();
    let mut both: Value = serde_json::from_slice(&of(&before, "node.json")).unwrap();
    let new: Value = serde_json::from_slice(&of(&after, "node.json")).unwrap();
    both["database_key_next"] = new["database_key"].clone();
    let (node, live) = (
        vault.server.data.join("node.json"),
        vault.server.data.join("live"),
    );
    let next = live.join("seal.json.next");
    // Before the transaction; after it; after the file took its place.
    for (number, (store, seal, is_next)) in [
        (&before, &before, true),
        (&after, &before, true),
        (&after, &after, false),
    ]
    .into_iter()
    .enumerate()
    {
        put(&vault, store);
        fs::write(live.join("seal.json"), of(seal, "seal.json")).unwrap();
        fs::write(&node, both.to_string()).unwrap();
        if is_next {
            fs::write(&next, of(&after, "seal.json")).unwrap();
        }
        if number == 1 {
            // A secret whose slot is not there any more cannot finish it, and breaks nothing.
            vault.server.options.opens = Opens::Passphrase;
            vault.server.options.args.clear();
            vault
                .server
                .serve_fails()
                .fails(3)
                .says(&["being made anew"]);
        }
        all_opens(&mut vault, "key-file", 2 * number);
        vault.server.restart();
        assert!(!next.exists());
        assert!(
            !fs::read_to_string(&node)
                .unwrap()
                .contains("database_key_next")
        );
        let slots = vault.slots().len();
        assert_eq!(slots, if number == 0 { 4 } else { 2 });
        vault.server.stop();
        all_opens(&mut vault, "recovery", 2 * number + 1);
        vault.server.stop();
    }
}
