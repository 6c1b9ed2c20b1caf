//! Seals an organization's deposits anew under its newest key.

use std::sync::Arc;

use crate::error::Result;
use crate::service::job::JobRun;

pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    let service = Arc::clone(run.service());
    service.rotate_org_key(run).await
}
