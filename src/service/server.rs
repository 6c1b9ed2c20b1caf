//! What the server says of itself.

use super::Service;
use super::access::{Action, Target};
use super::caller::{Context, Listener};
use super::object;
use crate::api::server::{ServerInfo, Status};
use crate::error::Result;

impl Service {
    /// For anyone.
    pub fn server_info(&self, listener: Listener) -> ServerInfo {
        self.facts.info(&self.board, self.tls.sha256(listener))
    }

    /// The instance identity's certificate, PEM: what curl takes as `--cacert`. For anyone.
    pub fn server_ca_pem(&self) -> &str {
        &self.facts.ca_pem
    }

    pub async fn server_status(&self, ctx: &Context) -> Result<Status> {
        self.allow(
            ctx,
            Action::StatusRead,
            &Target::Server,
            "server.status",
            object("server", "", ""),
        )?;
        let (orgs, clients, deposits) = self.store.totals()?;
        Ok(Status {
            server: self.server_info(ctx.source.listener),
            health: self.board.health(),
            client_listen: self.facts.client_listen.clone(),
            gui_listen: self.facts.gui_listen.clone(),
            health_listen: self.facts.health_listen.clone(),
            orgs,
            clients,
            deposits,
            revision: self.store.revision(),
        })
    }

    /// Prometheus text, for those who may.
    pub async fn server_metrics(&self, ctx: &Context) -> Result<String> {
        self.allow(
            ctx,
            Action::Metrics,
            &Target::Server,
            "server.metrics",
            object("server", "", ""),
        )?;
        self.metrics_text()
    }

    /// Prometheus text; the health listener is on loopback and asks nobody.
    pub fn metrics_text(&self) -> Result<String> {
        let (orgs, clients, deposits) = self.store.totals()?;
        let gauges = [
            ("orgs", "Organizations.", orgs),
            ("clients", "Clients, in any state.", clients),
            ("deposits", "Deposits, those in the bin included.", deposits),
            (
                "store_revision",
                "Commits since the store was made.",
                self.store.revision(),
            ),
        ];
        Ok(self.metrics.text(&self.board.health(), &gauges))
    }

    /// Counts an answered request, for the metrics.
    pub fn request_answered(&self, status: u16, micros: u64) {
        self.metrics.answered(status, micros);
    }
}
