//! The paths that clients of the original ask for.

use axum::response::Response;

use super::super::call::Knocking;
use super::super::reply;
use super::server;
use crate::error::{Error, Result};
use crate::service::caller::Listener;

/// `/?a=fingerprint`: the OpenPGP fingerprint. On the GUI's listener `/` is the page.
pub(super) async fn root(knocking: Knocking) -> Result<Response> {
    match (knocking.query().text("a"), knocking.listener()) {
        (Some("fingerprint"), _) => {
            let public = knocking.gate().openpgp().await?;
            Ok(reply::text(
                "text/plain",
                format!("{}\n", public.fingerprint),
            ))
        }
        (Some(_), _) => Err(Error::invalid("a", "`a` takes `fingerprint`")),
        (None, Listener::Gui) => server::page(knocking).await,
        (None, _) => Err(Error::not_found(
            "there is nothing here but /?a=fingerprint; /v1/openapi.json lists what there is",
        )),
    }
}
