//! A recipient: to whom backups are encrypted. And who is meant by a name, as GnuPG has it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Field, FieldKind, Filterable, Value};
use super::id::{RecipientId, shown};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipientKind {
    /// `age1…`
    Age,
    /// An SSH key that age encrypts to: `ssh-ed25519 …` or `ssh-rsa …`.
    Ssh,
    Openpgp,
}

impl RecipientKind {
    pub const ALL: [RecipientKind; 3] = [Self::Age, Self::Ssh, Self::Openpgp];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Ssh => "ssh",
            Self::Openpgp => "openpgp",
        }
    }
}

impl FromStr for RecipientKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| Error::internal("a kind of recipient that is none"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recipient {
    pub id: RecipientId,
    pub kind: RecipientKind,
    /// What it is known by: the age recipient, the SSH key without its comment, or the fingerprint of
    /// the OpenPGP key (40 upper-case hex digits).
    pub recipient: String,
    pub label: String,
    /// Of an OpenPGP key: those that it signed itself.
    pub user_ids: Vec<String>,
    /// Of an OpenPGP key: the fingerprints of its subkeys.
    pub subkeys: Vec<String>,
    pub added: Timestamp,
    /// As in the audit: kind and name.
    pub added_by: String,
    /// From then on nothing can be encrypted to it. None: never.
    pub expires: Option<Timestamp>,
    /// Why nothing can be encrypted to it at all, such as `is revoked`.
    pub trouble: Option<String>,
}

impl Recipient {
    /// Why nothing can be encrypted to it now.
    pub fn why_not(&self, now: Timestamp) -> Option<String> {
        let expired = self.expires.filter(|end| *end <= now);
        let expired = expired.map(|end| format!("has expired ({end})"));
        self.trouble.clone().or(expired)
    }

    /// In a line that a person reads.
    pub fn told(&self) -> String {
        match self.user_ids.first() {
            Some(user_id) => format!("{} ({})", self.brief(), shown(user_id)),
            None => self.brief(),
        }
    }

    /// An SSH key on RSA would fill ten lines.
    pub fn brief(&self) -> String {
        const WHOLE: usize = 100;
        let whole = &self.recipient;
        let (begin, end) = (whole.get(..24), whole.get(whole.len().saturating_sub(24)..));
        match (begin, end) {
            (Some(begin), Some(end)) if whole.len() > WHOLE => format!("{begin}…{end}"),
            _ => whole.clone(),
        }
    }
}

impl Filterable for Recipient {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "id",
            kind: FieldKind::Text,
        },
        Field {
            name: "kind",
            kind: FieldKind::Word(&["age", "ssh", "openpgp"]),
        },
        Field {
            name: "recipient",
            kind: FieldKind::Text,
        },
        Field {
            name: "label",
            kind: FieldKind::Text,
        },
        Field {
            name: "user_id",
            kind: FieldKind::Text,
        },
        Field {
            name: "added",
            kind: FieldKind::Time,
        },
        Field {
            name: "added_by",
            kind: FieldKind::Text,
        },
        Field {
            name: "expires",
            kind: FieldKind::Time,
        },
        Field {
            name: "trouble",
            kind: FieldKind::Text,
        },
    ];

    fn value(&self, field: &str, _key: Option<&str>) -> Value<'_> {
        match field {
            "id" => Value::shown(self.id),
            "kind" => Value::text(self.kind.as_str()),
            "recipient" => Value::text(&self.recipient),
            "label" => Value::text(&self.label),
            "user_id" => Value::Texts(self.user_ids.iter().map(|it| it.as_str().into()).collect()),
            "added" => Value::Time(self.added),
            "added_by" => Value::text(&self.added_by),
            "expires" => Value::maybe_time(self.expires),
            "trouble" => Value::maybe_text(self.trouble.as_deref()),
            _ => Value::Absent,
        }
    }
}

