//! The audit: list, verify, export, checkpoints.

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
        let changes = self
            .store
            .changes(changes_below, filter.clone(), limit)
            .await?;
        self.store.access().flush().await?;
        let access = self
            .store
            .access()
            .list(access_below, filter, limit)
            .await?;
        Ok(merge(changes, access, limit))
    }

    /// Walks both chains from their first event, with every hash, tag and checkpoint.
    pub async fn audit_verify(&self, ctx: &Context) -> Result<Verification> {
        self.allow(
            ctx,
            Action::AuditRead,
            &Target::Server,
            "audit.verify",
            object("audit", "", ""),
        )?;
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
        let mut walk = ChainWalk::new(chain, event_hash);
        let mut report = ChainVerification {
            chain,
            events: 0,
            head: String::new(),
            proven_to: 0,
            checkpoint_time: None,
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
        let mut from = 1;
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
    fn end_of(&self, chain: Chain) -> Result<u64> {
        let head = match chain {
            Chain::Changes => self.store.changes_head()?,
            Chain::Access => self.store.access().head()?,
        };
        Ok(head.number)
    }

    /// One event: its hash, and its tag where there is one.
    fn step(&self, walk: &mut ChainWalk, chain: Chain, state: &ChainState) -> Option<String> {
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
    fn checked(&self, kept: &ExportedCheckpoint) -> Result<Checkpoint> {
        let checkpoint: Checkpoint =
            serde_json::from_str(&kept.body).map_err(|error| Error::internal(error.to_string()))?;
        chain::verify(
            &self.signer.public_key(),
            &checkpoint.canonical(),
            &kept.signature,
        )?;
        Ok(checkpoint)
    }

    async fn chain_from(&self, chain: Chain, from: u64) -> Result<Vec<ChainState>> {
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
        let gone = |_| Error::unavailable("gone", "the reader of the export went away");
        let header = ExportLine::Header(ExportHeader::new(
            self.facts.instance,
            &self.signer.public_key(),
        ));
        pieces.send(Ok(line(&header)?)).await.map_err(gone)?;
        // Checkpoints are read first: none then knows an event that the export lacks.
        let checkpoints = self.store.checkpoints().await?;
        for chain in [Chain::Changes, Chain::Access] {
            let mut from = 1;
            let end = self.end_of(chain)?;
            while from <= end {
                let batch = self.chain_from(chain, from).await?;
                let Some(last) = batch.last() else { break };
                from = last.number + 1;
                let mut piece = Vec::new();
                for state in batch {
                    let (_, number, event) = Event::parse_canonical(&state.canonical)?;
                    piece.extend(line(&ExportLine::Event(ChainedEvent {
                        chain,
                        number,
                        event,
                        hash: hex::encode(state.hash),
                    }))?);
                }
                pieces.send(Ok(piece)).await.map_err(gone)?;
            }
        }
        for kept in checkpoints {
            let checkpoint: Checkpoint = serde_json::from_str(&kept.body)
                .map_err(|error| Error::internal(error.to_string()))?;
            let signature: [u8; 64] = kept
                .signature
                .as_slice()
                .try_into()
                .map_err(|_| Error::internal("a checkpoint's signature has another length"))?;
            pieces
                .send(Ok(line(&ExportLine::Checkpoint(SignedCheckpoint::new(
                    checkpoint, &signature,
                )))?))
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

fn line(line: &ExportLine) -> Result<Vec<u8>> {
    let mut text = line.write()?.into_bytes();
    text.push(b'\n');
    Ok(text)
}

/// The newest `limit` of both, and where each chain goes on.
fn merge(changes: store::Walked, access: store::Walked, limit: usize) -> Page<ChainedEvent> {
    // Below its walk's end nothing of a chain is known, so nothing older than that may be shown.
    let floor = |walked: &store::Walked| {
        if walked.complete {
            None
        } else {
            walked
                .events
                .last()
                .map(|event| event.event.time)
                .or(Some(Timestamp(i64::MAX)))
        }
    };
    let (changes_end, access_end) = (end(&changes), end(&access));
    let floor = floor(&changes).max(floor(&access));
    let complete = changes.complete && access.complete;
    let mut all: Vec<ChainedEvent> = changes.events.into_iter().chain(access.events).collect();
    all.sort_by_key(|event| {
        std::cmp::Reverse((
            event.event.time,
            event.chain == Chain::Changes,
            event.number,
        ))
    });
    let held_back = all.len();
    all.retain(|event| floor.is_none_or(|floor| event.event.time >= floor));
    all.truncate(limit);
    let cut = all.len() < held_back;
    // A chain goes on below the last event shown of it; where none was shown, where it began.
    let below = |chain: Chain, walked_to: u64, began: u64| {
        let shown = all
            .iter()
            .filter(|event| event.chain == chain)
            .map(|event| event.number)
            .min();
        if cut {
            shown.unwrap_or(began)
        } else {
            walked_to
        }
    };
    let changes_below = below(Chain::Changes, changes_end.0, changes_end.1);
    let access_below = below(Chain::Access, access_end.0, access_end.1);
    let more = cut || changes_below > 1 || access_below > 1;
    let number = |below: u64| Part::Number(i64::try_from(below).unwrap_or(i64::MAX));
    let next = more.then(|| {
        Cursor {
            list: LIST,
            direction: Direction::Next,
            position: vec![number(changes_below), number(access_below)],
        }
        .encode()
    });
    Page {
        items: all,
        next,
        previous: None,
        complete,
    }
}

/// Where a walk would go on, and where to go on if nothing of it is shown.
fn end(walked: &store::Walked) -> (u64, u64) {
    let began = walked
        .events
        .first()
        .map_or(walked.below.unwrap_or(1), |event| event.number + 1);
    (walked.below.unwrap_or(1), began)
}
