//! What the server says of itself.

use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::super::call::{Call, Knocking};
use super::super::reply;
use crate::error::Result;
use crate::service::caller::Listener;
use crate::service::gate::Gate;

pub(super) async fn info(knocking: Knocking) -> Result<Response> {
    reply::ok(&knocking.gate().server_info(knocking.listener()))
}

pub(super) async fn ca_pem(knocking: Knocking) -> Result<Response> {
    Ok(reply::text(
        "application/x-pem-file",
        knocking.gate().server_ca_pem().to_owned(),
    ))
}

pub(super) async fn openpgp_key(knocking: Knocking) -> Result<Response> {
    let armored = knocking.gate().openpgp().await?.armored.clone();
    Ok(reply::text("application/pgp-keys", armored))
}

pub(super) async fn openapi(knocking: Knocking) -> Result<Response> {
    Ok(reply::text("application/json", knocking.description()?))
}

pub(super) async fn status(call: Call) -> Result<Response> {
    reply::ok(&call.service().server_status(&call.ctx).await?)
}

pub(super) async fn metrics(call: Call) -> Result<Response> {
    let metrics = call.service().server_metrics(&call.ctx).await?;
    Ok(reply::text("text/plain; version=0.0.4", metrics))
}

/// One plain page, until the GUI comes.
pub(super) async fn page(knocking: Knocking) -> Result<Response> {
    page_with(knocking.gate(), None)
}

/// The page, and why the server did not open.
pub(super) fn page_with(gate: &Gate, refused: Option<&str>) -> Result<Response> {
    let mut response = reply::text(
        "text/html; charset=utf-8",
        page_of(
            &gate.server_info(Listener::Gui),
            gate.unseals_from_afar(),
            refused,
        ),
    );
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
    );
    Ok(response)
}

/// The page's looks.
pub(super) async fn style(_: Knocking) -> Result<Response> {
    Ok(reply::text(
        "text/css; charset=utf-8",
        include_str!("../../../static/style.css").to_owned(),
    ))
}

fn page_of(
    server: &crate::api::server::ServerInfo,
    may_unseal: bool,
    refused: Option<&str>,
) -> String {
    use crate::model::health::ServerState;
    let state = match server.state {
        ServerState::Starting => "starting",
        ServerState::Sealed => "sealed",
        ServerState::Serving => "serving",
        ServerState::Stopping => "stopping",
    };
    let refusal = refused.map_or_else(String::new, |why| {
        format!("<p class=\"refusal\" role=\"alert\">{}</p>", escaped(why))
    });
    let unseal = match server.state {
        ServerState::Sealed if may_unseal => include_str!("../../../static/unseal.html"),
        _ => "",
    };
    include_str!("../../../static/index.html")
        .replace("{{unseal}}", unseal)
        .replace("{{refusal}}", &refusal)
        .replace("{{state}}", state)
        .replace("{{version}}", &escaped(&server.version))
        .replace("{{fqdn}}", &escaped(&server.fqdn))
        .replace("{{fingerprint}}", &server.server_fingerprint.to_string())
        .replace("{{leaf}}", &server.leaf_sha256.to_string())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::server::ServerInfo;
    use crate::clock::Timestamp;
    use crate::model::health::ServerState;
    use crate::model::id::{Fingerprint, InstanceId};

    #[test]
    fn the_page_tells_state_version_and_fingerprint_and_runs_nothing() {
        let page = page_of(
            &ServerInfo {
                version: "1.2.3<script>".to_owned(),
                state: ServerState::Sealed,
                instance: InstanceId::new(),
                fqdn: "vault.example".to_owned(),
                server_fingerprint: Fingerprint([0xab; 32]),
                leaf_sha256: Fingerprint([0xcd; 32]),
                time: Timestamp(0),
            },
            true,
            Some("no <b>"),
        );
        assert!(page.contains("sealed") && page.contains("vault.example"));
        assert!(page.contains(&"ab".repeat(32)) && page.contains(&"cd".repeat(32)));
        assert!(page.contains("no &lt;b&gt;") && page.contains("<form"));
        assert!(!page.contains("{{") && !page.contains("<script"), "{page}");
    }
}
