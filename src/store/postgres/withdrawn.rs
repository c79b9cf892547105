//! What this replica has taken out because an invalidation of another means it, although it may not be stored yet.
//!
//! Without this, an answer that waits to be stored would be stored and deleted by the next batch; were the replica killed
//! between the two, it would stay for all. Bounded: what was noted first is forgotten first, and is in the store or
//! refused long before.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::EntryWrite;
use crate::ids::{EntryId, PointId};

/// Ids kept; more than writes can wait in a queue.
const MOST: usize = 400_000;

/// See the module.
#[derive(Default)]
pub(super) struct Withdrawn(Mutex<Ids>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Id {
    Entry(EntryId),
    Point(PointId),
}

#[derive(Default)]
struct Ids {
    known: HashSet<Id>,
    order: VecDeque<Id>,
}

impl Withdrawn {
    pub(super) fn add(&self, entries: &[EntryId], points: &[PointId]) {
        let mut ids = self.lock();
        let entries = entries.iter().copied().map(Id::Entry);
        for id in entries.chain(points.iter().copied().map(Id::Point)) {
            if ids.known.insert(id) {
                ids.order.push_back(id);
            }
            if ids.order.len() > MOST
                && let Some(oldest) = ids.order.pop_front()
            {
                ids.known.remove(&oldest);
            }
        }
    }

    /// For each of the writes whether it would store something that was withdrawn. A prompt that has joined another answer
    /// is withdrawn with that one, and then what it came with is not stored either.
    pub(super) fn among(&self, writes: &[EntryWrite]) -> Vec<bool> {
        let ids = self.lock();
        if ids.known.is_empty() {
            return vec![false; writes.len()];
        }
        let entry = |id| ids.known.contains(&Id::Entry(id));
        let point = |id| ids.known.contains(&Id::Point(id));
        let stores = |write: &EntryWrite| match write {
            EntryWrite::Put { entry: put, points } => entry(put.id) || points.iter().any(|added| point(added.id)),
            EntryWrite::AddPoint(added) => entry(added.entry) || point(added.id),
            EntryWrite::Link { point: moved, from, to, .. } => entry(*from) || entry(*to) || point(*moved),
            EntryWrite::Merge { from, to, .. } => entry(*from) || entry(*to),
            EntryWrite::Delete { .. } | EntryWrite::DropPoint { .. } | EntryWrite::Invalidated { .. } => false,
        };
        writes.iter().map(stores).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let withdrawn = Withdrawn::default();
        let put =
            |number| EntryWrite::Put { entry: crate::store::sample::entry("t", number).into(), points: Vec::new() };
        let ids = |writes: &[EntryWrite]| -> Vec<EntryId> {
            writes
                .iter()
                .filter_map(|write| if let EntryWrite::Put { entry, .. } = write { Some(entry.id) } else { None })
                .collect()
        };
        let writes = [put(1), put(2), put(3)];
        withdrawn.add(&ids(&writes[..2]), &[]);
        assert_eq!(withdrawn.among(&writes), [true, true, false]);
        let many: Vec<_> = (0..MOST).map(|_| PointId::at(7)).collect();
        withdrawn.add(&[], &many[1..]);
        assert_eq!(withdrawn.among(&writes), [false, true, false]);
        withdrawn.add(&[], &many[..1]);
        assert_eq!(withdrawn.among(&writes), [false; 3]);
    }
}
