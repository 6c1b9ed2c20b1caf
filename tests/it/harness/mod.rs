//! What every integration test stands on: a real server in a private folder, its clients, and the
//! peers that run beside it. A child process never outlives the test that started it.

// A part that only some tests need is no dead code.
#![allow(dead_code, unused_imports)]

pub mod backup;
pub mod client;
pub mod curl;
pub mod cut;
pub mod disk;
pub mod gnupg;
pub mod measured;
pub mod run;
pub mod server;
pub mod store;
pub mod strace;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use self::client::Client;
pub use self::curl::{Answer, Curl};
pub use self::gnupg::Gnupg;
pub use self::run::{Output, run, run_with, tool};
pub use self::server::{Opens, Options, Server};

/// How long anything may take that takes a moment; long, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds, and fails where it was called if it does not in time.
#[track_caller]
pub fn until(deadline: Duration, mut condition: impl FnMut() -> bool) {
    until_some(deadline, || condition().then_some(()));
}

/// Waits until there is something, and returns it.
#[track_caller]
pub fn until_some<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "did not happen within {deadline:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A private folder that goes when this does.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub fn below(parent: &Path) -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = parent.join(format!(
            "strongroom-it-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it that did not exist before.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("STRONGROOM_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The executable under test.
pub fn binary() -> PathBuf {
    match std::env::var_os("STRONGROOM_BIN") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_strongroom")),
    }
}

/// Whether this is the long form of a target: `make soak`, `make bench`, `make fuzz`.
pub fn long(target: &str) -> bool {
    std::env::var("STRONGROOM_LONG").is_ok_and(|long| long == target)
}

/// What random choices of a test start from: STRONGROOM_SEED repeats a run.
pub fn seed() -> u64 {
    match std::env::var("STRONGROOM_SEED") {
        Ok(seed) => seed
            .parse()
            .unwrap_or_else(|_| panic!("STRONGROOM_SEED={seed} is not a number")),
        Err(_) => 0x5eed,
    }
}

/// Random numbers that a seed repeats (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, and without, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A place in what has so many.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
