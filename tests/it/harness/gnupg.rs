//! GnuPG with a home of its own; its agent ends with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Folder, Output, run, run_with};

pub struct Gnupg {
    // The agent's sockets lie in it, whose paths are short.
    folder: Folder,
}

impl Gnupg {
    pub fn new() -> Self {
        Self {
            folder: Folder::new(),
        }
    }

    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("gpg");
        command
            .env("GNUPGHOME", self.home())
            .args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"])
            .args(["--passphrase", "", "--trust-model", "always"])
            .args(args);
        command
    }

    #[track_caller]
    pub fn gpg(&self, args: &[&str]) -> Output {
        run(&mut self.command(args)).ok()
    }

    #[track_caller]
    pub fn gpg_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        run_with(&mut self.command(args), stdin).ok()
    }

    /// A new key, and its fingerprint. `usage` as `--quick-gen-key` has it: `default` has a part for
    /// encryption, `sign` has none.
    #[track_caller]
    pub fn key(&self, user_id: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        self.gpg(&["--quick-gen-key", user_id, algorithm, usage, expires]);
        self.fingerprint(&format!("={user_id}"))
    }

    /// A part for encryption, for a key that has none.
    #[track_caller]
    pub fn subkey(&self, fingerprint: &str, algorithm: &str, expires: &str) {
        self.gpg(&["--quick-add-key", fingerprint, algorithm, "encr", expires]);
    }

    #[track_caller]
    pub fn fingerprint(&self, name: &str) -> String {
        let listed = self.gpg(&["--with-colons", "--list-keys", name]).text();
        let line = listed.lines().find(|line| line.starts_with("fpr:"));
        line.unwrap().split(':').nth(9).unwrap().to_owned()
    }

    #[track_caller]
    pub fn export(&self, names: &[&str]) -> Vec<u8> {
        self.gpg(&[&["--export"], names].concat()).stdout
    }

    /// Revokes a key with the certificate that was made beside it.
    #[track_caller]
    pub fn revoke(&self, fingerprint: &str) {
        let path = self
            .home()
            .join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        // A colon keeps it from being used by mistake.
        let text = std::fs::read_to_string(path).unwrap();
        self.gpg_with(
            &["--import"],
            text.replace(":-----BEGIN", "-----BEGIN").as_bytes(),
        );
    }

    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        self.folder.write(name, bytes)
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", self.home())
            .args(["--kill", "all"])
            .output();
    }
}
