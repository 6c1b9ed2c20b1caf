//! `strongroom deposit watch`: follows the changes of deposits until it is told to end.

use crate::api::deposit::DepositChange;
use crate::cli::door::Context;
use crate::cli::feed::Feed;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub struct WatchArgs {
    /// Begin behind this event, as `--json` shows it; from now on if left out
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
}

pub async fn watch(args: WatchArgs, context: &Context) -> Result<()> {
    let mut door = context.own(false)?;
    let feed = Feed::after(args.after);
    let each = |id, change: &DepositChange| show(context, id, change).map(|()| false);
    let path = "/v1/watch/deposits";
    feed.follow(&mut door.client, path, &context.out, each)
        .await
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
