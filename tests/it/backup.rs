//! Backups, as those who run a server take them: with plain tools they open, a bad one never counts, and
//! what was there before stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::cut::Cut;
use crate::harness::{
    Client, Dice, Folder, Options, Output, PATIENCE, Server, run, seed, tool, until,
};

/// An identity, and its recipient.
struct Key {
    file: PathBuf,
    recipient: String,
}

impl Key {
    fn new(server: &Server, name: &str) -> Self {
        let file = server.path(name);
        let made = tool::<&str>("age-keygen", []);
        fs::write(&file, &made).unwrap();
        let text = String::from_utf8(made).unwrap();
        let recipient = text
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "));
        Self {
            recipient: recipient.unwrap().to_owned(),
            file,
        }
    }

    /// The tar that a backup holds, by Debian's age.
    fn open(&self, backup: &Path) -> Vec<u8> {
        tool(
            "age",
            [
                "--decrypt",
                "--identity",
                self.file.to_str().unwrap(),
                backup.to_str().unwrap(),
            ],
        )
    }
}

fn create(server: &Server, key: &Key, more: &[&str]) -> Output {
    let mut args = vec!["backup", "create", "--recipient", &key.recipient];
    args.extend(more);
    server.cli(&args)
}

/// The file of the backup that was taken.
fn created(server: &Server, key: &Key, output: &Path) -> PathBuf {
    let taken = create(server, key, &["--output", output.to_str().unwrap()]).ok();
    PathBuf::from(taken.text().trim())
}

fn with_deposits(server: &Server, deposits: u32, bytes: usize) {
    server.org("acme");
    let mut dice = Dice::new(seed());
    for number in 0..deposits {
        let name = format!("n{number}");
        let put = ["deposit", "put", &name, "-", "--org", "acme", "--raw"];
        server.cli_with(&put, &dice.bytes(bytes)).ok();
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

fn health(server: &Server) -> (String, String) {
    let status = server.json(&["status"]);
    let parts = status["health"]["subsystems"].as_array().unwrap().clone();
    let backups = parts.iter().find(|it| it["name"] == "backups").unwrap();
    let text = |field: &str| backups[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn in_tar(tar: &[u8], name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new(name) {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("no {name}");
}

#[test]
fn plain_tools_open_it_and_nothing_in_it_is_in_the_clear() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    server.org("acme");
    let secret = b"a key that nobody may read, forty bytes.";
    for (name, bytes) in [("small", secret.to_vec()), ("large", secret.repeat(20_000))] {
        let put = ["deposit", "put", name, "-", "--org", "acme", "--raw"];
        server.cli_with(&put, &bytes).ok();
    }
    let folder = server.path("out");
    let file = created(&server, &key, &folder);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        folder.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("kts_bak_localhost_") && name.ends_with(".tar.age"),
        "{name}"
    );

    let tar = key.open(&file);
    let tar_file = server.file("backup.tar", &tar);
    let listed = String::from_utf8(tool("tar", ["tf", tar_file.to_str().unwrap()])).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names[..3], ["manifest.json", "seal.json", "database.key"]);
    assert_eq!(names[names.len() - 2..], ["access.db", "strongroom.db"]);
    assert!(names.contains(&"tls/leaf.key") && names.contains(&"strongroom.toml"));
    let manifest: Value = serde_json::from_slice(&in_tar(&tar, "manifest.json")).unwrap();
    assert_eq!(manifest["counts"]["deposits"], 2);
    assert_eq!(manifest["recipients"][0]["text"], key.recipient.as_str());
    assert_eq!(manifest["recipients"][0]["alone"], false);
    assert_eq!(manifest["recipients"][1]["kind"], "drill");
    assert_eq!(manifest["slots"].as_array().unwrap().len(), 2);
    // The outer layer is not the only one.
    let leaf = fs::read(server.data.join("live/tls/leaf.key")).unwrap();
    for text in [&secret[..], b"SQLite format 3", b"PRIVATE KEY", &leaf[..]] {
        let found = tar.windows(text.len()).any(|it| it == text);
        assert!(!found, "{}", String::from_utf8_lossy(text));
    }
    // The copy is gone, and so is what the file was called before.
    assert_eq!(files_in(&folder), std::slice::from_ref(&file));
    assert!(files_in(&server.data.join("backups")).is_empty());

    let shown = server.json(&["backup", "show", name]);
    assert_eq!(shown["path"], file.to_str().unwrap());
    assert_eq!(shown["bytes"], file.metadata().unwrap().len());
    let shown_to_people = server.cli(&["backup", "show", name]).ok().text();
    let opened_by = "opened by\tan identity of a recipient, and the secret of a slot";
    assert!(shown_to_people.contains(opened_by), "{shown_to_people}");
    let sum = tool("sha256sum", [file.to_str().unwrap()]);
    assert!(sum.starts_with(shown["sha256"].as_str().unwrap().as_bytes()));
    let events = server.json(&["audit", "list", "-F", "action = backup.create"]);
    let detail = events["items"][0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&key.recipient) && detail.contains(shown["sha256"].as_str().unwrap()));
}

#[test]
fn one_who_is_a_recovery_slot_too_opens_it_alone_and_it_says_so() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    let secret = server.path("key");
    server
        .cli(&[
            "slot",
            "add",
            "recovery",
            "--label",
            "safe",
            "--recipient",
            &key.recipient,
            "--key-file",
            secret.to_str().unwrap(),
        ])
        .ok();
    let alone = format!("identity {} alone opens this", key.recipient);
    create(
        &server,
        &key,
        &["--output", server.path("out").to_str().unwrap()],
    )
    .ok()
    .says(&[&alone]);
    let file = files_in(&server.path("out")).pop().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let shown = server.cli(&["backup", "show", &name]).ok().text();
    assert!(shown.contains(&alone), "{shown}");
    let manifest = in_tar(&key.open(&file), "manifest.json");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["recipients"][0]["alone"], true);
}

