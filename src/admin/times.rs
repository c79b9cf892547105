//! Times as people write them in a query, and spans of time for reports.

use http::StatusCode;

use super::Problem;
use super::forms::duration_ms;
use crate::clock::{UnixMs, utc_month};
use crate::store::Slot;

/// Numbers below are no milliseconds that anybody means: this is 1973, but the same in seconds is the year 5138.
const LEAST_MS: UnixMs = 100_000_000_000;

const FORMS: &str = "write a time as in 2026-11-01T00:00:00Z, a day in UTC as in 2026-11-01, a month as in 2026-11, an age as in 7d or \
                     -24h, or milliseconds since 1970-01-01 UTC";

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) since: UnixMs,
    /// Not in it any more.
    pub(super) until: UnixMs,
}

impl Span {
    /// What `from` and `to` say; this month in UTC, as far as it is gone, if they say nothing.
    pub(super) fn of(from: Option<&str>, to: Option<&str>, now: UnixMs) -> Result<Self, Problem> {
        let month = utc_month(now).map_or(0, |(start, _)| start);
        let since = from.map_or(Ok(month), |text| read("from", text, now))?;
        // So that what happens in this very millisecond is in it.
        let until = to.map_or(Ok(now.saturating_add(1)), |text| read("to", text, now))?;
        if since >= until {
            let text = format!(
                "`from` ({}) must be before `to` ({}), which is not in the span itself; without `from` it is the start of this month \
                 in UTC, without `to` it is now",
                shown(since),
                shown(until)
            );
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        Ok(Self { since, until })
    }

    /// The shortest span of whole slots with all of this one in it.
    pub(super) fn outward(self, grain: Slot) -> Self {
        let ms = grain.ms();
        Self { since: self.since / ms * ms, until: self.until.div_ceil(ms).saturating_mul(ms) }
    }
}

/// The time that a parameter says.
pub(super) fn read(name: &str, text: &str, now: UnixMs) -> Result<UnixMs, Problem> {
    time(text.trim(), now).ok_or_else(|| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{name}`: `{shown}` is not a time: {FORMS}"))
    })
}

fn time(text: &str, now: UnixMs) -> Option<UnixMs> {
    if text == "now" {
        return Some(now);
    }
    if let Some(age) = duration_ms(text.strip_prefix('-').unwrap_or(text)) {
        return Some(now.saturating_sub(age));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|ms| (LEAST_MS..=jiff_end()).contains(ms));
    }
    let whole = match text.len() {
        7 => format!("{text}-01T00:00:00Z"),
        10 => format!("{text}T00:00:00Z"),
        // A plus that was not escaped in the query is read as a blank.
        _ => text.replace(' ', "+"),
    };
    u64::try_from(whole.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
}

fn jiff_end() -> UnixMs {
    u64::try_from(jiff::Timestamp::MAX.as_millisecond()).unwrap_or(UnixMs::MAX)
}

/// A time as in `2026-11-01T00:00:00Z`.
pub(super) fn shown(at: UnixMs) -> String {
    let stamp = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| at.to_string(), |stamp| stamp.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-26T12:30:00Z
    const NOW: UnixMs = 1_795_696_200_000;

    #[test]
    fn times_are_read_in_every_form_and_said_in_one() {
        for (text, same) in [
            ("2026-11-01T10:00:00Z", "2026-11-01T10:00:00Z"),
            ("2026-11-01T10:00:00+02:00", "2026-11-01T08:00:00Z"),
            ("2026-11-01T10:00:00 02:00", "2026-11-01T08:00:00Z"),
            ("2026-11-02", "2026-11-02T00:00:00Z"),
            ("2026-10", "2026-10-01T00:00:00Z"),
            ("-24h", "2026-11-25T12:30:00Z"),
            ("7d", "2026-11-19T12:30:00Z"),
            ("now", "2026-11-26T12:30:00Z"),
            ("1795696200000", "2026-11-26T12:30:00Z"),
        ] {
            assert_eq!(shown(read("from", text, NOW).unwrap()), same, "{text}");
        }
        for text in
            ["", "yesterday", "2026", "2026-13", "2026-11-31", "1795696200", "-1", "--1d", "99999999999999999999"]
        {
            let told = read("from", text, NOW).unwrap_err().detail;
            assert!(told.contains("`from`") && told.contains("2026-11-01T00:00:00Z"), "{text}: {told}");
        }
    }

    #[test]
    fn a_span_is_this_month_unless_it_is_said_and_never_empty() {
        let span = |from, to| Span::of(from, to, NOW).map(|span| span.outward(Slot::Hour));
        let month = span(None, None).unwrap();
        assert_eq!(
            (shown(month.since), shown(month.until)),
            ("2026-11-01T00:00:00Z".into(), "2026-11-26T13:00:00Z".into())
        );
        let told = span(Some("2026-11-02"), Some("2026-11-02")).unwrap_err().detail;
        assert!(told.contains("`from`") && told.contains("2026-11-02"), "{told}");
        assert!(span(None, Some("2026-10")).is_err());
    }

    proptest! {
        #[test]
        fn rounding_outward_takes_in_all_and_less_than_a_slot_more(since in 0..NOW, length in 1..NOW, day in any::<bool>()) {
            let slot = if day { Slot::Day } else { Slot::Hour };
            let span = Span { since, until: since + length };
            let whole = span.outward(slot);
            prop_assert!(whole.since <= span.since && span.since - whole.since < slot.ms());
            prop_assert!(whole.until >= span.until && whole.until - span.until < slot.ms());
            prop_assert!(whole.since.is_multiple_of(slot.ms()) && whole.until.is_multiple_of(slot.ms()));
        }
    }
}
