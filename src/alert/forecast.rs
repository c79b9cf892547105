//! When a budget will not last for its period at the pace of now.
//!
//! The pace is taken over four windows, an hour to three days. One alone misleads: a short one takes a busy hour for the
//! whole month, a long one still sees yesterday's burst when it is over. So a long and a short one must agree that the money
//! ends before the period does, and the later of their dates is told. Too little data gives no forecast.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::news::{Kind, News, budget_facts, budget_title, id, moment};
use crate::clock::UnixMs;
use crate::config::{NanoUsd, Period};
use crate::ids::TenantId;
use crate::limit::BudgetStanding;

/// Milliseconds of an hour, the slot in which spending is counted here.
pub(super) const HOUR: u64 = 60 * 60 * 1_000;
/// The windows, in hours.
const WINDOWS: [u64; 4] = [1, 6, 24, 72];
/// How far back spending is looked at.
pub(super) const REACH: u64 = 73 * HOUR;

/// One window's view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    pub(super) hours: u64,
    /// Nano-dollars an hour.
    pub(super) rate: f64,
    /// When the money ends at this rate; `None` if that is not to be seen.
    pub(super) ends: Option<UnixMs>,
}

/// The hours of the long and the short window that must agree, and how many hours of data are needed.
fn windows(period: Period) -> Option<(u64, u64, u64)> {
    match period {
        Period::Day => Some((6, 1, 3)),
        Period::Week => Some((24, 6, 6)),
        Period::Month => Some((72, 6, 24)),
        // What leaves a window at its other end cannot be told from a pace.
        Period::Rolling(_) => None,
    }
}

/// Each window's pace; `None` if there is less data than the period asks for. `spent` is by the start of its hour.
pub(super) fn paces(standing: &BudgetStanding, spent: &BTreeMap<UnixMs, i64>, now: UnixMs) -> Option<Vec<Pace>> {
    let (_, _, least) = windows(standing.budget.period)?;
    let first = spent.iter().find(|(_, nano)| **nano > 0).map(|(slot, _)| *slot)?;
    if now.saturating_sub(first) < least * HOUR {
        return None;
    }
    let left = standing.budget.usd.0.saturating_sub(standing.spent.0).max(0);
    let pace = |hours: u64| {
        // Whole slots only, so a window reaches back to the start of the hour it begins in.
        let begin = (now.saturating_sub(hours * HOUR) / HOUR * HOUR).max(first);
        let in_it: i64 = spent.range(begin..=now).map(|(_, nano)| *nano).fold(0, i64::saturating_add);
        let rate = float(in_it) / (float(now.saturating_sub(begin)) / float(HOUR));
        Pace { hours, rate, ends: ends(left, rate, now) }
    };
    Some(WINDOWS.map(pace).to_vec())
}

fn ends(left: i64, rate: f64, now: UnixMs) -> Option<UnixMs> {
    let hours = float(left) / rate;
    // Ten years are as good as never.
    if !(0.0..=87_600.0).contains(&hours) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and ten years")]
    Some(now.saturating_add((hours * float(HOUR)) as u64))
}

#[expect(clippy::cast_precision_loss, reason = "a forecast has no such digits")]
fn float(value: impl TryInto<i64>) -> f64 {
    value.try_into().unwrap_or(i64::MAX) as f64
}

/// When the money ends, if that is before the period does.
pub(super) fn ends_early(standing: &BudgetStanding, paces: &[Pace]) -> Option<UnixMs> {
    let (long, short, _) = windows(standing.budget.period)?;
    if standing.spent >= standing.budget.usd {
        return None;
    }
    let end = |hours: u64| paces.iter().find(|pace| pace.hours == hours)?.ends;
    let ends = end(long)?.max(end(short)?);
    (ends < standing.until).then_some(ends)
}

/// The alert, once a period and amount.
pub(super) fn news(tenant: &TenantId, standing: &BudgetStanding, paces: &[Pace], ends: UnixMs, now: UnixMs) -> News {
    let budget = &standing.budget;
    let when = match budget.period {
        Period::Day => moment(ends, "at %H:%M UTC"),
        _ => format!("on the {} ({})", ordinal(&moment(ends, "%-d")), moment(ends, "%a %-d %b %Y")),
    };
    let shown: Vec<Value> = paces
        .iter()
        .map(|pace| json!({ "hours": pace.hours, "usd_per_hour": dollars(pace.rate).to_string(), "ends": pace.ends }))
        .collect();
    let (long, _, _) = windows(budget.period).unwrap_or_default();
    let rate = paces.iter().find(|pace| pace.hours == long).map_or(0.0, |pace| pace.rate);
    let remaining = float(standing.until.saturating_sub(now)) / float(HOUR);
    let projected = standing.spent.plus(dollars(rate * remaining));
    let mut facts = budget_facts(standing);
    if let Some(members) = facts.as_object_mut() {
        members.insert("ends".to_owned(), json!(ends));
        members.insert("projected_usd".to_owned(), json!(projected.to_string()));
        members.insert("paces".to_owned(), json!(shown));
    }
    let text = format!(
        "${} of ${} is spent. At the pace of the last {long} hours (${} an hour) it would be ${projected} by the end of the \
         period on {}.",
        standing.spent,
        budget.usd,
        cents(rate),
        moment(standing.until, "%a %-d %b %Y %H:%M UTC"),
    );
    News {
        id: id(&["forecast", tenant.as_str(), &budget.name, &standing.from.to_string(), &budget.usd.to_string()]),
        kind: Kind::BudgetForecast,
        tenant: Some(tenant.clone()),
        title: format!("{}: at this pace spent {when}", budget_title(tenant, standing)),
        text,
        facts,
        loud: true,
        threshold: None,
    }
}

