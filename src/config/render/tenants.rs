//! Tenants, and what they and their keys are held to.

use super::super::{Budget, KeySpec, RateLimits, TenantSpec, UnknownPrice};
use super::{Out, Tenant, TenantCache, TenantKey, mode_name, share_name};

impl Out {
    pub(super) fn tenant(&mut self, tenant: &Tenant) {
        let Tenant { name, keys, upstream_api_key, spec } = tenant;
        let TenantSpec { enabled, limits, budgets, cache, hits_when_spent, hits_take_tokens, unknown_price } = spec;
        self.head("[[tenant]]");
        self.text("name", name);
        self.raw("enabled", enabled);
        self.secret("upstream_api_key", upstream_api_key.as_ref());
        self.raw("hits_when_spent", hits_when_spent);
        self.raw("hits_take_tokens", hits_take_tokens);
        if let Some(what) = unknown_price {
            self.text("unknown_price", unknown_price_name(*what));
        }
        self.rate_limits("[tenant.limits]", limits);
        self.tenant_cache(cache);
        for budget in budgets {
            self.budget(budget);
        }
        for key in keys {
            self.tenant_key(key);
        }
    }

    fn tenant_cache(&mut self, cache: &TenantCache) {
        let TenantCache { mode, ttl, similarity, max_error_rate, share } = cache;
        if *cache == TenantCache::default() {
            return;
        }
        self.head("[tenant.cache]");
        if let Some(mode) = mode {
            self.text("mode", mode_name(*mode));
        }
        if let Some(ttl) = ttl {
            self.duration("ttl", *ttl);
        }
        if let Some(similarity) = similarity {
            self.raw("similarity", format_args!("{similarity:?}"));
        }
        if let Some(rate) = max_error_rate {
            self.raw("max_error_rate", format_args!("{rate:?}"));
        }
        if let Some(share) = share {
            self.text("share", share_name(*share));
        }
    }

    fn tenant_key(&mut self, key: &TenantKey) {
        let TenantKey { name, secret, spec } = key;
        let KeySpec { enabled, models, routes, rights, limits } = spec;
        self.head("[[tenant.key]]");
        self.text("name", name);
        self.raw("enabled", enabled);
        self.secret("secret", Some(secret));
        self.list("models", models);
        self.list("routes", routes);
        let rights: Vec<String> = rights.iter().map(|right| right.as_str().to_owned()).collect();
        self.list("rights", &rights);
        self.rate_limits("[tenant.key.limits]", limits);
    }

    fn rate_limits(&mut self, head: &str, limits: &RateLimits) {
        let RateLimits { rpm, tpm, tpd, concurrency } = limits;
        if *limits == RateLimits::default() {
            return;
        }
        self.head(head);
        for (name, limit) in [("rpm", rpm), ("tpm", tpm), ("tpd", tpd), ("concurrency", concurrency)] {
            if let Some(limit) = limit {
                self.raw(name, limit);
            }
        }
    }

    fn budget(&mut self, budget: &Budget) {
        let Budget { name, period, usd, hard, alert_at, key, model, tag } = budget;
        self.head("[[tenant.budgets]]");
        self.text("name", name);
        self.text("period", period);
        self.text("usd", usd);
        self.raw("hard", hard);
        self.raw("alert_at", format_args!("{alert_at:?}"));
        for (name, target) in [("key", key), ("model", model), ("tag", tag)] {
            if let Some(target) = target {
                self.text(name, target);
            }
        }
    }
}

fn unknown_price_name(what: UnknownPrice) -> &'static str {
    match what {
        UnknownPrice::Deny => "deny",
        UnknownPrice::Allow => "allow",
        UnknownPrice::AssumeMax => "assume_max",
    }
}
