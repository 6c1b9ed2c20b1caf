//! One page of a list, and the cursors to its neighbours. Pages follow keys, never offsets.
//! A cursor (docs/formats/cursor.md) is a position and nothing more: it grants nothing, and each page
//! asks anew what its caller may see.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::shown;
use crate::error::{Error, Result};

/// Rows in a page unless asked otherwise, and at most.
pub const DEFAULT_LIMIT: u32 = 100;
pub const MAX_LIMIT: u32 = 1_000;
/// A cursor's text, in bytes.
pub const MAX_CURSOR: usize = 1_024;
/// Parts of a position.
pub const MAX_PARTS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it back as `cursor` to read on; none at the end.
    pub next: Option<String>,
    /// Give it back as `cursor` to read the page before this one, in the same order; none at the
    /// beginning.
    pub previous: Option<String>,
    /// False: the search stopped at its budget of rows or time before it filled the page; go on
    /// with `next`.
    pub complete: bool,
}

impl<T> Page<T> {
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
            previous: self.previous,
            complete: self.complete,
        }
    }
}

/// Rows in a page: what was asked for, or the default.
///
/// # Errors
/// `Invalid` on `limit` outside 1 to 1,000.
pub fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(rows @ 1..=MAX_LIMIT) => Ok(rows),
        Some(rows) => Err(Error::invalid(
            "limit",
            format!("a page of {rows} rows is not possible; limit takes 1 to {MAX_LIMIT}"),
        )),
    }
}

/// Which way a cursor leads from its position, which is itself on neither page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Next,
    Previous,
}

/// One column of a list's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Number(i64),
    Id([u8; 16]),
}

/// A position in a list's order, and the way from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The list that it belongs to, order included where a list has several: `deposits`,
    /// `deposits/created`. 32 bytes at most.
    pub list: &'static str,
    pub direction: Direction,
    /// The row's values in the columns of the order: 1 to 3. Their texts have 700 bytes at most
    /// together, so that every cursor that is handed out is taken back.
    pub position: Vec<Part>,
}

const MAGIC: u8 = b'S';
const VERSION: u8 = 1;

impl Cursor {
    /// Base64 (RFC 4648 section 5) without padding.
    pub fn encode(&self) -> String {
        let mut out = vec![MAGIC, VERSION, length_byte(self.list.len())];
        out.extend_from_slice(self.list.as_bytes());
        out.push(match self.direction {
            Direction::Next => 0,
            Direction::Previous => 1,
        });
        out.push(length_byte(self.position.len()));
        for part in &self.position {
            match part {
                Part::Text(text) => {
                    out.push(1);
                    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                Part::Number(number) => {
                    out.push(2);
                    out.extend_from_slice(&number.to_be_bytes());
                }
                Part::Id(id) => {
                    out.push(3);
                    out.extend_from_slice(id);
                }
            }
        }
        URL_SAFE_NO_PAD.encode(out)
    }

    /// What a caller gave as `cursor` for `list`.
    ///
    /// # Errors
    /// `Invalid` on `cursor`: longer than 1 KiB, not whole, of an unknown version, of another list.
    pub fn parse(list: &'static str, text: &str) -> Result<Self> {
        if text.len() > MAX_CURSOR {
            return Err(refused(format!(
                "is {} bytes long; {MAX_CURSOR} are the most",
                text.len()
            )));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?;
        let mut rest = bytes.as_slice();
        let [magic, version] = array(&mut rest)?;
        if magic != MAGIC {
            return Err(damaged());
        }
        if version != VERSION {
            return Err(refused(format!(
                "has version {version}; this server reads version {VERSION}"
            )));
        }
        let [length] = array(&mut rest)?;
        let found = str_of(&mut rest, usize::from(length))?;
        if found != list {
            return Err(refused(format!(
                "belongs to the list `{}`, not to `{list}`",
                shown(found)
            )));
        }
        let direction = match array(&mut rest)? {
            [0] => Direction::Next,
            [1] => Direction::Previous,
            [_] => return Err(damaged()),
        };
        let [count] = array(&mut rest)?;
        if !(1..=MAX_PARTS).contains(&usize::from(count)) {
            return Err(damaged());
        }
        let position = (0..count)
            .map(|_| part(&mut rest))
            .collect::<Result<Vec<Part>>>()?;
        if !rest.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            list,
            direction,
            position,
        })
    }

    /// The text at `part` of the position, from 0.
    ///
    /// # Errors
    /// `Invalid` on `cursor` if there is none: the cursor was not made here.
    pub fn text(&self, part: usize) -> Result<&str> {
        match self.position.get(part) {
            Some(Part::Text(text)) => Ok(text),
            _ => Err(damaged()),
        }
    }

    /// As `text`, for a number.
    pub fn number(&self, part: usize) -> Result<i64> {
        match self.position.get(part) {
            Some(Part::Number(number)) => Ok(*number),
            _ => Err(damaged()),
        }
    }

    /// As `text`, for an id.
    pub fn id(&self, part: usize) -> Result<[u8; 16]> {
        match self.position.get(part) {
            Some(Part::Id(id)) => Ok(*id),
            _ => Err(damaged()),
        }
    }
}

fn part(rest: &mut &[u8]) -> Result<Part> {
    match array(rest)? {
        [1] => {
            let length = u16::from_be_bytes(array(rest)?);
            Ok(Part::Text(str_of(rest, usize::from(length))?.to_owned()))
        }
        [2] => Ok(Part::Number(i64::from_be_bytes(array(rest)?))),
        [3] => Ok(Part::Id(array(rest)?)),
        [_] => Err(damaged()),
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (first, after) = rest.split_first_chunk().ok_or_else(damaged)?;
    *rest = after;
    Ok(*first)
}

fn str_of<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a str> {
    let (first, after) = rest.split_at_checked(length).ok_or_else(damaged)?;
    *rest = after;
    std::str::from_utf8(first).map_err(|_| damaged())
}

/// The lengths that are written are bounded where a `Cursor` is made.
fn length_byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn damaged() -> Error {
    refused("is not one that this server made, or was cut off")
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::invalid(
        "cursor",
        format!("the cursor {why}; leave it out to begin at the first page"),
    )
}
