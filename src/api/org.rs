//! Organizations on the wire.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::model::org::{Contact, Org, OrgName};

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddOrg {
    pub name: OrgName,
    #[serde(default)]
    pub contacts: Vec<Contact>,
    /// When it ends; never if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddContacts {
    /// Those that are there already stay.
    pub contacts: Vec<Contact>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetOrgExpiry {
    /// Null: never. It must be said.
    #[serde(deserialize_with = "said")]
    #[schema(required = true)]
    pub expires: Option<Timestamp>,
}

/// A field that may be null, and may not be left out.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Option::deserialize(from)
}

/// An organization with its registration code, for those who may see it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OrgWithCode {
    #[serde(flatten)]
    pub org: Org,
    /// Clients that give it are active at once; none where registration is open, or where the
    /// caller may not see it.
    pub auth_code: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAuth {
    /// Up to 255 bytes; blank: clients become active without a code.
    pub auth_code: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRecoveryRecipient {
    /// `age1…`, or none to have no recovery recipient.
    pub recipient: Option<String>,
}
