//! Speed and footprint. `make bench` measures the static executable beside nginx, PostgreSQL and
//! OpenBao and writes docs/measured/bench.json, goals and misses alike; `make test` runs the same code
//! with small numbers against our own server alone.

mod backup;
mod footprint;
mod grown;
mod growth;
mod load;
mod nginx;
mod openbao;
mod ours;
mod postgres;
mod process;
mod report;
mod rounds;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Folder, PATIENCE, long, run, seed, until};

/// The path of deposits, and of nginx's files.
const DEPOSITS: &str = "v1/deposits";
const BODY: u64 = 1_024;

#[test]
fn the_executable_holds_its_speed_beside_its_peers() {
    let long = long("bench");
    let sizes = if long { rounds::LONG } else { rounds::SHORT };
    let folder = Folder::new();
    let mut report = report::Report::begin(sizes);
    let ours = rounds::measure(&folder, &sizes, &mut report);
    if long {
        // Kept, whatever becomes of the rest.
        report.write(folder.path());
    }
    footprint::measure(ours, &sizes, &mut report);
    if long {
        report.write(folder.path());
    }
    let growth = if long { growth::LONG } else { growth::SHORT };
    growth::measure(&sizes, &growth, &mut report);
    if long {
        report.write(folder.path());
    }
    let steps = if long { backup::LONG } else { backup::SHORT };
    backup::measure(&sizes, steps, &mut report);
    if long {
        report.write(folder.path());
        report.check_none_failed();
    } else {
        report.check_is_whole();
    }
}

/// Well mixed bits of a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut bits = number
        .wrapping_add(seed())
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
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
    (0..BODY / 8)
        .flat_map(|word| mix(number << 32 | word).to_le_bytes())
        .collect()
}

/// A port that was free a moment ago, for programs that cannot be given port 0.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server beside ours; its words go into a file, and it goes when this does.
struct Peer(Child);

impl Peer {
    /// `as_user`: by number, user and group.
    fn start(command: &Command, as_user: Option<(u32, u32)>, said: &Path) -> Self {
        let file = std::fs::File::create(said).unwrap();
        let mut wrapped = Command::new("setpriv");
        // Should this process be killed: the order to stop at once, for all of them.
        wrapped.args(["--pdeathsig", "INT"]);
        if let Some((user, group)) = as_user {
            wrapped.args([format!("--reuid={user}"), format!("--regid={group}")]);
            wrapped.arg("--clear-groups");
        }
        let child = wrapped
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        crate::harness::run::signal(self.pid(), "INT");
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says of itself, in one line.
fn version(command: &mut Command) -> String {
    let output = run(command).ok();
    let said = format!("{}{}", output.text(), output.stderr);
    said.lines().next().unwrap_or_default().to_owned()
}

fn until_it_listens(port: u16) {
    until(PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}
