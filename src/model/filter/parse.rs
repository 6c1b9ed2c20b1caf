//! Tokens into expressions, each term checked against its field.

use super::eval::{Expr, Order, Scalar, Term, Test, fold};
use super::lex::{Sign, Token, tokens, wrong};
use super::{Field, FieldKind, MAX_NESTING, MAX_TERMS, MAX_TEXT};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::id::shown;

const KEYWORDS: [&str; 4] = ["and", "or", "not", "in"];

/// The conjuncts of all `texts` together.
pub(super) fn parse(
    texts: &[String],
    fields: &'static [Field],
    now: Timestamp,
) -> Result<Vec<Expr>> {
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes > MAX_TEXT {
        return Err(Error::invalid(
            "filter",
            format!("the filters are {bytes} bytes long; {MAX_TEXT} are the most"),
        ));
    }
    let mut all = Vec::new();
    let mut terms = 0;
    for (number, text) in (1..).zip(texts) {
        if text.trim().is_empty() {
            return Err(Error::invalid(
                "filter",
                "a filter is blank; leave it out to have everything",
            ));
        }
        let parsed = tokens(text).and_then(|tokens| {
            let mut parser = Parser {
                tokens,
                at: 0,
                depth: 0,
                terms,
                fields,
                now,
            };
            let expr = parser.whole()?;
            terms = parser.terms;
            Ok(expr)
        });
        all.push(parsed.map_err(|mut error| {
            if texts.len() > 1 {
                error.public = format!("in filter {number}: {}", error.public);
            }
            error
        })?);
    }
    Ok(flat(all, |expr| match expr {
        Expr::And(inner) => Ok(inner),
        other => Err(other),
    }))
}

struct Parser {
    /// Ends with `End`, which is never passed.
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    terms: usize,
    fields: &'static [Field],
    now: Timestamp,
}

impl Parser {
    fn whole(&mut self) -> Result<Expr> {
        let expr = self.any()?;
        match self.token() {
            Token::End => Ok(expr),
            _ => Err(self.expected("`and`, `or` or the end")),
        }
    }

    fn any(&mut self) -> Result<Expr> {
        let mut parts = vec![self.all()?];
        while self.keyword("or") {
            parts.push(self.all()?);
        }
        let parts = flat(parts, |expr| match expr {
            Expr::Or(inner) => Ok(inner),
            other => Err(other),
        });
        Ok(one_or(parts, Expr::Or))
    }

    fn all(&mut self) -> Result<Expr> {
        let mut parts = vec![self.unary()?];
        while self.keyword("and") {
            parts.push(self.unary()?);
        }
        let parts = flat(parts, |expr| match expr {
            Expr::And(inner) => Ok(inner),
            other => Err(other),
        });
        Ok(one_or(parts, Expr::And))
    }

