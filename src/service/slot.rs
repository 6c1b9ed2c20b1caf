//! Slots: which secrets open the server. A change needs a secret that opens it already, since the
//! running server does not keep the root key.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::access::{Action, Target};
use super::caller::Context;
use super::{Service, object, once, to_its_end};
use crate::api::slot::{
    AddSlot, NewSlot as Asked, OpenSlot, ReplaceSlot, Slot, SlotSecret as Given, Slots,
};
use crate::clock;
use crate::crypto::seal::{MAX_BYTES, NewSlot, SealFile, SlotInfo, SlotSecret};
use crate::error::{Error, Kind, Result};
use crate::folder::{self, Folder};
use crate::model::id::SlotId;
use crate::secret::{Key, Secret};

/// seal.json, changed by one at a time.
pub struct Seal {
    pub(super) folder: Folder,
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Reads a folder's seal.json; also its bytes.
pub fn read(folder: &Folder) -> Result<(SealFile, Vec<u8>)> {
    let bytes = folder::read(&folder.seal(), MAX_BYTES as u64)?;
    Ok((SealFile::parse(&bytes)?, bytes))
}

impl Seal {
    pub fn new(folder: Folder) -> Self {
        Self {
            folder,
            turn: tokio::sync::Mutex::default(),
        }
    }
}

/// The slots in a folder's seal.json.
pub(super) fn listed(folder: &Folder) -> Result<Slots> {
    let (file, _) = read(folder)?;
    Ok(Slots {
        generation: file.generation(),
        slots: file.slots().into_iter().map(wire).collect(),
    })
}

/// What a change makes of the file; the slot that it is about.
type Alter = Box<dyn FnOnce(&mut SealFile, &Key) -> Result<SlotId> + Send>;

impl Service {
    pub async fn slot_list(&self, ctx: &Context) -> Result<Slots> {
        self.allow(
            ctx,
            Action::SlotRead,
            &Target::Server,
            "slot.list",
            object("slot", "", ""),
        )?;
        listed(&self.seal.folder)
    }

    pub async fn slot_add(self: &Arc<Self>, ctx: &Context, request: AddSlot) -> Result<Slot> {
        let AddSlot {
            label,
            secret,
            opener,
        } = request;
        let new = new_slot(secret)?;
        self.slot_change(
            ctx,
            "slot.add",
            None,
            opener,
            Box::new(move |file, root| {
                let id = file.add_slot(root, &new, &label, clock::now())?;
                proven(file, &new, id)
            }),
        )
        .await
    }

    /// Another secret, and another id: a slot is never wrapped anew under its old salt.
    pub async fn slot_replace(
        self: &Arc<Self>,
        ctx: &Context,
        id: SlotId,
        request: ReplaceSlot,
    ) -> Result<Slot> {
        let ReplaceSlot {
            label,
            secret,
            opener,
        } = request;
        let new = new_slot(secret)?;
        self.slot_change(
            ctx,
            "slot.replace",
            Some(id),
            opener,
            Box::new(move |file, root| {
                let old = info(file, id)?;
                let label = label.unwrap_or(old.label);
                let added = file.add_slot(root, &new, &label, clock::now())?;
                proven(file, &new, added)?;
                file.remove_slot(root, id)?;
                Ok(added)
            }),
        )
        .await
    }

    pub async fn slot_remove(
        self: &Arc<Self>,
        ctx: &Context,
        id: SlotId,
        request: OpenSlot,
    ) -> Result<Slot> {
        self.slot_change(
            ctx,
            "slot.remove",
            Some(id),
            request.opener,
            Box::new(move |file, root| {
                file.remove_slot(root, id)?;
                Ok(id)
            }),
        )
        .await
    }

    /// Whether a secret opens this slot.
    pub async fn slot_test(&self, ctx: &Context, id: SlotId, request: OpenSlot) -> Result<Slot> {
        self.may_change_slots(ctx, "slot.test", Some(id))?;
        let secret = self::opener(request.opener)?;
        let (file, _) = self.newest(ctx, "slot.test")?;
        let slot = info(&file, id)?;
        self.open_seal(ctx, "slot.test", file, secret, Some(id))
            .await?;
        let event = ctx.event("slot.test", named(&slot), clock::now());
        self.release(event).await?;
        Ok(wire(slot))
    }