#[test]
fn the_newest_stay_and_nothing_goes_that_is_not_a_verified_backup_of_this_server() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    let out = server.path("out");
    let output = out.to_str().unwrap().to_owned();
    let first = created(&server, &key, &out);
    let second = created(&server, &key, &out);
    let other = Server::start(Options::default());
    let others = created(&other, &key, &out);
    let stranger = out.join("kts_bak_localhost_2001-01-01_00-00-00.tar.age");
    fs::write(&stranger, "not ours to remove").unwrap();

    let third = create(&server, &key, &["--output", &output, "--roll", "2"]).ok();
    let third = PathBuf::from(third.text().trim());
    assert!(!first.exists());
    for stays in [&second, &third, &others, &stranger] {
        assert!(stays.exists(), "{}", stays.display());
    }
    // What changed since it was verified is left alone, and said.
    let mut bytes = fs::read(&second).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&second, bytes).unwrap();
    let fourth = create(&server, &key, &["--output", &output, "--roll", "1"]);
    let fourth = fourth
        .ok()
        .says(&["is not what it was when it was verified"]);
    let fourth = PathBuf::from(fourth.text().trim());
    assert!(second.exists() && !third.exists() && fourth.exists());

    let known = server.json(&["backup", "list"]);
    assert_eq!(known["backups"].as_array().unwrap().len(), 2, "{known}");
    let all = server.json(&["backup", "list", "--removed"]);
    assert_eq!(all["backups"].as_array().unwrap().len(), 4, "{all}");
    create(&server, &key, &["--output", &output, "--roll", "0"])
        .fails(2)
        .says(&["--roll"]);
    assert!(fourth.exists());
}

