//! `strongroom deposit watch`: follows the changes of deposits until it is told to end.

use std::time::{Duration, Instant};

use crate::api::deposit::{DepositChange, LAST_EVENT_ID};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::feed::Feed;
use crate::error::{Kind, Result};

/// How long a server that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args, Debug)]
pub struct WatchArgs {
    /// Begin behind this event, as `--json` shows it; from now on if left out
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
}

pub async fn watch(args: WatchArgs, context: &Context) -> Result<()> {
    let mut door = context.own(false)?;
    let mut feed = Feed::after(args.after);
    let mut away: Option<Instant> = None;
    loop {
        let mut call = Call::get("/v1/watch/deposits");
        if let Some(id) = feed.begin() {
            call = call.header(LAST_EVENT_ID, id.to_string());
        }
        let take = |piece: &[u8]| {
            away = None;
            feed.take(piece, &mut |id, change| show(context, id, change))
        };
        match door.client.stream(call, take).await {
            Ok(()) => {}
            // A server that restarts, and one that has no room now, are asked again.
            Err(error)
                if matches!(error.kind, Kind::Unavailable | Kind::Limited | Kind::Sealed)
                    && error.code != "closed_pipe" =>
            {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                context.out.detail(&format!("{error}; asked again"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn show(context: &Context, id: u64, change: &DepositChange) -> Result<()> {
    let out = &context.out;
    if context.global.json {
        let line = serde_json::json!({"id": id, "change": change});
        return out.line(&line.to_string());
    }
    let version = change.deposit.as_ref().map(|it| it.version.to_string());
    out.line(&format!(
        "{} {} {} {}",
        out.time(change.time),
        change.change,
        change.name,
        version.unwrap_or_default()
    ))
}
