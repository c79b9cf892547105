//! Places for statements of callers. Few run at a time; of these fewer are one tenant's, and fewer are one caller's, so that nobody
//! keeps the others from asking.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::model::Scope;
use crate::ids::{KeyId, TenantId};

/// All places of a store.
pub(in crate::store) struct SqlPlaces {
    all: Arc<Semaphore>,
    of_tenant: usize,
    of_caller: usize,
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
    callers: Mutex<HashMap<(TenantId, KeyId), Arc<Semaphore>>>,
}

/// One place. It is free again when this is gone.
#[derive(Debug)]
pub(in crate::store) struct SqlPlace {
    _held: [OwnedSemaphorePermit; 3],
}

impl SqlPlaces {
    /// So many places in all, for each tenant, and for each caller.
    pub(in crate::store) fn new(all: usize, of_tenant: usize, of_caller: usize) -> Self {
        let (tenants, callers) = (Mutex::default(), Mutex::default());
        Self { all: Arc::new(Semaphore::new(all)), of_tenant, of_caller, tenants, callers }
    }

    /// A place for this caller; `None` if there is none within this time.
    pub(in crate::store) async fn take(&self, scope: &Scope, longest: Duration) -> Option<SqlPlace> {
        // His own first: who waits for that holds nothing of the others'.
        let own = of(&self.callers, (scope.tenant.clone(), scope.key.clone()), self.of_caller);
        let tenant = of(&self.tenants, scope.tenant.clone(), self.of_tenant);
        let taking = async {
            let own = own.acquire_owned().await.ok()?;
            let tenant = tenant.acquire_owned().await.ok()?;
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(SqlPlace { _held: [own, tenant, all] })
        };
        timeout(longest, taking).await.ok().flatten()
    }

    /// All places at once, as soon as they are free.
    #[cfg(test)]
    pub(in crate::store) async fn take_all(&self, places: usize) -> OwnedSemaphorePermit {
        Arc::clone(&self.all).acquire_many_owned(u32::try_from(places).unwrap()).await.unwrap()
    }
}

/// The places of one of many. Those of others that nobody holds or waits for are forgotten.
fn of<K: Eq + Hash>(known: &Mutex<HashMap<K, Arc<Semaphore>>>, who: K, places: usize) -> Arc<Semaphore> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    // A permit keeps its semaphore alive.
    known.retain(|_, places| Arc::strong_count(places) > 1);
    Arc::clone(known.entry(who).or_insert_with(|| Arc::new(Semaphore::new(places))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(tenant: &str, key: &str) -> Scope {
        Scope { tenant: TenantId::new(tenant), key: KeyId::new(key) }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_takes_all_places() {
        const WAIT: Duration = Duration::from_secs(1);
        let places = SqlPlaces::new(4, 2, 1);
        let first = places.take(&caller("a", "1"), WAIT).await.unwrap();
        assert!(places.take(&caller("a", "1"), WAIT).await.is_none(), "a caller has one");
        let _second = places.take(&caller("a", "2"), WAIT).await.unwrap();
        assert!(places.take(&caller("a", "3"), WAIT).await.is_none(), "a tenant has two");
        let _third = places.take(&caller("b", "1"), WAIT).await.unwrap();
        let _fourth = places.take(&caller("c", "1"), WAIT).await.unwrap();
        assert!(places.take(&caller("d", "1"), WAIT).await.is_none(), "there are four");
        let same = caller("a", "1");
        let (next, ()) = tokio::join!(places.take(&same, WAIT), async { drop(first) });
        assert!(next.is_some(), "who waits has the next one");
        drop(next);
        drop(places.take(&caller("e", "1"), WAIT).await.unwrap());
        assert_eq!(places.callers.lock().unwrap().len(), 4, "those without places are forgotten, but for the last");
    }
}
