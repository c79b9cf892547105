//! The shelf: which answers exist, which of them are in memory, and which key leads to which.
//!
//! The metadata of every live answer is resident; bodies are resident up to a budget and otherwise read from the store.
//! Both are bounded by `quick_cache` (S3-FIFO, which keeps what is asked for again): the metadata cache stands for the
//! whole cache, so what it evicts is deleted, the body cache only for memory.
//!
//! Invariant: a key that leads to an answer is removed with it, and an answer is handed out only to its own tenant.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::sync::Cache as Bounded;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::decide::Waivers;
use crate::clock::UnixMs;
use crate::config;
use crate::dialect::Replay;
use crate::ids::{EntryId, KeyId, PointId, TenantId};
use crate::store::Digest;

/// All about an answer but its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// Identity.
    pub id: EntryId,
    /// Owner.
    pub tenant: TenantId,
    /// `x-remora-namespace`.
    pub namespace: Arc<str>,
    /// Model asked for.
    pub model: Arc<str>,
    /// Wire format.
    pub dialect: &'static str,
    /// Keys of the exact tier that lead here.
    pub fingerprints: Vec<Digest>,
    /// Points that lead here.
    pub points: Vec<PointId>,
    /// Bytes of the answer, its prompts and vectors.
    pub bytes: u64,
    /// Bytes of the answer alone.
    pub body_bytes: u64,
    /// Tokens of the answer, if known.
    pub completion_tokens: Option<u64>,
    /// Token limit of the request that made it.
    pub token_limit: Option<u64>,
    /// Whose request made it.
    pub writer: KeyId,
    /// Different keys whose requests got this answer from upstream, up to eight; the first is `writer`.
    pub writers: Vec<KeyId>,
    /// Whether requests to this process made all of it since it started.
    pub own: bool,
    /// What its prompts have shown about the guards.
    pub waivers: Waivers,
    /// `x-remora-tags`.
    pub tags: Vec<(String, String)>,
    /// When it was made.
    pub created_at: UnixMs,
    /// From when on it is never served.
    pub expires_at: UnixMs,
}

/// Writers that are told apart; two are enough to vouch for an answer.
pub(super) const MOST_WRITERS: usize = 8;

/// A body in memory.
#[derive(Debug)]
pub enum Body {
    /// A completion, ready to be replayed as JSON or as a stream.
    Completion(Replay),
    /// One item of an embeddings answer.
    Item(Bytes),
}

impl Body {
    fn bytes(&self) -> u64 {
        match self {
            Self::Completion(replay) => replay.body().len() as u64,
            Self::Item(bytes) => bytes.len() as u64,
        }
    }
}

/// Collects what is evicted, so that it is dealt with outside the cache's lock.
#[derive(Clone)]
struct Collect;

impl Lifecycle<EntryId, Arc<Meta>> for Collect {
    type RequestState = Vec<Arc<Meta>>;

    fn on_evict(&self, evicted: &mut Vec<Arc<Meta>>, _: EntryId, meta: Arc<Meta>) {
        evicted.push(meta);
    }
}

/// Weight of an answer: its bytes, but at least its share of the room, so that one capacity bounds both the bytes and
/// the number.
#[derive(Clone)]
struct Share {
    least: u64,
}

impl Weighter<EntryId, Arc<Meta>> for Share {
    fn weight(&self, _: &EntryId, meta: &Arc<Meta>) -> u64 {
        meta.bytes.max(self.least)
    }
}

#[derive(Clone)]
struct Size;

impl Weighter<EntryId, Arc<Body>> for Size {
    fn weight(&self, _: &EntryId, body: &Arc<Body>) -> u64 {
        body.bytes() + 128
    }
}

/// Keys are keyed hashes already; their first bytes serve as the table's hash.
#[derive(Default)]
pub(super) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

/// A map from digests.
pub(super) type ByDigest<V> = HashMap<Digest, V, BuildHasherDefault<FirstBytes>>;

/// Puts an answer into the same shard in every process. Were it another after each start, a full cache would lose some
/// answers with each, those that their new shard has no room for. Nobody outside can choose ids, so no seed is needed.
type Steady = BuildHasherDefault<DefaultHasher>;

/// See the module.
pub(super) struct Shelf {
    metas: Bounded<EntryId, Arc<Meta>, Share, Steady, Collect>,
    bodies: Bounded<EntryId, Arc<Body>, Size>,
    keys: RwLock<ByDigest<EntryId>>,
    /// Least weight of an answer.
    least: u64,
}

impl Shelf {
    /// An empty shelf with the size caps of the configuration.
    pub(super) fn new(settings: &config::Cache) -> Self {
        let least = (settings.max_bytes / (settings.max_entries.max(1) as u64)).max(1);
        // Each shard has its part of the capacity: few entries want one shard, or a part would hold none.
        let shards = if settings.max_entries < 10_000 { 1 } else { 8 };
        let options = |weight| {
            let mut builder = OptionsBuilder::new();
            builder.estimated_items_capacity(settings.max_entries.min(1_024)).weight_capacity(weight).shards(shards);
            builder.build()
        };
        let (capacity, weighter) = (settings.max_bytes, Share { least });
        let metas = match options(capacity) {
            Ok(options) => Bounded::with_options(options, weighter, Steady::default(), Collect),
            Err(_) => Bounded::with(1_024, capacity, weighter, Steady::default(), Collect),
        };
        let bodies = Bounded::with_weighter(1_024, settings.memory_bytes, Size);
        Self { metas, bodies, keys: RwLock::default(), least }
    }

