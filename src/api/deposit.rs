//! Deposits on the wire. Their bytes travel as they are, in the body; the rest in these headers.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::deposit::{Deposit, DepositVersion, Labels, SetPolicy};
use crate::model::group::GroupName;
use crate::model::id::{DepositId, Fingerprint};

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

/// On PUT and in answers: from when on it may be fetched, and until when; RFC 3339.
pub const NOT_BEFORE: &str = "strongroom-not-before";
pub const EXPIRES: &str = "strongroom-expires";
/// On PUT: how often it may be fetched, counted from now.
pub const MAX_RETRIEVALS: &str = "strongroom-max-retrievals";
/// In answers: how often still, this time not included.
pub const RETRIEVALS_LEFT: &str = "strongroom-retrievals-left";

/// On the feed of changes: what came last, so that it goes on behind it.
pub const LAST_EVENT_ID: &str = "last-event-id";

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
    /// From when on it may be fetched; null removes it.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub not_before: Option<Option<Timestamp>>,
    /// Until when; null removes it.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub expires: Option<Option<Timestamp>>,
    /// How often, counted from now; null removes the limit.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1000000000)]
    pub max_retrievals: Option<Option<u64>>,
}

impl EditDeposit {
    pub fn policy(&self) -> SetPolicy {
        SetPolicy {
            not_before: self.not_before,
            expires: self.expires,
            max_retrievals: self.max_retrievals,
        }
    }
}

/// Tells null from what is left out.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What a feed says of one change: the data of a server-sent event.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DepositChange {
    /// `deposit.put`, `deposit.rm` and so on: the event's action.
    pub change: String,
    pub id: DepositId,
    /// `ORG/NAME`
    pub name: String,
    pub time: Timestamp,
    /// As it is now, which may be later than this change; none if it is gone.
    pub deposit: Option<Deposit>,
}

/// A reader: a client or a group of the deposit's organization, one of the two.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShareDeposit {
    pub client: Option<Fingerprint>,
    pub group: Option<GroupName>,
}

/// Who may fetch a deposit beside its owner.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Readers {
    pub deposit: DepositId,
    /// As they were named, in the order in which they were added.
    pub readers: Vec<Reader>,
    /// Who that is now: the readers themselves and the active members of groups, each once.
    pub clients: Vec<ReaderKey>,
    /// Always true: the stored bytes are what they were. Whoever is not among those that they are
    /// encrypted to may fetch them and cannot open them, until the owner stores a version that is
    /// encrypted to the readers, too (`strongroom deposit share` does).
    pub rights_only: bool,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Reader {
    pub client: Option<Fingerprint>,
    pub group: Option<GroupName>,
    pub added: Timestamp,
}

/// What one needs to encrypt to a reader without trusting the server: see the recipient statement
/// in docs/formats/client.md.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReaderKey {
    pub client: Fingerprint,
    pub description: String,
    /// DER, in base64.
    pub certificate: String,
    /// None where it registered without one.
    pub recipient: Option<String>,
    /// By the certificate's key over the recipient statement, in base64.
    pub signature: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrantRetrievals {
    /// How many more.
    #[schema(minimum = 1, maximum = 1000000000)]
    pub retrievals: u64,
}

impl Default for GrantRetrievals {
    fn default() -> Self {
        Self { retrievals: 1 }
    }
}
