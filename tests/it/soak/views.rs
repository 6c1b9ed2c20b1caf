//! What readers may find while writers write: what was acknowledged, or what is in flight.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;

use super::ledger::{self, Deposit, Op};
use super::run::CLIENTS;
use super::writer::Round;
use crate::harness::Dice;
use crate::harness::wire::Connection;

#[derive(Clone, Default)]
struct View {
    /// Counts changes after which versions do not simply grow.
    epoch: u64,
    unsettled: bool,
    versions: HashMap<u32, u64>,
    newest: u32,
    in_flight: Option<u64>,
    binned: bool,
}

/// By name. A deposit is entered before its first change is sent.
#[derive(Default)]
pub struct Views(Mutex<HashMap<String, View>>);

impl Views {
    pub fn begin(&self, name: &str, there: Option<&Deposit>, op: &Op) {
        let mut views = self.0.lock().unwrap();
        let view = views.entry(name.to_owned()).or_default();
        if op.unsettles(there) {
            view.epoch += 1;
            view.unsettled = true;
        }
        if let Op::Put { bytes, .. } = op {
            view.in_flight = Some(bytes.tag);
        }
    }

    pub fn end(&self, name: &str, after: Option<&Deposit>) {
        let mut views = self.0.lock().unwrap();
        let view = views.entry(name.to_owned()).or_default();
        view.in_flight = None;
        view.unsettled = false;
        view.newest = after.map_or(0, Deposit::newest);
        view.binned = after.is_none_or(|deposit| deposit.binned);
        view.versions = after.map_or_else(HashMap::new, |deposit| {
            deposit
                .versions
                .iter()
                .map(|(version, bytes)| (*version, bytes.tag))
                .collect()
        });
    }

    fn look(&self, name: &str) -> View {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    /// The names of the writers that share this client; others are refused.
    fn of_client(&self, client: u64) -> Vec<String> {
        let views = self.0.lock().unwrap();
        let mut names: Vec<String> = views
            .keys()
            .filter(|name| name[1..3].parse::<u64>().unwrap() % CLIENTS == client)
            .cloned()
            .collect();
        names.sort_unstable();
        names
    }

    /// Reads now and then until the round ends; how often.
    pub fn read(
        &self,
        number: u64,
        config: Arc<ClientConfig>,
        round: &Round<'_>,
        dice: &mut Dice,
    ) -> Result<u64, String> {
        let mut reads = 0;
        let done = || round.enough.load(Ordering::SeqCst) || round.killing.load(Ordering::SeqCst);
        let lost = |error: io::Error| {
            if done() {
                Ok(())
            } else {
                Err(format!("reader {number}: lost the connection: {error}"))
            }
        };
        let mut connection = match Connection::try_with_config(round.url, config) {
            Ok(connection) => connection,
            Err(error) => return lost(error).map(|()| 0),
        };
        while !done() {
            let names: Vec<String> = self.of_client(number);
            if names.is_empty() {
                std::thread::yield_now();
                continue;
            }
            let name = &names[usize::try_from(dice.below(names.len() as u64)).unwrap()];
            let before = self.look(name);
            let answer =
                match connection.try_request("GET", &format!("/v1/deposits/{name}"), &[], None) {
                    Ok(answer) => answer,
                    Err(error) => return lost(error).map(|()| reads),
                };
            reads += 1;
            let version = answer
                .header("strongroom-version")
                .and_then(|it| it.parse().ok());
            let seen = (answer.status, version, answer.body.as_slice());
            allowed(&before, &self.look(name), seen)
                .map_err(|what| format!("reader {number}: {name}: {what}"))?;
        }
        Ok(reads)
    }
}

/// Whether a read that began at `before` and ended at `after` may have seen this.
fn allowed(before: &View, after: &View, seen: (u16, Option<u32>, &[u8])) -> Result<(), String> {
    let settled = !before.unsettled && !after.unsettled && before.epoch == after.epoch;
    match seen {
        (200, Some(version), body) => {
            let tag = ledger::tag_of(body)?;
            if !settled {
                return Ok(());
            }
            if version < before.newest {
                return Err(format!(
                    "version {version} came back after {} was acknowledged",
                    before.newest
                ));
            }
            let in_flight = before.in_flight == Some(tag) || after.in_flight == Some(tag);
            // Between the two looks a change may have begun, been read, and ended.
            let known = after.versions.get(&version).copied();
            if known == Some(tag) || (known.is_none() && in_flight) {
                return Ok(());
            }
            Err(format!(
                "version {version} with tag {tag:x} is neither acknowledged ({known:x?}) nor in flight ({:x?})",
                after.in_flight
            ))
        }
        (404, _, _) if !settled || before.binned => Ok(()),
        (status, _, body) => Err(format!(
            "status {status}: {}",
            String::from_utf8_lossy(&body[..body.len().min(300)])
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_of_what_nobody_wrote_is_noticed() {
        let settled = View {
            versions: HashMap::from([(1, 10), (2, 11)]),
            newest: 2,
            ..View::default()
        };
        let flying = View {
            in_flight: Some(12),
            ..settled.clone()
        };
        let see = |before: &View, after: &View, version, tag| {
            allowed(before, after, (200, Some(version), &ledger::body(tag, 40)))
        };
        assert!(see(&settled, &settled, 2, 11).is_ok());
        assert!(see(&flying, &flying, 3, 12).is_ok());
        assert!(see(&settled, &settled, 1, 10).is_err());
        assert!(see(&settled, &settled, 2, 10).is_err());
        assert!(see(&flying, &flying, 3, 13).is_err());
        let mut torn = ledger::body(11, 40);
        torn[30] ^= 1;
        assert!(allowed(&settled, &settled, (200, Some(2), &torn)).is_err());
        assert!(allowed(&settled, &settled, (404, None, b"")).is_err());
    }
}
