//! Ids and short texts that are checked when they are made: a value of these types is legal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{Error, Result};

/// Declares a newtype over a UUID (version 7, so that ids sort by the time they were made).
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            #[allow(clippy::new_without_default, reason = "a new id is not a default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Uuid::try_parse(text).map(Self).map_err(|_| Error::invalid("id", format!("`{}` is not a UUID", shown(text))))
            }
        }
    };
}

uuid_id!(
    /// An organization.
    OrgId
);
uuid_id!(
    /// A client; its keys may change, this does not.
    ClientId
);
uuid_id!(
    /// A deposit, over all its versions.
    DepositId
);
uuid_id!(
    /// A group of clients.
    GroupId
);
uuid_id!(
    /// A user.
    UserId
);
uuid_id!(
    /// An API token.
    TokenId
);
uuid_id!(
    /// A recipient of backups.
    RecipientId
);
uuid_id!(
    /// One server's data, from `init` on, over backups and twins.
    InstanceId
);
uuid_id!(
    /// One slot of `seal.json`.
    SlotId
);
uuid_id!(
    /// A host that is reached over SSH.
    HostId
);
uuid_id!(
    /// A job, over all its attempts.
    JobId
);
uuid_id!(
    /// One process of the server, from its start to its end.
    BootId
);
uuid_id!(
    /// One request, in logs, answers and the audit.
    RequestId
);

/// Declares a newtype over a checked text: `$check` returns why a text is not one.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> $crate::error::Result<Self> {
                let check: fn(&str) -> Option<String> = $check;
                match check(text) {
                    None => Ok(Self(text.to_owned())),
                    Some(why) => Err($crate::error::Error::invalid($field, format!("`{}` {why}", $crate::model::id::shown(text)))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use checked_text;

/// A text from outside as an error message may show it: control characters escaped, 64 at most.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        out.push('…');
    }
    out
}

/// SHA-256 of a public key (SubjectPublicKeyInfo, DER). It names a client and the server alike.
/// Written as 64 lower-case hex digits; read in any case, with or without colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("4096R/") {
            return Err(Error::invalid(
                "fingerprint",
                "this is the server's OpenPGP fingerprint; the one asked for is the SHA-256 of its identity's public key, 64 hex digits, as `strongroom status` shows it",
            ));
        }
        let mut bytes = [0; 32];
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        hex::decode_to_slice(&digits, &mut bytes)
            .map(|()| Self(bytes))
            .map_err(|_| {
                Error::invalid(
                    "fingerprint",
                    format!(
                        "`{}` is not a fingerprint: 64 hex digits, with or without colons",
                        shown(text)
                    ),
                )
            })
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_in_any_case_with_colons() {
        let plain = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        assert_eq!(
            plain.parse::<Fingerprint>().unwrap(),
            colons.parse().unwrap()
        );
        assert!("ab".parse::<Fingerprint>().is_err());
        let error = "4096R/D289219F68992B550E780741876FB335791B921A"
            .parse::<Fingerprint>()
            .unwrap_err();
        assert!(error.public.contains("OpenPGP"), "{error}");
    }
}
