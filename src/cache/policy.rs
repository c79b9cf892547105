//! Planning: may this request be looked up, may its answer be stored, how far, how long?
//!
//! Configuration sets the outer bound, the tenant may narrow it, the caller may narrow it further; nobody below may
//! widen it.

use std::time::Duration;

use super::outcome::Reason;
use crate::call::{Controls, ExactOnly, Uncacheable};
use crate::config::{self, CacheMode, Share};
use crate::ids::KeyId;
use crate::tenant::Principal;

/// What the cache may do for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Tiers that may answer; [`CacheMode::Off`] if none.
    pub read: CacheMode,
    /// Whether the answer may be stored.
    pub store: bool,
    /// Lifetime of what is stored.
    pub ttl: Duration,
    /// Least cosine of a semantic hit.
    pub floor: f32,
    /// Wrong answers that may be served by similarity, as a share of requests.
    pub budget: f64,
    /// Oldest entry that may be served.
    pub max_age: Option<Duration>,
    /// Do not go upstream.
    pub only_if_cached: bool,
    /// The caller wants a fresh answer, and has it stored.
    pub refresh: bool,
    /// Why nothing may be read, if so.
    pub why_not: Option<Reason>,
}

/// What of a request the plan depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// Why the request must not be cached at all.
    pub uncacheable: Option<Uncacheable>,
    /// Why only equal requests may share its answer.
    pub exact_only: Option<ExactOnly>,
}

impl Plan {
    /// The plan for one request.
    pub fn of(settings: &config::Cache, principal: &Principal, controls: &Controls, traits: Traits) -> Self {
        let tenant = principal.cache();
        let mut mode = settings.mode.min(tenant.mode.unwrap_or(CacheMode::Semantic));
        mode = mode.min(controls.mode.unwrap_or(CacheMode::Semantic));
        let ttl = [tenant.ttl, controls.ttl].into_iter().flatten().fold(settings.ttl, Duration::min);
        let floors = [tenant.similarity, controls.similarity];
        let mut plan = Self {
            read: mode,
            store: !controls.no_store && !ttl.is_zero(),
            ttl,
            floor: floors.into_iter().flatten().fold(settings.similarity, f32::max),
            budget: tenant.max_error_rate.map_or(settings.max_error_rate, |rate| rate.min(settings.max_error_rate)),
            max_age: controls.max_age,
            only_if_cached: controls.only_if_cached,
            refresh: false,
            why_not: None,
        };
        if let Some(why) = traits.uncacheable {
            plan.forbid(Reason::Uncacheable(why));
        } else if principal.anonymous || mode == CacheMode::Off {
            plan.forbid(Reason::Off);
        } else if controls.no_cache {
            plan.read = CacheMode::Off;
            plan.refresh = true;
            plan.why_not = Some(Reason::NoCache);
        } else if traits.exact_only.is_some() {
            plan.read = CacheMode::Exact;
        }
        plan
    }

    fn forbid(&mut self, why: Reason) {
        self.read = CacheMode::Off;
        self.store = false;
        self.why_not = Some(why);
    }

    /// Whether the request neither reads nor stores.
    pub fn is_bypass(&self) -> bool {
        self.read == CacheMode::Off && !self.refresh
    }
}

/// The sharing scope in full, as it goes into every key. `None` if it asks for an end user and none was named: then
/// nothing can be shared.
pub fn share(share: Share, key: &KeyId, user: Option<&str>) -> Option<String> {
    match share {
        Share::Tenant => Some("tenant".to_owned()),
        Share::Key => Some(format!("key:{key}")),
        Share::User => user.filter(|user| !user.trim().is_empty()).map(|user| format!("user:{user}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{KeySpec, TenantCache};
    use crate::ids::TenantId;
    use crate::limit::Terms;
    use crate::tenant::Credential;

    fn settings() -> config::Cache {
        let defaults = config::Config::load(None, std::iter::empty(), &config::Overrides::default()).unwrap();
        config::Cache { ttl: Duration::from_secs(100), similarity: 0.95, ..defaults.cache }
    }

    fn plan(tenant: TenantCache, controls: &Controls) -> Plan {
        let spec = config::TenantSpec { cache: tenant, ..config::TenantSpec::default() };
        let terms = Terms { tenant: Arc::new(spec), ..Terms::default() };
        let principal =
            Principal::known(TenantId::new("t"), KeyId::new("t/k"), Credential::Caller, terms, KeySpec::default());
        Plan::of(&settings(), &principal, controls, Traits::default())
    }

    #[test]
    fn the_caller_and_the_tenant_may_only_narrow() {
        let narrow = TenantCache {
            mode: Some(CacheMode::Exact),
            ttl: Some(Duration::from_secs(50)),
            similarity: Some(0.97),
            max_error_rate: Some(0.001),
            share: None,
        };
        let wide = Controls {
            mode: Some(CacheMode::Semantic),
            ttl: Some(Duration::from_secs(1_000)),
            similarity: Some(0.5),
            ..Controls::default()
        };
        let both = plan(narrow.clone(), &wide);
        assert_eq!((both.read, both.ttl, both.floor), (CacheMode::Exact, Duration::from_secs(50), 0.97));
        assert_eq!(both.budget, 0.001);
        let tighter = Controls {
            similarity: Some(0.99),
            ttl: Some(Duration::from_secs(5)),
            mode: Some(CacheMode::Off),
            ..Controls::default()
        };
        let both = plan(narrow, &tighter);
        assert_eq!((both.read, both.ttl, both.floor), (CacheMode::Off, Duration::from_secs(5), 0.99));
        assert!(both.is_bypass() && !both.store);
    }

    #[test]
    fn no_cache_reads_nothing_but_stores() {
        let fresh = plan(TenantCache::default(), &Controls { no_cache: true, ..Controls::default() });
        assert!(fresh.refresh && fresh.store && !fresh.is_bypass());
        assert_eq!(fresh.read, CacheMode::Off);
        let kept_out = plan(TenantCache::default(), &Controls { no_store: true, ..Controls::default() });
        assert!(!kept_out.store && kept_out.read == CacheMode::Semantic);
        let no_time = plan(TenantCache::default(), &Controls { ttl: Some(Duration::ZERO), ..Controls::default() });
        assert!(!no_time.store);
    }

    #[test]
    fn sharing_by_user_needs_a_user() {
        let key = KeyId::new("k");
        assert_eq!(share(Share::User, &key, None), None);
        assert_eq!(share(Share::User, &key, Some(" ")), None, "a blank name is no name");
        assert_ne!(share(Share::User, &key, Some("k")), share(Share::Key, &key, Some("k")));
    }
}
