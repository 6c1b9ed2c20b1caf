//! PostgreSQL, storing what one of our PUTs stores: the same rows in the same tables under the same
//! indexes, made from the store's own migration; one transaction a request, over its socket.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::load::{Outcome, Plan, percentile};
use super::process::Usage;
use super::{Peer, version};
use crate::harness::{Folder, Output, PATIENCE, run, until};

const MIGRATION: &str = include_str!("../../../src/store/migrations/0001_store.sql");
/// What a PUT of a new deposit with a label and an idempotency key writes to. The store's revision is
/// left out: ours counts one a group, and here it would be one a transaction.
const TABLES: [&str; 6] = [
    "orgs",
    "deposits",
    "deposit_versions",
    "deposit_labels",
    "events",
    "idempotency",
];
/// Sizes as our server writes them: body and answer in their envelopes, an event's canonical form.
const BODY: usize = 1_024 + 1 + 58;
const ANSWER: usize = 58 + 400;
const EVENT: usize = 300;

pub struct Postgres {
    peer: Peer,
    /// Of its own, since the server's user reaches no other.
    folder: Folder,
}

/// Where Debian puts the server's programs, the newest version.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is missing; run scripts/setup bench")
        .map(|version| version.unwrap().path().join("bin"))
        .filter(|bin| bin.join("postgres").exists() && bin.join("pgbench").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("no PostgreSQL server; run scripts/setup bench")
}

/// The server refuses to run as root; then it runs as the user of Debian's package.
fn its_user() -> Option<(u32, u32)> {
    if strongroom::os::effective_uid() != 0 {
        return None;
    }
    let id = |what: &str| {
        let output = run(Command::new("id").args([what, "postgres"])).ok();
        output.text().trim().parse().unwrap()
    };
    Some((id("-u"), id("-g")))
}

/// The statements of our migration that make the tables, in PostgreSQL's words.
fn schema() -> String {
    let text: String = MIGRATION
        .lines()
        .filter(|line| !line.starts_with("--"))
        .map(|line| format!("{line}\n"))
        .collect();
    let wanted = |statement: &str| {
        TABLES.iter().any(|table| {
            statement.contains(&format!("CREATE TABLE {table} ("))
                || statement.contains(&format!(" ON {table} ("))
        })
    };
    text.split_inclusive(';')
        .filter(|statement| wanted(statement))
        .map(|statement| {
            statement
                .replace("BLOB", "BYTEA")
                .replace("INTEGER", "BIGINT")
        })
        .collect()
}

fn bytes(length: usize) -> String {
    format!("decode(repeat('5a', {length}), 'hex')")
}

/// Sixteen bytes that grow, as our ids do.
fn id(high: &str, low: &str) -> String {
    format!("decode(lpad(to_hex({high}), 16, '0') || lpad(to_hex({low}), 16, '0'), 'hex')")
}

const ORG: &str = "decode(repeat('01', 16), 'hex')";

/// All rows of one PUT in one statement, so that a request is one round trip. `source` gives the
/// columns `id`, `name` and `at`.
fn rows(source: &str) -> String {
    format!(
        "WITH put AS ({source}),
        v AS (INSERT INTO deposit_versions (deposit, version, size, encryption, content_type, created, created_by, parts, body)
          SELECT id, 1, 1024, 'none', 'application/octet-stream', at, 'client ' || repeat('a', 64), NULL, {body} FROM put),
        d AS (INSERT INTO deposits (id, org, name, owner, version, size, encryption, content_type, description, labels, created, modified, deleted)
          SELECT id, {ORG}, name, {ORG}, 1, 1024, 'none', 'application/octet-stream', '', '{{\"use\":\"bench\"}}', at, at, NULL FROM put),
        l AS (INSERT INTO deposit_labels (deposit, label, org, value, name) SELECT id, 'use', {ORG}, 'bench', name FROM put),
        e AS (INSERT INTO events (number, time, object, body, hash, tag)
          SELECT nextval('event_numbers'), at, encode(id, 'hex') || 'uuid', {event}, {hash}, {hash} FROM put),
        i AS (INSERT INTO idempotency (caller, key, request_hash, answer, created)
          SELECT 'client 01234567-0123-7123-8123-012345678901', 'key-' || name, {hash}, {answer}, at FROM put)",
        body = bytes(BODY),
        event = bytes(EVENT),
        hash = bytes(32),
        answer = bytes(ANSWER),
    )
}

impl Postgres {
    /// With `count` deposits in it.
    pub fn start(count: u64) -> Self {
        let folder = Folder::new();
        let data = folder.path().join("db");
        let user = its_user();
        let mut initdb = Command::new(programs().join("initdb"));
        initdb.arg("-D").arg(&data).current_dir("/");
        initdb.args(["-U", "bench", "-A", "trust", "--no-locale", "-E", "UTF8"]);
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
            initdb.uid(uid).gid(gid);
        }
        run(&mut initdb).ok();
        let mut server = Command::new(programs().join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        server.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        let peer = Peer::start(&server, user, &folder.path().join("said"));
        let postgres = Self { peer, folder };
        until(PATIENCE, || postgres.psql("SELECT 1").status == 0);
        postgres.fill(count);
        postgres
    }

