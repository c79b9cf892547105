//! When a share of a budget is spent.
//!
//! In a day, a week or a month spending only rises, so a share is crossed once and the id of the alert is enough to tell it
//! once. A window that rolls may be crossed many times: each time gets a mark with the moment of the crossing, and there is
//! no next time before spending has fallen clearly below the share.
//!
//! Of several shares that are crossed, somebody is told of the highest; the lower ones are stored as told.

use serde_json::json;

use super::news::{Kind, News, budget_facts, budget_title, id, moment};
use crate::clock::UnixMs;
use crate::config::NanoUsd;
use crate::ids::TenantId;
use crate::limit::BudgetStanding;

/// By which part of the share spending must fall below it before a window is crossed again: a twentieth.
const MARGIN: i64 = 20;

/// A share of a budget in dollars.
pub(super) fn level(usd: NanoUsd, share: f64) -> NanoUsd {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "half a nano-dollar is no money")]
    let nano = (usd.0 as f64 * share).round() as i64;
    NanoUsd(nano)
}

/// A share as percent, as in `80` or `62.5`.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What becomes of the mark of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Stay,
    /// It is crossed now.
    Cross,
    /// It may be crossed again.
    Rearm,
}

/// Whether a window is crossed, or may be crossed again. `above` tells whether it counts as crossed so far.
pub(super) fn turn(above: bool, spent: NanoUsd, level: NanoUsd) -> Turn {
    if !above && spent >= level {
        return Turn::Cross;
    }
    if above && spent.0 < level.0.saturating_sub(level.0 / MARGIN) { Turn::Rearm } else { Turn::Stay }
}

/// The shares that are crossed, in rising order, each with what tells this crossing from others: the begin of the period.
pub(super) fn crossed(standing: &BudgetStanding) -> Vec<(f64, UnixMs)> {
    let reached = |share: &&f64| standing.spent >= level(standing.budget.usd, **share);
    standing.budget.alert_at.iter().filter(reached).map(|share| (*share, standing.from)).collect()
}

