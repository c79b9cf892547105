//! Counters of budgets, wherever they are: read, seeded from the ledger, corrected.

use std::time::Duration;

use tokio::time::timeout;

use super::book::Books;
use super::door::{BySlot, Door};
use super::period::Span;
use super::plan::{key_name, meets};
use crate::clock::UnixMs;
use crate::config::Budget;
use crate::ids::TenantId;
use crate::store::{CounterStore, LedgerStore, StoreError};

/// Longest wait for the ledger or for the counters in the database, beside a request's own.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rows of requests that have begun a little after now, by the clock of another replica, count too.
const AHEAD_MS: u64 = 60 * 60 * 1_000;

/// There is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away {
    /// Because it cannot be reached or takes too long, and not because this one question was refused.
    pub(super) gone: bool,
}

impl Away {
    pub(super) fn because(error: &StoreError) -> Self {
        tracing::debug!(%error, "counters of budgets");
        Self { gone: error.is_outage() || matches!(error, StoreError::Closed) }
    }
}

/// See the module.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Redis(&'a Door),
    Counters(&'a dyn CounterStore),
    Local(&'a Books),
}

impl Place<'_> {
    /// What the counters say; `None` if they are not there.
    pub(super) async fn read(
        &self,
        tenant: &TenantId,
        key: &str,
        slots: &[UnixMs],
        now: UnixMs,
    ) -> Result<Option<BySlot>, Away> {
        match self {
            Self::Redis(door) => {
                let found = door.read(tenant, key, slots).await.map_err(|_| Away { gone: false })?;
                Ok(found.known.then_some(found))
            }
            Self::Counters(counters) => {
                let Some(all) = within(counters.budget_use(key, slots, now)).await? else { return Ok(None) };
                let mut found = BySlot { known: true, held: all.held.into(), spent: vec![all.spent.into()] };
                // Slot by slot only when there are several: the sum of one is the slot.
                if slots.len() > 1 {
                    found.spent.clear();
                    for slot in slots {
                        let Some(one) = within(counters.budget_use(key, &[*slot], now)).await? else {
                            return Ok(None);
                        };
                        found.spent.push(one.spent.into());
                    }
                }
                Ok(Some(found))
            }
            Self::Local(books) => Ok(books.with(tenant, |book| {
                let standing = book.standing(key, slots, now)?;
                Some(BySlot { known: true, held: standing.held, spent: book.by_slot(key, slots) })
            })),
        }
    }

    /// Brings slots up to at least what is given.
    pub(super) async fn seed(
        &self,
        tenant: &TenantId,
        key: &str,
        span: &Span,
        slots: &[(UnixMs, i64)],
    ) -> Result<(), Away> {
        match self {
            Self::Redis(door) => door.seed(tenant, key, span, slots).await.map_err(|_| Away { gone: false }),
            Self::Counters(counters) => within(counters.seed(key, slots)).await,
            Self::Local(books) => {
                books.with(tenant, |book| book.seed(key, slots));
                Ok(())
            }
        }
    }

    /// Brings slots that are known up to at least what is given.
    pub(super) async fn raise(
        &self,
        tenant: &TenantId,
        key: &str,
        span: &Span,
        slots: &[(UnixMs, i64)],
    ) -> Result<(), Away> {
        match self {
            Self::Counters(counters) => within(counters.raise(key, slots)).await,
            Self::Redis(_) | Self::Local(_) => self.seed(tenant, key, span, slots).await,
        }
    }

    /// Sets a slot if it is `seen` now.
    pub(super) async fn correct(
        &self,
        tenant: &TenantId,
        key: &str,
        slot: UnixMs,
        seen: i64,
        spent: i64,
    ) -> Result<bool, Away> {
        match self {
            Self::Redis(door) => door.correct(tenant, key, slot, seen, spent).await.map_err(|_| Away { gone: false }),
            Self::Counters(counters) => within(counters.correct(key, slot, seen, spent)).await,
            Self::Local(books) => Ok(books.with(tenant, |book| book.correct(key, slot, seen, spent))),
        }
    }
}

/// What the ledger says was spent of a budget, slot by slot.
pub(super) async fn from_ledger(
    ledger: &dyn LedgerStore,
    tenant: &TenantId,
    budget: &Budget,
    span: &Span,
    now: UnixMs,
) -> Result<Vec<(UnixMs, i64)>, Away> {
    let until = if span.rolling { now.saturating_add(AHEAD_MS) } else { span.until };
    let rows = within(ledger.spend(Some(tenant), span.from, until, span.slot_ms)).await?;
    let mut slots: Vec<(UnixMs, i64)> = span.slots.iter().map(|slot| (*slot, 0)).collect();
    for row in rows.iter().filter(|row| row.tenant.as_ref() == Some(tenant)) {
        let key = row.key.as_ref().map(|key| key_name(tenant, key));
        if !meets(budget, key, row.model.as_deref(), &row.tags) {
            continue;
        }
        // A calendar period is one slot, however the ledger divides it.
        let place = if span.rolling { slots.iter().rposition(|(slot, _)| *slot <= row.slot) } else { Some(0) };
        if let Some((_, spent)) = place.and_then(|place| slots.get_mut(place)) {
            *spent = spent.saturating_add(row.nano_usd);
        }
    }
    Ok(slots)
}

/// An answer of the store in time.
pub(super) async fn within<T>(asked: crate::store::BoxFuture<'_, T>) -> Result<T, Away> {
    match timeout(PATIENCE, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Away::because(&error)),
        Err(_) => Err(Away { gone: true }),
    }
}
