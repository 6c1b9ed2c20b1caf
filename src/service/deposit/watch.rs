//! Changes of deposits as they happen, for whoever may see the deposit. A feed follows the chain of
//! changes, whose numbers are in the order of commits, and so goes on from any of them.

use std::sync::Arc;

use tokio::time::Instant;

use crate::api::deposit::DepositChange;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::model::audit::{Event, Outcome};
use crate::model::client::ClientState;
use crate::model::deposit::Deposit;
use crate::model::id::DepositId;
use crate::model::role::Grant;
use crate::model::user::UserName;
use crate::service::access::{Action, Target, decide};
use crate::service::caller::{Context, Identity};
use crate::service::feed::{Feed, Heard, Pieces, SIGN_OF_LIFE, sent};
use crate::service::{Service, object};
use crate::store;

const BATCH: usize = 200;
/// What is told at once, in bytes; one change may go beyond.
const PIECE: usize = 64 << 10;

/// What a feed tells of.
const ACTIONS: [&str; 8] = [
    "deposit.put",
    "deposit.edit",
    "deposit.rm",
    "deposit.undelete",
    "deposit.purge",
    "deposit.grant",
    "deposit.share",
    "deposit.unshare",
];

impl Service {
    /// What changes after the event with this number, or from now on, for so many seconds; server-sent
    /// events.
    pub async fn deposit_watch(
        self: &Arc<Self>,
        ctx: &Context,
        after: Option<u64>,
        seconds: u32,
    ) -> Result<Pieces> {
        if !matches!(ctx.identity, Identity::Client { .. }) {
            self.somewhere(ctx, Action::DepositRead)
                .inspect_err(|error| {
                    self.refused(ctx, "deposit.watch", object("deposit", "", ""), error)
                })?;
        }
        let (mut feed, out) = self.feed(ctx, seconds)?;
        let newest = self.store.changes_head()?.number;
        let after = after.unwrap_or(newest).min(newest);
        let left = self.store.changes_left()?;
        if after < left {
            return Err(changes_left(after, left));
        }
        let (service, ctx) = (Arc::clone(self), ctx.clone());
        tokio::spawn(async move {
            let told = service.tell_changes(&ctx, after, &mut feed).await;
            feed.ends(told).await;
        });
        Ok(out)
    }

    async fn tell_changes(&self, ctx: &Context, mut after: u64, feed: &mut Feed) -> Result<()> {
        // Where it begins, so that whoever is cut off at once goes on from here.
        let mut piece = format!("id: {after}\n\n").into_bytes();
        loop {
            feed.looks();
            let told = loop {
                if feed.is_over() {
                    return Ok(());
                }
                let events = self.store.changes_from(after + 1, BATCH).await?;
                let Some(first) = events.first() else {
                    break !piece.is_empty();
                };
                // They left while the feed was behind.
                if first.number > after + 1 {
                    return Err(changes_left(after, first.number - 1));
                }
                for state in &events {
                    let (_, number, event) = Event::parse_canonical(&state.canonical)?;
                    after = number;
                    if let Some(change) = self.change_seen(ctx, event)? {
                        piece.extend(sent(number, "deposit", &change)?);
                    }
                    if piece.len() > PIECE {
                        break;
                    }
                }
                // What was not for this caller is behind it, too.
                piece.extend(format!("id: {after}\n\n").bytes());
                if events.len() < BATCH || piece.len() > PIECE {
                    break true;
                }
            };
            if !self.is_still_let_in(ctx)? {
                return Ok(());
            }
            if told && !feed.tell(std::mem::take(&mut piece)).await {
                return Ok(());
            }
            if feed.is_over() {
                return Ok(());
            }
            match feed.waits(Instant::now()).await {
                Heard::News => {}
                Heard::End => return Ok(()),
                Heard::Nothing => piece.extend(SIGN_OF_LIFE),
            }
        }
    }

