//! Server-sent events, read piece by piece, over all the answers that they come in.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::client::{Call, Client};
use super::print::Printer;
use crate::api::deposit::LAST_EVENT_ID;
use crate::error::{Error, Kind, Result};

/// How long a server that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST: usize = 4 << 20;

/// One feed, over all the answers that it comes in.
#[derive(Default)]
pub struct Feed {
    /// Of the last event that came whole.
    pub id: Option<u64>,
    line: Vec<u8>,
    data: Option<String>,
}

impl Feed {
    /// A feed that begins behind this event.
    pub fn after(id: Option<u64>) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// An answer begins: half an event of the one before counts no more. Behind which event it goes on.
    fn begin(&mut self) -> Option<u64> {
        self.line.clear();
        self.data = None;
        self.id
    }

    /// Follows what lies at `path` until `each` says that it is over. A server that restarts, and one that
    /// has no room now, are asked again.
    pub async fn follow<T: DeserializeOwned>(
        mut self,
        client: &mut Client,
        path: &str,
        out: &Printer,
        mut each: impl FnMut(u64, &T) -> Result<bool>,
    ) -> Result<()> {
        let mut away: Option<Instant> = None;
        let mut over = false;
        while !over {
            let mut call = Call::get(path);
            if let Some(id) = self.begin() {
                call = call.header(LAST_EVENT_ID, id.to_string());
            }
            let take = |piece: &[u8]| {
                away = None;
                self.take(piece, &mut |id, it| {
                    over |= each(id, it)?;
                    Ok(())
                })
            };
            match client.stream(call, take).await {
                Ok(()) => {}
                Err(error)
                    if matches!(error.kind, Kind::Unavailable | Kind::Limited | Kind::Sealed)
                        && error.code != "closed_pipe" =>
                {
                    let since = *away.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    out.detail(&format!("{error}; asked again"));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take<T: DeserializeOwned>(
        &mut self,
        piece: &[u8],
        each: &mut impl FnMut(u64, &T) -> Result<()>,
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
    use crate::api::deposit::DepositChange;

    #[test]
    fn events_come_in_pieces_of_any_size() {
        let id = "018f3b5e-5b6a-7c3d-8e9f-0123456789ab";
        let text = format!(
            "id: 4\n\n:\n\nid: 5\nevent: deposit\ndata: {{\"change\":\"deposit.rm\",\"id\":\"{id}\",\"name\":\"a/b\",\"time\":\"2026-11-22T08:00:00Z\",\"deposit\":null}}\n\nid: 9\n\n"
        );
        for size in [1, 7, text.len()] {
            let mut feed = Feed::default();
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
