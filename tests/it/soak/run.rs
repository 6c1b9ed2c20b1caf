//! Rounds of writing and killing, and what is checked after them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::views::Views;
use super::writer::{Acknowledged, Round, Writer};
use crate::harness::store::miscounted;
use crate::harness::{Dice, Options, Server, measured, run, until, wire};

pub const WRITERS: u64 = 16;
/// Clients that the writers share.
pub const CLIENTS: u64 = 4;
const READERS: u64 = 2;

pub struct Plan {
    pub kills: u64,
    pub seed: u64,
    /// What the server is told to do wrong (src/store/planted.rs); nothing of such a run is kept.
    pub defect: Option<&'static str>,
}

#[derive(Default)]
pub struct Outcome {
    pub failures: Vec<String>,
    pub kills: u64,
    pub kills_at_start: u64,
    pub acknowledged: u64,
    pub reads: u64,
    pub lost_applied: u64,
    pub lost_not_applied: u64,
    pub events: usize,
    /// Where the data folder of a failed run was copied to.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    pub fn counts(&self) -> Value {
        json!({
            "writers": WRITERS,
            "readers": READERS,
            "kills": self.kills,
            "kills_during_start": self.kills_at_start,
            "changes_acknowledged": self.acknowledged,
            "reads_checked": self.reads,
            "answers_lost_change_found": self.lost_applied,
            "answers_lost_change_not_found": self.lost_not_applied,
            "change_events_matched": self.events,
        })
    }

    pub fn text(&self, seed: u64) -> String {
        format!(
            "{}\nafter {} kills; data folder: {}; to repeat: make soak SEED={seed}",
            self.failures.join("\n"),
            self.kills,
            self.kept
                .as_ref()
                .map_or_else(|| "not kept".to_owned(), |path| path.display().to_string())
        )
    }
}

/// Only a development build can be told to be wrong.
pub fn options(defect: Option<&str>) -> Options {
    let mut options = Options::default();
    if defect.is_some() {
        options.binary = PathBuf::from(env!("CARGO_BIN_EXE_strongroom"));
    }
    options
}

pub fn planted(defect: &str) -> (String, String) {
    ("STRONGROOM_PLANTED_DEFECT".to_owned(), defect.to_owned())
}

/// Kills and starts the server, and ends at the first failure.
pub fn soak(plan: Plan) -> Outcome {
    let mut dice = Dice::new(plan.seed);
    let mut server = Server::start(options(plan.defect));
    let configs: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = server.client(&format!("c{number}"), "soak");
            let identity = (&*client.file("client.crt"), &*client.file("client.key"));
            wire::tls_config(&server.ca(), Some(identity))
        })
        .collect();
    let config = |number: u64| Arc::clone(&configs[usize::try_from(number % CLIENTS).unwrap()]);
    if let Some(defect) = plan.defect {
        server.options.env.push(planted(defect));
        server.restart();
        assert_eq!(server.health("/healthz").status, 503);
    }
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Writer::new(number, plan.seed, config(number)))
        .collect();
    let views = Views::default();
    let mut out = Outcome::default();
    while out.failures.is_empty() && out.kills < plan.kills {
        let target = 20 + dice.below(300);
        let readers: Vec<_> = (0..READERS)
            .map(|number| (config(number), dice.next()))
            .collect();
        round(
            &mut server,
            &mut writers,
            &views,
            readers,
            Some(target),
            &mut out,
        );
        out.kills += 1;
        if dice.below(6) == 0 {
            // Once more before it answers: while it takes the log over, or issues its leaf.
            server.launch();
            let end = Instant::now() + Duration::from_millis(5 + dice.below(250));
            until(Duration::from_secs(5), || Instant::now() >= end);
            server.kill_starting();
            out.kills += 1;
            out.kills_at_start += 1;
        }
        server.serve();
        let sum: usize = writers.iter().map(|it| it.acknowledged.len()).sum();
        println!(
            "{} of {} kills, {sum} changes acknowledged",
            out.kills, plan.kills
        );
    }
    if out.failures.is_empty() {
        round(
            &mut server,
            &mut writers,
            &views,
            Vec::new(),
            None,
            &mut out,
        );
        out.failures
            .extend(finish(&mut server, &writers, &mut out.events));
    }
    out.acknowledged = writers.iter().map(|it| it.acknowledged.len() as u64).sum();
    out.lost_applied = writers.iter().map(|it| it.lost.0).sum();
    out.lost_not_applied = writers.iter().map(|it| it.lost.1).sum();
    if !out.failures.is_empty() && plan.defect.is_none() {
        out.kept = Some(keep(&server, plan.seed));
    }
    out
}

