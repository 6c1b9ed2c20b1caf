//! `strongroom org quota` and `strongroom client quota`.

use std::str::FromStr;

use hyper::Method;

use crate::cli::client::{Call, Client};
use crate::cli::print::Printer;
use crate::error::{Error, Result};
use crate::model::quota::{QuotaUse, SetQuota, amount_of, bytes_of, requests_of};

/// New limits; none of them: show what holds.
#[derive(clap::Args, Debug)]
pub struct QuotaArgs {
    /// Deposits that it may keep, those in the bin included; 0: none may be added
    #[arg(long, value_name = "N|none", allow_hyphen_values = true)]
    objects: Option<Objects>,
    /// Bytes that it may keep, of all versions and in the bin, such as 500000 or 10MiB; 0: nothing may
    /// be stored
    #[arg(long, value_name = "N|none", allow_hyphen_values = true)]
    bytes: Option<Bytes>,
    /// Requests a second, and after a pause as many at once: 1 to 1000000
    #[arg(long, value_name = "N|none", allow_hyphen_values = true)]
    requests: Option<Requests>,
}

#[derive(Clone, Copy, Debug)]
struct Objects(Option<u64>);

#[derive(Clone, Copy, Debug)]
struct Bytes(Option<u64>);

#[derive(Clone, Copy, Debug)]
struct Requests(Option<u32>);

impl FromStr for Objects {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        amount_of("objects", text).map(Self)
    }
}

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        bytes_of(text).map(Self)
    }
}

impl FromStr for Requests {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        requests_of(text).map(Self)
    }
}

/// Sets or shows the quota at `path`, which is that of `whom`.
pub(super) async fn run(
    args: QuotaArgs,
    whom: &str,
    path: &str,
    client: &mut Client,
    out: &Printer,
) -> Result<()> {
    let set = SetQuota {
        objects: args.objects.map(|it| it.0),
        bytes: args.bytes.map(|it| it.0),
        requests: args.requests.map(|it| it.0),
    };
    if set.is_empty() {
        let found: QuotaUse = client.json(Call::get(path)).await?;
        return out.record(&found, &fields(&found));
    }
    let call = Call::new(Method::PUT, path).json(&set)?;
    let found: QuotaUse = client.json(call).await?;
    out.talk(&match found.quota.to_string().as_str() {
        "" => format!("{whom} has no quota"),
        limits => format!("the quota of {whom} is {limits}"),
    });
    if let Some(full) = full(&found) {
        out.talk(&full);
    }
    out.document(&found).map(|_| ())
}

/// What is there stays, also above a limit that came later.
fn full(found: &QuotaUse) -> Option<String> {
    let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
    let (quota, used) = (found.quota, found.used);
    (over(quota.objects, used.objects) || over(quota.bytes, used.bytes)).then(|| {
        format!(
            "{} deposits with {} bytes are there, which is more than that; they can be read and deleted",
            used.objects, used.bytes
        )
    })
}

fn fields(found: &QuotaUse) -> Vec<(&'static str, String)> {
    let of = |used: u64, limit: Option<u64>| match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => format!("{used}, no limit"),
    };
    let requests = found.quota.requests;
    vec![
        ("objects", of(found.used.objects, found.quota.objects)),
        ("bytes", of(found.used.bytes, found.quota.bytes)),
        (
            "requests",
            requests.map_or("no limit".to_owned(), |it| format!("{it} a second")),
        ),
    ]
}
