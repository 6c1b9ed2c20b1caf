//! The settings that exist: name, default, what they take. They live in the store, take effect at
//! once, and each change is an event. What is needed before the store opens is in `config.rs`.

use crate::error::{Error, Result};

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// A whole number within these bounds, and its unit.
    Number(u64, u64, &'static str),
    Bool,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A line of at most so many bytes, and what it is.
    Text(usize, &'static str),
    /// IPv4 and IPv6 addresses and host names with a dot, separated by commas; or nothing.
    Addresses,
}

/// One setting's definition.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub takes: Takes,
    pub description: &'static str,
}

pub const DEPOSIT_BIN_DAYS: &str = "deposit.bin_days";
pub const BACKUP_FOLDER: &str = "backup.folder";
pub const BACKUP_KEEP_HOURLY: &str = "backup.keep_hourly";
pub const BACKUP_KEEP_DAILY: &str = "backup.keep_daily";
pub const BACKUP_KEEP_WEEKLY: &str = "backup.keep_weekly";
pub const BACKUP_KEEP_MONTHLY: &str = "backup.keep_monthly";
pub const BACKEND_MAXIMUM_PROCESSES: &str = "backend.maximum_processes";
pub const HOST_ADDITIONAL_ALLOW_FROM: &str = "host.additional_allow_from";
pub const HOST_USE_ALLOW_FROM: &str = "host.use_management_key_allow_from";
pub const DEPOSIT_MAX_BYTES: &str = "deposit.max_bytes";
pub const CLIENT_PENDING_HOURS: &str = "client.pending_hours";
pub const AUDIT_KEEP_DAYS: &str = "audit.keep_days";
pub const AUDIT_KEEP_MIB: &str = "audit.keep_mib";
pub const AUDIT_STRICT: &str = "audit.strict";
pub const SESSION_IDLE_MINUTES: &str = "session.idle_minutes";
pub const LOG_LEVEL: &str = "log.level";
pub const LOG_FORMAT: &str = "log.format";
pub const LOG_TARGET: &str = "log.target";
pub const TLS_CIPHERS: &str = "tls.ciphers";
pub const TLS_CLIENT_LISTENER: &str = "tls.client_listener";
pub const TLS_MINIMUM_VERSION: &str = "tls.minimum_version";

/// Every setting, by name.
pub const ALL: &[Setting] = &[
    Setting {
        name: AUDIT_KEEP_DAYS,
        default: "400",
        takes: Takes::Number(1, 36_500, "days"),
        description: "events stay in the store so long, and leave for an encrypted segment in the data folder's audit/ then",
    },
    Setting {
        name: AUDIT_KEEP_MIB,
        default: "10240",
        takes: Takes::Number(1, 1_048_576, "MiB"),
        description: "events leave sooner where they take more of the disk than this",
    },
    Setting {
        name: AUDIT_STRICT,
        default: "false",
        takes: Takes::Bool,
        description: "a release is on disk in the audit before it leaves; off: within 100 ms",
    },
    Setting {
        name: BACKEND_MAXIMUM_PROCESSES,
        default: "20",
        takes: Takes::Number(0, 1_000, "jobs"),
        description: "jobs on hosts and keys at once; 0 holds them. Takes effect at once: what runs goes on",
    },
    Setting {
        name: BACKUP_FOLDER,
        default: "",
        takes: Takes::Text(
            4_096,
            "an absolute path, which the server's account can write into; empty: backups/ in the data folder",
        ),
        description: "where scheduled backups are written; another disk than the store's",
    },
    Setting {
        name: BACKUP_KEEP_DAILY,
        default: "14",
        takes: Takes::Number(0, 1_000, "days"),
        description: "of the last so many days with a backup, the newest of each stays in that folder",
    },
    Setting {
        name: BACKUP_KEEP_HOURLY,
        default: "24",
        takes: Takes::Number(0, 1_000, "hours"),
        description: "of the last so many hours with a backup, the newest of each stays in that folder",
    },
    Setting {
        name: BACKUP_KEEP_MONTHLY,
        default: "12",
        takes: Takes::Number(0, 1_000, "months"),
        description: "of the last so many months with a backup, the newest of each stays in that folder",
    },
    Setting {
        name: BACKUP_KEEP_WEEKLY,
        default: "8",
        takes: Takes::Number(0, 1_000, "weeks"),
        description: "of the last so many weeks with a backup, the newest of each stays in that folder",
    },
    Setting {
        name: CLIENT_PENDING_HOURS,
        default: "168",
        takes: Takes::Number(1, 8_760, "hours"),
        description: "a registration without a code waits so long for its approval",
    },
    Setting {
        name: DEPOSIT_BIN_DAYS,
        default: "0",
        takes: Takes::Number(0, 3_650, "days"),
        description: "a deposit in the bin is purged after so long; 0: never",
    },
    Setting {
        name: DEPOSIT_MAX_BYTES,
        default: "1048576",
        takes: Takes::Number(1_024, 16_777_216, "bytes"),
        description: "the longest deposit; what age adds when it encrypts does not count",
    },
    Setting {
        name: HOST_ADDITIONAL_ALLOW_FROM,
        default: "",
        takes: Takes::Addresses,
        description: "further addresses from which management keys may be used. Kept for them: this version has no hosts yet",
    },
    Setting {
        name: HOST_USE_ALLOW_FROM,
        default: "false",
        takes: Takes::Bool,
        description: "whether management keys may be used from the back ends' addresses alone. Kept for them: this version has no hosts yet",
    },
    Setting {
        name: LOG_FORMAT,
        default: "text",
        takes: Takes::Word(&["text", "json"]),
        description: "how log lines are written",
    },
    Setting {
        name: LOG_LEVEL,
        default: "info",
        takes: Takes::Word(&["error", "warn", "info", "debug"]),
        description: "the least severe log lines that are written",
    },
    Setting {
        name: LOG_TARGET,
        default: "stderr",
        takes: Takes::Word(&["stderr", "file", "syslog"]),
        description: "where log lines go; file: log/strongroom_rCURRENT.log in the data folder, and ten older ones of 10 MB",
    },
    Setting {
        name: SESSION_IDLE_MINUTES,
        default: "30",
        takes: Takes::Number(1, 1_440, "minutes"),
        description: "a log-in on the GUI's listener ends after so long without a request",
    },
    Setting {
        name: TLS_CIPHERS,
        default: "",
        takes: Takes::Text(
            4_096,
            "names of cipher suites, OpenSSL's or IANA's, separated by colons, commas or blanks; empty: all",
        ),
        description: "the cipher suites of the listeners; a list without one of TLS 1.3 leaves those as they are, and the other way round",
    },
    Setting {
        name: TLS_CLIENT_LISTENER,
        default: "identity",
        takes: Takes::Word(&["identity", "installed"]),
        description: "what the clients' listener shows: the certificate that registered clients pin, or the operator's own, which only those take that trust its authority",
    },
    Setting {
        name: TLS_MINIMUM_VERSION,
        default: "tlsv1.2",
        takes: Takes::Word(&["tlsv1.2", "tlsv1.3"]),
        description: "the oldest TLS version of the listeners",
    },
];

