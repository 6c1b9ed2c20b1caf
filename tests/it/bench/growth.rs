//! How the store does as its rows grow: fetches and stores at five million deposits beside a hundred
//! thousand, lists and filters at a million beside ten thousand. The rows are put into the stopped
//! server's store by ourselves, as the server would have written them, since five million requests
//! would take longer than all else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use strongroom::crypto::envelope::{self, Aad};
use strongroom::model::page::{Cursor, Direction, Part};
use strongroom::secret::Key;

use super::load::{self, Ask, Plan};
use super::ours::Ours;
use super::process::Usage;
use super::report::{Report, median};
use super::rounds::Sizes;
use super::{DEPOSITS, mix};
use crate::harness::{Server, store, wire};

/// Of a body; what fits into a few pages more often than a kilobyte does.
const BODY: usize = 256;
/// Rows in a transaction.
const STEP: u64 = 50_000;
/// Every so many deposits carry the label that is looked for.
const LABELLED: u64 = 1_000;

/// How many rows there are at each step.
#[derive(Clone, Copy)]
pub struct Growth {
    /// Lists are compared at the first and the third, fetches at the second and the last.
    pub rows: [u64; 4],
}

pub const LONG: Growth = Growth {
    rows: [10_000, 100_000, 1_000_000, 5_000_000],
};
pub const SHORT: Growth = Growth {
    rows: [200, 400, 600, 800],
};

pub fn measure(sizes: &Sizes, growth: &Growth, report: &mut Report) {
    let mut ours = Ours::start();
    ours.server.stop();
    let mut rows = Rows::of(&ours.server);
    let (mut lists, mut fetches) = (Vec::new(), Vec::new());
    for (step, count) in growth.rows.into_iter().enumerate() {
        report.say(&format!("growing to {count} deposits"));
        rows.grow(&ours.server, count);
        // A small cache while the rows are few, the usual one when they are many.
        cache(&ours.server, if step == 1 { 2 } else { 144 });
        ours.serve_again();
        match step {
            0 | 2 => lists.push(Listed::measure(&ours.server, count)),
            _ => fetches.push(Fetched::measure(&ours, sizes, count)),
        }
        if step == 3 {
            let used = Usage::of(ours.server.pid).resident_bytes;
            report.figure("resident_bytes_at_the_most_rows", used as f64);
        }
        ours.server.stop();
    }
    report.figure("rows_at_the_most", growth.rows[3] as f64);
    report.figure(
        "get_p50_at_the_most_rows_to_few",
        fetches[1].get_p50 / fetches[0].get_p50,
    );
    report.figure(
        "put_rate_at_the_most_rows_to_few",
        fetches[1].put_rate / fetches[0].put_rate,
    );
    for (name, page) in [
        ("list_first_page_many_to_few", 0),
        ("list_middle_page_many_to_few", 1),
        ("list_last_page_many_to_few", 2),
    ] {
        report.figure(name, lists[1].pages[page] / lists[0].pages[page]);
    }
    report.figure("slowest_filter_first_answer_ms", lists[1].slowest_filter);
}

/// Writes the server's table of what it keeps anew.
fn cache(server: &Server, mib: u32) {
    let path = server.data.join("live/strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.find("deposits_mib = ").unwrap();
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    std::fs::write(
        path,
        format!("{}deposits_mib = {mib}{}", &text[..at], &text[end..]),
    )
    .unwrap();
}

struct Rows {
    org: [u8; 16],
    owner: [u8; 16],
    key: Key,
    there: u64,
}

fn name(number: u64) -> String {
    format!("g-{:016x}", mix(number))
}

/// Random, as the ids of a store that took years to fill are to each other.
fn id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number ^ 0x1d).to_be_bytes());
    id[8..].copy_from_slice(&mix(number ^ 0xd1).to_be_bytes());
    (id[6], id[8]) = (0x70 | id[6] & 0x0f, 0x80 | id[8] & 0x3f);
    id
}