    fn fill(&self, count: u64) {
        let source = format!(
            "SELECT {} AS id, 'bench-' || lpad(n::text, 6, '0') AS name, 1780000000000000 + n AS at FROM generate_series(0, {}) n",
            id("0", "n"),
            count - 1
        );
        for sql in [
            schema(),
            format!(
                "CREATE SEQUENCE event_numbers; INSERT INTO orgs VALUES ({ORG}, 'acme', '', NULL, NULL, 0, 1, 0)"
            ),
            format!("{} UPDATE orgs SET deposits = {count}", rows(&source)),
            "VACUUM ANALYZE".to_owned(),
            "CHECKPOINT".to_owned(),
        ] {
            self.psql(&sql).ok();
        }
    }

    fn psql(&self, sql: &str) -> Output {
        let mut command = Command::new(programs().join("psql"));
        command.arg("-h").arg(self.folder.path());
        command.args([
            "-U",
            "bench",
            "-d",
            "postgres",
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ]);
        run(&mut command)
    }

    /// Puts through pgbench, prepared. With `counter` each transaction also counts the deposit in the
    /// row of its organization, as ours does: that row's lock lets one transaction commit at a time.
    pub fn put(&self, plan: &Plan, run_number: u64, counter: bool) -> Outcome {
        let source = format!(
            "SELECT {} AS id, 'put-' || :run || '-' || :client_id || '-' || :n AS name, 1790000000000000 + :n::bigint AS at",
            id(":n::bigint", ":run * 1000::bigint + :client_id")
        );
        let last = if counter {
            format!("UPDATE orgs SET deposits = deposits + 1 WHERE id = {ORG}")
        } else {
            "SELECT 1".to_owned()
        };
        let script = self.folder.path().join("put.sql");
        // pgbench takes a statement up to its semicolon, over lines.
        std::fs::write(
            &script,
            format!("\\set n :n + 1\n{} {last};\n", rows(&source)),
        )
        .unwrap();
        let log = self.folder.path().join(format!("latency-{run_number}"));
        let seconds = (plan.warm_up + plan.time).as_secs_f64().ceil();
        let before = Usage::of(self.peer.pid());
        let mut pgbench = Command::new(programs().join("pgbench"));
        pgbench.arg("-h").arg(self.folder.path());
        pgbench.args(["-U", "bench", "-n", "-M", "prepared", "-j", "1", "-l"]);
        pgbench.arg(format!("--log-prefix={}", log.display()));
        pgbench.args(["-D", "n=0", "-D", &format!("run={run_number}")]);
        pgbench.args([
            "-c",
            &plan.connections.to_string(),
            "-T",
            &seconds.to_string(),
        ]);
        run(pgbench.arg("-f").arg(&script).arg("postgres")).ok();
        let spent = Usage::of(self.peer.pid()).cpu - before.cpu;
        self.read_log(plan, &log, spent)
    }

    /// A line a transaction: client, number, microseconds, script, and when it ended.
    fn read_log(&self, plan: &Plan, prefix: &Path, spent: Duration) -> Outcome {
        let name = prefix.file_name().unwrap().to_str().unwrap();
        let mut lines: Vec<(f64, f32)> = Vec::new();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = file.unwrap().path();
            if !path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&format!("{name}."))
            {
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let fields: Vec<f64> = line
                    .split(' ')
                    .map(|field| field.parse().unwrap())
                    .collect();
                lines.push((fields[4] + fields[5] / 1e6, fields[2] as f32));
            }
            std::fs::remove_file(path).unwrap();
        }
        let total = lines.len();
        let begin = lines
            .iter()
            .map(|(at, _)| *at)
            .fold(f64::INFINITY, f64::min)
            + plan.warm_up.as_secs_f64();
        let end = begin + plan.time.as_secs_f64();
        lines.retain(|(at, _)| *at >= begin && *at <= end);
        let mut micros: Vec<f32> = lines.iter().map(|(_, micros)| *micros).collect();
        micros.sort_unstable_by(f32::total_cmp);
        Outcome {
            per_second: micros.len() as f64 / plan.time.as_secs_f64(),
            p50_micros: percentile(&micros, 0.50),
            p99_micros: percentile(&micros, 0.99),
            cpu_micros: spent.as_secs_f64() * 1e6 / total.max(1) as f64,
            done: micros.len() as u64,
            failed: 0,
            first_failure: None,
        }
    }

    pub fn version() -> String {
        version(Command::new(programs().join("postgres")).arg("--version"))
    }
}

#[test]
fn postgresql_gets_every_table_and_index_of_a_put() {
    let schema = schema();
    for table in TABLES {
        assert!(
            schema.contains(&format!("CREATE TABLE {table} (")),
            "{table}"
        );
    }
    let indexes =
        schema.matches("CREATE INDEX").count() + schema.matches("CREATE UNIQUE INDEX").count();
    assert_eq!(indexes, 6, "{schema}");
    assert!(!schema.contains("clients") || schema.contains("clients            BIGINT"));
    assert!(!schema.contains("BLOB"));
}