impl Setting {
    pub fn find(name: &str) -> Result<&'static Setting> {
        ALL.iter()
            .find(|setting| setting.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = ALL.iter().map(|setting| setting.name).collect();
                Error::not_found(format!(
                    "no setting is named `{}`; there are {}",
                    super::id::shown(name),
                    known.join(", ")
                ))
            })
    }

    /// The value as it is kept, or why it is refused.
    pub fn check(&self, value: &str) -> Result<String> {
        let refused = || {
            Error::invalid(
                "value",
                format!(
                    "{} takes {}, not `{}`",
                    self.name,
                    self.takes(),
                    super::id::shown(value)
                ),
            )
        };
        match self.takes {
            Takes::Number(low, high, _) => {
                let number: u64 = value.parse().map_err(|_| refused())?;
                (low..=high)
                    .contains(&number)
                    .then(|| number.to_string())
                    .ok_or_else(refused)
            }
            Takes::Bool => match value.to_ascii_lowercase().as_str() {
                "true" | "yes" => Ok("true".to_owned()),
                "false" | "no" => Ok("false".to_owned()),
                _ => Err(refused()),
            },
            Takes::Word(words) => words
                .contains(&value)
                .then(|| value.to_owned())
                .ok_or_else(refused),
            Takes::Text(most, _) => (value.len() <= most && !value.chars().any(char::is_control))
                .then(|| value.to_owned())
                .ok_or_else(refused),
            Takes::Addresses => {
                let fits = value.len() <= LONGEST_ADDRESSES
                    && (value.is_empty() || value.split(',').all(is_address));
                fits.then(|| value.to_owned()).ok_or_else(refused)
            }
        }
    }

    /// What it takes, in words.
    pub fn takes(&self) -> String {
        match self.takes {
            Takes::Number(low, high, unit) => format!("{low} to {high} ({unit})"),
            Takes::Bool => "true or false".to_owned(),
            Takes::Word(words) => words.join(", "),
            Takes::Text(_, what) => what.to_owned(),
            Takes::Addresses => "addresses and FQDNs with commas, no blanks".to_owned(),
        }
    }
}

/// What an `authorized_keys` line can well bear.
const LONGEST_ADDRESSES: usize = 4_096;

/// An IP address, or a host name with at least one dot, whose last label is no number.
fn is_address(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let labels: Vec<&str> = text.split('.').collect();
    let fits = |label: &&str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && labels.len() > 1
        && labels.iter().all(fits)
        && labels
            .last()
            .is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_legal_value_and_names_are_sorted() {
        for setting in ALL {
            assert_eq!(setting.check(setting.default).unwrap(), setting.default);
        }
        assert!(ALL.is_sorted_by_key(|setting| setting.name));
        assert!(
            Setting::find("deposit.max_bytes")
                .unwrap()
                .check("17000000")
                .is_err()
        );
        assert!(
            Setting::find("log.levle")
                .unwrap_err()
                .public
                .contains("log.level")
        );
    }

    #[test]
    fn addresses_are_addresses_and_full_names() {
        let setting = Setting::find(HOST_ADDITIONAL_ALLOW_FROM).unwrap();
        for good in [
            "",
            "192.0.2.80",
            "192.0.2.80,backend.example.com",
            "192.0.2.80,proxy01.example.com,192.0.2.121",
            "2001:db8::1,::1",
        ] {
            assert_eq!(setting.check(good).unwrap(), good);
        }
        for bad in [
            ",",
            "192.0.2.80,",
            "192.0.2.80, a.example.com",
            "192.0.2.300",
            "192.0.2",
            "localhost",
            "a..example.com",
            "-a.example.com",
            "*.example.com",
            "a.example.com\n",
            "10.0.0.0/8",
            "[::1]",
        ] {
            let error = setting.check(bad).unwrap_err();
            assert!(error.public.contains("no blanks"), "{bad}: {error}");
        }
    }
}
