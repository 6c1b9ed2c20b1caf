//! Jobs made, cancelled, held and released, and the server killed meanwhile: each that was acknowledged
//! is there, ended once, and was held by one worker at a time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::run::options;
use crate::harness::{Dice, PATIENCE, Server, long, seed, until};
use crate::jobs::held_by_one_at_a_time;

const ORGS: [&str; 3] = ["a", "b", "c"];
const SCHEDULES: [&str; 4] = [
    "audit-checkpoint",
    "certificate-check",
    "pruning",
    "store-check",
];

/// What was acknowledged of a job.
#[derive(Default)]
struct Known {
    cancelled_waiting: bool,
    tried_again: bool,
}

fn jobs(server: &Server, filter: &str) -> Vec<Value> {
    let list = server.json(&["job", "list", "-F", filter]);
    list["items"].as_array().unwrap().clone()
}

/// One command of an operator; what it acknowledged goes into the ledger.
fn operate(server: &Server, dice: &mut Dice, known: &mut BTreeMap<String, Known>) {
    let pick = |dice: &mut Dice, jobs: &[Value]| -> Option<String> {
        let at = usize::try_from(dice.below(u64::try_from(jobs.len()).ok()?.max(1))).unwrap();
        Some(jobs.get(at)?["id"].as_str().unwrap().to_owned())
    };
    let org = ORGS[usize::try_from(dice.below(3)).unwrap()];
    let schedule = SCHEDULES[usize::try_from(dice.below(4)).unwrap()];
    match dice.below(12) {
        0..4 => {
            let key = server.json(&["org", "rotate-key", org]);
            let id = key["rotation"]["job"].as_str().unwrap().to_owned();
            known.insert(id, Known::default());
        }
        4..7 => {
            let job = server.json(&["schedule", "run", schedule]);
            known.insert(job["id"].as_str().unwrap().to_owned(), Known::default());
        }
        7 => {
            let open = jobs(server, "state in (queued, held, pending, running)");
            if let Some(id) = pick(dice, &open) {
                let done = server.cli(&["--json", "job", "cancel", &id]);
                if done.status == 0 && done.json()["state"] == "cancelled" {
                    known.entry(id).or_default().cancelled_waiting = true;
                }
            }
        }
        8 => {
            let over = jobs(server, "state in (failed, cancelled)");
            if let Some(id) = pick(dice, &over) {
                server.cli(&["job", "retry", &id]).ok();
                let it = known.entry(id).or_default();
                (it.tried_again, it.cancelled_waiting) = (true, false);
            }
        }
        9 => {
            let held = jobs(server, "state = held");
            if let Some(id) = pick(dice, &held) {
                // It may have begun meanwhile.
                server.cli(&["job", "release", &id]);
            }
        }
        10 => {
            let most = ["0", "1", "20"][usize::try_from(dice.below(3)).unwrap()];
            server
                .cli(&["setting", "set", "backend.maximum_processes", most])
                .ok();
        }
        _ => drop(
            server
                .cli(&[["resume"], ["drain"]][usize::try_from(dice.below(2)).unwrap()])
                .ok(),
        ),
    }
}

#[test]
fn jobs_that_are_killed_are_neither_lost_nor_doubled() {
    let kills: u32 = if long("soak") { 60 } else { 4 };
    let mut server = Server::start(options(None));
    for org in ORGS {
        let client = server.client(org, org);
        let mut wire = client.wire();
        for number in 0..150 {
            let path = format!("/v1/deposits/d{number}");
            wire.request("PUT", &path, &[], Some(&[7; 500])).ok(201);
        }
    }
    let mut dice = Dice::new(seed());
    let mut known = BTreeMap::new();
    let mut inside = 0;
    for _ in 0..kills {
        for _ in 0..=dice.below(8) {
            operate(&server, &mut dice, &mut known);
        }
        inside += u32::from(!jobs(&server, "state = running").is_empty());
        server.kill9();
        server.serve();
    }
    server.cli(&["resume"]).ok();
    server
        .cli(&["setting", "set", "backend.maximum_processes", "20"])
        .ok();
    until(PATIENCE * 3, || {
        jobs(&server, "state in (pending, queued, held, running)").is_empty()
    });
    let all = jobs(&server, "created > -1d");
    let scheduled = |job: &Value| job["created_by"].as_str().unwrap().starts_with("schedule ");
    let made = all.iter().filter(|job| !scheduled(job)).count();
    assert_eq!(made, known.len(), "{all:?}");
    for (id, known) in &known {
        let shown = server.json(&["job", "show", id]);
        held_by_one_at_a_time(&shown);
        let state = shown["job"]["state"].as_str().unwrap();
        match known.cancelled_waiting {
            true => assert_eq!(state, "cancelled", "{shown}"),
            false => assert!(["succeeded", "cancelled"].contains(&state), "{shown}"),
        }
        assert!(
            known.tried_again || shown["job"]["attempts"].as_u64().unwrap() <= 1,
            "{shown}"
        );
    }
    server.cli(&["audit", "verify"]).ok();
    server.stop();
    server
        .cli(&["doctor", "--key-file", server.path("key").to_str().unwrap()])
        .ok();
    let counts = json!({ "kill_9": kills, "while_jobs_ran": inside, "jobs": known.len(), "lost": 0, "doubled": 0 });
    println!("{counts}");
    super::found("jobs_killed", counts);
}