/// An alert for each crossing; the last, which is the highest, is told. The amount is part of the id: whoever gives a
/// budget more money wants to be told again.
pub(super) fn news(tenant: &TenantId, standing: &BudgetStanding, crossed: &[(f64, UnixMs)]) -> Vec<News> {
    let budget = &standing.budget;
    let highest = crossed.len().saturating_sub(1);
    let one = |(place, (share, since)): (usize, &(f64, UnixMs))| {
        let percent = percent(*share);
        let left = NanoUsd(budget.usd.0.saturating_sub(standing.spent.0));
        let reached = if left.0 <= 0 { "all".to_owned() } else { format!("{percent} %") };
        let title = budget_title(tenant, standing);
        let refused = match (budget.hard, left.0 <= 0) {
            (true, true) => "It is a hard budget: requests that cost money are refused.",
            (true, false) => "It is a hard budget: requests are refused once what they may cost does not fit.",
            (false, _) => "It only warns: nothing is refused.",
        };
        let ends = match budget.period {
            crate::config::Period::Rolling(_) => format!("It counts the last {}.", budget.period),
            _ => format!("The period ends on {}.", moment(standing.until, "%a %-d %b %Y %H:%M UTC")),
        };
        let mut facts = budget_facts(standing);
        if let Some(members) = facts.as_object_mut() {
            members.insert("threshold_percent".to_owned(), json!(share * 100.0));
            members.insert("left".to_owned(), json!(left.to_string()));
        }
        News {
            id: id(&["budget", tenant.as_str(), &budget.name, &since.to_string(), &percent, &budget.usd.to_string()]),
            kind: Kind::BudgetThreshold,
            tenant: Some(tenant.clone()),
            title: format!("{title}: {reached} of ${} is spent (${})", budget.usd, standing.spent),
            text: format!("{refused} {ends}"),
            facts,
            loud: place == highest,
            threshold: Some(percent),
        }
    };
    crossed.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::config::{Budget, Period};

    fn standing(alert_at: Vec<f64>, usd: i64, spent: i64, from: UnixMs) -> BudgetStanding {
        let budget = Budget {
            name: "month".into(),
            period: Period::Month,
            usd: NanoUsd(usd),
            hard: true,
            alert_at,
            key: None,
            model: None,
            tag: None,
        };
        BudgetStanding { budget, from, until: from + 1, spent: NanoUsd(spent), held: NanoUsd(0), drift: NanoUsd(0) }
    }

    fn told(standing: &BudgetStanding) -> Vec<(String, bool)> {
        let news = news(&TenantId::new("acme"), standing, &crossed(standing));
        news.into_iter().map(|news| (news.id, news.loud)).collect()
    }

    #[test]
    fn the_highest_share_is_told_and_the_lower_ones_are_stored() {
        let id = |percent: &str| format!("budget:acme:month:7:{percent}:0.000001");
        let cases: [(i64, &[(&str, bool)]); 5] = [
            (499, &[]),
            (500, &[("50", true)]),
            (799, &[("50", true)]),
            (800, &[("50", false), ("80", true)]),
            (1_500, &[("50", false), ("80", false), ("100", true)]),
        ];
        for (spent, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(percent, loud)| (id(percent), *loud)).collect();
            assert_eq!(told(&standing(vec![0.5, 0.8, 1.0], 1_000, spent, 7)), expected, "{spent}");
        }
        assert_eq!(told(&standing(vec![], 1_000, 2_000, 7)), []);
        assert_eq!(
            (percent(0.8), percent(0.625), percent(10.0), percent(0.07)),
            ("80".into(), "62.5".into(), "1000".into(), "7".into())
        );
    }

    /// The store: an alert that is there is not raised again.
    #[derive(Default)]
    struct Told {
        ids: HashSet<String>,
        loud: Vec<String>,
    }

    impl Told {
        fn raise(&mut self, alerts: Vec<(String, bool)>) {
            for (id, loud) in alerts {
                if self.ids.insert(id.clone()) && loud {
                    self.loud.push(id);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn each_share_is_told_once_a_period_however_spending_goes(
            steps in prop::collection::vec((0_i64..400, 0_usize..3, any::<bool>()), 1..60),
            shares in prop::collection::btree_set(1_u32..200, 1..6),
        ) {
            let shares: Vec<f64> = shares.into_iter().map(|percent| f64::from(percent) / 100.0).collect();
            let (mut store, mut period, mut most) = (Told::default(), 1_u64, BTreeMap::new());
            // Three replicas, each of which may see an older state than the others.
            let mut seen = [0_i64; 3];
            let mut spent = 0_i64;
            for (more, replica, ends) in steps {
                if ends {
                    (period, spent, seen) = (period + 1, 0, [0; 3]);
                }
                spent += more;
                seen[replica] = spent;
                most.insert(period, spent);
                for view in seen {
                    store.raise(told(&standing(shares.clone(), 1_000, view, period)));
                }
            }
            let unique: HashSet<_> = store.loud.iter().collect();
            prop_assert_eq!(unique.len(), store.loud.len());
            for (period, most) in most {
                let reached = shares.iter().filter(|share| NanoUsd(most) >= level(NanoUsd(1_000), **share));
                for share in reached.clone() {
                    let id = format!("budget:acme:month:{period}:{}:0.000001", percent(*share));
                    prop_assert!(store.ids.contains(&id), "{id} is not stored");
                }
                if let Some(highest) = reached.last() {
                    let id = format!("budget:acme:month:{period}:{}:0.000001", percent(*highest));
                    prop_assert!(store.loud.contains(&id), "{id} was not told");
                }
            }
        }

        #[test]
        fn a_window_is_crossed_again_only_after_it_fell_clearly_below(
            spends in prop::collection::vec(0_i64..2_000, 1..200),
        ) {
            let level = NanoUsd(1_000);
            let (mut above, mut lowest, mut crossings) = (false, 0_i64, 0_u32);
            for spent in spends {
                lowest = lowest.min(spent);
                match turn(above, NanoUsd(spent), level) {
                    Turn::Cross => {
                        prop_assert!(spent >= 1_000 && (crossings == 0 || lowest < 950));
                        (above, lowest, crossings) = (true, spent, crossings + 1);
                    }
                    Turn::Rearm => {
                        prop_assert!(above && spent < 950);
                        above = false;
                    }
                    Turn::Stay => prop_assert!(above == (spent >= 950) || above == (spent >= 1_000)),
                }
            }
        }
    }
}
