//! The fuzz targets: each takes bytes as an attacker would send them, hands them to the parser that
//! the program uses, and asserts what must hold of the result beyond not panicking: what was read can
//! be written and reads as the same, the caps hold, and a refusal is short and prints safely. A target
//! answers which kind of answer it saw, so that a fuzzer keeps inputs that led to a new one.
//! `tests/it/fuzz.rs` runs them, on the corpus in `tests/data/fuzz/` and on mutations of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backup::manifest::{MANIFEST, Manifest};
use crate::backup::read::{self, BEGINNING, Form};
use crate::cli::host_import::Format;
use crate::cli::{bundle, cache, config_import, home, host_import};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::crypto::envelope::{self, Aad};
use crate::crypto::{agefile, openpgp, seal, sha256, tls, x509};
use crate::error::{Error, Result};
use crate::http;
use crate::model::audit::{ChainedEvent, Checkpoint, Event, ExportLine};
use crate::model::client::Client;
use crate::model::cron::{Cron, ZoneName};
use crate::model::deposit::Deposit;
use crate::model::filter::{Filter, Filterable};
use crate::model::host::Host;
use crate::model::host_group::HostGroup;
use crate::model::id::Fingerprint;
use crate::model::job::Job;
use crate::model::org::Org;
use crate::model::page::Cursor;
use crate::model::recipient::Recipient;
use crate::model::schedule::Schedule;
use crate::model::setting;
use crate::model::token::Token;
use crate::model::user::User;
use crate::secret::{Key, Secret};
use crate::server::node::Node;

/// A hash of the kind of answer, without the input's own values.
pub type Seen = u64;

pub struct Target {
    /// Also the folder of its corpus.
    pub name: &'static str,
    pub run: fn(&[u8]) -> Seen,
    /// Longer inputs teach nothing new.
    pub longest: usize,
    /// Pieces that a mutation puts in.
    pub words: &'static [&'static str],
}

const fn target(
    name: &'static str,
    run: fn(&[u8]) -> Seen,
    longest: usize,
    words: &'static [&'static str],
) -> Target {
    Target {
        name,
        run,
        longest,
        words,
    }
}

