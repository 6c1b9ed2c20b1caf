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

fn database_key(server: &Server) -> Key {
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
