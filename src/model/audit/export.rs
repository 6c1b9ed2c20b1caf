//! An export (docs/formats/audit.md): one JSON document a line, first the header, then events, then
//! signed checkpoints. Here are the lines; `ChainWalk` checks what they say.

use serde::{Deserialize, Serialize};

use super::{Chain, ChainedEvent, Checkpoint, Head, SignedCheckpoint};
use crate::error::{Error, Result};
use crate::model::id::InstanceId;

/// What `format` says in the header.
pub const FORMAT: &str = "strongroom-audit/1";
/// The longest line, without its end, in bytes.
pub const MAX_LINE: usize = 262_144;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    pub format: String,
    pub instance: InstanceId,
    /// Ed25519, 64 hex digits; believe it only if it is the one that you already know.
    pub public_key: String,
    /// What the first events here follow: an export is of these chains alone, or of both from their
    /// first event if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Head>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ExportLine {
    Header(ExportHeader),
    Event(ChainedEvent),
    Checkpoint(SignedCheckpoint),
}

impl ExportHeader {
    pub fn new(instance: InstanceId, public_key: &[u8; 32]) -> Self {
        Self {
            format: FORMAT.to_owned(),
            instance,
            public_key: hex::encode(public_key),
            after: Vec::new(),
        }
    }

    /// The same, of these chains alone, from the events on that follow.
    pub fn after(self, after: Vec<Head>) -> Self {
        Self { after, ..self }
    }

    /// The chains that are there, each with what its first event follows.
    ///
    /// # Errors
    /// `Invalid` on `export`, where a chain is named twice.
    pub fn begins(&self) -> Result<Vec<Head>> {
        if self.after.is_empty() {
            return Ok([Chain::Changes, Chain::Access].map(Head::none).to_vec());
        }
        match self.after.as_slice() {
            [_] => {}
            [one, other] if one.chain != other.chain => {}
            _ => {
                return Err(Error::invalid(
                    "export",
                    "the header's `after` names a chain twice",
                ));
            }
        }
        Ok(self.after.clone())
    }

    /// The key in bytes.
    ///
    /// # Errors
    /// `Invalid` on `public_key`.
    pub fn key(&self) -> Result<[u8; 32]> {
        hex_array(&self.public_key).ok_or_else(|| {
            Error::invalid("public_key", "the export's public_key is not 64 hex digits")
        })
    }
}

impl ExportLine {
    /// One line without its end.
    ///
    /// # Errors
    /// `Invalid` on `export`: too long, not JSON, of an unknown format, or with something in it that
    /// the format does not have and that no hash would vouch for.
    pub fn parse(line: &str) -> Result<Self> {
        let refused =
            |why: String| Error::invalid("export", format!("not a line of an export: {why}"));
        if line.len() > MAX_LINE {
            return Err(refused(format!("it is longer than {MAX_LINE} bytes")));
        }
        let json: serde_json::Value =
            serde_json::from_str(line).map_err(|error| refused(error.to_string()))?;
        let parsed = if let Some(format) = json.get("format") {
            if format != FORMAT {
                return Err(refused(format!("its format is not {FORMAT}")));
            }
            ExportHeader::deserialize(&json).map(Self::Header)
        } else if json.get("checkpoint").is_some() {
            SignedCheckpoint::deserialize(&json).map(Self::Checkpoint)
        } else {
            ChainedEvent::deserialize(&json).map(Self::Event)
        }
        .map_err(|error| refused(error.to_string()))?;
        match serde_json::to_value(&parsed) {
            Ok(again) if again == json => Ok(parsed),
            _ => Err(refused(
                "it holds something else than an export is written with".to_owned(),
            )),
        }
    }

    /// The line without its end.
    ///
    /// # Errors
    /// `Internal`, if it cannot be written; that does not happen.
    pub fn write(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::internal("export line").because(error))
    }
}

impl ChainedEvent {
    /// The stored hash in bytes.
    ///
    /// # Errors
    /// `Invalid` on `hash`.
    pub fn hash_bytes(&self) -> Result<[u8; 32]> {
        hex_array(&self.hash).ok_or_else(|| {
            Error::invalid(
                "hash",
                format!(
                    "the hash of event {} of {} is not 64 hex digits",
                    self.number,
                    self.chain.as_str()
                ),
            )
        })
    }

    /// The bytes that its hash is over, after the previous hash.
    pub fn canonical(&self) -> Vec<u8> {
        self.event.canonical(self.chain, self.number)
    }
}

impl SignedCheckpoint {
    pub fn new(checkpoint: Checkpoint, signature: &[u8; 64]) -> Self {
        Self {
            checkpoint,
            signature: hex::encode(signature),
        }
    }

    /// From JSON: a line of an export, or a checkpoint that was kept by itself.
    ///
    /// # Errors
    /// `Invalid` on `checkpoint`.
    pub fn parse(text: &str) -> Result<Self> {
        let not = || {
            Error::invalid(
                "checkpoint",
                "not a signed checkpoint: JSON with `checkpoint` and `signature`, as an export's last lines have it",
            )
        };
        match ExportLine::parse(text.trim()) {
            Ok(ExportLine::Checkpoint(signed)) => Ok(signed),
            Ok(_) => Err(not()),
            Err(error) => Err(not().because(error)),
        }
    }

    /// The signature in bytes.
    ///
    /// # Errors
    /// `Invalid` on `signature`.
    pub fn signature_bytes(&self) -> Result<[u8; 64]> {
        hex_array(&self.signature).ok_or_else(|| {
            Error::invalid(
                "signature",
                format!(
                    "the signature of the checkpoint of {} is not 128 hex digits",
                    self.checkpoint.time
                ),
            )
        })
    }
}

fn hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).ok()?;
    Some(out)
}
