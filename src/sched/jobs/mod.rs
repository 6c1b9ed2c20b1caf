//! What each kind of job does; one file each. `service::job` says what a job has at hand.

mod audit_checkpoint;
mod backup;
mod certificate_check;
mod drill;
mod org_key_rotation;
mod pruning;
mod store_check;

use crate::error::Result;
use crate::model::job::JobKind;
use crate::service::job::JobRun;

/// One attempt; the text is its outcome.
pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    match run.job().kind {
        JobKind::OrgKeyRotation => org_key_rotation::run(run).await,
        JobKind::CertificateCheck => certificate_check::run(run).await,
        JobKind::AuditCheckpoint => audit_checkpoint::run(run).await,
        JobKind::Pruning => pruning::run(run).await,
        JobKind::StoreCheck => store_check::run(run).await,
        JobKind::Backup => backup::run(run).await,
        JobKind::Drill => drill::run(run).await,
    }
}
