//! What the server keeps in memory is exact: many read, by name and by id, as owner and as reader, while
//! writes, the bin, shares, limits and the disabling of a client race each other. Each answer has to be
//! one that some moment between question and answer allows; so none is older than a change that was
//! acknowledged before it was asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::harness::{Answer, Client, Dice, Options, PATIENCE, Server, seed, until, wire};

const DEPOSITS: usize = 6;
const CHANGES: usize = 40;
const READERS: usize = 10;
/// How often a limited deposit is fetched.
const LIMIT: u64 = 5;
const JSON: (&str, &str) = ("content-type", "application/json");

/// A deposit, as far as a fetch sees it.
#[derive(Clone, Debug)]
struct State {
    version: u32,
    binned: bool,
    shared: bool,
    limited: bool,
}

/// What was so from some moment between these two on.
#[derive(Clone, Debug)]
struct Since<T> {
    sent: Instant,
    answered: Instant,
    state: T,
}

/// What somebody read.
struct Read {
    asked: Instant,
    answered: Instant,
    deposit: usize,
    /// By the client that the owner shares with.
    by_reader: bool,
    status: u16,
    code: String,
    version: u32,
    whole: bool,
}

fn name(deposit: usize) -> String {
    format!("key{deposit}")
}

/// Some are longer than what is fetched without waiting for room.
fn body(deposit: usize, version: u32) -> Vec<u8> {
    let length = if deposit.is_multiple_of(3) {
        40_000
    } else {
        300
    };
    let mut body = format!("{} in version {version} ", name(deposit)).into_bytes();
    body.resize(length, b'.');
    body
}

fn put(wire: &mut wire::Connection, deposit: usize, version: u32) -> Answer {
    let path = format!("/v1/deposits/{}", name(deposit));
    wire.request("PUT", &path, &[], Some(&body(deposit, version)))
}

/// The states that may have been seen between two moments.
fn between<T>(history: &[Since<T>], asked: Instant, answered: Instant) -> impl Iterator<Item = &T> {
    history.iter().enumerate().filter_map(move |(at, since)| {
        let over = history
            .get(at + 1)
            .is_some_and(|next| next.answered < asked);
        (since.sent < answered && !over).then_some(&since.state)
    })
}

/// One change after the other of one deposit.
fn change(owner: &Client, reader: &str, deposit: usize, dice: &mut Dice) -> Vec<Since<State>> {
    let mut wire = owner.wire();
    let mut history: Vec<Since<State>> = Vec::new();
    let path = format!("/v1/deposits/{}", name(deposit));
    let with = json!({ "client": reader }).to_string();
    let limit = |limit: Option<u64>| json!({ "max_retrievals": limit }).to_string();
    for _ in 0..CHANGES {
        let mut state = history.last().map_or(first(), |since| since.state.clone());
        let mut send = |method: &str, below: &str, body: &str| {
            let path = format!("{path}{below}");
            let body = (!body.is_empty()).then_some(body.as_bytes());
            wire.request(method, &path, &[JSON], body)
        };
        let sent = Instant::now();
        let answer = match dice.below(10) {
            _ if state.binned => {
                state.binned = false;
                send("POST", "/undelete", "")
            }
            0 => {
                state.binned = true;
                send("DELETE", "", "")
            }
            1..4 => {
                state.shared = !state.shared;
                send(
                    "POST",
                    if state.shared { "/share" } else { "/unshare" },
                    &with,
                )
            }
            4..6 => {
                state.limited = !state.limited;
                let limit = limit(state.limited.then_some(LIMIT));
                send("PATCH", "/metadata", &limit)
            }
            _ => {
                state.version += 1;
                put(&mut wire, deposit, state.version)
            }
        };
        let answered = Instant::now();
        answer.ok(200);
        history.push(Since {
            sent,
            answered,
            state,
        });
    }
    history
}

/// As each deposit is before the race.
fn first() -> State {
    State {
        version: 1,
        binned: false,
        shared: false,
        limited: false,
    }
}

fn read(
    client: &Client,
    by_reader: bool,
    ids: &[String],
    dice: &mut Dice,
    (ended, reads): (&AtomicBool, &AtomicU64),
) -> Vec<Read> {
    let mut wire = client.wire();
    let mut seen = Vec::new();
    while !ended.load(Ordering::SeqCst) {
        let deposit = usize::try_from(dice.below(DEPOSITS as u64)).unwrap();
        let path = match dice.below(2) {
            0 => format!("/v1/deposits/{}", name(deposit)),
            _ => format!("/v1/deposits/id/{}", ids[deposit]),
        };
        let asked = Instant::now();
        let Ok(answer) = wire.try_request("GET", &path, &[], None) else {
            wire = client.wire();
            continue;
        };
        let answered = Instant::now();
        let version = answer.header("strongroom-version").unwrap_or("0");
        let version = version.parse().unwrap();
        seen.push(Read {
            asked,
            answered,
            deposit,
            by_reader,
            status: answer.status,
            code: answer.code(),
            version,
            whole: answer.status != 200 || answer.body == body(deposit, version),
        });
        reads.fetch_add(1, Ordering::SeqCst);
    }
    seen
}

