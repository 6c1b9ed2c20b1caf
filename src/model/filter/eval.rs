//! A parsed filter: asked of a row, and written back as text.

use std::borrow::Cow;
use std::fmt;

use super::lex::Sign;
use super::{Field, Filterable, Value};
use crate::clock::Timestamp;

/// `And` and `Or` never hold one of their own kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Term(Term),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub(super) field: &'static Field,
    /// For maps alone, and always for them.
    pub(super) key: Option<String>,
    pub(super) test: Test,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// `=` and `in`
    OneOf(Vec<Scalar>),
    /// `!=` and `not in`
    NoneOf(Vec<Scalar>),
    /// Folded to lower case.
    Contains(String),
    Prefix(String),
    /// With a number or a time.
    Compare(Order, Scalar),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    /// `''`: an empty text, or none.
    Empty,
    Text(String),
    Number(i64),
    Time(Timestamp),
    Bool(bool),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expr {
    pub(super) fn holds(&self, row: &impl Filterable) -> bool {
        match self {
            Self::Term(term) => term
                .test
                .holds(&row.value(term.field.name, term.key.as_deref())),
            Self::Not(inner) => !inner.holds(row),
            Self::And(all) => all.iter().all(|expr| expr.holds(row)),
            Self::Or(any) => any.iter().any(|expr| expr.holds(row)),
        }
    }
}

impl Test {
    fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Self::OneOf(scalars) => scalars.iter().any(|scalar| scalar.equals(value)),
            Self::NoneOf(scalars) => !scalars.iter().any(|scalar| scalar.equals(value)),
            Self::Contains(needle) => any_text(value, |text| fold(text).contains(needle)),
            Self::Prefix(prefix) => any_text(value, |text| text.starts_with(prefix)),
            Self::Compare(order, scalar) => match (value, scalar) {
                (Value::Number(left), Scalar::Number(right)) => order.holds(left, right),
                (Value::Time(left), Scalar::Time(right)) => order.holds(left, right),
                _ => false,
            },
        }
    }
}

impl Scalar {
    fn equals(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Empty => match value {
                Value::Absent => true,
                Value::Texts(texts) if texts.is_empty() => true,
                _ => any_text(value, str::is_empty),
            },
            Self::Text(text) => any_text(value, |found| found == text),
            Self::Number(number) => *value == Value::Number(*number),
            Self::Time(time) => *value == Value::Time(*time),
            Self::Bool(bool) => *value == Value::Bool(*bool),
        }
    }
}

impl Order {
    pub(super) fn of(sign: Sign) -> Option<Self> {
        match sign {
            Sign::Less => Some(Self::Less),
            Sign::LessOrEqual => Some(Self::LessOrEqual),
            Sign::Greater => Some(Self::Greater),
            Sign::GreaterOrEqual => Some(Self::GreaterOrEqual),
            Sign::Equal | Sign::NotEqual | Sign::Contains | Sign::Prefix => None,
        }
    }

    fn holds<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// First and last time that is so ordered to `time`. Times are whole microseconds, and filters'
    /// lie within the years 1 to 9999, so that one more or less never runs over.
    pub(super) fn bounds(self, time: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        match self {
            Self::Less => (None, Some(time.plus(-1))),
            Self::LessOrEqual => (None, Some(time)),
            Self::Greater => (Some(time.plus(1)), None),
            Self::GreaterOrEqual => (Some(time), None),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Less => Sign::Less.as_str(),
            Self::LessOrEqual => Sign::LessOrEqual.as_str(),
            Self::Greater => Sign::Greater.as_str(),
            Self::GreaterOrEqual => Sign::GreaterOrEqual.as_str(),
        }
    }
}

fn any_text(value: &Value<'_>, test: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Text(text) => test(text),
        Value::Texts(texts) => texts.iter().any(|text| test(text)),
        Value::Number(_) | Value::Time(_) | Value::Bool(_) | Value::Absent => false,
    }
}

/// Lower case, character by character: `str::to_lowercase` writes a Greek sigma by its neighbours,
/// and a part of a word would not be found in it.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Cow::Owned(text.to_ascii_lowercase());
        }
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
}

pub(super) fn write_all(f: &mut fmt::Formatter<'_>, all: &[Expr]) -> fmt::Result {
    for (at, expr) in all.iter().enumerate() {
        if at > 0 {
            f.write_str(" and ")?;
        }
        match expr {
            Expr::Or(_) if all.len() > 1 => write!(f, "({expr})")?,
            Expr::Term(_) | Expr::Not(_) | Expr::And(_) | Expr::Or(_) => write!(f, "{expr}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(term) => write!(f, "{term}"),
            Self::Not(inner) => match inner.as_ref() {
                Self::Term(_) | Self::Not(_) => write!(f, "not {inner}"),
                Self::And(_) | Self::Or(_) => write!(f, "not ({inner})"),
            },
            Self::And(all) => write_all(f, all),
            Self::Or(any) => write_list(f, any, " or "),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name)?;
        if let Some(key) = &self.key {
            write!(f, ".{key}")?;
        }
        match &self.test {
            Test::OneOf(values) => match values.as_slice() {
                [one] => write!(f, " = {one}"),
                several => write_in(f, " in (", several),
            },
            Test::NoneOf(values) => match values.as_slice() {
                [one] => write!(f, " != {one}"),
                several => write_in(f, " not in (", several),
            },
            Test::Contains(text) => write!(f, " ~ {}", Quoted(text)),
            Test::Prefix(text) => write!(f, " ^ {}", Quoted(text)),
            Test::Compare(order, value) => write!(f, " {} {value}", order.as_str()),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("''"),
            Self::Text(text) => write!(f, "{}", Quoted(text)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Bool(bool) => write!(f, "{bool}"),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

fn write_in(f: &mut fmt::Formatter<'_>, begin: &str, values: &[Scalar]) -> fmt::Result {
    f.write_str(begin)?;
    write_list(f, values, ", ")?;
    f.write_str(")")
}

fn write_list(
    f: &mut fmt::Formatter<'_>,
    items: &[impl fmt::Display],
    between: &str,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
