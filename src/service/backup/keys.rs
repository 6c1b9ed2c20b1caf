//! What opens each of this server's own backups, to prove that they open: kept in the store, made when it
//! is first asked for.

use super::audience::Audience;
use super::check::Identities;
use super::leave::Drill;
use super::{Service, backup_object};
use crate::clock;
use crate::crypto::{agefile, openpgp};
use crate::error::Result;
use crate::secret::Secret;

/// The names under which they lie there.
const AGE: &str = "drill";
const OPENPGP: &str = "drill_openpgp";

impl Service {
    pub(super) async fn drill_identities(&self) -> Result<Identities> {
        Ok(Identities {
            age: self.drill_identity().await?,
            openpgp: self.drill_key().await?,
            passphrase: None,
        })
    }

    /// To whom a backup is encrypted beside its audience.
    pub(super) async fn drill_of(&self, audience: &Audience) -> Result<Drill> {
        Ok(match audience {
            Audience::Age(_) | Audience::Passphrase(_) | Audience::Nobody => {
                Drill::Age(agefile::recipient_of(&self.drill_identity().await?)?)
            }
            Audience::Openpgp(_) => {
                Drill::Openpgp(Box::new(openpgp::public_of(&self.drill_key().await?)?))
            }
        })
    }

    /// What opens each of this server's backups, to prove that they open.
    async fn drill_identity(&self) -> Result<Secret<Vec<u8>>> {
        self.drill_secret(AGE, || {
            let (identity, recipient) = agefile::generate_identity();
            let identity = Secret::new(identity.expose().as_bytes().to_vec());
            Ok((identity, recipient))
        })
        .await
    }

    /// The same of those that are encrypted by OpenPGP.
    async fn drill_key(&self) -> Result<Secret<Vec<u8>>> {
        let user_id = format!("Strongroom {} (verification)", self.facts.config.fqdn);
        self.drill_secret(OPENPGP, || {
            let made = openpgp::generate_drill(&user_id, clock::now())?;
            Ok((made.secret, made.public.fingerprint()))
        })
        .await
    }

    /// A secret of the store; made when it is first asked for.
    async fn drill_secret(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<(Secret<Vec<u8>>, String)>,
    ) -> Result<Secret<Vec<u8>>> {
        if let Some(kept) = self.store.system_key(name)? {
            return self.keyring.open_system(name, &kept.wrapped);
        }
        let (secret, public) = make()?;
        let made = backup_object("drill_key", public);
        match self
            .keep_system_key(name, &secret, "backup.drill_key", made)
            .await
        {
            Ok(()) => Ok(secret),
            // Two at once: the first one's counts.
            Err(error) => match self.store.system_key(name)? {
                Some(kept) => self.keyring.open_system(name, &kept.wrapped),
                None => Err(error),
            },
        }
    }
}
