//! What is wrong with a backup, with what opens it, or with the place that it is to go to: each is told
//! apart, and nothing that was there is harmed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use strongroom::crypto::agefile;

use super::{code, filled, restore, text};
use crate::harness::backup::{Wish, age_of, pack, tar_of, unpack};
use crate::harness::disk::SmallDisk;
use crate::harness::{self, Dice, Options, Output, Server, run, run_with, seed};
use crate::soak::found;

/// Every file of a data folder that a refused restore may not touch.
fn files(server: &Server) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            // What a reader leaves beside a database that it opened.
            let passing = text(&path).ends_with("-shm") || text(&path).ends_with("/run");
            match path.is_dir() {
                _ if passing => {}
                true => walk(&path, found),
                false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&server.data, &mut found);
    found
}

/// A restore with `--yes` that is refused with this code, and leaves everything as it was.
#[track_caller]
fn refused(server: &Server, file: &Path, more: &[&str], status: i32, expected: &str) -> Output {
    let before = files(server);
    let output = restore(server, file, &[more, &["--yes"]].concat()).fails(status);
    assert_eq!(code(&output), expected, "{output:?}");
    assert!(files(server) == before, "something changed: {output:?}");
    output
}

#[test]
fn each_thing_that_is_wrong_with_a_backup_has_its_own_refusal() {
    let (mut server, mut client) = filled();
    let made = |wish: Wish| server.file("wrong.tar", tar_of(&server, &wish));
    let newer = made(Wish {
        change: |it| it.min_reader = 2,
        ..Wish::default()
    });
    refused(&server, &newer, &[], 2, "backup_newer").says(&["version 2"]);
    let newer = made(Wish {
        change: |it| it.schema += 1,
        ..Wish::default()
    });
    refused(&server, &newer, &[], 3, "schema_newer");
    // Someone without the root key changed what it says.
    let forged = made(Wish {
        forge: |it| it.revision += 1,
        ..Wish::default()
    });
    refused(&server, &forged, &[], 2, "backup_damaged").says(&["manifest was changed"]);
    for (change, said) in [
        (
            (|it| it.revision += 1) as fn(&mut strongroom::backup::Manifest),
            "revision",
        ),
        (|it| it.heads[0].hash[0] ^= 1, "heads of its audit"),
        (|it| *it.counts.get_mut("deposits").unwrap() += 1, "rows"),
        (|it| _ = it.counts.insert("more".to_owned(), 0), "rows"),
        (|it| it.timeline += 1, "timeline"),
        (|it| it.schema -= 1, "schema"),
    ] {
        let file = made(Wish {
            change,
            ..Wish::default()
        });
        refused(&server, &file, &[], 2, "backup_damaged").says(&[said]);
    }
    // Whole in itself, and contradictory.
    for (spoil, said) in [
        (
            "DELETE FROM deposit_versions WHERE parts IS NOT NULL",
            "parts",
        ),
        (
            "UPDATE org_keys SET wrapped = randomblob(length(wrapped))",
            "key",
        ),
        (
            "UPDATE deposit_versions SET body = (SELECT w.body FROM deposit_versions w WHERE w.deposit <> deposit_versions.deposit AND w.parts IS NULL) WHERE parts IS NULL",
            "does not open",
        ),
        (
            "UPDATE system_keys SET wrapped = randomblob(90) WHERE name = 'audit'",
            "audit",
        ),
    ] {
        let file = made(Wish {
            spoil,
            ..Wish::default()
        });
        refused(&server, &file, &[], 2, "backup_damaged").says(&[said]);
    }
    for other in [&b""[..], b"PK\x03\x04", &[0; 2_048], b"SQLite format 3\0"] {
        let file = server.file("other", other);
        refused(&server, &file, &[], 2, "not_a_backup");
    }
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir("etc", "/etc").unwrap();
    let file = server.file("other.tar", tar.into_inner().unwrap());
    refused(&server, &file, &[], 2, "not_a_backup");
    server.serve();
    super::everything_is_there(&server, &mut client);
}

