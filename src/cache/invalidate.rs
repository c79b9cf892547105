//! Taking answers out: which ones, how many, and then so that none of them comes back.
//!
//! Stands beside the life of a request, on the admin plane. In this order, so that it holds at any moment of a crash:
//!
//! ```text
//! enter   answers under way that are meant will not be stored              epoch
//! select  what is on the shelf
//! forget  from now on none of it is served, from any tier
//! flush   what is queued is written, or it would come back later
//! strays  what is meant and only in the store
//! record  deletes and the audit row, in one transaction
//! again   what others stored between strays and record, with an audit row of its own
//! ```
//!
//! Invariants: a dry run selects by the same code; there is never a removal from the store without its audit row. It
//! must never run on the request path: a selection may visit every entry, vector and body.

mod epoch;
mod filter;
mod strays;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinError;

pub use self::epoch::Epoch;
pub(super) use self::epoch::{Admission, Invalidations};
pub(super) use self::filter::Facts;
pub use self::filter::{DEFAULT_RADIUS, Filter, Near, Selector};
use super::outcome::Reason;
use super::shelf::{Body, Meta};
use super::{Cache, Points};
use crate::clock::UnixMs;
use crate::embed::EmbedError;
use crate::ids::{AuditId, EntryId, PointId, TenantId};
use crate::store::{AuditRow, AuditStore, Digest, Entry, EntryWrite, Point, StoreError};

/// Longest wait for queued writes.
const FLUSH: Duration = Duration::from_secs(5);
/// Tries to embed a subject. A request cannot wait; an invalidation can.
const EMBED_TRIES: usize = 3;

/// An entry that is meant.
#[derive(Debug, Clone)]
pub struct Selected {
    /// All about it but its body.
    pub meta: Arc<Meta>,
    /// Best cosine among its prompts that are meant, where the filter is `near` something.
    pub cosine: Option<f32>,
}

/// What a filter means now.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The entries: the nearest first where the filter is `near` something, else the oldest first.
    pub entries: Vec<Selected>,
    /// Stored prompts that lead to them.
    pub points: usize,
    /// Bytes of answers, prompts and vectors.
    pub bytes: u64,
    /// When it was made.
    pub at: UnixMs,
}

impl Selection {
    fn of(mut entries: Vec<Selected>, at: UnixMs) -> Self {
        entries.sort_by(|a, b| {
            let nearest = b.cosine.unwrap_or(0.0).total_cmp(&a.cosine.unwrap_or(0.0));
            nearest.then(a.meta.id.cmp(&b.meta.id))
        });
        let points = entries.iter().map(|selected| selected.meta.fingerprints.len()).sum();
        let bytes = entries.iter().map(|selected| selected.meta.bytes).sum();
        Self { entries, points, bytes, at }
    }

    /// Stands for exactly these entries: equal for two selections if and only if (to a hash) they are.
    pub fn plan(&self) -> String {
        let mut keys: Vec<_> = self.entries.iter().map(|s| (s.meta.id, s.meta.tenant.as_str())).collect();
        keys.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for (id, tenant) in keys {
            hasher.update(&id.to_bytes()).update(&(tenant.len() as u64).to_le_bytes()).update(tenant.as_bytes());
        }
        hasher.finalize().to_hex().chars().take(32).collect()
    }
}

/// What is to be removed, on what conditions, and what the audit will say about it.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is meant.
    pub selector: Arc<Selector>,
    /// Plan of the dry run; whether it still holds is told.
    pub expect: Option<String>,
    /// Number of entries of the dry run; if it has changed, nothing is removed.
    pub expect_count: Option<usize>,
    /// Kind of change, as in `cache.invalidate`.
    pub action: &'static str,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// The filter as it was given, JSON.
    pub what: String,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The audit row.
    pub audit: AuditId,
    /// Entries that could have been served.
    pub entries: usize,
    /// Stored prompts that led to them.
    pub points: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were in the store only, and could have been served after a restart: evicted or expired ones.
    pub strays: usize,
    /// Whether the selection was that of `expect`, if one was given.
    pub as_planned: Option<bool>,
}

