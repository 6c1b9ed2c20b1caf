//! Schedules through the real program: what is missed is made up for once, a clock that jumps makes
//! nothing twice, and what is wrong is told by its field.

use serde_json::Value;

use crate::harness::{Options, PATIENCE, Server, until};

/// A server whose clock stands at a point in time, and which has but one schedule that is not paused.
fn server_at(time: &str, cron: &str, zone: &str) -> Server {
    let mut server = Server::init(Options::stepped());
    server.clock(time);
    server.serve();
    for name in [
        "audit-checkpoint",
        "certificate-check",
        "pruning",
        "store-check",
    ] {
        server.cli(&["schedule", "pause", name]).ok();
    }
    let add = [
        "schedule",
        "add",
        "mine",
        "--kind",
        "certificate_check",
        "--tz",
        zone,
        "--cron",
        cron,
    ];
    server.cli(&add).ok();
    server
}

/// When the jobs of the schedule were due, in the order of these times.
fn due(server: &Server) -> Vec<String> {
    let list = server.json(&["job", "list", "-F", "schedule = mine"]);
    let jobs = list["items"].as_array().unwrap();
    let mut due: Vec<String> = jobs
        .iter()
        .map(|job| {
            let id = job["id"].as_str().unwrap();
            let shown = server.json(&["job", "show", id]);
            let line = shown["log"][0]["text"].as_str().unwrap().to_owned();
            line.strip_prefix("due at ").unwrap_or(&line).to_owned()
        })
        .collect();
    due.sort_unstable();
    due
}

#[track_caller]
fn becomes(server: &Server, expected: &[&str]) {
    until(PATIENCE, || due(server).len() >= expected.len());
    assert_eq!(due(server), expected);
    until(PATIENCE, || {
        let open = server.json(&[
            "job",
            "list",
            "-F",
            "schedule = mine and state != succeeded",
        ]);
        open["items"].as_array().unwrap().is_empty()
    });
}

/// The driver has looked at the clock: another schedule, which is always due in the next minute, has
/// made its job for this minute.
#[track_caller]
fn looked(server: &Server, marker: &str) {
    let add = [
        "schedule",
        "add",
        marker,
        "--kind",
        "audit_checkpoint",
        "--cron",
        "* * * * *",
    ];
    server.cli(&add).ok();
    let next = server.json(&["schedule", "show", marker])["next"][0].clone();
    let next = next.as_str().unwrap().replace('T', " ");
    server.clock(&format!("@{}", &next[..19]));
    let filter = format!("schedule = {marker}");
    until(PATIENCE, || {
        let made = server.json(&["job", "list", "-F", &filter]);
        !made["items"].as_array().unwrap().is_empty()
    });
    server.cli(&["schedule", "rm", marker, "--yes"]).ok();
}

#[test]
fn what_was_missed_while_the_server_was_off_is_made_up_for_once() {
    let mut server = server_at("@2027-03-10 12:00:00", "0 3 * * *", "UTC");
    server.stop();
    // Five nights later.
    server.clock("@2027-03-15 09:30:00");
    server.serve();
    becomes(&server, &["2027-03-15T03:00:00Z"]);
    // And not once more by a further start.
    server.restart();
    looked(&server, "after-start");
    becomes(&server, &["2027-03-15T03:00:00Z"]);
    server.clock("@2027-03-16 03:00:05");
    becomes(&server, &["2027-03-15T03:00:00Z", "2027-03-16T03:00:00Z"]);
}

#[test]
fn a_clock_that_jumps_makes_nothing_twice() {
    let mut server = server_at("@2027-06-01 11:50:00", "0 * * * *", "UTC");
    server.clock("@2027-06-01 12:00:10");
    becomes(&server, &["2027-06-01T12:00:00Z"]);
    // Back by half an hour, and through the same hour again.
    server.clock("@2027-06-01 11:30:00");
    looked(&server, "back");
    server.clock("@2027-06-01 12:00:10");
    looked(&server, "again");
    becomes(&server, &["2027-06-01T12:00:00Z"]);
    // On by two days: all that is missed is one.
    server.clock("@2027-06-03 08:10:00");
    becomes(&server, &["2027-06-01T12:00:00Z", "2027-06-03T08:00:00Z"]);
    // Back, over a restart: times that were passed over come at their time, those that made a job do not.
    server.stop();
    server.clock("@2027-06-01 12:59:00");
    server.serve();
    looked(&server, "restarted");
    server.clock("@2027-06-01 13:00:30");
    becomes(
        &server,
        &[
            "2027-06-01T12:00:00Z",
            "2027-06-01T13:00:00Z",
            "2027-06-03T08:00:00Z",
        ],
    );
}

