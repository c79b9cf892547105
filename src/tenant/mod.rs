//! Who is calling: from a credential to a [`Principal`].
//!
//! First stage of a request; no body has been read yet. A declared key makes its tenant the principal. In passthrough
//! mode any other credential is its own tenant: the keyed hash of the credential is the tenant id, so two callers with
//! different keys can never share an answer.
//!
//! Keys are found by their full keyed hash and compared in constant time; a credential is never logged or stored.

use std::collections::HashMap;

use http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use crate::call::SecretKey;
use crate::config::{Config, Secret, TenantCache, glob_matches};
use crate::ids::{KeyId, TenantId};
use crate::json::tagged;
use crate::store::Digest;

/// The caller.
#[derive(Clone)]
pub struct Principal {
    /// Owner of all data of this request.
    pub tenant: TenantId,
    /// Which credential was used.
    pub key: KeyId,
    /// May see similarity and neighbours.
    pub inspect: bool,
    /// What goes upstream as the credential.
    pub credential: Credential,
    /// Whether no credential was sent. Such callers cannot be told apart, so nothing of theirs is cached.
    pub anonymous: bool,
    /// Narrows the cache policy.
    pub cache: TenantCache,
    models: Vec<String>,
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
    /// A credential that is not declared, where only declared ones are accepted.
    #[error("the API key is not known here; check that it is complete and not revoked")]
    Unknown,
    /// The credential cannot be read.
    #[error("the `Authorization` header must be `Bearer` and one key")]
    Malformed,
    /// The key may not use the model.
    #[error("this API key may not use the requested model")]
    Model,
}

/// Headers by which a caller may be known upstream.
const IDENTITY: [&str; 6] =
    ["authorization", "x-api-key", "api-key", "cookie", "openai-organization", "openai-project"];

/// Those of them by which callers can be told apart. The others only say under which account to book.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "cookie"];

/// All declared keys.
pub struct Directory {
    secret: SecretKey,
    keys: HashMap<Digest, (Digest, Principal)>,
    passthrough: bool,
}

impl Directory {
    /// Builds the directory. `secret` keys the hashes.
    pub fn new(config: &Config, secret: SecretKey) -> Self {
        let mut keys = HashMap::new();
        for tenant in &config.tenants {
            for key in &tenant.keys {
                let held = tenant.upstream_api_key.as_ref().or(config.upstream.api_key.as_ref());
                let principal = Principal::declared(
                    TenantId::new(tenant.name.as_str()),
                    KeyId::new(format!("{}/{}", tenant.name, key.name)),
                    Credential::Held(held.cloned().unwrap_or_else(|| Secret::new(String::new()))),
                    tenant.cache.clone(),
                    key.models.clone(),
                    key.inspect,
                );
                let digest = secret.digest("credential", key.secret.expose().as_bytes());
                keys.insert(digest, (digest, principal));
            }
        }
        Self { secret, keys, passthrough: config.server.passthrough }
    }

    /// Finds out who sent these headers.
    ///
    /// # Errors
    /// No credential, or none that is accepted here.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        let credential = credential(headers);
        if let Ok(key) = credential {
            let digest = self.secret.digest("credential", key.as_bytes());
            match self.keys.get(&digest) {
                Some((known, principal)) if bool::from(known.ct_eq(&digest)) => return Ok(principal.clone()),
                _ if !self.passthrough => return Err(AuthError::Unknown),
                _ => {}
            }
        }
        if self.passthrough { Ok(self.stranger(headers)) } else { Err(credential.err().unwrap_or(AuthError::Unknown)) }
    }

    /// What a declared tenant narrows in the cache policy.
    pub fn settings_of(&self, tenant: &TenantId) -> Option<TenantCache> {
        self.keys.values().find(|(_, principal)| principal.tenant == *tenant).map(|(_, p)| p.cache.clone())
    }

    /// In passthrough mode everything that may tell upstream who is calling is part of who the tenant is.
    fn stranger(&self, headers: &HeaderMap) -> Principal {
        let mut bytes = Vec::with_capacity(256);
        let mut anonymous = true;
        for name in IDENTITY {
            for value in headers.get_all(name) {
                anonymous &= !CREDENTIALS.contains(&name) || is_blank(value.as_bytes());
                tagged(&mut bytes, b'h', name.as_bytes());
                tagged(&mut bytes, b'v', value.as_bytes());
            }
        }
        let hash = blake3::Hash::from_bytes(self.secret.digest("passthrough", &bytes));
        let id = format!("p-{}", hash.to_hex().get(..32).unwrap_or_default());
        Principal {
            tenant: TenantId::new(id.as_str()),
            key: KeyId::new(id),
            inspect: false,
            credential: Credential::Caller,
            anonymous,
            cache: TenantCache::default(),
            models: Vec::new(),
        }
    }
}

impl Principal {
    /// A caller with a declared key. An empty list of models allows all.
    pub fn declared(
        tenant: TenantId,
        key: KeyId,
        credential: Credential,
        cache: TenantCache,
        models: Vec<String>,
        inspect: bool,
    ) -> Self {
        Self { tenant, key, inspect, credential, anonymous: false, cache, models }
    }

    /// Checks that the key may use the model. Without a list every model is allowed.
    ///
    /// # Errors
    /// [`AuthError::Model`]
    pub fn may_use(&self, model: &str) -> Result<(), AuthError> {
        let allowed = self.models.is_empty() || self.models.iter().any(|glob| glob_matches(glob, model));
        if allowed { Ok(()) } else { Err(AuthError::Model) }
    }

    /// Whether the key is limited to some models.
    pub fn is_limited(&self) -> bool {
        self.models.iter().any(|glob| glob != "*")
    }
}

fn credential(headers: &HeaderMap) -> Result<&str, AuthError> {
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
