//! `strongroom status`.

use crate::api::server::{ServerInfo, Status};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::error::{Error, Kind, Result};
use crate::model::health::{Light, ServerState};

/// All of it for those who may see it; for others, and of a sealed server, what anyone may know.
pub async fn run(context: &Context) -> Result<()> {
    let mut client = context.admin()?;
    match client.json::<Status>(Call::get("/v1/status")).await {
        Ok(status) => show_status(context, &status),
        Err(refused) if public_is_enough(refused.kind, context) => {
            let Ok(info) = client.json::<ServerInfo>(Call::get("/v1/server")).await else {
                return Err(refused);
            };
            context.out.record(&info, &info_fields(context, &info))?;
            if info.state == ServerState::Sealed {
                return Err(Error::new(
                    Kind::Sealed,
                    "sealed",
                    "the server is sealed: it has no root key yet",
                ));
            }
            context
                .out
                .talk(&format!("more is for those with a role: {refused}"));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// A token that is not valid is no one who merely may not.
fn public_is_enough(kind: Kind, context: &Context) -> bool {
    match kind {
        Kind::Sealed | Kind::Denied => true,
        Kind::Unauthenticated => context.global.token_file.is_none(),
        _ => false,
    }
}

fn show_status(context: &Context, status: &Status) -> Result<()> {
    let mut fields = info_fields(context, &status.server);
    fields.push(("health", light(status.health.state).to_owned()));
    for part in status
        .health
        .subsystems
        .iter()
        .filter(|part| part.state != Light::Green)
    {
        let since = context.out.time(part.since);
        let (name, state) = (&part.name, light(part.state));
        fields.push((
            "attention",
            format!(
                "{name} is {state} since {since}: {}; {}",
                part.reason, part.next_step
            ),
        ));
    }
    fields.extend([
        ("clients at", status.client_listen.clone()),
        ("GUI at", status.gui_listen.clone()),
        ("health at", status.health_listen.clone()),
        ("organizations", status.orgs.to_string()),
        ("clients", status.clients.to_string()),
        ("deposits", status.deposits.to_string()),
        ("revision", status.revision.to_string()),
    ]);
    context.out.record(status, &fields)
}

fn info_fields(context: &Context, info: &ServerInfo) -> Vec<(&'static str, String)> {
    let state = match info.state {
        ServerState::Starting => "starting",
        ServerState::Sealed => "sealed",
        ServerState::Serving => "serving",
        ServerState::Stopping => "stopping",
    };
    vec![
        ("state", state.to_owned()),
        ("version", info.version.clone()),
        ("name", info.fqdn.clone()),
        ("instance", info.instance.to_string()),
        ("server fingerprint", info.server_fingerprint.to_string()),
        ("leaf SHA-256", info.leaf_sha256.to_string()),
        ("time", context.out.time(info.time)),
    ]
}

fn light(light: Light) -> &'static str {
    match light {
        Light::Green => "green",
        Light::Amber => "amber",
        Light::Red => "red",
    }
}
