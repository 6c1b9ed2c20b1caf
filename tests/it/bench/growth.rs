//! How the store does as its rows grow: fetches and stores at five million deposits beside a hundred
//! thousand, lists and filters at a million beside ten thousand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom::model::page::{Cursor, Direction, Part};

use super::grown::{FOR_MANY, Grown, SMALL, USUAL, name};
use super::load::{self, Ask, Plan};
use super::process::Usage;
use super::report::{Report, median};
use super::rounds::Sizes;
use super::{DEPOSITS, mix};
use crate::harness::wire;

/// Of a body; what fits into a few pages more often than a kilobyte does.
const BODY: usize = 256;

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

/// Two servers side by side, asked in turn: what the machine does meanwhile meets both.
pub fn measure(sizes: &Sizes, growth: &Growth, report: &mut Report) {
    let (mut few, mut many) = (Grown::start(BODY), Grown::start(BODY));
    few.grow(growth.rows[0], &USUAL, report);
    many.grow(growth.rows[2], &USUAL, report);
    for (name, ratio) in PAGES.into_iter().zip(pages(&few, &many)) {
        report.figure(name, ratio);
    }
    report.figure("slowest_filter_first_answer_ms", slowest_filter(&many));
    few.grow(growth.rows[1], &SMALL, report);
    many.grow(growth.rows[3], &FOR_MANY, report);
    let (get, put) = rates(sizes, &few, &many);
    let used = Usage::of(many.ours.server.pid).resident_bytes;
    report.figure("resident_bytes_at_the_most_rows", used as f64);
    report.figure("rows_at_the_most", growth.rows[3] as f64);
    report.figure("get_p50_at_the_most_rows_to_few", get);
    report.figure("put_rate_at_the_most_rows_to_few", put);
}

/// Milliseconds until the first answer of the slowest.
fn slowest_filter(grown: &Grown) -> f64 {
    let mut socket = grown.ours.server.socket();
    let count = grown.rows.there;
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
