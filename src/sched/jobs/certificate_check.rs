//! Looks at the ends of all certificates: what is near its end goes to health and the audit.

use crate::clock;
use crate::error::Result;
use crate::service::job::JobRun;

pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    run.check()?;
    run.service().look_at_certificates(clock::now()).await?;
    for line in run.service().certificate_ends()? {
        run.say(line).await?;
    }
    Ok(String::new())
}
