//! Records of long runs: docs/measured/TARGET.json, written by the run itself.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Folder, run, seed};

/// What a run found. `peers`: name → version; `counts`: whatever was counted or measured.
pub struct Record {
    pub target: &'static str,
    pub peers: Value,
    pub counts: Value,
    pub failures: Vec<String>,
}

/// Writes the record. `folder`: where the run kept its data; its disk is probed.
pub fn write(record: &Record, folder: &Path) {
    let target = record.target;
    let (p50, p99) = fsync(folder);
    let replay = format!("make {target} SEED={}", seed());
    let written = json!({
        "target": target,
        "command": command(),
        "replay": replay,
        "seed": seed(),
        "commit": git(&["rev-parse", "HEAD"]),
        "tree": if git(&["status", "--porcelain", "--", ".", ":!docs/measured"]).is_empty() { "clean" } else { "dirty" },
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "fsync_micros": { "p50": p50.as_micros() as u64, "p99": p99.as_micros() as u64 },
        "peers": record.peers,
        "counts": record.counts,
        "failures": record.failures,
    });
    let path = root().join("docs/measured").join(format!("{target}.json"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut text = serde_json::to_string_pretty(&written).unwrap();
    text.push('\n');
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The source tree.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// How long a durable write of 4 KiB takes in this folder: the median, and the 99th in a hundred.
pub fn fsync(folder: &Path) -> (Duration, Duration) {
    let probe = Folder::below(folder);
    let mut file = File::create(probe.path().join("probe")).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&[0x5a; 4096]).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// As it was typed, but for the folder of the program.
fn command() -> String {
    let mut args: Vec<String> = std::env::args().collect();
    if let Some(program) = args.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    args.join(" ")
}

fn git(args: &[&str]) -> String {
    let output = run(Command::new("git").current_dir(root()).args(args));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
