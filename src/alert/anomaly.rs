//! When an hour cost much more than that hour of the week usually does.
//!
//! Usual is the median of the same hour in the four weeks before: a median, because last week's incident must not become
//! this week's measure. An hour is unusual when it exceeds the median by the factor and by more than those weeks differ among
//! each other, and is worth an alert from the floor on. With fewer than two weeks to compare there is no usual.

use serde_json::json;

use super::news::{Kind, News, id, moment};
use crate::clock::UnixMs;
use crate::config::NanoUsd;
use crate::ids::TenantId;

/// Weeks that are compared.
pub(super) const WEEKS: u64 = 4;
/// Milliseconds of a week.
pub(super) const WEEK: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Fewest weeks that make something usual.
const FEWEST: usize = 2;
/// How many times the usual difference (as a standard deviation, from the median of differences) is no accident.
const SPREADS: f64 = 3.0;
/// From the median of absolute differences to a standard deviation.
const DEVIATION: f64 = 1.4826;

/// What the hour usually costs, if `spent` is unusual. `before` are the same hours of the weeks before, those that are known.
pub(super) fn unusual(spent: i64, before: &[i64], factor: f64, floor: NanoUsd) -> Option<NanoUsd> {
    if before.len() < FEWEST || spent < floor.0 || spent <= 0 {
        return None;
    }
    let usual = median(before);
    let differences: Vec<i64> = before.iter().map(|nano| nano.saturating_sub(usual).saturating_abs()).collect();
    let spread = float(median(&differences)) * DEVIATION * SPREADS;
    let excessive = float(spent) > float(usual) * factor && float(spent) > float(usual) + spread;
    excessive.then_some(NanoUsd(usual))
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    lower + (upper - lower) / 2
}

#[expect(clippy::cast_precision_loss, reason = "a comparison with a factor has no such digits")]
fn float(nano: i64) -> f64 {
    nano as f64
}

/// The alert: once a day, for what is unusual at nine often is at ten too.
pub(super) fn news(tenant: &TenantId, hour: UnixMs, spent: NanoUsd, usual: NanoUsd, weeks: usize) -> News {
    let day = moment(hour, "%Y-%m-%d");
    News {
        id: id(&["anomaly", tenant.as_str(), &day]),
        kind: Kind::SpendAnomaly,
        tenant: Some(tenant.clone()),
        title: format!(
            "{tenant}: ${spent} spent in the hour from {}, usually ${usual}",
            moment(hour, "%H:%M UTC on %-d %b")
        ),
        text: format!(
            "Usual is the median of the same hour in the last {weeks} weeks. More of this kind is not told before the next \
             day."
        ),
        facts: json!({ "hour": hour, "spent": spent.to_string(), "usual": usual.to_string(), "weeks": weeks }),
        loud: true,
        threshold: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_unusual_by_factor_by_spread_and_from_the_floor_on() {
        let usd = |dollars: i64| NanoUsd::dollars(dollars).0;
        let cases: [(&str, i64, &[i64], Option<i64>); 10] = [
            ("as always", 10, &[10, 11, 9, 10], None),
            ("four times", 40, &[10, 11, 9, 10], Some(10)),
            ("just the factor", 30, &[10, 10, 10, 10], None),
            ("over the factor", 31, &[10, 10, 10, 10], Some(10)),
            ("below the floor", 4, &[1, 1, 1, 1], None),
            ("never anything at this hour", 6, &[0, 0, 0, 0], Some(0)),
            ("a single week", 100, &[1], None),
            ("two weeks", 100, &[1, 1], Some(1)),
            ("one incident is not the measure", 60, &[10, 500, 10, 10], Some(10)),
            ("weeks that differ much", 60, &[2, 40, 1, 30], None),
        ];
        for (case, spent, before, expected) in cases {
            let before: Vec<i64> = before.iter().map(|dollars| usd(*dollars)).collect();
            let found = unusual(usd(spent), &before, 3.0, NanoUsd::dollars(5));
            assert_eq!(found, expected.map(NanoUsd::dollars), "{case}");
        }
    }

    #[test]
    fn one_day_has_one_alert() {
        let at = |hour| news(&TenantId::new("acme"), hour, NanoUsd::dollars(40), NanoUsd::dollars(10), 4);
        let nine = at(1_793_523_600_000);
        assert_eq!(nine.title, "acme: $40.00 spent in the hour from 09:00 UTC on 1 Nov, usually $10.00");
        assert_eq!(nine.id, at(1_793_527_200_000).id);
        assert_ne!(nine.id, at(1_793_523_600_000 + 24 * 3_600_000).id);
    }
}
