//! What a database that several replicas share offers besides the storage traits: the order of all changes to entries,
//! and searches for what a replica does not hold in memory.
//!
//! Sequence numbers have no gaps and are in the order of the commits: a reader that has seen number n has seen all
//! changes up to n. A wake-up says that there may be something to read and carries nothing.

use super::{BoxFuture, Digest, EntryMeta, Loaded, Point};
use crate::clock::UnixMs;
use crate::ids::{EntryId, PointId, TenantId};

/// A place in the order of all changes; 0 is before the first.
pub type Seq = u64;

/// One change that other replicas must learn of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place.
    pub seq: Seq,
    /// When it was made.
    pub at: UnixMs,
    /// Whether this replica made it and has nothing to learn from it.
    pub own: bool,
    /// What it was.
    pub what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An entry or its points came, changed or went. What they are now is in the store: a change carries no state, so
    /// that one that is read late cannot bring back what is gone.
    Entry {
        /// Owner.
        tenant: TenantId,
        /// The entry.
        entry: EntryId,
    },
    /// Entries were invalidated; answers under way elsewhere must be compared with it.
    Invalidated {
        /// When.
        at: UnixMs,
        /// The filter, as JSON in the form of whoever invalidates.
        filter: String,
    },
}

/// A part of the order of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// Changes after the one asked for, in order, as many as asked for at most.
    pub changes: Vec<Change>,
    /// The oldest change that is still kept; `head + 1` if none is. A reader whose next number is below it has a gap and
    /// must load everything anew.
    pub oldest: Seq,
    /// The newest change.
    pub head: Seq,
}

/// The order of all changes to entries in a store that several replicas share.
pub trait ChangeStore: Send + Sync {
    /// Up to `limit` changes after `after`.
    fn feed(&self, after: Seq, limit: u32) -> BoxFuture<'_, Feed>;

    /// The place before the first kept change that was made at `at` or later; the newest if there is none.
    fn before(&self, at: UnixMs) -> BoxFuture<'_, Seq>;

    /// Resolves when the database says that something may have changed since the last call, and fails when it cannot be
    /// waited for. It may resolve for nothing.
    fn changed(&self) -> BoxFuture<'_, ()>;

    /// Says how far this replica has read. Puts, added points, links and merges are refused with [`super::StoreError::Behind`] while an
    /// invalidation lies beyond it, so that nothing is stored that the invalidation means.
    fn obeyed(&self, seq: Seq);

    /// Says which entries and points an invalidation that is being obeyed means, or may mean. Of these nothing is stored any
    /// more that is still on its way, whatever becomes of this replica. To be called before [`Self::obeyed`].
    fn withdraw(&self, entries: &[EntryId], points: &[PointId]);

    /// Deletes up to `limit` changes made before `before`, the oldest first; returns how many.
    fn forget_changes(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64>;
}

/// The points of one partition in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// Owner.
    pub tenant: TenantId,
    /// The partition.
    pub partition: Digest,
    /// Live points, those without a vector included.
    pub points: u64,
    /// When the newest of its points was made.
    pub newest: UnixMs,
}

/// A stored point near a query.
#[derive(Clone, Debug, PartialEq)]
pub struct NearPoint {
    /// The point; its vector may be left out.
    pub point: Point,
    /// Cosine between its vector and the query, -1 to 1.
    pub cosine: f32,
    /// The entry it leads to, which has not expired.
    pub meta: EntryMeta,
}

/// How vectors are compared in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Through the vector index where the partition is large, else exact.
    Fast,
    /// Every vector of the partition.
    Exact,
}

/// Searches in the store, for partitions that a replica does not hold in memory.
pub trait SearchStore: Send + Sync {
    /// Whether the vectors of this tenant can be searched here; if not, [`Self::nearest`] finds nothing of it, and its
    /// partitions must be in memory.
    fn searches(&self, tenant: &TenantId) -> bool {
        let _ = tenant;
        true
    }

    /// Every partition with entries that expire after `now`, the one with the newest point first.
    fn partitions(&self, now: UnixMs) -> BoxFuture<'_, Vec<PartitionSize>>;

    /// Up to `limit` entries with points in a partition that expire after `now`, by id, after the entry `after`.
    fn scan_partition<'a>(
        &'a self,
        tenant: &'a TenantId,
        partition: &'a Digest,
        now: UnixMs,
        after: Option<EntryId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Loaded>>;

    /// The live entry with a point of this fingerprint; the newest if there are several.
    fn by_fingerprint<'a>(
        &'a self,
        tenant: &'a TenantId,
        fingerprint: &'a Digest,
        now: UnixMs,
    ) -> BoxFuture<'a, Option<Loaded>>;

    /// The `k` points of one partition and embedding space that are nearest to `query` (unit norm), best first, whose
    /// entries expire after `now`.
    fn nearest<'a>(&'a self, question: &'a Question<'a>) -> BoxFuture<'a, Vec<NearPoint>>;
}

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Owner.
    pub tenant: &'a TenantId,
    /// Where.
    pub partition: &'a Digest,
    /// Embedding space of `query`, as in [`Point::space`].
    pub space: &'a str,
    /// Unit norm.
    pub query: &'a [f32],
    /// How many.
    pub k: u32,
    /// Entries that have expired by now do not count.
    pub now: UnixMs,
    /// How.
    pub how: Search,
}
