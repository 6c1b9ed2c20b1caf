//! One page of a list, and the cursor to the next. Pages follow keys, never offsets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Rows in a page unless asked otherwise, and at most.
pub const DEFAULT_LIMIT: u32 = 100;
pub const MAX_LIMIT: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it back as `cursor` to read on; none at the end.
    pub next: Option<String>,
    /// False: the search stopped at its budget of rows or time before it filled the page; go on
    /// with `next`.
    pub complete: bool,
}

impl<T> Page<T> {
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
            complete: self.complete,
        }
    }
}
