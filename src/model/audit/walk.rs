//! A walk along a chain of events that names the first fault. The store's own check and the check of
//! an export both use it. It knows no keys: who can write the whole chain can also make its hashes
//! anew, which only a tag or a checkpoint shows.

use std::collections::BTreeSet;
use std::fmt;

use super::{Chain, Event, FIRST_PREVIOUS, canonical};

/// SHA-256 of a previous hash and a canonical event.
pub type HashFn = fn(&[u8; 32], &[u8]) -> [u8; 32];

/// The first thing found wrong in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub chain: Chain,
    /// The first event that it concerns.
    pub number: u64,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It does not fit its hash, or its hash does not follow from the one before.
    Changed,
    /// It was there, and is no more.
    Removed,
    /// It was put in later.
    Inserted,
    /// It stands where another belongs.
    Reordered,
    /// The chain ends before it, and a checkpoint knows events up to `known`.
    CutOff { known: u64 },
    /// The chain is sound in itself, and a checkpoint has another hash for event `known`: this event,
    /// or a later one up to that, was changed and the hashes made anew.
    Rewritten { known: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, chain) = (self.number, self.chain.as_str());
        match self.kind {
            FaultKind::Changed => write!(f, "event {number} of {chain} was changed"),
            FaultKind::Removed => write!(f, "event {number} of {chain} was removed"),
            FaultKind::Inserted => write!(f, "event {number} of {chain} was inserted"),
            FaultKind::Reordered => write!(f, "event {number} of {chain} was reordered"),
            FaultKind::CutOff { known } => write!(
                f,
                "{chain} was cut off before event {number}; a checkpoint knows it up to event {known}"
            ),
            FaultKind::Rewritten { known } => write!(
                f,
                "{chain} was rewritten between event {number} and event {known}, where a checkpoint has another hash"
            ),
        }
    }
}

/// What a walk without a fault saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Events that were stepped over.
    pub events: u64,
    /// The last event; where the walk began if there was none.
    pub number: u64,
    pub hash: [u8; 32],
    /// The last event that an expected head vouches for; 0 if none does.
    pub proven_to: u64,
}

/// Give it the heads of checkpoints by `expect`, then each event by `step`, then `finish`.
pub struct ChainWalk {
    chain: Chain,
    hash: HashFn,
    /// The last event that holds, its hash, and the hash before that.
    last: u64,
    previous: [u8; 32],
    before: [u8; 32],
    events: u64,
    heads: BTreeSet<(u64, [u8; 32])>,
    proven_to: u64,
    /// An event that does not fit; the one after it tells why.
    suspect: Option<Row>,
    /// Found already; it stays.
    fault: Option<Fault>,
}

struct Row {
    number: u64,
    canonical: Vec<u8>,
    stored: [u8; 32],
}

/// How many events put in or taken out together, with the later ones numbered anew, are told from a
/// changed event.
const SHIFTS: u64 = 1_000;

impl ChainWalk {
    /// From the first event on.
    pub fn new(chain: Chain, hash: HashFn) -> Self {
        Self::after(chain, hash, 0, FIRST_PREVIOUS)
    }

    /// From the event after `number` on, whose hash is known: earlier ones have left.
    pub fn after(chain: Chain, hash: HashFn, number: u64, previous: [u8; 32]) -> Self {
        Self {
            chain,
            hash,
            last: number,
            previous,
            before: previous,
            events: 0,
            heads: BTreeSet::new(),
            proven_to: 0,
            suspect: None,
            fault: None,
        }
    }

    /// A checkpoint whose signature holds says so of this chain. Heads before the walk's beginning
    /// are passed over; give the others before the walk comes to them.
    pub fn expect(&mut self, number: u64, hash: [u8; 32]) {
        if number >= self.last && number > 0 {
            self.heads.insert((number, hash));
        }
    }

    /// The last event that an expected head vouches for so far; 0 if none does.
    pub fn proven_to(&self) -> u64 {
        self.proven_to
    }

