//! The audit: list, verify, export, checkpoints.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::access::{Action, Target};
use super::caller::{Context, Identity, Listener, Source};
use super::{ListQuery, Service, object};
use crate::api::audit::{ChainVerification, Verification};
use crate::clock::{self, Timestamp};
use crate::crypto::chain::{self, event_hash};
use crate::error::{Error, Result};
use crate::model::audit::{
    Chain, ChainWalk, ChainedEvent, Checkpoint, Event, ExportHeader, ExportLine, Head,
    SignedCheckpoint,
};
use crate::model::filter::Filter;
use crate::model::id::RequestId;
use crate::model::page::{self, Cursor, Direction, Page, Part};
use crate::store::{self, ChainState, ExportedCheckpoint};

const LIST: &str = "audit";
/// Events read at a time by verify and export.
const BATCH: usize = 2_000;

impl Service {
    /// Newest first, both chains by time.
    pub async fn audit_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<ChainedEvent>> {
        self.allow(
            ctx,
            Action::AuditRead,
            &Target::Server,
            "audit.list",
            object("audit", "", ""),
        )?;
        let limit = page::limit(query.limit)? as usize;
        let cursor = query.cursor.as_deref();
        let cursor = cursor.map(|text| Cursor::parse(LIST, text)).transpose()?;
        let filter: Filter<ChainedEvent> = Filter::parse(&query.filters, clock::now())?;
        let (changes_below, access_below) = match &cursor {
            Some(cursor) => (
                Some(cursor.number(0)?.unsigned_abs()),
                Some(cursor.number(1)?.unsigned_abs()),
            ),
            None => (None, None),
        };
        let only = filter.equals("chain").map(str::to_owned);
        let asked = |chain: Chain| only.as_deref().is_none_or(|only| only == chain.as_str());
        let changes = match asked(Chain::Changes) {
            true => {
                let filter = filter.clone();
                self.store.changes(changes_below, filter, limit).await?
            }
            false => store::Walked::nothing(),
        };
        self.store.access().flush().await?;
        let access = match asked(Chain::Access) {
            true => {
                let access = self.store.access();
                access.list(access_below, filter, limit).await?
            }
            false => store::Walked::nothing(),
        };
        Ok(merge(changes, access, limit))
    }

    /// Walks both chains from the first event that is here, with every hash, tag and checkpoint.
    pub async fn audit_verify(&self, ctx: &Context) -> Result<Verification> {
        self.allow(
            ctx,
            Action::AuditRead,
            &Target::Server,
            "audit.verify",
            object("audit", "", ""),
        )?;
        let _turn = self.segment_turn.read().await;
        self.store.access().flush().await?;
        let checkpoints = self.store.checkpoints().await?;
        let mut chains = Vec::new();
        for chain in [Chain::Changes, Chain::Access] {
            chains.push(self.verify_chain(chain, &checkpoints).await?);
        }
        Ok(Verification {
            chains,
            public_key: hex::encode(self.signer.public_key()),
        })
    }

    async fn verify_chain(
        &self,
        chain: Chain,
        checkpoints: &[ExportedCheckpoint],
    ) -> Result<ChainVerification> {
        let begins = match self.begins(chain).await {
            Ok(begins) => begins,
            Err(error) => return Ok(unfounded(chain, error)),
        };
        let mut walk = ChainWalk::after(chain, event_hash, begins.number, begins.hash);
        walk.expect(begins.number, begins.hash);
        let mut report = ChainVerification {
            chain,
            first: begins.number + 1,
            events: 0,
            head: String::new(),
            proven_to: 0,
            // Of the last segment, where none came after it.
            checkpoint_time: self
                .store
                .segments(chain)
                .await?
                .last()
                .map(|left| left.checkpoint.time),
            fault: None,
        };
        for kept in checkpoints {
            match self.checked(kept) {
                Ok(checkpoint) => {
                    for head in checkpoint.heads.iter().filter(|head| head.chain == chain) {
                        walk.expect(head.number, head.hash);
                    }
                    report.checkpoint_time = Some(checkpoint.time);
                }
                Err(error) => {
                    report.fault = Some(format!(
                        "the checkpoint of {} does not hold: {error}",
                        kept.time
                    ))
                }
            }
        }
        let end = self.end_of(chain)?;
        let mut from = begins.number + 1;
        while from <= end {
            let batch = self.chain_from(chain, from).await?;
            let Some(last) = batch.last() else { break };
            from = last.number + 1;
            for state in &batch {
                if let Some(fault) = self.step(&mut walk, chain, state) {
                    report.fault.get_or_insert(fault);
                    return Ok(report);
                }
                report.events += 1;
            }
        }
        match walk.finish() {
            Ok(walked) => {
                report.head = hex::encode(walked.hash);
                report.proven_to = walked.proven_to;
            }
            Err(fault) => {
                report.fault.get_or_insert(fault.to_string());
            }
        }
        Ok(report)
    }