/// Writers check and change until so many changes are acknowledged, then the server is killed; or
/// they check and repeat what was in flight, and nothing is killed.
fn round(
    server: &mut Server,
    writers: &mut [Writer],
    views: &Views,
    readers: Vec<(Arc<rustls::ClientConfig>, u64)>,
    target: Option<u64>,
    out: &mut Outcome,
) {
    let (killing, enough) = (AtomicBool::new(false), AtomicBool::new(target.is_none()));
    let acknowledged = AtomicU64::new(0);
    let url = server.client_url.clone();
    let round = Round {
        url: &url,
        killing: &killing,
        enough: &enough,
        acknowledged: &acknowledged,
        views,
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&killing);
        let working: Vec<_> = writers
            .iter_mut()
            .map(|writer| scope.spawn(|| writer.work(&round)))
            .collect();
        let reading: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(number, (config, seed))| {
                let round = &round;
                scope.spawn(move || views.read(number as u64, config, round, &mut Dice::new(seed)))
            })
            .collect();
        let verified = server.cli(&["--json", "audit", "verify"]);
        if verified.status != 0 {
            out.failures.push(format!("audit verify: {verified:?}"));
        }
        if let Some(target) = target {
            until(Duration::from_secs(120), || {
                acknowledged.load(Ordering::SeqCst) >= target
                    || working.iter().any(|thread| thread.is_finished())
            });
            killing.store(true, Ordering::SeqCst);
            server.kill9();
        }
        let ended = working
            .into_iter()
            .filter_map(|it| it.join().unwrap().err());
        out.failures.extend(ended);
        for reader in reading {
            match reader.join().unwrap() {
                Ok(reads) => out.reads += reads,
                Err(what) => out.failures.push(what),
            }
        }
    });
}

/// A round that panics must not leave its threads at work for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// At the end, when nothing is in flight: every change has its event, counters agree, and every page
/// and every reference of the files is sound.
fn finish(server: &mut Server, writers: &[Writer], events: &mut usize) -> Vec<String> {
    let mut failures = Vec::new();
    if writers.iter().any(Writer::has_pending) {
        failures.push("a change is still in flight".to_owned());
    }
    let acknowledged: Vec<&Acknowledged> = writers
        .iter()
        .flat_map(|writer| &writer.acknowledged)
        .collect();
    let exported = server.cli(&["audit", "export"]).ok().text();
    match check_events(&acknowledged, &exported) {
        Ok(found) => *events = found,
        Err(what) => failures.push(what),
    }
    let there: usize = writers.iter().map(Writer::deposits).sum();
    let counted = server.json(&["org", "show", "soak"])["deposits"].as_u64();
    if counted != Some(there as u64) {
        failures.push(format!(
            "{there} deposits are there, {counted:?} are counted"
        ));
    }
    server.stop();
    failures.extend(miscounted(server));
    let doctor = run(server
        .command()
        .args(["--json", "doctor", "--data-dir"])
        .arg(&server.data)
        .arg("--key-file")
        .arg(server.path("key")));
    let checks: Value = serde_json::from_slice(&doctor.stdout).unwrap_or_default();
    let sound = checks["checks"]
        .as_array()
        .or(checks.as_array())
        .is_some_and(|all| {
            all.iter()
                .any(|check| check["check"] == "integrity" && check["state"] == "green")
        });
    if !sound {
        failures.push(format!("the files are not sound: {doctor:?}"));
    }
    failures
}

/// Each acknowledged change of a deposit has exactly one event, and there is no other.
pub fn check_events(acknowledged: &[&Acknowledged], exported: &str) -> Result<usize, String> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut requests: HashMap<String, u32> = HashMap::new();
    for line in exported.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let event = if line["event"].is_object() {
            &line["event"]
        } else {
            &line
        };
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        if event["chain"] != "changes" || !text("action").starts_with("deposit.") {
            continue;
        }
        let object = event["object"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        *requests.entry(text("request")).or_default() += 1;
        found
            .entry((object, text("action")))
            .or_default()
            .push(text("detail"));
    }
    let mut expected: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for change in acknowledged {
        let detail = change
            .version
            .map_or_else(String::new, |it| format!("version {it}"));
        expected
            .entry((change.object.clone(), change.action.to_owned()))
            .or_default()
            .push(detail);
        if let Some(request) = &change.request {
            let count = requests.get(request).copied().unwrap_or(0);
            if count != 1 {
                return Err(format!("{count} events for the acknowledged {change:?}"));
            }
        }
    }
    for events in found.values_mut().chain(expected.values_mut()) {
        events.sort_unstable();
    }
    for key in found.keys().chain(expected.keys()) {
        let (is, should) = (found.get(key), expected.get(key));
        if is != should {
            return Err(format!("the events of {key:?} are {is:?}, not {should:?}"));
        }
    }
    Ok(found.values().map(Vec::len).sum())
}

/// Copies the data folder of a run that failed.
fn keep(server: &Server, seed: u64) -> PathBuf {
    let to = measured::root()
        .join("target")
        .join(format!("soak-failed-{seed}-{}", std::process::id()));
    std::fs::create_dir_all(&to).unwrap();
    run(Command::new("cp").arg("-a").arg(server.folder()).arg(&to)).ok();
    std::fs::write(to.join("seed"), format!("{seed}\n")).unwrap();
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_doubled_event_are_noticed() {
        let change = |request: Option<&str>| Acknowledged {
            action: "deposit.put",
            object: "o".to_owned(),
            version: Some(1),
            request: request.map(str::to_owned),
        };
        let line = r#"{"chain":"changes","action":"deposit.put","object":{"id":"o"},"request":"r","detail":"version 1"}"#;
        for change in [change(Some("r")), change(None)] {
            assert_eq!(check_events(&[&change], line), Ok(1));
            assert!(check_events(&[&change], "").is_err());
            assert!(check_events(&[&change], &format!("{line}\n{line}")).is_err());
        }
        assert!(check_events(&[], line).is_err());
    }
}
