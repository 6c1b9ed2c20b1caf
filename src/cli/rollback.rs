//! `strongroom rollback`: back to the store of before an upgrade.

use serde_json::json;

use super::serve::SlotArgs;
use super::{Global, Printer};
use crate::clock;
use crate::error::Result;
use crate::folder::Folder;
use crate::server::rollback::Plan;

/// What `rollback` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub slot: SlotArgs,
}

pub fn run(args: Args, global: &Global, out: &Printer) -> Result<()> {
    let folder = Folder::new(global.data_dir());
    folder.check_initialised()?;
    let secret = args.slot.secret.required_or_typed(out)?;
    let plan = Plan::of(folder, &secret, args.slot.slot, clock::now())?;
    let mark = plan.copy().mark.clone();
    let kept = plan.kept();
    let (lost, loss) = match plan.live() {
        Ok((live, last)) => {
            let lost = mark.lost(live);
            let loss = format!(
                "{lost} changes since then (revision {} to {}, the last at {last}) and the log of what was released since are not in it",
                mark.revision, live.revision
            );
            (Some(lost), loss)
        }
        Err(error) => (
            None,
            format!("what was changed since then is not in it; how much cannot be told: {error}"),
        ),
    };
    out.talk(&format!(
        "The copy in {} is whole: of {}, schema {}, before program {} changed it. {loss}; they stay in {}, which takes the place of an older one there.",
        plan.copy().path.display(),
        mark.made,
        mark.schema,
        mark.program,
        kept.display(),
    ));
    out.confirm("Go back to it?")?;
    plan.apply(global.reason.as_deref().unwrap_or_default(), clock::now())?;
    let value = json!({"schema": mark.schema, "revision": mark.revision, "made": mark.made, "changes_lost": lost, "kept": kept});
    out.record(
        &value,
        &[
            ("schema", mark.schema.to_string()),
            ("as of", mark.made.to_string()),
            (
                "changes lost",
                lost.map_or("unknown".to_owned(), |lost| lost.to_string()),
            ),
            ("kept", kept.display().to_string()),
        ],
    )?;
    out.talk(&format!(
        "Start the program that knows schema {}; a newer one brings the store to its own schema again.",
        mark.schema
    ));
    Ok(())
}