    /// The last event there is now. Walks end here, or they would run after a busy server for ever.
    pub(super) fn end_of(&self, chain: Chain) -> Result<u64> {
        let head = match chain {
            Chain::Changes => self.store.changes_head()?,
            Chain::Access => self.store.access().head()?,
        };
        Ok(head.number)
    }

    /// One event: its hash, and its tag where there is one.
    pub(super) fn step(
        &self,
        walk: &mut ChainWalk,
        chain: Chain,
        state: &ChainState,
    ) -> Option<String> {
        if let Err(fault) = walk.step(state.number, &state.canonical, &state.hash) {
            return Some(fault.to_string());
        }
        match &state.tag {
            Some(tag) if !self.tagger.verify(&state.hash, tag) => Some(format!(
                "event {} of {} has a tag that is not this server's: the chain was made anew",
                state.number,
                chain.as_str()
            )),
            _ => None,
        }
    }

    /// A kept checkpoint, if its signature is ours.
    pub(super) fn checked(&self, kept: &ExportedCheckpoint) -> Result<Checkpoint> {
        let checkpoint: Checkpoint =
            serde_json::from_str(&kept.body).map_err(|error| Error::internal(error.to_string()))?;
        chain::verify(
            &self.signer.public_key(),
            &checkpoint.canonical(),
            &kept.signature,
        )?;
        Ok(checkpoint)
    }

    pub(super) async fn chain_from(&self, chain: Chain, from: u64) -> Result<Vec<ChainState>> {
        match chain {
            Chain::Changes => self.store.changes_from(from, BATCH).await,
            Chain::Access => self.store.access().from(from, BATCH).await,
        }
    }

