//! Readers: who may fetch a deposit beside its owner.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Which, of};
use crate::api::deposit::{Reader, ReaderKey, Readers, ShareDeposit};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::deposit::Deposit;
use crate::model::filter::Filter;
use crate::model::id::DepositId;
use crate::model::page::{Page, Part};
use crate::service::access::Action;
use crate::service::caller::{Context, Identity};
use crate::service::{ListQuery, Service, by_id, paged, position};
use crate::store::NamedReader;

const LIST_SHARED: &str = "deposits/shared";

impl Service {
    /// Gives a client or a group the right to read. The bytes stay as they are: who can open them is
    /// settled where they are encrypted.
    pub async fn deposit_share(
        &self,
        ctx: &Context,
        which: &Which,
        request: ShareDeposit,
    ) -> Result<Readers> {
        let head = self.reach_deposit(ctx, which, Action::DepositChange, "deposit.share")?;
        let reader = named(request)?;
        let now = clock::now();
        let change = self.change(ctx, "deposit.share", of(&head.deposit), now);
        self.store
            .share_deposit(change, head.deposit.id, reader, now)
            .await?;
        self.readers_of(head.deposit.id)
    }

    pub async fn deposit_unshare(
        &self,
        ctx: &Context,
        which: &Which,
        request: ShareDeposit,
    ) -> Result<Readers> {
        let head = self.reach_deposit(ctx, which, Action::DepositChange, "deposit.unshare")?;
        let reader = named(request)?;
        let change = self.change(ctx, "deposit.unshare", of(&head.deposit), clock::now());
        self.store
            .unshare_deposit(change, head.deposit.id, reader)
            .await?;
        self.readers_of(head.deposit.id)
    }

    pub async fn deposit_readers(&self, ctx: &Context, which: &Which) -> Result<Readers> {
        let head = self.reach_deposit(ctx, which, Action::DepositRead, "deposit.readers")?;
        self.readers_of(head.deposit.id)
    }

    fn readers_of(&self, deposit: DepositId) -> Result<Readers> {
        let readers = self.store.deposit_readers(deposit)?.into_iter();
        let clients = self.store.reader_keys(deposit)?.into_iter();
        Ok(Readers {
            deposit,
            readers: readers
                .map(|row| {
                    let (client, group) = match row.named {
                        NamedReader::Client(client) => (Some(client), None),
                        NamedReader::Group(group) => (None, Some(group)),
                    };
                    Reader {
                        client,
                        group,
                        added: row.added,
                    }
                })
                .collect(),
            clients: clients
                .map(|it| ReaderKey {
                    client: it.client,
                    description: it.description,
                    certificate: STANDARD.encode(it.certificate),
                    recipient: it.recipient,
                    signature: it.proof.map(|proof| STANDARD.encode(proof)),
                })
                .collect(),
            rights_only: true,
        })
    }

    /// Others' deposits that the calling client reads.
    pub(super) async fn deposits_shared(
        &self,
        ctx: &Context,
        query: ListQuery,
        filter: Filter<Deposit>,
    ) -> Result<Page<Deposit>> {
        let Identity::Client { id, .. } = &ctx.identity else {
            self.somewhere(ctx, Action::DepositRead)?;
            return Err(Error::invalid(
                "shared",
                "deposits are shared with clients; only a client asks for those shared with it",
            ));
        };
        let (start, limit) = position(LIST_SHARED, &query, by_id)?;
        let rows = self
            .store
            .deposits_shared_with(*id, start, filter, limit)
            .await?;
        let id = |deposit: &Deposit| vec![Part::Id(*deposit.id.as_bytes())];
        Ok(paged(LIST_SHARED, &query, rows, id))
    }
}

fn named(request: ShareDeposit) -> Result<NamedReader> {
    match (request.client, request.group) {
        (Some(client), None) => Ok(NamedReader::Client(client)),
        (None, Some(group)) => Ok(NamedReader::Group(group)),
        _ => Err(Error::invalid(
            "client",
            "name one reader: `client`, a fingerprint, or `group`, a group's name",
        )),
    }
}