/// Why an answer is one that no moment between question and answer allows, if it is.
fn fault(read: &Read, deposit: &[Since<State>], disabled: &[Since<bool>]) -> Option<String> {
    let states = || between(deposit, read.asked, read.answered);
    let was = |disabled_then: bool| {
        !read.by_reader
            || between(disabled, read.asked, read.answered).any(|it| *it == disabled_then)
    };
    let fits = match (read.status, read.code.as_str()) {
        (200, _) => {
            read.whole
                && was(false)
                && states().any(|it| it.version == read.version)
                && states().any(|it| !it.binned)
                && (!read.by_reader || states().any(|it| it.shared))
        }
        (403, "client_disabled") => read.by_reader && was(true),
        (403, "denied") => read.by_reader && states().any(|it| !it.shared),
        (403, "retrievals_used") => states().any(|it| it.limited),
        (404, _) => states().any(|it| it.binned),
        _ => false,
    };
    (!fits).then(|| {
        let who = if read.by_reader {
            "the reader"
        } else {
            "the owner"
        };
        format!(
            "{who} of {}: {} {} in version {} (whole: {}), while it was {:?}",
            name(read.deposit),
            read.status,
            read.code,
            read.version,
            read.whole,
            states().collect::<Vec<_>>()
        )
    })
}

/// Of fetches that were asked for and answered while a limit held, there are so many at most.
fn over_limit(reads: &[Read], deposit: usize, history: &[Since<State>]) -> Option<String> {
    let mut begin = None;
    let mut spans = Vec::new();
    for since in history {
        match (begin, since.state.limited) {
            (None, true) => begin = Some(since.answered),
            (Some(from), false) => {
                spans.push((from, since.sent));
                begin = None;
            }
            _ => {}
        }
    }
    spans.into_iter().find_map(|(from, to)| {
        let within =
            |read: &&Read| read.deposit == deposit && read.asked > from && read.answered < to;
        let count = reads
            .iter()
            .filter(within)
            .filter(|it| it.status == 200)
            .count() as u64;
        (count > LIMIT).then(|| format!("{}: {count} fetches of {LIMIT}", name(deposit)))
    })
}

/// What was wrong, and what each read met.
fn race(server: &Server, seed: u64) -> (Vec<String>, Vec<(u16, String)>) {
    let (owner, reader) = (
        server.client("owner", "acme"),
        server.client("reader", "acme"),
    );
    let fingerprint = reader.fingerprint();
    let mut dice = Dice::new(seed);
    let mut setup = owner.wire();
    let began = Instant::now();
    let ids: Vec<String> = (0..DEPOSITS)
        .map(|deposit| {
            let stored = put(&mut setup, deposit, 1).ok(201).json();
            stored["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let since = |state| Since {
        sent: began,
        answered: Instant::now(),
        state,
    };
    let begin = since(first());
    let mut disabled = vec![Since {
        sent: began,
        answered: Instant::now(),
        state: false,
    }];
    let (ended, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let (histories, seen) = thread::scope(|scope| {
        let reading: Vec<_> = (0..READERS)
            .map(|number| {
                let by_reader = !number.is_multiple_of(2);
                let client = if by_reader { &reader } else { &owner };
                let mut dice = Dice::new(dice.next());
                let (ids, count) = (&ids, (&ended, &reads));
                scope.spawn(move || read(client, by_reader, ids, &mut dice, count))
            })
            .collect();
        until(PATIENCE, || reads.load(Ordering::SeqCst) > 50);
        let changing: Vec<_> = (0..DEPOSITS)
            .map(|deposit| {
                let mut dice = Dice::new(dice.next());
                let (owner, fingerprint) = (&owner, fingerprint.as_str());
                scope.spawn(move || change(owner, fingerprint, deposit, &mut dice))
            })
            .collect();
        let mut socket = server.socket();
        while changing.iter().any(|thread| !thread.is_finished()) {
            for verb in ["disable", "enable"] {
                let more = reads.load(Ordering::SeqCst) + 20;
                until(PATIENCE, || reads.load(Ordering::SeqCst) > more);
                let path = format!("/v1/clients/{fingerprint}/{verb}");
                let sent = Instant::now();
                socket.request("POST", &path, &[], None).ok(200);
                disabled.push(Since {
                    sent,
                    answered: Instant::now(),
                    state: verb == "disable",
                });
            }
        }
        let more = reads.load(Ordering::SeqCst) + 100;
        until(PATIENCE, || reads.load(Ordering::SeqCst) > more);
        ended.store(true, Ordering::SeqCst);
        let histories: Vec<Vec<Since<State>>> = changing
            .into_iter()
            .map(|it| [vec![begin.clone()], it.join().unwrap()].concat())
            .collect();
        let seen: Vec<Read> = reading
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect();
        (histories, seen)
    });
    let mut wrong: Vec<String> = seen
        .iter()
        .filter_map(|read| fault(read, &histories[read.deposit], &disabled))
        .collect();
    let limits = histories.iter().enumerate();
    wrong.extend(limits.filter_map(|(deposit, history)| over_limit(&seen, deposit, history)));
    let met = seen.into_iter().map(|it| (it.status, it.code)).collect();
    (wrong, met)
}

#[test]
fn no_answer_is_older_than_a_change_that_was_acknowledged() {
    let server = Server::start(Options::default());
    let (wrong, met) = race(&server, seed());
    let reads = met.len();
    println!("seed {}: {reads} reads", seed());
    for (status, code) in [
        (200, ""),
        (403, "client_disabled"),
        (403, "denied"),
        (403, "retrievals_used"),
        (404, "in_bin"),
    ] {
        let found = met.iter().any(|it| (it.0, it.1.as_str()) == (status, code));
        assert!(found, "nobody met {status} {code}");
    }
    assert!(
        wrong.is_empty(),
        "seed {}: {} of {reads}: {}",
        seed(),
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
}

#[test]
fn the_race_catches_a_memory_that_is_not_outdated() {
    let options = Options {
        env: vec![(
            "STRONGROOM_PLANTED_DEFECT".to_owned(),
            "stale-read".to_owned(),
        )],
        binary: env!("CARGO_BIN_EXE_strongroom").into(),
        ..Options::default()
    };
    let (wrong, _) = race(&Server::start(options), seed());
    assert!(!wrong.is_empty());
}