impl Rows {
    fn of(server: &Server) -> Self {
        let db = store::open(server, "strongroom.db");
        let one = |sql: &str| {
            db.query_row(sql, (), |row| row.get::<_, [u8; 16]>(0))
                .unwrap()
        };
        let org = one("SELECT id FROM orgs");
        let wrapped: Vec<u8> = db
            .query_row("SELECT wrapped FROM org_keys", (), |row| row.get(0))
            .unwrap();
        let aad = Aad {
            table: "org_keys",
            column: "wrapped",
            org: Some(strongroom::model::id::OrgId(uuid::Uuid::from_bytes(org))),
            object: &org,
            version: 1,
        };
        let key = envelope::open(&store::kek(server), &aad, &wrapped).unwrap();
        Self {
            org,
            owner: one("SELECT id FROM clients"),
            key: Key::from_slice(key.expose()).unwrap(),
            there: 0,
        }
    }

    /// As the store's own commands write them; indexes are made again at the end, which is quicker.
    fn grow(&mut self, server: &Server, to: u64) {
        let mut db = store::open(server, "strongroom.db");
        db.execute_batch(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000; PRAGMA temp_store = MEMORY;",
        )
        .unwrap();
        let indexes = Indexes::drop(&db);
        let mut numbers: Vec<u64> = (self.there..to).collect();
        numbers.sort_unstable_by_key(|number| id(*number));
        for numbers in numbers.chunks(STEP as usize) {
            let tx = db.transaction().unwrap();
            for number in numbers {
                self.insert(&tx, *number);
            }
            tx.commit().unwrap();
        }
        db.execute(
            "UPDATE orgs SET deposits = (SELECT count(*) FROM deposits)",
            (),
        )
        .unwrap();
        indexes.make(&db);
        self.there = to;
    }

    fn insert(&self, db: &Connection, number: u64) {
        let (id, name) = (id(number), name(number));
        let time = 1_700_000_000_000_000 + i64::try_from(number).unwrap() * 1_000_000;
        let mut plain = vec![0];
        plain.extend((0..BODY).map(|at| (number as usize + at) as u8));
        let aad = Aad {
            table: "deposit_versions",
            column: "body",
            org: Some(strongroom::model::id::OrgId(uuid::Uuid::from_bytes(
                self.org,
            ))),
            object: &id,
            version: 1,
        };
        let body = envelope::seal(&self.key, 1, &aad, &plain).unwrap();
        let labels = match number % LABELLED {
            0 => r#"{"use":"growth"}"#,
            _ => "{}",
        };
        db.prepare_cached("INSERT INTO deposits (id, org, name, owner, version, size, encryption, content_type, description, labels, created, modified) VALUES (?1, ?2, ?3, ?4, 1, ?5, 'none', 'application/octet-stream', '', ?6, ?7, ?7)")
            .unwrap()
            .execute((id, self.org, &name, self.owner, BODY as i64, labels, time))
            .unwrap();
        db.prepare_cached("INSERT INTO deposit_versions (deposit, version, size, encryption, content_type, created, created_by, parts, body) VALUES (?1, 1, ?2, 'none', 'application/octet-stream', ?3, 'growth', NULL, ?4)")
            .unwrap()
            .execute((id, BODY as i64, time, body))
            .unwrap();
        if number.is_multiple_of(LABELLED) {
            db.prepare_cached("INSERT INTO deposit_labels (deposit, label, org, value, name) VALUES (?1, 'use', ?2, 'growth', ?3)")
                .unwrap()
                .execute((id, self.org, &name))
                .unwrap();
        }
    }
}

/// The indexes of the tables that grow.
struct Indexes(Vec<String>);

impl Indexes {
    fn drop(db: &Connection) -> Self {
        let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('deposits', 'deposit_versions', 'deposit_labels')").unwrap();
        let found: Vec<(String, String)> = statement
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        drop(statement);
        for (name, _) in &found {
            db.execute(&format!("DROP INDEX {name}"), ()).unwrap();
        }
        Self(found.into_iter().map(|(_, sql)| sql).collect())
    }

