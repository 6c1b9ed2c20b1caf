//! The root key, made anew: a slot's secret with an old seal.json opens the store no more. The keys
//! under it are wrapped anew, not made anew, and no deposit is encrypted again.
//!
//! The transaction that wraps them anew is the moment that counts. Before it, both files that go with
//! the new root key are written beside the old ones; after it they take their places. A start that
//! finds it cut off sees by the version of the key-encryption key in the store on which side it stands.

use std::sync::Arc;

use super::access::{Action, Target};
use super::caller::Context;
use super::keyring::{aad, system_aad};
use super::org::{CODES, code_aad};
use super::slot::{opener, wire};
use super::totp::{TOTP, totp_aad};
use super::{Service, object, once, to_its_end};
use crate::api::slot::{RootRotated, RotateRoot};
use crate::clock;
use crate::crypto::seal::{MAX_BYTES, MAX_SLOTS, SealFile, SlotInfo, SlotSecret};
use crate::crypto::{envelope, kdf, keygen};
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::model::audit::Object;
use crate::model::id::SlotId;
use crate::secret::{Key, Secret};
use uuid::Uuid;

use crate::store::{Rewrap, Wrapped, WrappedKey};

const VERB: &str = "root.rotate";

/// What the machine keeps of the root key beside seal.json and the store: `node.json`.
pub trait Beside: Send + Sync {
    /// The id of this node.
    fn node(&self) -> Result<Uuid>;
    /// A seal.json of this generation was written.
    fn seal_changed(&self, generation: u64) -> Result<()>;
    /// Makes ready for the next key-encryption key; the old one still counts.
    fn prepare(&self, kek: &Key, next: &Key, version: u32) -> Result<()>;
    /// This key-encryption key is the only one now.
    fn settle(&self, kek: &Key, generation: u64) -> Result<()>;
}

fn copy(key: &Key) -> Key {
    Secret::new(*key.expose())
}

/// The key-encryption key under a root key.
pub fn kek_of(root: &Key) -> Key {
    kdf::derive(root, "kek/v1")
}

impl Service {
    /// Keeps a secret of the server's own in the store, wrapped; opened once before it is relied on.
    ///
    /// # Errors
    /// `Conflict` if there is one of this name.
    pub(super) async fn keep_system_key(
        &self,
        name: &str,
        secret: &Secret<Vec<u8>>,
        verb: &str,
        made: Object,
    ) -> Result<()> {
        let _root = self.root.read().await;
        let key = WrappedKey {
            name: name.to_owned(),
            version: 1,
            wrapped: self.keyring.seal_system(name, secret)?,
        };
        self.keyring.open_system(name, &key.wrapped)?;
        let change = self.change(&Self::own_context(), verb, made, clock::now());
        self.store.add_system_key(change, key).await
    }

    pub async fn root_rotate(
        self: &Arc<Self>,
        ctx: &Context,
        request: RotateRoot,
    ) -> Result<RootRotated> {
        let root = object("root", self.facts.instance, "");
        self.allow(ctx, Action::SlotChange, &Target::Server, VERB, root)?;
        if request.openers.len() > MAX_SLOTS {
            let text = format!("there are at most {MAX_SLOTS} slots to open");
            return Err(Error::invalid("openers", text));
        }
        let openers = request.openers.into_iter().map(opener);
        let openers = openers.collect::<Result<Vec<_>>>()?;
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        to_its_end(async move { this.rotate(&ctx, openers).await }).await
    }

    async fn rotate(&self, ctx: &Context, openers: Vec<SlotSecret>) -> Result<RootRotated> {
        let _turn = self.seal.turn.lock().await;
        if let Some(once) = once(ctx)
            && let Some(first) = self.store.first_answer(&once)?
        {
            return Ok(first);
        }
        self.store.room()?;
        let (file, _) = self.newest(ctx, VERB)?;
        let before = file.clone();
        let (file, old, openers) = self.open_with_all(ctx, file, openers).await?;
        let (old_kek, next) = (kek_of(&old), keygen::key());
        let kek = kek_of(&next);
        let made = tokio::task::spawn_blocking(move || {
            let made = file.rotated(&old, &next, &openers, clock::now());
            made.map(|made| (made, next))
        });
        let (made, _next) = made
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        let generation = made.generation();
        let version = u32::try_from(generation)
            .map_err(|_| Error::internal("seal.json has changed too often"))?;
        let answer = answer(&before, &made);
        let mut change = self.change(
            ctx,
            VERB,
            object("root", self.facts.instance, ""),
            clock::now(),
        );
        change.event.detail = format!(
            "generation {generation}, {} of {} slots are there again",
            answer.slots.len(),
            before.slots().len()
        );

        // Nothing that is wrapped under the old key may be on its way to the store from here on.
        let _root = self.root.write().await;
        let folder = &self.seal.folder;
        let prepared = self
            .beside
            .prepare(&old_kek, &kek, version)
            .and_then(|()| folder::replace(&folder.seal_next(), &made.to_json()));
        if let Err(error) = prepared {
            self.undo(&old_kek, before.generation());
            return Err(error);
        }
        self.keyring.begin(&kek, version);
        let rewrap = rewrap(copy(&old_kek), copy(&kek), version);
        let rotated = self
            .store
            .rewrap(change, rewrap, (generation, version), answer)
            .await;
        match &rotated {
            Ok(_) => {
                let settled = folder::rename(&folder.seal_next(), &folder.seal())
                    .and_then(|()| self.beside.settle(&kek, generation));
                if let Err(error) = settled {
                    // The rotation stands all the same.
                    log::error!(error:? = error; "the root key was made anew, and its seal.json did not take its place");
                    self.board.amber(
                        "seal",
                        "the root key was made anew, and the files that go with it could not be written",
                        "see the server's log, and start it again: that finishes it",
                    );
                }
            }
            // The next start sees on which side it stands.
            Err(error) if error.kind == Kind::Unknown => {}
            Err(_) => {
                self.keyring.undo();
                self.undo(&old_kek, before.generation());
            }
        }
        rotated
    }

