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

/// MiB of deposits and of pages that are kept. The other connections keep up to 40 more.
struct Caches {
    deposits: u32,
    pages: u32,
}

const USUAL: Caches = Caches {
    deposits: 144,
    pages: 72,
};
/// 2 MiB for each of the four connections that read, on two processors; and as few deposits as can be.
const SMALL: Caches = Caches {
    deposits: 1,
    pages: 8,
};
/// As the manual has it for so many deposits, each of which is seldom read; 256 with the others.
const FOR_MANY: Caches = Caches {
    deposits: 16,
    pages: 200,
};

pub const LONG: Growth = Growth {
    rows: [10_000, 100_000, 1_000_000, 5_000_000],
};
pub const SHORT: Growth = Growth {
    rows: [200, 400, 600, 800],
};

/// Two servers side by side, asked in turn: what the machine does meanwhile meets both.
pub fn measure(sizes: &Sizes, growth: &Growth, report: &mut Report) {
    let (mut few, mut many) = (Grown::start(), Grown::start());
    few.grow(growth.rows[0], &USUAL, report);
    many.grow(growth.rows[2], &USUAL, report);
    for (name, ratio) in PAGES.into_iter().zip(pages(&few, &many)) {
        report.figure(name, ratio);
    }
    report.figure("slowest_filter_first_answer_ms", many.slowest_filter());
    few.grow(growth.rows[1], &SMALL, report);
    many.grow(growth.rows[3], &FOR_MANY, report);
    let (get, put) = rates(sizes, &few, &many);
    let used = Usage::of(many.ours.server.pid).resident_bytes;
    report.figure("resident_bytes_at_the_most_rows", used as f64);
    report.figure("rows_at_the_most", growth.rows[3] as f64);
    report.figure("get_p50_at_the_most_rows_to_few", get);
    report.figure("put_rate_at_the_most_rows_to_few", put);
}

/// A server whose rows were put there while it was stopped.
struct Grown {
    ours: Ours,
    rows: Rows,
}

impl Grown {
    fn start() -> Self {
        let mut ours = Ours::start();
        ours.server.stop();
        let rows = Rows::of(&ours.server);
        ours.serve_again();
        Self { ours, rows }
    }

    fn grow(&mut self, to: u64, caches: &Caches, report: &Report) {
        report.say(&format!("growing to {to} deposits"));
        self.ours.server.stop();
        self.rows.grow(&self.ours.server, to);
        keep(&self.ours.server, caches);
        self.ours.serve_again();
    }

    /// Milliseconds until the first answer of the slowest.
    fn slowest_filter(&self) -> f64 {
        let mut socket = self.ours.server.socket();
        let count = self.rows.there;
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
            let path = format!("{LIST}&filter={encoded}");
            // The first answer: nothing of it was read before.
            let first = answered(&mut socket, &path, None);
            eprintln!("bench: {count} deposits: {filter}: {first:.1} ms");
            first
        });
        slowest.fold(0.0, f64::max)
    }
}

fn keep(server: &Server, caches: &Caches) {
    for (key, mib) in [("deposits", caches.deposits), ("pages", caches.pages)] {
        let key = format!("cache.{key}_mib");
        server.cli(&["config", "set", &key, &mib.to_string()]).ok();
    }
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

/// Medians of what the rounds say: p50 of fetches and the rate of stores, of many to few.
fn rates(sizes: &Sizes, few: &Grown, many: &Grown) -> (f64, f64) {
    let plan = |connections| Plan {
        connections,
        warm_up: Duration::from_secs(1).min(sizes.time),
        time: sizes.time,
    };
    let load = |grown: &Grown, plan: &Plan, from: u64, ask: &Ask| {
        let outcome = load::requests(&grown.ours.target, plan, from, ask);
        assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
        outcome
    };
    let put: Ask = Arc::new(|number, request| {
        let name = name(mix(number) | 1 << 63);
        let head = format!(
            "PUT /{DEPOSITS}/p{name} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n"
        );
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(&[b'x'; BODY]);
    });
    let (mut gets, mut puts) = (Vec::new(), Vec::new());
    // Stores empty the readers' caches, so they come after all fetches.
    for round in 0..sizes.rounds {
        let [few, many] = [few, many].map(|grown| {
            let from = round * 1_000_000;
            let p50 = load(grown, &plan(1), from, &get(grown.rows.there)).p50_micros;
            eprintln!("bench: {} deposits: GET p50 {p50:.0} us", grown.rows.there);
            p50
        });
        gets.push(many / few);
    }
    for round in 0..sizes.rounds {
        let [few, many] = [few, many].map(|grown| {
            let from = grown.rows.there + round * 10_000_000;
            let rate = load(grown, &plan(64.min(sizes.idle)), from, &put).per_second;
            eprintln!("bench: {} deposits: PUT {rate:.0}/s", grown.rows.there);
            rate
        });
        puts.push(many / few);
    }
    (median(&gets), median(&puts))
}

/// A fetch of one of so many, at random.
fn get(count: u64) -> Ask {
    Arc::new(move |number, request| {
        let name = name(mix(number ^ 0xbeef) % count);
        let head = format!("GET /{DEPOSITS}/{name} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        request.extend_from_slice(head.as_bytes());
    })
}

const LIST: &str = "/v1/orgs/acme/deposits?limit=100";
const PAGES: [&str; 3] = [
    "list_first_page_many_to_few",
    "list_middle_page_many_to_few",
    "list_last_page_many_to_few",
];

/// The times of the first, the middle and the last page, of many to few.
fn pages(few: &Grown, many: &Grown) -> [f64; 3] {
    let middle = Cursor {
        list: "deposits/name",
        direction: Direction::Next,
        position: vec![Part::Text("g-8".to_owned())],
    };
    [
        LIST.to_owned(),
        format!("{LIST}&cursor={}", middle.encode()),
        format!("{LIST}&page=last"),
    ]
    .map(|path| {
        let mut sockets = [few, many].map(|grown| grown.ours.server.socket());
        let least = 100.min(few.rows.there / 4);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..41 {
            for (socket, times) in sockets.iter_mut().zip(&mut times) {
                times.push(answered(socket, &path, Some(least)));
            }
        }
        median(&times[1]) / median(&times[0])
    })
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
