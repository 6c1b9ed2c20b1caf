//! One writer: a connection that changes its own deposits, one change at a time, and knows after
//! each restart what must be there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls::ClientConfig;
use serde_json::Value;

use super::ledger::{self, Deposit, Op, Request};
use super::views::Views;
use crate::harness::wire::Connection;
use crate::harness::{Answer, Dice};

const NAMES: usize = 4;

/// What all threads of a round share.
pub struct Round<'a> {
    pub url: &'a str,
    /// Set before the server is killed: from then on a lost connection is no failure.
    pub killing: &'a AtomicBool,
    /// Set when the round ends without a kill.
    pub enough: &'a AtomicBool,
    pub acknowledged: &'a AtomicU64,
    pub views: &'a Views,
}

/// An acknowledged change, to be found in the audit.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub action: &'static str,
    pub object: String,
    pub version: Option<u32>,
    /// The request's id; none if an earlier try may have made the change.
    pub request: Option<String>,
}

/// A change whose answer was lost.
struct Pending {
    name: usize,
    op: Op,
    key: String,
}

pub struct Writer {
    number: u64,
    config: Arc<ClientConfig>,
    dice: Dice,
    names: Vec<(String, Option<Deposit>)>,
    pending: Option<Pending>,
    changes: u64,
    pub acknowledged: Vec<Acknowledged>,
    /// Changes whose answer was lost: found applied, found not applied.
    pub lost: (u64, u64),
}

