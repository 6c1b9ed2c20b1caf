//! `strongroom deposit watch`: follows the changes of deposits until it is told to end.

use std::time::{Duration, Instant};

use crate::api::deposit::{DepositChange, LAST_EVENT_ID};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::error::{Error, Kind, Result};

/// How long a server that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST: usize = 4 << 20;

#[derive(clap::Args, Debug)]
pub struct WatchArgs {
    /// Begin behind this event, as `--json` shows it; from now on if left out
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
}

pub async fn watch(args: WatchArgs, context: &Context) -> Result<()> {
    let mut door = context.own(false)?;
    let mut feed = Feed {
        id: args.after,
        line: Vec::new(),
        data: None,
    };
    let mut away: Option<Instant> = None;
    loop {
        let mut call = Call::get("/v1/watch/deposits");
        if let Some(id) = feed.id {
            call = call.header(LAST_EVENT_ID, id.to_string());
        }
        feed.line.clear();
        feed.data = None;
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

/// Server-sent events, read piece by piece.
struct Feed {
    /// Of the last event that came whole.
    id: Option<u64>,
    line: Vec<u8>,
    data: Option<String>,
}

impl Feed {
    fn take(
        &mut self,
        piece: &[u8],
        each: &mut impl FnMut(u64, &DepositChange) -> Result<()>,
    ) -> Result<()> {
        let odd = |what: &str| Error::new(Kind::Internal, "answer", format!("the feed {what}"));
        for byte in piece {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LONGEST {
                    return Err(odd("has a line that is too long"));
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            match line.split_once(": ") {
                Some(("id", id)) => {
                    let id = id.parse().map_err(|_| odd("has an id that is no number"))?;
                    self.id = Some(id);
                }
                Some(("data", data)) => self.data = Some(data.to_owned()),
                _ if line.is_empty() => {
                    if let Some(data) = self.data.take() {
                        let change = serde_json::from_str(&data)
                            .map_err(|error| odd("has an event of another form").because(error))?;
                        each(self.id.unwrap_or(0), &change)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_pieces_of_any_size() {
        let id = "018f3b5e-5b6a-7c3d-8e9f-0123456789ab";
        let text = format!(
            "id: 4\n\n:\n\nid: 5\nevent: deposit\ndata: {{\"change\":\"deposit.rm\",\"id\":\"{id}\",\"name\":\"a/b\",\"time\":\"2026-11-22T08:00:00Z\",\"deposit\":null}}\n\nid: 9\n\n"
        );
        for size in [1, 7, text.len()] {
            let mut feed = Feed {
                id: None,
                line: Vec::new(),
                data: None,
            };
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                let mut each = |id, change: &DepositChange| {
                    seen.push((id, change.change.clone()));
                    Ok(())
                };
                feed.take(piece, &mut each).unwrap();
            }
            assert_eq!(seen, [(5, "deposit.rm".to_owned())]);
            assert_eq!(feed.id, Some(9));
        }
    }
}
