//! Crashes: whatever was acknowledged is there afterwards, and nothing is half there. `make soak`
//! runs the long form and writes docs/measured/soak.json.

mod disk;
mod faults;
mod ledger;
mod run;
mod trace;
mod views;
mod writer;

use crate::harness::{long, measured, seed};
use run::{Plan, soak};

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let long = long("soak");
    let kills = match std::env::var("STRONGROOM_KILLS") {
        Ok(kills) => kills.parse().unwrap(),
        Err(_) if long => 300,
        Err(_) => 6,
    };
    let outcome = soak(Plan {
        kills,
        seed: seed(),
        defect: None,
    });
    println!("{}", outcome.counts());
    if long {
        let record = measured::Record {
            target: "soak",
            peers: serde_json::json!({}),
            counts: outcome.counts(),
            failures: outcome.failures.clone(),
        };
        measured::write(&record, &std::env::temp_dir());
    }
    assert!(outcome.failures.is_empty(), "{}", outcome.text(seed()));
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
}