/// Why a writer stopped.
pub enum Stop {
    /// The connection is gone.
    Gone(io::Error),
    /// What it found is wrong.
    Wrong(String),
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Writer {
    pub fn new(number: u64, seed: u64, config: Arc<ClientConfig>) -> Self {
        Self {
            number,
            config,
            dice: Dice::new(seed ^ (number << 32)),
            names: (0..NAMES)
                .map(|name| (format!("w{number:02}-{name}"), None))
                .collect(),
            pending: None,
            changes: 0,
            acknowledged: Vec::new(),
            lost: (0, 0),
        }
    }

    /// Checks everything, repeats what was in flight, then changes until the server is gone.
    pub fn work(&mut self, round: &Round<'_>) -> Result<(), String> {
        match self.run(round) {
            Ok(()) => Ok(()),
            Err(Stop::Gone(_)) if round.killing.load(Ordering::SeqCst) => Ok(()),
            Err(Stop::Gone(error)) => Err(format!(
                "writer {}: the connection was lost, and nobody killed the server: {error}",
                self.number
            )),
            Err(Stop::Wrong(what)) => Err(format!("writer {}: {what}", self.number)),
        }
    }

    fn run(&mut self, round: &Round<'_>) -> Result<(), Stop> {
        let mut connection = Connection::try_with_config(round.url, Arc::clone(&self.config))?;
        for name in 0..self.names.len() {
            self.check(&mut connection, name)?;
        }
        self.repeat(&mut connection, round)?;
        while !round.enough.load(Ordering::SeqCst) && !round.killing.load(Ordering::SeqCst) {
            let name = usize::try_from(self.dice.below(NAMES as u64)).unwrap();
            if self.dice.below(6) == 0 {
                self.check(&mut connection, name)?;
                continue;
            }
            self.changes += 1;
            let tag = (self.number + 1) << 40 | self.changes;
            let op = Op::choose(&mut self.dice, self.names[name].1.as_ref(), tag);
            let key = format!("w{}-{}", self.number, self.changes);
            self.change(&mut connection, round, Pending { name, op, key })?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        connection: &mut Connection,
        round: &Round<'_>,
        pending: Pending,
    ) -> Result<(), Stop> {
        let (name, there) = &self.names[pending.name];
        round.views.begin(name, there.as_ref(), &pending.op);
        let request = pending.op.request(name, there.as_ref());
        match send(connection, &request, Some(&pending.key)) {
            Ok(answer) => {
                let id = answer.header("strongroom-request-id").map(str::to_owned);
                self.settle(round, &pending, &answer, id)?;
                Ok(())
            }
            Err(error) => {
                self.pending = Some(pending);
                Err(error.into())
            }
        }
    }

    /// Takes an answer over.
    fn settle(
        &mut self,
        round: &Round<'_>,
        pending: &Pending,
        answer: &Answer,
        request: Option<String>,
    ) -> Result<(), String> {
        let (name, there) = &mut self.names[pending.name];
        let what = format!("{name}: {:?} (key {})", pending.op, pending.key);
        let status = pending.op.status(there.as_ref());
        if answer.status != status {
            return Err(format!("{what}: not {status}: {answer:?}"));
        }
        let mut after = pending.op.after(there.as_ref());
        if status < 300 {
            let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if let Some(after) = &mut after {
                let version = json["version"].as_u64();
                if version != Some(u64::from(after.newest())) {
                    return Err(format!("{what}: not version {}: {json}", after.newest()));
                }
                let id = json["id"].as_str().map(str::to_owned);
                if after.id.is_some() && after.id != id {
                    return Err(format!("{what}: another id than {:?}: {json}", after.id));
                }
                after.id = id;
            }
            let object = after
                .as_ref()
                .or(there.as_ref())
                .and_then(|it| it.id.clone());
            self.acknowledged.push(Acknowledged {
                action: pending.op.action(),
                object: object.ok_or_else(|| format!("{what}: no id: {json}"))?,
                version: matches!(pending.op, Op::Put { .. })
                    .then(|| after.as_ref().map_or(0, Deposit::newest)),
                request,
            });
            round.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        round.views.end(name, after.as_ref());
        *there = after;
        Ok(())
    }

    /// What was in flight when the server died: it may be there or not, but wholly, and the same
    /// key leads to one answer now.
    fn repeat(&mut self, connection: &mut Connection, round: &Round<'_>) -> Result<(), Stop> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let (name, there) = &self.names[pending.name];
        let request = pending.op.request(name, there.as_ref());
        let mut again = || send(connection, &request, Some(&pending.key));
        let answers = again().and_then(|first| Ok((first, again()?)));
        let (first, second) = match answers {
            Ok(answers) => answers,
            Err(error) => {
                self.pending = Some(pending);
                return Err(error.into());
            }
        };
        if (first.status, &first.body) != (second.status, &second.body) && first.status < 300 {
            let what = format!(
                "{name}: two answers to {:?}: {first:?}, {second:?}",
                pending.key
            );
            return Err(what.into());
        }
        self.settle(round, &pending, &first, None)?;
        self.check(connection, pending.name)
    }

    /// Compares one deposit with what must be there.
    fn check(&mut self, connection: &mut Connection, name: usize) -> Result<(), Stop> {
        let (text, there) = &self.names[name];
        let path = format!("/v1/deposits/{text}");
        let metadata = found(connection, &format!("{path}/metadata"))?;
        let versions = found(connection, &format!("{path}/versions"))?.unwrap_or_default();
        let before = ledger::compare(there.as_ref(), metadata.as_ref(), &versions);
        let mut is = there.clone();
        if let Some(pending) = self.pending.as_ref().filter(|it| it.name == name) {
            let after = pending.op.after(there.as_ref());
            match ledger::compare(after.as_ref(), metadata.as_ref(), &versions) {
                Ok(()) if before.is_err() => {
                    self.lost.0 += 1;
                    is = after;
                }
                Ok(()) => {}
                Err(what) if before.is_err() => {
                    let what = format!("{text}: {what}; in flight: {:?}", pending.op);
                    return Err(what.into());
                }
                Err(_) => self.lost.1 += 1,
            }
        } else {
            before.map_err(|what| format!("{text}: {what}"))?;
        }
        let Some(deposit) = is.filter(|deposit| !deposit.binned) else {
            return Ok(());
        };
        let newest = deposit.newest();
        let older = u32::try_from(self.dice.below(u64::from(newest)) + 1).unwrap();
        for version in [newest, older] {
            let url = format!("{path}?version={version}");
            let answer = connection.try_request("GET", &url, &[], None)?;
            let expected = deposit.versions[&version];
            let body = answer.status == 200 && answer.body.len() == expected.length;
            if !body || ledger::tag_of(&answer.body)? != expected.tag {
                let shown = (answer.status, answer.body.len(), answer.code());
                let what = format!("{text}: version {version} is not {expected:x?}: {shown:?}");
                return Err(what.into());
            }
        }
        Ok(())
    }

    /// Deposits that are there, those in the bin included.
    pub fn deposits(&self) -> usize {
        self.names
            .iter()
            .filter(|(_, there)| there.is_some())
            .count()
    }

    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }
}

/// The JSON at a path; none if nothing is there.
fn found(connection: &mut Connection, path: &str) -> Result<Option<Value>, Stop> {
    let answer = connection.try_request("GET", path, &[], None)?;
    match answer.status {
        200 => Ok(Some(answer.json())),
        404 => Ok(None),
        _ => Err(format!("GET {path}: {answer:?}").into()),
    }
}

pub fn send(
    connection: &mut Connection,
    request: &Request,
    key: Option<&str>,
) -> io::Result<Answer> {
    let mut headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let body = request
        .body
        .as_deref()
        .or((request.method == "POST").then_some(b""));
    connection.try_request(request.method, &request.path, &headers, body)
}
