//! Walking rows in the order of an index, either way: page after page by key, never by offset.

use rusqlite::{Params, Row, Statement};

use super::readers::Budget;
use crate::error::Result;
use crate::model::filter::{Filter, Filterable};

/// Where a page begins; the key itself is not on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start<K> {
    Beginning,
    After(K),
    /// Towards the beginning.
    Before(K),
    /// From the end towards the beginning: the last page is the first in reverse.
    End,
}

impl<K> Start<K> {
    pub(super) fn order(&self) -> &'static str {
        match self {
            Self::Beginning | Self::After(_) => "ASC",
            Self::Before(_) | Self::End => "DESC",
        }
    }

    pub fn backwards(&self) -> bool {
        matches!(self, Self::Before(_) | Self::End)
    }
}

impl Start<String> {
    /// Bounds for ASCII texts without NUL that begin with `prefix`: from the first, included, to the
    /// second, excluded.
    pub(super) fn bounds(&self, prefix: &str) -> (String, String) {
        let (mut low, mut high) = (prefix.to_owned(), format!("{prefix}\u{7f}"));
        match self {
            Self::Beginning | Self::End => {}
            // Nothing lies between a text and itself with a NUL behind it.
            Self::After(key) => low = low.max(format!("{key}\0")),
            Self::Before(key) => high = high.min(key.clone()),
        }
        (low, high)
    }
}

impl Start<[u8; 16]> {
    /// Bounds for ids, both excluded; no id is all zeros or all ones.
    pub(super) fn bounds(&self) -> ([u8; 16], [u8; 16]) {
        match self {
            Self::Beginning | Self::End => ([0; 16], [0xff; 16]),
            Self::After(key) => (*key, [0xff; 16]),
            Self::Before(key) => ([0; 16], *key),
        }
    }
}

/// Rows of one page, in the list's order.
pub struct Rows<T> {
    pub items: Vec<T>,
    /// The walk went towards the beginning.
    pub backwards: bool,
    /// There is more the way the walk went: behind this row, which need not be on the page.
    pub more: Option<T>,
    /// False if the budget ended the walk.
    pub complete: bool,
}

/// Takes up to `limit` rows that match. The statement's order is that of `start`.
pub(super) fn walk<K, T: Filterable + Clone>(
    start: &Start<K>,
    statement: &mut Statement<'_>,
    params: impl Params,
    limit: usize,
    filter: &Filter<T>,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Rows<T>> {
    let mut budget = Budget::new();
    let mut out = Rows {
        items: Vec::new(),
        backwards: start.backwards(),
        more: None,
        complete: true,
    };
    let mut last = None;
    #[cfg(test)]
    super::plans::saw(statement);
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        if out.items.len() == limit {
            out.more = last;
            break;
        }
        if !budget.take() {
            out.complete = false;
            out.more = last;
            break;
        }
        let item = read(row)?;
        if filter.matches(&item) {
            out.items.push(item.clone());
        }
        last = Some(item);
    }
    if out.backwards {
        out.items.reverse();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_what_lies_behind_a_key() {
        let within = |start: &Start<String>, prefix: &str, text: &str| {
            let (low, high) = start.bounds(prefix);
            *text >= *low && *text < *high
        };
        let (begin, after, before) = (
            Start::Beginning,
            Start::After("db".to_owned()),
            Start::Before("db".to_owned()),
        );
        for (text, expected) in [
            ("a", [true, false, true]),
            ("db", [true, false, false]),
            ("db-", [true, true, false]),
            ("zz", [true, true, false]),
        ] {
            let found = [&begin, &after, &before].map(|start| within(start, "", text));
            assert_eq!(found, expected, "{text}");
        }
        assert!(within(&begin, "d", "d") && within(&begin, "d", "d~"));
        assert!(!within(&begin, "d", "c") && !within(&begin, "d", "e"));
        assert!(within(&after, "d", "dc") && !within(&after, "d", "da"));
    }
}
