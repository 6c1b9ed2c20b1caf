//! Lines that operators of other products have in their runbooks, typed as they stand there, through
//! links by the old names.

mod backup;
mod client;
mod links;
mod orgtool;
mod service;
mod setup;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Output, Server, run, run_with};

/// The old commands' links, in a folder of the server's.
fn links(server: &Server) -> PathBuf {
    let folder = server.path("links");
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        let mut command = server.command();
        command
            .args(["install-links", "--supervisorctl"])
            .arg(&folder);
        run(&mut command).ok();
    }
    folder
}

/// A line as a shell reads it, with the links first in its PATH.
#[track_caller]
fn typed(server: &Server, line: &str) -> Output {
    typed_with(server, line, b"")
}

#[track_caller]
fn typed_with(server: &Server, line: &str, stdin: &[u8]) -> Output {
    run_with(&mut shell(server, line), stdin)
}

fn shell(server: &Server, line: &str) -> Command {
    let path = format!(
        "{}:{}",
        links(server).display(),
        std::env::var("PATH").unwrap()
    );
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", line])
        .env("PATH", path)
        .env("STRONGROOM_DATA_DIR", &server.data)
        .env("HOME", server.folder())
        .env_remove("STRONGROOM_HOME")
        .current_dir(server.folder());
    shell
}

/// Types a line on a terminal, and answers its questions: each answer is given once its question
/// stands there.
#[track_caller]
fn on_a_terminal(server: &Server, line: &str, answers: &[(&str, &str)]) -> (i32, String) {
    use crate::harness::{PATIENCE, until_some};
    use std::io::Write as _;
    let said = server.path("typescript");
    let _ = std::fs::remove_file(&said);
    // `script` is the terminal; it writes all that is shown there into the file at once.
    let mut command = shell(
        server,
        &format!(
            "exec script --quiet --return --flush --command \"$LINE\" {}",
            said.display()
        ),
    );
    let mut child = crate::harness::run::Killed(
        command
            .env("LINE", line)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("script: {error} (package bsdutils)")),
    );
    let mut keyboard = child.0.stdin.take().unwrap();
    let shown = |said: &Path| {
        String::from_utf8_lossy(&std::fs::read(said).unwrap_or_default()).into_owned()
    };
    let mut seen = 0;
    for (question, answer) in answers {
        seen += until_some(PATIENCE, || {
            let text = shown(&said);
            let found = text.get(seen..)?.find(question)? + question.len();
            Some(found)
        });
        writeln!(keyboard, "{answer}").unwrap();
    }
    let status = until_some(PATIENCE, || child.0.try_wait().unwrap());
    (status.code().unwrap_or(-1), shown(&said))
}
