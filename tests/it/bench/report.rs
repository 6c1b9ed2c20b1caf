//! What was measured, set beside what it should be. A missed goal is written down like a met one.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::load::Outcome;
use super::rounds::Sizes;
use crate::harness::measured::{self, Record};

/// Of one server asked one thing over so many connections, an outcome a round.
type Key = (&'static str, &'static str, usize);

pub struct Report {
    sizes: Sizes,
    cells: BTreeMap<Key, Vec<Outcome>>,
    figures: BTreeMap<String, f64>,
    fsync: Vec<(f64, f64)>,
    busy: Vec<String>,
    peers: Map<String, Value>,
    failures: Vec<String>,
}

/// At how many connections speed is judged.
const JUDGED: usize = 64;
const MIB: f64 = 1024.0 * 1024.0;

enum Goal {
    AtLeast(f64),
    Below(f64),
}

impl Report {
    pub fn begin(sizes: Sizes) -> Self {
        Self {
            sizes,
            cells: BTreeMap::new(),
            figures: BTreeMap::new(),
            fsync: Vec::new(),
            busy: vec![load_average()],
            peers: Map::new(),
            failures: Vec::new(),
        }
    }

    /// For whoever watches.
    pub fn say(&self, what: &str) {
        eprintln!("bench: {what}");
    }

    pub fn peer(&mut self, name: &str, version: String) {
        self.peers.insert(name.to_owned(), version.into());
    }

    pub fn fsync(&mut self, p50: f64, p99: f64) {
        self.fsync.push((p50, p99));
    }

    pub fn figure(&mut self, name: &str, value: f64) {
        eprintln!("bench: {name} {value:.3}");
        self.figures.insert(name.to_owned(), value);
    }

    pub fn outcome(
        &mut self,
        what: &'static str,
        server: &'static str,
        connections: usize,
        outcome: Outcome,
    ) {
        eprintln!(
            "bench: {what:9} {connections:2} {server:32} {:8.0}/s  p50 {:7.0} us  p99 {:7.0} us  cpu {:6.1} us",
            outcome.per_second, outcome.p50_micros, outcome.p99_micros, outcome.cpu_micros
        );
        if outcome.failed > 0 {
            self.failures.push(format!(
                "{what} of {server} over {connections}: {} failed, the first with {}",
                outcome.failed,
                outcome.first_failure.as_deref().unwrap_or("nothing to say")
            ));
        }
        self.cells
            .entry((what, server, connections))
            .or_default()
            .push(outcome);
    }

    pub fn round_done(&mut self, round: u64) {
        self.busy.push(load_average());
        eprintln!("bench: round {} of {} done", round + 1, self.sizes.rounds);
    }

    fn rates(&self, key: Key) -> Vec<f64> {
        let outcomes = self.cells.get(&key).map_or(&[][..], Vec::as_slice);
        outcomes.iter().map(|outcome| outcome.per_second).collect()
    }

    /// Ours to a peer's, within each round; the median.
    fn ratio(&self, what: &'static str, peer: &'static str, connections: usize) -> f64 {
        self.ratio_of("strongroom", what, peer, connections)
    }

    fn ratio_of(
        &self,
        ours: &'static str,
        what: &'static str,
        peer: &'static str,
        connections: usize,
    ) -> f64 {
        let (ours, theirs) = (
            self.rates((what, ours, connections)),
            self.rates((what, peer, connections)),
        );
        let ratios: Vec<f64> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        median(&ratios)
    }

    /// p99 of our PUT to p99 of the disk's fsync, within each round; the median.
    fn put_to_fsync(&self, connections: usize) -> f64 {
        let puts = self.cells.get(&("put", "strongroom", connections));
        let ratios: Vec<f64> = puts
            .into_iter()
            .flatten()
            .zip(&self.fsync)
            .map(|(put, (_, fsync))| put.p99_micros / fsync)
            .collect();
        median(&ratios)
    }