#[test]
fn what_cannot_be_taken_says_why_and_leaves_nothing() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    let out = server.path("out");
    let there = created(&server, &key, &out);
    let identity = fs::read_to_string(&key.file).unwrap();
    let identity = identity.lines().last().unwrap();
    let blocked = server.file("blocked", "a file");
    let output = out.to_str().unwrap();
    let blocked = blocked.to_str().unwrap();
    let empty = server.file("empty", "# nobody\n");
    let cases: [(&[&str], i32, &str); 7] = [
        (&[], 5, "nobody is named who is to open it"),
        (&["--recipient", "nobody"], 2, "is not a recipient"),
        (&["--recipient", identity], 2, "secret key"),
        (
            &["--cleartext", "--recipient", &key.recipient],
            2,
            "not both",
        ),
        (
            &["--recipients-file", empty.to_str().unwrap()],
            2,
            "holds no recipient",
        ),
        (
            &["--recipient", &key.recipient, "--output", blocked],
            2,
            "is a file",
        ),
        (
            &["--recipient", &key.recipient, "--output", "/proc/none"],
            2,
            "cannot make",
        ),
    ];
    for (args, status, says) in cases {
        let mut line = vec!["backup", "create", "--output", output];
        if args.contains(&"--output") {
            line.truncate(2);
        }
        line.extend(args);
        let refused = server.cli(&line).fails(status).says(&[says]);
        assert!(!refused.stderr.contains(identity), "{refused:?}");
    }
    assert_eq!(files_in(&out), [there]);
    assert!(!server.log().contains(identity));
}

#[test]
fn one_that_is_not_taken_in_full_turns_health_red_until_the_next() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    with_deposits(&server, 24, 1 << 20);
    let (state, _) = health(&server);
    assert_eq!(state, "amber");
    let out = server.path("out");
    let there = created(&server, &key, &out);

    // Whoever asked goes in the middle.
    let socket = server.data.join("run/admin.sock");
    let body = format!(r#"{{"recipients":["{}"]}}"#, key.recipient);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--limit-rate", "100K", "--max-time", "3"])
        .args(["--unix-socket", socket.to_str().unwrap()])
        .args([
            "--header",
            "content-type: application/json",
            "--data",
            &body,
        ])
        .args([
            "--output",
            "/dev/null",
            "http://localhost/v1/backups/stream",
        ]);
    assert_ne!(run(&mut curl).status, 0);
    until(PATIENCE, || health(&server).0 == "red");
    assert!(
        health(&server).1.contains("did not leave in full"),
        "{:?}",
        health(&server)
    );
    let events = server.json(&["audit", "list", "-F", "action = backup.failed"]);
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
    assert!(there.exists());

    created(&server, &key, &out);
    assert_eq!(health(&server).0, "amber");
    assert!(
        health(&server)
            .1
            .contains("on the disk that the store is on")
    );
}

#[test]
fn one_whose_last_answer_is_lost_counts_and_the_command_says_so() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    let socket = server.data.join("run/admin.sock");
    let cut = Cut::before(&socket, server.path("cut.sock"), "/keep HTTP/1.1");
    let mut command = server.command();
    command
        .args(["backup", "create", "--recipient", &key.recipient])
        .arg("--output")
        .arg(server.path("out"))
        .arg("--socket")
        .arg(&cut.path);
    let file = run(&mut command).ok().text();
    assert!(cut.lost());
    let known = known(&server);
    assert_eq!(known.len(), 1);
    assert_eq!(known[0]["path"], file.trim());
    assert!(Path::new(file.trim()).exists());
    let events = server.json(&["audit", "list", "-F", "action = backup.create"]);
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
    // Nothing of it is under way any more that could fail.
    let failed = format!("/v1/backups/{}/failed", known[0]["id"].as_str().unwrap());
    let json = [("content-type", "application/json")];
    let why = br#"{"why":"late"}"#;
    let mut wire = server.socket();
    wire.request("POST", &failed, &json, Some(why)).ok(204);
    assert_ne!(health(&server).0, "red");
    // Another's key gets no answer.
    let keep = failed.replace("/failed", "/keep");
    let path = format!(r#"{{"path":{:?}}}"#, file.trim());
    wire.request("POST", &keep, &json, Some(path.as_bytes()))
        .refused(404, "not_found");
}

