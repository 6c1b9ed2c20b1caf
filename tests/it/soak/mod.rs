//! Crashes: whatever was acknowledged is there afterwards, and nothing is half there. `make soak`
//! runs the long form and writes docs/measured/soak.json.

mod backups;
mod certificates;
mod damage;
mod disk;
mod faults;
mod jobs;
mod ledger;
mod limit;
mod released;
mod restores;
mod rotation;
mod run;
mod trace;
mod views;
mod writer;

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::harness::{binary, long, measured, seed, tool};
use run::{Plan, soak};

/// What the other tests of the long form found; each that holds enters itself.
static FOUND: Mutex<BTreeMap<&str, Value>> = Mutex::new(BTreeMap::new());

/// Without these the long form is not complete.
const PARTS: [&str; 22] = [
    "access_log_sync_fails",
    "backups_cut_and_changed",
    "backups_killed",
    "certificates_replaced",
    "commit_without_room",
    "disk_filled_by_others",
    "disk_reserve",
    "jobs_killed",
    "planted_drop_event",
    "planted_early_answer",
    "planted_free_retrieval",
    "planted_roll_before_verify",
    "planted_roll_before_verify_by_job",
    "planted_stale_read",
    "planted_swap_before_check",
    "planted_sync_off",
    "restores_killed",
    "restores_killed_at_each_step",
    "retrieval_limit",
    "rotation_killed",
    "sync_fails",
    "sync_traced",
];

pub fn found(part: &'static str, what: Value) {
    assert!(PARTS.contains(&part));
    FOUND.lock().unwrap().insert(part, what);
}

// Last in the order of names: it writes the record.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = match (std::env::var("STRONGROOM_KILLS"), long("soak")) {
        (Ok(kills), _) => kills.parse().unwrap(),
        (Err(_), true) => 300,
        (Err(_), false) => 6,
    };
    let outcome = soak(Plan {
        kills,
        seed: seed(),
        defect: None,
    });
    println!("{}", outcome.counts());
    let mut failures = outcome.failures.clone();
    if long("soak") {
        let parts = FOUND.lock().unwrap().clone();
        let missing = PARTS.iter().filter(|part| !parts.contains_key(*part));
        failures.extend(missing.map(|part| format!("{part}: failed, or was left out")));
        let strace = String::from_utf8(tool("strace", ["--version"])).unwrap();
        measured::write(
            &measured::Record {
                target: "soak",
                peers: json!({ "strace": strace.lines().next() }),
                counts: json!({ "kill_9": outcome.counts(), "other": parts }),
                failures: failures.clone(),
            },
            &std::env::temp_dir(),
        );
    }
    assert!(
        failures.is_empty(),
        "{failures:?}\n{}",
        outcome.text(seed())
    );
    assert!(outcome.acknowledged > 0 && outcome.reads > 0);
}

#[test]
fn the_soak_catches_answers_before_the_commit() {
    let outcome = soak(Plan {
        kills: 40,
        seed: seed(),
        defect: Some("early-answer"),
    });
    println!("{}", outcome.text(seed()));
    assert!(!outcome.failures.is_empty());
    let caught = json!({ "caught_after_kills": outcome.kills, "first": outcome.failures[0] });
    found("planted_early_answer", caught);
}

#[test]
fn the_soak_catches_a_read_that_is_older_than_an_answer() {
    let outcome = soak(Plan {
        kills: 4,
        seed: seed(),
        defect: Some("stale-read"),
    });
    let text = outcome.text(seed());
    assert!(text.contains("came back after"), "{text}");
    let caught = json!({ "caught_after_kills": outcome.kills, "first": outcome.failures[0] });
    found("planted_stale_read", caught);
}

#[test]
fn the_soak_catches_a_dropped_event() {
    let outcome = soak(Plan {
        kills: 1,
        seed: seed(),
        defect: Some("drop-event"),
    });
    let text = outcome.text(seed());
    assert!(text.contains("0 events for the acknowledged"), "{text}");
    let caught = json!({ "caught_after_kills": outcome.kills, "first": outcome.failures[0] });
    found("planted_drop_event", caught);
}

#[test]
fn only_a_development_build_can_be_told_to_be_wrong() {
    let development = binary().to_str() == Some(env!("CARGO_BIN_EXE_strongroom"));
    let program = std::fs::read(binary()).unwrap();
    let name = b"STRONGROOM_PLANTED_DEFECT";
    let knows = program.windows(name.len()).any(|window| window == name);
    assert_eq!(knows, development && cfg!(debug_assertions));
}
