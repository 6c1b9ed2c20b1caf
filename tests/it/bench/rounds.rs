//! Speed: every server in turn, round after round, so that whatever else the machine does meets them
//! all alike. Ratios are formed within a round; what counts is their median.

use std::io::Write;
use std::time::{Duration, Instant};

use super::load::{self, Ask, Outcome, Plan, Target, percentile};
use super::nginx::Nginx;
use super::openbao::OpenBao;
use super::ours::{Ours, get, get_with_puts, put};
use super::postgres::Postgres;
use super::report::Report;
use crate::harness::Folder;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub deposits: u64,
    pub rounds: u64,
    pub time: Duration,
    pub connections: &'static [usize],
    pub peers: bool,
    pub idle: usize,
    pub half_sent: usize,
    /// Until the server has ended the half-sent requests, which takes ten seconds.
    pub waits_for_the_end: bool,
    pub starts: u32,
    /// After a start, until memory is looked at.
    pub settled: Duration,
}

pub const LONG: Sizes = Sizes {
    deposits: 100_000,
    rounds: 3,
    time: Duration::from_millis(2_500),
    connections: &[1, 16, 64],
    peers: true,
    idle: 10_000,
    half_sent: 1_000,
    waits_for_the_end: true,
    starts: 7,
    settled: Duration::from_secs(10),
};

pub const SHORT: Sizes = Sizes {
    deposits: 200,
    rounds: 1,
    time: Duration::from_millis(300),
    connections: &[4],
    peers: false,
    idle: 50,
    half_sent: 20,
    waits_for_the_end: true,
    starts: 1,
    settled: Duration::from_millis(100),
};

/// New connections at once while handshakes are measured.
pub const SHAKING: usize = 16;

struct Peers {
    nginx: Nginx,
    postgres: Postgres,
    bao: OpenBao,
}

pub fn measure(folder: &Folder, sizes: &Sizes, report: &mut Report) -> Ours {
    let ours = Ours::start();
    report.say("loading deposits through the API");
    fill(&ours.target, &put(""), sizes.deposits);
    let peers = sizes.peers.then(|| {
        report.say("starting peers, and filling them");
        let sub = |name| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let nginx = Nginx::start(&sub("nginx"), &ours, sizes.deposits);
        let postgres = Postgres::start(sizes.deposits);
        let bao = OpenBao::start(&sub("openbao"), &ours);
        fill(&bao.target, &bao.put(""), sizes.deposits);
        report.peer("nginx", Nginx::version());
        report.peer("postgresql", Postgres::version());
        report.peer("openbao", OpenBao::version());
        Peers {
            nginx,
            postgres,
            bao,
        }
    });
    for round in 0..sizes.rounds {
        one_round(folder, sizes, &ours, peers.as_ref(), round, report);
        report.round_done(round);
    }
    report.say("verifying the audit of all this");
    ours.server.cli(&["audit", "verify"]).ok();
    ours
}

/// Stores numbers 0 to `count`, each once.
fn fill(target: &Target, put: &Ask, count: u64) {
    let done = load::times(target, 32, count, put);
    assert_eq!(done.failed, 0, "{:?}", done.first_failure);
    assert_eq!(done.done, count);
}

fn one_round(
    folder: &Folder,
    sizes: &Sizes,
    ours: &Ours,
    peers: Option<&Peers>,
    round: u64,
    report: &mut Report,
) {
    let fsync = fsync_micros(folder, sizes.time / 2);
    report.fsync(percentile(&fsync, 0.50), percentile(&fsync, 0.99));
    for &connections in sizes.connections {
        let plan = Plan {
            connections,
            warm_up: Duration::from_millis(300),
            time: sizes.time,
        };
        // No two requests of all rounds share a number.
        let first = (round * 1_000 + connections as u64) * 1_000_000;
        gets(sizes, ours, peers, &plan, first, report);
        puts(ours, peers, &plan, first, report);
    }
    let plan = Plan {
        connections: SHAKING,
        warm_up: Duration::from_millis(300),
        time: sizes.time,
    };
    let mut shake = |server, target: &Target| {
        let outcome = load::handshakes(target, &plan, &get(sizes.deposits));
        report.outcome("handshake", server, SHAKING, outcome);
    };
    shake("strongroom", &Ours::shaking(&ours.target));
    if let Some(peers) = peers {
        shake("nginx", &Ours::shaking(&peers.nginx.target));
    }
    shake("strongroom_mlkem", &ours.target);
}

fn gets(
    sizes: &Sizes,
    ours: &Ours,
    peers: Option<&Peers>,
    plan: &Plan,
    first: u64,
    report: &mut Report,
) {
    let count = sizes.deposits;
    let mut run = |server, target: &Target, ask: &Ask| {
        report.outcome(
            "get",
            server,
            plan.connections,
            load::requests(target, plan, first, ask),
        );
    };
    run("strongroom", &ours.target, &get(count));
    if let Some(peers) = peers {
        run("nginx", &peers.nginx.target, &get(count));
        run("openbao", &peers.bao.target, &peers.bao.get(count));
    }
    run("strongroom_with_puts", &ours.target, &get_with_puts(count));
    ours.audit_strictly(true);
    run("strongroom_strict", &ours.target, &get(count));
    ours.audit_strictly(false);
}

fn puts(ours: &Ours, peers: Option<&Peers>, plan: &Plan, first: u64, report: &mut Report) {
    let mut run =
        |server, outcome: Outcome| report.outcome("put", server, plan.connections, outcome);
    run(
        "strongroom",
        load::requests(&ours.target, plan, first, &put("put-")),
    );
    if let Some(peers) = peers {
        run(
            "postgresql",
            peers.postgres.put(plan, first / 1_000_000 * 2, true),
        );
        run(
            "postgresql_without_counter",
            peers.postgres.put(plan, first / 1_000_000 * 2 + 1, false),
        );
        run(
            "openbao",
            load::requests(&peers.bao.target, plan, first, &peers.bao.put("put-")),
        );
    }
}

/// Appends of 4 KiB, each synced, on the disk that the servers write to; sorted.
fn fsync_micros(folder: &Folder, time: Duration) -> Vec<f32> {
    let path = folder.path().join("synced");
    let mut file = std::fs::File::create(&path).unwrap();
    let end = Instant::now() + time;
    let mut micros = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        file.write_all(&[7; 4_096]).unwrap();
        file.sync_data().unwrap();
        micros.push(started.elapsed().as_secs_f32() * 1e6);
    }
    std::fs::remove_file(path).unwrap();
    micros.sort_unstable_by(f32::total_cmp);
    micros
}
