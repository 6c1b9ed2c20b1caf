//! Segments of the audit: the oldest events leave the store once they are old enough or take too much
//! of the disk, signed and encrypted, for a file that can be kept elsewhere. Nothing leaves that does not
//! fit its chain, and no event is deleted before the file was read back.

mod file;

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;

use self::file::{Draft, Kept};
use super::access::{Action, Target};
use super::audit::{checkpoint_line, event_line, line};
use super::caller::Context;
use super::{Service, object, slot};
use crate::api::audit::{Segment, Segments};
use crate::clock::{self, Timestamp};
use crate::crypto::agefile;
use crate::crypto::chain::event_hash;
use crate::error::{Error, Kind, Result};
use crate::folder;
use crate::model::audit::{Chain, ChainWalk, Checkpoint, Event, ExportHeader, ExportLine, Head};
use crate::secret::Secret;
use crate::store::{ChainState, ExportedCheckpoint, LeftSegment};

/// The name under which the identity lies in the store that opens every segment.
const KEY: &str = "audit_segments";
/// Between two looks, while nothing is to leave.
const LOOK: Duration = Duration::from_secs(60);
/// A segment ends at so many bytes of lines.
const MOST: u64 = 64 << 20;
/// Of what may be kept, this part leaves at once.
const SHARE: u64 = 16;