#[rustfmt::skip]
pub const TARGETS: &[Target] = &[
    target("seal_json", seal_json, 16 << 10, &["\"slots\":[", "\"parameters\":{", "\"kind\":\"key_file\"", "\"memory_kib\":", "4294967295", "1e999", "0.5", "-1", "strongroom-seal/2", "\\u0000", "{}", "[[[[[["]),
    target("envelope", envelope, 4 << 10, &["SRE\0", "\u{1}\u{1}"]),
    target("deposit_request", deposit_request, 20 << 10, &["%2e%2e%2f", "%00", "%252e", "%FF", "%C3%A4", "\nif-match: ", "\nif-none-match: *", "\nstrongroom-labels: ", "\nstrongroom-encryption: age", "\nstrongroom-description: ", "\nstrongroom-reason: ", "\nidempotency-key: ", "\nauthorization: Bearer ", "\ncookie: __Host-strongroom=", "\ncontent-type: ", "&limit=1000", "&filter=", "\"4294967295\"", "\"4294967296\"", "%0d%0a", "018f3b5e-5b6a-7c3d-8e9f-0123456789ab"]),
    target("request_json", request_json, 20 << 10, &["\"org\":", "\"password\":", "\"grants\":[", "{\"role\":\"superuser\",\"org\":null}", "\"expires\":\"9999-12-31T23:59:59-23:59\"", "\"expires\":\"0000-01-01T00:00:00+01:00\"", "\\u0000", "\\ud800", "null", "\"scopes\":[\"all\"]", "[[[[[[[[", "{\"a\":", "1e999", "\u{1b}[2J"]),
    target("certificate", certificate, 8 << 10, &["-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----\n", "\u{30}\u{80}", "\u{1}\u{1}\u{7f}", "\u{2}\u{1}\u{0}", "\u{3}\u{2}\u{0}", "\u{30}\u{84}"]),
    target("certificate_file", certificate_file, 8 << 10, &["-----BEGIN CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n", "Proc-Type: 4,ENCRYPTED\n", "DEK-Info: AES-256-CBC,00\n", "\u{30}\u{80}", "\u{1}\u{1}\u{7f}"]),
    target("client_ca", client_ca, 8 << 10, &["-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "-----BEGIN X509 CRL-----\n", "-----END X509 CRL-----\n", "\u{30}\u{80}"]),
    target("openpgp_key", openpgp_key, 8 << 10, &["-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n", "\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n", "xsFNB", "Version: x\n", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n", "\u{1}\u{2}\u{1b}\u{c}"]),
    target("original_config", original_config, 4 << 10, &["{\"SSL_CERTIFICATE\": \"/a\",", "\"SSL_PRIVATE_KEY\": \"/k\"}", "\"SSL_PRIVATE_KEY_PASSWORD_SCRIPT\": \"/bin/echo", "ssl_certificate /c;", "ssl_certificate_key /k;", "ssl_verify_depth 99999999999;", "ssl_protocols TLSv1;", "ssl_ciphers HIGH;", "server {", "\\", "'", "\"", "#"]),
    target("filter", filter, 5 << 10, &[" and ", " or ", "not ", " in (", "((((((((", "'", "''", "label.a = ", "created > ", "-7d", "9223372036854775807", "-9223372036854775808", "1969-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "name ^ ", " ~ ", "\n", "size >= ", "ſ", "İ"]),
    target("cron", cron, 512, &["*/", "-", ",", "59", "jan", "sun-sat", "29 2", "@hourly", "@", "\nEurope/Berlin", "\nPacific/Apia", "\nAustralia/Lord_Howe", "\nAmerica/New_York", " * ", "7", "99999999999"]),
    target("host_import", host_import, 8 << 10, &["name,port,jump,window,label.a\n", ";", "\"\"", "@daily for 1h in UTC", "{\"_meta\":{\"hostvars\":{\"a\":{", "\"ansible_ssh_common_args\":\"-J a,b\"", "\"children\":[\"a\"]", "\"hosts\":[\"a\"]", "{{", "\nHost ", "\n Port=", "ProxyJump ", "ProxyCommand ssh -W %h:%p ", "!*", "%h", "none", "[a]:2222 ssh-rsa AAAA\n", "|1|a=|b= ", "@revoked ", "::1,", "\u{feff}", "\u{1b}"]),
    target("cursor", cursor, 2 << 10, &["UwEIZGVwb3NpdHMA", "=", "__", "--"]),
    target("canonical_event", canonical_event, 8 << 10, &["SRE\u{1}", "SRC\u{1}", "\0\0\0\u{4}", "\0\0\0\u{7}changes", "\0\0\0\u{6}access", "\0\0\0\u{7}refused"]),
    target("audit_export_line", audit_export_line, 8 << 10, &["{\"format\":\"strongroom-audit/1\",", "\"checkpoint\":{", "\"heads\":[", "\"chain\":\"access\"", "9999-12-31T23:59:59-23:59", "18446744073709551615", "-0", "1e3", "\"a\":1,"]),
    target("age_recipient", age_recipient, 6 << 10, &["age1", "ssh-ed25519 ", "ssh-rsa ", "AAAAB3NzaC1yc2EAAAADAQABAAAB", "AGE-SECRET-KEY-1", "\n", " "]),
    target("age_file", age_file, 6 << 10, &["age-encryption.org/v1\n", "-> X25519 ", "-> scrypt ", "-> ssh-ed25519 ", "\n--- ", "-----BEGIN AGE ENCRYPTED FILE-----\n", "\n-----END AGE ENCRYPTED FILE-----\n"]),
    target("strongroom_toml", strongroom_toml, 4 << 10, &["fqdn = ", "\"\"\"", "client_listen = \"[::1]:0\"", "health_listen = \"[::ffff:127.0.0.1]:1\"", "admin.socket = \"/s\"\n", "[admin.socket_users]\n", "1000 = \"auditor\"\n", "[[[[", "{{{{", "a.b.c.d = ", "\\u001b", "\"+0\" = \"superuser\"", "4294967295"]),
    target("node_json", node_json, 4 << 10, &["\"database_key\":", "strongroom-node/1", "strongroom-node/2", "18446744073709551616", "\\u001b"]),
    target("client_toml", client_toml, 4 << 10, &["version = 1", "version = 2", "[[", "{", "\"\"\"", "registered = true", "recovery_recipient = "]),
    target("client_bundle", client_bundle, 8 << 10, &["\"../x\":", "\"client.key\":", "\"files\":{", "\"version\":2", "strongroom-client-home"]),
    target("kept_deposit", kept_deposit, 8 << 10, &["strongroom-kept/1\n", "strongroom-kept/2\n", "\"asked\":", "?version=", "\"size\":18446744073709551615", "\"expires\":\"9999-12-31T23:59:59-23:59\"", "\"not_before\":null", "\n", "\\u001b", "{\"a\":1}"]),
    target("timestamp", timestamp, 128, &["9999-12-31T23:59:59", "0000-01-01T00:00:00", "-23:59", "+23:59", "Z", ".999999999", ":60", "T24"]),
    target("backup_manifest", backup_manifest, 8 << 10, &["strongroom-backup/2", "\"min_reader\": 2", "\"bytes\": 18446744073709551615", "\"name\": \"tls/..\"", "\"name\": \"../seal.json\"", "\"self_contained\": true", "\"members\": [", "\"counts\": {", "null", "[[[[[[", "\u{1b}", "9999-12-31T23:59:59-23:59"]),
    target("backup_tar", backup_tar, 24 << 10, &["ustar\u{0}00", "ustar  \u{0}", "./@LongLink", "../", "77777777777\u{0}", "manifest.json\u{0}", "database.key\u{0}", "strongroom.db\u{0}", "tls/", "age-encryption.org/v1\n-> scrypt ", "-----BEGIN PGP MESSAGE-----"]),
    target("setting", setting, 1 << 10, &["deposit.max_bytes=", "16777216", "16777217", "true", "+1", "-0", "00", "=", "info", "\u{1b}"]),
];

/// With the checksums as they came, and with them made right, as someone can who knows the format.
pub fn seal_json(bytes: &[u8]) -> Seen {
    let as_it_came = one_seal_json(bytes);
    match mended_seal(bytes) {
        Some(mended) => mix(as_it_came, one_seal_json(&mended)),
        None => as_it_came,
    }
}

fn one_seal_json(bytes: &[u8]) -> Seen {
    let file = match seal::SealFile::parse(bytes) {
        Ok(file) => file,
        Err(error) => return refused(&error),
    };
    assert!(bytes.len() <= seal::MAX_BYTES);
    let slots = file.slots();
    assert!(slots.len() <= seal::MAX_SLOTS);
    assert!(slots.iter().all(|slot| slot.label.len() <= seal::MAX_LABEL));
    let again = seal::SealFile::parse(&file.to_json());
    assert!(again.is_ok_and(|again| again == file), "it reads otherwise");
    let kinds: Vec<bool> = slots.iter().map(|slot| slot.known).collect();
    seen(&kinds)
}

/// The document with each slot's checksum over what the slot now says.
fn mended_seal(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    for slot in document.get_mut("slots")?.as_array_mut()? {
        let slot = slot.as_object_mut()?;
        slot.remove("checksum")?;
        let mut canonical = serde_json::Value::Object(slot.clone());
        canonical.sort_all_objects();
        let sum = sha256(&serde_json::to_vec(&canonical).ok()?);
        slot.insert("checksum".to_owned(), hex::encode(sum).into());
    }
    serde_json::to_vec(&document).ok()
}

/// The parent key and the place of the corpus's envelopes (`tests/data/envelope-v1.json`), so that
/// those open and whatever else opens is a forgery.
pub fn envelope(bytes: &[u8]) -> Seen {
    let parent = Key::new(std::array::from_fn(|at| at as u8));
    let object = [1, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xaa];
    let place = Aad {
        table: "deposits",
        column: "body",
        org: None,
        object: &object,
        version: 0,
    };
    let id = envelope::key_id(bytes);
    match envelope::open(&parent, &place, bytes) {
        Ok(opened) => {
            assert_eq!(id.ok(), Some(4_294_967_294));
            assert!(opened.expose().is_empty(), "a forged envelope opens");
            seen(&"opens")
        }
        Err(error) => mix(refused(&error), u64::from(id.is_ok())),
    }
}

pub fn deposit_request(bytes: &[u8]) -> Seen {
    answer(http::fuzz::head(bytes))
}

pub fn request_json(bytes: &[u8]) -> Seen {
    let which = bytes.first().map_or(0, |byte| u64::from(byte % 13));
    mix(answer(http::fuzz::json_body(bytes)), which)
}

/// DER, and PEM where it begins like that.
pub fn certificate(bytes: &[u8]) -> Seen {
    if bytes.starts_with(b"-----") {
        return match x509::parse_certificate_pem(bytes) {
            Ok(chain) => {
                assert!((1..=16).contains(&chain.len()));
                chain.iter().map(|der| one_certificate(der)).fold(0, mix)
            }
            Err(error) => refused(&error),
        };
    }
    one_certificate(bytes)
}

fn one_certificate(der: &[u8]) -> Seen {
    let fingerprint = x509::spki_fingerprint(der);
    let verified = x509::verify_by_certificate(der, b"message", &[0x30, 6, 2, 1, 1, 2, 1, 1]);
    assert!(verified.is_err(), "a forged signature verifies");
    match (fingerprint, x509::inspect(der)) {
        (Ok(fingerprint), Ok(info)) => {
            assert_eq!(fingerprint, info.fingerprint);
            assert_eq!(info.sha256, sha256(der));
            seen(&(info.subject.is_empty(), info.not_after < info.not_before))
        }
        (Err(error), Err(_)) => refused(&error),
        _ => panic!("the fingerprint and the rest disagree on whether it is a certificate"),
    }
}

/// Whatever an operator hands over as a certificate; without a password, since OpenSSL would derive a
/// key as many times as the file says. What is put in order stays in order.
pub fn certificate_file(bytes: &[u8]) -> Seen {
    let material = match x509::read_material(bytes, None) {
        Ok(material) => material,
        Err(error) => return refused(&error),
    };
    let Some(key) = material.key else {
        return seen(&material.certificates.len());
    };
    let arranged = match x509::arrange(material.certificates, &key) {
        Ok(arranged) => arranged,
        Err(error) => return refused(&error),
    };
    let again = x509::arrange(arranged.chain.clone(), &key);
    assert!(again.is_ok_and(|again| again.chain == arranged.chain && again.left_out.is_empty()));
    let checked = x509::check_server(&arranged.chain, "localhost", false, Timestamp(0));
    mix(answer(checked.err()), arranged.chain.len() as u64)
}

/// The authority of API users; what it holds is also shown to it.
pub fn client_ca(bytes: &[u8]) -> Seen {
    let now = Timestamp(1_700_000_000_000_000);
    let authority = match tls::ClientAuthority::parse(bytes, 3) {
        Ok(authority) => authority,
        Err(error) => return refused(&error),
    };
    assert_eq!(authority.depth(), 3);
    let shown: Vec<_> = x509::parse_certificate_pem(bytes)
        .unwrap_or_default()
        .into_iter()
        .map(rustls_pki_types::CertificateDer::from)
        .collect();
    answer(authority.verify(&shown, now).err())
}

/// The server's own public half, and the keys of others, one or a ring of them.
pub fn openpgp_key(bytes: &[u8]) -> Seen {
    let own = match std::str::from_utf8(bytes).map(openpgp::read_public) {
        Ok(Ok(public)) => {
            let again = openpgp::read_public(&public.armored);
            assert!(again.is_ok_and(|again| again == public));
            1
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => 0,
    };
    match openpgp::Ring::read(bytes) {
        Ok(ring) => mix(
            own,
            seen(&ring.keys.iter().map(one_key).collect::<Vec<_>>()),
        ),
        Err(error) => mix(own, refused(&error)),
    }
}

/// What is kept of a key is the same key, and is judged the same.
fn one_key(key: &openpgp::PublicKey) -> bool {
    const NOW: Timestamp = Timestamp(1_795_000_000 * Timestamp::SECOND);
    let standing = key.standing(NOW);
    let fits = openpgp::check(std::slice::from_ref(key), NOW).is_ok();
    assert_eq!(fits, standing.trouble.is_none());
    assert!(!fits || standing.expires.is_none_or(|end| end > NOW));
    if let Ok(armored) = key.armored() {
        let again = openpgp::PublicKey::parse(&armored)
            .unwrap_or_else(|error| panic!("what is kept does not read again: {error}"));
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert_eq!(again.standing(NOW), standing);
    }
    fits
}

/// The configuration files of the originals.
pub fn original_config(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    answer(config_import::Plan::read(text).err())
}

/// The first byte chooses the list; each line after it is a filter.
pub fn filter(bytes: &[u8]) -> Seen {
    let Some((list, texts)) = bytes.split_first() else {
        return 0;
    };
    let Ok(texts) = std::str::from_utf8(texts) else {
        return 0;
    };
    let texts: Vec<String> = texts.split('\n').map(str::to_owned).collect();
    let answer = match list % 11 {
        0 => one_filter::<Deposit>(&texts),
        1 => one_filter::<Client>(&texts),
        2 => one_filter::<Org>(&texts),
        3 => one_filter::<User>(&texts),
        4 => one_filter::<Token>(&texts),
        5 => one_filter::<ChainedEvent>(&texts),
        6 => one_filter::<Job>(&texts),
        7 => one_filter::<Schedule>(&texts),
        8 => one_filter::<Recipient>(&texts),
        9 => one_filter::<Host>(&texts),
        _ => one_filter::<HostGroup>(&texts),
    };
    mix(answer, u64::from(list % 11))
}

fn one_filter<T: Filterable>(texts: &[String]) -> Seen {
    const NOW: Timestamp = Timestamp(1_795_000_000 * Timestamp::SECOND);
    let filter: Filter<T> = match Filter::parse(texts, NOW) {
        Ok(filter) => filter,
        Err(error) => return refused(&error),
    };
    assert!(texts.iter().map(String::len).sum::<usize>() <= 4_096);
    assert!(
        !filter.is_empty(),
        "a filter that was given lets all through"
    );
    let text = filter.to_string();
    if text.len() <= 4_096 {
        let again: Filter<T> = Filter::parse(std::slice::from_ref(&text), NOW)
            .unwrap_or_else(|error| panic!("`{text}` does not read again: {error}"));
        assert_eq!(again.to_string(), text);
    }
    for field in T::FIELDS {
        filter.equals(field.name);
        filter.prefix(field.name);
        filter.after(field.name);
        filter.before(field.name);
    }
    seen(&(
        filter.is_only_indexed(&["name"]),
        filter.label_equals().is_some(),
    ))
}

pub fn cursor(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    ["deposits", "deposits/name", "audit"]
        .into_iter()
        .map(|list| match Cursor::parse(list, text) {
            Ok(cursor) => {
                assert_eq!(cursor.list, list);
                assert!((1..=3).contains(&cursor.position.len()));
                assert_eq!(cursor.encode(), text, "one position in two forms");
                let kinds: Vec<_> = cursor.position.iter().map(std::mem::discriminant).collect();
                seen(&kinds)
            }
            Err(error) => refused(&error),
        })
        .fold(0, mix)
}

/// An event's form, or a checkpoint's.
pub fn canonical_event(bytes: &[u8]) -> Seen {
    let event = match Event::parse_canonical(bytes) {
        Ok((chain, number, event)) => {
            assert_eq!(
                event.canonical(chain, number),
                bytes,
                "one event in two forms"
            );
            assert_eq!(event.clone().clipped(), event);
            seen(&(chain, event.outcome.as_str()))
        }
        Err(error) => refused(&error),
    };
    let checkpoint = match Checkpoint::parse_canonical(bytes) {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.canonical(), bytes);
            seen(&checkpoint.heads.len())
        }
        Err(error) => refused(&error),
    };
    mix(event, checkpoint)
}

pub fn audit_export_line(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    let line = match ExportLine::parse(text) {
        Ok(line) => line,
        Err(error) => return refused(&error),
    };
    let written = line.write().unwrap_or_default();
    assert!(!written.contains('\n'));
    assert_eq!(ExportLine::parse(&written).ok().as_ref(), Some(&line));
    match &line {
        ExportLine::Header(header) => seen(&header.key().is_ok()),
        ExportLine::Event(event) => {
            let form = event.canonical();
            if let Ok((chain, number, read)) = Event::parse_canonical(&form) {
                assert_eq!((chain, number), (event.chain, event.number));
                assert_eq!(read, event.event);
            }
            seen(&event.hash_bytes().is_ok())
        }
        ExportLine::Checkpoint(signed) => mix(
            seen(&signed.signature_bytes().is_ok()),
            u64::from(Checkpoint::parse_canonical(&signed.checkpoint.canonical()).is_ok()),
        ),
    }
}

/// Whatever is taken as a recipient can be encrypted to.
pub fn age_recipient(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    if let Err(error) = agefile::check_recipient(text) {
        return refused(&error);
    }
    assert!(!text.contains(['\n', '\r']), "a recipient is one line");
    let statement = x509::recipient_statement(Fingerprint([7; 32]), text);
    assert_eq!(statement.iter().filter(|byte| **byte == b'\n').count(), 3);
    let file = agefile::encrypt(&[text.to_owned()], b"message")
        .unwrap_or_else(|error| panic!("`{text}` is taken, and not encrypted to: {error}"));
    seen(&(text.get(..4), file.len() / 256))
}

/// The identity is that of `tests/data/age/`.
pub fn age_file(bytes: &[u8]) -> Seen {
    const IDENTITY: &[u8] = include_bytes!("../tests/data/age/identity.txt");
    match agefile::decrypt(&Secret::new(IDENTITY.to_vec()), bytes) {
        Ok(plaintext) => {
            assert!(plaintext.expose().len() < bytes.len());
            seen(&"opens")
        }
        Err(error) => refused(&error),
    }
}

pub fn strongroom_toml(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.health_listen.ip().is_loopback());
            let written = config.to_toml().unwrap_or_default();
            assert_eq!(Config::parse(&written).ok().as_ref(), Some(&config));
            assert!(config.differences(&config).is_empty());
            // A key is set, and nothing else.
            let set = Config::set(text, "fqdn", "set.example.com").unwrap_or_default();
            let mut expected = config.clone();
            expected.fqdn = "set.example.com".to_owned();
            assert_eq!(Config::parse(&set).ok(), Some(expected));
            seen(&config.admin.socket_users.len())
        }
        Err(error) => refused(&error),
    }
}

pub fn node_json(bytes: &[u8]) -> Seen {
    match Node::parse(bytes, Path::new("node.json")) {
        Ok(node) => {
            round(&node);
            let opened = node.open_database_key(&Key::new([7; 32]));
            opened.map_or_else(|error| refused(&error), |_| panic!("a forged key opens"))
        }
        Err(error) => refused(&error),
    }
}

pub fn client_toml(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    match home::Registered::parse(text) {
        Ok(registered) => {
            let written = toml::to_string(&registered).unwrap_or_default();
            let again = home::Registered::parse(&written);
            assert_eq!(again.ok().as_ref(), Some(&registered));
            seen(&(
                registered.registered,
                registered.recovery_recipient.is_some(),
            ))
        }
        Err(why) => refused(&Error::invalid("client.toml", why)),
    }
}

pub fn client_bundle(bytes: &[u8]) -> Seen {
    answer(bundle::check(bytes).err())
}

/// As it came, and with length and hash made right, as someone can who knows the format.
pub fn kept_deposit(bytes: &[u8]) -> Seen {
    let as_it_came = one_kept_deposit(bytes);
    match mended_kept(bytes) {
        Some(mended) => mix(as_it_came, one_kept_deposit(&mended)),
        None => as_it_came,
    }
}

fn one_kept_deposit(bytes: &[u8]) -> Seen {
    let (head, body) = match cache::parse(bytes) {
        Ok(kept) => kept,
        Err(error) => return refused(&error),
    };
    assert!(body.len() < bytes.len());
    // Fields that may be left out can make a head that is too long when they are written.
    if let Ok(written) = cache::write(&head, body) {
        assert_eq!(cache::parse(&written).ok(), Some((head.clone(), body)));
    }
    seen(&(head.not_before.is_some(), head.expires.is_some()))
}

fn mended_kept(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut parts = bytes.splitn(3, |it| *it == b'\n');
    let (magic, head, body) = (parts.next()?, parts.next()?, parts.next()?);
    let mut head: serde_json::Value = serde_json::from_slice(head).ok()?;
    let fields = head.as_object_mut()?;
    fields.insert("size".to_owned(), body.len().into());
    fields.insert("sha256".to_owned(), hex::encode(sha256(body)).into());
    let head = serde_json::to_vec(&head).ok()?;
    Some([magic, &head, body].join(&b'\n'))
}

/// What is taken has what every backup has, in the one order.
pub fn backup_manifest(bytes: &[u8]) -> Seen {
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return refused(&error),
    };
    let written = manifest.to_json().unwrap_or_default();
    assert_eq!(Manifest::parse(&written).ok().as_ref(), Some(&manifest));
    let names: Vec<&str> = manifest.members.iter().map(|it| it.name.as_str()).collect();
    assert!(
        !names
            .iter()
            .any(|it| it.starts_with(['/', '.']) || it.contains(".."))
    );
    assert_eq!(names.last(), Some(&"strongroom.db"));
    seen(&(manifest.self_contained, manifest.members.len()))
}

/// As it came, and with the headers' checksums and the manifest's digests and lengths made right, as
/// someone can who knows the format.
pub fn backup_tar(bytes: &[u8]) -> Seen {
    let as_it_came = one_backup(bytes);
    match mended_backup(bytes) {
        Some(mended) => mix(as_it_came, one_backup(&mended)),
        None => as_it_came,
    }
}

fn one_backup(bytes: &[u8]) -> Seen {
    let form = Form::of(&bytes[..bytes.len().min(BEGINNING)]);
    let answer = match read::all(bytes) {
        Ok(whole) => {
            assert_eq!(whole.bytes, bytes.len() as u64, "something was not read");
            assert_eq!(form, Form::Tar);
            let tls = whole.small.tls.iter().map(|(name, _)| name);
            assert!(tls.clone().all(|name| !name.contains(['/', '\0'])));
            seen(&(tls.count(), whole.small.openpgp.is_some()))
        }
        Err(error) => refused(&error),
    };
    mix(answer, form as u64)
}

fn mended_backup(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().ok()?.raw(true) {
        let Ok(mut entry) = entry else { break };
        let name = entry.path_bytes().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).ok()?;
        parts.push((String::from_utf8(name).ok()?, content));
    }
    let first = parts.iter().position(|part| part.0 == MANIFEST)?;
    let mut manifest: serde_json::Value = serde_json::from_slice(&parts[first].1).ok()?;
    for member in manifest.get_mut("members")?.as_array_mut()? {
        let member = member.as_object_mut()?;
        let name = member.get("name").and_then(|name| name.as_str());
        let there = parts.iter().find(|part| Some(part.0.as_str()) == name);
        if let Some((_, content)) = there {
            member.insert("bytes".to_owned(), content.len().into());
            member.insert("sha256".to_owned(), hex::encode(sha256(content)).into());
        }
    }
    parts[first].1 = serde_json::to_vec(&manifest).ok()?;
    let mut mended = tar::Builder::new(Vec::new());
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        mended.append_data(&mut header, &name, &content[..]).ok()?;
    }
    mended.into_inner().ok()
}

