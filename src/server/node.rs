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
        let sealed = hex::decode(&self.database_key).map_err(|_| foreign())?;
        let opened = envelope::open(kek, &aad(&self.node), &sealed)
            .map_err(|error| foreign().because(error))?;
        Key::from_slice(opened.expose()).ok_or_else(foreign)
    }
}
