//! Children that run to their end, with a deadline.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a child said, and how it ended.
#[derive(Clone)]
pub struct Output {
    /// The exit code; -1 if a signal ended it.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// What was run, for messages.
    pub command: String,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.stdout.len().min(4096);
        write!(
            f,
            "{}\nstatus {}\nstdout: {}\nstderr: {}",
            self.command,
            self.status,
            String::from_utf8_lossy(&self.stdout[..shown]),
            self.stderr
        )
    }
}

impl Output {
    /// Fails unless it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// Fails unless it ended with this exit code.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless standard error says all of this.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in: {self:?}");
        }
        self
    }

    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap_or_else(|_| panic!("not text: {self:?}"))
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_with(command, b"")
}

/// Runs a command to its end, with this on its standard input.
#[track_caller]
pub fn run_with(command: &mut Command, stdin: &[u8]) -> Output {
    const LONGEST: Duration = Duration::from_secs(180);
    let shown = format!("{command:?}");
    let started = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => Killed(child),
        Err(error) => panic!("{shown}: {error} (scripts/setup test installs what tests need)"),
    };
    let mut pipe = child.0.stdin.take().unwrap();
    let (mut out, mut err) = (
        child.0.stdout.take().unwrap(),
        child.0.stderr.take().unwrap(),
    );
    std::thread::scope(|scope| {
        // A child that ends without reading closes the pipe; that is its right.
        scope.spawn(move || {
            let _ = pipe.write_all(stdin);
        });
        let out = scope.spawn(move || read_all(&mut out));
        let err = scope.spawn(move || read_all(&mut err));
        let end = Instant::now() + LONGEST;
        let status = loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let _ = child.0.kill();
                panic!("{shown}: did not end within {LONGEST:?}");
            }
            std::thread::park_timeout(Duration::from_millis(2));
        };
        Output {
            status: status.code().unwrap_or(-1),
            stdout: out.join().unwrap(),
            stderr: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
            command: shown,
        }
    })
}

/// A program as root: directly, or through sudo without a password.
pub fn as_root(program: &str) -> Command {
    if strongroom::os::effective_uid() == 0 {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

/// Runs a peer that has to end well, and returns its standard output.
#[track_caller]
pub fn tool<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Vec<u8> {
    run(Command::new(program).args(args)).ok().stdout
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    bytes
}

/// A child that is killed when this goes.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        // A stepped clock that is killed leaves these, and the next one that gets its number refuses to start.
        for left in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{left}{}", self.0.id()));
        }
    }
}

/// Sends a signal, such as `TERM`.
pub fn signal(pid: u32, name: &str) -> bool {
    Command::new("/bin/sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
