//! Makes a data folder: slots, keys, the store, the server's identity, the first superuser. All of
//! it is built in `live.new`, which becomes `live` at the very end, so that a run that was cut off
//! leaves nothing behind that looks like a server.

use std::fs;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::crypto::chain::Tagger;
use crate::crypto::seal::{NewSlot, SealFile};
use crate::crypto::x509::InstanceIdentity;
use crate::crypto::{envelope, kdf, keygen};
use crate::error::{Error, Result};
use crate::folder::{self, Folder};
use crate::model::audit::{Actor, Event, Object, Outcome};
use crate::model::id::{Fingerprint, InstanceId, RequestId, UserId};
use crate::model::role::{Grant, Role};
use crate::model::user::User;
use crate::secret::{Key, Secret};
use crate::service::keyring::system_aad;
use crate::service::root::kek_of;
use crate::store::{Change, First, Keys, NewUser, Opened, WrappedKey};

use super::node::Node;
use super::tls::write_leaf;
use super::unlock::{ANSWERS, AUDIT, CHECKPOINT, IDENTITY, IDENTITY_CERTIFICATE};

/// The first user's name.
pub const SUPERUSER: &str = "superuser";

pub struct Plan {
    pub fqdn: String,
    /// At least one; the label is what lists show.
    pub slots: Vec<(NewSlot, &'static str)>,
    pub superuser_password: Secret<Vec<u8>>,
}

pub struct Made {
    pub instance: InstanceId,
    pub server_fingerprint: Fingerprint,
}

/// # Errors
/// `already_initialised`; whatever the file system says.
pub fn init(folder: &Folder, plan: Plan, now: Timestamp) -> Result<Made> {
    let config = Config::first(&plan.fqdn)?;
    if !(12..=1_024).contains(&plan.superuser_password.expose().len()) {
        return Err(Error::invalid(
            "password",
            "the superuser's password has 12 to 1,024 bytes",
        ));
    }
    folder.create()?;
    let _lock = folder.lock()?;
    if folder.live().exists() {
        return Err(Error::conflict(
            "already_initialised",
            format!(
                "{} holds a server already; start it (strongroom serve), or choose another folder",
                folder.root().display()
            ),
        ));
    }
    let live = folder.unfinished();
    if live.exists() {
        // What an earlier run left when it was cut off; it never served anyone.
        fs::remove_dir_all(&live).map_err(|error| folder::failed("remove", &live, error))?;
    }
    folder::make_folder(&live.join("tls"))?;
    let instance = InstanceId::new();
    let root = keygen::key();
    let kek = kek_of(&root);
    let database_key = keygen::key();
    let mut seal = SealFile::new(instance);
    for (slot, label) in &plan.slots {
        seal.add_slot(&root, slot, label, now)?;
    }
    folder::replace(&live.join("seal.json"), &seal.to_json())?;
    folder::replace(&live.join("strongroom.toml"), config.to_toml()?.as_bytes())?;
    let identity = InstanceIdentity::create(instance, now)?;
    let system = system_keys(&kek, &identity)?;
    let mut opened = Opened::open(&live, &database_key, true, now)?;
    opened.begin(&First {
        instance,
        seal_generation: seal.generation(),
        keys: system.wrapped,
        now,
    })?;
    write_leaf(&live.join("tls"), &identity, &config.fqdn, now)?;
    add_superuser(
        opened,
        system.running,
        instance,
        plan.superuser_password,
        now,
    )?;
    Node::new(instance, &kek, &database_key, seal.generation())?.write(folder)?;
    fs::rename(&live, folder.live()).map_err(|error| folder::failed("rename", &live, error))?;
    fs::File::open(folder.root())
        .and_then(|root| root.sync_all())
        .map_err(|error| folder::failed("sync", folder.root(), error))?;
    Ok(Made {
        instance,
        server_fingerprint: identity.fingerprint(),
    })
}

struct System {
    wrapped: Vec<WrappedKey>,
    running: Keys,
}

fn system_keys(kek: &Key, identity: &InstanceIdentity) -> Result<System> {
    let (audit, answers) = (keygen::key(), keygen::key());
    let checkpoint = keygen::ed25519()?;
    let wrap = |name: &str, secret: &[u8]| -> Result<WrappedKey> {
        let wrapped = envelope::seal(kek, 1, &system_aad(name), secret)?;
        // Opened once before it is relied on.
        envelope::open(kek, &system_aad(name), &wrapped)?;
        Ok(WrappedKey {
            name: name.to_owned(),
            version: 1,
            wrapped,
        })
    };
    let wrapped = vec![
        wrap(AUDIT, audit.expose())?,
        wrap(ANSWERS, answers.expose())?,
        wrap(CHECKPOINT, checkpoint.expose())?,
        wrap(IDENTITY, identity.pkcs8().expose())?,
        wrap(IDENTITY_CERTIFICATE, identity.ca_der())?,
    ];
    Ok(System {
        wrapped,
        running: Keys {
            changes: Tagger::new(&audit),
            access: Tagger::new(&audit),
            answers,
        },
    })
}

/// Through the running store, so that the first user stands in the audit like every other.
fn add_superuser(
    opened: Opened,
    keys: Keys,
    instance: InstanceId,
    password: Secret<Vec<u8>>,
    now: Timestamp,
) -> Result<()> {
    let password = kdf::password_hash(&password)?;
    let store = opened.start(keys, |what| log::error!("{what}"))?;
    let event = Event {
        time: now,
        request: RequestId::new(),
        actor: Actor {
            kind: "server".to_owned(),
            name: String::new(),
            source: "server".to_owned(),
        },
        action: "server.init".to_owned(),
        object: Object {
            kind: "server".to_owned(),
            id: instance.to_string(),
            name: SUPERUSER.to_owned(),
        },
        outcome: Outcome::Done,
        detail: format!("user {SUPERUSER}"),
        reason: String::new(),
    };
    let user = User {
        id: UserId::new(),
        name: SUPERUSER.parse()?,
        grants: vec![Grant {
            role: Role::Superuser,
            org: None,
        }],
        created: now,
        disabled: false,
        second_factor: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::internal(error.to_string()))?;
    runtime.block_on(store.add_user(Change { event, once: None }, NewUser { user, password }))?;
    Ok(())
}