/// Lets events leave as long as the server runs, and keeps it from nothing.
pub async fn leave_all(service: Weak<Service>, asked: Arc<Notify>) {
    if let Some(open) = service.upgrade()
        && let Err(error) = file::tidy(&open.seal.folder.audit())
    {
        log::warn!(error:? = error; "what a crash left of a segment is still there");
    }
    loop {
        let Some(open) = service.upgrade() else {
            return;
        };
        let began = Instant::now();
        let step = open.leave_step().await;
        open.cannot_leave(step.as_ref().err());
        drop(open);
        match step {
            // Others have as much time as it took.
            Ok(true) => tokio::time::sleep(began.elapsed().min(LOOK)).await,
            Ok(false) => drop(tokio::time::timeout(LOOK, asked.notified()).await),
            Err(error) => {
                log::error!(error:? = error; "the audit's oldest events cannot leave the store; trying again in a minute");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Which events of a chain are to leave.
#[derive(Clone, Copy)]
enum Due {
    /// Those before this time.
    Before(Timestamp),
    /// The oldest, so many bytes of them.
    Bytes(u64),
}

impl Due {
    /// Whether what ends with this event leaves, where so many bytes do already.
    fn takes(self, last: Timestamp, taken: u64) -> bool {
        taken < MOST
            && match self {
                Self::Before(time) => last < time,
                Self::Bytes(bytes) => taken < bytes,
            }
    }
}

/// What is known of a segment before its file is whole.
struct Leaving {
    begins: Head,
    last: Head,
    first_time: Timestamp,
    last_time: Timestamp,
}

impl Service {
    /// Told when there may be less of the audit to keep.
    pub fn segments_asked(&self) -> Arc<Notify> {
        Arc::clone(&self.segments_asked)
    }

    pub async fn audit_segments(&self, ctx: &Context) -> Result<Segments> {
        let segment = object("audit", "segment", "");
        self.allow(
            ctx,
            Action::AuditRead,
            &Target::Server,
            "audit.segments",
            segment,
        )?;
        let folder = self.seal.folder.audit();
        let mut segments = Vec::new();
        for chain in [Chain::Changes, Chain::Access] {
            for left in self.store.segments(chain).await? {
                segments.push(Segment {
                    chain,
                    first: left.first,
                    last: left.last,
                    first_time: left.first_time,
                    last_time: left.last_time,
                    made: left.checkpoint.time,
                    here: folder.join(&left.file).exists(),
                    file: left.file,
                    bytes: left.bytes,
                    sha256: hex::encode(left.sha256),
                });
            }
        }
        Ok(Segments { segments })
    }

    /// A segment's lines, in pieces; the channel ends with it.
    pub async fn audit_segment(
        &self,
        ctx: &Context,
        name: &str,
    ) -> Result<mpsc::Receiver<Result<Vec<u8>>>> {
        let segment = object("audit", "segment", name);
        self.allow(
            ctx,
            Action::AuditRead,
            &Target::Server,
            "audit.segment",
            segment,
        )?;
        let mut all = self.store.segments(Chain::Changes).await?;
        all.extend(self.store.segments(Chain::Access).await?);
        let left = all.into_iter().find(|left| left.file == name);
        let left = left.ok_or_else(|| {
            Error::not_found(format!(
                "no segment of the audit is called `{}`; `audit segments` lists them",
                crate::model::id::shown(name)
            ))
        })?;
        let path = self.seal.folder.audit().join(&left.file);
        let kept = spawn_blocking(move || Kept::open(&path, left.bytes, &left.sha256));
        let kept = kept.await.map_err(ended)??;
        let identity = self.segment_identity()?.ok_or_else(|| {
            Error::internal("segments left, and the key that opens them is not in the store")
        })?;
        let (pieces, out) = mpsc::channel(4);
        spawn_blocking(move || {
            let read = kept.read(&identity, |piece| pieces.blocking_send(Ok(piece)).is_ok());
            if let Err(error) = read {
                let _ = pieces.blocking_send(Err(error));
            }
        });
        Ok(out)
    }

    /// What the first event follows that is still here.
    ///
    /// # Errors
    /// `audit_broken` where what left is not accounted for.
    pub(super) async fn begins(&self, chain: Chain) -> Result<Head> {
        let mut begins = Head::none(chain);
        for left in self.store.segments(chain).await? {
            if left.first != begins.number + 1 {
                return Err(broken(format!(
                    "segment {} of {} does not go on from event {}",
                    left.file,
                    chain.as_str(),
                    begins.number
                )));
            }
            let unproven = |error: Error| {
                broken(format!(
                    "the checkpoint of segment {} does not hold: {}",
                    left.file, error.public
                ))
            };
            let checkpoint = self.checked(&left.checkpoint).map_err(unproven)?;
            begins = match checkpoint.heads.as_slice() {
                [head] if head.chain == chain && head.number == left.last => head.clone(),
                _ => return Err(unproven(broken("it is of other events".to_owned()))),
            };
        }
        Ok(begins)
    }

    /// For health: whether old events cannot leave, and why.
    fn cannot_leave(&self, error: Option<&Error>) {
        let why = error.map(|error| error.public.clone());
        let kept = self.segment_fault.lock();
        *kept.unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn why_none_leaves(&self) -> Option<String> {
        let kept = self.segment_fault.lock();
        kept.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One segment, if one is due; then there may be more.
    async fn leave_step(&self) -> Result<bool> {
        if self.store.room().is_err() {
            return Ok(false);
        }
        // Whoever walks a chain must find it whole; he does not wait for this.
        let Ok(_turn) = self.segment_turn.try_write() else {
            return Ok(false);
        };
        for chain in [Chain::Changes, Chain::Access] {
            self.drop_left(chain).await?;
        }
        let Some((chain, due)) = self.due().await? else {
            return Ok(false);
        };
        let left = self.leave(chain, due).await?;
        self.drop_left(chain).await?;
        Ok(left)
    }

    /// Deletes what left, as far as signatures say so.
    async fn drop_left(&self, chain: Chain) -> Result<()> {
        let to = self.begins(chain).await?.number;
        while self.store.drop_left(chain, to).await? {}
        Ok(())
    }

    /// Age goes by whole days: a day's events leave together.
    async fn due(&self) -> Result<Option<(Chain, Due)>> {
        let past = clock::now().plus(-self.settings.audit_time());
        let day = Timestamp(past.0 - past.0.rem_euclid(Timestamp::DAY));
        let mut bytes = Vec::new();
        for chain in [Chain::Changes, Chain::Access] {
            if self
                .store
                .audit_begin(chain)?
                .is_some_and(|time| time < day)
            {
                return Ok(Some((chain, Due::Before(day))));
            }
            bytes.push((self.store.audit_bytes(chain).await?, chain));
        }
        let keep = self.settings.audit_bytes();
        let all: u64 = bytes.iter().map(|(bytes, _)| bytes).sum();
        let largest = bytes.into_iter().max_by_key(|(bytes, _)| *bytes);
        Ok(largest
            .filter(|_| all > keep)
            .map(|(_, chain)| (chain, Due::Bytes(all - keep + keep / SHARE))))
    }

    /// Writes a segment and enters it; false if nothing could leave. Its events are still there.
    async fn leave(&self, chain: Chain, due: Due) -> Result<bool> {
        let (identity, recipients) = self.segment_recipients().await?;
        let folder = self.seal.folder.audit();
        let draft = spawn_blocking(move || Draft::begin(&folder, &recipients));
        let draft = draft.await.map_err(ended)??;
        let (mut draft, leaving) = self.write_events(chain, due, draft).await?;
        let Some(leaving) = leaving else {
            return Ok(false);
        };
        let checkpoint = self.close(&leaving)?;
        let all = self.store.checkpoints().await?;
        let mut lines = Vec::new();
        for kept in &all {
            let inside = |head: &Head| {
                head.chain == chain
                    && head.number > leaving.begins.number
                    && head.number <= leaving.last.number
            };
            if self.checked(kept)?.heads.iter().any(inside) {
                lines.extend(checkpoint_line(kept)?);
            }
        }
        lines.extend(checkpoint_line(&checkpoint)?);
        let name = format!(
            "{}-{:012}-{:012}",
            chain.as_str(),
            leaving.begins.number + 1,
            leaving.last.number
        );
        let written = spawn_blocking(move || {
            draft.write(&lines)?;
            let written = draft.end(&identity)?;
            Ok::<_, Error>((written.name(&name)?, written))
        });
        let (file, written) = written.await.map_err(ended)??;
        let left = LeftSegment {
            first: leaving.begins.number + 1,
            last: leaving.last.number,
            first_time: leaving.first_time,
            last_time: leaving.last_time,
            checkpoint,
            file,
            bytes: written.bytes,
            sha256: written.sha256,
        };
        let path = self.seal.folder.audit().join(&left.file);
        if let Err(error) = self.enter(chain, left).await {
            // Nothing of it was entered, and the next try makes another.
            if error.kind == Kind::Unavailable {
                folder::remove(&path)?;
            }
            return Err(error);
        }
        self.forget_checkpoints(&all).await?;
        Ok(true)
    }

    /// The events that are due, as far as they fit their chain; none if the first already stays.
    async fn write_events(
        &self,
        chain: Chain,
        due: Due,
        mut draft: Draft,
    ) -> Result<(Draft, Option<Leaving>)> {
        let begins = self.begins(chain).await?;
        let header = ExportHeader::new(self.facts.instance, &self.signer.public_key());
        let header = header.after(vec![begins.clone()]);
        let mut lines = line(&ExportLine::Header(header))?;
        let mut walk = ChainWalk::after(chain, event_hash, begins.number, begins.hash);
        // The last one stays: the chain goes on from it.
        let end = self.end_of(chain)?.saturating_sub(1);
        let mut leaving: Option<Leaving> = None;
        let (mut taken, mut first_time) = (0, None);
        // What stands in one row of the access log leaves together.
        let (mut row, mut from) = (Vec::new(), begins.number + 1);
        'events: loop {
            let batch = self.chain_from(chain, from).await?;
            let Some(newest) = batch.last() else { break };
            from = newest.number + 1;
            for state in batch {
                if let Some(fault) = self.step(&mut walk, chain, &state) {
                    let text = format!("{fault}; nothing leaves the audit");
                    return Err(broken(text));
                }
                let time = time_of(&state)?;
                first_time.get_or_insert(time);
                row.extend(event_line(chain, &state)?);
                if state.tag.is_none() {
                    continue;
                }
                if state.number > end || !due.takes(time, taken) {
                    break 'events;
                }
                taken += row.len() as u64;
                lines.append(&mut row);
                leaving = Some(Leaving {
                    begins: begins.clone(),
                    last: Head {
                        chain,
                        number: state.number,
                        hash: state.hash,
                    },
                    first_time: first_time.unwrap_or(time),
                    last_time: time,
                });
            }
            let piece = std::mem::take(&mut lines);
            let written = spawn_blocking(move || draft.write(&piece).map(|()| draft));
            draft = written.await.map_err(ended)??;
        }
        let written = spawn_blocking(move || draft.write(&lines).map(|()| draft));
        Ok((written.await.map_err(ended)??, leaving))
    }

    /// Signs that a segment ends where it does.
    fn close(&self, leaving: &Leaving) -> Result<ExportedCheckpoint> {
        let time = clock::now();
        let checkpoint = Checkpoint {
            instance: self.facts.instance,
            epoch: self.store.meta_number("epoch")?,
            timeline: self.store.meta_number("timeline")?,
            heads: vec![leaving.last.clone()],
            time,
        };
        let signature = self.signer.sign(&checkpoint.canonical()).to_vec();
        let body = serde_json::to_string(&checkpoint)
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(ExportedCheckpoint {
            number: 0,
            time,
            body,
            signature,
        })
    }

    async fn enter(&self, chain: Chain, left: LeftSegment) -> Result<()> {
        let own = Self::own_context();
        let segment = object("audit", "segment", &left.file);
        let mut change = self.change(&own, "audit.segment", segment, clock::now());
        change.event.detail = format!(
            "{} {} to {}, SHA-256 {}",
            chain.as_str(),
            left.first,
            left.last,
            hex::encode(left.sha256)
        );
        log::info!(chain = chain.as_str(), first = left.first, last = left.last, file = left.file.as_str(); "a segment of the audit left the store");
        self.store.put_segment(change, chain, left).await
    }

    /// Checkpoints of which each head left stand in the segments.
    async fn forget_checkpoints(&self, all: &[ExportedCheckpoint]) -> Result<()> {
        let changes = self.begins(Chain::Changes).await?.number;
        let access = self.begins(Chain::Access).await?.number;
        let mut to = None;
        for kept in all {
            let left = |head: &Head| match head.chain {
                Chain::Changes => head.number <= changes,
                Chain::Access => head.number <= access,
            };
            if !self.checked(kept)?.heads.iter().all(left) {
                break;
            }
            to = Some(kept.number);
        }
        match to {
            Some(to) => self.store.drop_checkpoints(to).await,
            None => Ok(()),
        }
    }

    /// The server's own identity for segments, and all for whom they are encrypted: itself, and each
    /// recovery slot, which opens them without it.
    async fn segment_recipients(&self) -> Result<(Secret<Vec<u8>>, Vec<String>)> {
        let identity = match self.segment_identity()? {
            Some(identity) => identity,
            None => self.make_segment_identity().await?,
        };
        let mut recipients = vec![agefile::recipient_of(&identity)?];
        let (file, _) = slot::read(&self.seal.folder)?;
        for slot in file.slots() {
            let recipient = slot.parameters.get("recipient");
            recipients.extend(recipient.and_then(|it| it.as_str()).map(str::to_owned));
        }
        Ok((identity, recipients))
    }

    fn segment_identity(&self) -> Result<Option<Secret<Vec<u8>>>> {
        let kept = self.store.system_key(KEY)?;
        kept.map(|kept| self.keyring.open_system(KEY, &kept.wrapped))
            .transpose()
    }

    async fn make_segment_identity(&self) -> Result<Secret<Vec<u8>>> {
        let (identity, recipient) = agefile::generate_identity();
        let identity = Secret::new(identity.expose().as_bytes().to_vec());
        let made = object("audit", "segment_key", recipient);
        self.keep_system_key(KEY, &identity, "audit.segment_key", made)
            .await?;
        Ok(identity)
    }
}

fn time_of(state: &ChainState) -> Result<Timestamp> {
    Ok(Event::parse_canonical(&state.canonical)?.2.time)
}

fn broken(what: String) -> Error {
    Error::new(Kind::Internal, "audit_broken", what)
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::internal(error.to_string())
}
