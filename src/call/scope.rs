//! Cache keys: who may share an answer, and what must be equal for one to be shared.
//!
//! Two keys with different jobs. The *partition* is what must match exactly before similarity may speak; the
//! *fingerprint* is the partition plus the last user turn. Mixing the two up is a known way to build a semantic cache
//! that never hits (the whole request as the isolation filter) or one that leaks (no tenant in the key).

use super::{Call, Controls};
use crate::dialect::Dialect;
use crate::ids::TenantId;
use crate::json::{Member, tagged};
use crate::store::Digest;

/// Changes whenever the meaning of a key changes, so that entries made under other rules are never found.
const VERSION: u8 = 1;

/// Members that are no part of any key: they change how an answer is delivered, billed or attributed, not what it says.
/// `max_tokens` and `max_completion_tokens` are compared by value instead, when an answer is about to be served.
const EXCLUDED: [&str; 10] = [
    "stream",
    "stream_options",
    "user",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "safety_identifier",
    "cache",
    "max_tokens",
    "max_completion_tokens",
];

/// Whether a member is no part of any key. Of two meanings of `cache` only LiteLLM's is ours; another goes upstream and
/// may shape the answer.
pub(super) fn is_excluded(member: &Member<'_>) -> bool {
    EXCLUDED.contains(&member.name.as_ref()) && (member.name != "cache" || Controls::is_body_member(member))
}

/// The secret that keys every hash. 32 bytes; has no `Debug`.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Wraps the secret.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Keyed BLAKE3-256 of the bytes; `domain` keeps hashes for different uses apart.
    pub fn digest(&self, domain: &str, bytes: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(domain.len() as u64).to_le_bytes());
        hasher.update(domain.as_bytes());
        hasher.update(bytes);
        *hasher.finalize().as_bytes()
    }
}

/// Who may share an answer, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Owner.
    pub tenant: &'a TenantId,
    /// `x-remora-namespace`.
    pub namespace: &'a str,
    /// The sharing scope in full: `tenant`, `key:…` or `user:…`.
    pub share: &'a str,
    /// The upstream whose answers these are: its address, not its name.
    pub upstream: &'a str,
    /// Wire format.
    pub dialect: Dialect,
    /// What outside the body changes the answer: the query and version headers.
    pub variant: &'a str,
}

impl Scope<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        // Taking the struct apart makes a new field fail to compile until someone decides about it here.
        let Scope { tenant, namespace, share, upstream, dialect, variant } = self;
        out.push(VERSION);
        for part in [tenant.as_str(), namespace, share, upstream, dialect.as_str(), variant] {
            tagged(out, b'p', part.as_bytes());
        }
    }

    /// Key of an item of this scope that stands for itself (one embedding input with its parameters).
    pub fn item_key(&self, secret: &SecretKey, rest: &[u8], item: &[u8]) -> Digest {
        let mut bytes = Vec::with_capacity(256 + rest.len() + item.len());
        self.write(&mut bytes);
        tagged(&mut bytes, b'r', rest);
        tagged(&mut bytes, b'i', item);
        secret.digest("item", &bytes)
    }
}

/// The keys of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Everything but the last user turn; the embedding space joins it in [`Keys::partition`].
    rest: Digest,
    /// Key of the exact tier.
    pub fingerprint: Digest,
}

impl Keys {
    /// The keys of `call` in `scope`.
    pub fn of(secret: &SecretKey, scope: &Scope<'_>, call: &Call) -> Self {
        let mut bytes = Vec::with_capacity(256 + call.rest.len());
        scope.write(&mut bytes);
        tagged(&mut bytes, b'r', &call.rest);
        let rest = secret.digest("rest", &bytes);
        bytes.clear();
        bytes.extend_from_slice(&rest);
        tagged(&mut bytes, b'l', &call.last);
        Self { rest, fingerprint: secret.digest("fingerprint", &bytes) }
    }

    /// Stands for everything but the last user turn where nothing hangs on it that two are mistaken for one.
    pub fn prefix(&self) -> u64 {
        self.rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The partition in an embedding space. `truncated` is the digest of a prompt that the model saw only a part of.
    pub fn partition(&self, secret: &SecretKey, space: &str, truncated: Option<Digest>) -> Digest {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&self.rest);
        tagged(&mut bytes, b'e', space.as_bytes());
        tagged(&mut bytes, b't', truncated.as_ref().map_or(&[], |d| d.as_slice()));
        secret.digest("partition", &bytes)
    }

    /// Key of a normalised prompt; independent of the embedding space.
    pub fn normalised(&self, secret: &SecretKey, text: &str) -> Digest {
        let mut bytes = Vec::with_capacity(64 + text.len());
        bytes.extend_from_slice(&self.rest);
        tagged(&mut bytes, b'n', text.as_bytes());
        secret.digest("normalised", &bytes)
    }

    /// Key under which equal requests in flight are joined. `terms` is what else must be equal: conditions that a stored
    /// answer is checked against one by one, but that an answer in the making must meet for all who wait for it.
    pub fn flight(&self, secret: &SecretKey, terms: &[u8]) -> Digest {
        let mut bytes = Vec::with_capacity(64 + terms.len());
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(terms);
        secret.digest("flight", &bytes)
    }
}