/// A rate as an amount, to the cent.
fn dollars(nano: f64) -> NanoUsd {
    const CENT: i64 = 10_000_000;
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is only shown")]
    let nano = nano as i64;
    NanoUsd(nano / CENT * CENT)
}

/// A rate as text; below a cent there is no rounding to nothing.
fn cents(nano: f64) -> String {
    format!("{:.4}", nano / 1e9)
}

fn ordinal(day: &str) -> String {
    let ending = match day {
        "1" | "21" | "31" => "st",
        "2" | "22" => "nd",
        "3" | "23" => "rd",
        _ => "th",
    };
    format!("{day}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Budget;

    /// 1 November 2026, 00:00 UTC.
    const NOVEMBER: UnixMs = 1_793_491_200_000;
    const DAY: u64 = 24 * HOUR;

    fn standing(period: Period, usd: i64, spent: i64, from: UnixMs, until: UnixMs) -> BudgetStanding {
        let budget = Budget {
            name: period.to_string(),
            period,
            usd: NanoUsd::dollars(usd),
            hard: true,
            alert_at: vec![],
            key: None,
            model: None,
            tag: None,
        };
        BudgetStanding { budget, from, until, spent: NanoUsd::dollars(spent), held: NanoUsd(0), drift: NanoUsd(0) }
    }

    fn month(usd: i64, spent: i64) -> BudgetStanding {
        standing(Period::Month, usd, spent, NOVEMBER, NOVEMBER + 30 * DAY)
    }

    /// Dollars in each of the hours before `now`, the latest last.
    fn hours(now: UnixMs, dollars: impl IntoIterator<Item = i64>) -> BTreeMap<UnixMs, i64> {
        let dollars: Vec<i64> = dollars.into_iter().collect();
        let first = now - dollars.len() as u64 * HOUR;
        dollars.iter().enumerate().map(|(hour, usd)| (first + hour as u64 * HOUR, usd * 1_000_000_000)).collect()
    }

    fn end(standing: &BudgetStanding, spent: &BTreeMap<UnixMs, i64>, now: UnixMs) -> Option<UnixMs> {
        ends_early(standing, &paces(standing, spent, now)?)
    }

    #[test]
    fn a_steady_pace_gives_the_day_on_which_the_money_ends() {
        // On the 10th, $216 of $432 are spent, a dollar an hour: there is money for nine days more.
        let now = NOVEMBER + 9 * DAY;
        let (standing, spent) = (month(432, 216), hours(now, vec![1; 72]));
        assert_eq!(end(&standing, &spent, now), Some(now + 9 * DAY));
        let paces = paces(&standing, &spent, now).unwrap();
        let news = news(&TenantId::new("acme"), &standing, &paces, now + 9 * DAY, now);
        assert_eq!(news.title, "acme: budget month: at this pace spent on the 19th (Thu 19 Nov 2026)");
        assert_eq!(news.facts["projected_usd"], "720.00");
        assert_eq!(news.id, format!("forecast:acme:month:{NOVEMBER}:432.00"));
    }

    #[test]
    fn what_lasts_is_over_or_is_already_spent_is_not_told() {
        let now = NOVEMBER + 9 * DAY;
        assert_eq!(end(&month(1_000, 216), &hours(now, vec![1; 72]), now), None, "it lasts");
        assert_eq!(end(&month(300, 300), &hours(now, vec![1; 72]), now), None, "it is spent");
        // A burst two days ago, and nothing since.
        let burst = (0..72).map(|hour| if (10..14).contains(&hour) { 100 } else { 0 });
        assert_eq!(end(&month(600, 500), &hours(now, burst), now), None, "it is over");
        // A busy hour just now, in a quiet month.
        let busy = (0..72).map(|hour| if hour == 71 { 6 } else { 0 });
        assert_eq!(end(&month(500, 10), &hours(now, busy), now), None, "one hour is no pace");
        assert_eq!(end(&month(500, 10), &BTreeMap::new(), now), None, "nothing is spent");
    }

    #[test]
    fn a_few_hours_of_data_are_needed_and_more_for_a_longer_period() {
        let now = NOVEMBER + 12 * HOUR;
        let day = standing(Period::Day, 100, 30, NOVEMBER, NOVEMBER + DAY);
        assert_eq!(end(&day, &hours(now, [15, 15]), now), None);
        assert_eq!(end(&day, &hours(now, [10, 10, 10]), now), Some(now + 7 * HOUR));
        let week = standing(Period::Week, 100, 30, NOVEMBER, NOVEMBER + 7 * DAY);
        assert_eq!(end(&week, &hours(now, [10, 10, 10]), now), None);
        assert_eq!(end(&month(100, 30), &hours(now, [5; 12]), now), None);
        let rolling = standing(Period::Rolling(std::time::Duration::from_secs(86_400)), 100, 30, NOVEMBER, now);
        assert_eq!(end(&rolling, &hours(now, [10; 24]), now), None, "a window has no end to run out before");
    }
}