    /// Nothing is wrapped anew: the files that were to go with it go. What stays of them is found and
    /// dropped at the next start.
    fn undo(&self, kek: &Key, generation: u64) {
        let gone = folder::remove(&self.seal.folder.seal_next())
            .and_then(|()| self.beside.settle(kek, generation));
        if let Err(error) = gone {
            log::warn!(error:? = error; "what a rotation of the root key left is still there");
        }
    }

    /// The file and its root key; each of the secrets must open a slot.
    async fn open_with_all(
        &self,
        ctx: &Context,
        file: SealFile,
        openers: Vec<SlotSecret>,
    ) -> Result<(SealFile, Key, Vec<SlotSecret>)> {
        let mut opened = (file, None);
        let mut kept = Vec::new();
        for secret in openers {
            let (file, root, secret) = self.open_seal(ctx, VERB, opened.0, secret, None).await?;
            opened = (file, Some(root));
            kept.push(secret);
        }
        match opened {
            (file, Some(root)) => Ok((file, root, kept)),
            (_, None) => Err(Error::invalid(
                "openers",
                "give what opens a slot that is there",
            )),
        }
    }
}

fn answer(before: &SealFile, made: &SealFile) -> RootRotated {
    let slots = made.slots();
    let mut gone = before.slots();
    // Each new slot stands for the first old one of its kind and label.
    for slot in &slots {
        let of = |old: &SlotInfo| (&old.kind, &old.label) == (&slot.kind, &slot.label);
        if let Some(at) = gone.iter().position(of) {
            gone.remove(at);
        }
    }
    RootRotated {
        generation: made.generation(),
        slots: slots.into_iter().map(wire).collect(),
        gone: gone.into_iter().map(wire).collect(),
    }
}

/// Opens under the old key-encryption key, seals under the new one, and sees that it opens.
fn rewrap(old: Key, new: Key, version: u32) -> Rewrap {
    Box::new(move |what, wrapped| {
        let again = |old: &Key, new: &Key, aad: &envelope::Aad<'_>| {
            let plain = envelope::open(old, aad, wrapped)?;
            let sealed = envelope::seal(new, version, aad, plain.expose())?;
            let opened = envelope::open(new, aad, &sealed)?;
            match opened.matches(plain.expose()) {
                true => Ok(sealed),
                false => Err(Error::internal("a key that was wrapped anew does not open")),
            }
        };
        match what {
            Wrapped::System(name) => again(&old, &new, &system_aad(name)),
            Wrapped::OrgKey(org, number) => again(&old, &new, &aad(&org, number)),
            Wrapped::Totp(user) => again(
                &kdf::derive(&old, TOTP),
                &kdf::derive(&new, TOTP),
                &totp_aad(&user),
            ),
            Wrapped::Code(org) => again(
                &kdf::derive(&old, CODES),
                &kdf::derive(&new, CODES),
                &code_aad(&org),
            ),
        }
    })
}

/// The seal.json that is to take the place of the one there, its root key, and the slot that gave it.
pub struct Next {
    pub file: SealFile,
    pub root: Key,
    pub slot: SlotId,
}

/// What a rotation that was cut off left, opened; none if there is nothing.
///
/// # Errors
/// `rotation_cut_off`: `secret` opens no slot of it.
pub fn next(folder: &Folder, secret: &SlotSecret) -> Result<Option<Next>> {
    let path = folder.seal_next();
    if !path.exists() {
        return Ok(None);
    }
    let file = SealFile::parse(&folder::read(&path, MAX_BYTES as u64)?)?;
    let (root, slot) = file.open(secret, None).map_err(|why| {
        Error::unavailable(
            "rotation_cut_off",
            "the root key was being made anew when the server ended: start it with a secret that was given then, or with a recovery identity (serve --slot-identity)",
        )
        .because(why)
    })?;
    Ok(Some(Next { file, root, slot }))
}