    /// The answer that `fingerprint` leads to, if it belongs to `tenant` and has not expired.
    pub(super) fn find(&self, tenant: &TenantId, fingerprint: &Digest, now: UnixMs) -> Option<Arc<Meta>> {
        let id = *self.keys.read().unwrap_or_else(PoisonError::into_inner).get(fingerprint)?;
        self.get(tenant, id, now)
    }

    /// The answer, if it belongs to `tenant` and has not expired. Counts as a use.
    pub(super) fn get(&self, tenant: &TenantId, id: EntryId, now: UnixMs) -> Option<Arc<Meta>> {
        self.metas.get(&id).filter(|meta| meta.tenant == *tenant && now < meta.expires_at)
    }

    /// The body, if it is in memory.
    pub(super) fn body(&self, id: EntryId) -> Option<Arc<Body>> {
        self.bodies.get(&id)
    }

    /// Keeps a body in memory.
    pub(super) fn keep_body(&self, id: EntryId, body: Arc<Body>) {
        self.bodies.insert(id, body);
    }

    /// Adds an answer. Returns those that have to go: evicted for room, or no longer reachable because the new one has
    /// taken their keys. The caller must [`Shelf::forget`] nothing of them here, but drop their points and stored rows.
    pub(super) fn put(&self, meta: Meta) -> Vec<Arc<Meta>> {
        let meta = Arc::new(meta);
        let mut gone = Vec::new();
        self.metas.insert_with_lifecycle(meta.id, Arc::clone(&meta), &mut gone);
        let replaced: Vec<EntryId> = {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            meta.fingerprints.iter().filter_map(|key| keys.insert(*key, meta.id)).collect()
        };
        for old in replaced.into_iter().filter(|old| *old != meta.id) {
            if let Some((_, old)) = self.metas.remove(&old) {
                gone.push(old);
            }
        }
        gone.iter().for_each(|old| self.unkey(old));
        gone
    }

    /// Adds an answer that was stored elsewhere. Of two answers with a key in common the later one has it, wherever each of
    /// them comes from, so that all replicas keep the same one. Returns those that have to go, as [`Shelf::put`] does.
    pub(super) fn join(&self, meta: Meta) -> Vec<Arc<Meta>> {
        let meta = Arc::new(meta);
        let mut gone = Vec::new();
        self.metas.insert_with_lifecycle(meta.id, Arc::clone(&meta), &mut gone);
        let mut robbed = Vec::new();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for key in &meta.fingerprints {
            match keys.get(key) {
                Some(other) if *other > meta.id => {}
                Some(other) => {
                    robbed.push(*other);
                    keys.insert(*key, meta.id);
                }
                None => {
                    keys.insert(*key, meta.id);
                }
            }
        }
        let keyless = |id: EntryId| {
            let left =
                self.metas.peek(&id).filter(|meta| !meta.fingerprints.iter().any(|key| keys.get(key) == Some(&id)));
            left.is_some()
        };
        robbed.push(meta.id);
        robbed.retain(|id| keyless(*id));
        drop(keys);
        for id in robbed {
            if let Some((_, meta)) = self.metas.remove(&id) {
                gone.push(meta);
            }
        }
        gone.iter().for_each(|old| self.unkey(old));
        gone
    }

    /// Takes an answer out. `None` if it is not there or belongs to another tenant.
    pub(super) fn forget(&self, tenant: &TenantId, id: EntryId) -> Option<Arc<Meta>> {
        let (_, meta) = self.metas.remove_if(&id, |meta| meta.tenant == *tenant)?;
        self.unkey(&meta);
        Some(meta)
    }

    /// Puts a changed answer in the place of the one of the same id, with the keys that it has now. Nothing is changed if
    /// there is none, or `change` makes nothing of it. Also returns those that have to go to make room.
    pub(super) fn change(
        &self,
        tenant: &TenantId,
        id: EntryId,
        change: impl FnOnce(&Meta) -> Option<Meta>,
    ) -> Option<(Arc<Meta>, Vec<Arc<Meta>>)> {
        let old = self.metas.get(&id).filter(|meta| meta.tenant == *tenant)?;
        let new = Arc::new(change(&old)?);
        // Only in the place of another: what was taken out meanwhile must not come back.
        let mut gone = Vec::new();
        self.metas.replace_with_lifecycle(id, Arc::clone(&new), true, &mut gone).ok()?;
        gone.retain(|evicted| evicted.id != id);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for key in old.fingerprints.iter().filter(|key| !new.fingerprints.contains(key)) {
            if keys.get(key) == Some(&id) {
                keys.remove(key);
            }
        }
        keys.extend(new.fingerprints.iter().map(|key| (*key, id)));
        drop(keys);
        gone.iter().for_each(|old| self.unkey(old));
        Some((new, gone))
    }

