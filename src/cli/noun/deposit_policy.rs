//! When a deposit may be fetched, and how often: the options of `deposit put` and `deposit edit`, and
//! `deposit grant`.

use std::str::FromStr;

use hyper::Method;

use super::deposit::Target;
use super::moment::Moment;
use crate::api::deposit::{EXPIRES, EditDeposit, GrantRetrievals, MAX_RETRIEVALS, NOT_BEFORE};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::print::Printer;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::model::deposit::{Deposit, MOST_RETRIEVALS};

/// Left out, all stays as it is.
#[derive(clap::Args, Debug)]
pub struct PolicyArgs {
    /// Nobody fetches it before TIME: 2027-01-31T00:00:00Z, or +90d, +12h, +30m from now; `none` ends
    /// that
    #[arg(long, value_name = "TIME")]
    not_before: Option<OrNone<Moment>>,
    /// Nobody fetches it from TIME on; `none` ends that
    #[arg(long, value_name = "TIME")]
    expires: Option<OrNone<Moment>>,
    /// It is fetched N times at most, counted from now; each time it is sent out counts, also where it
    /// is lost on the way. `none` ends that
    #[arg(long, value_name = "N")]
    max_retrievals: Option<OrNone<Count>>,
    /// It is fetched once: as --max-retrievals 1
    #[arg(long, conflicts_with = "max_retrievals")]
    single_use: bool,
}

/// What `deposit grant` takes.
#[derive(clap::Args, Debug)]
pub struct GrantArgs {
    #[command(flatten)]
    target: Target,
    /// How many more
    #[arg(value_name = "N", default_value = "1")]
    retrievals: Count,
}

/// A value, or `none` to remove the one that is there.
#[derive(Clone, Copy, Debug)]
struct OrNone<T>(Option<T>);

impl<T: FromStr<Err = Error>> FromStr for OrNone<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self(None)),
            text => text.parse().map(|value| Self(Some(value))),
        }
    }
}

/// A number of retrievals.
#[derive(Clone, Copy, Debug)]
struct Count(u64);

impl FromStr for Count {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse()
            .ok()
            .filter(|count| (1..=u64::from(MOST_RETRIEVALS)).contains(count))
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(
                    "max_retrievals",
                    format!("a number of retrievals is from 1 to {MOST_RETRIEVALS}"),
                )
            })
    }
}

impl PolicyArgs {
    pub fn is_empty(&self) -> bool {
        self.not_before.is_none() && self.expires.is_none() && self.limit().is_none()
    }

    /// Into the body of an edit.
    pub fn edit(&self, request: &mut EditDeposit) {
        request.not_before = moment(self.not_before);
        request.expires = moment(self.expires);
        request.max_retrievals = self.limit();
    }

    /// Into the headers of a put, which stores and removes nothing.
    pub fn put(&self, mut call: Call) -> Result<Call> {
        for (name, time) in [
            (NOT_BEFORE, moment(self.not_before)),
            (EXPIRES, moment(self.expires)),
        ] {
            if let Some(time) = time {
                call = call.header(name, time.ok_or_else(no_removal)?.to_string());
            }
        }
        if let Some(limit) = self.limit() {
            call = call.header(MAX_RETRIEVALS, limit.ok_or_else(no_removal)?.to_string());
        }
        Ok(call)
    }

    fn limit(&self) -> Option<Option<u64>> {
        match self.single_use {
            true => Some(Some(1)),
            false => self.max_retrievals.map(|it| it.0.map(|count| count.0)),
        }
    }
}

fn moment(given: Option<OrNone<Moment>>) -> Option<Option<Timestamp>> {
    given.map(|it| it.0.map(|moment| moment.from(clock::now())))
}

fn no_removal() -> Error {
    Error::invalid(
        "max_retrievals",
        "`none` is for what is there already: strongroom deposit edit",
    )
}

pub async fn grant(args: GrantArgs, context: &Context) -> Result<()> {
    let (mut door, path) = args.target.open(context)?;
    let request = GrantRetrievals {
        retrievals: args.retrievals.0,
    };
    let call = Call::new(Method::POST, format!("{path}/grant")).json(&request)?;
    let deposit: Deposit = door.client.json(call).await?;
    context.out.talk(&format!(
        "{} may be fetched {} more times",
        deposit.name,
        deposit.retrievals_left.unwrap_or(0)
    ));
    context.out.document(&deposit).map(|_| ())
}

/// What `deposit show` says of it.
pub fn fields(out: &Printer, deposit: &Deposit) -> [(&'static str, String); 3] {
    let left = match (deposit.retrievals_left, deposit.max_retrievals) {
        (Some(left), Some(most)) => format!("{left} of {most}"),
        _ => String::new(),
    };
    [
        ("not before", out.maybe_time(deposit.not_before)),
        ("expires", out.maybe_time(deposit.expires)),
        ("retrievals left", left),
    ]
}