/// A name that was given for an OpenPGP key.
#[derive(Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A fingerprint or the end of one, upper-case: 40, 16 or 8 hex digits. `surely`: it began with
    /// `0x`, so that it is nothing else.
    Key { digits: String, surely: bool },
    /// `=Name <mail>`: a whole user id.
    UserId(&'a str),
    /// `<mail>`.
    Mail(&'a str),
    /// A part of a user id, in any case.
    Part(&'a str),
}

impl<'a> Name<'a> {
    /// # Errors
    /// It is empty.
    pub fn parse(text: &'a str) -> Result<Self> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"));
        let surely = digits.is_some();
        let digits: String = digits
            .unwrap_or(text)
            .chars()
            .filter(|c| !c.is_ascii_whitespace() && *c != ':')
            .collect();
        if matches!(digits.len(), 8 | 16 | 40) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let digits = digits.to_ascii_uppercase();
            return Ok(Self::Key { digits, surely });
        }
        let mail = text
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'));
        match (text.strip_prefix('='), mail) {
            (Some(whole), _) if !whole.is_empty() => Ok(Self::UserId(whole)),
            (_, Some(mail)) if !mail.is_empty() => Ok(Self::Mail(mail)),
            _ if text.chars().any(char::is_alphanumeric) => Ok(Self::Part(text)),
            _ => Err(Error::invalid(
                "gpg_recipient",
                format!(
                    "`{}` names no key: give a part of a user id, a mail address, a key id or a fingerprint",
                    shown(text)
                ),
            )),
        }
    }

    fn fits(&self, it: &Recipient) -> bool {
        match self {
            Self::Key { digits, .. } => {
                let mut fingerprints = it.subkeys.iter().chain([&it.recipient]);
                fingerprints.any(|one| one.ends_with(digits.as_str()))
            }
            Self::UserId(whole) => it.user_ids.iter().any(|one| one == whole),
            Self::Mail(mail) => it.user_ids.iter().any(|one| same_mail(one, mail)),
            Self::Part(part) => {
                let part = part.to_lowercase();
                let mut user_ids = it.user_ids.iter();
                user_ids.any(|one| one.to_lowercase().contains(&part))
            }
        }
    }
}

/// Whether a user id's mail address is this one, in any case.
fn same_mail(user_id: &str, mail: &str) -> bool {
    let within = user_id
        .rsplit_once('<')
        .and_then(|(_, rest)| rest.strip_suffix('>'));
    within.unwrap_or(user_id).eq_ignore_ascii_case(mail)
}

/// The OpenPGP key that `name` means, if one of `all` is meant.
///
/// # Errors
/// Several are meant, or nothing can be encrypted to the one: each is listed, with why.
pub fn named<'a>(
    name: &str,
    all: &'a [Recipient],
    now: Timestamp,
) -> Result<Option<&'a Recipient>> {
    let found = meant(name, all)?;
    match found[..] {
        [] => Ok(None),
        [one] if one.why_not(now).is_none() => Ok(Some(one)),
        _ => Err(unclear(name, &found, now)),
    }
}

/// All OpenPGP keys that `name` fits, whatever can be done with them.
///
/// # Errors
/// It is no name.
pub fn meant<'a>(name: &str, all: &'a [Recipient]) -> Result<Vec<&'a Recipient>> {
    let parsed = Name::parse(name)?;
    let meant = |by: &Name<'_>| -> Vec<&'a Recipient> {
        all.iter()
            .filter(|it| it.kind == RecipientKind::Openpgp && by.fits(it))
            .collect()
    };
    let mut found = meant(&parsed);
    match &parsed {
        // Words such as `deadbeef` are hex digits, too.
        Name::Key { surely: false, .. } if found.is_empty() => {
            found = meant(&Name::Part(name.trim()))
        }
        // A whole address means itself, not each that ends with it.
        Name::Part(part) if part.contains('@') => {
            let exact = meant(&Name::Mail(part));
            found = if exact.is_empty() { found } else { exact };
        }
        Name::Key { .. } | Name::UserId(_) | Name::Mail(_) | Name::Part(_) => {}
    }
    Ok(found)
}

