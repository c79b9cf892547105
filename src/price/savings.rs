//! What an answer from the cache would have cost.
//!
//! Without the cache the provider would have been asked, and its own prompt cache might have made that cheaper. So a hit counts
//! as saving what the provider would have billed *then*, as far as that is known here. Where the same beginning (everything but the
//! last user turn, in the same scope) was asked for a short while ago, all of the input counts at the price of cached input, more of
//! it than a provider would really find: that is too small. Any other input counts in full, although the provider may have known a
//! part of it: the system prompt from another conversation or user, or the whole beginning from another replica or from before a
//! restart, of which this process knows nothing. That is too large.
//!
//! Source of the rules: OpenAI and DeepSeek cache prompts by themselves, OpenAI from 1,024 tokens on in steps of 128, for 5 to 10
//! minutes of rest; Anthropic caches what a request marks, for 5 minutes or for an hour, and bills the writing. For how long what
//! was read had been written is not told, so what was read, and what was written for an hour, counts as still there.

use super::Price;
use crate::store::Tokens;

/// Step in which OpenAI counts cached input.
const STEP: u64 = 128;

/// When a provider's prompt cache helps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptCache {
    /// This process knows that the provider has seen the beginning of the prompt a short while ago, or would have without us.
    pub warm: bool,
    /// Input tokens from which it caches by itself.
    pub from: u64,
}

impl Price {
    /// The tokens that a provider would have billed for an answer that once cost `told`.
    pub fn without_us(&self, told: &Tokens, cache: PromptCache) -> Tokens {
        let text = [told.input, told.cache_read, told.cache_write, told.cache_write_1h]
            .into_iter()
            .fold(0, u64::saturating_add);
        let marked = told.cache_write > 0 || told.cache_write_1h > 0 || told.cache_read > 0;
        // Writing that costs more than plain input is only done for requests that ask for it.
        let by_request = self.rates().cache_write() > self.rates().input();
        let known = if by_request {
            if marked { text.saturating_sub(told.input) } else { 0 }
        } else if text >= cache.from {
            text / STEP * STEP
        } else {
            0
        };
        let plain = text.saturating_sub(known);
        match (cache.warm, by_request) {
            (true, _) => Tokens { input: plain, cache_read: known, cache_write: 0, cache_write_1h: 0, ..*told },
            (false, false) => Tokens { input: text, cache_read: 0, cache_write: 0, cache_write_1h: 0, ..*told },
            // What was written for five minutes has to be written anew.
            (false, true) => Tokens {
                input: plain,
                cache_read: told.cache_read.saturating_add(told.cache_write_1h),
                cache_write_1h: 0,
                ..*told
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::UnixMs;
    use crate::price::{PriceBook, Service};

    const NOW: UnixMs = 1_790_000_000_000;

    fn price(model: &str) -> std::sync::Arc<Price> {
        static BOOK: std::sync::LazyLock<PriceBook> = std::sync::LazyLock::new(|| PriceBook::load(None).unwrap());
        BOOK.price(model, NOW).unwrap()
    }

    fn cache(warm: bool) -> PromptCache {
        PromptCache { warm, from: 1_024 }
    }

    #[test]
    fn a_prompt_that_the_provider_would_have_known_saves_less() {
        let price = price("gpt-4o-mini");
        let told = Tokens { input: 1_500, output: 100, ..Tokens::default() };
        assert_eq!(price.without_us(&told, cache(false)), told);
        let warm = price.without_us(&told, cache(true));
        assert_eq!((warm.cache_read, warm.input, warm.output), (1_408, 92, 100));
        assert!(price.cost(&warm, Service::Standard) < price.cost(&told, Service::Standard));
        let short = Tokens { input: 900, ..Tokens::default() };
        assert_eq!(price.without_us(&short, cache(true)), short, "too short to be cached");
    }

    #[test]
    fn what_the_provider_had_cached_once_is_not_cached_any_more_hours_later() {
        let told = Tokens { input: 100, cache_read: 2_000, output: 5, ..Tokens::default() };
        let cold = price("gpt-4o-mini").without_us(&told, cache(false));
        assert_eq!((cold.input, cold.cache_read), (2_100, 0));
    }

    #[test]
    fn a_prompt_that_is_cached_for_an_hour_is_not_paid_for_twice() {
        let price = price("claude-opus-5");
        let read = Tokens { cache_read: 100_000, output: 100, ..Tokens::default() };
        let written = Tokens { cache_write_1h: 100_000, output: 100, ..Tokens::default() };
        for (told, warm) in [(read, false), (read, true), (written, false), (written, true)] {
            assert_eq!(price.without_us(&told, cache(warm)), read, "{told:?} {warm}");
        }
        let minutes = Tokens { cache_write: 100_000, output: 100, ..Tokens::default() };
        assert_eq!(price.without_us(&minutes, cache(false)), minutes, "after five minutes it is written anew");
        assert_eq!(price.without_us(&minutes, cache(true)), read);
    }

    proptest! {
        #[test]
        fn no_token_is_lost_or_made(
            counts in proptest::array::uniform10(0_u64..100_000),
            warm in any::<bool>(),
            model in proptest::sample::select(&["gpt-4o-mini", "claude-opus-5"][..]),
        ) {
            let told = Tokens::of(counts);
            let then = price(model).without_us(&told, cache(warm));
            prop_assert_eq!(then.sum(), told.sum());
            prop_assert_eq!(then.input_sum(), told.input_sum());
        }

        #[test]
        fn a_hit_saves_no_more_than_its_call_has_cost_where_requests_mark_what_is_cached(
            counts in proptest::array::uniform10(0_u64..100_000),
            warm in any::<bool>(),
        ) {
            let (price, told) = (price("claude-haiku-4-5"), Tokens::of(counts));
            let then = price.without_us(&told, cache(warm));
            prop_assert!(price.cost(&then, Service::Standard) <= price.cost(&told, Service::Standard));
        }
    }
}