#[test]
fn a_killed_command_and_a_killed_server_leave_the_backups_of_before() {
    let mut server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    with_deposits(&server, 16, 1 << 20);
    let out = server.path("out");
    let there = created(&server, &key, &out);
    let begin = || {
        let mut command = server.command();
        command
            .args([
                "backup",
                "create",
                "--recipient",
                &key.recipient,
                "--output",
            ])
            .arg(&out)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let unfinished = || {
        let is_one = |it: &PathBuf| it.to_string_lossy().contains(".strongroom-backup-");
        files_in(&out).into_iter().filter(is_one).count()
    };
    // One that is quicker than this test is let through, and another begun.
    let mut through = 0;
    let mut killed = begin();
    until(PATIENCE, || {
        if killed.try_wait().unwrap().is_some() {
            through += 1;
            killed = begin();
        }
        unfinished() == 1
    });
    killed.kill().unwrap();
    through += usize::from(killed.wait().unwrap().success());
    let mut command = begin();
    // This one tidies up behind the one before.
    until(PATIENCE, || unfinished() <= 1);
    let copies = server.data.join("backups");
    until(PATIENCE, || {
        !files_in(&copies).is_empty() || command.try_wait().unwrap().is_some()
    });
    server.kill9();
    let status = command.wait().unwrap();
    server.serve();
    assert!(files_in(&copies).is_empty());
    assert!(there.exists());
    let known = server.json(&["backup", "list"]);
    let known = known["backups"].as_array().unwrap();
    // Killed late, it may have come through.
    let named = files_in(&out).len() - unfinished();
    assert!(
        known.len() <= named && (status.success() || known.len() <= 1 + through),
        "{known:?}"
    );
    created(&server, &key, &out);
    assert_eq!(unfinished(), 0);
}

#[test]
fn what_comes_back_is_read_in_full() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    with_deposits(&server, 2, 1_000);
    let file = created(&server, &key, &server.path("out"));
    let verify = |bytes: &[u8]| {
        let path = server.file("copy", bytes);
        server.cli(&["backup", "verify", path.to_str().unwrap()])
    };
    let whole = fs::read(&file).unwrap();
    verify(&whole).ok().says(&["every digest in it fits"]);
    let tar = key.open(&file);
    verify(&tar).ok();
    let mut dice = Dice::new(seed());
    for bytes in [&whole, &tar] {
        for _ in 0..12 {
            let mut flipped = bytes.clone();
            let at = dice.below(bytes.len() as u64) as usize;
            flipped[at] ^= 1 << dice.below(8);
            // Two bits of a tar's header say nothing that counts.
            if verify(&flipped).status == 0 {
                assert!(bytes == &tar, "byte {at}");
                assert_eq!(header_field(at, &tar), None, "byte {at}");
            }
            let cut = dice.below(bytes.len() as u64) as usize;
            assert_ne!(verify(&bytes[..cut]).status, 0, "cut at {cut}");
        }
    }
    verify(b"").fails(2).says(&["no backup of Strongroom"]);
    verify(b"hello\n")
        .fails(2)
        .says(&["no backup of Strongroom"]);
    let other = Server::start(Options::default());
    other
        .cli(&["backup", "verify", file.to_str().unwrap()])
        .fails(5)
        .says(&["does not open it"]);
    let clear = server.file("clear.tar", &tar);
    other
        .cli(&["backup", "verify", clear.to_str().unwrap()])
        .fails(5)
        .says(&["of instance"]);
}

/// What a byte of a tar decides, if it decides anything.
fn header_field(at: usize, tar: &[u8]) -> Option<&'static str> {
    let mut start = 0;
    while start + 512 <= tar.len() {
        if at >= start && at < start + 512 {
            return Some("a header");
        }
        let size = std::str::from_utf8(&tar[start + 124..start + 135]).unwrap_or("0");
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        start += 512 + size.div_ceil(512) * 512;
    }
    None
}

