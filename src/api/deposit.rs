//! Deposits on the wire. Their bytes travel as they are, in the body; the rest in these headers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::deposit::{DepositVersion, Labels};

/// `age` or `none`: what the bytes are.
pub const ENCRYPTION: &str = "strongroom-encryption";
/// On PUT the labels as `key=value`, separated by commas, keys and values percent-encoded where
/// needed.
pub const LABELS: &str = "strongroom-labels";
/// On PUT, percent-encoded UTF-8, up to 1,000 bytes.
pub const DESCRIPTION: &str = "strongroom-description";
/// In answers: the deposit's UUID, and the version that the body is of.
pub const DEPOSIT_ID: &str = "strongroom-deposit-id";
pub const VERSION: &str = "strongroom-version";

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Versions {
    /// Newest first.
    pub versions: Vec<DepositVersion>,
}

/// What may change without a new version; what is left out stays.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditDeposit {
    pub description: Option<String>,
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub labels: Option<Labels>,
}
