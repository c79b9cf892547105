//! Tenants with what they are held to, virtual keys and admin tokens: shapes and trait.
//!
//! One counter numbers all changes. A change says which number it was made from and is refused if another came between, so
//! nothing is overwritten unseen; replicas look at the number to learn that there is something new.

use bytes::Bytes;

use super::{AuditRow, BoxFuture, Digest};
use crate::clock::UnixMs;
use crate::ids::TenantId;

/// A tenant as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Unique name.
    pub tenant: TenantId,
    /// Whether the configuration file owns it, so that nobody else may change it.
    pub declared: bool,
    /// Limits, budgets and cache policy as JSON, in the form of whoever reads them.
    pub spec: String,
    /// Sealed credential for upstream.
    pub credential: Option<Bytes>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was last changed.
    pub updated_at: UnixMs,
}

/// A virtual key as it is kept. Its secret is not: only a keyed hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The public part of the key, by which it is found.
    pub id: String,
    /// Owner.
    pub tenant: TenantId,
    /// Unique within the tenant, but for keys that a rotation has replaced.
    pub name: String,
    /// Keyed hash of the secret.
    pub hash: Digest,
    /// Models, routes, rights and limits as JSON, in the form of whoever reads them.
    pub spec: String,
    /// From when on it is refused.
    pub expires_at: Option<UnixMs>,
    /// The id of the key that took its place.
    pub replaced_by: Option<String>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was last changed.
    pub updated_at: UnixMs,
    /// When it was last used, to the minute.
    pub used_at: Option<UnixMs>,
}

/// An admin token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The public part of the token, by which it is found.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// Keyed hash of the secret.
    pub hash: Digest,
    /// `viewer`, `operator` or `owner`.
    pub role: String,
    /// The one tenant it is good for; all if `None`.
    pub tenant: Option<TenantId>,
    /// From when on it is refused.
    pub expires_at: Option<UnixMs>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was last used, to the minute.
    pub used_at: Option<UnixMs>,
}

/// One change to the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryWrite {
    /// Stores a tenant in the place of what was there.
    PutTenant(TenantRecord),
    /// Deletes a tenant and all its keys.
    DeleteTenant(TenantId),
    /// Stores a key in the place of what was there; `used_at` is kept.
    PutKey(KeyRow),
    /// Deletes a key.
    DeleteKey(String),
    /// Stores an admin token in the place of what was there; `used_at` is kept.
    PutToken(TokenRow),
    /// Deletes an admin token.
    DeleteToken(String),
}

/// The whole directory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryImage {
    /// Number of the last change; 0 if there was none.
    pub version: u64,
    /// All tenants by name.
    pub tenants: Vec<TenantRecord>,
    /// All keys by id.
    pub keys: Vec<KeyRow>,
    /// All admin tokens by id.
    pub tokens: Vec<TokenRow>,
}

/// Tenants, keys and admin tokens.
pub trait DirectoryStore: Send + Sync {
    /// Number of the last change. Cheap: asked several times a second by each replica.
    fn directory_version(&self) -> BoxFuture<'_, u64>;

    /// Everything at one moment.
    fn directory(&self) -> BoxFuture<'_, DirectoryImage>;

    /// Applies all writes in order and adds the audit rows, in one transaction, if the last change is still `seen`. Returns
    /// the number of this change, or `None` if another came between and nothing was done.
    fn change_directory<'a>(
        &'a self,
        seen: u64,
        writes: &'a [DirectoryWrite],
        audit: &'a [AuditRow],
    ) -> BoxFuture<'a, Option<u64>>;

    /// Notes when keys and admin tokens were last used, by id. Is no change: the number stays. A time before the one that is
    /// noted is ignored, and so are ids that are gone.
    fn note_used<'a>(&'a self, used: &'a [(String, UnixMs)]) -> BoxFuture<'a, ()>;
}