    /// Enters that an older seal.json was taken by name, as the generation that it has now.
    pub async fn note_old_seal(
        &self,
        ctx: &Context,
        found: u64,
        known: u64,
        now: u64,
    ) -> Result<()> {
        let slot = object("slot", "", "");
        let mut change = self.change(ctx, "slot.accept_old", slot, clock::now());
        change.event.detail = format!("generation {found} after {known}, now {now}");
        self.store.set_seal_generation(change, now, ()).await
    }

    /// At a start: enters the generation of seal.json where the store knows an older one.
    pub async fn seal_is(&self, generation: u64) -> Result<()> {
        let known = self.store.meta_number("seal_generation")?;
        if known >= generation {
            return Ok(());
        }
        let ctx = Self::own_context();
        let mut change = self.change(&ctx, "slot.found", object("slot", "", ""), clock::now());
        change.event.detail = format!("generation {generation} after {known}");
        self.store.set_seal_generation(change, generation, ()).await
    }

    fn may_change_slots(&self, ctx: &Context, verb: &str, id: Option<SlotId>) -> Result<()> {
        let id = id.map_or_else(String::new, |id| id.to_string());
        let slot = object("slot", id, "");
        self.allow(ctx, Action::SlotChange, &Target::Server, verb, slot)
    }

    /// The seal.json that the store knows, or a newer one; an older one was put back meanwhile.
    pub(super) fn newest(&self, ctx: &Context, verb: &str) -> Result<(SealFile, Vec<u8>)> {
        let (file, bytes) = read(&self.seal.folder)?;
        file.check_instance(self.facts.instance)?;
        let known = self.store.meta_number("seal_generation")?;
        if file.generation() < known {
            let error = Error::conflict(
                "seal_older",
                format!(
                    "seal.json is of generation {}, and generation {known} was there before: it was put back from an older copy, in which a slot may open that was removed since; put back the newest one",
                    file.generation()
                ),
            );
            self.refused(ctx, verb, object("slot", "", ""), &error);
            return Err(error);
        }
        Ok((file, bytes))
    }

    /// Goes on if the caller does not wait: half of it must not be left.
    async fn slot_change(
        self: &Arc<Self>,
        ctx: &Context,
        verb: &'static str,
        id: Option<SlotId>,
        opener: Given,
        alter: Alter,
    ) -> Result<Slot> {
        self.may_change_slots(ctx, verb, id)?;
        let opener = self::opener(opener)?;
        let (this, ctx) = (Arc::clone(self), ctx.clone());
        to_its_end(async move { this.changed_slot(&ctx, verb, id, opener, alter).await }).await
    }

    /// Reads the file, opens it, alters it, puts it in its place, and enters that in the audit. If the
    /// store does not take the event, the old file comes back.
    async fn changed_slot(
        &self,
        ctx: &Context,
        verb: &str,
        id: Option<SlotId>,
        opener: SlotSecret,
        alter: Alter,
    ) -> Result<Slot> {
        let _turn = self.seal.turn.lock().await;
        if let Some(once) = once(ctx)
            && let Some(first) = self.store.first_answer(&once)?
        {
            return Ok(first);
        }
        self.store.room()?;
        let (file, before) = self.newest(ctx, verb)?;
        let told = id.map(|id| info(&file, id)).transpose()?;
        let (mut file, root, _) = self.open_seal(ctx, verb, file, opener, None).await?;
        let (file, id) = tokio::task::spawn_blocking(move || {
            let id = alter(&mut file, &root)?;
            Ok::<_, Error>((file, id))
        })
        .await
        .map_err(|error| Error::internal(error.to_string()))??;
        let generation = file.generation();
        let (slot, instead) = match told {
            Some(slot) if slot.id == id => (slot, String::new()),
            Some(old) => (info(&file, id)?, format!(", instead of {}", old.id)),
            None => (info(&file, id)?, String::new()),
        };
        let mut change = self.change(ctx, verb, named(&slot), clock::now());
        change.event.detail = format!("{}, generation {generation}{instead}", slot.kind);
        let path = self.seal.folder.seal();
        let changed = match folder::replace(&path, &file.to_json()) {
            Ok(()) => {
                self.store
                    .set_seal_generation(change, generation, wire(slot))
                    .await
            }
            Err(error) => Err(error),
        };
        match &changed {
            Ok(_) => {
                if let Err(error) = self.beside.seal_changed(generation) {
                    log::warn!(error:? = error; "the generation of seal.json stands in the store alone");
                }
            }
            // It may be in the store, so the file must not be older; the next start settles it.
            Err(error) if error.kind == Kind::Unknown => {}
            Err(error) => {
                if let Err(worse) = folder::replace(&path, &before) {
                    log::error!(error:? = error, worse:? = worse; "seal.json may be changed, and that could be neither audited nor undone");
                }
            }
        }
        changed
    }

