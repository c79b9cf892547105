//! What each key puts into the cache, and how it asks: insert rate, share of the room, and probing.
//!
//! Against a caller who would fill the cache, push others out of it, or feel for the threshold by asking many questions
//! that are nearly somebody else's. All counts are in memory and begin anew with the program.
//!
//! It must never refuse a request: what is over a limit here is served and not stored, or told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::Cache;
use super::considered::Considered;
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId};

const MINUTE_MS: u64 = 60_000;
/// Span over which near misses are counted.
const PROBE_MS: u64 = 10 * MINUTE_MS;
/// Keys that are watched; beyond it those that have been quiet longest are forgotten.
const KEYS: usize = 10_000;
/// Part of the cache that must be taken before shares are looked at.
const FULL: f64 = 0.9;
/// Cosine from which a miss is a near one.
const NEAR: f32 = 0.75;

/// See the module.
#[derive(Default)]
pub(super) struct Writers {
    rates: Mutex<HashMap<KeyId, (UnixMs, u32)>>,
    shares: Mutex<HashMap<KeyId, Held>>,
    probes: Mutex<HashMap<KeyId, Probes>>,
    per_minute: u32,
    probe_alarm: u32,
}

/// What a key has stored, oldest first.
#[derive(Default)]
struct Held {
    entries: VecDeque<(EntryId, u64)>,
    bytes: u64,
}

/// Near misses of a key.
#[derive(Default)]
struct Probes {
    since: UnixMs,
    prompts: HashSet<u64>,
    alarmed: bool,
}

/// A key that seems to feel for the threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probing {
    /// The key.
    pub key: KeyId,
    /// When the count began.
    pub since: UnixMs,
    /// Different prompts that were nearly hits.
    pub near_misses: usize,
}

impl Writers {
    pub(super) fn new(per_minute: u32, probe_alarm: u32) -> Self {
        Self { per_minute, probe_alarm, ..Self::default() }
    }

    /// Whether the key may store one more answer this minute.
    pub(super) fn may_write(&self, key: &KeyId, now: UnixMs) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= KEYS {
            rates.retain(|_, (since, _)| since.saturating_add(MINUTE_MS) > now);
        }
        let (since, count) = rates.entry(key.clone()).or_insert((now, 0));
        if since.saturating_add(MINUTE_MS) <= now {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= self.per_minute
    }

    /// The key has stored an answer; returns its oldest ones that are beyond `most` bytes.
    fn stored(&self, key: &KeyId, entry: EntryId, bytes: u64, most: Option<u64>) -> Vec<EntryId> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let held = shares.entry(key.clone()).or_default();
        held.entries.push_back((entry, bytes));
        held.bytes = held.bytes.saturating_add(bytes);
        let mut beyond = Vec::new();
        while most.is_some_and(|most| held.bytes > most) && held.entries.len() > 1 {
            if let Some((oldest, bytes)) = held.entries.pop_front() {
                held.bytes = held.bytes.saturating_sub(bytes);
                beyond.push(oldest);
            }
        }
        beyond
    }

    /// Forgets entries that are not there any more.
    fn tidy(&self, is_there: impl Fn(EntryId) -> bool) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        for held in shares.values_mut() {
            held.entries.retain(|(entry, _)| is_there(*entry));
            held.bytes = held.entries.iter().map(|(_, bytes)| bytes).sum();
        }
        shares.retain(|_, held| !held.entries.is_empty());
    }

    fn keys(&self) -> usize {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Counts a near miss; true when it is the one that raises the alarm.
    fn near_miss(&self, key: &KeyId, prompt: u64, now: UnixMs) -> bool {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.len() >= KEYS {
            probes.retain(|_, probes| probes.since.saturating_add(PROBE_MS) > now);
        }
        let own = probes.entry(key.clone()).or_default();
        if own.since.saturating_add(PROBE_MS) <= now {
            *own = Probes { since: now, ..Probes::default() };
        }
        let alarm = self.probe_alarm as usize;
        if own.prompts.len() < alarm {
            own.prompts.insert(prompt);
        }
        let raised = !own.alarmed && own.prompts.len() >= alarm;
        own.alarmed |= raised;
        raised
    }

    fn probing(&self, now: UnixMs) -> Vec<Probing> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let current = probes.iter().filter(|(_, p)| p.alarmed && p.since.saturating_add(PROBE_MS) > now);
        let mut found: Vec<Probing> = current
            .map(|(key, p)| Probing { key: key.clone(), since: p.since, near_misses: p.prompts.len() })
            .collect();
        found.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        found
    }
}

