//! The exact tier that replicas share through Redis: a new answer is found by the others before the store has told them,
//! and of several replicas that meet the same new prompt one asks upstream.
//!
//! In the life of a request: after a miss in memory, before the semantic tier; and once more before forwarding.
//!
//! Invariants: no truth lives there, so what comes back is served only if it is this tenant's, alive, and nothing that
//! was removed or changed of late; whether it was is known from the order of changes, never from Redis. Trouble is a miss.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::commit::meta_of;
use super::lookup::body_of;
use super::outcome::{Reason, Tier};
use super::{Ask, Cache, Hit};
use crate::clock::UnixMs;
use crate::dialect::Dialect;
use crate::ids::{EntryId, KeyId, TenantId};
use crate::shared::{Lease, LeaseGuard, Shared};
use crate::store::{Digest, Entry};

/// Distrusted entries remembered at most. With more, nothing from Redis is trusted for a while.
const MOST_REMOVED: usize = 200_000;
/// A replica that is further behind than this makes no copies; less than the clocks may differ.
const MOST_LAG: Duration = Duration::from_secs(1);
/// Clocks of replicas may differ by this much, milliseconds.
const SKEW_MS: u64 = 5_000;

/// What was removed or changed of late, so that a copy of what it was is not served.
pub(super) struct Distrusted {
    state: Mutex<State>,
    /// Longest life of a copy, milliseconds.
    kept_ms: u64,
}

#[derive(Default)]
struct State {
    known: HashSet<EntryId>,
    order: VecDeque<(UnixMs, EntryId)>,
    /// Until then more was removed than is known.
    doubt_until: UnixMs,
}

impl Distrusted {
    /// Copies live for `longest` at most.
    pub(super) fn new(longest: Duration) -> Self {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Self { state: Mutex::default(), kept_ms: longest.saturating_add(2 * SKEW_MS) }
    }

    /// Notes that copies of the entry are not to be served.
    pub(super) fn note(&self, entry: EntryId, now: UnixMs) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.order.front().is_some_and(|(at, _)| at.saturating_add(self.kept_ms) < now) {
            if let Some((_, old)) = state.order.pop_front() {
                state.known.remove(&old);
            }
        }
        if state.order.len() >= MOST_REMOVED {
            state.doubt_until = now.saturating_add(self.kept_ms);
            return;
        }
        if state.known.insert(entry) {
            state.order.push_back((now, entry));
        }
    }

    /// Whether the entry was removed or changed of late.
    pub(super) fn knows(&self, entry: EntryId) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&entry)
    }

    /// Whether a copy of the entry may be served.
    fn allows(&self, entry: EntryId, now: UnixMs) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        now >= state.doubt_until && !state.known.contains(&entry)
    }
}

/// An entry without its body, in a copy. A copy of another form is not understood and so a miss.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Copied {
    id: String,
    tenant: String,
    partition: Digest,
    namespace: String,
    dialect: String,
    model: String,
    finish: String,
    completion_tokens: Option<u64>,
    token_limit: Option<u64>,
    writer: String,
    tags: Vec<(String, String)>,
    created_at: UnixMs,
    expires_at: UnixMs,
}

/// What to do about a prompt that no replica has an answer to.
pub enum Turn {
    /// Another replica has had the answer; here it is.
    Answered(Box<Hit>),
    /// Ask upstream. The guard, if there is one, keeps others waiting until it is dropped.
    Ask(Option<LeaseGuard>),
}

