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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::Random;

    fn cursors() -> Vec<Cursor> {
        let id = *b"\x01\x93\x1f\x6e\x7a\x02\x70\x00\x80\x00\x00\x00\x00\x00\x00\x07";
        let long = |length: usize| Part::Text("ä".repeat(length / 2));
        [
            vec![Part::Text("db-key".to_owned()), Part::Id(id)],
            vec![Part::Number(i64::MIN)],
            vec![
                Part::Number(-1),
                Part::Text(String::new()),
                Part::Id([0xff; 16]),
            ],
            vec![long(700)],
            vec![long(254), long(254), long(192)],
        ]
        .into_iter()
        .flat_map(|position| {
            [Direction::Next, Direction::Previous].map(|direction| Cursor {
                list: "deposits",
                direction,
                position: position.clone(),
            })
        })
        .collect()
    }

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        for cursor in cursors() {
            let text = cursor.encode();
            assert!(text.len() <= MAX_CURSOR, "{}", text.len());
            assert_eq!(Cursor::parse("deposits", &text).unwrap(), cursor);
        }
        let longest = Cursor {
            list: "deposits-of-an-organization/name",
            direction: Direction::Next,
            position: vec![
                Part::Text("a".repeat(230)),
                Part::Text("b".repeat(235)),
                Part::Text("c".repeat(235)),
            ],
        };
        assert!(Cursor::parse(longest.list, &longest.encode()).is_ok());
        // The example of docs/formats/cursor.md.
        let first = &cursors()[0];
        assert_eq!(
            first.encode(),
            "UwEIZGVwb3NpdHMAAgEABmRiLWtleQMBkx9uegJwAIAAAAAAAAAH"
        );
        assert_eq!(first.text(0).unwrap(), "db-key");
        assert_eq!(first.id(1).unwrap()[15], 7);
        assert!(first.number(0).is_err() && first.text(1).is_err() && first.id(2).is_err());
    }

    #[test]
    fn a_cursor_that_is_not_ours_is_refused_with_a_reason() {
        let good = cursors()[0].encode();
        for (text, part) in [
            (String::new(), "cut off"),
            ("%%%".to_owned(), "cut off"),
            (format!("{good}="), "cut off"),
            (format!("{good}AAAA"), "cut off"),
            ("A".repeat(MAX_CURSOR + 1), "1025 bytes"),
            (URL_SAFE_NO_PAD.encode([MAGIC, 2]), "version 2"),
            (URL_SAFE_NO_PAD.encode([0, 1]), "cut off"),
        ] {
            let error = Cursor::parse("deposits", &text).unwrap_err();
            assert_eq!(error.field, Some("cursor"));
            assert!(error.public.contains(part), "{text}: {error}");
        }
        let error = Cursor::parse("clients", &good).unwrap_err().public;
        assert!(
            error.contains("`deposits`") && error.contains("`clients`"),
            "{error}"
        );
        for parts in [0, 4] {
            let mut cursor = cursors()[1].clone();
            cursor.position = vec![Part::Number(1); parts];
            assert!(Cursor::parse("deposits", &cursor.encode()).is_err());
        }
        let bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        for length in 0..bytes.len() {
            let cut = URL_SAFE_NO_PAD.encode(&bytes[..length]);
            assert!(Cursor::parse("deposits", &cut).is_err(), "{length}");
        }
    }

    #[test]
    fn no_cursor_panics_and_each_has_one_form() {
        let mut random = Random::new(0xc0_5eed);
        let cursors = cursors();
        let mut legal = 0;
        for round in 0..20_000 {
            let valid = cursors[random.below(cursors.len())].encode();
            let text = match round % 3 {
                0 => String::from_utf8_lossy(&random.bytes(80)).into_owned(),
                1 => String::from_utf8_lossy(&random.mutated(valid.as_bytes())).into_owned(),
                _ => {
                    let bytes = URL_SAFE_NO_PAD.decode(&valid).unwrap();
                    URL_SAFE_NO_PAD.encode(random.mutated(&bytes))
                }
            };
            if let Ok(cursor) = Cursor::parse("deposits", &text) {
                legal += 1;
                assert_eq!(cursor.encode(), text);
            }
        }
        assert!(legal > 100, "only {legal} cursors were legal");
    }

    #[test]
    fn a_page_has_1_to_1000_rows() {
        assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(Some(1)).unwrap(), 1);
        assert_eq!(limit(Some(MAX_LIMIT)).unwrap(), MAX_LIMIT);
        for bad in [0, MAX_LIMIT + 1, u32::MAX] {
            assert_eq!(limit(Some(bad)).unwrap_err().field, Some("limit"));
        }
    }
}
