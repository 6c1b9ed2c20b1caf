//! Sealing and unsealing.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::call::{Call, Knocking};
use super::super::reply;
use super::server;
use crate::api::seal::Unseal;
use crate::api::slot::SlotSecret;
use crate::error::Result;

pub(super) async fn seal(call: Call) -> Result<Response> {
    call.service().seal(&call.ctx).await?;
    Ok(reply::nothing())
}

pub(super) async fn unseal(knocking: Knocking) -> Result<Response> {
    let request = knocking.json()?;
    let opened = knocking
        .gate()
        .unseal(knocking.context()?, knocking.uid(), request);
    reply::ok(&opened.await?)
}

pub(super) async fn slots(knocking: Knocking) -> Result<Response> {
    let slots = knocking.gate().slots(&knocking.context()?, knocking.uid());
    reply::ok(&slots?)
}

/// From the page, to the page: open, or with the reason why not.
pub(super) async fn form(knocking: Knocking) -> Result<Response> {
    let passphrase = knocking.form_field("passphrase")?;
    let request = Unseal {
        opener: SlotSecret::Passphrase(STANDARD.encode(passphrase.expose())),
        slot: None,
        accept_old_seal: false,
    };
    let opened = knocking
        .gate()
        .unseal(knocking.context()?, knocking.uid(), request);
    match opened.await {
        Ok(_) => {
            let mut response = reply::nothing();
            *response.status_mut() = StatusCode::SEE_OTHER;
            response
                .headers_mut()
                .insert(header::LOCATION, HeaderValue::from_static("/"));
            Ok(response)
        }
        Err(error) => {
            let mut page = server::page_with(knocking.gate(), Some(&error.public))?;
            *page.status_mut() = reply::status(error.kind);
            Ok(page)
        }
    }
}
