//! Answers that were made here and are not yet known to be in the store that replicas share.
//!
//! An invalidation of another replica is compared with them too: one may have left memory while it waited, or its prompt may
//! have joined another answer, and would be stored all the same.
//!
//! Bounded: the oldest go first, for they are the first to be stored.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::commit::Committed;
use crate::ids::EntryId;

/// Answers kept: as many as wait in the queue and in a batch, and some.
const MOST: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(super) struct Pending(Mutex<State>);

#[derive(Default)]
struct State {
    known: HashMap<EntryId, Committed>,
    order: VecDeque<EntryId>,
}

impl Pending {
    /// Takes one in. To be called before it is queued.
    pub(super) fn note(&self, committed: &Committed) {
        let mut state = self.lock();
        let id = committed.entry.id;
        state.known.insert(id, committed.clone());
        state.order.push_back(id);
        while let Some(oldest) = state.order.front().copied() {
            if state.known.contains_key(&oldest) {
                if state.order.len() <= MOST {
                    break;
                }
                state.known.remove(&oldest);
            }
            state.order.pop_front();
        }
    }

    /// The store has it.
    pub(super) fn arrived(&self, entry: EntryId) {
        self.lock().known.remove(&entry);
    }

    /// Takes out those of which `meant` holds.
    pub(super) fn take(&self, meant: impl Fn(&Committed) -> bool) -> Vec<Committed> {
        self.lock().known.extract_if(|_, committed| meant(committed)).map(|(_, committed)| committed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::sample;

    fn committed(number: u64) -> Committed {
        let point = sample::point("t", number, number);
        Committed { entry: Arc::new(sample::entry("t", number)), point: Arc::new(point) }
    }

    #[test]
    fn what_has_arrived_or_was_taken_is_there_no_more_and_the_oldest_go_first() {
        let pending = Pending::default();
        let ids = |all: Vec<Committed>| all.into_iter().map(|one| one.entry.id).collect::<Vec<_>>();
        for number in 1..=3 {
            pending.note(&committed(number));
        }
        pending.arrived(committed(2).entry.id);
        assert_eq!(ids(pending.take(|one| one.entry.id == committed(3).entry.id)), [committed(3).entry.id]);
        assert_eq!(ids(pending.take(|_| true)), [committed(1).entry.id]);
        pending.note(&committed(4));
        let many = committed(0);
        for _ in 0..MOST {
            let entry = crate::store::Entry { id: EntryId::at(7), ..(*many.entry).clone() };
            pending.note(&Committed { entry: Arc::new(entry), ..many.clone() });
        }
        let left = pending.take(|_| true);
        assert_eq!(left.len(), MOST);
        assert!(!ids(left).contains(&committed(4).entry.id));
        assert!(pending.lock().order.len() <= MOST);
    }
}
