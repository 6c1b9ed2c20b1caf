//! Backups as docs/formats/backup.md has them, made of a stopped server's files: as they should be, or wrong
//! in one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use strongroom::backup::manifest::{self, Manifest, Member, PURPOSE, Slot};
use strongroom::clock;
use strongroom::crypto::seal::{SealFile, SlotSecret};
use strongroom::crypto::{agefile, envelope, kdf, keygen, sha256};
use strongroom::model::backup::EncryptedTo;
use strongroom::secret::Secret;
use strongroom::store::{self, Contents, Opened};

use super::store::{database_key, kek};
use super::{Folder, Server};

/// What a backup is made with.
pub struct Wish {
    pub self_contained: bool,
    pub recipients: Vec<EncryptedTo>,
    /// Makes the manifest say something else, before anything is bound to it.
    pub change: fn(&mut Manifest),
    /// The same, afterwards.
    pub forge: fn(&mut Manifest),
    /// What the databases are changed by, before they are copied.
    pub spoil: &'static str,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            self_contained: false,
            recipients: Vec::new(),
            change: |_| (),
            forge: |_| (),
            spoil: "",
        }
    }
}

/// The tar of a backup.
pub fn tar_of(server: &Server, wish: &Wish) -> Vec<u8> {
    let live = server.data.join("live");
    let folder = Folder::new();
    let one_time = keygen::key();
    let contents = copy(server, folder.path(), &one_time, wish.spoil);
    let mut parts = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| parts.push((name.to_owned(), bytes));
    let seal = fs::read(live.join("seal.json")).unwrap();
    let file = SealFile::parse(&seal).unwrap();
    match wish.self_contained {
        true => {
            let key = SlotSecret::KeyFile(Secret::new(fs::read(server.path("key")).unwrap()));
            let (root, _) = file.open(&key, None).unwrap();
            add(
                "root.key",
                format!("{}\n", hex::encode(root.expose())).into(),
            );
        }
        false => add("seal.json", seal),
    }
    add(
        "strongroom.toml",
        fs::read(live.join("strongroom.toml")).unwrap(),
    );
    if let Ok(public) = fs::read(live.join("openpgp.asc")) {
        add("openpgp.asc", public);
    }
    let id = uuid::Uuid::now_v7();
    let own = kdf::derive(&kek(server), PURPOSE);
    let mut tls: Vec<PathBuf> = fs::read_dir(live.join("tls"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    tls.sort();
    for path in tls {
        let name = format!("tls/{}", path.file_name().unwrap().to_str().unwrap());
        let aad = manifest::aad(&name, id.as_bytes());
        let sealed = envelope::seal(&own, 1, &aad, &fs::read(&path).unwrap()).unwrap();
        add(&name, sealed);
    }
    for name in ["access.db", "strongroom.db"] {
        add(name, fs::read(folder.path().join(name)).unwrap());
    }
    let slots = file.slots().into_iter().map(|slot| Slot {
        id: slot.id,
        kind: slot.kind,
        label: slot.label,
    });
    let slots = if wish.self_contained {
        vec![]
    } else {
        slots.collect()
    };
    let mut manifest = manifest_of(server, id, &parts, contents);
    manifest.self_contained = wish.self_contained;
    manifest.slots = slots;
    manifest.recipients.clone_from(&wish.recipients);
    (wish.change)(&mut manifest);
    let bound = manifest.to_json().unwrap();
    (wish.forge)(&mut manifest);
    let binding = manifest::binding(&bound);
    let aad = manifest::aad("database.key", &binding);
    let key = envelope::seal(&own, 1, &aad, one_time.expose()).unwrap();
    parts.insert(1, ("database.key".to_owned(), key));
    parts.insert(0, ("manifest.json".to_owned(), manifest.to_json().unwrap()));
    pack(&parts)
}

/// Members as they are, in their order.
pub fn pack(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The members of a tar.
pub fn unpack(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (name, bytes)
        })
        .collect()
}

/// The same, encrypted to a new age identity: where the backup lies, and where the identity.
pub fn age_of(server: &Server, name: &str, tar: &[u8]) -> (PathBuf, PathBuf) {
    let (identity, recipient) = agefile::generate_identity();
    let sealed = agefile::encrypt(&[recipient], tar).unwrap();
    (
        server.file(&format!("{name}.tar.age"), sealed),
        server.file(&format!("{name}.txt"), identity.expose()),
    )
}

/// Copies both databases into a folder, under another key.
fn copy(server: &Server, to: &Path, key: &strongroom::secret::Key, spoil: &str) -> Contents {
    for name in ["access.db", "strongroom.db"] {
        fs::copy(server.data.join("live").join(name), to.join(name)).unwrap();
    }
    if !spoil.is_empty() {
        let db = super::store::open_at(server, &to.join("strongroom.db"));
        db.execute_batch(spoil).unwrap();
    }
    store::rekey(to, &database_key(server), key).unwrap();
    let opened = Opened::open(to, key, false, clock::now()).unwrap();
    let contents = opened.contents().unwrap();
    opened.close().unwrap();
    contents
}

fn manifest_of(
    server: &Server,
    id: uuid::Uuid,
    parts: &[(String, Vec<u8>)],
    contents: Contents,
) -> Manifest {
    let node = fs::read(server.data.join("node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_slice(&node).unwrap();
    let members = parts.iter().map(|(name, bytes)| Member {
        name: name.clone(),
        bytes: bytes.len() as u64,
        sha256: hex::encode(sha256(bytes)),
    });
    let counts: BTreeMap<String, u64> = contents.counts;
    Manifest {
        format: manifest::FORMAT.to_owned(),
        min_reader: manifest::READER,
        id,
        created: clock::now(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        instance: contents.instance,
        node: node["node"].as_str().unwrap().parse().unwrap(),
        fqdn: server.options.fqdn.clone(),
        epoch: contents.epoch,
        timeline: contents.timeline,
        schema: contents.schema,
        access_schema: contents.access_schema,
        revision: contents.revision,
        heads: contents.heads,
        checkpoint: None,
        newest_deposit: (counts.get("deposits") > Some(&0)).then(clock::now),
        counts,
        slots: vec![],
        recipients: vec![],
        self_contained: false,
        bound_to_hsm: vec![],
        members: members.collect(),
    }
}
