//! Log-in: who a request is from, and sessions on the GUI's listener.

use super::Service;
use super::caller::{Context, Credentials, Identity, Source};
use crate::api::session::{LogIn, Session};
use crate::error::Result;
use crate::model::id::RequestId;
use crate::secret::Secret;

pub struct Opened {
    /// The cookie's value.
    pub cookie: Secret<String>,
    pub session: Session,
}

impl Service {
    /// Who shows these credentials. Wrong or ended ones are an error, none at all is `Nobody`.
    pub async fn identify(&self, source: Source, credentials: &Credentials) -> Result<Identity> {
        todo!()
    }
    /// Checks `csrf` against the session that `cookie` opened.
    pub fn session_csrf_matches(&self, cookie: &Secret<String>, csrf: &str) -> bool {
        todo!()
    }
    pub async fn session_open(
        &self,
        source: Source,
        request: RequestId,
        log_in: LogIn,
    ) -> Result<Opened> {
        todo!()
    }
    pub async fn session_show(&self, ctx: &Context, cookie: &Secret<String>) -> Result<Session> {
        todo!()
    }
    pub async fn session_close(&self, ctx: &Context, cookie: &Secret<String>) -> Result<()> {
        todo!()
    }
}
