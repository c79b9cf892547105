//! Who is calling: from a credential to a [`Principal`].
//!
//! First stage of a request; no body has been read yet. The key of a tenant makes its tenant the principal. In passthrough
//! mode any other credential is its own tenant: the keyed hash of the credential is the tenant id, so two callers with
//! different keys can never share an answer.
//!
//! Keys are of two kinds. *Declared* ones are in the configuration file and are any text; they are found by their full keyed
//! hash. *Virtual* ones are made by this program (`virtual_key`) and kept in the store; they are found by the public part
//! of them. Both are compared in constant time, and no credential is ever logged or stored.

mod credential;
mod directory;
mod reconcile;
mod role;
mod snapshot;
mod virtual_key;

use std::sync::Arc;

use http::{HeaderMap, header};

use crate::config::{KeySpec, Right, Secret, TenantCache, glob_matches};
use crate::ids::{KeyId, TenantId};
use crate::limit::{Caller, Terms};

pub use self::credential::{SealKey, Unsealed};
pub use self::directory::{Directory, LOOK_EVERY, Noted};
pub use self::reconcile::Reconciled;
pub use self::role::{Role, TokenError, TokenHolder};
pub use self::snapshot::{Declared, Known};
pub use self::virtual_key::{Kind, Minted, Mistake, Parsed, mint, parse};

/// The caller.
#[derive(Clone)]
pub struct Principal {
    /// Owner of all data of this request.
    pub tenant: TenantId,
    /// Which credential was used. Rotation does not change it.
    pub key: KeyId,
    /// What goes upstream as the credential.
    pub credential: Credential,
    /// Whether no credential was sent. Such callers cannot be told apart, so nothing of theirs is cached.
    pub anonymous: bool,
    /// What tenant and key are held to.
    pub terms: Arc<Terms>,
    spec: Arc<KeySpec>,
}

/// What upstream gets as `authorization` or `x-api-key`.
#[derive(Clone)]
pub enum Credential {
    /// The caller's own header lines, unchanged.
    Caller,
    /// A credential that this program holds.
    Held(Secret),
}

/// Why a caller is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential at all.
    #[error("no API key was sent; send it as `Authorization: Bearer …`")]
    Missing,
    /// A credential that is not known, where only known ones are accepted.
    #[error("the API key is not known here; check that it is complete and not revoked")]
    Unknown,
    /// A virtual key whose checksum does not fit.
    #[error("the API key is mistyped or cut: its checksum does not fit; copy it again")]
    Mistyped,
    /// The credential cannot be read.
    #[error("the `Authorization` header must be `Bearer` and one key")]
    Malformed,
    /// The time of the key is over.
    #[error("the API key has expired; ask for a new one")]
    Expired,
    /// The key is switched off.
    #[error("the API key is disabled; whoever manages this tenant can enable it")]
    KeyDisabled,
    /// The tenant is switched off.
    #[error("the tenant of this API key is disabled; whoever runs this proxy can enable it")]
    TenantDisabled,
    /// The key may not use the route.
    #[error("this API key may not use this route")]
    Route,
    /// The key may not use the model.
    #[error("this API key may not use the requested model")]
    Model,
    /// A key that is not known yet, while the store cannot be asked.
    #[error("the API key cannot be checked now, because the directory of keys cannot be read; send the request again")]
    Unavailable,
    /// What the store says about the key or its tenant is of another form.
    #[error("what this API key may do cannot be read; whoever runs this proxy must update it or set it again")]
    Unreadable,
    /// The tenant's own upstream credential cannot be opened.
    #[error("the upstream credential of this tenant cannot be opened; whoever runs this proxy must set it again")]
    Credential,
}

/// Headers by which a caller may be known upstream.
const IDENTITY: [&str; 6] =
    ["authorization", "x-api-key", "api-key", "cookie", "openai-organization", "openai-project"];

/// Those of them by which callers can be told apart. The others only say under which account to book.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "cookie"];

impl Principal {
    /// A caller with a key of a tenant.
    pub fn known(
        tenant: TenantId,
        key: KeyId,
        credential: Credential,
        terms: impl Into<Arc<Terms>>,
        spec: impl Into<Arc<KeySpec>>,
    ) -> Self {
        Self { tenant, key, credential, anonymous: false, terms: terms.into(), spec: spec.into() }
    }

    /// Narrows the cache policy.
    pub fn cache(&self) -> &TenantCache {
        &self.terms.tenant.cache
    }

    /// Whether the key has a right.
    pub fn may(&self, right: Right) -> bool {
        self.spec.rights.contains(&right)
    }

    /// Checks that the key may use the route; `path` is the whole path, as in `/v1/chat/completions`.
    ///
    /// # Errors
    /// [`AuthError::Route`]
    pub fn may_call(&self, path: &str) -> Result<(), AuthError> {
        if self.spec.routes.iter().any(|glob| glob_matches(glob, path)) { Ok(()) } else { Err(AuthError::Route) }
    }

    /// Who asks, for limits and budgets.
    pub fn caller(&self) -> Caller<'_> {
        Caller { tenant: &self.tenant, key: &self.key, terms: &self.terms }
    }

    /// Checks that the key may use the model.
    ///
    /// # Errors
    /// [`AuthError::Model`]
    pub fn may_use(&self, model: &str) -> Result<(), AuthError> {
        if self.spec.models.iter().any(|glob| glob_matches(glob, model)) { Ok(()) } else { Err(AuthError::Model) }
    }

    /// Whether the key is limited to some models.
    pub fn is_limited(&self) -> bool {
        !self.spec.models.iter().any(|glob| glob == "*")
    }
}

/// The key that a request carries.
fn presented(headers: &HeaderMap) -> Result<&str, AuthError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| AuthError::Malformed)?;
        let (scheme, key) = text.split_once(' ').ok_or(AuthError::Malformed)?;
        let key = key.trim();
        return if scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() {
            Ok(key)
        } else {
            Err(AuthError::Malformed)
        };
    }
    match headers.get("x-api-key").or_else(|| headers.get("api-key")) {
        Some(value) => value.to_str().ok().map(str::trim).filter(|k| !k.is_empty()).ok_or(AuthError::Malformed),
        None => Err(AuthError::Missing),
    }
}

/// Whether a credential header says nothing: no key, or a scheme with no key behind it.
fn is_blank(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    value.is_empty() || [b"bearer".as_slice(), b"basic"].iter().any(|scheme| value.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests;