#[test]
fn it_is_taken_while_clients_write_and_the_root_key_is_made_anew() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    with_deposits(&server, 8, 256 << 10);
    let out = server.path("out");
    let secret = server.path("key");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..40 {
                let name = format!("w{number}");
                let put = ["deposit", "put", &name, "-", "--org", "acme", "--raw"];
                server.cli_with(&put, b"written meanwhile").ok();
            }
        });
        let rotator = scope.spawn(|| {
            for _ in 0..3 {
                let secret = secret.to_str().unwrap();
                server
                    .cli(&["--yes", "root", "rotate", "--key-file", secret])
                    .ok();
            }
        });
        for _ in 0..4 {
            created(&server, &key, &out);
        }
        writer.join().unwrap();
        rotator.join().unwrap();
    });
    assert_eq!(files_in(&out).len(), 4);
    server.cli(&["audit", "verify"]).ok();
}

/// Runs a schedule's job to its end.
fn scheduled(server: &Server, name: &str) -> Output {
    server.cli(&["schedule", "run", name, "--wait"])
}

fn known(server: &Server) -> Vec<Value> {
    let listed = server.json(&["backup", "list"]);
    listed["backups"].as_array().unwrap().clone()
}

#[test]
fn the_first_recipient_brings_the_first_backup_and_the_schedule_takes_the_rest() {
    let server = Server::start(Options::default());
    with_deposits(&server, 3, 100);
    scheduled(&server, "backup").ok();
    assert!(known(&server).is_empty());
    assert!(
        health(&server).1.contains("no recipient"),
        "{:?}",
        health(&server)
    );

    let key = Key::new(&server, "key.txt");
    server.cli(&["recipient", "add", &key.recipient]).ok();
    until(PATIENCE, || known(&server).len() == 1);
    let first = PathBuf::from(known(&server)[0]["path"].as_str().unwrap());
    assert_eq!(first.parent().unwrap(), server.data.join("backups"));
    let manifest = in_tar(&key.open(&first), "manifest.json");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["counts"]["deposits"], 3);

    // Elsewhere, and fewer.
    let out = server.path("scheduled");
    let set = |name: &str, value: &str| server.cli(&["setting", "set", name, value]).ok();
    set("backup.folder", out.to_str().unwrap());
    for rung in ["hourly", "daily", "weekly", "monthly"] {
        set(&format!("backup.keep_{rung}"), "0");
    }
    for _ in 0..3 {
        scheduled(&server, "backup").ok();
    }
    assert_eq!(files_in(&out).len(), 1, "the newest stays, and no other");
    assert!(first.exists(), "of another folder");
    assert_eq!(known(&server).len(), 2);
    // What someone took himself is his to remove.
    let own = created(&server, &key, &out);
    scheduled(&server, "backup").ok();
    assert!(own.exists());
    assert_eq!(files_in(&out).len(), 2);
    server
        .cli(&["setting", "set", "backup.folder", "relative/path"])
        .fails(2)
        .says(&["absolute path"]);

    // What cannot be written is said, and nothing goes.
    let blocked = server.file("blocked", "a file");
    set("backup.folder", blocked.to_str().unwrap());
    scheduled(&server, "backup").fails(1);
    assert_eq!(health(&server).0, "red");
    assert_eq!(files_in(&out).len(), 2);
    set("backup.folder", "");
    scheduled(&server, "backup").ok();
    assert_eq!(health(&server).0, "amber");
    let made = server.socket().request("POST", "/v1/backups", &[], None);
    assert_eq!(made.ok(202).json()["kind"], "backup");
}

#[test]
fn a_drill_proves_the_newest_backup_or_says_what_is_wrong_with_it() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    with_deposits(&server, 3, 300_000);
    server.cli(&["backup", "drill"]).ok();
    let out = server.path("out");
    let file = created(&server, &key, &out);
    server.cli(&["backup", "drill"]).ok();
    assert!(known(&server)[0]["drilled"].is_string());
    assert!(files_in(&server.data.join("backups")).is_empty());

    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&file, flipped).unwrap();
    server.cli(&["backup", "drill"]).fails(1);
    assert_eq!(health(&server).0, "red");
    assert!(
        health(&server).1.contains("would not restore"),
        "{:?}",
        health(&server)
    );
    assert!(files_in(&server.data.join("backups")).is_empty());
    fs::write(&file, bytes).unwrap();
    created(&server, &key, &out);
    server.cli(&["backup", "drill"]).ok();
    assert_ne!(health(&server).0, "red");
    for old in files_in(&out) {
        fs::rename(&old, old.with_extension("moved")).unwrap();
    }
    server.cli(&["backup", "drill"]).fails(1);
}