impl Cache {
    /// Takes back what a key holds beyond its share, once the cache is full and others want room too.
    pub(super) fn hold_to_share(&self, key: &KeyId, entry: EntryId, bytes: u64) {
        let share = self.settings.writer_share;
        let most = (share < 1.0 && self.writers.keys() > 1 && self.shelf.fullness() >= FULL).then(|| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a size")]
            let most = (self.shelf.capacity() as f64 * share) as u64;
            most
        });
        let weight = self.shelf.weight_of(bytes);
        let beyond = self.writers.stored(key, entry, weight, most);
        let gone: Vec<_> = beyond.into_iter().filter_map(|entry| self.shelf.take(entry)).collect();
        self.drop_all(&gone);
    }

    /// Forgets what the counts of stored bytes still hold of answers that have gone.
    pub(super) fn tidy_writers(&self) {
        self.writers.tidy(|entry| self.shelf.has(entry));
    }

    /// Counts an answer that was read from the store at start.
    pub(super) fn count_loaded(&self, key: &KeyId, entry: EntryId, bytes: u64) {
        self.writers.stored(key, entry, self.shelf.weight_of(bytes), None);
    }

    /// Watches for a key that asks many questions that are nearly stored ones.
    pub(super) fn watch_probes(&self, considered: &Considered) {
        let near = considered.chosen().is_some_and(|chosen| chosen.cosine >= NEAR);
        if !near || considered.would_serve() {
            return;
        }
        let hash = blake3::hash(considered.text.as_bytes());
        let prompt = hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if self.writers.near_miss(&considered.key, prompt, self.clock.now_ms()) {
            self.metrics.learning.probe_alarms.inc();
            tracing::warn!(
                tenant = %considered.tenant,
                key = %considered.key,
                near_misses = self.settings.probe_alarm,
                minutes = PROBE_MS / MINUTE_MS,
                "this key asks many different questions that come near stored ones and miss: it may be probing the cache"
            );
        }
    }

    /// Keys that are under suspicion now.
    pub fn probing(&self) -> Vec<Probing> {
        self.writers.probing(self.clock.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stores_no_more_than_its_rate_and_others_are_not_held_back() {
        let writers = Writers::new(3, 10);
        let (a, b) = (KeyId::new("t/a"), KeyId::new("t/b"));
        let written = |key, now| (0..10).filter(|_| writers.may_write(key, now)).count();
        assert_eq!((written(&a, 1_000), written(&b, 1_000)), (3, 3));
        assert_eq!((written(&a, 60_999), written(&a, 61_000)), (0, 3));
    }

    #[test]
    fn a_key_beyond_its_share_loses_its_own_oldest() {
        let writers = Writers::new(1, 1);
        let key = KeyId::new("t/a");
        let entries: Vec<EntryId> = (0..5).map(EntryId::at).collect();
        let beyond: Vec<_> = entries.iter().map(|entry| writers.stored(&key, *entry, 10, Some(25))).collect();
        assert_eq!(beyond, [vec![], vec![], vec![entries[0]], vec![entries[1]], vec![entries[2]]]);
        writers.tidy(|entry| entry == entries[4]);
        assert!(writers.stored(&key, entries[0], 10, Some(25)).is_empty(), "what has gone does not count");
    }

    #[test]
    fn many_different_near_misses_raise_one_alarm_in_a_span() {
        let writers = Writers::new(1, 5);
        let key = KeyId::new("t/a");
        assert!((0..100).all(|_| !writers.near_miss(&key, 7, 1)), "the same question again is no probing");
        let alarms: Vec<bool> = (0..20).map(|n| writers.near_miss(&key, n, 2)).collect();
        assert_eq!(alarms.iter().filter(|alarm| **alarm).count(), 1);
        assert_eq!(writers.probing(3), [Probing { key: key.clone(), since: 0, near_misses: 5 }]);
        assert!(writers.probing(PROBE_MS + 1).is_empty());
        assert!(!writers.near_miss(&key, 1, PROBE_MS + 5));
    }
}
