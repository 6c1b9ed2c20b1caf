//! What the executable takes up: on disk, in memory, in time to start; and what thousands of
//! connections that do nothing cost those that work.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::load::{self, Link, Plan, Target};
use super::ours::{Ours, get};
use super::process::Usage;
use super::report::{Report, median};
use super::rounds::Sizes;
use crate::harness::{Opens, binary, until};

/// Those that work while the others do nothing.
const WORKING: usize = 64;
/// Full handshakes under way at once while thousands are opened.
const OPENING: usize = 32;

pub fn measure(mut ours: Ours, sizes: &Sizes, report: &mut Report) {
    // Both ends of thousands of connections are on this machine.
    strongroom::os::raise_open_files().unwrap();
    report.say("starting again and again");
    let size = std::fs::metadata(binary()).unwrap().len();
    report.figure("executable_bytes", size as f64);
    for (opens, figure) in [
        (Opens::Passphrase, "ready_seconds_with_a_passphrase"),
        (Opens::KeyFile, "ready_seconds_with_a_key_file"),
    ] {
        let starts: Vec<f64> = (0..sizes.starts)
            .map(|_| ours.restart(opens).as_secs_f64())
            .collect();
        report.figure(figure, median(&starts));
    }
    let since = Instant::now();
    until(sizes.settled * 2, || since.elapsed() >= sizes.settled);
    let settled = Usage::of(ours.target.pid);
    report.figure(
        "resident_bytes_after_the_start",
        settled.resident_bytes as f64,
    );

    report.say("working among connections that do nothing");
    half_sent(&ours.target, sizes, report);
    ours.restart(Opens::KeyFile);
    idle(&ours.target, sizes, report);
}

fn working_rate(target: &Target, sizes: &Sizes) -> f64 {
    let plan = Plan {
        connections: WORKING,
        warm_up: Duration::from_millis(300),
        time: sizes.time,
    };
    let outcome = load::requests(target, &plan, 0, &get(sizes.deposits));
    assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
    outcome.per_second
}

/// Requests of which only the beginning came. The server ends them after ten seconds, so the rate
/// among them is taken at once; before and after it is taken without them.
fn half_sent(target: &Target, sizes: &Sizes, report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut ratios, mut threads) = (Vec::new(), Vec::new());
    // The first after a start fills caches.
    working_rate(target, sizes);
    for _ in 0..sizes.rounds {
        let before = working_rate(target, sizes);
        let mut links = runtime.block_on(open(target, sizes.half_sent));
        threads.push(Usage::of(target.pid).threads);
        runtime.block_on(async {
            for link in &mut links {
                link.send(b"GET /v1/deposits/bench-000000 HTTP/1.1\r\nhost: loc")
                    .await
                    .unwrap();
            }
        });
        let among = working_rate(target, sizes);
        threads.push(Usage::of(target.pid).threads);
        if sizes.waits_for_the_end {
            let ended = async {
                for link in &mut links {
                    link.closed().await;
                }
            };
            let limit = Duration::from_secs(30);
            runtime
                .block_on(async { tokio::time::timeout(limit, ended).await })
                .expect("half-sent requests are ended");
        }
        drop(links);
        ratios.push(among / ((before + working_rate(target, sizes)) / 2.0));
    }
    report.figure("half_sent_requests", sizes.half_sent as f64);
    report.figure("get_rate_among_half_sent", median(&ratios));
    report.figure("threads_vary_among_half_sent", spread(&threads));
}

fn idle(target: &Target, sizes: &Sizes, report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut ratios, mut resident, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    working_rate(target, sizes);
    for _ in 0..sizes.rounds.min(3) {
        let before = working_rate(target, sizes);
        threads.push(Usage::of(target.pid).threads);
        let started = Instant::now();
        let links = runtime.block_on(open(target, sizes.idle));
        report.figure("seconds_to_open_the_idle", started.elapsed().as_secs_f64());
        let among = working_rate(target, sizes);
        let usage = Usage::of(target.pid);
        resident.push(usage.resident_bytes as f64);
        threads.push(usage.threads);
        drop(links);
        ratios.push(among / ((before + working_rate(target, sizes)) / 2.0));
    }
    report.figure("idle_connections", sizes.idle as f64);
    report.figure("get_rate_among_idle", median(&ratios));
    report.figure("resident_bytes_among_idle", median(&resident));
    report.figure("threads_vary_among_idle", spread(&threads));
}

fn spread(threads: &[u64]) -> f64 {
    let most = threads.iter().max().copied().unwrap_or_default();
    let least = threads.iter().min().copied().unwrap_or_default();
    (most - least) as f64
}

/// Opens so many connections, from addresses all over 127.0.0.0/8.
async fn open(target: &Target, count: usize) -> Vec<Link> {
    let mut links = Vec::with_capacity(count);
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..count {
        if opening.len() == OPENING {
            links.push(opening.join_next().await.unwrap().unwrap());
        }
        let target = target.clone();
        opening.spawn(async move {
            let [_, _, high, low] = (number as u32).to_be_bytes();
            let from = Ipv4Addr::new(127, 1, high, low.max(1));
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            let stream = socket.connect(target.address).await.unwrap();
            Link::over(&target, stream).await.unwrap()
        });
    }
    while let Some(link) = opening.join_next().await {
        links.push(link.unwrap());
    }
    links
}
