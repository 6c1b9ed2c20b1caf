//! The one error that crosses layers: a kind that callers act on, a public text, a private cause.
//!
//! A kind exists only where some caller acts differently on it. `http/reply.rs` alone maps kinds to
//! status codes, `cli/print.rs` alone maps them to exit codes. The private cause goes to the log and
//! never into an answer; neither may hold a secret.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request itself is wrong; sending it again changes nothing.
    Invalid,
    /// No such object, or none that this caller may know of.
    NotFound,
    /// The object's state forbids it: a taken name, a second registration.
    Conflict,
    /// `If-Match` or `If-None-Match` named another version.
    PreconditionFailed,
    /// An `Idempotency-Key` was used before for another request.
    KeyReused,
    /// The caller is unknown: no certificate, token or session that is valid here.
    Unauthenticated,
    /// The caller is known and may not.
    Denied,
    /// A body or a value is longer than allowed.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// The method is not one of this path's.
    MethodNotAllowed,
    /// The body is of a type that this path does not take.
    UnsupportedType,
    /// Too many attempts; wait.
    Limited,
    /// The server has no root key yet.
    Sealed,
    /// Nothing was applied; try again later.
    Unavailable,
    /// The answer was lost: it may have been applied. Retry with the same idempotency key.
    Unknown,
    /// Ours to mend.
    Internal,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Kind, stable code, text for the user, cause for the log.
pub struct Error {
    pub kind: Kind,
    /// Stable and specific, such as `name_taken`; programs match on it.
    pub code: &'static str,
    /// What happened, on what, and what to do next. Never holds a secret.
    pub public: String,
    /// The request's field that is at fault, if one is.
    pub field: Option<&'static str>,
    /// Seconds until another try makes sense.
    pub retry_after: Option<u32>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, code: &'static str, public: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            public: printable(public.into()),
            field: None,
            retry_after: None,
            cause: None,
        }
    }

    pub fn invalid(field: &'static str, public: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(Kind::Invalid, "invalid", public)
        }
    }

    pub fn not_found(public: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, "not_found", public)
    }

    pub fn conflict(code: &'static str, public: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, public)
    }

    pub fn denied(code: &'static str, public: impl Into<String>) -> Self {
        Self::new(Kind::Denied, code, public)
    }

    pub fn unavailable(code: &'static str, public: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, code, public)
    }

    /// Something that should not happen. `what` is for the log; the user reads that it is logged.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(
            Kind::Internal,
            "internal",
            "an internal error happened; the server's log has the cause under this request's id",
        )
        .because(what.into())
    }

    /// Keeps what lies behind it, for the log alone.
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The private cause, for the log.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.cause.as_deref()
    }
}

/// The longest text for the user, in bytes.
const LONGEST: usize = 1_400;

/// What a terminal and a log show without a second meaning: texts of libraries quote the input, and
/// may quote all of it, escape sequences included.
fn printable(text: String) -> String {
    let odd = |c: char| c.is_control() && c != '\n';
    if text.len() <= LONGEST && !text.contains(odd) {
        return text;
    }
    let mut out = String::with_capacity(LONGEST);
    for c in text.chars() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        match odd(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}: {}", self.kind, self.code, self.public)?;
        match &self.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_quotes_cannot_steer_a_terminal_nor_flood_it() {
        let error = Error::invalid("name", "`\u{1b}[2J` is wrong\n  try again");
        assert_eq!(error.public, "`\\u{1b}[2J` is wrong\n  try again");
        let long = Error::invalid("name", "ä".repeat(60_000));
        assert!(long.public.len() < 1_500 && long.public.ends_with('…'));
    }
}
