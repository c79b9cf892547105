//! Periods of budgets: which slots count at a moment, and when money is free again.
//!
//! A day, a week and a month have one slot, the period itself. A rolling window has sixty, each a sixtieth of it, and one
//! more for what is only in part in the window: a slot counts while any part of it does, so a rolling budget is never
//! generous. Slots of rolling windows are multiples of their length since the epoch, as the ledger groups them.

use std::time::Duration;

use crate::clock::{UnixMs, utc_month};
use crate::config::Period;

const DAY: u64 = 24 * 60 * 60 * 1_000;
/// 1970-01-01 was a Thursday, three days after a Monday.
const THURSDAY: u64 = 3;
const SLOTS: u64 = 60;

/// A period at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The start of each slot that counts, oldest first. Never empty; the last is charged.
    pub(super) slots: Vec<UnixMs>,
    /// Start of what counts.
    pub(super) from: UnixMs,
    /// When all (calendar) or the oldest slot (rolling) counts no more.
    pub(super) until: UnixMs,
    /// Length of a slot of a rolling window; a day for the others, whose slots the ledger gives day by day.
    pub(super) slot_ms: u64,
    /// Whether slots leave one by one.
    pub(super) rolling: bool,
}

impl Span {
    /// The period that `at` is in.
    pub(super) fn of(period: Period, at: UnixMs) -> Self {
        let day = at / DAY;
        let calendar =
            |from: UnixMs, until: UnixMs| Self { slots: vec![from], from, until, slot_ms: DAY, rolling: false };
        match period {
            Period::Day => calendar(day * DAY, (day + 1) * DAY),
            Period::Week => {
                let monday = day.saturating_sub((day + THURSDAY) % 7);
                calendar(monday * DAY, (monday + 7) * DAY)
            }
            Period::Month => {
                let (from, until) = utc_month(at).unwrap_or((0, UnixMs::MAX / 2));
                calendar(from, until)
            }
            Period::Rolling(length) => {
                let length = ms(length).max(1);
                let slot_ms = length.div_ceil(SLOTS).max(1);
                let (first, last) = (at.saturating_sub(length) / slot_ms, at / slot_ms);
                let slots: Vec<UnixMs> = (first..=last).map(|slot| slot * slot_ms).collect();
                let from = first * slot_ms;
                Self { slots, from, until: from + slot_ms + length, slot_ms, rolling: true }
            }
        }
    }

    /// The slot that is charged.
    pub(super) fn charged(&self) -> UnixMs {
        self.slots.last().copied().unwrap_or(self.from)
    }

    /// How long after `now` some of the money is free again, when `first` is the oldest slot with something spent in it.
    pub(super) fn resets_in(&self, now: UnixMs, first: Option<usize>) -> Duration {
        let oldest = first.and_then(|first| self.slots.get(first)).copied();
        let until = match oldest {
            Some(slot) if self.rolling => self.until + slot.saturating_sub(self.from),
            _ => self.until,
        };
        Duration::from_millis(until.saturating_sub(now).max(1))
    }

    /// How long the counters of a slot are of use after its start, milliseconds.
    pub(super) fn kept(&self) -> u64 {
        self.until.saturating_sub(self.from).saturating_mul(2).saturating_add(DAY)
    }
}

/// Whole milliseconds.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UnixMs {
        text.parse::<Timestamp>().unwrap().as_millisecond().unsigned_abs()
    }

    #[test]
    fn days_weeks_and_months_turn_at_midnight_utc() {
        for (period, moment, from, until) in [
            (Period::Day, "2026-02-28T23:59:59.999Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Period::Day, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
            (Period::Week, "2026-11-29T23:59:59.999Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Period::Week, "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"),
            (Period::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "2026-12-31T23:59:59.999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            let span = Span::of(period, at(moment));
            assert_eq!((span.from, span.until, span.slots), (at(from), at(until), vec![at(from)]), "{period} {moment}");
        }
    }

    proptest! {
        #[test]
        fn a_rolling_window_counts_all_of_it_and_at_most_a_slot_more(
            length in 60_000..=366 * DAY,
            at in 400 * DAY..40_000 * DAY,
            before in 0..366 * DAY,
        ) {
            let span = Span::of(Period::Rolling(Duration::from_millis(length)), at);
            prop_assert!(span.slots.len() <= 62);
            prop_assert!(span.slots.windows(2).all(|pair| pair[1] - pair[0] == span.slot_ms));
            let moment = at - before;
            let counts = span.slots.contains(&(moment / span.slot_ms * span.slot_ms));
            prop_assert!(counts || before > length, "all of the window counts");
            prop_assert!(!counts || before < length + span.slot_ms, "and less than a slot more");
            let slot = span.slots.iter().position(|slot| *slot <= moment && moment < slot + span.slot_ms);
            if let Some(slot) = slot {
                // To the millisecond: it counts until then and no longer.
                let free = at + ms(span.resets_in(at, Some(slot)));
                let after = |at| Span::of(Period::Rolling(Duration::from_millis(length)), at);
                prop_assert!(!after(free).slots.contains(&span.slots[slot]));
                prop_assert!(after(free - 1).slots.contains(&span.slots[slot]));
            }
        }
    }
}
