//! Which tenants have a metric label of their own: those that are declared or stored, as long as they are not too many.
//!
//! In passthrough mode everybody is a tenant, so the names cannot come from requests. The set is shared by all series and
//! changes while the program runs.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Most tenants with a label; each has many series, and who scrapes them pays for each. All others are `other`.
const MOST: usize = 1_000;

/// The names. Clones share them.
#[derive(Clone, Default)]
pub struct TenantLabels(Arc<ArcSwap<HashSet<String>>>);

impl TenantLabels {
    /// Sets the names; of too many, the first are taken.
    pub fn set(&self, names: impl IntoIterator<Item = String>) {
        self.0.store(Arc::new(names.into_iter().take(MOST).collect()));
    }

    /// Whether a tenant has a label of its own.
    pub fn contains(&self, name: &str) -> bool {
        self.0.load().contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_and_bounded() {
        let labels = TenantLabels::default();
        let series = labels.clone();
        labels.set(["acme".to_owned()]);
        assert!(series.contains("acme") && !series.contains("globex"));
        labels.set((0..5_000).map(|number| format!("t{number}")));
        assert!(!series.contains("acme"));
        assert_eq!((0..5_000).filter(|number| series.contains(&format!("t{number}"))).count(), MOST);
    }
}
