//! A restore that is killed, or whose disk gives errors, at any of its steps: what was there is whole, or what
//! was restored is, and a second try comes to its end.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use strongroom::clock;
use strongroom::crypto::seal::SlotSecret;
use strongroom::folder::Folder;
use strongroom::secret::Secret;
use strongroom::server::restore::settle;
use strongroom::server::unlock::unlock;

use super::{filled, text};
use crate::harness::backup::{Wish, tar_of};
use crate::harness::{self, Output, Server, run, strace};
use crate::soak;

/// Where a kill may leave something half done; and in `make test`, every which of them is tried.
const STEPS: &[(&str, usize)] = &[
    ("rename", 1),
    ("renameat2", 1),
    ("unlink", 3),
    ("rmdir", 2),
    ("mkdir", 2),
    ("fsync", 4),
    ("fdatasync", 5),
    ("ftruncate", 2),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    Nothing,
    Old,
    New,
}

/// What a start of the server finds; fails if that is neither whole.
#[track_caller]
fn there(server: &Server) -> There {
    found(server).unwrap_or_else(|what| panic!("{what}"))
}

/// The same; an error if it is neither whole.
pub fn found(server: &Server) -> Result<There, String> {
    let folder = Folder::new(&server.data);
    if !folder.live().exists() {
        return Ok(There::Nothing);
    }
    let said = |error: strongroom::error::Error| error.to_string();
    settle(&folder, clock::now()).map_err(said)?;
    let key = SlotSecret::KeyFile(Secret::new(fs::read(server.path("key")).unwrap()));
    let unlocked = unlock(&folder, &key, None, false, true, clock::now()).map_err(said)?;
    if unlocked.older.is_some() {
        return Err("its seal.json seems older".to_owned());
    }
    let faults = unlocked.opened.integrity().map_err(said)?;
    if !faults.is_empty() {
        return Err(format!("its databases have faults: {faults:?}"));
    }
    match unlocked.opened.contents().map_err(said)?.timeline {
        1 => Ok(There::Old),
        _ => Ok(There::New),
    }
}

/// `restore`, with something injected into its system calls.
fn restore(server: &Server, file: &Path, inject: &str) -> Output {
    run(&mut strace::injected(
        &whole(server, file),
        inject,
        Path::new("/dev/null"),
    ))
}

/// `restore`, as it is.
pub fn whole(server: &Server, file: &Path) -> Command {
    let mut command = server.command();
    command.args(["restore", text(file), "--yes", "--data-dir"]);
    command
        .arg(&server.data)
        .arg("--key-file")
        .arg(server.path("key"));
    command
}

/// Puts the data folder back to what it was.
pub fn again(server: &Server, base: &Path) {
    let _ = fs::remove_dir_all(&server.data);
    if base.exists() {
        run(Command::new("cp").arg("-a").arg(base).arg(&server.data)).ok();
    }
}

/// Kills a restore at each of its steps, or in `make test` at some of them.
fn killed_everywhere(server: &Server, file: &Path, base: &Path) -> Value {
    let before = if base.exists() {
        There::Old
    } else {
        There::Nothing
    };
    let long = harness::long("soak");
    let mut left = Vec::new();
    for (call, every) in STEPS {
        let mut last = before;
        for step in (1..).step_by(if long { 1 } else { *every }) {
            again(server, base);
            let output = restore(server, file, &format!("{call}:signal=KILL:when={step}"));
            let found = there(server);
            if output.status == 0 {
                assert_eq!(found, There::New);
                break;
            }
            assert_eq!(output.status, -1, "{call} {step}: {output:?}");
            // Once it is there, it stays.
            let whole = found == There::New || (found, last) == (before, before);
            assert!(whole, "{call} {step}: {found:?} after {last:?}");
            if long || found != last || step % 4 == 1 {
                restored(server, file);
                assert_eq!(there(server), There::New, "{call} {step}");
                assert!(!server.data.join("live.new").exists());
            }
            last = found;
            left.push(found);
        }
    }
    let kills = left.len();
    let new = left.iter().filter(|it| **it == There::New).count();
    assert!(kills >= 20 && new >= 2 && new < kills, "{left:?}");
    json!({ "kill_9": kills, "new_after": new })
}

fn restored(server: &Server, file: &Path) {
    run(&mut whole(server, file)).ok();
}

#[test]
fn killed_at_any_step_it_leaves_the_old_data_or_the_new() {
    let (server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    let base = server.path("base");
    run(Command::new("cp").arg("-a").arg(&server.data).arg(&base)).ok();
    let killed = killed_everywhere(&server, &file, &base);
    soak::found("restores_killed_at_each_step", killed);
}

/// The key of the databases changes with it.
#[test]
fn killed_at_any_step_after_the_root_key_was_made_anew_it_leaves_one_of_both() {
    let (mut server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    server.serve();
    let key = server.path("key");
    server
        .cli(&["root", "rotate", "--yes", "--key-file", text(&key)])
        .ok();
    server.stop();
    let base = server.path("base");
    run(Command::new("cp").arg("-a").arg(&server.data).arg(&base)).ok();
    killed_everywhere(&server, &file, &base);
}

#[test]
fn killed_at_any_step_an_empty_folder_holds_nothing_or_all_of_it() {
    let (server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    killed_everywhere(&server, &file, &server.path("nothing"));
}

#[test]
fn a_disk_that_fills_up_or_fails_on_the_way_changes_nothing() {
    let (server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    let base = server.path("base");
    run(Command::new("cp").arg("-a").arg(&server.data).arg(&base)).ok();
    let mut refused = 0;
    for (calls, errors, steps) in [
        ("pwrite64", "ENOSPC", vec![1, 2, 30, 90, 200]),
        ("pwrite64", "EIO", vec![3, 60]),
        ("fsync,fdatasync", "EIO", vec![1, 3, 5, 8]),
        ("write", "ENOSPC", vec![2, 3, 4, 5]),
        ("renameat2", "EINVAL", vec![1]),
    ] {
        for step in steps {
            again(&server, &base);
            // A full disk stays full.
            let on = if calls == "pwrite64" { "+" } else { "" };
            let inject = format!("{calls}:error={errors}:when={step}{on}");
            let output = restore(&server, &file, &inject);
            let found = there(&server);
            if output.status == 0 {
                assert_eq!(found, There::New, "{inject}");
                continue;
            }
            refused += 1;
            assert_eq!(found, There::Old, "{inject}: {output:?}");
            assert!(!output.stderr.contains("panicked"), "{inject}: {output:?}");
            assert!(
                !output.stderr.contains("this backup is damaged"),
                "{inject}: {output:?}"
            );
        }
    }
    assert!(refused >= 12, "{refused}");
}

/// Into a folder that is not there yet: whoever comes second finds it taken, or replaces what the first made.
#[test]
fn of_two_at_once_neither_harms_the_other() {
    let (server, _) = filled();
    let file = server.file("b.tar", tar_of(&server, &Wish::default()));
    for round in 0..4 {
        let _ = fs::remove_dir_all(&server.data);
        let outputs = std::thread::scope(|scope| {
            let started: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| run(&mut whole(&server, &file))))
                .collect();
            started
                .into_iter()
                .map(|it| it.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(
            outputs.iter().any(|it| it.status == 0),
            "round {round}: {outputs:?}"
        );
        for output in outputs.iter().filter(|it| it.status != 0) {
            assert_eq!(output.status, 5, "round {round}: {output:?}");
            assert!(output.stderr.contains("in use by process"), "{output:?}");
        }
        assert_eq!(there(&server), There::New, "round {round}");
    }
}
