//! What a person meets at the shell before any server: manual pages, completions, the way to a
//! server.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{Folder, Output, binary, run};

fn strongroom(folder: &Folder, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command
        .args(args)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env_remove("STRONGROOM_DATA_DIR")
        .env_remove("STRONGROOM_HOME");
    run(&mut command)
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = Folder::new();
    strongroom(&folder, &["man", "new/man1"]).ok();
    let pages: Vec<String> = std::fs::read_dir(folder.path().join("new/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in [
        "strongroom.1",
        "strongroom-serve.1",
        "strongroom-deposit-put.1",
    ] {
        assert!(pages.iter().any(|it| it == page), "{pages:?}");
    }
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("new/man1")), 0o755);
    for page in pages {
        let path = folder.path().join("new/man1").join(&page);
        assert_eq!(mode(&path), 0o644, "{page}");
        let text = std::fs::read_to_string(path).unwrap();
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(text.contains(section), "{page}");
        }
    }
}

#[test]
fn bash_completes_nouns_and_verbs() {
    let folder = Folder::new();
    let script = strongroom(&folder, &["completions", "bash"]).ok().text();
    let complete = |words: &str, count: usize| {
        let typed = format!(
            "{script}\nCOMP_WORDS=(strongroom {words}); COMP_CWORD={count}\n\
             _strongroom strongroom \"${{COMP_WORDS[$COMP_CWORD]}}\" \"${{COMP_WORDS[$COMP_CWORD-1]}}\"\n\
             printf '%s ' \"${{COMPREPLY[@]}}\""
        );
        folder.write("complete.sh", typed);
        run(Command::new("bash")
            .arg("complete.sh")
            .current_dir(folder.path()))
        .ok()
        .text()
    };
    assert_eq!(complete("dep", 1).trim(), "deposit");
    assert_eq!(complete("deposit undel", 2).trim(), "undelete");
}

#[test]
fn a_home_that_is_named_and_empty_is_not_the_admin_socket() {
    let folder = Folder::new();
    strongroom(&folder, &["deposit", "list", "--home", "empty"])
        .fails(2)
        .says(&["empty holds no registered client", "client register"]);
    strongroom(&folder, &["deposit", "list"])
        .fails(3)
        .says(&["no server runs on"]);
}

#[test]
fn wrong_use_is_2_and_names_the_way_to_help() {
    let folder = Folder::new();
    strongroom(&folder, &["help"]).fails(2).says(&["--help"]);
    strongroom(&folder, &["deposit", "put", "a/b", "-"])
        .fails(2)
        .says(&["`/`", "--help"]);
    let help = strongroom(&folder, &["--help"]).ok().text();
    for part in ["Exit codes", "--data-dir", "deposit", "STRONGROOM_HOME"] {
        assert!(help.contains(part), "no {part} in {help}");
    }
}
