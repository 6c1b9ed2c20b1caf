//! Files with a passphrase, against Debian's age, both ways. age asks for it on a terminal, which
//! `script` makes.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use strongroom::crypto::agefile;
use strongroom::secret::Secret;

use crate::harness::{Folder, run_with};

const PASSPHRASE: &str = "correct horse battery staple";

/// Runs age within a folder, and types.
#[track_caller]
fn age(folder: &Path, line: &str, typed: &str) -> i32 {
    let mut script = Command::new("script");
    script.args(["-qec", line, "/dev/null"]).current_dir(folder);
    run_with(&mut script, typed.as_bytes()).status
}

#[test]
fn age_opens_what_has_our_passphrase_and_the_other_way_round() {
    let folder = Folder::new();
    let plain = strongroom::crypto::random::<40>().repeat(5_000);
    let passphrase = Secret::new(PASSPHRASE.to_owned());
    let mut writer = agefile::passphrase_writer(&passphrase, Vec::new()).unwrap();
    for piece in plain.chunks(10_007) {
        writer.write_all(piece).unwrap();
    }
    folder.write("ours.age", writer.finish().unwrap());
    let typed = format!("{PASSPHRASE}\n");
    assert_eq!(age(folder.path(), "age -d -o opened ours.age", &typed), 0);
    assert!(std::fs::read(folder.path().join("opened")).unwrap() == plain);
    let wrong = age(folder.path(), "age -d -o other ours.age", "wrong\n");
    assert_ne!(wrong, 0);
    assert!(!folder.path().join("other").exists());

    folder.write("plain", &plain);
    assert_eq!(
        age(
            folder.path(),
            "age -p -o theirs.age plain",
            &typed.repeat(2)
        ),
        0
    );
    let theirs = std::fs::File::open(folder.path().join("theirs.age")).unwrap();
    let mut opened = Vec::new();
    let mut reader = agefile::passphrase_reader(&passphrase, theirs).unwrap();
    reader.read_to_end(&mut opened).unwrap();
    assert!(opened == plain);
}
