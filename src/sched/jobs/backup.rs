//! Takes a backup into the folder that the settings name, and rolls older ones away.

use std::sync::Arc;

use crate::error::Result;
use crate::service::job::JobRun;

pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    let service = Arc::clone(run.service());
    service.backup_here(run).await
}
