//! The bytes of `seal.json`: reading with every length capped, writing, and the canonical form that
//! the tag and the checksums cover.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::damaged;
use super::slot::Slot;
use crate::error::{Error, Kind, Result};
use crate::model::id::{InstanceId, shown};

/// Magic and version.
pub const FORMAT: &str = "strongroom-seal/1";
const MAGIC: &str = "strongroom-seal/";
/// A file is at most this long.
pub const MAX_BYTES: usize = 1 << 20;
pub const MAX_SLOTS: usize = 32;
/// What a slot of a kind that we do not know may hold in one of its fields.
const MAX_FIELD: usize = 64 << 10;
const MAX_KIND: usize = 32;
const TAG: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    format: String,
    pub instance: InstanceId,
    pub generation: u64,
    pub slots: Vec<Slot>,
    /// HMAC-SHA-256 under the root key, over all of the above.
    pub tag: Bytes,
}

impl Document {
    pub fn new(instance: InstanceId) -> Self {
        Self {
            format: FORMAT.to_owned(),
            instance,
            generation: 0,
            slots: Vec::new(),
            tag: Bytes(Vec::new()),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(damaged(format!(
                "it has {} bytes, and at most {MAX_BYTES} are read",
                bytes.len()
            )));
        }
        check_format(bytes)?;
        let document: Self =
            serde_json::from_slice(bytes).map_err(|why| damaged(why.to_string()))?;
        document.check()?;
        Ok(document)
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self)
            .expect("strings, integers and maps with string keys are JSON");
        json.push(b'\n');
        json
    }

    /// What the tag covers: the canonical form of everything else.
    pub fn tagged(&self) -> Vec<u8> {
        canonical(self, "tag")
    }

    fn check(&self) -> Result<()> {
        if self.tag.0.len() != TAG {
            return Err(damaged(format!(
                "its tag has {} bytes; expected {TAG}",
                self.tag.0.len()
            )));
        }
        if self.slots.is_empty() || self.slots.len() > MAX_SLOTS {
            return Err(damaged(format!(
                "it has {} slots; expected 1 to {MAX_SLOTS}",
                self.slots.len()
            )));
        }
        for (number, slot) in (1..).zip(&self.slots) {
            slot.check(number)?;
            if self.slots.iter().filter(|it| it.id == slot.id).count() != 1 {
                return Err(damaged(format!(
                    "slot {number} has the id {} of another slot",
                    slot.id
                )));
            }
        }
        Ok(())
    }
}

/// The format is read first and alone, since a newer one may look different everywhere else.
fn check_format(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|why| damaged(why.to_string()))?;
    if head.format == FORMAT {
        return Ok(());
    }
    let found = shown(&head.format);
    let version: Option<u32> = head
        .format
        .strip_prefix(MAGIC)
        .and_then(|version| version.parse().ok());
    match version {
        Some(2..) => Err(Error::new(
            Kind::Unavailable,
            "seal_newer",
            format!(
                "seal.json was written by a newer Strongroom: expected format {FORMAT}, found {found}; run that version or a later one"
            ),
        )),
        Some(0..=1) | None => Err(damaged(format!(
            "expected format {FORMAT}, found `{found}`"
        ))),
    }
}

/// The JSON of `of` without the field `without`: no spaces, the keys of every object in byte order.
/// There are no numbers but integers, so this form is unique.
pub fn canonical(of: &impl Serialize, without: &str) -> Vec<u8> {
    let mut value =
        serde_json::to_value(of).expect("strings, integers and maps with string keys are JSON");
    if let Value::Object(fields) = &mut value {
        fields.remove(without);
    }
    value.sort_all_objects();
    serde_json::to_vec(&value).expect("a JSON value is JSON")
}

pub fn check_label(label: &str) -> Result<()> {
    if label.len() > super::MAX_LABEL || label.chars().any(char::is_control) {
        return Err(Error::invalid(
            "label",
            format!(
                "a slot's label has at most {} bytes, without control characters",
                super::MAX_LABEL
            ),
        ));
    }
    Ok(())
}

/// Whether a kind's name is one: lower-case letters, digits and `_`.
pub fn is_kind(kind: &str) -> bool {
    (1..=MAX_KIND).contains(&kind.len())
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Bytes as lower-case hex, capped.
#[derive(Clone, PartialEq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.len() > 2 * MAX_FIELD {
            return Err(serde::de::Error::custom(format!(
                "a field of {} bytes; at most {MAX_FIELD} are read",
                text.len() / 2
            )));
        }
        hex::decode(text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a field that is not hex digits"))
    }
}
