//! An open server at work: what comes up each minute, and its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::house::House;
use super::unlock::Older;
use super::{Failing, Signals, reread, tls};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::http::Serving;
use crate::http::health::HealthServing;
use crate::model::id::SlotId;
use crate::sched::Sched;
use crate::service::Service;
use crate::service::caller::Context;

/// Upkeep that costs little.
const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks at the disk and the access log.
const LOOK: Duration = Duration::from_secs(5);

/// What a serving server keeps at hand.
pub(super) struct Running {
    pub(super) service: Arc<Service>,
    /// There until it is stopped.
    pub(super) sched: Option<Sched>,
    pub(super) house: House,
    pub(super) renewal: tls::Renewal,
    pub(super) sealing: Arc<Notify>,
    /// What is not in the audit yet, until the disk takes it.
    pub(super) unnoted: Option<Begun>,
}

/// How a server came to be open.
pub(super) struct Begun {
    pub(super) slot: SlotId,
    pub(super) generation: u64,
    /// Of the store as it was found, and as it is now.
    pub(super) schema: (usize, usize),
    /// Set where an older seal.json was taken by name.
    pub(super) older: Option<Older>,
    /// Who unsealed it; none at a start that opened it.
    pub(super) by: Option<Context>,
    pub(super) at: Timestamp,
}

/// Why a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Told,
    Sealed,
    Failed,
}

impl Running {
    /// Works off what comes up while it serves.
    pub(super) async fn until_stopped(&mut self, signals: &mut Signals) -> Why {
        let mut minutes = tokio::time::interval(MINUTE);
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = self.house.failing.happened() => return Why::Failed,
                () = self.sealing.notified() => return Why::Sealed,
                _ = signals.terminate.recv() => return Why::Told,
                _ = signals.interrupt.recv() => return Why::Told,
                _ = signals.hangup.recv() => reread(&self.house.start, &self.house.facts.config),
                _ = looks.tick() => {
                    self.service.report();
                    if let Err(error) = self.service.look_at_certificates(clock::now()).await {
                        log::warn!(error:? = error; "a certificate's end is not in the audit");
                    }
                }
                _ = minutes.tick() => {
                    self.look_after().await;
                }
            }
        }
    }

    /// Each minute. What does not come through is said and tried again.
    async fn look_after(&mut self) {
        let said = |what: &str, outcome: Result<()>| {
            if let Err(error) = outcome {
                log::warn!(error = format!("{error:?}").as_str(); "{what} did not come through");
            }
        };
        said(
            "the start's event",
            note_start(&self.service, &mut self.unnoted).await,
        );
        let folder = &self.house.start.folder;
        said(
            "attempts to unseal",
            self.service.note_attempts(folder).await,
        );
        said("upkeep", self.service.upkeep().await);
        said("the certificate's renewal", self.renew().await);
        self.service.show_again().await;
    }

    async fn renew(&mut self) -> Result<()> {
        let renewed = self.renewal.renew_if_due(clock::now());
        let renewed = renewed.inspect_err(|error| self.house.shown.not_renewed(error))?;
        let Some(leaf) = renewed else {
            return Ok(());
        };
        let detail = format!("leaf SHA-256 {leaf}");
        self.service.note("certificate.renew", &detail).await
    }
}

/// The events of the start, and the first checkpoint. A disk without room for changes takes them
/// later: what is there is served all the same.
pub(super) async fn note_start(service: &Service, unnoted: &mut Option<Begun>) -> Result<()> {
    let Some(begun) = unnoted else {
        return Ok(());
    };
    if service.room().is_err() {
        log::warn!(
            "the data disk is too full for changes; the start is entered in the audit when there is room"
        );
        return Ok(());
    }
    let (slot, generation) = (begun.slot, begun.generation);
    match begun.older {
        Some(Older { found, known }) => {
            let by = begun.by.clone().unwrap_or_else(Service::own_context);
            service.note_old_seal(&by, found, known, generation).await?;
            begun.older = None;
        }
        None => service.seal_is(generation).await?,
    }
    if let Some(by) = &begun.by {
        service.note_unsealed(by, slot, begun.at).await?;
        begun.by = None;
    }
    let version = env!("CARGO_PKG_VERSION");
    let mut detail = format!("version {version}, slot {slot}");
    let (from, to) = begun.schema;
    if from != to {
        detail.push_str(&format!(", schema {from} brought to {to}"));
    }
    service.note("server.start", &detail).await?;
    *unnoted = None;
    service.checkpoint(&Service::own_context()).await
}

/// What was taken on is finished; then the last checkpoint, the store's queues, the health listener.
pub(super) async fn end(
    serving: Serving,
    mut running: Option<Running>,
    sealing: bool,
    health: HealthServing,
) -> Result<()> {
    serving.ended().await;
    // After the requests: none of them makes a job any more.
    if let Some(sched) = running.as_mut().and_then(|it| it.sched.take()) {
        sched.stop().await;
    }
    let failing = running
        .as_ref()
        .map_or_else(Failing::default, |it| it.house.failing.clone());
    if let Some(running) = &running
        && !failing.has_failed()
    {
        if sealing && let Err(error) = running.service.end_sessions().await {
            log::warn!(error:? = error; "sessions outlive the sealing");
        }
        let last = async {
            running.service.note("server.stop", "").await?;
            running.service.checkpoint(&Service::own_context()).await
        };
        if let Err(error) = last.await {
            log::warn!(error = format!("{error:?}").as_str(); "the last checkpoint is missing");
        }
    }
    let stopped = tokio::task::spawn_blocking(move || {
        // The last ones that hold the service, and with it the store.
        health.stop();
        drop(running);
    });
    stopped
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
    if failing.has_failed() {
        return Err(Error::internal("the store failed").because("see the log above"));
    }
    log::info!("stopped");
    Ok(())
}
