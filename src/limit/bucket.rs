//! The arithmetic of a token bucket: pure, in whole numbers, with the time passed in.
//!
//! A bucket holds at most `limit` tokens, starts full, and gains `limit` tokens per `window` milliseconds. What is gained
//! in a part of the time for one token is kept as `carry`, in units of 1/`window` of a token, so that nothing is lost or
//! made by looking often. `script.lua` does the same sums in floating point: all of them stay below 2^53, for limits up to
//! 10^12 and windows up to a day, because `limit` is taken apart into quotient and remainder by `window`.

use std::time::Duration;

use crate::clock::UnixMs;

/// Deepest debt of a bucket; the real use of a request may be more than what was reserved.
pub(super) const DEEPEST: i64 = -1_000_000_000_000_000;
/// Most tokens that are taken or given at once.
pub(super) const MOST: i64 = 10_000_000_000_000;

/// How fast and how far a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Tokens per window, and the most that the bucket holds. At least 1.
    pub(super) limit: i64,
    /// Milliseconds. At least 1.
    pub(super) window: i64,
}

/// What is in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Whole tokens; below zero when more was used than there was.
    pub(super) level: i64,
    /// Of a further token, in units of 1/window.
    pub(super) carry: i64,
    /// When this was so.
    pub(super) at: UnixMs,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(rate: Rate, now: UnixMs) -> Self {
        Self { level: rate.limit, carry: 0, at: now }
    }

    /// The same bucket at `now`. Time that goes back adds nothing; when it goes back by more than a window, the bucket
    /// follows it, so that it is not frozen until the old time comes again.
    pub(super) fn refilled(self, rate: Rate, now: UnixMs) -> Self {
        let Rate { limit, window } = rate;
        let Some(passed) = now.checked_sub(self.at) else {
            let back = self.at.saturating_sub(now);
            let at = if back > window.unsigned_abs() { now } else { self.at };
            return Self { at, ..self }.capped(limit);
        };
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let (windows, rest) = (passed / window, passed % window);
        // Wide, because both may be large after a long time.
        let level = i128::from(self.level) + i128::from(windows) * i128::from(limit);
        let Some(level) = i64::try_from(level).ok().filter(|level| *level < limit) else {
            return Self::full(rate, now);
        };
        let (quotient, remainder) = (limit / window, limit % window);
        let parts = remainder * rest + self.carry;
        Self { level: level + quotient * rest + parts / window, carry: parts % window, at: now }.capped(limit)
    }

    /// Puts tokens in, or takes them out whether they are there or not.
    pub(super) fn add(&mut self, tokens: i64, limit: i64) {
        *self = Self { level: self.level.saturating_add(tokens).max(DEEPEST), ..*self }.capped(limit);
    }

    /// How long until `tokens` are there, from `self.at` on; `None` if the bucket never holds so many.
    pub(super) fn wait(self, tokens: i64, rate: Rate) -> Option<Duration> {
        if tokens > rate.limit {
            return None;
        }
        let missing = i128::from(tokens - self.level) * i128::from(rate.window) - i128::from(self.carry);
        let limit = i128::from(rate.limit);
        let ms = if missing > 0 { (missing + limit - 1) / limit } else { 0 };
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }

    fn capped(self, limit: i64) -> Self {
        if self.level >= limit { Self { level: limit, carry: 0, ..self } } else { self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    /// What a bucket is: parts of 1/window of a token, at most `limit * window` of them, `limit` more each millisecond.
    struct Exact {
        parts: i128,
        at: UnixMs,
    }

    fn rates() -> impl Strategy<Value = Rate> {
        let limit = prop_oneof![1..=5_i64, 1..=5_000_i64, 999_999_000_000..=1_000_000_000_000_i64];
        (limit, prop_oneof![Just(60_000), Just(DAY)]).prop_map(|(limit, window)| Rate { limit, window })
    }

    proptest! {
        #[test]
        fn it_is_the_exact_bucket_and_its_waits_are_true(
            rate in rates(),
            steps in prop::collection::vec((0..200_000_u64, 1..=6_i64), 1..80),
        ) {
            let full = i128::from(rate.limit) * i128::from(rate.window);
            let mut exact = Exact { parts: full, at: 0 };
            let mut bucket = Bucket::full(rate, 0);
            let mut taken: Vec<(UnixMs, i128)> = Vec::new();
            let mut now = 0;
            for (passed, share) in steps {
                now += passed;
                let tokens = (rate.limit / 7 * share).max(share).min(rate.limit);
                exact.parts = (exact.parts + i128::from(now - exact.at) * i128::from(rate.limit)).min(full);
                exact.at = now;
                bucket = bucket.refilled(rate, now);
                let parts = i128::from(bucket.level) * i128::from(rate.window) + i128::from(bucket.carry);
                prop_assert_eq!(parts, exact.parts, "at {}", now);

                let wait = bucket.wait(tokens, rate).unwrap();
                let ms = u64::try_from(wait.as_millis()).unwrap();
                prop_assert!(bucket.refilled(rate, now + ms).level >= tokens, "it has room when it says so");
                prop_assert!(ms == 0 || bucket.refilled(rate, now + ms - 1).level < tokens, "and not before");
                if bucket.level >= tokens {
                    bucket.add(-tokens, rate.limit);
                    exact.parts -= i128::from(tokens) * i128::from(rate.window);
                    taken.push((now, i128::from(tokens)));
                }
            }
            for (start, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (at, tokens) in taken.iter().skip(start) {
                    sum += tokens * i128::from(rate.window);
                    let most = full + i128::from(at - from) * i128::from(rate.limit);
                    prop_assert!(sum <= most, "{sum} of {most} in {from}..={at}");
                }
            }
        }

        #[test]
        fn a_debt_is_paid_off_at_the_same_rate(rate in rates(), debt in 0..=MOST, passed in 0..10 * DAY.unsigned_abs()) {
            let mut bucket = Bucket { level: 0, carry: 0, at: 0 };
            bucket.add(-debt, rate.limit);
            let gained = i128::from(passed) * i128::from(rate.limit);
            let full = i128::from(rate.limit) * i128::from(rate.window);
            let expected = (gained - i128::from(debt) * i128::from(rate.window)).min(full);
            let bucket = bucket.refilled(rate, passed);
            prop_assert_eq!(i128::from(bucket.level) * i128::from(rate.window) + i128::from(bucket.carry), expected);
        }
    }

    #[test]
    fn time_that_goes_back_adds_nothing_and_freezes_nothing_for_long() {
        let rate = Rate { limit: 60, window: 60_000 };
        let bucket = Bucket { level: 10, carry: 5, at: 1_000_000 };
        assert_eq!(bucket.refilled(rate, 999_000), bucket);
        let far = bucket.refilled(rate, 900_000);
        assert_eq!(far, Bucket { at: 900_000, ..bucket });
        assert_eq!(far.refilled(rate, 901_000).level, 11);
    }

    #[test]
    fn more_than_the_bucket_holds_never_has_room() {
        let rate = Rate { limit: 60, window: 60_000 };
        assert_eq!(Bucket::full(rate, 0).wait(61, rate), None);
        assert_eq!(Bucket::full(rate, 0).wait(60, rate), Some(Duration::ZERO));
    }
}
