//! The program that gives the password of a private key: run without a shell, for ten seconds at most.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::os;
use crate::secret::Secret;

const PATIENCE: Duration = Duration::from_secs(10);
/// For what a program that has ended has printed.
const MOMENT: Duration = Duration::from_millis(500);
const MOST: u64 = 1_024;

/// Runs `line` (a path and arguments, quoted as in a shell) and takes what it prints, without the last
/// line end.
///
/// # Errors
/// `password_script_failed`: it is missing, fails, prints nothing or too much, or takes too long.
pub fn password(line: &str) -> Result<Secret<Vec<u8>>> {
    password_within(line, PATIENCE)
}

fn password_within(line: &str, patience: Duration) -> Result<Secret<Vec<u8>>> {
    let words = shlex::split(line).filter(|words| !words.is_empty());
    let Some(words) = words else {
        return Err(failed(line, "its quotes do not match, or it is empty"));
    };
    let program = words.first().map_or("", String::as_str);
    let mut child = Command::new(program)
        .args(words.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Of its own, so that what it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(program, &error.to_string()))?;
    let group = child.id();
    let stdout = child.stdout.take();
    let (printed, printing) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::with_capacity(MOST as usize + 1);
        if let Some(stdout) = stdout {
            let _ = stdout.take(MOST + 1).read_to_end(&mut bytes);
        }
        let _ = printed.send(Secret::new(bytes));
    });
    let (ended, ending) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait()));
    let since = Instant::now();
    let status = ending.recv_timeout(patience).ok();
    // Whatever it left running still holds the pipe. What left its group, too, is not waited for.
    os::kill_group(group);
    let left = patience.saturating_sub(since.elapsed()).max(MOMENT);
    let output = printing
        .recv_timeout(left)
        .map_err(|_| failed(program, "something that it started holds its output open"))?;
    match status {
        None => Err(failed(
            program,
            &format!("it did not end within {} seconds", patience.as_secs()),
        )),
        Some(Err(error)) => Err(failed(program, &error.to_string())),
        Some(Ok(status)) if !status.success() => Err(failed(program, &status.to_string())),
        Some(Ok(_)) => {
            let bytes = output.expose();
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            match bytes.len() as u64 {
                0 => Err(failed(program, "it printed nothing")),
                1..=MOST => Ok(Secret::new(bytes.to_vec())),
                _ => Err(failed(program, "it printed more than 1,024 bytes")),
            }
        }
    }
}

/// Arguments may be the password itself (`echo -n …`), so only the program is named.
fn failed(line: &str, why: &str) -> Error {
    let program = line.split_whitespace().next().unwrap_or_default();
    Error::unavailable(
        "password_script_failed",
        format!("the password script {program} gave no password: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_the_password_without_the_last_line_end() {
        for (line, expected) in [
            ("/bin/echo -n 'two words'", "two words"),
            ("/bin/echo secret", "secret"),
            ("/usr/bin/printf 'a\\n\\n'", "a\n"),
        ] {
            assert_eq!(password(line).unwrap().expose(), expected.as_bytes());
        }
    }

    #[test]
    fn a_script_that_fails_says_how_and_not_its_arguments() {
        for (line, why) in [
            ("/no/such/script secret", "No such file"),
            ("/bin/false secret", "exit status: 1"),
            ("/bin/true secret", "printed nothing"),
            ("/usr/bin/head -c 2000 /dev/zero secret", "exit status: 1"),
            ("/usr/bin/head -c 2000 /dev/zero", "more than 1,024"),
            ("'unclosed secret", "quotes"),
            ("", "empty"),
        ] {
            let error = password(line).err().unwrap();
            assert!(error.public.contains(why), "{line}: {error}");
            assert!(!error.public.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_script_that_hangs_is_ended_with_what_it_started() {
        let soon = Duration::from_millis(1_100);
        let error = password_within("/bin/sh -c 'sleep 300 & sleep 300'", soon);
        let error = error.err().unwrap();
        assert!(error.public.contains("within 1 seconds"), "{error}");
        // The pipe is closed only when all of them are gone, so getting here is the proof; one that
        // leaves a child behind does not hang us either.
        let left = password("/bin/sh -c 'sleep 300 & echo x'").unwrap();
        assert_eq!(left.expose(), b"x");
        // It has left the group when the shell ends.
        let away = "/bin/sh -c 'setsid -f sleep 5; echo x; sleep 0.3'";
        let error = password_within(away, Duration::from_millis(900))
            .err()
            .unwrap();
        assert!(error.public.contains("holds its output open"), "{error}");
    }
}