    fn unary(&mut self) -> Result<Expr> {
        let at = self.position();
        if self.keyword("not") {
            self.deeper(at)?;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.take(&Token::Open) {
            self.deeper(at)?;
            let inner = self.any()?;
            if !self.take(&Token::Close) {
                return Err(self.expected("`and`, `or` or `)`"));
            }
            self.depth -= 1;
            return Ok(inner);
        }
        self.term()
    }

    fn deeper(&mut self, at: usize) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(wrong(
                at,
                format_args!("more than {MAX_NESTING} parentheses or `not` within each other"),
            ));
        }
        Ok(())
    }

    fn term(&mut self) -> Result<Expr> {
        let at = self.position();
        let Token::Bare(word) = self.token().clone() else {
            return Err(self.expected("a field, `not` or `(`"));
        };
        if is_keyword(&word) {
            return Err(self.expected("a field, `not` or `(`"));
        }
        let (field, key) = find(self.fields, &word, at)?;
        self.at += 1;
        let test = if let Token::Sign(sign) = *self.token() {
            let sign_at = self.position();
            self.at += 1;
            self.comparison(field, sign, sign_at)?
        } else if self.keyword("in") {
            Test::OneOf(self.list(field)?)
        } else if self.keyword("not") {
            if !self.keyword("in") {
                return Err(self.expected("`in` after `not`"));
            }
            Test::NoneOf(self.list(field)?)
        } else {
            let rule = rule(field.kind);
            return Err(self.expected(&format!("an operator after `{}` ({rule})", field.name)));
        };
        Ok(Expr::Term(Term { field, key, test }))
    }

    fn comparison(&mut self, field: &'static Field, sign: Sign, sign_at: usize) -> Result<Test> {
        let is_text = matches!(field.kind, FieldKind::Text | FieldKind::Map);
        let is_ordered = matches!(field.kind, FieldKind::Number | FieldKind::Time);
        let at = self.position();
        match (sign, Order::of(sign)) {
            (Sign::Equal, _) => Ok(Test::OneOf(vec![self.value(field)?])),
            (Sign::NotEqual, _) => Ok(Test::NoneOf(vec![self.value(field)?])),
            (_, Some(order)) if is_ordered => match self.value(field)? {
                Scalar::Empty => Err(refused(field, at, "only `=` and `!=` go with ''")),
                bound => Ok(Test::Compare(order, bound)),
            },
            (_, None) if is_text => match (self.value(field)?, sign) {
                (Scalar::Text(text), Sign::Contains) => Ok(Test::Contains(fold(&text).into())),
                (Scalar::Text(text), _) => Ok(Test::Prefix(text)),
                _ => Err(refused(field, at, "only `=` and `!=` go with ''")),
            },
            _ => Err(refused(
                field,
                sign_at,
                format_args!("`{}` is not for it", sign.as_str()),
            )),
        }
    }

    fn list(&mut self, field: &'static Field) -> Result<Vec<Scalar>> {
        if field.kind == FieldKind::Bool {
            return Err(refused(field, self.position(), "`in` is not for it"));
        }
        if !self.take(&Token::Open) {
            return Err(self.expected("`(` after `in`"));
        }
        let mut values = vec![self.value(field)?];
        while self.take(&Token::Comma) {
            values.push(self.value(field)?);
        }
        if !self.take(&Token::Close) {
            return Err(self.expected("`,` or `)`"));
        }
        Ok(values)
    }

    fn value(&mut self, field: &'static Field) -> Result<Scalar> {
        let at = self.position();
        let text = match self.token().clone() {
            Token::Bare(word) if !is_keyword(&word) => word,
            Token::Quoted(text) => text,
            Token::Bare(word) => {
                return Err(wrong(
                    at,
                    format_args!(
                        "a value of `{}` is missing before `{word}`; put '{word}' in quotes if it is the value",
                        field.name
                    ),
                ));
            }
            _ => return Err(self.expected(&format!("a value of `{}`", field.name))),
        };
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(wrong(
                at,
                format_args!("more than {MAX_TERMS} comparisons; each value of an `in` counts"),
            ));
        }
        self.at += 1;
        let no = || refused(field, at, format_args!("`{}` is none", shown(&text)));
        match field.kind {
            FieldKind::Text | FieldKind::Map if text.is_empty() => Ok(Scalar::Empty),
            FieldKind::Text | FieldKind::Map => Ok(Scalar::Text(text)),
            FieldKind::Number => text.parse().map(Scalar::Number).map_err(|_| no()),
            FieldKind::Time if text.is_empty() => Ok(Scalar::Empty),
            FieldKind::Time => time(&text, self.now).map(Scalar::Time).ok_or_else(no),
            FieldKind::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" => Ok(Scalar::Bool(true)),
                "false" | "no" => Ok(Scalar::Bool(false)),
                _ => Err(no()),
            },
            FieldKind::Word(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(&text))
                .map(|word| Scalar::Text((*word).to_owned()))
                .ok_or_else(no),
        }
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at].1
    }

    fn position(&self) -> usize {
        self.tokens[self.at].0
    }

    /// Passes `token` if it is next. Never called for `End`.
    fn take(&mut self, token: &Token) -> bool {
        let found = self.token() == token;
        self.at += usize::from(found);
        found
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.token(), Token::Bare(word) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn expected(&self, what: &str) -> Error {
        let found = match self.token() {
            Token::Bare(word) => format!("`{}`", shown(word)),
            Token::Quoted(text) => format!("the text '{}'", shown(text)),
            Token::Sign(sign) => format!("`{}`", sign.as_str()),
            Token::Open => "`(`".to_owned(),
            Token::Close => "`)`".to_owned(),
            Token::Comma => "`,`".to_owned(),
            Token::End => "the end".to_owned(),
        };
        wrong(
            self.position(),
            format_args!("expected {what}, found {found}"),
        )
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|k| k.eq_ignore_ascii_case(word))
}