    fn goals(&self) -> Vec<Value> {
        let at = self.sizes.connections.last().copied().unwrap_or(JUDGED);
        let figure = |name| self.figures.get(name).copied().unwrap_or(f64::NAN);
        [
            (
                "GET to nginx, files over mTLS, at 64",
                self.ratio("get", "nginx", at),
                Goal::AtLeast(0.6),
            ),
            (
                "GET to OpenBao KV v1, at 64",
                self.ratio("get", "openbao", at),
                Goal::AtLeast(3.0),
            ),
            (
                "PUT to PostgreSQL, the same rows and indexes, at 64",
                self.ratio("put", "postgresql", at),
                Goal::AtLeast(1.3),
            ),
            (
                "PUT to OpenBao KV v1, at 64",
                self.ratio("put", "openbao", at),
                Goal::AtLeast(3.0),
            ),
            (
                "GET while 1 % of the requests are PUTs, to nginx without, at 64",
                self.ratio_of("strongroom_with_puts", "get", "nginx", at),
                Goal::AtLeast(0.4),
            ),
            (
                "new mTLS handshakes to nginx",
                self.ratio("handshake", "nginx", super::rounds::SHAKING),
                Goal::AtLeast(1.3),
            ),
            (
                "MiB of the executable",
                figure("executable_bytes") / MIB,
                Goal::Below(32.0),
            ),
            (
                "MiB resident 10 s after the start",
                figure("resident_bytes_after_the_start") / MIB,
                Goal::Below(40.0),
            ),
            (
                "seconds until ready with a key file",
                figure("ready_seconds_with_a_key_file"),
                Goal::Below(0.5),
            ),
            (
                "seconds until ready with a passphrase",
                figure("ready_seconds_with_a_passphrase"),
                Goal::Below(1.5),
            ),
            (
                "GET among 1,000 half-sent requests, to without",
                figure("get_rate_among_half_sent"),
                Goal::AtLeast(0.9),
            ),
            (
                "GET among 10,000 idle connections, to without",
                figure("get_rate_among_idle"),
                Goal::AtLeast(0.9),
            ),
            (
                "MiB resident with 10,000 idle connections",
                figure("resident_bytes_among_idle") / MIB,
                Goal::Below(400.0),
            ),
            (
                "threads that come and go among half-sent requests",
                figure("threads_vary_among_half_sent"),
                Goal::Below(1.0),
            ),
            (
                "threads that come and go among idle connections",
                figure("threads_vary_among_idle"),
                Goal::Below(1.0),
            ),
            (
                "GET p50 at 5,000,000 deposits, to 100,000 with a cache of 2 MiB",
                figure("get_p50_at_the_most_rows_to_few"),
                Goal::Below(1.5),
            ),
            (
                "PUT at 5,000,000 deposits, to 100,000, at 64",
                figure("put_rate_at_the_most_rows_to_few"),
                Goal::AtLeast(0.6),
            ),
            (
                "MiB resident at 5,000,000 deposits",
                figure("resident_bytes_at_the_most_rows") / MIB,
                Goal::Below(512.0),
            ),
            (
                "first page of a list at 1,000,000 deposits, to 10,000",
                figure("list_first_page_many_to_few"),
                Goal::Below(1.5),
            ),
            (
                "middle page, likewise",
                figure("list_middle_page_many_to_few"),
                Goal::Below(1.5),
            ),
            (
                "last page, likewise",
                figure("list_last_page_many_to_few"),
                Goal::Below(1.5),
            ),
            (
                "ms until the slowest filter's first answer at 1,000,000 deposits",
                figure("slowest_filter_first_answer_ms"),
                Goal::Below(100.0),
            ),
            (
                "backup of 100,000 deposits, to the sum of its parts",
                figure("backup_time_to_its_parts_few"),
                Goal::Below(1.3),
            ),
            (
                "its age stage to Debian's age, at 100,000",
                figure("age_out_rate_to_debians_few"),
                Goal::AtLeast(0.5),
            ),
            (
                "p99 of PUT by 8 clients during it, to quiet, at 100,000",
                figure("put_p99_during_a_backup_to_quiet_few"),
                Goal::Below(3.0),
            ),
            (
                "MiB of memory for it, at 100,000",
                figure("backup_memory_bytes_few") / MIB,
                Goal::Below(64.0),
            ),
            (
                "restore of 100,000 deposits, to the sum of its parts",
                figure("restore_time_to_its_parts_few"),
                Goal::Below(1.3),
            ),
            (
                "its age stage to Debian's age, at 100,000",
                figure("age_in_rate_to_debians_few"),
                Goal::AtLeast(0.5),
            ),
            (
                "MiB of memory for it, at 100,000",
                figure("restore_memory_bytes_few") / MIB,
                Goal::Below(64.0),
            ),
            (
                "backup of 1,000,000 deposits, to the sum of its parts",
                figure("backup_time_to_its_parts_many"),
                Goal::Below(1.3),
            ),
            (
                "its age stage to Debian's age, at 1,000,000",
                figure("age_out_rate_to_debians_many"),
                Goal::AtLeast(0.5),
            ),
            (
                "p99 of PUT by 8 clients during it, to quiet, at 1,000,000",
                figure("put_p99_during_a_backup_to_quiet_many"),
                Goal::Below(3.0),
            ),
            (
                "MiB of memory for it, at 1,000,000",
                figure("backup_memory_bytes_many") / MIB,
                Goal::Below(64.0),
            ),
            (
                "restore of 1,000,000 deposits, to the sum of its parts",
                figure("restore_time_to_its_parts_many"),
                Goal::Below(1.3),
            ),
            (
                "its age stage to Debian's age, at 1,000,000",
                figure("age_in_rate_to_debians_many"),
                Goal::AtLeast(0.5),
            ),
            (
                "MiB of memory for it, at 1,000,000",
                figure("restore_memory_bytes_many") / MIB,
                Goal::Below(64.0),
            ),
        ]
        .map(|(what, measured, goal)| judged(what, measured, &goal))
        .into()
    }

