//! The canonical forms (docs/formats/audit.md): the bytes that are hashed and signed. One event or
//! checkpoint has exactly one form, and a form that is read back writes the same bytes again.

use super::{Actor, Chain, Checkpoint, Event, Head, Object, Outcome};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::{InstanceId, RequestId};
use uuid::Uuid;

/// The longest text in an event, in bytes; `Event::clipped` sees to it.
pub const MAX_EVENT_TEXT: usize = 4_096;
/// The longest canonical form that is read, of an event or a checkpoint.
pub const MAX_CANONICAL: usize = 65_536;
/// Heads in a checkpoint.
pub const MAX_HEADS: usize = 64;

const EVENT: [u8; 4] = *b"SRE\x01";
const CHECKPOINT: [u8; 4] = *b"SRC\x01";

impl Event {
    /// The event with each text cut to `MAX_EVENT_TEXT` bytes, `…` at its end where it was longer.
    /// An event that is not clipped may have a canonical form that `parse_canonical` refuses.
    pub fn clipped(mut self) -> Self {
        for text in [
            &mut self.actor.kind,
            &mut self.actor.name,
            &mut self.actor.source,
            &mut self.action,
            &mut self.object.kind,
            &mut self.object.id,
            &mut self.object.name,
            &mut self.detail,
            &mut self.reason,
        ] {
            if text.len() > MAX_EVENT_TEXT {
                let mut end = MAX_EVENT_TEXT - '…'.len_utf8();
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                text.push('…');
            }
        }
        self
    }

    /// The bytes that are hashed for this event as number `number` of `chain`.
    pub fn canonical(&self, chain: Chain, number: u64) -> Vec<u8> {
        let mut out = Writer(begin(chain, number));
        out.field(&self.time.0.to_be_bytes());
        out.field(self.request.as_bytes());
        out.field(self.actor.kind.as_bytes());
        out.field(self.actor.name.as_bytes());
        out.field(self.actor.source.as_bytes());
        out.field(self.action.as_bytes());
        out.field(self.object.kind.as_bytes());
        out.field(self.object.id.as_bytes());
        out.field(self.object.name.as_bytes());
        out.field(self.outcome.as_str().as_bytes());
        out.field(self.detail.as_bytes());
        out.field(self.reason.as_bytes());
        out.0
    }

    /// Chain, number and event of a canonical form.
    ///
    /// # Errors
    /// `Invalid` on `event`: too long, of an unknown version, cut off, with bytes left over, not
    /// UTF-8, or with a word that does not exist. The text names the field.
    pub fn parse_canonical(bytes: &[u8]) -> Result<(Chain, u64, Event)> {
        let mut from = Reader::new("event", bytes, EVENT)?;
        let chain = match from.text("chain")?.as_str() {
            "changes" => Chain::Changes,
            "access" => Chain::Access,
            _ => return Err(from.refused("chain", "is neither changes nor access")),
        };
        let number = u64::from_be_bytes(from.array("number")?);
        let event = Event {
            time: Timestamp(i64::from_be_bytes(from.array("time")?)),
            request: RequestId(Uuid::from_bytes(from.array("request")?)),
            actor: Actor {
                kind: from.text("actor.kind")?,
                name: from.text("actor.name")?,
                source: from.text("actor.source")?,
            },
            action: from.text("action")?,
            object: Object {
                kind: from.text("object.kind")?,
                id: from.text("object.id")?,
                name: from.text("object.name")?,
            },
            outcome: match from.text("outcome")?.as_str() {
                "done" => Outcome::Done,
                "refused" => Outcome::Refused,
                _ => return Err(from.refused("outcome", "is neither done nor refused")),
            },
            detail: from.text("detail")?,
            reason: from.text("reason")?,
        };
        from.end()?;
        Ok((chain, number, event))
    }
}

