//! What alerts look at: the tenants, how their budgets stand, and what they spent.
//!
//! A trait, so that decisions about alerts can be tested against spends that no clock and no limiter had to produce.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::clock::UnixMs;
use crate::config::{Budget, TenantSpec, glob_matches};
use crate::ids::TenantId;
use crate::limit::BudgetStanding;
use crate::store::{Spend, StoreError};

/// A future that may be kept in a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A tenant that is looked after.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The tenant.
    pub tenant: TenantId,
    /// Its budgets, among others.
    pub spec: Arc<TenantSpec>,
}

/// See the module.
pub trait Source: Send + Sync {
    /// Since when each tenant is known, seen ones included: before that, no spend means nothing.
    fn known_since(&self) -> Pending<'_, Result<HashMap<TenantId, UnixMs>, StoreError>>;

    /// All tenants that are enabled.
    fn tenants(&self) -> Vec<Watched>;

    /// The budgets of one tenant as they stand. Asked every few seconds.
    fn budgets<'a>(&'a self, watched: &'a Watched, now: UnixMs) -> Pending<'a, Vec<BudgetStanding>>;

    /// What one tenant, or everybody, spent from `since` to before `until`, in slots of `slot_ms`.
    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> Pending<'a, Result<Vec<Spend>, StoreError>>;
}

/// Whether what was spent counts towards a budget of this tenant.
pub(super) fn counts(budget: &Budget, tenant: &TenantId, spend: &Spend) -> bool {
    let by_key = |name: &String| {
        let key = spend.key.as_ref().and_then(|key| key.as_str().strip_prefix(tenant.as_str())?.strip_prefix('/'));
        key == Some(name.as_str())
    };
    let by_model = |glob: &String| spend.model.as_deref().is_some_and(|model| glob_matches(glob, model));
    let by_tag = |tag: &String| {
        tag.split_once('=').is_some_and(|(name, value)| spend.tags.iter().any(|(n, v)| n == name && v == value))
    };
    budget.key.as_ref().is_none_or(by_key)
        && budget.model.as_ref().is_none_or(by_model)
        && budget.tag.as_ref().is_none_or(by_tag)
}
