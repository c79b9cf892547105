//! What alerts look at in a running program: the directory, the counters of the limiter, and the ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::source::{Pending, Source, Watched};
use crate::clock::UnixMs;
use crate::config::{Budget, TenantSpec};
use crate::ids::TenantId;
use crate::limit::{BudgetStanding, Limiter};
use crate::store::{LedgerStore, Spend, StoreError, Stores, TenantStore};
use crate::tenant::Directory;

/// How long what the ledger said is good enough, milliseconds: adding up a month is not for every few seconds.
const ADDED_UP_MS: u64 = 60_000;

/// A budget of a tenant by name.
type Name = (TenantId, String);

/// See the module.
pub struct Live {
    directory: Arc<Directory>,
    limiter: Arc<Limiter>,
    ledger: Arc<dyn LedgerStore>,
    tenants: Arc<dyn TenantStore>,
    /// Budgets without counters, and when the ledger was asked.
    added_up: Mutex<HashMap<Name, (UnixMs, BudgetStanding)>>,
}

impl Live {
    /// Over these.
    pub fn new(directory: Arc<Directory>, limiter: Arc<Limiter>, stores: &Stores) -> Self {
        Self {
            directory,
            limiter,
            ledger: Arc::clone(&stores.ledger),
            tenants: Arc::clone(&stores.tenants),
            added_up: Mutex::default(),
        }
    }

    /// By its counters; where nobody has met the budget since the start there are none, and the ledger is asked, which is
    /// slower and so not each time.
    async fn standing(&self, tenant: &TenantId, budget: &Budget, now: UnixMs) -> Option<BudgetStanding> {
        let name = (tenant.clone(), budget.name.clone());
        if let Some(standing) = self.limiter.counted(tenant, budget, now).await {
            self.lock().remove(&name);
            return Some(standing);
        }
        let before = self.lock().get(&name).cloned();
        if let Some((at, standing)) = before
            && standing.budget == *budget
            && now < at.saturating_add(ADDED_UP_MS)
            && now < standing.until
        {
            return Some(standing);
        }
        let alone = TenantSpec { budgets: vec![budget.clone()], ..TenantSpec::default() };
        let standing = self.limiter.budgets(tenant, &alone, now).await.pop()?;
        let mut added_up = self.lock();
        added_up.retain(|_, (at, _)| now < at.saturating_add(2 * ADDED_UP_MS));
        added_up.insert(name, (now, standing.clone()));
        Some(standing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Name, (UnixMs, BudgetStanding)>> {
        self.added_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Live {
    fn known_since(&self) -> Pending<'_, Result<HashMap<TenantId, UnixMs>, StoreError>> {
        Box::pin(async {
            let rows = self.tenants.list().await?;
            Ok(rows.into_iter().map(|row| (row.tenant, row.created_at)).collect())
        })
    }

    fn tenants(&self) -> Vec<Watched> {
        let enabled = self.directory.tenants().into_iter().filter(|(_, known)| known.spec.enabled);
        enabled.map(|(tenant, known)| Watched { tenant, spec: known.spec }).collect()
    }

    fn budgets<'a>(&'a self, watched: &'a Watched, now: UnixMs) -> Pending<'a, Vec<BudgetStanding>> {
        Box::pin(async move {
            let mut standings = Vec::with_capacity(watched.spec.budgets.len());
            for budget in &watched.spec.budgets {
                standings.extend(self.standing(&watched.tenant, budget, now).await);
            }
            standings
        })
    }

    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> Pending<'a, Result<Vec<Spend>, StoreError>> {
        self.ledger.spend(tenant, since, until, slot_ms)
    }
}