    /// The next event: its number, its canonical form, and the hash kept with it.
    ///
    /// # Errors
    /// The first fault, sometimes one step late, since the event after it tells what was done; and the
    /// same one ever after.
    pub fn step(&mut self, number: u64, canonical: &[u8], stored: &[u8; 32]) -> Result<(), Fault> {
        self.so_far()?;
        let row = || Row {
            number,
            canonical: canonical.to_vec(),
            stored: *stored,
        };
        if let Some(suspect) = self.suspect.take() {
            let (number, kind) = self.explain(&suspect, &row());
            return self.fail(number, kind);
        }
        if number <= self.last {
            return self.fail(number, FaultKind::Inserted);
        }
        let fits = number == self.due()
            && canonical.starts_with(&canonical::begin(self.chain, number))
            && (self.hash)(&self.previous, canonical) == *stored;
        if !fits {
            self.suspect = Some(row());
            return Ok(());
        }
        self.before = std::mem::replace(&mut self.previous, *stored);
        self.last = number;
        self.events += 1;
        self.so_far()
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// As for `step`; also a chain that ends before an expected head.
    pub fn finish(&mut self) -> Result<Walked, Fault> {
        self.so_far()?;
        if let Some(suspect) = self.suspect.take() {
            let (number, kind) = match suspect.number > self.due() {
                true => (self.due(), FaultKind::Removed),
                false => self.explain_alone(&suspect),
            };
            return self.fail(number, kind);
        }
        if let Some((known, _)) = self.heads.last().copied() {
            return self.fail(self.due(), FaultKind::CutOff { known });
        }
        Ok(Walked {
            events: self.events,
            number: self.last,
            hash: self.previous,
            proven_to: self.proven_to,
        })
    }

    /// Compares the last event with what checkpoints say of it.
    fn so_far(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        while let Some((number, hash)) = self.heads.first().copied()
            && number == self.last
        {
            if hash != self.previous {
                return self.fail(self.proven_to + 1, FaultKind::Rewritten { known: number });
            }
            self.proven_to = number;
            self.heads.pop_first();
        }
        Ok(())
    }

    fn fail<T>(&mut self, number: u64, kind: FaultKind) -> Result<T, Fault> {
        let fault = Fault {
            chain: self.chain,
            number,
            kind,
        };
        self.fault = Some(fault);
        Err(fault)
    }

    /// What the event after a suspect one tells of it: hashes that were kept still follow from each
    /// other under the numbers that their events once had.
    fn explain(&self, suspect: &Row, next: &Row) -> (u64, FaultKind) {
        let due = self.due();
        if suspect.number > due {
            return match (due..suspect.number).contains(&next.number) {
                true => (next.number, FaultKind::Reordered),
                false => (due, FaultKind::Removed),
            };
        }
        if let inserted @ (_, FaultKind::Inserted) = self.explain_alone(suspect) {
            return inserted;
        }
        if self.follows(&self.previous, next, due) {
            let swapped = self.follows(&next.stored, suspect, due + 1);
            let kind = if swapped {
                FaultKind::Reordered
            } else {
                FaultKind::Inserted
            };
            return (due, kind);
        }
        for shift in 0..=SHIFTS {
            let was = next.number.checked_add(shift);
            if was.is_some_and(|was| self.follows(&suspect.stored, next, was)) {
                let kind = if shift == 0 {
                    FaultKind::Changed
                } else {
                    FaultKind::Removed
                };
                return (due, kind);
            }
            let was = next.number.checked_sub(shift);
            if shift < due && was.is_some_and(|was| self.follows(&suspect.stored, next, was)) {
                return (due - shift, FaultKind::Inserted);
            }
        }
        (due, FaultKind::Changed)
    }

    /// What a suspect event tells by itself. It follows from the one before the last: then the last
    /// was put in, with a hash of its own.
    fn explain_alone(&self, suspect: &Row) -> (u64, FaultKind) {
        match self.events > 0 && self.follows(&self.before, suspect, self.last) {
            true => (self.last, FaultKind::Inserted),
            false => (self.due(), FaultKind::Changed),
        }
    }

    /// The number that comes next.
    fn due(&self) -> u64 {
        self.last.saturating_add(1)
    }

    /// Whether `row`, as event `number`, has the hash that follows from `previous`.
    fn follows(&self, previous: &[u8; 32], row: &Row, number: u64) -> bool {
        match Event::parse_canonical(&row.canonical) {
            Ok((_, _, event)) => {
                (self.hash)(previous, &event.canonical(self.chain, number)) == row.stored
            }
            Err(_) => false,
        }
    }
}
