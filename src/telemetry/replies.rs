//! Whose fault a reply is, as a metric: the service objective counts only what this program itself got wrong.

use prometheus::IntCounterVec;

use super::catalogue::Make;
use super::metrics::MetricsError;
use crate::store::LedgerRow;

/// See the module.
pub(super) struct Replies(IntCounterVec);

impl Replies {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, MetricsError> {
        Ok(Self(make.counters(
            "replies_total",
            "Replies by class of status and by who decided it; one that broke off counts as 5xx, a client that left as other.",
            &["class", "source"],
        )?))
    }

    /// Counts the reply of a row; a check of a hit has none.
    pub(super) fn count(&self, row: &LedgerRow) {
        if row.is_check() {
            return;
        }
        // The listener answers 500 for who panics, when this row is long written.
        let panicked = row.status == 0 && std::thread::panicking();
        let labels = if panicked { ["5xx", "remora"] } else { [class(row), source(row)] };
        self.0.with_label_values(&labels).inc();
    }
}

fn class(row: &LedgerRow) -> &'static str {
    match (row.outcome.as_ref(), row.status) {
        ("cancelled", _) => "other",
        // The status was sent when all was well.
        ("failed", 200..=299) => "5xx",
        (_, 200..=299) => "2xx",
        (_, 400..=499) => "4xx",
        (_, 500..=599) => "5xx",
        _ => "other",
    }
}

fn source(row: &LedgerRow) -> &'static str {
    match (row.outcome.as_ref(), row.reason.as_deref()) {
        // Who asks for nothing but what is stored gets 504 by the book when nothing is.
        ("hit", _) | (_, Some("not_cached")) => "cache",
        ("refused", _) | (_, Some("server_shutdown")) => "remora",
        ("cancelled", _) if row.upstream.is_none() => "remora",
        _ => "upstream",
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::store::sample;
    use crate::telemetry::metrics::Metrics;

    fn row(outcome: &'static str, status: u16, reason: Option<&'static str>, asked: bool) -> LedgerRow {
        let (outcome, reason) = (Cow::Borrowed(outcome), reason.map(Cow::Borrowed));
        let upstream = asked.then(|| "openai".to_owned());
        LedgerRow { outcome, status, reason, upstream, ..sample::row("acme", 1) }
    }

    #[test]
    fn only_what_this_program_got_wrong_counts_as_its_fault() {
        for (row, labels) in [
            (row("hit", 200, None, false), ["2xx", "cache"]),
            (row("miss", 200, None, true), ["2xx", "upstream"]),
            (row("bypass", 404, None, true), ["4xx", "upstream"]),
            (row("refused", 401, Some("invalid_api_key"), false), ["4xx", "remora"]),
            (row("refused", 503, Some("limits_unavailable"), false), ["5xx", "remora"]),
            (row("refused", 504, Some("not_cached"), false), ["5xx", "cache"]),
            (row("failed", 502, Some("upstream_closed"), true), ["5xx", "upstream"]),
            (row("failed", 429, None, true), ["4xx", "upstream"]),
            (row("failed", 200, Some("upstream_broken_off"), true), ["5xx", "upstream"]),
            (row("failed", 200, Some("server_shutdown"), true), ["5xx", "remora"]),
            (row("cancelled", 200, None, true), ["other", "upstream"]),
            (row("cancelled", 0, None, false), ["other", "remora"]),
        ] {
            assert_eq!([class(&row), source(&row)], labels, "{} {} {:?}", row.outcome, row.status, row.reason);
        }
    }

    #[test]
    fn a_request_that_panics_is_a_fault_of_this_program_and_a_check_is_no_reply() {
        struct Counts(Metrics);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.request(&row("cancelled", 0, None, false), false);
                let told = String::from_utf8(self.0.render()).unwrap();
                assert!(told.contains("remora_replies_total{class=\"5xx\",source=\"remora\"} 1\n"), "{told}");
            }
        }
        let counts = Counts(Metrics::new([], []).unwrap());
        counts.0.request(&row("audit", 200, None, true), false);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _counts = counts;
            panic!("as if a handler did");
        }));
        assert!(panicked.is_err());
    }
}