#[test]
fn members_that_lead_elsewhere_are_refused() {
    let (server, _) = filled();
    let parts = unpack(&tar_of(&server, &Wish::default()));
    for name in ["../escaped", "/tmp/strongroom-escaped", "tls/../../escaped"] {
        for at in [2, parts.len()] {
            let mut tar = pack(&parts[..at]);
            tar.truncate(tar.len() - 1_024);
            // The library that packs does not write such names.
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            tar.extend_from_slice(&pack(&parts[at..]));
            let file = server.file("wrong.tar", tar);
            refused(&server, &file, &[], 2, "backup_damaged").says(&["escaped"]);
        }
    }
    for kind in ["-s", "-P"] {
        let folder = server.path("links");
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &parts[..2] {
            fs::write(folder.join(name), bytes).unwrap();
        }
        let link = folder.join("database.key");
        run(Command::new("ln")
            .args([kind, "-f"])
            .arg(folder.join("seal.json"))
            .arg(&link))
        .ok();
        let tar = run(Command::new("tar")
            .args(["--format=ustar", "-cf", "-", "-C"])
            .arg(&folder)
            .args(["manifest.json", "seal.json", "database.key"]))
        .ok()
        .stdout;
        let file = server.file("wrong.tar", tar);
        refused(&server, &file, &[], 2, "backup_damaged").says(&["link"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn what_does_not_open_it_is_named() {
    let (server, _) = filled();
    let tar = tar_of(&server, &Wish::default());
    let (file, identity) = age_of(&server, "b", &tar);
    refused(&server, &file, &[], 5, "backup_encrypted").says(&["--identity"]);
    let (other, _) = agefile::generate_identity();
    let other = server.file("other.txt", other.expose());
    refused(
        &server,
        &file,
        &["--identity", text(&other)],
        5,
        "no_identity_matches",
    );
    let plain = server.file("b.tar", &tar);
    let wrong = |args: &[&str], status: i32, expected: &str| {
        let before = files(&server);
        let args = [&["--json", "restore", "--yes"], args].concat();
        let output = server.cli(&args).fails(status);
        assert_eq!(code(&output), expected, "{output:?}");
        assert!(files(&server) == before);
        output
    };
    let passphrase = server.file("wrong", "wrong one\n");
    let with = [text(&plain), "--passphrase-file", text(&passphrase)];
    wrong(&with, 5, "wrong_passphrase").says(&["passphrase"]);
    wrong(
        &[text(&plain), "--key-file", text(&passphrase)],
        5,
        "wrong_key_file",
    );
    wrong(&[text(&plain)], 5, "slot_secret_missing").says(&["passphrase", "key_file"]);
    wrong(
        &[text(&file), "--identity", text(&identity)],
        5,
        "slot_secret_missing",
    );
    wrong(&["nowhere.tar"], 4, "file_failed").says(&["nowhere.tar"]);
    wrong(&[text(server.folder())], 2, "invalid").says(&["is a folder"]);

    // What other programs encrypted.
    let passed = run_with(
        Command::new("sh")
            .args([
                "-c",
                "printf 'x\\nx\\n' | script -qec \"age -p -o $0 $1\" /dev/null",
                "p.age",
                text(&plain),
            ])
            .current_dir(server.folder()),
        b"",
    );
    let file = server.path("p.age");
    assert!(file.exists(), "age -p: {passed:?}");
    wrong(&[text(&file)], 5, "backup_passphrase").says(&["--age-passphrase-file"]);
    let other = [text(&file), "--age-passphrase-file", text(&passphrase)];
    wrong(&other, 5, "wrong_passphrase").says(&["this age file"]);
    let right = server.file("age-passphrase", "x\n");
    let twice = ["restore", "-", "--age-passphrase-file", "-"];
    server.cli(&twice).fails(2).says(&["stdin is the backup"]);
    restore(
        &server,
        &file,
        &["--yes", "--age-passphrase-file", text(&right)],
    )
    .ok();

    let home = server.path("gnupg home");
    fs::create_dir(&home).unwrap();
    run(Command::new("chmod").arg("700").arg(&home)).ok();
    let sealed = server.path("it's.tar.gpg");
    let gpg = |args: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.env("GNUPGHOME", &home).args([
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "x",
        ]);
        run(gpg.args(args)).ok()
    };
    gpg(&["--symmetric", "-o", text(&sealed), text(&plain)]);
    let said = server.cli(&["restore", text(&sealed)]).fails(2).stderr;
    let line = said
        .lines()
        .find(|line| line.contains("gpg --decrypt"))
        .unwrap();
    // The line is one that a shell understands.
    let shown = run(Command::new("sh").args([
        "-c",
        &format!("printf '%s\\n' {}", line.split(" | ").next().unwrap()),
    ]))
    .ok();
    assert_eq!(
        shown.text(),
        format!("gpg\n--decrypt\n{}\n", sealed.display())
    );
    assert!(line.contains("| strongroom restore - --data-dir"));
    let opened = gpg(&["--decrypt", text(&sealed)]).stdout;
    let key = server.path("key");
    let from_stdin = ["restore", "-", "--yes", "--key-file", text(&key)];
    server.cli_with(&from_stdin, &opened).ok();
}

#[test]
fn a_place_that_cannot_take_it_is_named() {
    let (mut server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    let other = Server::init(Options::default());
    let key = server.path("key");
    let foreign = [
        "--json",
        "restore",
        text(&file),
        "--yes",
        "--key-file",
        text(&key),
    ];
    let before = files(&other);
    let output = other.cli(&foreign).fails(5);
    assert_eq!(code(&output), "other_instance");
    let manifest = &unpack(&fs::read(&file).unwrap())[0].1;
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    output.says(&[manifest["instance"].as_str().unwrap(), "holds instance"]);
    assert!(files(&other) == before);

    server.data = server.file("a-file", "x");
    let output = restore(&server, &file, &[]).fails(2);
    output.says(&["is a file"]);
    assert_eq!(fs::read(&server.data).unwrap(), b"x");

    server.data = server.path("of-others");
    fs::create_dir(&server.data).unwrap();
    fs::write(server.data.join("letter.txt"), "x").unwrap();
    let output = restore(&server, &file, &[]).fails(5);
    assert_eq!(code(&output), "folder_not_empty");
    assert_eq!(fs::read_dir(&server.data).unwrap().count(), 1);

    server.data = PathBuf::from("/proc/strongroom");
    let output = restore(&server, &file, &[]);
    assert!(matches!(output.status, 3 | 4), "{output:?}");
    output.says(&["/proc/strongroom"]);
}

#[test]
fn a_full_disk_is_found_before_anything_is_unpacked() {
    let (mut server, mut client) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    let disk = SmallDisk::under(&mut server);
    let wrapper = server.options.wrapper.clone();
    let key = server.path("key");
    let restore = || {
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(&server.options.binary);
        command.args(["--json", "restore", text(&file), "--yes", "--data-dir"]);
        run(command.arg(&server.data).arg("--key-file").arg(&key))
    };
    disk.fill(disk.free() - (1 << 20));
    let output = restore().fails(3);
    assert_eq!(code(&output), "no_room");
    disk.give_back();
    restore().ok();
    server.serve();
    // The socket lies on the disk that only the server sees.
    client.server.clone_from(&server.client_url);
    assert_eq!(client.cli(&["deposit", "get", "a"]).ok().stdout, b"first");
}

/// A backup in the clear that is cut off, or has a byte changed, is refused, whatever the place; a few in
/// `make test`, a thousand in `make soak`.
#[test]
fn a_backup_that_is_cut_off_or_changed_anywhere_is_refused() {
    let (server, _) = filled();
    let tar = tar_of(&server, &Wish::default());
    let (file, identity) = age_of(&server, "b", &tar);
    let age = fs::read(&file).unwrap();
    let before = files(&server);
    let mut dice = Dice::new(seed());
    let rounds = if harness::long("soak") { 1_000 } else { 24 };
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    // What a tar says of a member that nobody asks about: mode, owner and time are covered by the checksum.
    for round in 0..rounds {
        let whole = if round % 2 == 0 { &tar } else { &age };
        let at = usize::try_from(dice.below(whole.len() as u64)).unwrap();
        let mut wrong = whole.clone();
        match round % 4 {
            0 | 1 => wrong[at] ^= 1 << dice.below(8),
            _ => wrong.truncate(at),
        }
        let file = server.file("wrong", &wrong);
        let mut args = vec!["--yes"];
        if round % 2 == 1 {
            args.extend(["--identity", text(&identity)]);
        }
        let output = restore(&server, &file, &args);
        let known = [
            "backup_damaged",
            "not_a_backup",
            "backup_newer",
            "age_damaged",
            "no_identity_matches",
            "seal_damaged",
            "invalid",
            "backup_passphrase",
            "backup_armored",
            "backup_openpgp",
            "schema_newer",
            "other_instance",
        ];
        assert!(output.status != 0, "round {round}, byte {at}: it was taken");
        assert!(
            known.contains(&code(&output).as_str()),
            "round {round}, byte {at}: {output:?}"
        );
        assert!(files(&server) == before, "round {round}, byte {at}");
        *refused.entry(code(&output)).or_default() += 1;
    }
    found("backups_cut_and_changed", json!({ "refused": refused }));
}
