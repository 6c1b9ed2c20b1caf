//! Recipients of backups: add, list, remove; and their keys, for what encrypts to them.

use super::access::{Action, Target};
use super::caller::Context;
use super::{ListQuery, Service, by_id, object, paged, position, short_text};
use crate::api::recipient::{AddRecipient, RecipientAdded};
use crate::clock::{self, Timestamp};
use crate::crypto::agefile;
use crate::crypto::openpgp::PublicKey;
use crate::error::{Error, Result};
use crate::model::filter::Filter;
use crate::model::id::{RecipientId, shown};
use crate::model::page::{Page, Part};
use crate::model::recipient::{Recipient, RecipientKind};
use crate::store::NewRecipient;

const LIST: &str = "recipients";
const LONGEST_LABEL: usize = 255;

/// What encrypts to a recipient.
pub enum RecipientKey {
    /// An age recipient or an SSH key, as age takes it.
    Age(String),
    Openpgp(Box<PublicKey>),
}

impl Service {
    pub async fn recipient_add(
        &self,
        ctx: &Context,
        request: AddRecipient,
    ) -> Result<RecipientAdded> {
        const VERB: &str = "recipient.add";
        let none_yet = object("recipient", "", "");
        self.allow(
            ctx,
            Action::RecipientChange,
            &Target::Server,
            VERB,
            none_yet,
        )?;
        if let Some(label) = &request.label {
            short_text("label", label, LONGEST_LABEL)?;
        }
        let actor = ctx.actor();
        let added_by = format!("{} {}", actor.kind, actor.name);
        let now = clock::now();
        // Signatures are checked, which takes a processor.
        let new = tokio::task::spawn_blocking(move || new_recipient(request, added_by, now))
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        let it = &new.recipient;
        let mut change = self.change(ctx, VERB, object("recipient", it.id, &it.label), now);
        change.event.detail = detail(it);
        let added = self.store.add_recipient(change, new).await?;
        self.first_backup(ctx, added.recipient.id).await;
        Ok(added)
    }

    pub async fn recipient_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<Recipient>> {
        let all = object("recipient", "", "");
        self.allow(
            ctx,
            Action::RecipientRead,
            &Target::Server,
            "recipient.list",
            all,
        )?;
        let (start, limit) = position(LIST, &query, by_id)?;
        let filter = Filter::parse(&query.filters, clock::now())?;
        let rows = self.store.recipients(start, filter, limit).await?;
        let id = |it: &Recipient| vec![Part::Id(*it.id.as_bytes())];
        Ok(paged(LIST, &query, rows, id))
    }

    pub async fn recipient_remove(&self, ctx: &Context, id: RecipientId) -> Result<()> {
        const VERB: &str = "recipient.rm";
        let named = object("recipient", id, "");
        self.allow(ctx, Action::RecipientChange, &Target::Server, VERB, named)?;
        let it = match self.store.recipient(id) {
            Ok(it) => it,
            Err(error) => return self.or_first_answer(ctx, error),
        };
        let mut change = self.change(ctx, VERB, object("recipient", id, &it.label), clock::now());
        change.event.detail = detail(&it);
        self.store.remove_recipient(change, id).await
    }

    /// A recipient with what encrypts to it; whoever calls this has decided who may.
    ///
    /// # Errors
    /// `NotFound`, or `recipient_unusable` where nothing can be encrypted to it now.
    pub fn recipient_key(
        &self,
        id: RecipientId,
        now: Timestamp,
    ) -> Result<(Recipient, RecipientKey)> {
        let it = self.store.recipient(id)?;
        if let Some(why) = it.why_not(now) {
            return Err(Error::conflict(
                "recipient_unusable",
                format!(
                    "nothing can be encrypted to {}: it {why}; import its owner's present key",
                    it.told()
                ),
            ));
        }
        let key = match (it.kind, self.store.recipient_key(id)?) {
            (RecipientKind::Openpgp, Some(armored)) => {
                RecipientKey::Openpgp(Box::new(PublicKey::parse(&armored)?))
            }
            (RecipientKind::Openpgp, None) => {
                return Err(Error::internal("an OpenPGP recipient without its key"));
            }
            (RecipientKind::Age | RecipientKind::Ssh, _) => RecipientKey::Age(it.recipient.clone()),
        };
        Ok((it, key))
    }
}

/// All of it: what was encrypted to must be told from the audit alone.
fn detail(it: &Recipient) -> String {
    let user_id = it.user_ids.first().map(|it| format!(" {}", shown(it)));
    let user_id = user_id.unwrap_or_default();
    format!("{} {}{user_id}", it.kind.as_str(), it.recipient)
}

fn new_recipient(request: AddRecipient, added_by: String, now: Timestamp) -> Result<NewRecipient> {
    let text = request.recipient.trim();
    let label = request.label.clone();
    if text.starts_with("-----BEGIN PGP ") {
        let key = PublicKey::parse(text)?;
        return Ok(NewRecipient {
            public_key: Some(key.armored()?),
            recipient: Recipient {
                label: label.unwrap_or_default(),
                added_by,
                ..key.recipient(now)
            },
        });
    }
    agefile::check_recipient(text)?;
    let lower = text.to_ascii_lowercase();
    let (kind, recipient, comment) = match lower.starts_with("age1") {
        true => (RecipientKind::Age, lower, String::new()),
        false => {
            let (key, comment) = agefile::ssh_parts(text);
            (RecipientKind::Ssh, key, comment)
        }
    };
    let comment = Some(comment).filter(|it| short_text("label", it, LONGEST_LABEL).is_ok());
    Ok(NewRecipient {
        public_key: None,
        recipient: Recipient {
            id: RecipientId::new(),
            kind,
            recipient,
            label: label.or(comment).unwrap_or_default(),
            user_ids: Vec::new(),
            subkeys: Vec::new(),
            added: now,
            added_by,
            expires: None,
            trouble: None,
        },
    })
}
