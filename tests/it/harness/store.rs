//! The files of a stopped server, opened as the server opens them: to see what lies there, and to
//! spoil it.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;
use strongroom::crypto::envelope::{self, Aad};
use strongroom::crypto::kdf;
use strongroom::crypto::seal::{SealFile, SlotSecret};
use strongroom::secret::{Key, Secret};

use super::Server;

/// `strongroom.db` or `access.db`, open with this server's own key.
pub fn open(server: &Server, file: &str) -> Connection {
    open_at(server, &server.data.join("live").join(file))
}

/// A database of this server's that lies somewhere else.
pub fn open_at(server: &Server, path: &Path) -> Connection {
    let key = database_key(server);
    #[allow(clippy::disallowed_methods, reason = "what the store would not do")]
    let db = Connection::open(path).unwrap();
    let key = hex::encode(key.expose());
    db.execute_batch(&format!(
        "PRAGMA key = \"x'{key}'\"; PRAGMA cipher_page_size = 4096; PRAGMA cipher_hmac_algorithm = HMAC_SHA256;
         PRAGMA cipher_kdf_algorithm = PBKDF2_HMAC_SHA256; PRAGMA synchronous = FULL;"
    ))
    .unwrap();
    db
}

/// The key-encryption key: the way that docs/formats/seal.md describes, a slot, the root key.
pub fn kek(server: &Server) -> Key {
    let seal = fs::read(server.data.join("live/seal.json")).unwrap();
    let secret = SlotSecret::KeyFile(Secret::new(fs::read(server.path("key")).unwrap()));
    let (root, _) = SealFile::parse(&seal).unwrap().open(&secret, None).unwrap();
    kdf::derive(&root, "kek/v1")
}

/// The key of both databases on this node.
pub fn database_key(server: &Server) -> Key {
    let node: Value =
        serde_json::from_slice(&fs::read(server.data.join("node.json")).unwrap()).unwrap();
    let id: uuid::Uuid = node["node"].as_str().unwrap().parse().unwrap();
    let wrapped = hex::decode(node["database_key"].as_str().unwrap()).unwrap();
    let aad = Aad {
        table: "node.json",
        column: "database_key",
        org: None,
        object: id.as_bytes(),
        version: 1,
    };
    let key = envelope::open(&kek(server), &aad, &wrapped).unwrap();
    Key::from_slice(key.expose()).unwrap()
}

/// Where the counters of organizations and clients are not what their rows add up to, and parts of
/// bodies that belong to nothing. The server must not run.
pub fn miscounted(server: &Server) -> Vec<String> {
    let db = open(server, "strongroom.db");
    let mut wrong = Vec::new();
    let mut compare = |what: &str, sql: &str| {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count() / 2;
        let mut rows = statement.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let number = |at: usize| row.get::<_, i64>(at).unwrap();
            let kept: Vec<i64> = (0..columns).map(number).collect();
            let there: Vec<i64> = (columns..2 * columns).map(number).collect();
            if kept != there {
                wrong.push(format!("{what}: {kept:?} are kept, {there:?} are there"));
            }
        }
    };
    compare(
        "an organization's clients, deposits and bytes",
        "SELECT o.clients, o.deposits, o.bytes,
            (SELECT count(*) FROM clients c WHERE c.org = o.id),
            (SELECT count(*) FROM deposits d WHERE d.org = o.id),
            (SELECT coalesce(sum(v.size), 0) FROM deposits d JOIN deposit_versions v ON v.deposit = d.id WHERE d.org = o.id)
         FROM orgs o",
    );
    compare(
        "a client's deposits and bytes",
        "SELECT c.deposits, c.bytes,
            (SELECT count(*) FROM deposits d WHERE d.owner = c.id),
            (SELECT coalesce(sum(v.size), 0) FROM deposits d JOIN deposit_versions v ON v.deposit = d.id WHERE d.owner = c.id)
         FROM clients c JOIN orgs o ON o.id = c.org",
    );
    compare(
        "parts of no version",
        "SELECT 0, count(*) FROM deposit_parts WHERE parts NOT IN (SELECT parts FROM deposit_versions WHERE parts IS NOT NULL)",
    );
    wrong
}