#[test]
fn what_the_clocks_of_the_zone_skip_and_repeat_comes_once() {
    let server = server_at("@2027-03-27 22:00:00", "30 2 * * *", "Europe/Berlin");
    // From 02:00 to 03:00 on 28 March 2027, at 01:00 UTC.
    server.clock("@2027-03-28 01:00:10");
    becomes(&server, &["2027-03-28T01:00:00Z"]);
    server.clock("@2027-03-28 02:40:00");
    looked(&server, "skipped");
    becomes(&server, &["2027-03-28T01:00:00Z"]);
    // From 03:00 to 02:00 on 31 October 2027, at 01:00 UTC.
    server.cli(&["schedule", "pause", "mine"]).ok();
    server.clock("@2027-10-30 22:00:00");
    server.cli(&["schedule", "resume", "mine"]).ok();
    server.clock("@2027-10-31 00:30:05");
    let both = ["2027-03-28T01:00:00Z", "2027-10-31T00:30:00Z"];
    becomes(&server, &both);
    server.clock("@2027-10-31 01:35:00");
    looked(&server, "repeated");
    becomes(&server, &both);
}

#[test]
fn a_schedule_shows_its_next_five_times_and_can_be_changed() {
    let server = Server::start(Options::default());
    let next = |value: &Value| -> Vec<String> {
        let times = value["next"].as_array().unwrap().iter();
        times
            .map(|time| time.as_str().unwrap().to_owned())
            .collect()
    };
    let leap = ["--cron", "0 12 29 2 *", "--kind", "store_check"];
    let added = server.json(&[&["schedule", "add", "leap"], &leap[..]].concat());
    let leap_days =
        ["2028", "2032", "2036", "2040", "2044"].map(|year| format!("{year}-02-29T12:00:00Z"));
    assert_eq!(next(&added), leap_days);
    let edited = server.json(&["schedule", "edit", "leap", "--tz", "America/New_York"]);
    assert_eq!(next(&edited)[0], "2028-02-29T17:00:00Z");
    assert_eq!(edited["cron"], "0 12 29 2 *");
    let shown = server.cli(&["schedule", "show", "leap"]).ok().text();
    assert!(shown.contains("2044-02-29T17:00:00Z"), "{shown}");
    let paused = server.json(&["schedule", "pause", "leap"]);
    assert!(
        paused["paused"] == true && next(&paused).is_empty(),
        "{paused}"
    );
    server.cli(&["schedule", "resume", "leap"]).ok();
    let list = server.json(&["schedule", "list", "-F", "built_in = false"]);
    assert_eq!(list["items"][0]["name"], "leap");
    assert_eq!(next(&list["items"][0]).len(), 5);
    let text = server.cli(&["schedule", "list"]).ok().text();
    for name in [
        "audit-checkpoint",
        "certificate-check",
        "leap",
        "pruning",
        "store-check",
    ] {
        assert!(text.contains(name), "{text}");
    }
    server
        .cli(&[
            "schedule", "add", "leap", "--cron", "@daily", "--kind", "pruning",
        ])
        .fails(5)
        .says(&["`leap` already"]);
    server.cli(&["schedule", "rm", "leap", "--yes"]).ok();
    server.cli(&["schedule", "show", "leap"]).fails(4);
    // Those that are built in stay, and may be edited.
    server
        .cli(&["schedule", "rm", "pruning", "--yes"])
        .fails(5)
        .says(&["built in", "schedule pause pruning"]);
    let edited = server.json(&["schedule", "edit", "pruning", "--cron", "@weekly"]);
    assert_eq!(edited["built_in"], true);
    let audit = server.json(&["audit", "list", "-F", "action ~ schedule.", "--limit", "20"]);
    for action in ["add", "edit", "pause", "resume", "rm"] {
        assert!(
            audit
                .to_string()
                .contains(&format!("\"schedule.{action}\"")),
            "{audit}"
        );
    }
}

#[test]
fn what_was_changed_of_a_built_in_schedule_survives_a_restart() {
    let mut server = Server::start(Options::default());
    server
        .cli(&["schedule", "edit", "pruning", "--cron", "5 4 * * sun"])
        .ok();
    server.cli(&["schedule", "pause", "store-check"]).ok();
    server.restart();
    let list = server.json(&["schedule", "list"]);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 6, "{list}");
    let of = |name: &str| items.iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(of("pruning")["cron"], "5 4 * * sun");
    assert_eq!(of("store-check")["paused"], true);
}

