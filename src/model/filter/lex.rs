//! A filter's text into tokens.

use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A field, a keyword or a value without quotes.
    Bare(String),
    Quoted(String),
    Sign(Sign),
    Open,
    Close,
    Comma,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Equal,
    NotEqual,
    Contains,
    Prefix,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Sign {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Contains => "~",
            Self::Prefix => "^",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// An error at a character, counted from 1.
pub(super) fn wrong(at: usize, why: impl std::fmt::Display) -> Error {
    Error::invalid(
        "filter",
        format!("the filter is wrong at character {at}: {why}"),
    )
}

/// Tokens with the character at which each begins; the last is `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&first) = chars.get(at) {
        let begin = at + 1;
        let follows = |c| chars.get(at + 1) == Some(&c);
        let (token, length) = match first {
            c if c.is_whitespace() => {
                at += 1;
                continue;
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '\'' => quoted(&chars, at)?,
            '"' => {
                return Err(wrong(
                    begin,
                    "texts stand in single quotes, as in name = 'a b'",
                ));
            }
            '=' if follows('=') => return Err(wrong(begin, "`==` is no operator; write `=`")),
            '=' => (Token::Sign(Sign::Equal), 1),
            '!' if follows('=') => (Token::Sign(Sign::NotEqual), 2),
            '!' => return Err(wrong(begin, "`!` is no operator; write `!=`, or `not`")),
            '~' => (Token::Sign(Sign::Contains), 1),
            '^' => (Token::Sign(Sign::Prefix), 1),
            '<' if follows('>') => return Err(wrong(begin, "`<>` is no operator; write `!=`")),
            '<' if follows('=') => (Token::Sign(Sign::LessOrEqual), 2),
            '<' => (Token::Sign(Sign::Less), 1),
            '>' if follows('=') => (Token::Sign(Sign::GreaterOrEqual), 2),
            '>' => (Token::Sign(Sign::Greater), 1),
            c if c.is_control() => {
                return Err(wrong(
                    begin,
                    format_args!("the control character U+{:04X}", u32::from(c)),
                ));
            }
            _ => {
                let word: String = chars[at..].iter().take_while(|c| is_bare(**c)).collect();
                let length = word.chars().count();
                (Token::Bare(word), length)
            }
        };
        out.push((begin, token));
        at += length;
    }
    out.push((chars.len() + 1, Token::End));
    Ok(out)
}

/// What may stand in a word without quotes.
fn is_bare(c: char) -> bool {
    !c.is_whitespace()
        && !c.is_control()
        && !matches!(
            c,
            '(' | ')' | ',' | '\'' | '"' | '=' | '!' | '~' | '^' | '<' | '>'
        )
}

/// The text in quotes that begins at `open`, and its length with them; `''` within is one quote.
fn quoted(chars: &[char], open: usize) -> Result<(Token, usize)> {
    let mut text = String::new();
    let mut at = open + 1;
    loop {
        match (chars.get(at), chars.get(at + 1)) {
            (Some('\''), Some('\'')) => {
                text.push('\'');
                at += 2;
            }
            (Some('\''), _) => return Ok((Token::Quoted(text), at + 1 - open)),
            (Some(c), _) => {
                text.push(*c);
                at += 1;
            }
            (None, _) => return Err(wrong(open + 1, "this quote is never closed")),
        }
    }
}
