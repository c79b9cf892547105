//! When a Redis that fails is left alone: after five failures in a row, or when half of the last twenty operations failed.
//!
//! The first rule catches a server that is dead or hangs, the second one that is slow every other time. It knows nothing
//! of waiting: whoever asks stops asking, and makes a new breaker with the next connection.

const IN_A_ROW: u32 = 5;
const WINDOW: u32 = 20;
const OF_WINDOW: u32 = 10;

/// The last operations on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    in_a_row: u32,
    seen: u32,
    /// One bit each for the last [`WINDOW`] operations, set when it failed.
    recent: u32,
}

impl Breaker {
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.note(0);
    }

    /// Whether this failure was one too many.
    pub(super) fn failed(&mut self) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.note(1);
        self.in_a_row >= IN_A_ROW || (self.seen >= WINDOW && self.recent.count_ones() >= OF_WINDOW)
    }

    fn note(&mut self, failure: u32) {
        self.seen = self.seen.saturating_add(1);
        self.recent = ((self.recent << 1) | failure) & ((1 << WINDOW) - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many operations pass until it opens, when `fails(n)` tells whether the n-th fails; at most 1000.
    fn opens_at(fails: impl Fn(u32) -> bool) -> Option<u32> {
        let mut breaker = Breaker::default();
        (1..=1000).find(|n| {
            if fails(*n) {
                return breaker.failed();
            }
            breaker.succeeded();
            false
        })
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        assert_eq!(opens_at(|_| true), Some(5));
        assert_eq!(opens_at(|n| n > 100), Some(105));
    }

    #[test]
    fn half_of_twenty_failing_open_it_and_fewer_do_not() {
        assert_eq!(opens_at(|n| n % 2 == 0), Some(20));
        assert_eq!(opens_at(|n| n % 3 == 0), None);
        assert_eq!(opens_at(|n| n % 6 > 3), None);
        assert_eq!(opens_at(|_| false), None);
    }
}
