//! What a writer knows of its deposits: what was acknowledged, and what a change in flight would
//! make of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::Dice;

/// A body that tells what it is: a tag, its length, and bytes that follow from the tag.
pub fn body(tag: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(&tag.to_be_bytes());
    bytes.extend_from_slice(&(length as u64).to_be_bytes());
    bytes.extend_from_slice(&Dice::new(tag).bytes(length.saturating_sub(16)));
    bytes.truncate(length.max(16));
    bytes
}

/// The tag of a body that is whole.
pub fn tag_of(bytes: &[u8]) -> Result<u64, String> {
    let (tag, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or("a body is too short")?;
    let (length, _) = rest.split_first_chunk::<8>().ok_or("a body is too short")?;
    let (tag, length) = (u64::from_be_bytes(*tag), u64::from_be_bytes(*length));
    if length == bytes.len() as u64 && body(tag, bytes.len()) == bytes {
        Ok(tag)
    } else {
        Err(format!(
            "a body of {} bytes is not whole: tag {tag:x}, length {length}",
            bytes.len()
        ))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    pub tag: u64,
    pub length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// Known from the first answer on.
    pub id: Option<String>,
    pub versions: BTreeMap<u32, Bytes>,
    pub label: Option<String>,
    pub binned: bool,
}

impl Deposit {
    pub fn newest(&self) -> u32 {
        self.versions.keys().next_back().copied().unwrap_or(0)
    }
}

/// A change of one deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A version; `stale` names a version that it is not in, which must be refused.
    Put {
        bytes: Bytes,
        stale: bool,
        label: Option<String>,
    },
    Label(String),
    Remove,
    Undelete,
    Purge,
}

impl Op {
    /// One that the deposit's state allows.
    pub fn choose(dice: &mut Dice, there: Option<&Deposit>, tag: u64) -> Self {
        let put = |dice: &mut Dice, stale| Self::Put {
            bytes: Bytes {
                tag,
                length: length(dice),
            },
            stale,
            label: (dice.below(4) == 0).then(|| format!("v{}", tag & 0xffff)),
        };
        match there {
            None => put(dice, false),
            Some(deposit) if deposit.binned => match dice.below(2) {
                0 => Self::Undelete,
                _ => Self::Purge,
            },
            Some(deposit) => match dice.below(20) {
                0..12 => put(dice, false),
                12 => put(dice, true),
                13..17 => Self::Label(format!("v{}", tag & 0xffff)),
                17 if deposit.newest() < 3 => put(dice, false),
                _ => Self::Remove,
            },
        }
    }

    /// What the deposit is after it.
    pub fn after(&self, there: Option<&Deposit>) -> Option<Deposit> {
        let mut deposit = there.cloned();
        match self {
            Self::Put { stale: true, .. } => {}
            Self::Put { bytes, label, .. } => {
                let deposit = deposit.get_or_insert_with(|| Deposit {
                    id: None,
                    versions: BTreeMap::new(),
                    label: None,
                    binned: false,
                });
                deposit.versions.insert(deposit.newest() + 1, *bytes);
                if label.is_some() {
                    deposit.label.clone_from(label);
                }
            }
            Self::Label(value) => {
                if let Some(deposit) = &mut deposit {
                    deposit.label = Some(value.clone());
                }
            }
            Self::Remove | Self::Undelete => {
                if let Some(deposit) = &mut deposit {
                    deposit.binned = *self == Self::Remove;
                }
            }
            Self::Purge => deposit = None,
        }
        deposit
    }

    /// The status that it must be answered with.
    pub fn status(&self, there: Option<&Deposit>) -> u16 {
        match self {
            Self::Put { stale: true, .. } => 412,
            Self::Put { .. } if there.is_none() => 201,
            Self::Purge => 204,
            Self::Put { .. } | Self::Label(_) | Self::Remove | Self::Undelete => 200,
        }
    }

    /// What its event is called.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Put { .. } => "deposit.put",
            Self::Label(_) => "deposit.edit",
            Self::Remove => "deposit.rm",
            Self::Undelete => "deposit.undelete",
            Self::Purge => "deposit.purge",
        }
    }

    /// Whether a reader cannot know what to find while it is under way.
    pub fn unsettles(&self, there: Option<&Deposit>) -> bool {
        match self {
            Self::Put { .. } => there.is_none(),
            Self::Label(_) => false,
            Self::Remove | Self::Undelete | Self::Purge => true,
        }
    }

    pub fn request(&self, name: &str, there: Option<&Deposit>) -> Request {
        let path = format!("/v1/deposits/{name}");
        let mut request = Request {
            method: "POST",
            path,
            headers: Vec::new(),
            body: None,
        };
        match self {
            Self::Put {
                bytes,
                stale,
                label,
            } => {
                request.method = "PUT";
                request.body = Some(body(bytes.tag, bytes.length));
                let newest = there.map_or(0, Deposit::newest);
                if *stale {
                    request
                        .headers
                        .push(("if-match", format!("\"{}\"", newest + 7)));
                } else if newest > 0 && bytes.tag % 2 == 0 {
                    request.headers.push(("if-match", format!("\"{newest}\"")));
                } else if newest == 0 {
                    request.headers.push(("if-none-match", "*".to_owned()));
                }
                if let Some(label) = label {
                    request
                        .headers
                        .push(("strongroom-labels", format!("soak={label}")));
                }
            }
            Self::Label(value) => {
                request.method = "PATCH";
                request.path.push_str("/metadata");
                request
                    .headers
                    .push(("content-type", "application/json".to_owned()));
                request.body = Some(json!({ "labels": { "soak": value } }).to_string().into());
            }
            Self::Remove => request.method = "DELETE",
            Self::Undelete => request.path.push_str("/undelete"),
            Self::Purge => request.path.push_str("/purge"),
        }
        request
    }
}

pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Vec<u8>>,
}

/// Mostly small, some in several parts.
fn length(dice: &mut Dice) -> usize {
    let length = match dice.below(12) {
        0 => 260_000 + dice.below(600_000),
        1..4 => 4_000 + dice.below(60_000),
        _ => 16 + dice.below(2_000),
    };
    usize::try_from(length).unwrap()
}

/// Compares what the server says of a deposit with what is known: its metadata, if it is there, and
/// its versions.
pub fn compare(
    expected: Option<&Deposit>,
    metadata: Option<&Value>,
    versions: &Value,
) -> Result<(), String> {
    let (Some(expected), Some(found)) = (expected, metadata) else {
        return match (expected, metadata) {
            (None, None) => Ok(()),
            (Some(expected), _) => Err(format!("it is not there, but should be {expected:?}")),
            (None, Some(found)) => Err(format!("it is there, but should not be: {found}")),
        };
    };
    let listed: Option<BTreeMap<u64, u64>> = versions["versions"].as_array().map(|all| {
        all.iter()
            .filter_map(|one| Some((one["version"].as_u64()?, one["size"].as_u64()?)))
            .collect()
    });
    let known: BTreeMap<u64, u64> = expected
        .versions
        .iter()
        .map(|(version, bytes)| (u64::from(*version), bytes.length as u64))
        .collect();
    let newest = expected.versions.values().next_back();
    let same = found["version"].as_u64() == Some(u64::from(expected.newest()))
        && found["size"].as_u64() == newest.map(|bytes| bytes.length as u64)
        && found["labels"]["soak"].as_str() == expected.label.as_deref()
        && found["deleted"].is_string() == expected.binned
        && (expected.id.is_none() || found["id"].as_str() == expected.id.as_deref())
        && listed.as_ref() == Some(&known);
    if same {
        return Ok(());
    }
    Err(format!(
        "it should be {expected:?}, and is {found} with the versions {listed:?}"
    ))
}