impl Checkpoint {
    /// The bytes that are signed. Heads stand in the order of their chains, `changes` first.
    pub fn canonical(&self) -> Vec<u8> {
        let mut heads = self.heads.clone();
        heads.sort_by_key(|head| head.chain);
        let mut out = Writer(CHECKPOINT.to_vec());
        out.field(self.instance.as_bytes());
        out.field(&self.epoch.to_be_bytes());
        out.field(&self.timeline.to_be_bytes());
        out.field(&(heads.len() as u64).to_be_bytes());
        for head in &heads {
            out.field(head.chain.as_str().as_bytes());
            out.field(&head.number.to_be_bytes());
            out.field(&head.hash);
        }
        out.field(&self.time.0.to_be_bytes());
        out.0
    }

    /// A checkpoint of its canonical form.
    ///
    /// # Errors
    /// `Invalid` on `checkpoint`, as for events; also heads out of order or twice of one chain.
    pub fn parse_canonical(bytes: &[u8]) -> Result<Self> {
        let mut from = Reader::new("checkpoint", bytes, CHECKPOINT)?;
        let instance = InstanceId(Uuid::from_bytes(from.array("instance")?));
        let epoch = u64::from_be_bytes(from.array("epoch")?);
        let timeline = u64::from_be_bytes(from.array("timeline")?);
        let count = u64::from_be_bytes(from.array("heads")?);
        if count > MAX_HEADS as u64 {
            return Err(from.refused("heads", "are too many"));
        }
        let mut heads: Vec<Head> = Vec::new();
        for _ in 0..count {
            let chain = match from.text("chain")?.as_str() {
                "changes" => Chain::Changes,
                "access" => Chain::Access,
                _ => return Err(from.refused("chain", "is neither changes nor access")),
            };
            if heads.last().is_some_and(|last| last.chain >= chain) {
                return Err(from.refused("heads", "are out of order, or two of one chain"));
            }
            heads.push(Head {
                chain,
                number: u64::from_be_bytes(from.array("number")?),
                hash: from.array("hash")?,
            });
        }
        let time = Timestamp(i64::from_be_bytes(from.array("time")?));
        from.end()?;
        Ok(Self {
            instance,
            epoch,
            timeline,
            heads,
            time,
        })
    }
}

/// What the canonical form of event `number` of `chain` begins with, whatever else it says.
pub(super) fn begin(chain: Chain, number: u64) -> Vec<u8> {
    let mut out = Writer(EVENT.to_vec());
    out.field(chain.as_str().as_bytes());
    out.field(&number.to_be_bytes());
    out.0
}

struct Writer(Vec<u8>);

impl Writer {
    fn field(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }
}

struct Reader<'a> {
    of: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(of: &'static str, bytes: &'a [u8], magic: [u8; 4]) -> Result<Self> {
        let mut reader = Self { of, rest: bytes };
        if bytes.len() > MAX_CANONICAL {
            return Err(reader.refused("whole", "is longer than 64 KiB"));
        }
        let Some((found, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(reader.refused("magic", "is cut off"));
        };
        reader.rest = rest;
        if found[..3] != magic[..3] {
            return Err(reader.refused("magic", "is another's"));
        }
        if found[3] != magic[3] {
            return Err(reader.refused("version", "is unknown to this program"));
        }
        Ok(reader)
    }

    fn field(&mut self, name: &str) -> Result<&'a [u8]> {
        let cut = self
            .rest
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| {
                rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
            });
        match cut {
            Some((field, rest)) => {
                self.rest = rest;
                Ok(field)
            }
            None => Err(self.refused(name, "is cut off")),
        }
    }

    fn array<const N: usize>(&mut self, name: &str) -> Result<[u8; N]> {
        let field = self.field(name)?;
        <[u8; N]>::try_from(field).map_err(|_| self.refused(name, "has a wrong length"))
    }

    fn text(&mut self, name: &str) -> Result<String> {
        let field = self.field(name)?;
        if field.len() > MAX_EVENT_TEXT {
            return Err(self.refused(name, "is longer than 4 KiB"));
        }
        match std::str::from_utf8(field) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.refused(name, "is not UTF-8")),
        }
    }

    fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.refused("whole", "has bytes left over at its end"))
    }

    fn refused(&self, name: &str, why: &str) -> Error {
        Error::invalid(
            self.of,
            format!("not a canonical {}: its {name} {why}", self.of),
        )
    }
}