    /// A client that was disabled or removed since, or whose organization has ended, is not; nor a user
    /// who was disabled or whose rights are others, with his tokens.
    pub(in crate::service) fn is_still_let_in(&self, ctx: &Context) -> Result<bool> {
        let unchanged = |name: &UserName, grants: &[Grant]| -> Result<bool> {
            let row = self.store.user_if_any(name)?;
            Ok(row.is_some_and(|row| !row.user.disabled && row.user.grants == grants))
        };
        let fingerprint = match &ctx.identity {
            Identity::Client { fingerprint, .. } => fingerprint,
            Identity::User { name, grants, .. } => return unchanged(name, grants),
            Identity::Token {
                id,
                user_name,
                grants,
                ..
            } => {
                let token = match self.store.token(*id) {
                    Err(error) if error.kind == Kind::NotFound => return Ok(false),
                    token => token?,
                };
                let over = token.expires.is_some_and(|end| end <= clock::now());
                return Ok(!over && unchanged(user_name, grants)?);
            }
            _ => return Ok(true),
        };
        let known = self.store.caller_by_key(fingerprint)?;
        Ok(known.is_some_and(|known| {
            known.client.state == ClientState::Active
                && known.org_expires.is_none_or(|end| end > clock::now())
        }))
    }

    /// An event as the caller may see it: none if it is about something else, or about a deposit that
    /// is not for him.
    fn change_seen(&self, ctx: &Context, event: Event) -> Result<Option<DepositChange>> {
        let tells = ACTIONS.contains(&event.action.as_str()) && event.outcome == Outcome::Done;
        let Some(id) = tells
            .then(|| event.object.id.parse::<DepositId>().ok())
            .flatten()
        else {
            return Ok(None);
        };
        let head = match self.store.deposit(&store::Which::Id(id)) {
            Err(error) if error.kind == Kind::NotFound => None,
            head => Some(head?),
        };
        if !self.sees(ctx, &event, head.as_ref())? {
            return Ok(None);
        }
        Ok(Some(DepositChange {
            change: event.action,
            id,
            name: event.object.name,
            time: event.time,
            deposit: head.map(|head| -> Deposit { head.deposit }),
        }))
    }

    /// Of a deposit that is purged a client sees what it did itself.
    fn sees(
        &self,
        ctx: &Context,
        event: &Event,
        head: Option<&store::DepositHead>,
    ) -> Result<bool> {
        let Some(head) = head else {
            if matches!(ctx.identity, Identity::Client { .. }) {
                return Ok(event.actor == ctx.actor_at(&event.actor.source));
            }
            let org = event.object.name.split('/').next().unwrap_or_default();
            let Ok(org) = org.parse() else {
                return Ok(false);
            };
            if decide(&ctx.identity, Action::DepositRead, &Target::Org(&org)).is_err() {
                return Ok(false);
            }
            // One that had the same name before was another.
            return match self.store.org(&org) {
                Ok(row) => Ok(event.time >= row.org.created),
                Err(error) if error.kind == Kind::NotFound => {
                    Ok(decide(&ctx.identity, Action::DepositRead, &Target::Server).is_ok())
                }
                Err(error) => Err(error),
            };
        };
        let reader = match &ctx.identity {
            Identity::Client { id, org, .. } => {
                *org == head.org
                    && head.owner != Some(*id)
                    && self.store.is_reader(head.deposit.id, *id)?
            }
            _ => false,
        };
        let target = Target::Owned {
            org: &head.deposit.org,
            org_id: head.org,
            owner: head.owner,
            reader,
        };
        Ok(decide(&ctx.identity, Action::DepositRead, &target).is_ok())
    }
}

fn changes_left(after: u64, left: u64) -> Error {
    Error::new(
        Kind::Conflict,
        "changes_left",
        format!(
            "the changes after event {after} up to event {left} left the store; list the deposits anew, and watch from now on"
        ),
    )
}
