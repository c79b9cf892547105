//! What an invalidation means and only the store has: what was evicted while the write queue was full, what other replicas
//! have stored a moment ago, and what lies in partitions that are not in memory.

use std::collections::HashSet;

use serde_json::json;

use super::Order;
use super::filter::{Facts, Selector};
use crate::cache::Cache;
use crate::clock::UnixMs;
use crate::ids::{AuditId, EntryId, TenantId};
use crate::store::{AuditRow, AuditStore, ChangeStore, Cursor, Entry, EntryWrite, Loaded, Seq, StoreError, What};

/// Entries looked at in the store at a time.
const PAGE: u32 = 2_000;

/// An entry and whose it is.
type Place = (TenantId, EntryId);

impl Cache {
    /// Entries that are meant and in the store, but for those that were `seen` in memory. When the write queue is full, what
    /// is evicted stays in the store and would be served again after a restart.
    pub(super) async fn strays(
        &self,
        wanted: &Selector,
        now: UnixMs,
        seen: &HashSet<EntryId>,
    ) -> Result<Vec<Place>, StoreError> {
        let mut strays = Vec::new();
        let filter = &wanted.filter;
        if wanted.is_void() {
            return Ok(strays);
        }
        let stored = filter.stored();
        // The listing runs from the newest down, so that a single entry is on the first page.
        let mut after = filter.id.and_then(above);
        let most = if filter.id.is_some() { 1 } else { PAGE };
        loop {
            let page = self.store.list(filter.tenant.as_ref(), &stored, after.as_ref(), most).await?;
            let Some(last) = page.last() else { return Ok(strays) };
            after = Some(last.cursor());
            for entry in page.iter().map(|meta| &meta.entry) {
                if !seen.contains(&entry.id)
                    && !self.was_let_in(entry, now)
                    && filter.holds(&Facts::from(entry), now)
                    && self.is_meant_stray(wanted, entry, now).await?
                {
                    strays.push((entry.tenant.clone(), entry.id));
                }
            }
            if filter.id.is_some() {
                return Ok(strays);
            }
        }
    }

    /// Whether an entry was asked for and made here since the invalidation began, at `at`.
    fn was_let_in(&self, entry: &Entry, at: UnixMs) -> bool {
        let here = self.shelf.get(&entry.tenant, entry.id, at);
        here.is_some_and(|meta| meta.own && meta.created_at >= at)
    }

    async fn is_meant_stray(&self, wanted: &Selector, entry: &Entry, now: UnixMs) -> Result<bool, StoreError> {
        let mut whole = None;
        if wanted.needs_body() {
            whole = self.store.entry(&entry.tenant, entry.id).await?;
        }
        let points = if wanted.needs_points() || wanted.filter.tier.is_some() {
            self.store.points_of(&entry.tenant, entry.id).await?
        } else {
            Vec::new()
        };
        Ok(wanted.means(whole.as_ref().unwrap_or(entry), &points, now))
    }

    /// Another replica may have stored something that is meant after the store was searched and before the invalidation
    /// was in it. All of that can be seen now, and from now on the store refuses it. Those replicas delete it as well; but
    /// they may die before they do. `obeyed` is how far this replica had read before memory was searched. Returns how many
    /// were found.
    pub(super) async fn look_again(
        &self,
        order: Order,
        at: UnixMs,
        obeyed: Seq,
        audit: &dyn AuditStore,
    ) -> Result<usize, StoreError> {
        let Some(changes) = self.changes() else { return Ok(0) };
        let late = self.stored_since(changes, obeyed, &order.selector, at).await?;
        if late.is_empty() {
            return Ok(0);
        }
        let row = AuditRow {
            id: AuditId::at(at),
            at,
            actor: order.actor,
            action: order.action.into(),
            reason: order.reason,
            what: order.what,
            result: json!({ "stored_meanwhile": late.len() }).to_string(),
        };
        for (tenant, entry) in &late {
            self.put_out(tenant, *entry, at);
        }
        let deletes: Vec<EntryWrite> =
            late.into_iter().map(|(tenant, entry)| EntryWrite::Delete { tenant, entry }).collect();
        audit.record(&row, &deletes).await?;
        Ok(deletes.len())
    }

    /// Takes an entry that was found in the store out of memory, should it have come there.
    pub(super) fn put_out(&self, tenant: &TenantId, entry: EntryId, now: UnixMs) {
        self.removed.note(entry, now);
        self.let_go(tenant, entry);
    }

    /// What other replicas have stored or changed after `from` and is meant.
    async fn stored_since(
        &self,
        changes: &dyn ChangeStore,
        from: Seq,
        wanted: &Selector,
        at: UnixMs,
    ) -> Result<HashSet<Place>, StoreError> {
        let (mut after, mut changed, mut until) = (from, HashSet::new(), None);
        while until.is_none_or(|until| after < until) {
            let feed = changes.feed(after, PAGE).await?;
            // What comes later is refused if it is meant.
            until = until.or(Some(feed.head));
            let Some(last) = feed.changes.last() else { break };
            after = last.seq;
            changed.extend(feed.changes.into_iter().filter(|change| !change.own).filter_map(
                |change| match change.what {
                    What::Entry { tenant, entry } => Some((tenant, entry)),
                    What::Invalidated { .. } => None,
                },
            ));
        }
        let (changed, mut meant): (Vec<Place>, _) = (changed.into_iter().collect(), HashSet::new());
        for some in changed.chunks(PAGE as usize) {
            for Loaded { meta, points } in self.store.load(some).await? {
                let entry = if wanted.needs_body() {
                    self.store.entry(&meta.entry.tenant, meta.entry.id).await?
                } else {
                    Some(meta.entry)
                };
                if let Some(entry) = entry.filter(|entry| wanted.means(entry, &points, at)) {
                    meant.insert((entry.tenant, entry.id));
                }
            }
        }
        Ok(meant)
    }
}

/// A place in the newest-first listing right before this entry. None for the highest id there can be.
fn above(id: EntryId) -> Option<Cursor> {
    let next = u128::from_be_bytes(id.to_bytes()).checked_add(1)?;
    Some(Cursor { tenant: TenantId::new(""), entry: EntryId::from_bytes(next.to_be_bytes()) })
}