#[test]
fn a_self_contained_one_is_restored_by_its_recipient_alone() {
    let mut server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    server.org("acme");
    let client = server.client("web", "acme");
    client
        .cli_with(&["deposit", "put", "mine", "-"], b"what was kept")
        .ok();
    let out = server.path("out");
    let output = out.to_str().unwrap();
    let taken = create(&server, &key, &["--self-contained", "--output", output]).ok();
    let file = PathBuf::from(taken.text().trim());
    let tar = key.open(&file);
    let manifest: Value = serde_json::from_slice(&in_tar(&tar, "manifest.json")).unwrap();
    assert_eq!(manifest["self_contained"], true);
    assert_eq!(manifest["recipients"][0]["alone"], true);
    assert_eq!(manifest["slots"].as_array().unwrap().len(), 0);
    server.cli(&["backup", "drill"]).ok();
    create(&server, &key, &["--self-contained", "--cleartext"]).fails(2);

    server.stop();
    fs::rename(&server.data, server.path("gone")).unwrap();
    let passphrase = server.file("new", "a passphrase that is another one");
    let restored = server.cli(&[
        "restore",
        file.to_str().unwrap(),
        "--identity",
        key.file.to_str().unwrap(),
        "--passphrase-file",
        passphrase.to_str().unwrap(),
        "--yes",
    ]);
    restored.ok();
    fs::write(server.path("passphrase"), fs::read(&passphrase).unwrap()).unwrap();
    server.options.opens = crate::harness::Opens::Passphrase;
    server.serve();
    let client = client.at(&server);
    assert_eq!(
        client.cli(&["deposit", "get", "mine"]).ok().text(),
        "what was kept"
    );
    server.cli(&["audit", "verify"]).ok();
}

#[test]
fn a_passphrase_of_age_opens_one_and_no_recipient_beside_it() {
    let server = Server::start(Options::default());
    with_deposits(&server, 1, 100);
    let passphrase = server.file("passphrase-of-age", "a passphrase for the road");
    let passphrase = passphrase.to_str().unwrap();
    let out = server.path("out");
    let output = out.to_str().unwrap();
    let create = [
        "backup",
        "create",
        "--age-passphrase-file",
        passphrase,
        "--output",
        output,
    ];
    let taken = server.cli(&create).ok();
    let taken = taken.says(&["opened by: its passphrase, and the secret of a slot"]);
    let file = PathBuf::from(taken.text().trim());
    let verify = ["backup", "verify", file.to_str().unwrap()];
    server.cli(&verify).fails(5);
    let with = |path: &str| {
        let mut line = verify.to_vec();
        line.extend(["--age-passphrase-file", path]);
        server.cli(&line)
    };
    with(passphrase).ok();
    let wrong = server.file("wrong", "another passphrase");
    with(wrong.to_str().unwrap()).fails(5);
    let key = Key::new(&server, "key.txt");
    let mut both = create.to_vec();
    both.extend(["--recipient", &key.recipient]);
    server.cli(&both).fails(2).says(&["no recipient beside it"]);
    assert!(!server.log().contains("for the road"));
}

#[test]
fn a_recipient_verifies_one_without_a_server() {
    let mut server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    with_deposits(&server, 1, 100);
    let file = created(&server, &key, &server.path("out"));
    server.stop();
    let identity = key.file.to_str().unwrap();
    let verify = [
        "backup",
        "verify",
        file.to_str().unwrap(),
        "--identity",
        identity,
    ];
    let found = server.json(&verify);
    assert_eq!(found["deposits"], 1);
    let other = Key::new(&server, "other.txt");
    let identity = other.file.to_str().unwrap();
    let verify = [
        "backup",
        "verify",
        file.to_str().unwrap(),
        "--identity",
        identity,
    ];
    server.cli(&verify).fails(5);
}

