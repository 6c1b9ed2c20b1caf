//! The audit: list, verify, export.

use super::caller::Context;
use super::{ListQuery, Service};
use crate::api::audit::Verification;
use crate::error::Result;
use crate::model::audit::ChainedEvent;
use crate::model::page::Page;

impl Service {
    /// Newest first.
    pub async fn audit_list(&self, ctx: &Context, query: ListQuery) -> Result<Page<ChainedEvent>> {
        todo!()
    }
    pub async fn audit_verify(&self, ctx: &Context) -> Result<Verification> {
        todo!()
    }
    /// The export in pieces of whole lines; each call returns the next, none at the end.
    pub async fn audit_export(
        &self,
        ctx: &Context,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<Vec<u8>>>> {
        todo!()
    }
}
