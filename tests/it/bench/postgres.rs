//! PostgreSQL, storing what one of our PUTs stores: the same rows in the same tables under the same
//! indexes, made from the store's own migration; one transaction a request, over its socket.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::load::{Outcome, Plan, percentile};
use super::process::Usage;
use super::{end, said, spawn};

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
    child: Child,
    folder: PathBuf,
}

/// Where Debian puts the server's programs, the newest version.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is missing; run scripts/setup bench")
        .map(|version| version.unwrap().path().join("bin"))
        .filter(|bin| bin.join("postgres").exists() && bin.join("pgbench").exists())
        .collect();
    found.sort();
    found.pop().expect("no PostgreSQL server; run scripts/setup bench")
}

/// The server refuses to run as root.
fn as_its_user(command: &mut Command) -> &mut Command {
    match its_user() {
        Some((uid, gid)) => command.uid(uid).gid(gid),
        None => command,
    }
}

fn its_user() -> Option<(u32, u32)> {
    if strongroom::os::effective_uid() != 0 {
        return None;
    }
    let id = |what: &str| said(Command::new("id").args([what, "postgres"])).trim().parse().unwrap();
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
        .map(|statement| statement.replace("BLOB", "BYTEA").replace("INTEGER", "BIGINT"))
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
    pub fn start(folder: &Path, count: u64) -> Self {
        if let Some((uid, gid)) = its_user() {
            chown(folder, Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.join("db");
        let made = as_its_user(Command::new(programs().join("initdb")).arg("-D").arg(&data))
            .args(["-U", "bench", "-A", "trust", "--no-locale", "-E", "UTF8"])
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let child = spawn(
            as_its_user(Command::new(programs().join("postgres")).arg("-D").arg(&data))
                .args(["-c", "listen_addresses=", "-c", "max_connections=200", "-k"])
                .arg(folder)
                .current_dir("/"),
            &folder.with_extension("said"),
        );
        let postgres = Self {
            child,
            folder: folder.to_owned(),
        };
        super::until(Duration::from_secs(30), "PostgreSQL answers", || {
            postgres.psql("SELECT 1").status.success()
        });
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
            format!("CREATE SEQUENCE event_numbers; INSERT INTO orgs VALUES ({ORG}, 'acme', '', NULL, NULL, 0, 1, 0)"),
            format!("{} UPDATE orgs SET deposits = {count}", rows(&source)),
            "VACUUM ANALYZE".to_owned(),
            "CHECKPOINT".to_owned(),
        ] {
            let done = self.psql(&sql);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    }

    fn psql(&self, sql: &str) -> std::process::Output {
        let mut command = Command::new(programs().join("psql"));
        command.arg("-h").arg(&self.folder);
        command.args(["-U", "bench", "-d", "postgres", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        command.output().unwrap()
    }

    /// Puts through pgbench, prepared. With `counter` each transaction also counts the deposit in the
    /// row of its organization, as ours does: that row's lock lets one transaction commit at a time.
    pub fn put(&self, plan: &Plan, run: u64, counter: bool) -> Outcome {
        let source = format!(
            "SELECT {} AS id, 'put-' || :run || '-' || :client_id || '-' || :n AS name, 1790000000000000 + :n::bigint AS at",
            id(":n::bigint", ":run * 1000::bigint + :client_id")
        );
        let last = if counter {
            format!("UPDATE orgs SET deposits = deposits + 1 WHERE id = {ORG}")
        } else {
            "SELECT 1".to_owned()
        };
        let script = self.folder.join("put.sql");
        // pgbench takes a statement up to its semicolon, over lines.
        std::fs::write(&script, format!("\\set n :n + 1\n{} {last};\n", rows(&source))).unwrap();
        let log = self.folder.join(format!("latency-{run}"));
        let seconds = (plan.warm_up + plan.time).as_secs_f64().ceil();
        let before = Usage::of(self.child.id());
        let output = Command::new(programs().join("pgbench"))
            .arg("-h")
            .arg(&self.folder)
            .args(["-U", "bench", "-n", "-M", "prepared", "-j", "1", "-l", "-D", "n=0"])
            .arg(format!("--log-prefix={}", log.display()))
            .args(["-D", &format!("run={run}"), "-c", &plan.connections.to_string()])
            .args(["-T", &seconds.to_string(), "-f"])
            .arg(&script)
            .arg("postgres")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let spent = Usage::of(self.child.id()).cpu - before.cpu;
        self.read_log(plan, &log, spent)
    }

    /// A line a transaction: client, number, microseconds, script, and when it ended.
    fn read_log(&self, plan: &Plan, prefix: &Path, spent: Duration) -> Outcome {
        let name = prefix.file_name().unwrap().to_str().unwrap();
        let mut lines: Vec<(f64, f32)> = Vec::new();
        for file in std::fs::read_dir(&self.folder).unwrap() {
            let path = file.unwrap().path();
            if !path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}.")) {
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let fields: Vec<f64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
                lines.push((fields[4] + fields[5] / 1e6, fields[2] as f32));
            }
            std::fs::remove_file(path).unwrap();
        }
        let total = lines.len();
        let begin = lines.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min) + plan.warm_up.as_secs_f64();
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
        said(Command::new(programs().join("postgres")).arg("--version"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[test]
fn postgresql_gets_every_table_and_index_of_a_put() {
    let schema = schema();
    for table in TABLES {
        assert!(schema.contains(&format!("CREATE TABLE {table} (")), "{table}");
    }
    let indexes = schema.matches("CREATE INDEX").count() + schema.matches("CREATE UNIQUE INDEX").count();
    assert_eq!(indexes, 6, "{schema}");
    assert!(!schema.contains("clients") || schema.contains("clients            BIGINT"));
    assert!(!schema.contains("BLOB"));
}
