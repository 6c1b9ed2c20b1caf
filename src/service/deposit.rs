//! Deposits: put, get, list, versions, the bin.

use super::caller::Context;
use super::{ListQuery, Service};
use crate::api::deposit::EditDeposit;
use crate::error::Result;
use crate::model::deposit::{Deposit, DepositName, DepositVersion, Encryption, Labels};
use crate::model::id::DepositId;
use crate::model::org::OrgName;
use crate::model::page::Page;
use crate::secret::Secret;

/// Which deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// In the caller's own organization.
    Name(DepositName),
    /// In a named organization.
    In(OrgName, DepositName),
    Id(DepositId),
}

/// `If-Match` and `If-None-Match`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    #[default]
    Anything,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match: "3"`
    Version(u32),
}

pub struct PutDeposit {
    pub expect: Expect,
    pub encryption: Encryption,
    /// `application/octet-stream` where none was given.
    pub content_type: String,
    /// None keeps what is there.
    pub description: Option<String>,
    /// None keeps what is there.
    pub labels: Option<Labels>,
    pub body: Secret<Vec<u8>>,
}

pub struct Stored {
    pub deposit: Deposit,
    /// True: new; false: another version of what was there.
    pub created: bool,
}

pub struct Fetched {
    pub id: DepositId,
    pub version: DepositVersion,
    pub body: Vec<u8>,
}

impl Service {
    /// How long a body may be, now.
    pub fn deposit_max_bytes(&self) -> usize {
        todo!()
    }
    pub async fn deposit_put(
        &self,
        ctx: &Context,
        which: &Which,
        request: PutDeposit,
    ) -> Result<Stored> {
        todo!()
    }
    pub async fn deposit_get(
        &self,
        ctx: &Context,
        which: &Which,
        version: Option<u32>,
    ) -> Result<Fetched> {
        todo!()
    }
    pub async fn deposit_show(&self, ctx: &Context, which: &Which) -> Result<Deposit> {
        todo!()
    }
    pub async fn deposit_edit(
        &self,
        ctx: &Context,
        which: &Which,
        expect: Expect,
        request: EditDeposit,
    ) -> Result<Deposit> {
        todo!()
    }
    pub async fn deposit_versions(
        &self,
        ctx: &Context,
        which: &Which,
    ) -> Result<Vec<DepositVersion>> {
        todo!()
    }
    pub async fn deposit_list(
        &self,
        ctx: &Context,
        org: Option<&OrgName>,
        query: ListQuery,
    ) -> Result<Page<Deposit>> {
        todo!()
    }
    /// Into the bin.
    pub async fn deposit_remove(
        &self,
        ctx: &Context,
        which: &Which,
        expect: Expect,
    ) -> Result<Deposit> {
        todo!()
    }
    pub async fn deposit_undelete(&self, ctx: &Context, which: &Which) -> Result<Deposit> {
        todo!()
    }
    /// Out of the bin, for good.
    pub async fn deposit_purge(&self, ctx: &Context, which: &Which) -> Result<()> {
        todo!()
    }
}