fn purged(server: &Server, client: &Client, name: &str) {
    client.cli(&["deposit", "rm", name, "--yes"]).ok();
    server
        .cli(&["deposit", "purge", name, "--org", "acme", "--yes"])
        .ok();
}

fn extraction<'a>(file: &'a str, name: &'a str) -> [&'a str; 7] {
    [
        "backup",
        "extract",
        file,
        "--deposit",
        name,
        "--org",
        "acme",
    ]
}

#[test]
fn what_was_bounded_comes_back_no_less_bounded() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    server.org("acme");
    let client = server.client("web", "acme");
    let put = |name: &str, bound: &[&str]| {
        let mut line = vec!["deposit", "put", name, "-"];
        line.extend(bound);
        client.cli_with(&line, b"what was kept").ok();
    };
    let get = |name: &str| client.cli(&["deposit", "get", name]);
    put("thrice", &["--max-retrievals", "3"]);
    put("once", &["--single-use"]);
    put("later", &["--not-before", "2200-01-01T00:00:00Z"]);
    put("until", &["--expires", "2200-01-01T00:00:00Z"]);
    get("thrice").ok();
    get("once").ok();
    let file = created(&server, &key, &server.path("out"));
    let file = file.to_str().unwrap();
    for name in ["thrice", "once", "later", "until"] {
        purged(&server, &client, name);
        server.cli(&extraction(file, name)).ok();
    }
    let shown = |name: &str| client.cli(&["--json", "deposit", "show", name]).ok().json();
    assert_eq!(shown("thrice")["max_retrievals"], 3);
    assert_eq!(shown("thrice")["retrievals_left"], 2);
    assert_eq!(shown("until")["expires"], "2200-01-01T00:00:00Z");
    get("thrice").ok();
    get("thrice").ok();
    for name in ["thrice", "once", "later"] {
        let refused = get(name);
        assert_ne!(refused.status, 0, "{refused:?}");
    }
    get("until").ok();
    // What is there keeps the bounds that it has there.
    server.cli(&extraction(file, "thrice")).ok();
    assert_eq!(shown("thrice")["retrievals_left"], 0);
}

#[test]
fn several_at_once_into_one_folder_all_count() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    let out = server.path("out");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    created(&server, &key, &out);
                }
            });
        }
    });
    let mut paths: Vec<PathBuf> = known(&server)
        .iter()
        .map(|it| PathBuf::from(it["path"].as_str().unwrap()))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 12);
    assert_eq!(files_in(&out), paths);
}

#[test]
fn what_was_deleted_or_moved_does_not_count_for_health() {
    let mut server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    let disk = Folder::below(Path::new("/dev/shm"));
    let dev = |path: &Path| std::os::unix::fs::MetadataExt::dev(&path.metadata().unwrap());
    assert_ne!(dev(disk.path()), dev(&server.data), "no other disk is here");
    let out = disk.path().join("out");
    let file = created(&server, &key, &out);
    assert_eq!(health(&server).0, "green");
    let away = file.with_extension("away");
    let after_a_restart = |server: &mut Server| {
        server.restart();
        until(PATIENCE, || {
            let status = server.json(&["status"]);
            let parts = status["health"]["subsystems"].as_array().unwrap();
            parts.iter().any(|it| it["name"] == "backups")
        });
        health(server)
    };
    fs::rename(&file, &away).unwrap();
    let (state, reason) = after_a_restart(&mut server);
    assert_eq!(state, "amber");
    assert!(
        reason.contains("of 1 verified backups were deleted"),
        "{reason}"
    );
    fs::rename(&away, &file).unwrap();
    assert_eq!(after_a_restart(&mut server).0, "green");
    // A disk that is not there says nothing of what is on it.
    let unmounted = disk.path().join("unmounted");
    fs::rename(&out, &unmounted).unwrap();
    let (state, reason) = after_a_restart(&mut server);
    assert_eq!(state, "amber");
    assert!(
        reason.contains("cannot see whether the files of 1"),
        "{reason}"
    );
    fs::rename(&unmounted, &out).unwrap();
    fs::write(&file, "half of it").unwrap();
    assert_eq!(after_a_restart(&mut server).0, "amber");
}