    fn make(&self, db: &Connection) {
        for sql in &self.0 {
            db.execute(sql, ()).unwrap();
        }
    }
}

struct Fetched {
    get_p50: f64,
    put_rate: f64,
}

impl Fetched {
    fn measure(ours: &Ours, sizes: &Sizes, count: u64) -> Self {
        let plan = |connections| Plan {
            connections,
            warm_up: Duration::from_secs(1).min(sizes.time),
            time: sizes.time,
        };
        let get: Ask = Arc::new(move |number, request| {
            let name = name(mix(number ^ 0xbeef) % count);
            let head = format!("GET /{DEPOSITS}/{name} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            request.extend_from_slice(head.as_bytes());
        });
        let put: Ask = Arc::new(move |number, request| {
            let name = name(mix(number) | 1 << 63);
            let head = format!(
                "PUT /{DEPOSITS}/p{name} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n"
            );
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(&[b'x'; BODY]);
        });
        let (mut p50, mut rates) = (Vec::new(), Vec::new());
        for round in 0..sizes.rounds {
            let fetched = load::requests(&ours.target, &plan(1), round * 1_000_000, &get);
            let stored = load::requests(
                &ours.target,
                &plan(64.min(sizes.idle)),
                count + round * 10_000_000,
                &put,
            );
            for outcome in [&fetched, &stored] {
                assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
            }
            p50.push(fetched.p50_micros);
            rates.push(stored.per_second);
        }
        eprintln!(
            "bench: {count} deposits: GET p50 {:.0} us, PUT {:.0}/s",
            median(&p50),
            median(&rates)
        );
        Self {
            get_p50: median(&p50),
            put_rate: median(&rates),
        }
    }
}

/// Milliseconds.
struct Listed {
    /// First, middle, last.
    pages: [f64; 3],
    slowest_filter: f64,
}

impl Listed {
    fn measure(server: &Server, count: u64) -> Self {
        let mut socket = server.socket();
        let base = "/v1/orgs/acme/deposits?limit=100";
        let middle = Cursor {
            list: "deposits/name",
            direction: Direction::Next,
            position: vec![Part::Text("g-8".to_owned())],
        };
        let pages = [
            base.to_owned(),
            format!("{base}&cursor={}", middle.encode()),
            format!("{base}&page=last"),
        ];
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..21 {
            for (times, path) in times.iter_mut().zip(&pages) {
                times.push(answered(&mut socket, path, Some(100.min(count / 4))));
            }
        }
        let some = name(count / 2);
        let filters = [
            format!("name = '{some}'"),
            format!("name != '{some}'"),
            "name ^ 'g-7'".to_owned(),
            "name ~ '7f7f7'".to_owned(),
            format!("name in ('{some}', 'x')"),
            "label.use = 'growth'".to_owned(),
            "label.use = 'other'".to_owned(),
            "size > 5000".to_owned(),
            "version > 1".to_owned(),
            "modified > -1h".to_owned(),
            "modified < 2024-01-01T00:00:00Z".to_owned(),
            "not (size < 5000)".to_owned(),
            "description ~ 'x' or content_type ~ 'y'".to_owned(),
        ];
        let slowest = filters.iter().map(|filter| {
            let encoded: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
            let path = format!("{base}&filter={encoded}");
            // The first answer: nothing of it was read before.
            let first = answered(&mut socket, &path, None);
            eprintln!("bench: {count} deposits: {filter}: {first:.1} ms");
            first
        });
        let slowest_filter = slowest.fold(0.0, f64::max);
        Self {
            pages: times.map(|times| median(&times)),
            slowest_filter,
        }
    }
}

fn answered(socket: &mut wire::Connection, path: &str, rows: Option<u64>) -> f64 {
    let started = Instant::now();
    let answer = socket.get(path);
    let took = started.elapsed().as_secs_f64() * 1e3;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    if let Some(rows) = rows {
        let page: Value = answer.json();
        assert!(
            page["items"].as_array().unwrap().len() as u64 >= rows,
            "{path}"
        );
    }
    took
}