/// A time that was read prints as one that reads as the same.
pub fn timestamp(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    match text.parse::<Timestamp>() {
        Ok(time) => {
            let written = time.to_string();
            let again = written.parse::<Timestamp>();
            assert_eq!(
                again.ok(),
                Some(time),
                "{text} reads, and prints as {written}"
            );
            seen(&(time.0 < 0))
        }
        Err(error) => refused(&error),
    }
}

/// A cron line, and behind a line end the zone that it is in.
pub fn cron(bytes: &[u8]) -> Seen {
    const NOW: Timestamp = Timestamp(1_795_000_000 * Timestamp::SECOND);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    let (line, zone) = text.split_once('\n').unwrap_or((text, "UTC"));
    let cron = match line.parse::<Cron>() {
        Ok(cron) => cron,
        Err(error) => return refused(&error),
    };
    assert!(cron.as_str().parse::<Cron>().ok().as_ref() == Some(&cron));
    let zone = match zone.parse::<ZoneName>() {
        Ok(zone) => zone,
        Err(error) => return refused(&error),
    };
    let times = cron.upcoming(&zone, NOW, 3);
    let mut last = NOW;
    for time in &times {
        assert!(*time > last, "{text}: {time} does not come behind {last}");
        let before = Timestamp(time.0 - 1);
        assert_eq!(cron.next(&zone, before), Some(*time), "{text}");
        assert_eq!(cron.newest(&zone, before, *time), Some(*time), "{text}");
        last = *time;
    }
    for end in [Timestamp(i64::MIN), Timestamp(i64::MAX), Timestamp(0)] {
        cron.next(&zone, end);
    }
    seen(&times.len())
}

