//! Imports point down the layer table only; SQL stands in the store alone, `unsafe` in os.rs alone.
//! Each rule is shown to catch what breaks it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::measured;

const BASE: &[&str] = &[
    "error", "clock", "secret", "config", "os", "folder", "model", "api",
];
const ENGINES: &[&str] = &["crypto", "store"];
const DURABILITY: &[&str] = &["backup"];
const UPPER: &[&str] = &["service", "http", "sched", "server", "cli", "fuzz"];

/// Commands that work on a folder themselves.
const OFFLINE: &[&str] = &[
    "cli/config.rs",
    "cli/doctor.rs",
    "cli/init.rs",
    "cli/restore.rs",
    "cli/rollback.rs",
    "cli/serve.rs",
];

/// What a file may import, beside its own room.
fn may_import(file: &str) -> Vec<&'static str> {
    let room = room(file);
    let with = |rooms: &[&[&'static str]]| rooms.concat();
    match room {
        "error" | "os" => vec![],
        "secret" => vec!["os"],
        "clock" => vec!["error"],
        "folder" => vec!["error", "secret", "clock", "os"],
        "model" => vec!["error", "secret", "clock"],
        "api" | "config" => vec!["error", "secret", "clock", "model"],
        "crypto" => with(&[BASE]),
        "store" => with(&[BASE, &["crypto"]]),
        "backup" => with(&[BASE, ENGINES]),
        "service" => with(&[BASE, ENGINES, DURABILITY]),
        "http" | "sched" => with(&[BASE, &["service"]]),
        "server" => with(&[BASE, ENGINES, DURABILITY, &["service", "http", "sched"]]),
        "fuzz" => with(&[BASE, ENGINES, DURABILITY, UPPER]),
        "cli" if OFFLINE.contains(&file) => with(&[BASE, ENGINES, DURABILITY, UPPER]),
        "cli" => with(&[BASE, &["crypto"]]),
        "main" | "lib" => with(&[BASE, ENGINES, DURABILITY, UPPER]),
        other => panic!(
            "src/{file}: the room `{other}` has no layer yet; give it one here and in src/lib.rs"
        ),
    }
}

/// The first part of a path below src/.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// A source without its comments; texts in quotes are kept apart.
struct Source {
    code: String,
    texts: Vec<String>,
}

impl Source {
    fn of(source: &str) -> Self {
        let (mut code, mut texts) = (String::new(), Vec::new());
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            let mut length = first.len_utf8();
            if rest.starts_with("//") {
                length = rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            } else if let Some((start, end, after)) = text_at(rest) {
                texts.push(rest[start..end].to_owned());
                code.push_str("\"\"");
                length = after;
            } else if let Some(end) = character_at(rest) {
                length = end;
            } else {
                let word: usize = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .map(char::len_utf8)
                    .sum();
                length = word.max(length);
                code.push_str(&rest[..length]);
            }
            rest = &rest[length..];
        }
        Self { code, texts }
    }
}

/// Where the content of a text literal begins and ends, and where the literal ends, if one begins
/// here.
fn text_at(rest: &str) -> Option<(usize, usize, usize)> {
    let body = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let start = prefix + 1 + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = start + rest[start..].find(&close)?;
            return Some((start, end, end + close.len()));
        }
        return None;
    }
    if !body.starts_with('"') {
        return None;
    }
    let start = prefix + 1;
    let mut escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((start, start + at, start + at + 1)),
            _ => {}
        }
    }
    None
}

/// The end of a character literal, if one begins here; a lifetime is none.
fn character_at(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if let Some(escape) = inner.strip_prefix('\\') {
        let after = escape.chars().next()?.len_utf8();
        return Some(2 + after + escape[after..].find('\'')? + 1);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..]
        .starts_with('\'')
        .then(|| 1 + c.len_utf8() + 1)
}

/// The rooms that a source names by `crate::…`, by `super::…` beyond its own room, or in a group.
fn imports(file: &str, code: &str) -> BTreeSet<String> {
    let compact: String = code
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(" ::", "::")
        .replace(":: ", "::");
    let mut found = BTreeSet::new();
    let depth = file.split('/').count() - usize::from(file.ends_with("/mod.rs"));
    let to_root = "super::".repeat(depth);
    for (at, _) in compact.match_indices("crate::") {
        let is_word = compact[..at]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        if !is_word {
            named(&compact[at + "crate::".len()..], &mut found);
        }
    }
    for (at, _) in compact.match_indices(&to_root) {
        named(&compact[at + to_root.len()..], &mut found);
    }
    // `super::` from a module inside the file stays within the room, so only rooms count there.
    found.retain(|name| [BASE, ENGINES, UPPER].concat().contains(&name.as_str()));
    found
}

