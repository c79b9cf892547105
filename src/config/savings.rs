//! `[savings]`: what the cache is measured by, and how careful its savings are counted.

use std::time::Duration;

use super::reader::Reader;

/// `[savings]`
#[derive(Clone, Debug, PartialEq)]
pub struct Savings {
    /// Part of what answers would have cost that is to be saved, net: 0 to 1.
    pub target: f64,
    /// How long a provider's prompt cache keeps a prompt that it has seen.
    pub prompt_cache_ttl: Duration,
    /// Input tokens from which a provider's prompt cache takes a prompt by itself.
    pub prompt_cache_from: u64,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Savings {
    Savings {
        target: reader.number("target", 0.0, 1.0),
        prompt_cache_ttl: reader.duration("prompt_cache_ttl", Duration::ZERO, Duration::from_secs(24 * 60 * 60)),
        prompt_cache_from: reader.count("prompt_cache_from", 0, 1_000_000).into(),
    }
}
