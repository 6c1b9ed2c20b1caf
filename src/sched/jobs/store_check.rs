//! Reads every page of the store and checks it: SQLCipher's tags, then SQLite's structure.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::service::job::JobRun;

/// Lines of what is wrong that go into the log.
const MOST_LINES: usize = 50;

pub(super) async fn run(run: &mut JobRun) -> Result<String> {
    let service = Arc::clone(run.service());
    let faults = service.check_store(run).await?;
    for line in faults.iter().take(MOST_LINES) {
        run.say(line.as_str()).await?;
    }
    match faults.first() {
        None => Ok("every page is sound".to_owned()),
        Some(first) => Err(Error::conflict(
            "store_damaged",
            format!(
                "{} faults, {first} among them; stop the server, run `strongroom doctor`, restore a backup",
                faults.len()
            ),
        )),
    }
}