    fn counts(&self) -> Value {
        let mut speed = Map::new();
        for ((what, server, connections), outcomes) in &self.cells {
            let servers = speed.entry(*what).or_insert_with(|| json!({}));
            let cell = &mut servers[*server][connections.to_string()];
            *cell = summary(outcomes);
        }
        let fsync: (Vec<f64>, Vec<f64>) = self.fsync.iter().copied().unzip();
        let put_to_fsync: Map<String, Value> = (self.sizes.connections.iter())
            .map(|&connections| {
                (
                    connections.to_string(),
                    rounded(self.put_to_fsync(connections)),
                )
            })
            .collect();
        let others: Map<String, Value> = (self.sizes.connections.iter())
            .map(|&connections| {
                let ratio = |what, peer| rounded(self.ratio(what, peer, connections));
                let ratios = json!({
                    "get_to_nginx": ratio("get", "nginx"),
                    "get_with_puts_to_nginx": rounded(self.ratio_of("strongroom_with_puts", "get", "nginx", connections)),
                    "get_to_openbao": ratio("get", "openbao"),
                    "get_to_strict": ratio("get", "strongroom_strict"),
                    "put_to_postgresql": ratio("put", "postgresql"),
                    "put_to_postgresql_without_counter": ratio("put", "postgresql_without_counter"),
                    "put_to_openbao": ratio("put", "openbao"),
                });
                (connections.to_string(), ratios)
            })
            .collect();
        json!({
            "goals": self.goals(),
            "ratios": others,
            "speed": speed,
            "put_p99_to_fsync_p99": put_to_fsync,
            "fsync_in_the_rounds_micros": { "p50": rounded(median(&fsync.0)), "p99": rounded(median(&fsync.1)) },
            "figures": self.figures.iter().map(|(name, value)| (name.clone(), rounded(*value))).collect::<Map<_, _>>(),
            "deposits": self.sizes.deposits,
            "rounds": self.sizes.rounds,
            "seconds_a_cell": self.sizes.time.as_secs_f64(),
            "load_average_before_and_after_each_round": self.busy,
            "notes": NOTES,
        })
    }

    pub fn write(&self, folder: &Path) {
        let record = Record {
            target: "bench",
            peers: Value::Object(self.peers.clone()),
            counts: self.counts(),
            failures: self.failures.clone(),
        };
        measured::write(&record, folder);
    }

    pub fn check_none_failed(&self) {
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
    }

    /// Of a short run, whose figures say nothing: every one of ours is there, and none failed.
    pub fn check_is_whole(&self) {
        self.check_none_failed();
        let counts = self.counts();
        for what in ["get", "put", "handshake"] {
            let cells = counts["speed"][what]["strongroom"].as_object().unwrap();
            for cell in cells.values() {
                assert!(
                    cell["per_second"].as_f64().is_some_and(|rate| rate > 0.0),
                    "{what}: {cell}"
                );
                assert!(
                    cell["p99_micros"].as_f64() >= cell["p50_micros"].as_f64(),
                    "{what}: {cell}"
                );
            }
        }
        for goal in counts["goals"].as_array().unwrap().iter().skip(6) {
            assert!(goal["measured"].is_number(), "{goal}");
        }
    }
}