    /// The file, its root key, and the secret again. Slowed down by address, but not on the socket.
    pub(super) async fn open_seal(
        &self,
        ctx: &Context,
        verb: &str,
        file: SealFile,
        secret: SlotSecret,
        slot: Option<SlotId>,
    ) -> Result<(SealFile, Key, SlotSecret)> {
        let refused = |error: &Error| {
            let id = slot.map_or_else(String::new, |id| id.to_string());
            self.refused(ctx, verb, object("slot", id, ""), error);
        };
        let attempt = match ctx.source.address {
            Some(_) => Some(
                self.throttle
                    .attempt(format!("slot {}", ctx.neighbour()), clock::now())
                    .inspect_err(refused)?,
            ),
            None => None,
        };
        let _turn = self
            .passwords
            .acquire()
            .await
            .map_err(|_| Error::internal("the log-in queue is closed"))?;
        let opened = tokio::task::spawn_blocking(move || {
            let (root, _) = file.open(&secret, slot)?;
            Ok((file, root, secret))
        })
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
        if opened.is_err()
            && let Some(attempt) = attempt
        {
            attempt.failed(clock::now());
        }
        opened.inspect_err(refused)
    }
}

/// The new slot opens the file as it is to be written, before anything old goes.
fn proven(file: &SealFile, new: &NewSlot, id: SlotId) -> Result<SlotId> {
    SealFile::parse(&file.to_json())?.open(new.secret(), Some(id))?;
    Ok(id)
}

fn bytes(field: &'static str, text: String) -> Result<Secret<Vec<u8>>> {
    let text = Secret::new(text);
    STANDARD
        .decode(text.expose())
        .map(Secret::new)
        .map_err(|_| Error::invalid(field, format!("`{field}` is not base64")))
}

fn new_slot(asked: Asked) -> Result<NewSlot> {
    match asked {
        Asked::Passphrase(text) => Ok(NewSlot::passphrase(bytes("secret", text)?)),
        Asked::KeyFile(text) => Ok(NewSlot::key_file(bytes("secret", text)?)),
        Asked::Credential(it) => NewSlot::credential(&it.name, bytes("secret", it.secret)?),
        Asked::Recovery(it) => NewSlot::recovery(&it.recipient),
    }
}

/// A secret as it came over the API.
pub(super) fn opener(given: Given) -> Result<SlotSecret> {
    Ok(match given {
        Given::Passphrase(text) => SlotSecret::Passphrase(bytes("opener", text)?),
        Given::KeyFile(text) => SlotSecret::KeyFile(bytes("opener", text)?),
        Given::Recovered(text) => SlotSecret::Recovered(bytes("opener", text)?),
    })
}

fn info(file: &SealFile, id: SlotId) -> Result<SlotInfo> {
    let mut slots = file.slots().into_iter();
    slots
        .find(|slot| slot.id == id)
        .ok_or_else(|| Error::not_found(format!("no slot has the id {id}; `slot list` shows them")))
}

fn named(slot: &SlotInfo) -> crate::model::audit::Object {
    object("slot", slot.id, &slot.label)
}

pub(super) fn wire(slot: SlotInfo) -> Slot {
    Slot {
        id: slot.id,
        number: u32::try_from(slot.number).unwrap_or(u32::MAX),
        kind: slot.kind,
        label: slot.label,
        created: slot.created,
        parameters: slot.parameters,
        known: slot.known,
    }
}