    /// All answers for which `wanted` holds, oldest first.
    pub(super) fn select(&self, wanted: impl Fn(&Meta) -> bool) -> Vec<Arc<Meta>> {
        let mut found: Vec<_> = self.metas.iter().map(|(_, meta)| meta).filter(|meta| wanted(meta)).collect();
        found.sort_unstable_by_key(|meta| meta.id);
        found
    }

    /// Takes an answer out, whoever owns it.
    pub(super) fn take(&self, id: EntryId) -> Option<Arc<Meta>> {
        let (_, meta) = self.metas.remove(&id)?;
        self.unkey(&meta);
        Some(meta)
    }

    /// Whether the answer is there. Does not count as a use.
    pub(super) fn has(&self, id: EntryId) -> bool {
        self.metas.contains_key(&id)
    }

    /// What an answer of this many bytes takes of the capacity.
    pub(super) fn weight_of(&self, bytes: u64) -> u64 {
        bytes.max(self.least)
    }

    /// Room in all.
    pub(super) fn capacity(&self) -> u64 {
        self.metas.capacity()
    }

    /// Part of the room that is taken, 0–1.
    pub(super) fn fullness(&self) -> f64 {
        self.metas.weight() as f64 / self.metas.capacity().max(1) as f64
    }

    /// Number of answers and their bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        (self.metas.len(), self.metas.iter().map(|(_, meta)| meta.bytes).sum())
    }

    /// Number of bodies in memory and their bytes.
    pub(super) fn resident(&self) -> (usize, u64) {
        (self.bodies.len(), self.bodies.weight())
    }

    fn unkey(&self, meta: &Meta) {
        self.bodies.remove(&meta.id);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for key in &meta.fingerprints {
            if keys.get(key) == Some(&meta.id) {
                keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};
    use crate::ids::KeyId;

    fn shelf() -> Shelf {
        let mut settings = Config::load(None, std::iter::empty(), &Overrides::default()).unwrap().cache;
        settings.max_entries = 10_000;
        Shelf::new(&settings)
    }

    fn answer(n: u64) -> Meta {
        let fingerprint = *blake3::hash(&n.to_le_bytes()).as_bytes();
        let mut id = [0; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        Meta {
            id: EntryId::from_bytes(id),
            tenant: TenantId::new("t"),
            namespace: "".into(),
            model: "m".into(),
            dialect: "chat",
            fingerprints: [fingerprint].into_iter().collect(),
            points: Vec::new().into_iter().collect(),
            bytes: 1_000,
            body_bytes: 500,
            completion_tokens: None,
            token_limit: None,
            writer: KeyId::new("k"),
            writers: Vec::new(),
            own: true,
            waivers: Waivers::default(),
            tags: Vec::new(),
            created_at: 0,
            expires_at: UnixMs::MAX,
        }
    }

    #[test]
    fn of_two_answers_with_one_key_the_later_stays_in_whatever_order_they_come() {
        let (earlier, later) = (answer(1), Meta { fingerprints: answer(1).fingerprints, ..answer(2) });
        let key = later.fingerprints[0];
        for order in [[&earlier, &later], [&later, &earlier]] {
            let shelf = shelf();
            let gone: Vec<EntryId> =
                order.iter().flat_map(|meta| shelf.join(Meta::clone(meta))).map(|meta| meta.id).collect();
            assert_eq!(gone, [earlier.id]);
            assert_eq!(shelf.find(&later.tenant, &key, 0).map(|meta| meta.id), Some(later.id));
            assert_eq!(shelf.size().0, 1);
        }
    }

    #[test]
    fn an_answer_that_loses_one_of_its_keys_keeps_the_others() {
        let shelf = shelf();
        let group = Meta { fingerprints: vec![answer(1).fingerprints[0], answer(3).fingerprints[0]], ..answer(1) };
        let later = Meta { fingerprints: answer(1).fingerprints, ..answer(2) };
        assert!(shelf.join(group.clone()).is_empty() && shelf.join(later.clone()).is_empty());
        assert_eq!(shelf.find(&group.tenant, &group.fingerprints[1], 0).map(|meta| meta.id), Some(group.id));
        assert_eq!(shelf.find(&group.tenant, &group.fingerprints[0], 0).map(|meta| meta.id), Some(later.id));
    }

    #[test]
    fn a_full_shelf_loses_nothing_when_it_is_loaded_again() {
        let full = shelf();
        let evicted: usize = (0..20_000).map(|n| full.put(answer(n)).len()).sum();
        let kept = full.select(|_| true);
        assert_eq!((evicted + kept.len(), kept.len() > 9_500, kept.len() <= 10_000), (20_000, true, true));
        let again = shelf();
        let lost: usize = kept.iter().map(|meta| again.put(Meta::clone(meta)).len()).sum();
        assert_eq!((lost, again.size().0), (0, kept.len()));
    }
}
