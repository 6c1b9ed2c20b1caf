//! Walking rows in the order of an index: page after page by key, never by offset.

use rusqlite::{Params, Row, Statement};

use super::readers::Budget;
use crate::error::Result;
use crate::model::filter::{Filter, Filterable};

/// Rows of one page in the order of its walk.
pub struct Rows<T> {
    pub items: Vec<T>,
    /// There is more behind the last item (or behind the last row seen, if not complete).
    pub more: bool,
    /// False if the budget ended the walk.
    pub complete: bool,
    /// The last row that was seen when the budget ended, to go on from.
    pub last_seen: Option<T>,
}

/// Takes up to `limit` rows that match. The statement's order is the walk's order.
pub(super) fn walk<T: Filterable>(
    statement: &mut Statement<'_>,
    params: impl Params,
    limit: usize,
    filter: &Filter<T>,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Rows<T>> {
    let mut budget = Budget::new();
    let mut out = Rows {
        items: Vec::new(),
        more: false,
        complete: true,
        last_seen: None,
    };
    let mut rows = statement.query(params)?;
    let mut previous = None;
    while let Some(row) = rows.next()? {
        if out.items.len() == limit {
            out.more = true;
            return Ok(out);
        }
        if !budget.take() {
            out.complete = false;
            out.more = true;
            out.last_seen = previous;
            return Ok(out);
        }
        let item = read(row)?;
        if filter.matches(&item) {
            out.items.push(item);
            previous = None;
        } else {
            previous = Some(item);
        }
    }
    Ok(out)
}