    /// The export in pieces of whole lines; the channel ends with it.
    pub async fn audit_export(
        self: &std::sync::Arc<Self>,
        ctx: &Context,
    ) -> Result<mpsc::Receiver<Result<Vec<u8>>>> {
        self.allow(
            ctx,
            Action::AuditRead,
            &Target::Server,
            "audit.export",
            object("audit", "", ""),
        )?;
        self.checkpoint(ctx).await?;
        let (pieces, out) = mpsc::channel(4);
        let service = std::sync::Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = service.export_to(&pieces).await {
                let _ = pieces.send(Err(error)).await;
            }
        });
        Ok(out)
    }

    async fn export_to(&self, pieces: &mpsc::Sender<Result<Vec<u8>>>) -> Result<()> {
        let _turn = self.segment_turn.read().await;
        let gone = |_| Error::unavailable("gone", "the reader of the export went away");
        let mut begins = Vec::new();
        for chain in [Chain::Changes, Chain::Access] {
            begins.push(self.begins(chain).await?);
        }
        let header = ExportHeader::new(self.facts.instance, &self.signer.public_key());
        let header = ExportLine::Header(match begins.iter().any(|head| head.number > 0) {
            true => header.after(begins.clone()),
            false => header,
        });
        pieces.send(Ok(line(&header)?)).await.map_err(gone)?;
        // Checkpoints are read first: none then knows an event that the export lacks.
        let checkpoints = self.store.checkpoints().await?;
        for Head { chain, number, .. } in begins {
            let mut from = number + 1;
            let end = self.end_of(chain)?;
            while from <= end {
                let batch = self.chain_from(chain, from).await?;
                let Some(last) = batch.last() else { break };
                from = last.number + 1;
                let mut piece = Vec::new();
                for state in batch {
                    piece.extend(event_line(chain, &state)?);
                }
                pieces.send(Ok(piece)).await.map_err(gone)?;
            }
        }
        for kept in checkpoints {
            pieces
                .send(Ok(checkpoint_line(&kept)?))
                .await
                .map_err(gone)?;
        }
        Ok(())
    }

    /// Signs where both chains stand. Hourly, at the start, at the end and for every export.
    pub async fn checkpoint(&self, ctx: &Context) -> Result<()> {
        self.store.access().flush().await?;
        let now = clock::now();
        let head = |chain, head: store::Head| Head {
            chain,
            number: head.number,
            hash: head.hash,
        };
        let checkpoint = Checkpoint {
            instance: self.facts.instance,
            epoch: self.store.meta_number("epoch")?,
            timeline: self.store.meta_number("timeline")?,
            heads: vec![
                head(Chain::Changes, self.store.changes_head()?),
                head(Chain::Access, self.store.access().head()?),
            ],
            time: now,
        };
        let signature = self.signer.sign(&checkpoint.canonical());
        let body = serde_json::to_string(&checkpoint)
            .map_err(|error| Error::internal(error.to_string()))?;
        let mut change = self.change(
            ctx,
            "audit.checkpoint",
            object("audit", "checkpoint", ""),
            now,
        );
        change.once = None;
        change.event.detail = checkpoint
            .heads
            .iter()
            .map(|head| format!("{} {}", head.chain.as_str(), head.number))
            .collect::<Vec<_>>()
            .join(", ");
        log::info!(changes = checkpoint.heads[0].number, access = checkpoint.heads[1].number, signature = hex::encode(signature).as_str(); "audit checkpoint");
        self.store
            .put_checkpoint(
                change,
                ExportedCheckpoint {
                    number: 0,
                    time: now,
                    body,
                    signature: signature.to_vec(),
                },
            )
            .await
    }

    /// The server's own context, for upkeep.
    pub fn own_context() -> Context {
        Context {
            identity: Identity::Server,
            source: Source {
                listener: Listener::Socket,
                address: None,
            },
            request: RequestId::new(),
            reason: String::new(),
            idempotency: None,
        }
    }

    /// An event of the server's own: it started, it stops.
    pub async fn note(&self, verb: &str, detail: &str) -> Result<()> {
        let mut change = self.change(
            &Self::own_context(),
            verb,
            object("server", self.facts.instance, &self.facts.config.fqdn),
            clock::now(),
        );
        change.event.detail = detail.to_owned();
        self.store.note(change).await
    }
}

/// A chain whose beginning nothing vouches for.
fn unfounded(chain: Chain, error: Error) -> ChainVerification {
    ChainVerification {
        chain,
        first: 1,
        events: 0,
        head: String::new(),
        proven_to: 0,
        checkpoint_time: None,
        fault: Some(error.public),
    }
}

/// A stored event's line in an export.
pub(super) fn event_line(chain: Chain, state: &ChainState) -> Result<Vec<u8>> {
    let (_, number, event) = Event::parse_canonical(&state.canonical)?;
    line(&ExportLine::Event(ChainedEvent {
        chain,
        number,
        event,
        hash: hex::encode(state.hash),
    }))
}

/// A kept checkpoint's.
pub(super) fn checkpoint_line(kept: &ExportedCheckpoint) -> Result<Vec<u8>> {
    let checkpoint: Checkpoint =
        serde_json::from_str(&kept.body).map_err(|error| Error::internal(error.to_string()))?;
    let signature: [u8; 64] = kept
        .signature
        .as_slice()
        .try_into()
        .map_err(|_| Error::internal("a checkpoint's signature has another length"))?;
    line(&ExportLine::Checkpoint(SignedCheckpoint::new(
        checkpoint, &signature,
    )))
}

pub(super) fn line(line: &ExportLine) -> Result<Vec<u8>> {
    let mut text = line.write()?.into_bytes();
    text.push(b'\n');
    Ok(text)
}

