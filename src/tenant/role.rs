//! Admin tokens: who holds one and what it is good for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;

/// How much of the admin plane a token opens. Ordered: each opens what the ones before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes tenants, keys and the cache.
    Operator,
    /// Everything, admin tokens and the end of tenants among it.
    Owner,
}

impl Role {
    /// All of them, rising.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Owner];

    /// Name in the store and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// Whoever sent an admin token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// Name of the token.
    pub name: String,
    /// What it opens.
    pub role: Role,
    /// The one tenant it is good for; all if `None`.
    pub tenant: Option<TenantId>,
}

/// Why an admin token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not one of ours.
    #[error("the admin token is not known; check that it is complete and not deleted")]
    Unknown,
    /// Its checksum does not fit.
    #[error("the admin token is mistyped or cut: its checksum does not fit; copy it again")]
    Mistyped,
    /// Its time is over.
    #[error("the admin token has expired; an owner can make a new one")]
    Expired,
    /// Not known yet, while the store cannot be asked.
    #[error("the admin token cannot be checked now, because the directory cannot be read; send the request again")]
    Unavailable,
}
