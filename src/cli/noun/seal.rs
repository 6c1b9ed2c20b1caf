//! `strongroom seal` and `strongroom unseal`.

use std::time::{Duration, Instant};

use hyper::Method;

use super::slot::sent;
use crate::api::seal::{Unseal, Unsealed};
use crate::api::server::ServerInfo;
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::serve::SlotArgs;
use crate::error::{Error, Result};
use crate::model::health::ServerState;

/// How long requests that were taken on may keep a server from being sealed.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    slot: SlotArgs,
    /// Take a seal.json that was put back from an older copy; a slot that was removed since opens again.
    /// Audited
    #[arg(long)]
    accept_old_seal: bool,
}

pub async fn unseal(args: Args, context: &Context) -> Result<()> {
    let secret = args.slot.secret.required_or_typed(&context.out)?;
    let mut client = context.admin()?;
    let request = Unseal {
        opener: sent(&mut client, "/v1/unseal", secret, args.slot.slot).await?,
        slot: args.slot.slot,
        accept_old_seal: args.accept_old_seal,
    };
    let call = Call::new(Method::POST, "/v1/unseal").json(&request)?;
    let opened: Unsealed = client.json(call).await?;
    let out = &context.out;
    out.talk(&format!("open; slot {} opened it", opened.slot));
    out.document(&opened).map(|_| ())
}

pub async fn seal(context: &Context) -> Result<()> {
    let out = &context.out;
    out.confirm("Seal the server? It answers nothing until something opens it again.")?;
    context
        .admin()?
        .send(Call::new(Method::POST, "/v1/seal"))
        .await?;
    // The program starts anew meanwhile, so some of these find nobody.
    let since = Instant::now();
    loop {
        let info = match context.admin() {
            Ok(mut client) => client.json::<ServerInfo>(Call::get("/v1/server")).await,
            Err(error) => Err(error),
        };
        match info {
            Ok(info) if info.state == ServerState::Sealed => {
                out.talk("sealed; `strongroom unseal` opens it");
                return out.document(&info).map(|_| ());
            }
            _ if since.elapsed() > PATIENCE => {
                return Err(Error::unavailable(
                    "still_open",
                    "the server is told to seal itself, and has not come to it yet; see its log",
                ));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
