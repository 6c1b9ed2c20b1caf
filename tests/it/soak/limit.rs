//! A deposit that may be fetched a hundred times is never fetched a hundred and one times, however
//! often the server is killed while thirty-two ask for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::found;
use super::run::{options, planted};
use crate::harness::wire::Connection;
use crate::harness::{Client, Dice, Server, long, seed, until};

const ASKERS: usize = 32;
const LIMIT: u64 = 100;

#[derive(Default)]
struct Outcome {
    kills: u64,
    deposits: u64,
    /// Answers that came whole.
    answered: u64,
    /// Counted, and lost on the way.
    lost: u64,
    refused: u64,
    failures: Vec<String>,
}

impl Outcome {
    fn counts(&self) -> Value {
        json!({
            "askers": ASKERS,
            "limit": LIMIT,
            "kills": self.kills,
            "deposits": self.deposits,
            "answered": self.answered,
            "counted_and_lost": self.lost,
            "refused": self.refused,
        })
    }
}

/// What those who ask have seen of one deposit.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    refused: AtomicU64,
}

/// Asks until the connection is gone, or the deposit is used up.
fn ask(url: &str, config: &Arc<rustls::ClientConfig>, path: &str, body: &[u8], seen: &Seen) {
    let Ok(mut connection) = Connection::try_with_config(url, Arc::clone(config)) else {
        return;
    };
    while let Ok(answer) = connection.try_request("GET", path, &[], None) {
        match (answer.status, answer.code().as_str()) {
            (200, _) => {
                assert_eq!(answer.body, body);
                seen.answered.fetch_add(1, Ordering::SeqCst);
            }
            (403, "retrievals_used") => {
                seen.refused.fetch_add(1, Ordering::SeqCst);
                return;
            }
            (503, "stopping" | "outcome_unknown") => return,
            _ => panic!("{answer:?}"),
        }
    }
}

/// One deposit from its first retrieval to its last, with kills in between while some are wanted.
fn use_up(
    server: &mut Server,
    client: Client,
    name: &str,
    dice: &mut Dice,
    kills: u64,
    out: &mut Outcome,
) -> Client {
    let path = format!("/v1/deposits/{name}");
    let body = dice.bytes(2_000);
    let config = client.tls();
    let headers = [("strongroom-max-retrievals", "100")];
    let mut connection = Connection::with_config(&server.client_url, Arc::clone(&config));
    let stored = connection
        .request("PUT", &path, &headers, Some(&body))
        .ok(201)
        .json();
    drop(connection);
    let seen = Seen::default();
    while seen.refused.load(Ordering::SeqCst) == 0 {
        let url = server.client_url.clone();
        let enough = seen.answered.load(Ordering::SeqCst) + 1 + dice.below(14);
        let kill = out.kills < kills;
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..ASKERS)
                .map(|_| scope.spawn(|| ask(&url, &config, &path, &body, &seen)))
                .collect();
            if kill {
                until(Duration::from_secs(60), || {
                    seen.answered.load(Ordering::SeqCst) >= enough
                        || asking.iter().any(|asker| asker.is_finished())
                });
                server.kill9();
                out.kills += 1;
            }
        });
        if kill {
            server.serve();
        }
    }
    let client = client.at(server);
    let (answered, refused) = (seen.answered.into_inner(), seen.refused.into_inner());
    out.failures
        .extend(judge(server, &client, name, &stored["id"], answered));
    out.deposits += 1;
    out.answered += answered;
    out.refused += refused;
    out.lost += LIMIT.saturating_sub(answered);
    client
}

/// As many events as retrievals, none of them left, and no more answers than that.
fn judge(server: &Server, client: &Client, name: &str, id: &Value, answered: u64) -> Vec<String> {
    let shown = client.cli(&["--json", "deposit", "show", name]).ok().json();
    let filter = format!(
        "action = deposit.get and outcome = done and object = {}",
        id.as_str().unwrap()
    );
    let events = server.json(&["audit", "list", "--limit", "1000", "-F", &filter]);
    let events = events["items"].as_array().unwrap().len() as u64;
    let mut failures = Vec::new();
    if answered > LIMIT {
        failures.push(format!("{name}: {answered} answers"));
    }
    if events != LIMIT || shown["retrievals_left"] != 0 {
        failures.push(format!("{name}: {events} events, and {shown}"));
    }
    failures
}

fn soak(kills: u64, defect: Option<&str>) -> Outcome {
    let mut server = Server::start(options(defect));
    let mut client = server.client("a", "acme");
    if let Some(defect) = defect {
        server.options.env.push(planted(defect));
        server.restart();
        client = client.at(&server);
    }
    let mut dice = Dice::new(seed());
    let mut out = Outcome::default();
    while out.kills < kills && out.failures.is_empty() {
        let name = format!("d{}", out.deposits);
        client = use_up(&mut server, client, &name, &mut dice, kills, &mut out);
        println!("{}", out.counts());
    }
    server.cli(&["audit", "verify"]).ok();
    out
}

#[test]
fn a_limit_of_retrievals_holds_through_kill_9() {
    let kills = if long("soak") { 200 } else { 6 };
    let out = soak(kills, None);
    assert!(out.failures.is_empty(), "{:?}", out.failures);
    assert!(out.kills >= kills && out.answered > 50 && out.refused > 0);
    found("retrieval_limit", out.counts());
}

#[test]
fn the_soak_catches_a_retrieval_that_is_not_counted() {
    let out = soak(2, Some("free-retrieval"));
    assert!(!out.failures.is_empty());
    found(
        "planted_free_retrieval",
        json!({ "caught_after_kills": out.kills, "first": out.failures[0] }),
    );
}