/// The newest `limit` of both, and where each chain goes on. Within a chain the order is that of its
/// numbers: times may go back, and a page that went by them would leave events out.
fn merge(changes: store::Walked, access: store::Walked, limit: usize) -> Page<ChainedEvent> {
    let complete = changes.complete && access.complete;
    let (mut changes, mut access) = (Upcoming::of(changes), Upcoming::of(access));
    let mut items = Vec::new();
    while items.len() < limit {
        let from_changes = match (changes.next(), access.next()) {
            (None, None) => break,
            (Some(time), None) if access.hides(time) => break,
            (None, Some(time)) if changes.hides(time) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(change), Some(release)) => change >= release,
        };
        let taken = if from_changes {
            &mut changes
        } else {
            &mut access
        };
        items.extend(taken.left.pop_front());
    }
    let (changes_below, access_below) = (changes.below(), access.below());
    let number = |below: u64| Part::Number(i64::try_from(below).unwrap_or(i64::MAX));
    let next = (changes_below > 1 || access_below > 1).then(|| {
        Cursor {
            list: LIST,
            direction: Direction::Next,
            position: vec![number(changes_below), number(access_below)],
        }
        .encode()
    });
    Page {
        items,
        next,
        previous: None,
        complete,
    }
}

/// What was found of a chain and is not on the page yet, newest first.
struct Upcoming {
    left: VecDeque<ChainedEvent>,
    /// Where its walk would go on.
    walked_to: u64,
    /// The time of the last event looked at, where the budget ended the walk.
    until: Option<Timestamp>,
}

impl Upcoming {
    fn of(walked: store::Walked) -> Self {
        Self {
            left: walked.events.into(),
            walked_to: walked.below.unwrap_or(1),
            until: (!walked.complete).then_some(walked.last).flatten(),
        }
    }

    fn next(&self) -> Option<Timestamp> {
        self.left.front().map(|event| event.event.time)
    }

    /// Whether what was not looked at may be newer than `time`.
    fn hides(&self, time: Timestamp) -> bool {
        self.until.is_some_and(|until| until > time)
    }

    /// The chain goes on below this number.
    fn below(&self) -> u64 {
        self.left
            .front()
            .map_or(self.walked_to, |event| event.number + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of events at these times, the newest number first; the walk's end if it is not whole.
    fn walked(chain: Chain, times: &[i64], below: Option<(u64, i64)>) -> store::Walked {
        let first = below.map_or(1, |(below, _)| below);
        let events = times.iter().zip(
            (first..)
                .take(times.len())
                .collect::<Vec<_>>()
                .into_iter()
                .rev(),
        );
        store::Walked {
            events: events
                .map(|(time, number)| ChainedEvent {
                    chain,
                    number,
                    event: Event {
                        time: Timestamp(*time),
                        ..Service::own_context().event("x", object("x", "", ""), Timestamp(*time))
                    },
                    hash: String::new(),
                })
                .collect(),
            below: below.map(|(below, _)| below),
            complete: below.is_none(),
            last: below.map(|(_, time)| Timestamp(time)),
        }
    }

    fn shown(page: &Page<ChainedEvent>) -> Vec<(bool, u64)> {
        let items = page.items.iter();
        items
            .map(|it| (it.chain == Chain::Changes, it.number))
            .collect()
    }

    /// Where the next page begins: of changes, of access.
    fn below(page: &Page<ChainedEvent>) -> (u64, u64) {
        let cursor = Cursor::parse(LIST, page.next.as_deref().unwrap()).unwrap();
        let number = |at| cursor.number(at).unwrap().unsigned_abs();
        (number(0), number(1))
    }

    #[test]
    fn events_whose_times_went_back_are_on_some_page() {
        // Changes 2 and 1 at 5 and 7; access 2 and 1 at 6 and 4.
        let all = || {
            (
                walked(Chain::Changes, &[5, 7], None),
                walked(Chain::Access, &[6, 4], None),
            )
        };
        let (changes, access) = all();
        let first = merge(changes, access, 2);
        assert_eq!(shown(&first), [(false, 2), (true, 2)]);
        assert_eq!(below(&first), (2, 2));
        let (changes, access) = all();
        let whole = merge(changes, access, 10);
        assert_eq!(
            shown(&whole),
            [(false, 2), (true, 2), (true, 1), (false, 1)]
        );
        assert!(whole.next.is_none() && whole.complete);
    }

    #[test]
    fn a_walk_that_the_budget_ended_hides_nothing_newer() {
        // Of access nothing matched down to number 50, at time 6.
        let access = walked(Chain::Access, &[], Some((50, 6)));
        let page = merge(walked(Chain::Changes, &[9, 7, 5], None), access, 10);
        assert_eq!(shown(&page), [(true, 3), (true, 2)]);
        assert_eq!(below(&page), (2, 50));
        assert!(!page.complete);
    }
}