/// Why nothing can be selected, or not all be removed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidateError {
    /// The store failed while answers were looked at; nothing was removed.
    #[error("answers cannot be read: {0}")]
    Unread(#[source] StoreError),
    /// The store failed. Nothing is recorded; what was found is no longer served but may come back with a restart.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache is still being loaded; nothing was removed.
    #[error("the cache is still being loaded: nothing was removed; try again once /readyz says so")]
    Loading,
    /// The task that selects ended early; nothing was removed.
    #[error("the selection was interrupted: {0}")]
    Interrupted(#[from] JoinError),
    /// The selection is not that of the dry run; nothing was removed.
    #[error("{found} entries are selected now, {expected} were expected: nothing was removed; look at a dry run again")]
    Changed {
        /// Entries of the dry run.
        expected: usize,
        /// Entries now.
        found: usize,
    },
    /// All is removed and recorded, but writes that were queued before are still waiting, or what other replicas stored
    /// meanwhile could not be looked for.
    #[error(
        "removed and recorded as {audit}, but earlier writes still wait for the store or cannot be looked for, and if a \
         program were killed now some of it might come back; repeat the call until it succeeds"
    )]
    Unconfirmed {
        /// The audit row.
        audit: AuditId,
    },
}

impl Cache {
    /// How many invalidations there have been. To be noted before a request goes upstream.
    pub fn epoch(&self) -> Epoch {
        self.invalidations.now()
    }

    /// The latest invalidation that may concern a request, as a number by which requests before and after it are told apart.
    pub fn last_concerning(&self, tenant: &TenantId, model: &str, namespace: &str) -> u64 {
        self.invalidations.latest(|selector| selector.may_concern(tenant, model, namespace)).number()
    }