#[test]
fn a_line_that_is_wrong_is_refused_by_its_field() {
    let server = Server::start(Options::default());
    let add = |cron: &str, zone: &str, kind: &str| {
        let args = [
            "schedule", "add", "x", "--cron", cron, "--tz", zone, "--kind", kind,
        ];
        server.cli(&args)
    };
    let pruning = "pruning";
    for (cron, parts) in [
        ("61 * * * *", &["the minute takes 0 to 59", "`61`"][..]),
        ("* 24 * * *", &["the hour"]),
        ("* * 32 * *", &["the day of month"]),
        ("* * * foo *", &["the month", "jan to dec"]),
        ("* * * * 8", &["the day of week"]),
        ("0 0 30 2 *", &["never comes"]),
        ("* * * *", &["five fields"]),
        ("@reboot", &["@hourly"]),
    ] {
        add(cron, "UTC", pruning).fails(2).says(parts);
    }
    add("@daily", "Mars/Phobos", pruning)
        .fails(2)
        .says(&["time zone", "Europe/Berlin"]);
    add("@daily", "UTC", "org_key_rotation")
        .fails(2)
        .says(&["store_check"]);
    // Over the API, too.
    let mut socket = server.socket();
    for (body, field, part) in [
        (
            r#"{"name":"x","kind":"pruning","cron":"* * * 13 *"}"#,
            "cron",
            "the month",
        ),
        (
            r#"{"name":"x","kind":"pruning","cron":"@daily","zone":"X/Y"}"#,
            "zone",
            "time zone",
        ),
        (
            r#"{"name":"x","kind":"org_key_rotation","cron":"@daily"}"#,
            "kind",
            "no schedule",
        ),
        (
            r#"{"name":"x","kind":"nothing","cron":"@daily"}"#,
            "kind",
            "kind",
        ),
        (
            r#"{"name":"x y","kind":"pruning","cron":"@daily"}"#,
            "name",
            "schedule's name",
        ),
    ] {
        let json = [("content-type", "application/json")];
        let answer = socket.request("POST", "/v1/schedules", &json, Some(body.as_bytes()));
        let refusal = answer.ok(400).json();
        assert_eq!(refusal["error"]["field"], field, "{refusal}");
        assert!(
            refusal["error"]["message"].as_str().unwrap().contains(part),
            "{refusal}"
        );
    }
    server
        .cli(&["schedule", "edit", "pruning"])
        .fails(2)
        .says(&["nothing to change"]);
}

/// A job that is not over does for the next times, too.
#[test]
fn jobs_of_a_schedule_do_not_pile_up_while_their_lane_is_held() {
    let server = server_at("@2027-06-01 11:50:00", "0 * * * *", "UTC");
    server.cli(&["drain", "--all"]).ok();
    for hour in 12..15 {
        server.clock(&format!("@2027-06-01 {hour}:00:05"));
        let due = format!("2027-06-01T{hour}:00:00Z");
        until(PATIENCE, || {
            server.json(&["schedule", "show", "mine"])["last_due"] == due.as_str()
        });
    }
    assert_eq!(due(&server), ["2027-06-01T12:00:00Z"]);
    server.cli(&["resume"]).ok();
    becomes(&server, &["2027-06-01T12:00:00Z"]);
    server.clock("@2027-06-01 15:00:05");
    becomes(&server, &["2027-06-01T12:00:00Z", "2027-06-01T15:00:00Z"]);
}

/// The hourly checkpoint comes by its schedule.
#[test]
fn the_audit_is_signed_each_hour() {
    let mut server = Server::init(Options::stepped());
    server.clock("@2027-06-01 11:50:00");
    server.serve();
    let signed = || {
        let list = server.json(&["audit", "list", "-F", "action = audit.checkpoint"]);
        list["items"].as_array().unwrap().len()
    };
    let before = signed();
    server.clock("@2027-06-01 12:00:05");
    until(PATIENCE, || signed() == before + 1);
}

#[test]
fn what_ended_long_ago_is_pruned() {
    let mut server = Server::init(Options::stepped());
    server.clock("@2027-06-01 11:50:00");
    server.serve();
    for _ in 0..3 {
        server
            .cli(&["schedule", "run", "certificate-check", "--wait"])
            .ok();
    }
    let old = || {
        let list = server.json(&["job", "list", "-F", "created < 2027-06-02T00:00:00Z"]);
        list["items"].as_array().unwrap().len()
    };
    assert_eq!(old(), 3);
    server.clock("@2027-08-20 00:00:00");
    server.cli(&["schedule", "run", "pruning", "--wait"]).ok();
    assert_eq!(old(), 3);
    server.clock("@2027-09-10 00:00:00");
    server.cli(&["schedule", "run", "pruning", "--wait"]).ok();
    assert_eq!(old(), 0);
    server.stop();
    let left: i64 = crate::harness::store::open(&server, "strongroom.db")
        .query_row(
            "SELECT count(*) FROM job_logs WHERE job NOT IN (SELECT id FROM jobs)",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}