#[test]
fn what_nobody_owns_any_more_comes_back_when_that_is_wanted() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    server.org("acme");
    let client = server.client("web", "acme");
    let put = ["deposit", "put", "orphan", "-", "--single-use"];
    client.cli_with(&put, b"what was kept").ok();
    let file = created(&server, &key, &server.path("out"));
    let file = file.to_str().unwrap();
    purged(&server, &client, "orphan");
    let fingerprint = client.fingerprint();
    server.cli(&["--yes", "client", "rm", &fingerprint]).ok();
    let refused = server.cli(&extraction(file, "orphan")).fails(5);
    refused.says(&[&fingerprint, "register again with the same key"]);
    // The same key is the same client.
    let code = server.org("acme");
    client.register(Some(&code)).ok();
    server.cli(&extraction(file, "orphan")).ok();
    assert_eq!(
        client.cli(&["deposit", "get", "orphan"]).ok().text(),
        "what was kept"
    );
    purged(&server, &client, "orphan");
    server.cli(&["--yes", "client", "rm", &fingerprint]).ok();
    let mut line = extraction(file, "orphan").to_vec();
    line.push("--without-owner");
    server.cli(&line).ok().says(&["the organization's own"]);
    let show = ["deposit", "show", "orphan", "--org", "acme"];
    let shown = server.json(&show);
    assert_eq!(shown["retrievals_left"], 1);
    assert!(shown["owner"].is_null());

    // Another organization of the same name is not the one that lost it.
    server.cli(&["--yes", "org", "rm", "acme"]).ok();
    server.cli(&["org", "add", "acme"]).ok();
    let refused = server.cli(&line).fails(5);
    refused.says(&["is called so now is another"]);
    server.cli(&show).fails(4);
}

#[test]
fn one_deposit_comes_back_out_of_a_backup() {
    let server = Server::start(Options::default());
    let key = Key::new(&server, "key.txt");
    server.org("acme");
    let client = server.client("web", "acme");
    let large = Dice::new(seed()).bytes(700_000);
    client
        .cli_with(&["deposit", "put", "mine", "-"], b"as it was")
        .ok();
    let put = ["deposit", "put", "large", "-", "--label", "stage=test"];
    let mut put = put.to_vec();
    put.extend(["--description", "a large one"]);
    client.cli_with(&put, &large).ok();
    let out = server.path("out");
    let file = created(&server, &key, &out);
    let file = file.to_str().unwrap();
    client
        .cli_with(&["deposit", "put", "mine", "-"], b"spoiled")
        .ok();
    purged(&server, &client, "large");
    let extract = |name: &str| server.cli(&extraction(file, name));
    extract("mine").ok().says(&["as version 3"]);
    assert_eq!(
        client.cli(&["deposit", "get", "mine"]).ok().text(),
        "as it was"
    );
    // Its owner's again, on whose machine it opens.
    extract("large").ok().says(&["as version 1, of client "]);
    assert_eq!(client.cli(&["deposit", "get", "large"]).ok().stdout, large);
    let shown = client.cli(&["--json", "deposit", "show", "large"]).ok();
    assert_eq!(shown.json()["labels"]["stage"], "test");
    assert_eq!(shown.json()["description"], "a large one");
    extract("never").fails(4);
    assert!(files_in(&server.data.join("backups")).is_empty());
    let damaged = server.file("damaged", &fs::read(file).unwrap()[..50_000]);
    let line = ["--deposit", "mine", "--org", "acme"];
    let mut cut = vec!["backup", "extract", damaged.to_str().unwrap()];
    cut.extend(line);
    server.cli(&cut).fails(2);
    // Under another root key, it is for a restore.
    let secret = server.path("key");
    let rotate = [
        "--yes",
        "root",
        "rotate",
        "--key-file",
        secret.to_str().unwrap(),
    ];
    for _ in 0..2 {
        server.cli(&rotate).ok();
    }
    extract("mine").fails(5).says(&["made anew"]);
}
