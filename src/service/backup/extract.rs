//! One deposit out of a backup, back into the running server: as a new version of what is there; what
//! is not there any more gets its owner and its bounds back, too.

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
use crate::error::{Error, Result};
use crate::model::deposit::{Deposit, DepositName, Encryption, SetPolicy};
use crate::model::id::shown;
use crate::model::org::OrgName;
use crate::secret::Secret;
use crate::service::access::{Action, Target};
use crate::service::caller::Context;
use crate::service::deposit::{Expect, Place, PutDeposit, Which};
use crate::service::drill::root_inside;
use crate::service::keyring::Keyring;
use crate::service::root::kek_of;
use crate::store::{self, Keys, Opened, Store};

/// Where the backup is unpacked; goes with the next start if it is cut off.
const FOLDER: &str = "unfinished-extract";

/// Which deposit, and what becomes of one whose owner is not there any more.
pub struct WantedDeposit {
    pub org: OrgName,
    pub name: DepositName,
    /// It comes back as the organization's own; else it does not come back.
    pub without_owner: bool,
}

/// A deposit as it was.
struct Found {
    body: Secret<Vec<u8>>,
    encryption: Encryption,
    content_type: String,
    back: store::Back,
    /// What its owner was called.
    owner: String,
}

impl Service {
    /// # Errors
    /// `other_backup`, `other_org`, `root_rotated`, what reading a backup finds; `NotFound`; `owner_gone`,
    /// and what else a put is refused with.
    pub async fn backup_extract(
        self: &Arc<Self>,
        ctx: &Context,
        wanted: WantedDeposit,
        pieces: Pieces,
    ) -> Result<Deposit> {
        const VERB: &str = "backup.extract";
        let WantedDeposit { org, name, .. } = &wanted;
        let tried = backup_object("", format!("{org}/{name}"));
        self.allow(ctx, Action::BackupCreate, &Target::Server, VERB, tried)?;
        let which = Which::In(org.clone(), name.clone());
        let (place, _) = self.writable(ctx, &which, VERB)?;
        let org_id = place.org;
        let identities = self.drill_identities().await?;
        let turn = self.backup_turn().await?;
        let (this, now) = (Arc::clone(self), clock::now());
        let without_owner = wanted.without_owner;
        let found = spawn_blocking(move || {
            let _turn = turn;
            check::opened_pieces(pieces, &identities, |clear| {
                let dir = Unfinished::new(this.seal.folder.backups(), FOLDER)?;
                this.found_in(Reader::begin(clear)?, dir.path(), &place, now)
            })
        });
        let mut found = found.await.map_err(ended)??;
        if let Some(owner) = found.back.owner.filter(|_| without_owner) {
            let there = self.store.client_by_key(&owner)?;
            found.back.owner = there.filter(|it| it.org == org_id).map(|_| owner);
        }
        let put = PutDeposit {
            expect: Expect::Anything,
            encryption: found.encryption,
            content_type: Some(found.content_type),
            description: None,
            labels: None,
            policy: SetPolicy::default(),
            back: Some(found.back),
            body: found.body,
        };
        match self.deposit_put(ctx, &which, put).await {
            Err(error) if error.code == store::OWNER_GONE => Err(whose(error, &found.owner)),
            put => Ok(put?.deposit),
        }
    }

    fn found_in(
        &self,
        mut reader: Reader<&mut dyn std::io::Read>,
        dir: &Path,
        place: &Place,
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
        deposit_of(&store, &keyring, place)
    }
}

fn deposit_of(store: &Store, keyring: &Keyring, place: &Place) -> Result<Found> {
    let org = place.org;
    if store.org(&place.org_name)?.org.id != org {
        return Err(Error::conflict(
            "other_org",
            format!(
                "the organization `{}` of this backup was removed since, and the one that is called so now is another; restore the backup elsewhere, and fetch the deposit there",
                place.org_name
            ),
        ));
    }
    let which = store::Which::Name(org, place.name.clone());
    let deposit = store.deposit(&which)?.deposit;
    let owner = deposit
        .owner
        .map(|owner| store.client(&owner))
        .transpose()?;
    let sealed = store.sealed_deposit(&which, None)?;
    let plain = store.open_deposit(&sealed, |version| keyring.org(store, org, version))?;
    Ok(Found {
        body: Secret::new(plain.as_ref().to_vec()),
        encryption: sealed.encryption,
        content_type: sealed.content_type().to_owned(),
        owner: owner.map_or(String::new(), |known| known.client.description),
        back: store::Back {
            owner: deposit.owner,
            policy: deposit.policy(),
            description: deposit.description,
            labels: deposit.labels,
        },
    })
}

/// Whose it was, and what to do.
fn whose(error: Error, owner: &str) -> Error {
    Error::conflict(
        store::OWNER_GONE,
        format!(
            "{} (\"{}\"), which is none of the organization any more: let it register again with the same key, and repeat this; or take the deposit back as the organization's own: --without-owner",
            error.public,
            shown(owner)
        ),
    )
}