const NOTES: [&str; 9] = [
    "All servers run on one machine together with the load, one at a time, in turn; ratios are formed within a round, and all figures are medians of the rounds.",
    "The load generator is one thread (two for handshakes), a closed loop on each connection; at 64 connections p99 is waiting in line.",
    "strongroom is as shipped: every GET is an audited release, on disk within 100 ms; `strongroom_strict` (audit.strict) waits for that. The audit cannot be switched off, so there is no figure without it.",
    "nginx serves files with the same certificate, sendfile on, no access log, no session reuse.",
    "postgresql gets one statement a transaction through pgbench, prepared, over its socket without TLS: the rows of one PUT in tables and indexes made from the store's migration. It neither encrypts nor chains hashes. `postgresql_without_counter` leaves out the row that counts an organization's deposits, whose lock lets one transaction commit at a time.",
    "openbao has raft storage, TLS with a token instead of client certificates, and no audit device.",
    "Handshakes are compared with X25519, as nginx (OpenSSL 3.0) has no other that is as fast, from two threads that check no certificate; `strongroom_mlkem` is the same with X25519MLKEM768 and a client that checks, as shipped. All other connections have the key exchange that each server prefers.",
    "Backups and restores: `few` is 100,000 deposits of 1 KiB, `many` 1,000,000. The parts are timed one after the other with the stopped server's files: copy, page check, hash (four times over: for the manifest, of the file as it is written and as it is read back, of the members in it), age out onto the disk, age in from it; of a restore age in onto the disk, hash, the new key of the copy, page check. Encryption beside Debian's age is from file to file, both without a sync.",
    "Memory for a backup is the more of what the server had on top of what it had before, and of all that the command had; for a restore, all that the command had.",
];

fn summary(outcomes: &[Outcome]) -> Value {
    let of = |field: fn(&Outcome) -> f64| {
        rounded(median(&outcomes.iter().map(field).collect::<Vec<_>>()))
    };
    json!({
        "per_second": of(|outcome| outcome.per_second),
        "per_second_each_round": outcomes.iter().map(|outcome| outcome.per_second.round()).collect::<Vec<_>>(),
        "p50_micros": of(|outcome| outcome.p50_micros),
        "p99_micros": of(|outcome| outcome.p99_micros),
        "server_cpu_micros_a_request": of(|outcome| outcome.cpu_micros),
        "requests": outcomes.iter().map(|outcome| outcome.done).sum::<u64>(),
    })
}

fn judged(what: &str, measured: f64, goal: &Goal) -> Value {
    let (met, goal) = match goal {
        Goal::AtLeast(goal) => (measured >= *goal, format!("at least {goal}")),
        Goal::Below(goal) => (measured < *goal, format!("below {goal}")),
    };
    json!({ "what": what, "goal": goal, "measured": rounded(measured), "met": met })
}

/// To three digits that count; what could not be measured is null.
fn rounded(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { json!(0) } else { Value::Null };
    }
    let scale = 10f64.powi(3 - value.abs().log10().ceil() as i32);
    json!((value * scale).round() / scale)
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The middle one of those that are numbers.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[test]
fn the_median_is_the_middle() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    assert_eq!(median(&[1.0, f64::NAN]), 1.0);
    assert!(median(&[]).is_nan());
}

#[test]
fn a_goal_is_met_or_missed_and_never_left_open() {
    assert_eq!(judged("x", 0.4, &Goal::AtLeast(0.4))["met"], true);
    assert_eq!(judged("x", 0.39, &Goal::AtLeast(0.4))["met"], false);
    assert_eq!(judged("x", 40.0, &Goal::Below(40.0))["met"], false);
    assert_eq!(judged("x", f64::NAN, &Goal::Below(40.0))["met"], false);
    assert_eq!(rounded(26_123.7), json!(26_100.0));
    assert_eq!(rounded(0.45678), json!(0.457));
}
