//! Drops what is kept for a time alone: answers for retries, idle sessions, jobs of long ago.

use std::sync::Arc;

use crate::error::Result;
use crate::service::job::JobRun;

pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    let service = Arc::clone(run.service());
    service.prune(|| run.check()).await?;
    Ok(String::new())
}
