//! Clients: register, decide, remove.

use super::caller::Context;
use super::{ListQuery, Service};
use crate::api::client::{Decision, Register, Registration};
use crate::error::Result;
use crate::model::client::Client;
use crate::model::id::Fingerprint;
use crate::model::org::OrgName;
use crate::model::page::Page;

/// What an administrator decides about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approve,
    Deny,
    Enable,
    Disable,
}

impl Service {
    /// `certificate` is the DER of the certificate that the connection presented.
    pub async fn client_register(
        &self,
        ctx: &Context,
        request: Register,
        certificate: &[u8],
    ) -> Result<Registration> {
        todo!()
    }
    /// The caller's own registration, in any state.
    pub async fn client_self(&self, ctx: &Context) -> Result<Registration> {
        todo!()
    }
    pub async fn client_list(
        &self,
        ctx: &Context,
        org: Option<&OrgName>,
        query: ListQuery,
    ) -> Result<Page<Client>> {
        todo!()
    }
    pub async fn client_show(&self, ctx: &Context, client: Fingerprint) -> Result<Client> {
        todo!()
    }
    pub async fn client_decide(
        &self,
        ctx: &Context,
        client: Fingerprint,
        verdict: Verdict,
        request: Decision,
    ) -> Result<Client> {
        todo!()
    }
    pub async fn client_remove(&self, ctx: &Context, client: Fingerprint) -> Result<()> {
        todo!()
    }
}
