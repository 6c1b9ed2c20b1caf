//! Unpacks the newest backup, opens it, compares it with what it says of itself, and takes it away again.

use std::sync::Arc;

use crate::error::Result;
use crate::service::job::JobRun;

pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    let service = Arc::clone(run.service());
    service.backup_drill(run).await
}