    /// Lets an answer in that is about to be stored, unless it was invalidated while it was under way. To be held until
    /// the answer is on the shelf.
    ///
    /// # Errors
    /// [`Reason::Invalidated`]
    pub(super) fn admit(&self, began: Epoch, entry: &Entry, points: &[Point]) -> Result<Admission<'_>, Reason> {
        // To the invalidation it was not a moment old.
        self.invalidations.admit(began, |selector, _| selector.means(entry, points, entry.created_at))
    }

    /// The same, unless anything at all was invalidated meanwhile.
    ///
    /// # Errors
    /// [`Reason::Invalidated`]
    pub(super) fn admit_any(&self, began: Epoch) -> Result<Admission<'_>, Reason> {
        self.invalidations.admit(began, |_, _| true)
    }

    /// Makes a filter ready. Embeds its `near`, if there is one.
    ///
    /// # Errors
    /// No vector could be made.
    pub async fn selector(&self, filter: Filter) -> Result<Selector, EmbedError> {
        let vector = match &filter.near {
            Some(near) => Some(self.subject(&near.text).await?),
            None => None,
        };
        Ok(Selector::new(filter, vector, self.embedder.space().to_string()))
    }

    async fn subject(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.embedder.embed(text).await {
                Ok(embedded) => return Ok(embedded.vector),
                Err(EmbedError::Deadline | EmbedError::QueueFull) if tries < EMBED_TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The live entries that are meant now. Removes nothing.
    ///
    /// # Errors
    /// The cache is still being loaded; or the store cannot be read, where the filter is about the text of answers.
    pub async fn selection(self: &Arc<Self>, selector: &Arc<Selector>) -> Result<Selection, InvalidateError> {
        Ok(self.select(selector).await?.0)
    }

    /// Whether invalidations can be made.
    ///
    /// # Errors
    /// [`InvalidateError::Loading`]: what is loaded later would be in neither place that is searched.
    pub fn is_loaded(&self) -> Result<(), InvalidateError> {
        if self.loaded.load(Ordering::Acquire) { Ok(()) } else { Err(InvalidateError::Loading) }
    }

    /// The same, and the entries that were looked at, meant or not.
    async fn select(
        self: &Arc<Self>,
        selector: &Arc<Selector>,
    ) -> Result<(Selection, HashSet<EntryId>), InvalidateError> {
        self.is_loaded()?;
        let at = self.clock.now_ms();
        let (cache, wanted) = (Arc::clone(self), Arc::clone(selector));
        let look = move || {
            let candidates = cache.candidates(&wanted, at, at);
            let seen = candidates.iter().map(|meta| meta.id).collect();
            (cache.narrowed(&wanted, candidates), seen)
        };
        let (mut found, seen) = tokio::task::spawn_blocking(look).await?;
        if selector.needs_body() {
            // A body may be in the queue only.
            self.flush().await;
            found = self.with_answer(selector, found).await.map_err(InvalidateError::Unread)?;
        }
        Ok((Selection::of(found, at), seen))
    }

    /// What is meant of the answers that live now, but for what is asked of their texts; ages are those at `at`.
    pub(super) fn on_shelf(&self, wanted: &Selector, at: UnixMs, now: UnixMs) -> Vec<Selected> {
        self.narrowed(wanted, self.candidates(wanted, at, now))
    }

    /// Those whose metadata fit.
    fn candidates(&self, wanted: &Selector, at: UnixMs, now: UnixMs) -> Vec<Arc<Meta>> {
        if wanted.is_void() {
            return Vec::new();
        }
        let fits = |meta: &Meta| now < meta.expires_at && wanted.filter.holds(&Facts::from(meta), at);
        match (&wanted.filter.tenant, wanted.filter.id) {
            (Some(tenant), Some(id)) => self.shelf.get(tenant, id, now).into_iter().filter(|meta| fits(meta)).collect(),
            _ => self.shelf.select(fits),
        }
    }

    /// Those of them whose prompts fit, too.
    fn narrowed(&self, wanted: &Selector, mut candidates: Vec<Arc<Meta>>) -> Vec<Selected> {
        candidates.retain(|meta| wanted.tier_holds(!meta.points.is_empty()));
        if !wanted.needs_points() {
            return candidates.into_iter().map(|meta| Selected { meta, cosine: None }).collect();
        }
        let near = wanted.sphere().map(|sphere| inside(&self.points, &candidates, sphere));
        let selected = |meta: Arc<Meta>| {
            let points = meta.points.iter().filter(|id| near.as_ref().is_none_or(|near| near.contains_key(id)));
            let meant = points.filter(|id| {
                self.points.get(&meta.tenant, **id).is_some_and(|point| wanted.prompt_holds(&point.prompt))
            });
            let cosines: Vec<f32> =
                meant.map(|id| near.as_ref().and_then(|near| near.get(id)).copied().unwrap_or(-1.0)).collect();
            let best = cosines.into_iter().max_by(f32::total_cmp)?;
            Some(Selected { meta, cosine: near.is_some().then_some(best) })
        };
        candidates.into_iter().filter_map(selected).collect()
    }

    /// Those whose answer has the text in it.
    async fn with_answer(&self, wanted: &Selector, found: Vec<Selected>) -> Result<Vec<Selected>, StoreError> {
        let mut left = Vec::new();
        for selected in found {
            let meta = &selected.meta;
            let body = match self.shelf.body(meta.id).as_deref() {
                Some(Body::Completion(replay)) => Some(replay.body().clone()),
                Some(Body::Item(item)) => Some(item.clone()),
                None => self.store.entry(&meta.tenant, meta.id).await?.map(|entry| entry.body),
            };
            if body.is_some_and(|body: Bytes| wanted.answer_holds(&body)) {
                left.push(selected);
            }
        }
        Ok(left)
    }

    /// Removes what is meant: when this returns none of it is served, nothing of it is in the store, no answer of before
    /// that is still under way will be stored, and the audit has its row. Should be carried to its end once begun.
    ///
    /// # Errors
    /// See [`InvalidateError`]; each says what has happened.
    pub async fn invalidate(
        self: &Arc<Self>,
        order: Order,
        audit: &dyn AuditStore,
    ) -> Result<Removed, InvalidateError> {
        let now = self.clock.now_ms();
        let epoch = self.invalidations.enter(Arc::clone(&order.selector), now);
        let obeyed = self.obeyed_so_far();
        let (selection, seen) = match self.select_expected(&order).await {
            Ok(found) => found,
            Err(error) => {
                self.invalidations.withdraw(epoch);
                return Err(error);
            }
        };
        // What has been evicted since it was selected was not removed by this.
        let forgotten: Vec<_> = selection.entries.iter().filter_map(|selected| self.forget(&selected.meta)).collect();
        let flushed = self.flush().await;
        if !flushed {
            // Only then: what is queued may lead from one of them to another.
            self.withdraw(&forgotten);
        }
        let mut deletes: Vec<EntryWrite> = selection.entries.iter().map(|selected| delete_of(&selected.meta)).collect();
        let strays = self.strays(&order.selector, now, &seen).await?;
        for (tenant, entry) in &strays {
            self.put_out(tenant, *entry, now);
        }
        let plan = selection.plan();
        let mut removed = Removed {
            audit: AuditId::at(now),
            entries: forgotten.len(),
            points: forgotten.iter().map(|meta| meta.fingerprints.len()).sum(),
            bytes: forgotten.iter().map(|meta| meta.bytes).sum(),
            strays: strays.len(),
            as_planned: order.expect.as_ref().map(|expected| *expected == plan),
        };
        deletes.extend(strays.into_iter().map(|(tenant, entry)| EntryWrite::Delete { tenant, entry }));
        deletes.push(EntryWrite::Invalidated { at: now, filter: order.selector.filter.to_json() });
        if !flushed {
            // They go in behind the writes that are still waiting.
            deletes.iter().for_each(|delete| self.queue(delete.clone()));
        }
        let row = AuditRow {
            id: removed.audit,
            at: now,
            actor: order.actor.clone(),
            action: order.action.into(),
            reason: order.reason.clone(),
            what: order.what.clone(),
            result: json!({
                "removed": removed.entries,
                "points": removed.points,
                "bytes": removed.bytes,
                "strays": removed.strays,
                "plan": plan,
                "as_planned": removed.as_planned,
                "confirmed": flushed,
            })
            .to_string(),
        };
        audit.record(&row, &deletes).await?;
        let taken: Vec<Digest> = forgotten.iter().flat_map(|meta| meta.fingerprints.iter().copied()).collect();
        self.take_back(&taken);
        tracing::info!(action = %row.action, audit = %row.id, actor = row.actor, result = row.result, "entries removed");
        let looked = match self.look_again(order, now, obeyed, audit).await {
            Ok(late) => {
                removed.strays += late;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what others stored meanwhile could not be looked for");
                false
            }
        };
        if flushed && looked { Ok(removed) } else { Err(InvalidateError::Unconfirmed { audit: row.id }) }
    }

    async fn select_expected(
        self: &Arc<Self>,
        order: &Order,
    ) -> Result<(Selection, HashSet<EntryId>), InvalidateError> {
        let (selection, seen) = self.select(&order.selector).await?;
        let found = selection.entries.len();
        match order.expect_count {
            Some(expected) if expected != found => Err(InvalidateError::Changed { expected, found }),
            _ => Ok((selection, seen)),
        }
    }

    /// Waits until what is queued is in the store; false if that takes too long.
    pub async fn flush(&self) -> bool {
        let flushed = self.writer.flush(FLUSH).await;
        if let Err(error) = flushed {
            tracing::warn!(reason = error.as_str(), "the write queue could not be emptied in time");
        }
        flushed.is_ok()
    }

    fn queue(&self, delete: EntryWrite) {
        if self.writer.entry(delete).is_err() {
            // It has expired, been evicted or been deleted already; the next sweep of the store or the next
            // invalidation finds what is left of it.
            tracing::debug!("the write queue is full: a removed entry may stay in the store for now");
        }
    }

    /// Takes entries out, here and, through the queue, in the store. Returns them as they were at last.
    pub(super) fn take_out(&self, metas: &[Arc<Meta>]) -> Vec<Arc<Meta>> {
        let out = |meta: &Arc<Meta>| {
            let last = self.forget(meta);
            self.queue(delete_of(meta));
            last.unwrap_or_else(|| Arc::clone(meta))
        };
        metas.iter().map(out).collect()
    }

    /// Takes one answer away at once, and out of the store through the queue. Whether it was there.
    pub(super) async fn remove(&self, tenant: &TenantId, entry: EntryId) -> Result<bool, StoreError> {
        // Before anything else: a copy may be all that is here.
        self.removed.note(entry, self.clock.now_ms());
        if let Some(meta) = self.shelf.forget(tenant, entry) {
            self.points.remove(&meta.points);
            self.take_back(&meta.fingerprints);
            self.queue(delete_of(&meta));
            return Ok(true);
        }
        // It may have been served from the store.
        let points = self.store.points_of(tenant, entry).await?;
        self.take_back(&points.iter().map(|point| point.fingerprint).collect::<Vec<_>>());
        self.queue(EntryWrite::Delete { tenant: tenant.clone(), entry });
        Ok(!points.is_empty())
    }

    /// Takes an entry off the shelf with all the points it has by now. `None` if it is gone already.
    fn forget(&self, meta: &Meta) -> Option<Arc<Meta>> {
        let current = self.shelf.forget(&meta.tenant, meta.id)?;
        self.points.remove(&current.points);
        self.removed.note(meta.id, self.clock.now_ms());
        Some(current)
    }
}

/// The cosine of each point of these entries that is at least the radius.
fn inside(points: &Points, entries: &[Arc<Meta>], (vector, radius): (&[f32], f32)) -> HashMap<PointId, f32> {
    let partition = |meta: &Meta, id: &PointId| points.get(&meta.tenant, *id).map(|point| point.partition);
    let partitions: HashSet<Digest> =
        entries.iter().flat_map(|meta| meta.points.iter().filter_map(|id| partition(meta, id))).collect();
    let near = partitions.iter().flat_map(|partition| points.within(partition, vector, radius));
    near.map(|near| (near.id, near.cosine)).collect()
}

fn delete_of(meta: &Meta) -> EntryWrite {
    EntryWrite::Delete { tenant: meta.tenant.clone(), entry: meta.id }
}
