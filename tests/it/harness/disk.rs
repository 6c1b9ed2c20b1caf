//! A disk that can be full: a small one of the test's own, in a mount namespace that nobody else sees.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strongroom::os::free_bytes;

use super::{Server, run, until};

/// The store keeps 256 free and 64 in reserve: this leaves it some to write.
const DISK_MIB: u64 = 385;

/// Lives as long as this, and the disk with it.
pub struct SmallDisk {
    holder: Child,
    pub data: PathBuf,
}

impl SmallDisk {
    /// Moves a stopped server's data folder onto a new disk, where the server will find it.
    pub fn under(server: &mut Server) -> Self {
        const SCRIPT: &str = r#"mkdir "$1/small" && mount -t tmpfs -o "size=$2m,mode=0700" strongroom-soak "$1/small" &&
            cp -a "$1/data/." "$1/small/" && mount --bind "$1/small" "$1/data" && echo ready && exec cat"#;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", SCRIPT, "sh"])
            .arg(server.folder())
            .arg(DISK_MIB.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert_eq!(said, "ready\n", "a tmpfs could not be mounted");
        let pid = holder.id();
        server.options.wrapper = [
            "nsenter",
            "-t",
            &pid.to_string(),
            "-U",
            "-m",
            "--preserve-credentials",
            "--",
        ]
        .map(str::to_owned)
        .into();
        let data = PathBuf::from(format!("/proc/{pid}/root{}", server.data.display()));
        Self { holder, data }
    }

    pub fn free(&self) -> u64 {
        free_bytes(&self.data).unwrap()
    }

    /// Takes space away, beside what was taken before; as much as there is if it is less.
    pub fn fill(&self, bytes: u64) {
        let filler = self.data.join("filler");
        let taken = std::fs::metadata(&filler).map_or(0, |it| it.len());
        // The server takes some meanwhile, and gives some back.
        until(Duration::from_secs(20), || {
            let length = taken + bytes.min(self.free());
            run(Command::new("fallocate")
                .args(["-l", &length.to_string()])
                .arg(&filler))
            .status
                == 0
        });
    }

    pub fn give_back(&self) {
        std::fs::remove_file(self.data.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
