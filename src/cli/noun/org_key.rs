//! `strongroom org key` and `strongroom org rotate-key`.

use std::time::Duration;

use hyper::Method;

use crate::api::org_key::OrgKey;
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::error::{Error, Result};
use crate::model::job::JobState;
use crate::model::org::OrgName;

const LOOK: Duration = Duration::from_millis(200);

/// A newer key; with `wait` until nothing lies under the older ones.
pub(super) async fn rotate(
    client: &mut Client,
    name: &OrgName,
    wait: bool,
    context: &Context,
) -> Result<()> {
    let out = &context.out;
    let path = format!("/v1/orgs/{name}/key/rotate");
    let mut key: OrgKey = client.json(Call::new(Method::POST, path)).await?;
    out.talk(&format!(
        "what is stored in {name} lies under key {} from now on",
        key.version
    ));
    let mut said = None;
    let mut held = false;
    while let (true, Some(rotation)) = (wait, key.rotation.clone().filter(|it| !it.ended)) {
        match (rotation.job_state, rotation.job) {
            (Some(JobState::Held), _) if !held => {
                held = true;
                out.talk("its job is held: the server is drained, or backend.maximum_processes is 0; this waits until it is not");
            }
            (Some(JobState::Failed | JobState::Cancelled), Some(job)) => {
                return Err(Error::conflict(
                    "rotation_stopped",
                    format!(
                        "its job failed or was cancelled; `strongroom job show {job}` says why, and `strongroom job retry {job}` goes on"
                    ),
                ));
            }
            _ => {}
        }
        if said != Some(rotation.done) {
            out.talk(&format!(
                "sealed anew: {} of {} deposits",
                rotation.done, rotation.total
            ));
            said = Some(rotation.done);
        }
        tokio::time::sleep(LOOK).await;
        key = shown(client, name).await?;
    }
    match &key.rotation {
        Some(it) if it.ended => {
            return Err(Error::conflict(
                "rotation_incomplete",
                format!(
                    "{} versions of deposits do not open, `{}` among them; all others lie under key {}, and the older keys stay. Store those anew or purge them, and rotate again",
                    it.failed,
                    it.first_failed.as_deref().unwrap_or_default(),
                    key.version
                ),
            ));
        }
        Some(_) => out.talk(&format!("what lies under the older keys is sealed anew in the background; `strongroom org key {name}` says how far it is")),
        None => out.talk("nothing lies under the older keys any more, and they are destroyed; copies of the folder from before have them, live.before-N and live.undone in it, too"),
    }
    out.document(&key).map(|_| ())
}

pub(super) async fn show(client: &mut Client, name: &OrgName, out: &Printer) -> Result<()> {
    let key = shown(client, name).await?;
    let rotation = key.rotation.as_ref().map_or_else(
        || "none".to_owned(),
        |it| {
            let since = out.time(it.started);
            let failed = match it.failed {
                0 => String::new(),
                some => format!("; {some} versions do not open"),
            };
            format!(
                "{} of {} deposits sealed anew, since {since}{failed}",
                it.done, it.total
            )
        },
    );
    let fields = [
        ("version", key.version.to_string()),
        ("created", out.time(key.created)),
        ("rotation", rotation),
    ];
    out.record(&key, &fields)
}

async fn shown(client: &mut Client, name: &OrgName) -> Result<OrgKey> {
    client.json(Call::get(format!("/v1/orgs/{name}/key"))).await
}
