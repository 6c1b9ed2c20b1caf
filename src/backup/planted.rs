//! Which of the defects in store/planted.rs concern backups. In development builds alone.

use crate::error::Result;
use crate::store::planted::Planted;

/// What a command says that is told to be wrong.
pub fn warning() -> Result<Option<String>> {
    Ok(Planted::chosen()?.map(Planted::warning))
}

pub fn rolls_before_verify() -> Result<bool> {
    Ok(Planted::chosen()? == Some(Planted::RollBeforeVerify))
}

pub fn swaps_before_check() -> Result<bool> {
    Ok(Planted::chosen()? == Some(Planted::SwapBeforeCheck))
}
