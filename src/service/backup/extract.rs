//! One deposit out of a backup, back into the running server: as a new version of what is there.

use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::draft::Unfinished;
use super::{Pieces, Service, backup_object, check, ended};
use crate::backup::manifest::PURPOSE;
use crate::backup::read::{Opener, Reader};
use crate::backup::unpack;
use crate::clock::{self, Timestamp};
use crate::crypto::chain::Tagger;
use crate::crypto::keygen;
use crate::error::{Error, Kind, Result};
use crate::model::deposit::{Deposit, DepositName, Encryption, SetPolicy};
use crate::model::org::OrgName;
use crate::secret::Secret;
use crate::service::access::{Action, Target};
use crate::service::caller::Context;
use crate::service::deposit::{Expect, PutDeposit, Which};
use crate::service::drill::root_inside;
use crate::service::keyring::Keyring;
use crate::service::root::kek_of;
use crate::store::{self, Keys, Opened, Store};

/// Where the backup is unpacked; goes with the next start if it is cut off.
const FOLDER: &str = "unfinished-extract";

/// A deposit as it was.
struct Found {
    body: Secret<Vec<u8>>,
    encryption: Encryption,
    content_type: String,
    /// Whether a time or a number of retrievals bounded it.
    bounded: bool,
}

impl Service {
    /// # Errors
    /// `other_backup`, `root_rotated`, what reading a backup finds; `NotFound`; what a put is refused with.
    pub async fn backup_extract(
        self: &Arc<Self>,
        ctx: &Context,
        org: OrgName,
        name: DepositName,
        pieces: Pieces,
    ) -> Result<Deposit> {
        const VERB: &str = "backup.extract";
        let tried = backup_object("", format!("{org}/{name}"));
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, tried)?;
        let which = Which::In(org.clone(), name.clone());
        let there = match self.deposit_show(ctx, &which).await {
            Ok(_) => true,
            Err(error) if error.kind == Kind::NotFound => false,
            Err(error) => return Err(error),
        };
        let identities = self.drill_identities().await?;
        let turn = self.backup_turn().await?;
        let (this, now) = (Arc::clone(self), clock::now());
        let wanted = (org, name);
        let found = spawn_blocking(move || {
            let _turn = turn;
            check::opened_pieces(pieces, &identities, |clear| {
                let dir = Unfinished::new(this.seal.folder.backups(), FOLDER)?;
                this.found_in(Reader::begin(clear)?, dir.path(), &wanted, now)
            })
        });
        let found = found.await.map_err(ended)??;
        if found.bounded && !there {
            return Err(Error::conflict(
                "deposit_bounded",
                "this deposit was bounded in time or in retrievals, and is not there any more: back again, it would be without bounds. Restore the backup elsewhere, and fetch it there",
            ));
        }
        let put = PutDeposit {
            expect: Expect::Anything,
            encryption: found.encryption,
            content_type: Some(found.content_type),
            description: None,
            labels: None,
            policy: SetPolicy::default(),
            body: found.body,
        };
        Ok(self.deposit_put(ctx, &which, put).await?.deposit)
    }

    fn found_in(
        &self,
        mut reader: Reader<&mut dyn std::io::Read>,
        dir: &Path,
        (org, name): &(OrgName, DepositName),
        now: Timestamp,
    ) -> Result<Found> {
        let small = reader.small()?;
        let manifest = reader.manifest().clone();
        if manifest.instance != self.facts.instance {
            return Err(Error::conflict(
                "other_backup",
                format!(
                    "this is a backup of instance {}; this server is {}",
                    manifest.instance, self.facts.instance
                ),
            ));
        }
        let keyring = match &small.opener {
            Opener::Root(root) => Keyring::new(kek_of(&root_inside(root)?), 1),
            Opener::Seal(_) => {
                let (version, kek) = self.keyring.kek()?;
                Keyring::new(kek, version)
            }
        };
        let opened = unpack::database_key(reader.manifest_bytes(), &small, &|aad, sealed| {
            keyring.open_for(PURPOSE, aad, sealed)
        });
        let key = opened.map_err(|error| {
            Error::conflict(
                "root_rotated",
                "this backup does not open under the server's root key: that was made anew since, or the backup was changed. Restore it elsewhere, with a slot of its time, and fetch the deposit there",
            )
            .because(error)
        })?;
        unpack::check_schemas(&manifest)?;
        unpack::check_room(&manifest, dir)?;
        unpack::databases(&mut reader, dir)?;
        reader.end()?;
        let opened = Opened::open(dir, &key, false, now)?;
        opened.migrate(now)?;
        // Nothing is written into it, so whatever would tag and seal does.
        let keys = Keys {
            changes: Tagger::new(&keygen::key()),
            access: Tagger::new(&keygen::key()),
            answers: keygen::key(),
        };
        let store = opened.start(keys, |_| ())?;
        deposit_of(&store, &keyring, org, name)
    }
}

fn deposit_of(
    store: &Store,
    keyring: &Keyring,
    org: &OrgName,
    name: &DepositName,
) -> Result<Found> {
    let org = store.org(org)?.org.id;
    let sealed = store.sealed_deposit(&store::Which::Name(org, name.clone()), None)?;
    let plain = store.open_deposit(&sealed, |version| keyring.org(store, org, version))?;
    let policy = &sealed.head.policy;
    Ok(Found {
        body: Secret::new(plain.as_ref().to_vec()),
        encryption: sealed.encryption,
        content_type: sealed.content_type().to_owned(),
        bounded: policy.max_retrievals.is_some() || policy.expires.is_some(),
    })
}
