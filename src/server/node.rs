//! `node.json`: what is this machine's alone, and is never replaced by a restore: the node's id, its
//! database key under the KEK, the highest generation of `seal.json` that it has seen.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crypto::envelope::{self, Aad};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::id::InstanceId;
use crate::secret::Key;

const FORMAT: &str = "strongroom-node/1";
const MOST_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    format: String,
    pub instance: InstanceId,
    pub node: Uuid,
    /// The envelope of the database key, in hex.
    database_key: String,
    /// The same under the next KEK, while the root key is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database_key_next: Option<String>,
    /// The highest seen.
    pub seal_generation: u64,
    pub epoch: u64,
}

fn aad(node: &Uuid) -> Aad<'_> {
    Aad {
        table: "node.json",
        column: "database_key",
        org: None,
        object: node.as_bytes(),
        version: 1,
    }
}

impl Node {
    pub fn new(
        instance: InstanceId,
        kek: &Key,
        database_key: &Key,
        seal_generation: u64,
    ) -> Result<Self> {
        let node = *InstanceId::new().0.as_bytes();
        let node = Uuid::from_bytes(node);
        let sealed = envelope::seal(kek, 1, &aad(&node), database_key.expose())?;
        Ok(Self {
            format: FORMAT.to_owned(),
            instance,
            node,
            database_key: hex::encode(sealed),
            database_key_next: None,
            seal_generation,
            epoch: 1,
        })
    }

    pub fn read(folder: &Folder) -> Result<Self> {
        let path = folder.node();
        Self::parse(&folder::read(&path, MOST_BYTES)?, &path)
    }

    /// `path` is where the bytes come from, for the error.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let node: Self = serde_json::from_slice(bytes).map_err(|error| {
            Error::unavailable(
                "node_damaged",
                format!("{} is damaged; restore a backup", path.display()),
            )
            .because(error)
        })?;
        if node.format != FORMAT {
            return Err(Error::unavailable(
                "node_newer",
                format!(
                    "{} is of format `{}`; this program reads {FORMAT}",
                    path.display(),
                    crate::model::id::shown(&node.format)
                ),
            ));
        }
        Ok(node)
    }

    pub fn write(&self, folder: &Folder) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| Error::internal(error.to_string()))?;
        folder::replace(&folder.node(), &text)
    }

    /// # Errors
    /// `node_foreign`: the root key that was opened is not the one that this key lies under.
    pub fn open_database_key(&self, kek: &Key) -> Result<Key> {
        let foreign = || {
            Error::unavailable(
                "node_foreign",
                "node.json was not made under the root key that seal.json gives; put back the seal.json and node.json that belong together, or restore a backup",
            )
        };
        let open = |sealed: &str| {
            let sealed = hex::decode(sealed).map_err(|_| foreign())?;
            let opened = envelope::open(kek, &aad(&self.node), &sealed)
                .map_err(|error| foreign().because(error))?;
            Key::from_slice(opened.expose()).ok_or_else(foreign)
        };
        match (open(&self.database_key), &self.database_key_next) {
            (Err(_), Some(next)) => open(next),
            (opened, _) => opened,
        }
    }

    /// Keeps the database key under the next KEK, too.
    pub fn prepare(&mut self, kek: &Key, next: &Key, version: u32) -> Result<()> {
        // What an earlier rotation left unfinished: this key-encryption key counts.
        self.settle(kek)?;
        let database_key = self.open_database_key(kek)?;
        let sealed = envelope::seal(next, version, &aad(&self.node), database_key.expose())?;
        self.database_key_next = Some(hex::encode(sealed));
        Ok(())
    }

    /// Keeps another database key under another root key's key-encryption key beside the one that counts, for
    /// a store that is to take the place of this node's.
    ///
    /// # Errors
    /// `rotation_cut_off`: something else lies there.
    pub fn expect(&mut self, next: &Key, version: u32, database_key: &Key) -> Result<()> {
        if self.database_key_next.is_some() {
            return Err(Error::conflict(
                "rotation_cut_off",
                "a rotation of the root key was cut off here, and only a start of the server as it is tells which of its keys counts; start it and stop it again, or move live/ and node.json away, and restore then",
            ));
        }
        let sealed = envelope::seal(next, version, &aad(&self.node), database_key.expose())?;
        self.database_key_next = Some(hex::encode(sealed));
        Ok(())
    }

    /// Ends a rotation: `kek` is the only one from now on. True if there was one.
    pub fn settle(&mut self, kek: &Key) -> Result<bool> {
        let Some(next) = self.database_key_next.take() else {
            return Ok(false);
        };
        let taken = Self {
            database_key: next.clone(),
            ..self.clone()
        };
        if taken.open_database_key(kek).is_ok() {
            self.database_key = next;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keygen;

    #[test]
    fn a_rotation_begun_after_one_that_was_not_settled_keeps_the_key_that_counts() {
        let keks = [keygen::key(), keygen::key(), keygen::key()];
        let database_key = keygen::key();
        let mut node = Node::new(InstanceId::new(), &keks[0], &database_key, 1).unwrap();
        let opens = |node: &Node, kek: &Key| {
            let opened = node.open_database_key(kek);
            opened.is_ok_and(|key| key.matches(database_key.expose()))
        };
        node.prepare(&keks[0], &keks[1], 2).unwrap();
        assert!(opens(&node, &keks[0]) && opens(&node, &keks[1]));
        // The store was wrapped anew for the second; nobody settled that.
        node.prepare(&keks[1], &keks[2], 3).unwrap();
        assert!(opens(&node, &keks[1]) && opens(&node, &keks[2]));
        let mut undone = node.clone();
        assert!(undone.settle(&keks[1]).unwrap());
        assert!(opens(&undone, &keks[1]) && !opens(&undone, &keks[2]));
        assert!(node.settle(&keks[2]).unwrap() && !node.settle(&keks[2]).unwrap());
        assert!(opens(&node, &keks[2]) && !opens(&node, &keks[1]));
    }
}