impl Cache {
    /// The answer to an equal request that another replica has stored a moment ago.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn exact_shared(&self, tenant: &TenantId, fingerprint: &Digest, ask: Ask) -> Result<Hit, Reason> {
        let Some(shared) = &self.shared else { return Err(Reason::NotStored) };
        let copy = shared.get(fingerprint).await.ok_or(Reason::NotStored)?;
        self.copied(tenant, fingerprint, &copy, ask)
    }

    /// Whose turn it is to ask upstream for this answer. Waits while another replica is at it, until `until` at most.
    pub async fn turn(&self, tenant: &TenantId, fingerprint: &Digest, ask: Ask, until: Instant) -> Turn {
        let Some(shared) = &self.shared else { return Turn::Ask(None) };
        match shared.lease(fingerprint).await {
            Lease::Held(guard) => return Turn::Ask(Some(guard)),
            Lease::Unavailable => return Turn::Ask(None),
            Lease::Taken => {}
        }
        let until = until.min(Instant::now() + self.lease_wait);
        if let Some(copy) = shared.await_holder(fingerprint, until).await
            && let Ok(hit) = self.copied(tenant, fingerprint, &copy, ask)
        {
            return Turn::Answered(Box::new(hit));
        }
        // The other has given up or is slow. Whoever of those who waited comes first asks next; the rest ask as well.
        match shared.lease(fingerprint).await {
            Lease::Held(guard) => Turn::Ask(Some(guard)),
            Lease::Taken | Lease::Unavailable => Turn::Ask(None),
        }
    }

    /// Gives other replicas a copy of a new answer.
    pub(super) fn share(&self, entry: &Entry, fingerprint: &Digest) {
        // What is sealed in the store does not lie in the clear anywhere else.
        let Some(shared) = self.shared.as_ref().filter(|_| self.residency.may_search(&entry.tenant)) else { return };
        // A replica that lags may not know that this has been invalidated; those that do could not tell from the copy.
        if self.standing().is_some_and(|standing| standing.lag(self.clock.now_ms()) > MOST_LAG) {
            return;
        }
        let left = Duration::from_millis(entry.expires_at.saturating_sub(self.clock.now_ms()));
        if let Some(copy) = copy_of(entry) {
            shared.put(*fingerprint, copy, left);
        }
    }

    /// Takes copies back and tells other replicas to look what has changed.
    pub(super) fn take_back(&self, fingerprints: &[Digest]) {
        let Some(shared) = &self.shared else { return };
        if !fingerprints.is_empty() {
            shared.forget(fingerprints.to_vec());
        }
        shared.wake();
    }

    /// Redis, if replicas share it.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    fn copied(&self, tenant: &TenantId, fingerprint: &Digest, copy: &Bytes, ask: Ask) -> Result<Hit, Reason> {
        let entry = entry_of(copy).ok_or(Reason::NotStored)?;
        let now = self.clock.now_ms();
        let lives = entry.tenant == *tenant && now < entry.expires_at && self.removed.allows(entry.id, now);
        if !lives || !self.is_informed() || self.may_be_invalidated(&entry) {
            return Err(Reason::NotStored);
        }
        let mut meta = meta_of(&entry, entry.body.len() as u64, &[]);
        meta.fingerprints = vec![*fingerprint];
        self.suits(&meta, ask)?;
        let body = body_of(Dialect::from_name(&entry.dialect), entry.body).ok_or(Reason::CacheFault)?;
        let body = Arc::new(body);
        // The entry itself comes through the order of changes; its body need not be read again then.
        self.shelf.keep_body(entry.id, Arc::clone(&body));
        Ok(Hit { meta: Arc::new(meta), body, tier: Tier::Exact, cosine: None })
    }

    /// Whether an invalidation of late may mean the entry, of whose points nothing is known.
    fn may_be_invalidated(&self, entry: &Entry) -> bool {
        self.invalidations
            .any_since(entry.created_at.saturating_sub(SKEW_MS), |selector| selector.may_mean(entry, entry.created_at))
    }
}

fn copy_of(entry: &Entry) -> Option<Bytes> {
    // A new field must be copied, too.
    let Entry {
        id,
        tenant,
        partition,
        namespace,
        dialect,
        model,
        body,
        finish,
        completion_tokens,
        token_limit,
        writer,
        tags,
        created_at,
        expires_at,
    } = entry;
    let copied = Copied {
        id: id.to_string(),
        tenant: tenant.as_str().to_owned(),
        partition: *partition,
        namespace: namespace.clone(),
        dialect: dialect.to_string(),
        model: model.clone(),
        finish: finish.to_string(),
        completion_tokens: *completion_tokens,
        token_limit: *token_limit,
        writer: writer.as_str().to_owned(),
        tags: tags.clone(),
        created_at: *created_at,
        expires_at: *expires_at,
    };
    let head = serde_json::to_vec(&copied).ok()?;
    let mut copy = BytesMut::with_capacity(4 + head.len() + body.len());
    copy.put_u32(u32::try_from(head.len()).ok()?);
    copy.put_slice(&head);
    copy.put_slice(body);
    Some(copy.freeze())
}

fn entry_of(copy: &Bytes) -> Option<Entry> {
    let (length, rest) = copy.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let copied: Copied = serde_json::from_slice(rest.get(..length)?).ok()?;
    Some(Entry {
        id: copied.id.parse().ok()?,
        tenant: TenantId::new(copied.tenant),
        partition: copied.partition,
        namespace: copied.namespace,
        dialect: copied.dialect.into(),
        model: copied.model,
        body: copy.slice(4 + length..),
        finish: copied.finish.into(),
        completion_tokens: copied.completion_tokens,
        token_limit: copied.token_limit,
        writer: KeyId::new(copied.writer),
        tags: copied.tags,
        created_at: copied.created_at,
        expires_at: copied.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_was_copied_and_a_cut_one_is_nothing() {
        let entry = crate::store::sample::entry("t", 3);
        let copy = copy_of(&entry).unwrap();
        assert_eq!(entry_of(&copy), Some(entry.clone()));
        let head = copy.len() - entry.body.len();
        assert!((0..head).all(|length| entry_of(&copy.slice(..length)).is_none()));
    }

    #[test]
    fn what_was_removed_is_remembered_for_as_long_as_a_copy_may_live() {
        let removed = Distrusted::new(Duration::from_secs(300));
        let (one, other) = (EntryId::at(1), EntryId::at(2));
        removed.note(one, 1_000);
        assert!(!removed.allows(one, 300_000) && removed.allows(other, 1_000));
        removed.note(other, 400_000);
        assert!(removed.allows(one, 400_000) && !removed.allows(other, 400_000));
    }

    #[test]
    fn with_more_removed_than_can_be_remembered_nothing_is_allowed_for_a_while() {
        let removed = Distrusted::new(Duration::from_secs(300));
        for _ in 0..=MOST_REMOVED {
            removed.note(EntryId::at(1), 1_000);
        }
        assert!(!removed.allows(EntryId::at(2), 300_000) && removed.allows(EntryId::at(2), 400_000));
    }
}
