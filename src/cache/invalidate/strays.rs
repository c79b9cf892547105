//! What an invalidation means and only the store has: what was evicted while the write queue was full, what other replicas
//! have stored a moment ago, and what lies in partitions that are not in memory.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use super::epoch::KEPT_MS;
use super::filter::{Facts, Selector};
use super::{InvalidateError, Order};
use crate::cache::Cache;
use crate::clock::UnixMs;
use crate::ids::{AuditId, EntryId, TenantId};
use crate::store::{AuditRow, AuditStore, Cursor, Entry, EntryWrite, StoreError};

/// Entries looked at in the store at a time.
const PAGE: u32 = 2_000;

/// An entry and whose it is.
type Place = (TenantId, EntryId);

impl Cache {
    /// Entries that are meant and in the store, made at `since` or later, but for those that are `kept`. When the
    /// write queue is full, what is evicted stays in the store and would be served again after a restart.
    pub(super) async fn strays(
        &self,
        wanted: &Selector,
        now: UnixMs,
        since: UnixMs,
        kept: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Place>, StoreError> {
        let mut strays = Vec::new();
        let filter = &wanted.filter;
        if wanted.is_void() {
            return Ok(strays);
        }
        let stored = filter.stored();
        // The listing runs from the newest down, so that a single entry is on the first page.
        let mut after = filter.id.and_then(above);
        loop {
            let page = self.store.list(filter.tenant.as_ref(), &stored, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(strays) };
            after = Some(last.cursor());
            let recent = page.iter().map(|meta| &meta.entry).take_while(|entry| entry.created_at >= since);
            for entry in recent {
                if !kept(entry)
                    && filter.holds(&Facts::from(entry), now)
                    && self.is_meant_stray(wanted, entry, now).await?
                {
                    strays.push((entry.tenant.clone(), entry.id));
                }
            }
            if filter.id.is_some() || last.entry.created_at < since {
                return Ok(strays);
            }
        }
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
    /// was in it. All of that can be seen now, and from now on the store refuses it. Those replicas delete it as well;
    /// but they may die before they do. Returns how many were found.
    pub(super) async fn look_again(
        self: &Arc<Self>,
        order: Order,
        at: UnixMs,
        audit: &dyn AuditStore,
    ) -> Result<usize, InvalidateError> {
        if self.standing.get().is_none() {
            return Ok(0);
        }
        // The store first: what comes from there into memory meanwhile is then found in memory.
        let here = |entry: &Entry| self.shelf.get(&entry.tenant, entry.id, at).is_some();
        let stored = self.strays(&order.selector, at, at.saturating_sub(KEPT_MS), here).await?;
        let in_memory = self.selection(&order.selector).await?;
        // What was made here since then was let in, and so is not meant.
        let others = in_memory.entries.into_iter().map(|selected| selected.meta).filter(|meta| !meta.own);
        let late: HashSet<Place> =
            stored.into_iter().chain(others.map(|meta| (meta.tenant.clone(), meta.id))).collect();
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
            self.removed.note(*entry, at);
            self.let_go(tenant, *entry);
        }
        let deletes: Vec<EntryWrite> =
            late.into_iter().map(|(tenant, entry)| EntryWrite::Delete { tenant, entry }).collect();
        audit.record(&row, &deletes).await?;
        Ok(deletes.len())
    }
}

/// A place in the newest-first listing right before this entry. None for the highest id there can be.
fn above(id: EntryId) -> Option<Cursor> {
    let next = u128::from_be_bytes(id.to_bytes()).checked_add(1)?;
    Some(Cursor { tenant: TenantId::new(""), entry: EntryId::from_bytes(next.to_be_bytes()) })
}
