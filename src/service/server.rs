//! What the server says of itself.

use super::Service;
use super::caller::Context;
use crate::api::server::{ServerInfo, Status};
use crate::error::Result;

impl Service {
    /// For anyone.
    pub fn server_info(&self) -> ServerInfo {
        todo!()
    }
    /// The instance identity's certificate, PEM: what curl takes as `--cacert`. For anyone.
    pub fn server_ca_pem(&self) -> &str {
        todo!()
    }
    pub async fn server_status(&self, ctx: &Context) -> Result<Status> {
        todo!()
    }
    /// Prometheus text.
    pub async fn server_metrics(&self, ctx: &Context) -> Result<String> {
        todo!()
    }
    /// Counts an answered request, for the metrics.
    pub fn request_answered(&self, status: u16, micros: u64) {
        todo!()
    }
}