/// The first name of a path, or of each path of a group.
fn named(path: &str, found: &mut BTreeSet<String>) {
    let word = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else {
        found.insert(word(path));
        return;
    };
    let (mut nested, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => nested += 1,
            '}' if nested == 0 => {
                found.insert(word(&group[start..at]));
                return;
            }
            '}' => nested -= 1,
            ',' if nested == 0 => {
                found.insert(word(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// What a source breaks.
fn faults(file: &str, text: &str) -> Vec<String> {
    let source = Source::of(text);
    let (own, allowed) = (room(file), may_import(file));
    let mut faults: Vec<String> = imports(file, &source.code)
        .into_iter()
        .filter(|name| name != own && !allowed.contains(&name.as_str()))
        .map(|name| format!("src/{file} imports `{name}`, which is not below it"))
        .collect();
    let words: Vec<&str> = source
        .code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    if words.contains(&"unsafe") && file != "os.rs" {
        faults.push(format!(
            "src/{file} has `unsafe`, which stands in os.rs alone"
        ));
    }
    if own != "store" {
        if words.contains(&"rusqlite") {
            faults.push(format!(
                "src/{file} uses rusqlite, which the store alone does"
            ));
        }
        let sql = |text: &&String| {
            let text = text.trim_start();
            [
                "SELECT ",
                "INSERT INTO ",
                "INSERT OR ",
                "UPDATE ",
                "DELETE FROM ",
                "CREATE TABLE",
                "PRAGMA ",
                "BEGIN",
            ]
            .iter()
            .any(|word| text.starts_with(word))
        };
        faults.extend(
            source
                .texts
                .iter()
                .filter(sql)
                .map(|text| format!("src/{file} has SQL: {text}")),
        );
    }
    faults
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let root = measured::root().join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(
        found.len() > 100,
        "{} sources below {}",
        found.len(),
        root.display()
    );
    let name = |path: &PathBuf| {
        path.strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    found
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn the_code_keeps_to_the_layers() {
    let faults: Vec<String> = sources()
        .iter()
        .flat_map(|(file, text)| faults(file, text))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_map_in_lib_rs_names_every_room() {
    let lib = fs::read_to_string(measured::root().join("src/lib.rs")).unwrap();
    let rooms: BTreeSet<String> = sources()
        .iter()
        .map(|(file, _)| room(file).to_owned())
        .collect();
    for room in rooms
        .iter()
        .filter(|room| !matches!(room.as_str(), "main" | "lib"))
    {
        assert!(lib.contains(&format!("pub mod {room};")), "{room}");
    }
}

#[test]
fn planted_violations_are_caught() {
    for (file, planted) in [
        ("model/org.rs", "use crate::store::Store;"),
        ("model/org.rs", "use crate::api::org::AddOrg;"),
        (
            "store/org.rs",
            "use crate::{\n    error::Error,\n    service::{access, caller},\n};",
        ),
        ("store/org.rs", "fn f() { crate :: service :: run() }"),
        ("crypto/seal/mod.rs", "pub use super::super::store::Store;"),
        ("clock.rs", "use super::config::Config;"),
        ("service/mod.rs", "use crate::http::reply;"),
        ("http/reply.rs", "use crate::store::Store;"),
        ("http/routes/org.rs", "use crate::crypto::sha256;"),
        ("http/mod.rs", "use crate::server;"),
        ("cli/noun/org.rs", "use crate::store;"),
        ("cli/mod.rs", "use crate::service::Service;"),
        ("server/mod.rs", "fn f() { crate::cli::main([]) }"),
        ("store/open.rs", "fn f() { unsafe { g() } }"),
        (
            "service/org.rs",
            "const Q: &str = \"SELECT name FROM orgs\";",
        ),
        (
            "http/reply.rs",
            "const Q: &str = r#\"UPDATE orgs SET name = 'x'\"#;",
        ),
        ("service/org.rs", "use rusqlite::Connection;"),
    ] {
        assert_eq!(
            faults(file, planted).len(),
            1,
            "{file}: {planted}: {:?}",
            faults(file, planted)
        );
    }
}

#[test]
fn what_only_looks_like_a_violation_is_none() {
    for (file, harmless) in [
        (
            "model/org.rs",
            "// use crate::store::Store;\n/* crate::service::x */",
        ),
        (
            "model/org.rs",
            "const S: &str = \"crate::store::Store, or \\\" unsafe\"; fn f<'a>(c: char) -> bool { c == '\"' }",
        ),
        (
            "model/org.rs",
            "#![allow(unsafe_code)]\nuse crate::error::Error;",
        ),
        (
            "http/routes/org.rs",
            "use super::super::reply; use super::org; use crate::service::Service;",
        ),
        (
            "config.rs",
            "mod tests { use super::*; use crate::model::role::Role; }",
        ),
        (
            "cli/doctor.rs",
            "use crate::server::unlock; use crate::store::Opened;",
        ),
        ("service/org.rs", "const T: &str = \"SELECTED by hand\";"),
    ] {
        assert_eq!(faults(file, harmless), Vec::<String>::new(), "{file}");
    }
}
