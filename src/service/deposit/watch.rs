//! Changes of deposits as they happen, for whoever may see the deposit. A feed follows the chain of
//! changes, whose numbers are in the order of commits, and so goes on from any of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

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
use crate::service::{Service, object};
use crate::store;

/// Feeds at one time, and those of one caller.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;
/// A feed ends after this many seconds, and is asked for again: so nobody follows longer on a right that
/// is gone.
pub const LONGEST: u32 = 60;
/// Between two signs of life.
pub(in crate::service) const QUIET: Duration = Duration::from_secs(10);
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

/// Those that are open.
pub struct Feeds {
    room: Arc<Semaphore>,
    callers: Arc<Mutex<HashMap<String, usize>>>,
    end: watch::Sender<bool>,
}

/// A feed's place, until it ends.
pub(in crate::service) struct Place {
    _room: OwnedSemaphorePermit,
    caller: String,
    callers: Arc<Mutex<HashMap<String, usize>>>,
}

impl Feeds {
    /// Told when the server stops.
    pub(in crate::service) fn end(&self) -> watch::Receiver<bool> {
        self.end.subscribe()
    }

    /// # Errors
    /// `too_many_feeds`.
    pub(in crate::service) fn place(&self, caller: String) -> Result<Place> {
        let full = |text: String| Error::new(Kind::Limited, "too_many_feeds", text).after(5);
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            full(format!(
                "{MOST} feeds are open, which is all there is room for"
            ))
        })?;
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = callers.entry(caller.clone()).or_default();
        if *open >= MOST_OF_ONE {
            return Err(full(format!(
                "this caller has {MOST_OF_ONE} feeds open, as many as one may have"
            )));
        }
        *open += 1;
        Ok(Place {
            _room: room,
            caller,
            callers: Arc::clone(&self.callers),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = callers.get_mut(&self.caller) {
            *open -= 1;
            if *open == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

impl Default for Feeds {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MOST)),
            callers: Arc::default(),
            end: watch::Sender::new(false),
        }
    }
}

type Pieces = mpsc::Sender<Result<Vec<u8>>>;

impl Service {
    /// What changes after the event with this number, or from now on, for so many seconds; server-sent
    /// events.
    pub async fn deposit_watch(
        self: &Arc<Self>,
        ctx: &Context,
        after: Option<u64>,
        seconds: u32,
    ) -> Result<mpsc::Receiver<Result<Vec<u8>>>> {
        if !matches!(ctx.identity, Identity::Client { .. }) {
            self.somewhere(ctx, Action::DepositRead)
                .inspect_err(|error| {
                    self.refused(ctx, "deposit.watch", object("deposit", "", ""), error)
                })?;
        }
        let place = self.feeds.place(ctx.idempotency_caller())?;
        let newest = self.store.changes_head()?.number;
        let after = after.unwrap_or(newest).min(newest);
        let left = self.store.changes_left()?;
        if after < left {
            return Err(changes_left(after, left));
        }
        let (pieces, out) = mpsc::channel(1);
        let (service, ctx) = (Arc::clone(self), ctx.clone());
        let over = Instant::now() + Duration::from_secs(seconds.min(LONGEST).into());
        tokio::spawn(async move {
            if let Err(error) = service.feed(&ctx, after, over, &pieces, place).await {
                let _ = pieces.send(Err(error)).await;
            }
        });
        Ok(out)
    }

    /// Ends all feeds: the server stops.
    pub fn end_feeds(&self) {
        self.feeds.end.send_replace(true);
    }

    async fn feed(
        &self,
        ctx: &Context,
        mut after: u64,
        over: Instant,
        pieces: &Pieces,
        _place: Place,
    ) -> Result<()> {
        let (mut commits, mut end) = (self.store.commits(), self.feeds.end.subscribe());
        // Where it begins, so that whoever is cut off at once goes on from here.
        let mut piece = format!("id: {after}\n\n").into_bytes();
        loop {
            commits.borrow_and_update();
            let told = loop {
                if *end.borrow() || Instant::now() >= over || pieces.is_closed() {
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
                        piece.extend(sent(number, &change)?);
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
            if told && pieces.send(Ok(std::mem::take(&mut piece))).await.is_err() {
                return Ok(());
            }
            if *end.borrow() || Instant::now() >= over {
                return Ok(());
            }
            let quiet = over.min(Instant::now() + QUIET);
            let news = async {
                tokio::select! {
                    news = commits.changed() => news.is_ok(),
                    _ = end.changed() => false,
                    () = pieces.closed() => false,
                }
            };
            match timeout_at(quiet, news).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(_) => piece.extend(b":\n\n"),
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

/// As the form of server-sent events has it; JSON has no line ends.
fn sent(number: u64, change: &DepositChange) -> Result<Vec<u8>> {
    let json = serde_json::to_string(change).map_err(|error| Error::internal(error.to_string()))?;
    Ok(format!("id: {number}\nevent: deposit\ndata: {json}\n\n").into_bytes())
}
