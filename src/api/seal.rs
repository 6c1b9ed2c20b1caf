//! Unsealing on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::slot::SlotSecret;
use crate::model::id::SlotId;

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    pub opener: SlotSecret,
    /// This slot only, instead of all of the secret's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotId>,
    /// Take a seal.json that was put back from an older copy, in which a slot may open that was
    /// removed since.
    #[serde(default)]
    pub accept_old_seal: bool,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Unsealed {
    /// The slot that opened.
    pub slot: SlotId,
}
