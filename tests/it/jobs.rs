//! Jobs through the real program: claimed by one worker, taken up after a crash, held, released,
//! cancelled, tried again, followed.

use serde_json::Value;

use crate::harness::{Client, Opens, Options, PATIENCE, Server, store, tool, until, until_some};

const SET_PROCESSES: [&str; 3] = ["setting", "set", "backend.maximum_processes"];

fn processes(server: &Server, most: &str) {
    server.cli(&[&SET_PROCESSES[..], &[most]].concat()).ok();
}

/// An organization with so many deposits.
fn filled(server: &Server, org: &str, deposits: u32) -> Client {
    let client = server.client(org, org);
    let mut wire = client.wire();
    for number in 0..deposits {
        let path = format!("/v1/deposits/d{number:04}");
        wire.request("PUT", &path, &[], Some(&[7; 2_000])).ok(201);
    }
    client
}

/// Makes an organization's key anew; the job that works on it.
fn rotate(server: &Server, org: &str) -> String {
    let key = server.json(&["org", "rotate-key", org]);
    key["rotation"]["job"].as_str().unwrap().to_owned()
}

fn show(server: &Server, id: &str) -> Value {
    server.json(&["job", "show", id])
}

fn state(server: &Server, id: &str) -> String {
    show(server, id)["job"]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[track_caller]
fn becomes(server: &Server, id: &str, wanted: &str) {
    until(PATIENCE, || state(server, id) == wanted);
}

fn lines(shown: &Value) -> Vec<String> {
    shown["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Each generation began once, and each but the last was cut off before the next began.
pub fn held_by_one_at_a_time(shown: &Value) {
    let mut last = 0;
    let mut running = false;
    for line in lines(shown) {
        if let Some((_, generation)) = line.split_once("begins, generation ") {
            let generation: u64 = generation.parse().unwrap();
            assert!(generation > last && !running, "{shown}");
            (last, running) = (generation, true);
        } else if line.contains("taken up again")
            || line.contains("next start")
            || line.contains("next attempt")
            || line.starts_with("succeeded")
            || line.starts_with("cancelled")
        {
            running = false;
        }
    }
    if shown["job"]["state"] == "succeeded" {
        assert_eq!(shown["job"]["generation"].as_u64(), Some(last), "{shown}");
    }
}

#[test]
fn a_key_is_made_anew_by_a_job_that_kill_9_only_interrupts() {
    let mut server = Server::start(Options::default());
    // As shipped it is that much faster.
    let deposits = match std::env::var_os("STRONGROOM_BIN") {
        Some(_) => 10_000,
        None => 2_000,
    };
    let client = filled(&server, "acme", deposits);
    let id = rotate(&server, "acme");
    let mut kills = 0;
    while kills < 3 {
        // Over one connection: a command for each look would come too late.
        let mut wire = server.socket();
        let mut state = String::new();
        until(PATIENCE, || {
            let shown = wire.get(&format!("/v1/jobs/{id}")).ok(200).json();
            state = shown["job"]["state"].as_str().unwrap().to_owned();
            matches!(state.as_str(), "running" | "succeeded")
        });
        if state == "succeeded" {
            break;
        }
        server.kill9();
        server.serve();
        kills += 1;
    }
    assert!(kills > 0, "it was over before it was killed");
    becomes(&server, &id, "succeeded");
    let shown = show(&server, &id);
    held_by_one_at_a_time(&shown);
    let log = lines(&shown);
    let taken_up = log.iter().filter(|it| it.contains("taken up again"));
    let taken_up = taken_up.count();
    // The last kill may have come just after its end.
    assert!(
        taken_up > 0 && [kills, kills - 1].contains(&taken_up),
        "{kills} kills: {shown}"
    );
    // What a crash cuts off is no attempt that went wrong.
    assert_eq!(shown["job"]["attempts"], 1, "{shown}");
    assert_eq!(shown["job"]["done"], deposits, "{shown}");
    assert!(server.json(&["org", "key", "acme"])["rotation"].is_null());
    client.at(&server).wire().get("/v1/deposits/d1999").ok(200);
    server.cli(&["audit", "verify"]).ok();
}

#[test]
fn no_processes_hold_jobs_and_one_lets_one_run_at_once() {
    let server = Server::start(Options::default());
    for org in ["a", "b"] {
        filled(&server, org, 300);
    }
    processes(&server, "0");
    let jobs = ["a", "b"].map(|org| rotate(&server, org));
    for job in &jobs {
        becomes(&server, job, "held");
    }
    until(PATIENCE, || {
        server
            .health("/healthz")
            .text()
            .contains("backend.maximum_processes is 0")
    });
    // Upkeep has a lane of its own.
    server
        .cli(&["schedule", "run", "audit-checkpoint", "--wait"])
        .ok();
    // One of them, by name.
    server.cli(&["job", "release", &jobs[0]]).ok();
    becomes(&server, &jobs[0], "succeeded");
    assert_eq!(state(&server, &jobs[1]), "held");
    server.cli(&["job", "release", &jobs[0]]).fails(5);
    let third = rotate(&server, "a");
    becomes(&server, &third, "held");
    processes(&server, "1");
    // Never both.
    until(PATIENCE, || {
        let running = server.json(&["job", "list", "-F", "state = running and lane = management"]);
        assert!(running["items"].as_array().unwrap().len() <= 1, "{running}");
        state(&server, &jobs[1]) == "succeeded" && state(&server, &third) == "succeeded"
    });
    until(PATIENCE, || {
        !server
            .health("/healthz")
            .text()
            .contains("maximum_processes")
    });
    // By their times, too: the second began when the first was over.
    let [first, second] = [&jobs[1], &third].map(|id| show(&server, id)["job"].clone());
    assert!(
        first["ended"].as_str() <= second["started"].as_str(),
        "{first} {second}"
    );
}

#[test]
fn a_drained_server_stays_so_over_restarts() {
    let mut server = Server::start(Options::default());
    filled(&server, "acme", 50);
    let lanes = server.json(&["drain"]);
    assert_eq!(lanes["management"]["drained"], true, "{lanes}");
    assert_eq!(lanes["upkeep"]["drained"], false, "{lanes}");
    let job = rotate(&server, "acme");
    becomes(&server, &job, "held");
    for kill in [true, false] {
        match kill {
            true => server.kill9(),
            false => server.stop(),
        }
        server.serve();
        until(PATIENCE, || {
            let health = server.health("/healthz").text();
            health.contains("drained") && health.contains("strongroom resume")
        });
        assert_eq!(state(&server, &job), "held");
    }
    // Upkeep is held with --all alone.
    server.cli(&["schedule", "run", "pruning", "--wait"]).ok();
    server.cli(&["drain", "--all"]).ok();
    let held = server.json(&["schedule", "run", "pruning"]);
    let held = held["id"].as_str().unwrap();
    becomes(&server, held, "held");
    server.cli(&["resume"]).ok();
    becomes(&server, held, "succeeded");
    becomes(&server, &job, "succeeded");
    until(PATIENCE, || {
        !server.health("/healthz").text().contains("drained")
    });
    let audit = server.json(&["audit", "list", "-F", "action ~ server.", "--limit", "20"]);
    for action in ["server.drain", "server.resume"] {
        assert!(audit.to_string().contains(action), "{audit}");
    }
}

#[test]
fn a_job_is_cancelled_between_its_steps_and_tried_again() {
    let server = Server::start(Options::default());
    filled(&server, "acme", 2_000);
    let is_over = |id: &str| ["succeeded", "cancelled"].contains(&state(&server, id).as_str());
    // One that is over before it can be cancelled is begun again.
    let cancelled = || {
        let id = rotate(&server, "acme");
        until(PATIENCE, || {
            is_over(&id) || show(&server, &id)["job"]["done"].as_u64().unwrap() > 0
        });
        server.cli(&["job", "cancel", &id]);
        until(PATIENCE, || is_over(&id));
        (state(&server, &id) == "cancelled").then_some(id)
    };
    let id = until_some(PATIENCE, cancelled);
    let job = show(&server, &id)["job"].clone();
    let outcome = job["outcome"].as_str().unwrap();
    assert!(
        outcome.starts_with("cancelled; done: ") && outcome.ends_with(" of 2000 deposits"),
        "{job}"
    );
    server
        .cli(&["job", "cancel", &id])
        .fails(5)
        .says(&["is cancelled"]);
    until(PATIENCE, || {
        server.health("/healthz").text().contains("job retry")
    });
    server
        .cli(&["org", "rotate-key", "acme", "--wait"])
        .ok()
        .says(&["destroyed"]);
    // The newer one has done its work.
    server.cli(&["job", "retry", &id]).ok();
    server.cli(&["job", "watch", &id]).ok();
    let watched = show(&server, &id);
    assert_eq!(watched["job"]["state"], "succeeded", "{watched}");
    until(PATIENCE, || {
        !server.health("/healthz").text().contains("job retry")
    });
}

#[test]
fn what_waits_is_cancelled_by_the_old_command_and_what_runs_is_not() {
    let server = Server::start(Options::default());
    for org in ["a", "b", "c"] {
        filled(&server, org, 1);
    }
    processes(&server, "0");
    let jobs = ["a", "b", "c"].map(|org| rotate(&server, org));
    becomes(&server, &jobs[2], "held");
    let old = |args: &[&str]| {
        server
            .cli(&[&["as", "ssh-mgr-client"], args].concat())
            .ok()
            .text()
    };
    assert_eq!(
        old(&["cancel-jobs", "-F", "target = b"]),
        "1 jobs cancelled\n"
    );
    assert_eq!(state(&server, &jobs[1]), "cancelled");
    assert_eq!(old(&["cancel-jobs"]), "2 jobs cancelled\n");
    assert_eq!(old(&["cancel-jobs"]), "0 jobs cancelled\n");
    let job = show(&server, &jobs[0])["job"].clone();
    assert_eq!(job["state"], "cancelled");
    assert_eq!(
        job["outcome"],
        "cancelled before it began; nothing was done"
    );
    assert!(old(&["list-jobs", "-F", "state = cancelled"]).contains(&jobs[2]));
    // What was cancelled stays so over a restart, and is tried again by hand.
    processes(&server, "5");
    let bad = server.cli(&["as", "ssh-mgr-client", "cancel-jobs", "-F", "colour = red"]);
    bad.fails(2).says(&["state"]);
    server.cli(&["job", "retry", &jobs[0]]).ok();
    server.cli(&["job", "watch", &jobs[0]]).ok();
    assert_eq!(state(&server, &jobs[1]), "cancelled");
}

#[test]
fn the_list_takes_the_grammar_of_filters() {
    let server = Server::start(Options::default());
    filled(&server, "acme", 1);
    server.cli(&["org", "rotate-key", "acme", "--wait"]).ok();
    for schedule in ["pruning", "certificate-check"] {
        server.cli(&["schedule", "run", schedule, "--wait"]).ok();
    }
    let kinds = |filter: &str| -> Vec<String> {
        let list = server.json(&["job", "list", "-F", filter]);
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|job| job["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kinds("lane = management"), ["org_key_rotation"]);
    assert_eq!(
        kinds("target = acme and state = SUCCEEDED"),
        ["org_key_rotation"]
    );
    assert_eq!(
        kinds("schedule in (pruning, certificate-check)"),
        ["pruning", "certificate_check"]
    );
    assert_eq!(
        kinds("not (kind = pruning) and lane = upkeep"),
        ["certificate_check"]
    );
    assert_eq!(kinds("created > -1h and attempts = 1").len(), 3);
    assert_eq!(kinds("ended < -1h"), [""; 0]);
    server
        .cli(&["job", "list", "-F", "status = running"])
        .fails(2)
        .says(&["status", "state"]);
    let of_org = server.json(&["job", "list", "--org", "acme"]);
    assert_eq!(of_org["items"].as_array().unwrap().len(), 1, "{of_org}");
}

#[test]
fn curl_follows_a_job_from_any_line_on() {
    let server = Server::start(Options::default());
    filled(&server, "acme", 200);
    processes(&server, "0");
    let id = rotate(&server, "acme");
    becomes(&server, &id, "held");
    let token = server.token("superuser", &["all"]);
    let follow = |after: Option<&str>| {
        let url = format!("{}/v1/watch/jobs/{id}", server.gui_url);
        let mut curl = server
            .curl(&url)
            .header("authorization", &format!("Bearer {token}"));
        if let Some(after) = after {
            curl = curl.header("last-event-id", after);
        }
        String::from_utf8(curl.send().ok(200).body).unwrap()
    };
    let text = std::thread::scope(|scope| {
        let following = scope.spawn(|| follow(None));
        processes(&server, "20");
        following.join().unwrap()
    });
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let last = &events.last().unwrap()["job"];
    assert_eq!(last["state"], "succeeded", "{text}");
    assert_eq!(last["done"], 200, "{text}");
    let states: Vec<&str> = events
        .iter()
        .map(|event| event["job"]["state"].as_str().unwrap())
        .collect();
    assert!(states.contains(&"running"), "{states:?}");
    // Every line once, in order.
    let numbers: Vec<u64> = events
        .iter()
        .flat_map(|event| event["log"].as_array().unwrap())
        .map(|line| line["number"].as_u64().unwrap())
        .collect();
    let all = u64::try_from(numbers.len()).unwrap();
    assert_eq!(numbers, (1..=all).collect::<Vec<_>>());
    // From the last line on there is the end alone.
    let text = follow(Some(&all.to_string()));
    assert!(
        text.contains("\"log\":[]") && text.contains("succeeded"),
        "{text}"
    );
    let shown = server.cli(&["job", "watch", &id]).ok();
    assert!(shown.stderr.contains("succeeded"), "{shown:?}");
}

#[test]
fn a_terminal_shows_how_far_a_job_is() {
    let server = Server::start(Options::default());
    filled(&server, "acme", 2_000);
    processes(&server, "0");
    let id = rotate(&server, "acme");
    becomes(&server, &id, "held");
    let line = format!(
        "{} --data-dir {} job watch {id}",
        server.options.binary.display(),
        server.data.display()
    );
    let shown = std::thread::scope(|scope| {
        let watching = scope.spawn(|| tool("script", ["-qec", &line, "/dev/null"]));
        processes(&server, "20");
        watching.join().unwrap()
    });
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains("\r\x1b[K[#") && shown.contains("% ") && shown.contains("of 2000 deposits"),
        "{shown:?}"
    );
    // The bar is gone when it is over.
    let end = shown.rsplit("\x1b[K").next().unwrap();
    assert!(end.contains("succeeded") && !end.contains('['), "{shown:?}");
}

#[test]
fn an_administrator_of_an_organization_sees_its_jobs_alone() {
    let server = Server::start(Options::default());
    for org in ["acme", "other"] {
        filled(&server, org, 1);
        server.cli(&["org", "rotate-key", org, "--wait"]).ok();
    }
    server.cli(&["schedule", "run", "pruning", "--wait"]).ok();
    server.user(
        "of-acme",
        "a long enough password",
        &["org_administrator:acme"],
    );
    let token = server.token("of-acme", &["all"]);
    let get = |path: &str| {
        let url = format!("{}{path}", server.gui_url);
        let header = format!("Bearer {token}");
        server.curl(&url).header("authorization", &header).send()
    };
    let list = get("/v1/jobs").ok(200).json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{list}");
    assert_eq!(items[0]["target"], "acme");
    get(&format!("/v1/jobs/{}", items[0]["id"].as_str().unwrap())).ok(200);
    get("/v1/jobs?org=other").ok(403);
    let all = server.json(&["job", "list"]);
    for job in all["items"].as_array().unwrap() {
        if job["target"] != "acme" {
            let id = job["id"].as_str().unwrap();
            get(&format!("/v1/jobs/{id}")).ok(404);
            get(&format!("/v1/watch/jobs/{id}")).ok(404);
        }
    }
    get("/v1/lanes").ok(403);
    get("/v1/schedules").ok(403);
}

/// A job of a schedule that fails is told on the board until one succeeds.
#[test]
fn damage_that_the_nightly_check_finds_is_told_until_it_finds_none() {
    let mut server = Server::start(Options::default());
    server.client("acme", "acme");
    server
        .cli(&["schedule", "run", "store-check", "--wait"])
        .ok();
    let out = server.json(&["job", "list", "-F", "kind = store_check"]);
    assert_eq!(out["items"][0]["outcome"], "every page is sound", "{out}");
    server.stop();
    let db = store::open(&server, "strongroom.db");
    // An index that says something else than its table.
    db.execute_batch("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(parent, id)', '(created, id)') WHERE name = 'jobs_by_parent'; PRAGMA writable_schema = OFF").unwrap();
    drop(db);
    server.serve();
    server
        .cli(&["schedule", "run", "store-check", "--wait"])
        .fails(1)
        .says(&["strongroom doctor"]);
    until(PATIENCE, || {
        let health = server.health("/healthz").text();
        health.contains("store-check") && health.contains("red")
    });
    let failed = server.json(&["audit", "list", "-F", "action = job.failed"]);
    assert_eq!(failed["items"].as_array().unwrap().len(), 1, "{failed}");
    server.stop();
    let db = store::open(&server, "strongroom.db");
    db.execute_batch("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(created, id)', '(parent, id)') WHERE name = 'jobs_by_parent'; PRAGMA writable_schema = OFF").unwrap();
    drop(db);
    let db = store::open(&server, "strongroom.db");
    db.execute_batch("REINDEX jobs_by_parent").unwrap();
    drop(db);
    server.serve();
    // Over a restart it is still told.
    until(PATIENCE, || {
        server.health("/healthz").text().contains("store-check")
    });
    server
        .cli(&["schedule", "run", "store-check", "--wait"])
        .ok();
    until(PATIENCE, || {
        !server.health("/healthz").text().contains("store-check")
    });
}

/// The job of each kind, cut off by a crash while it waits or runs, is there afterwards and ends once.
#[test]
fn no_kind_of_job_is_lost_or_doubled_by_a_crash() {
    let mut server = Server::start(Options::default());
    filled(&server, "acme", 500);
    let schedules = [
        "audit-checkpoint",
        "certificate-check",
        "pruning",
        "store-check",
    ];
    let mut all = Vec::new();
    for round in 0..2 {
        all.push(rotate(&server, "acme"));
        for schedule in schedules {
            let made = server.json(&["schedule", "run", schedule]);
            all.push(made["id"].as_str().unwrap().to_owned());
        }
        if round == 0 {
            server.kill9();
            server.serve();
        }
    }
    server.kill9();
    server.serve();
    for id in &all {
        becomes(&server, id, "succeeded");
        held_by_one_at_a_time(&show(&server, id));
    }
    let list = server.json(&[
        "job",
        "list",
        "-F",
        "created_by != 'schedule audit-checkpoint'",
    ]);
    assert_eq!(list["items"].as_array().unwrap().len(), all.len(), "{list}");
}

/// A folder that an older program left in the middle of a rotation has no job for it yet.
#[test]
fn a_rotation_without_a_job_gets_one_at_the_start() {
    let mut server = Server::start(Options::default());
    filled(&server, "acme", 20);
    processes(&server, "0");
    let job = rotate(&server, "acme");
    becomes(&server, &job, "held");
    server.stop();
    store::open(&server, "strongroom.db")
        .execute_batch("DELETE FROM jobs; DELETE FROM job_logs")
        .unwrap();
    server.serve();
    let made = until_some(PATIENCE, || {
        let key = server.json(&["org", "key", "acme"]);
        key["rotation"]["job"].as_str().map(str::to_owned)
    });
    assert_ne!(made, job);
    processes(&server, "3");
    becomes(&server, &made, "succeeded");
    // Cancelled by hand, it is not begun again by a start.
    processes(&server, "0");
    let job = rotate(&server, "acme");
    becomes(&server, &job, "held");
    server.cli(&["job", "cancel", &job]).ok();
    server.restart();
    processes(&server, "3");
    let key = server.json(&["org", "key", "acme"]);
    assert_eq!(key["rotation"]["job_state"], "cancelled", "{key}");
    server
        .cli(&["org", "rotate-key", "acme", "--wait"])
        .ok()
        .says(&["destroyed"]);
}

#[test]
fn a_sealed_server_takes_jobs_up_again_when_it_is_opened() {
    let mut server = Server::start(Options {
        opens: Opens::Nothing,
        ..Options::default()
    });
    let key = server.path("key").to_str().unwrap().to_owned();
    server.cli(&["unseal", "--key-file", &key]).ok();
    filled(&server, "acme", 2_000);
    let job = rotate(&server, "acme");
    until(PATIENCE, || {
        show(&server, &job)["job"]["done"].as_u64().unwrap() > 0
    });
    server.cli(&["seal", "--yes"]).ok();
    until(PATIENCE, || {
        server.health("/healthz").text().contains("\"sealed\"")
    });
    server.cli(&["unseal", "--key-file", &key]).ok();
    becomes(&server, &job, "succeeded");
    held_by_one_at_a_time(&show(&server, &job));
    server.stop();
}