/// Parts with those of the same kind opened; one level is enough, since each was flat when made.
fn flat(parts: Vec<Expr>, open: fn(Expr) -> Result<Vec<Expr>, Expr>) -> Vec<Expr> {
    parts
        .into_iter()
        .flat_map(|part| open(part).unwrap_or_else(|other| vec![other]))
        .collect()
}

fn one_or(mut parts: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            several(parts)
        }
    }
}

fn find(
    fields: &'static [Field],
    word: &str,
    at: usize,
) -> Result<(&'static Field, Option<String>)> {
    let (name, key) = match word.split_once('.') {
        Some((name, key)) => (name, Some(key)),
        None => (word, None),
    };
    let field = fields.iter().find(|field| field.name == name);
    match (field, key) {
        (Some(field), Some(key)) if field.kind == FieldKind::Map && !key.is_empty() => {
            Ok((field, Some(key.to_owned())))
        }
        (Some(field), _) if field.kind == FieldKind::Map => Err(wrong(
            at,
            format_args!("`{name}` needs a key, as in {name}.KEY = value"),
        )),
        (Some(field), None) => Ok((field, None)),
        (_, _) => Err(wrong(
            at,
            format_args!(
                "there is no field `{}`; there are {}",
                shown(word),
                known(fields)
            ),
        )),
    }
}

fn known(fields: &[Field]) -> String {
    let names: Vec<String> = fields
        .iter()
        .map(|field| match field.kind {
            FieldKind::Map => format!("{}.KEY", field.name),
            _ => field.name.to_owned(),
        })
        .collect();
    names.join(", ")
}

fn refused(field: &Field, at: usize, why: impl std::fmt::Display) -> Error {
    wrong(
        at,
        format_args!("{why}: `{}` {}", field.name, rule(field.kind)),
    )
}

/// What a field takes, to stand after its name.
fn rule(kind: FieldKind) -> String {
    match kind {
        FieldKind::Text | FieldKind::Map => "takes = != ~ ^ or in, and a text".to_owned(),
        FieldKind::Number => "takes = != < > <= >= or in, and a whole number".to_owned(),
        FieldKind::Time => {
            "takes = != < > <= >= or in, and a time such as 2026-11-22T08:00:00Z or -7d (s, m, h, d, w before now)"
                .to_owned()
        }
        FieldKind::Bool => "takes = or !=, and true or false".to_owned(),
        FieldKind::Word(words) => format!("takes = != or in, and one of {}", words.join(", ")),
    }
}

/// RFC 3339, or a sign, a whole number and a unit from now on.
fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    // What RFC 3339 can write in UTC, and so what a filter can be printed with.
    const YEAR_1: i64 = -62_135_596_800 * Timestamp::SECOND;
    const YEAR_10000: i64 = 253_402_300_800 * Timestamp::SECOND;
    let time = match text.starts_with(['-', '+']) {
        true => relative(text, now)?,
        false => text.parse().ok()?,
    };
    (YEAR_1..YEAR_10000).contains(&time.0).then_some(time)
}

fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = match text.as_bytes().last()? {
        b's' => Timestamp::SECOND,
        b'm' => 60 * Timestamp::SECOND,
        b'h' => Timestamp::HOUR,
        b'd' => Timestamp::DAY,
        b'w' => 7 * Timestamp::DAY,
        _ => return None,
    };
    let number = &text[1..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let distance = number.parse::<i64>().ok()?.checked_mul(unit)?;
    match text.as_bytes()[0] {
        b'-' => now.0.checked_sub(distance).map(Timestamp),
        _ => now.0.checked_add(distance).map(Timestamp),
    }
}
