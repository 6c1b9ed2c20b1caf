//! Filters of lists (docs/formats/filter.md): parsed once against a noun's fields, then asked of each
//! row. Pure. A filter narrows what is shown; it never decides who may see it.

mod eval;
mod lex;
mod parse;

use std::borrow::Cow;
use std::marker::PhantomData;

use self::eval::{Expr, Scalar, Term, Test};
use crate::clock::Timestamp;
use crate::error::Result;

/// The filters of one request together, in bytes.
pub const MAX_TEXT: usize = 4_096;
/// Parentheses and `not` within each other.
pub const MAX_NESTING: usize = 32;
/// Comparisons in one request; each value of an `in` counts.
pub const MAX_TERMS: usize = 256;

/// Something that a filter can ask about.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub kind: FieldKind,
}

/// What a field holds, and so which operators it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `=` `!=` `~` `^` `in`
    Text,
    /// A whole number: `=` `!=` `<` `>` `<=` `>=` `in`
    Number,
    /// RFC 3339, or relative to now (`-7d`): the same operators as numbers.
    Time,
    /// `true`, `false`, `yes`, `no` in any case: `=` `!=`
    Bool,
    /// One of these words, in lower case here and in any case in the filter: `=` `!=` `in`
    Word(&'static [&'static str]),
    /// Texts under keys, asked for as `field.KEY`: the same operators as texts.
    Map,
}

/// What a row holds in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    /// Several texts: a comparison holds if it holds for any of them, `!=` if for none.
    Texts(Vec<Cow<'a, str>>),
    Number(i64),
    Time(Timestamp),
    Bool(bool),
    /// Nothing there. Only `= ''` and `!=` hold.
    Absent,
}

impl<'a> Value<'a> {
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// A text that is written for the purpose, such as an id's.
    pub fn shown(value: impl std::fmt::Display) -> Self {
        Self::Text(Cow::Owned(value.to_string()))
    }

    pub fn number(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub fn maybe_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::text)
    }

    pub fn maybe_time(time: Option<Timestamp>) -> Self {
        time.map_or(Self::Absent, Self::Time)
    }
}

/// A noun whose lists take filters.
pub trait Filterable {
    /// In the order in which errors list them.
    const FIELDS: &'static [Field];

    /// What this row holds in one of `FIELDS`; `key` is given for maps alone. `Absent` for a field
    /// that it does not have.
    fn value(&self, field: &str, key: Option<&str>) -> Value<'_>;
}

/// All filters of one request, checked against the fields of `T`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter<T> {
    /// All must hold; none of them is an `and`.
    conjuncts: Vec<Expr>,
    of: PhantomData<fn(&T)>,
}

impl<T: Filterable> Filter<T> {
    /// `texts` must all hold; none at all lets every row through. Times relative to now are fixed
    /// against `now` here.
    ///
    /// # Errors
    /// `Invalid` on the field `filter`: a blank text, a cap exceeded, wrong grammar (with the
    /// character where), an unknown field (with those known), an operator or value that the field
    /// does not take (with the rule).
    pub fn parse(texts: &[String], now: Timestamp) -> Result<Self> {
        Ok(Self {
            conjuncts: parse::parse(texts, T::FIELDS, now)?,
            of: PhantomData,
        })
    }

    pub fn matches(&self, row: &T) -> bool {
        self.conjuncts.iter().all(|expr| expr.holds(row))
    }
}

/// What an index can use. Each answer is a condition that every matching row fulfils; rows found by
/// it still pass through `matches`, unless `is_only_indexed` says that nothing else is asked.
impl<T> Filter<T> {
    /// True: every row matches.
    pub fn is_empty(&self) -> bool {
        self.conjuncts.is_empty()
    }

    /// The text or word that `field` must equal. Never the empty text, which also stands for a
    /// missing value.
    pub fn equals(&self, field: &str) -> Option<&str> {
        self.terms(field).find_map(Term::equal_text)
    }

    /// What `field` must begin with, case and all.
    pub fn prefix(&self, field: &str) -> Option<&str> {
        self.terms(field).find_map(Term::prefix)
    }

    /// A key and the text that must stand under it in the noun's map.
    pub fn label_equals(&self) -> Option<(&str, &str)> {
        self.top_level()
            .find_map(|term| Some((term.key.as_deref()?, term.equal_text()?)))
    }

    /// The earliest time in `field` that can match, itself included.
    pub fn after(&self, field: &str) -> Option<Timestamp> {
        self.terms(field)
            .filter_map(|term| term.time_bounds()?.0)
            .max()
    }

    /// The latest time in `field` that can match, itself included.
    pub fn before(&self, field: &str) -> Option<Timestamp> {
        self.terms(field)
            .filter_map(|term| term.time_bounds()?.1)
            .min()
    }

    /// True: rows that fulfil what `equals`, `prefix`, `label_equals`, `after` and `before` answer for
    /// these fields match without a further look. Two conditions on one text or two labels are
    /// more than an index takes, so that is false then.
    pub fn is_only_indexed(&self, fields: &[&str]) -> bool {
        self.conjuncts.iter().enumerate().all(|(at, expr)| {
            let Expr::Term(term) = expr else { return false };
            let alone = || {
                !self.conjuncts[..at].iter().any(
                    |earlier| matches!(earlier, Expr::Term(other) if other.field == term.field),
                )
            };
            fields.contains(&term.field.name)
                && match term.field.kind {
                    FieldKind::Text | FieldKind::Word(_) => {
                        (term.equal_text().is_some() || term.prefix().is_some()) && alone()
                    }
                    FieldKind::Map => term.equal_text().is_some() && alone(),
                    FieldKind::Time => term.time_bounds().is_some(),
                    FieldKind::Number | FieldKind::Bool => false,
                }
        })
    }

    fn top_level(&self) -> impl Iterator<Item = &Term> {
        self.conjuncts.iter().filter_map(|expr| match expr {
            Expr::Term(term) => Some(term),
            Expr::Not(_) | Expr::And(_) | Expr::Or(_) => None,
        })
    }

    fn terms(&self, field: &str) -> impl Iterator<Item = &Term> {
        self.top_level()
            .filter(move |term| term.key.is_none() && term.field.name == field)
    }
}

impl Term {
    fn equal_text(&self) -> Option<&str> {
        match &self.test {
            Test::OneOf(values) => match values.as_slice() {
                [Scalar::Text(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    fn prefix(&self) -> Option<&str> {
        match &self.test {
            Test::Prefix(text) => Some(text),
            _ => None,
        }
    }

    /// First and last time that can match; none if this term does not bound a time exactly.
    fn time_bounds(&self) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
        match &self.test {
            Test::OneOf(values) => match values.as_slice() {
                [Scalar::Time(time)] => Some((Some(*time), Some(*time))),
                _ => None,
            },
            Test::Compare(order, Scalar::Time(time)) => Some(order.bounds(*time)),
            _ => None,
        }
    }
}

/// The filter as one text that parses to the same filter; relative times have become absolute.
impl<T> std::fmt::Display for Filter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        eval::write_all(f, &self.conjuncts)
    }
}

#[cfg(test)]
mod tests;
