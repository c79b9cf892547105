//! Which beginnings of prompts were asked for lately: what a provider's own prompt cache would know if every request had gone there.
//!
//! Bounded, and only ever used to count a saving smaller: a beginning that is forgotten counts as unknown to the provider.

use quick_cache::sync::Cache;

use crate::clock::UnixMs;
use crate::config::Savings;
use crate::price::PromptCache;

/// Beginnings that are remembered.
const MOST: usize = 100_000;

pub(super) struct Prefixes {
    seen: Cache<u64, UnixMs>,
    ttl_ms: u64,
    from: u64,
}

impl Prefixes {
    pub(super) fn new(settings: &Savings) -> Self {
        let ttl_ms = u64::try_from(settings.prompt_cache_ttl.as_millis()).unwrap_or(u64::MAX);
        Self { seen: Cache::new(MOST), ttl_ms, from: settings.prompt_cache_from }
    }

    /// Whether it was asked for lately; from now on it was.
    pub(super) fn seen(&self, prefix: u64, now: UnixMs) -> PromptCache {
        let warm = self.seen.get(&prefix).is_some_and(|last| now.saturating_sub(last) < self.ttl_ms);
        self.seen.insert(prefix, now);
        PromptCache { warm, from: self.from }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_prompt_cools_down_when_nobody_asks() {
        let ttl = Duration::from_secs(300);
        let prefixes = Prefixes::new(&Savings { target: 0.3, prompt_cache_ttl: ttl, prompt_cache_from: 1 });
        let warm = |now| prefixes.seen(7, now).warm;
        // Each question keeps it warm.
        assert_eq!([0, 299_999, 599_998, 899_998].map(warm), [false, true, true, false]);
        assert!(!prefixes.seen(8, 899_999).warm, "of another");
    }
}
