//! The real curl.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::run::run;

/// One request; `send` makes it.
pub struct Curl {
    command: Command,
    head: PathBuf,
    body: PathBuf,
    upload: PathBuf,
    url: String,
}

/// What came back.
#[derive(Clone)]
pub struct Answer {
    /// 0 if there was no answer.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// curl's exit code.
    pub exit: i32,
    pub stderr: String,
}

impl Curl {
    pub(super) fn new(folder: &Path, ca: &Path, url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| folder.join(format!("curl-{number}-{kind}"));
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--noproxy", "*"])
            .args(["--max-time", "120", "--path-as-is", "--disable"])
            .arg("--cacert")
            .arg(ca);
        Self {
            command,
            head: path("head"),
            body: path("body"),
            upload: path("upload"),
            url: url.to_owned(),
        }
    }

    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.command.args([name, value]);
        self
    }

    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    #[must_use]
    pub fn method(self, method: &str) -> Self {
        if method == "HEAD" {
            return self.flag("--head");
        }
        self.option("--request", method)
    }

    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.option("--header", &format!("{name}: {value}"))
    }

    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// PUTs a body.
    #[must_use]
    pub fn put(self, body: &[u8]) -> Self {
        std::fs::write(&self.upload, body).unwrap();
        let upload = self.upload.to_str().unwrap().to_owned();
        self.option("--upload-file", &upload)
    }

    /// A body of JSON; POSTs unless another method is named.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        std::fs::write(&self.upload, body.to_string()).unwrap();
        let upload = format!("@{}", self.upload.display());
        self.header("content-type", "application/json")
            .option("--data-binary", &upload)
    }

    #[track_caller]
    pub fn send(mut self) -> Answer {
        self.command
            .arg("--dump-header")
            .arg(&self.head)
            .arg("--output")
            .arg(&self.body)
            .arg(&self.url);
        let output = run(&mut self.command);
        let head = std::fs::read_to_string(&self.head).unwrap_or_default();
        // The last block: before it stand interim answers such as 100.
        let last = head
            .trim_end()
            .rsplit("\r\n\r\n")
            .next()
            .unwrap_or_default();
        let mut lines = last.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Answer {
            status,
            headers,
            body: std::fs::read(&self.body).unwrap_or_default(),
            exit: output.status,
            stderr: output.stderr,
        }
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        for path in [&self.head, &self.body, &self.upload] {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Answer {
    /// Fails unless it has this status.
    #[track_caller]
    pub fn ok(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless it is this refusal: a status and the `code` in its body.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.code(), code, "{self:?}");
        self
    }

    pub fn code(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The text of a refusal.
    pub fn message(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.body.len().min(4096);
        write!(
            f,
            "status {} {:?}\n{}\n{}",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.body[..shown]),
            self.stderr
        )
    }
}