/// The first byte chooses the format.
pub fn host_import(bytes: &[u8]) -> Seen {
    let Some((which, text)) = bytes.split_first() else {
        return 0;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return 0;
    };
    let format = match which % 4 {
        0 => Format::Csv,
        1 => Format::Ansible,
        2 => Format::SshConfig,
        _ => Format::KnownHosts,
    };
    let found = match host_import::parse(format, text) {
        Ok(found) => found,
        Err(error) => return mix(refused(&error), u64::from(which % 4)),
    };
    let mut names = std::collections::HashSet::new();
    for host in &found.hosts {
        assert!(names.insert(&host.name), "{} comes twice", host.name);
        assert!(host.own.check().is_ok(), "{host:?}");
    }
    let prints = |note: &String| note.len() < 1_500 && !note.chars().any(char::is_control);
    assert!(found.notes.iter().all(prints), "{:?}", found.notes);
    seen(&(which % 4, names.len(), found.notes.len()))
}

/// `name=value`
pub fn setting(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let checked: Result<String> = setting::Setting::find(name).and_then(|setting| {
        let checked = setting.check(value)?;
        assert_eq!(setting.check(&checked).ok().as_ref(), Some(&checked));
        Ok(checked)
    });
    answer(checked.err())
}

fn round<T: Serialize + DeserializeOwned>(value: &T) {
    let first = serde_json::to_vec(value).unwrap_or_default();
    let again: T = serde_json::from_slice(&first)
        .unwrap_or_else(|error| panic!("what was read does not read again: {error}"));
    assert_eq!(serde_json::to_vec(&again).unwrap_or_default(), first);
}

fn answer(refusal: Option<Error>) -> Seen {
    refusal.map_or(1, |error| refused(&error))
}

/// A refusal's kind: its rule, without what it quotes. It prints on a terminal and in a log without
/// a second meaning, and does not send back what came.
fn refused(error: &Error) -> Seen {
    let public = &error.public;
    assert!(
        !public.chars().any(|c| c.is_control() && c != '\n'),
        "control characters in a refusal: {public:?}"
    );
    assert!(public.len() <= 1_500, "a refusal of {} bytes", public.len());
    let rule: String = public
        .split(['`', '"'])
        .step_by(2)
        .flat_map(str::chars)
        .filter(|c| !c.is_ascii_digit())
        .collect();
    seen(&(error.code, error.field, rule))
}

fn seen(what: &impl Hash) -> Seen {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn mix(one: Seen, other: Seen) -> Seen {
    one.rotate_left(5) ^ other.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