/// What to say where `found` are not the one key that a name must mean.
pub fn unclear(name: &str, found: &[&Recipient], now: Timestamp) -> Error {
    const MOST: usize = 8;
    let mut lines: Vec<String> = found
        .iter()
        .take(MOST)
        .map(|it| match it.why_not(now) {
            Some(why) => format!("  {} {why}", it.told()),
            None => format!("  {}", it.told()),
        })
        .collect();
    if found.len() > MOST {
        lines.push(format!("  and {} more", found.len() - MOST));
    }
    let (what, next) = match found {
        [_] => (
            "means a key that nothing can be encrypted to",
            "get its owner's present key and import that",
        ),
        _ => (
            "means several keys",
            "give the fingerprint of the one that is meant",
        ),
    };
    Error::new(
        Kind::Conflict,
        "recipient_unclear",
        format!("`{}` {what}; {next}:\n{}", shown(name), lines.join("\n")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000 * Timestamp::SECOND);

    fn key(fingerprint: &str, user_ids: &[&str]) -> Recipient {
        Recipient {
            id: RecipientId::new(),
            kind: RecipientKind::Openpgp,
            recipient: fingerprint.repeat(40 / fingerprint.len()),
            label: String::new(),
            user_ids: user_ids.iter().map(ToString::to_string).collect(),
            subkeys: vec![format!("{fingerprint}F").repeat(20)[..40].to_owned()],
            added: NOW,
            added_by: "user alice".to_owned(),
            expires: None,
            trouble: None,
        }
    }

    fn ring() -> Vec<Recipient> {
        let age = Recipient {
            kind: RecipientKind::Age,
            recipient: "age1operations".to_owned(),
            ..key("9", &["Operations <ops@example.com>"])
        };
        vec![
            key(
                "A",
                &[
                    "Operations <ops@example.com>",
                    "On call <oncall@example.com>",
                ],
            ),
            key("B", &["Development <devops@example.com>"]),
            key("C", &["Deadbeef Müller <MUELLER@example.org>"]),
            age,
        ]
    }

    fn found(name: &str, ring: &[Recipient]) -> std::result::Result<Option<char>, Error> {
        named(name, ring, NOW).map(|it| it.map(|it| it.recipient.chars().next().unwrap()))
    }

    #[test]
    fn a_name_is_a_part_of_a_user_id_an_address_a_key_id_or_a_fingerprint() {
        let ring = ring();
        let fingerprint = "A".repeat(40);
        let blanks = ["AAAA aaaa"; 5].join("  ");
        let colons = ["AA"; 20].join(":");
        for (name, expected) in [
            ("operations", Some('A')),
            ("ON CALL", Some('A')),
            ("ops@example.com", Some('A')),
            ("OPS@example.com", Some('A')),
            ("devops", Some('B')),
            ("müller", Some('C')),
            ("MÜLLER", Some('C')),
            ("<mueller@example.org>", Some('C')),
            ("<ops@example>", None),
            ("<ueller@example.org>", None),
            ("=Development <devops@example.com>", Some('B')),
            ("=development <devops@example.com>", None),
            ("=Development", None),
            (&fingerprint, Some('A')),
            (&fingerprint.to_lowercase(), Some('A')),
            (&blanks, Some('A')),
            (&colons, Some('A')),
            (&format!("0x{fingerprint}"), Some('A')),
            ("BBBBBBBB", Some('B')),
            ("0xbbbbbbbbbbbbbbbb", Some('B')),
            // A subkey's, as gpg's --list-packets names it.
            ("BFBFBFBFBFBFBFBF", Some('B')),
            ("deadbeef", Some('C')),
            ("0xdeadbeef", None),
            ("AAAAAAA", None),
            ("nobody", None),
            ("age1operations", None),
        ] {
            assert_eq!(found(name, &ring).unwrap(), expected, "{name}");
        }
        for nothing in ["", " ", "=", "<>", "@", "..."] {
            assert_eq!(
                found(nothing, &ring).unwrap_err().field,
                Some("gpg_recipient"),
                "{nothing}"
            );
        }
    }

    #[test]
    fn several_keys_and_those_that_nothing_can_be_encrypted_to_are_listed() {
        let mut ring = ring();
        let error = found("example.com", &ring).unwrap_err();
        assert_eq!(error.code, "recipient_unclear");
        for part in [
            "several",
            &"A".repeat(40),
            &"B".repeat(40),
            "ops@example.com",
        ] {
            assert!(error.public.contains(part), "{error}");
        }
        assert!(!error.public.contains(&"C".repeat(40)), "{error}");
        ring[0].expires = Some(NOW);
        ring[1].trouble = Some("is revoked".to_owned());
        let error = found("ops@example.com", &ring).unwrap_err();
        assert!(error.public.contains("has expired"), "{error}");
        let error = found("BBBBBBBB", &ring).unwrap_err();
        assert!(error.public.contains("is revoked"), "{error}");
        ring[0].expires = Some(NOW.plus(1));
        assert_eq!(found("ops@example.com", &ring).unwrap(), Some('A'));
        let many: Vec<Recipient> = (0..50).map(|_| key("A", &["x"])).collect();
        let error = found("x", &many).unwrap_err();
        assert!(error.public.contains("and 42 more"), "{error}");
    }
}
