//! Roles and what they extend over.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::org::OrgName;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Superuser,
    /// Organizations, clients, settings, users with no right beyond its own; no deposit's bytes, no audit.
    Administrator,
    /// The same within one organization, without settings.
    OrgAdministrator,
    /// Deposits of the organizations it is granted on, bytes included.
    KeyOperator,
    /// Reads everything but bytes and codes; changes nothing.
    Auditor,
}

impl Role {
    pub const ALL: [Role; 5] = [
        Self::Superuser,
        Self::Administrator,
        Self::OrgAdministrator,
        Self::KeyOperator,
        Self::Auditor,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Superuser => "superuser",
            Self::Administrator => "administrator",
            Self::OrgAdministrator => "org_administrator",
            Self::KeyOperator => "key_operator",
            Self::Auditor => "auditor",
        }
    }

    /// What it may do, in one line, for `role list`.
    pub fn description(self) -> &'static str {
        match self {
            Self::Superuser => "everything",
            Self::Administrator => {
                "organizations, clients, settings, and users with no right beyond its own; no deposit's bytes, no audit"
            }
            Self::OrgAdministrator => {
                "clients, contacts and code of one organization, and its deposits without their bytes"
            }
            Self::KeyOperator => "deposits with their bytes, of one organization or of all",
            Self::Auditor => "reads everything but bytes and codes; changes nothing",
        }
    }
}

/// A role, on one organization or on all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    pub role: Role,
    /// None: on all organizations.
    pub org: Option<OrgName>,
}
