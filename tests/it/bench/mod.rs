//! Speed and footprint. `make bench` measures the static executable beside nginx, PostgreSQL and
//! OpenBao and writes docs/measured/bench.json, goals and misses alike; `make test` runs the same code
//! with small numbers against our own server alone.

mod footprint;
mod load;
mod nginx;
mod openbao;
mod ours;
mod postgres;
mod process;
mod report;
mod rounds;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use load::Target;

/// The path of deposits, and of nginx's files.
const DEPOSITS: &str = "v1/deposits";
const BODY: usize = 1_024;

fn long() -> bool {
    std::env::var("STRONGROOM_LONG").is_ok_and(|form| form == "bench")
}

fn seed() -> u64 {
    std::env::var("STRONGROOM_SEED").map_or(1, |seed| seed.parse().unwrap())
}

#[test]
fn the_executable_holds_its_speed_beside_its_peers() {
    let sizes = if long() { rounds::LONG } else { rounds::SHORT };
    let folder = Folder::new();
    let mut report = report::Report::begin();
    rounds::measure(&folder, &sizes, &mut report);
    footprint::measure(&folder, &sizes, &mut report);
    if long() {
        report.write();
    } else {
        report.check_is_whole();
    }
}

/// A private folder, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("strongroom-bench-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn sub(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Well mixed bits of a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(seed()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn pick(number: u64, count: u64) -> u64 {
    mix(number) % count
}

fn name(number: u64) -> String {
    format!("bench-{number:06}")
}

/// The bytes of deposit `number`: no two alike, none that compresses.
fn body(number: u64) -> Vec<u8> {
    (0..BODY as u64 / 8)
        .flat_map(|word| mix(number << 32 | word).to_le_bytes())
        .collect()
}

fn until(limit: Duration, what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A port that was free a moment ago, for programs that cannot be given port 0.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a server whose words go into a file.
fn spawn(command: &mut Command, said: &Path) -> Child {
    let file = std::fs::File::create(said).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn end(child: &mut Child) {
    let pid = child.id().to_string();
    // SIGINT is the order to stop at once for all of them.
    let _ = Command::new("kill").args(["-INT", &pid]).status();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What a command that must succeed says, on both ways.
fn said(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/setup bench"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    if stdout.is_empty() { stderr.into() } else { stdout.into() }
}

impl Target {
    fn until_it_listens(&self) {
        until(Duration::from_secs(30), "the server listens", || {
            std::net::TcpStream::connect(self.address).is_ok()
        });
    }

    fn until_it_answers(&self, path: &str) {
        self.until_it_listens();
        let path = path.to_owned();
        let ask: load::Ask = std::sync::Arc::new(move |_, request: &mut Vec<u8>| {
            request.extend_from_slice(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
        });
        let plan = load::Plan {
            connections: 1,
            warm_up: Duration::from_millis(10),
            time: Duration::from_millis(50),
        };
        let outcome = load::requests(self, &plan, 0, &ask);
        assert!(outcome.done > 0 && outcome.failed == 0, "{:?}", outcome.first_failure);
    }
}
