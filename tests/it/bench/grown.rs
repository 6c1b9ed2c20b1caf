//! A server with as many deposits as one likes. Its rows are put into the stopped server's store by
//! ourselves, as the server would have written them, since so many requests would take longer than all
//! that is measured.

use std::collections::HashMap;

use rusqlite::Connection;
use strongroom::crypto::envelope::{self, Aad};
use strongroom::model::id::OrgId;
use strongroom::secret::Key;

use super::mix;
use super::ours::Ours;
use super::report::Report;
use crate::harness::{Server, store};

/// Rows in a transaction.
const STEP: u64 = 50_000;
/// Every so many deposits carry the label that is looked for.
const LABELLED: u64 = 1_000;

/// MiB of deposits and of pages that are kept. The other connections keep up to 40 more.
pub struct Caches {
    pub deposits: u32,
    pub pages: u32,
}

pub const USUAL: Caches = Caches {
    deposits: 144,
    pages: 72,
};
/// 2 MiB for each of the four connections that read, on two processors; and as few deposits as can be.
pub const SMALL: Caches = Caches {
    deposits: 1,
    pages: 8,
};
/// As the manual has it for so many deposits, each of which is seldom read; 256 with the others.
pub const FOR_MANY: Caches = Caches {
    deposits: 16,
    pages: 200,
};

/// A server whose rows were put there while it was stopped.
pub struct Grown {
    pub ours: Ours,
    pub rows: Rows,
}

impl Grown {
    /// `bytes`: of each body.
    pub fn start(bytes: usize) -> Self {
        let mut ours = Ours::start();
        ours.server.stop();
        let rows = Rows::of(&ours.server, bytes);
        ours.serve_again();
        Self { ours, rows }
    }

    pub fn grow(&mut self, to: u64, caches: &Caches, report: &Report) {
        report.say(&format!("growing to {to} deposits"));
        self.ours.server.stop();
        self.rows.grow(&self.ours.server, to);
        keep(&self.ours.server, caches);
        self.ours.serve_again();
    }
}

fn keep(server: &Server, caches: &Caches) {
    for (key, mib) in [("deposits", caches.deposits), ("pages", caches.pages)] {
        let key = format!("cache.{key}_mib");
        server.cli(&["config", "set", &key, &mib.to_string()]).ok();
    }
}

pub struct Rows {
    org: [u8; 16],
    owner: [u8; 16],
    key: Key,
    /// Of a body.
    bytes: usize,
    pub there: u64,
}

pub fn name(number: u64) -> String {
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
    fn of(server: &Server, bytes: usize) -> Self {
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
            org: Some(OrgId(uuid::Uuid::from_bytes(org))),
            object: &org,
            version: 1,
        };
        let key = envelope::open(&store::kek(server), &aad, &wrapped).unwrap();
        Self {
            org,
            owner: one("SELECT id FROM clients"),
            key: Key::from_slice(key.expose()).unwrap(),
            bytes,
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

    fn body(&self, number: u64) -> Vec<u8> {
        (0..self.bytes)
            .map(|at| (number as usize + at) as u8)
            .collect()
    }

    /// As it is before it is sealed.
    fn plain(&self, body: &[u8]) -> Vec<u8> {
        [&[0], body].concat()
    }

    fn aad<'a>(&self, id: &'a [u8; 16]) -> Aad<'a> {
        Aad {
            table: "deposit_versions",
            column: "body",
            org: Some(OrgId(uuid::Uuid::from_bytes(self.org))),
            object: id,
            version: 1,
        }
    }

    /// How many of the deposits are there that were put there, and how many others with what `other` says
    /// that they hold, given a name; each byte for byte. `db`: a store of this server's, wherever it lies.
    pub fn found(&self, db: &Connection, mut other: impl FnMut(&str) -> Vec<u8>) -> (u64, u64) {
        let numbers: HashMap<[u8; 16], u64> = (0..self.there).map(|it| (id(it), it)).collect();
        let (mut ours, mut others) = (0, 0);
        let mut statement = db
            .prepare("SELECT d.id, d.name, v.body FROM deposits d JOIN deposit_versions v ON v.deposit = d.id AND v.version = d.version")
            .unwrap();
        let mut rows = statement.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let found: [u8; 16] = row.get(0).unwrap();
            let (named, sealed): (String, Vec<u8>) = (row.get(1).unwrap(), row.get(2).unwrap());
            let (expected, count) = match numbers.get(&found) {
                Some(number) => {
                    assert_eq!(named, name(*number));
                    (self.body(*number), &mut ours)
                }
                None => (other(&named), &mut others),
            };
            let plain = envelope::open(&self.key, &self.aad(&found), &sealed).unwrap();
            assert!(
                plain.expose()[..] == self.plain(&expected),
                "{named} holds something else"
            );
            *count += 1;
        }
        (ours, others)
    }

    fn insert(&self, db: &Connection, number: u64) {
        let (id, name) = (id(number), name(number));
        let time = 1_700_000_000_000_000 + i64::try_from(number).unwrap() * 1_000_000;
        let plain = self.plain(&self.body(number));
        let body = envelope::seal(&self.key, 1, &self.aad(&id), &plain).unwrap();
        let labels = match number % LABELLED {
            0 => r#"{"use":"growth"}"#,
            _ => "{}",
        };
        db.prepare_cached("INSERT INTO deposits (id, org, name, owner, version, size, encryption, content_type, description, labels, created, modified) VALUES (?1, ?2, ?3, ?4, 1, ?5, 'none', 'application/octet-stream', '', ?6, ?7, ?7)")
            .unwrap()
            .execute((id, self.org, &name, self.owner, self.bytes as i64, labels, time))
            .unwrap();
        db.prepare_cached("INSERT INTO deposit_versions (deposit, version, size, encryption, content_type, created, created_by, parts, body) VALUES (?1, 1, ?2, 'none', 'application/octet-stream', ?3, 'growth', NULL, ?4)")
            .unwrap()
            .execute((id, self.bytes as i64, time, body))
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
