//! One file per noun: its verbs, what they send, what they print.

pub mod audit;
mod audit_export;
pub mod backup;
pub mod client;
pub mod deposit;
mod deposit_body;
mod deposit_export;
mod deposit_get;
mod deposit_policy;
mod deposit_readers;
mod deposit_watch;
mod group;
pub mod host;
pub mod host_group;
pub mod job;
mod moment;
pub mod org;
mod org_key;
mod quota;
pub mod recipient;
mod register;
pub mod role;
pub mod root;
pub mod schedule;
pub mod seal;
pub mod setting;
pub mod slot;
pub mod status;
pub mod tls;
pub mod token;
mod totp;
pub mod user;
mod user_certificate;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::print::{Listing, Printer};
use crate::error::{Error, Result};
use crate::model::page::Page;

/// What every list takes.
#[derive(clap::Args, Debug, Default)]
pub struct ListArgs {
    /// Only what this holds for, such as "created > -7d" (audit: "time > -1h"); several must all
    /// hold. The refusal of an unknown field lists the known ones
    #[arg(short = 'F', long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// No more than N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// The last ones instead of the first, 100 unless --limit says otherwise (1,000 at most)
    #[arg(long)]
    last: bool,
    /// Only how many there are, up to 10,000
    #[arg(long, conflicts_with_all = ["limit", "last"])]
    count: bool,
}

/// What a count goes to; beyond it costs more than it says.
const MOST_COUNTED: u64 = 10_000;

impl ListArgs {
    /// # Errors
    /// `--last`, of a list that is the other way round.
    fn begins_with_the_newest(&self) -> Result<()> {
        match self.last {
            true => Err(Error::invalid(
                "page",
                "this list begins with the newest; --last is for those that end with it",
            )),
            false => Ok(()),
        }
    }

    /// Fetches and prints the list at `path`; `further` is added to the query.
    async fn run<T: Serialize + DeserializeOwned>(
        self,
        client: &mut Client,
        path: &str,
        further: Vec<(&str, String)>,
        out: &Printer,
        columns: &'static [&'static str],
        row: fn(&Printer, &T) -> Vec<String>,
    ) -> Result<()> {
        let filters = self.filters.into_iter().map(|filter| ("filter", filter));
        let query: Vec<(&str, String)> = further.into_iter().chain(filters).collect();
        let mut listing = Listing::new(out, columns, row);
        if self.count {
            return count(client, path, &query, out).await;
        }
        if self.last {
            let page: Page<T> = client.last_page(path, &query, self.limit).await?;
            listing.page(&page.items)?;
            return listing.end(false);
        }
        let more = client
            .pages(path, &query, self.limit, |items| listing.page(items))
            .await?;
        listing.end(more)
    }
}

async fn count(
    client: &mut Client,
    path: &str,
    query: &[(&str, String)],
    out: &Printer,
) -> Result<()> {
    let mut found = 0;
    let each = |items: &[serde_json::Value]| {
        found += items.len() as u64;
        Ok(())
    };
    client
        .pages(path, query, Some(MOST_COUNTED + 1), each)
        .await?;
    let more = found > MOST_COUNTED;
    let counted = found.min(MOST_COUNTED);
    if out.document(&serde_json::json!({"count": counted, "more": more}))? {
        return Ok(());
    }
    out.line(&match more {
        true => "more than 10,000".to_owned(),
        false => counted.to_string(),
    })
}

/// A text within a filter, in quotes as in SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
