//! The figures of a run: each day by itself, beside what Remora says.

use std::collections::BTreeMap;

use remora::replay::stats::Proportion;
use remora::store::LedgerRow;
use serde_json::{Value, json};

use crate::drive::{From, Outcome};
use crate::money::Rates;
use crate::traffic::Kind;

/// What became of some questions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) asked: usize,
    pub(crate) exact: usize,
    pub(crate) semantic: usize,
    pub(crate) shared: usize,
    pub(crate) wrong_exact: usize,
    pub(crate) wrong_semantic: usize,
    pub(crate) wrong_shared: usize,
    /// Answers that the upstream itself gave wrongly.
    pub(crate) wrong_upstream: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.asked += 1;
        let (count, wrong) = match outcome.from {
            From::Exact => (Some(&mut self.exact), &mut self.wrong_exact),
            From::Semantic => (Some(&mut self.semantic), &mut self.wrong_semantic),
            From::Shared => (Some(&mut self.shared), &mut self.wrong_shared),
            From::Upstream => (None, &mut self.wrong_upstream),
        };
        *wrong += usize::from(!outcome.right);
        if let Some(count) = count {
            *count += 1;
        }
    }

    pub(crate) fn hits(&self) -> usize {
        self.exact + self.semantic + self.shared
    }

    /// Wrong answers that Remora served.
    pub(crate) fn wrong(&self) -> usize {
        self.wrong_exact + self.wrong_semantic + self.wrong_shared
    }
}

/// Money of one hour or one day, nano-dollars.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Money {
    /// The same questions asked of the provider, reckoned by the bench.
    pub(crate) without: i64,
    /// What misses cost, reckoned by the bench from their answers.
    pub(crate) misses: i64,
    /// The ledger: answers, checks of hits, and vectors.
    pub(crate) completion: i64,
    pub(crate) check: i64,
    pub(crate) embedding: i64,
    /// The ledger: what was saved net.
    pub(crate) saved_net: i64,
    pub(crate) checks: usize,
}

impl Money {
    pub(crate) fn with(&self) -> i64 {
        self.completion + self.check + self.embedding
    }

    /// Saved net, as a share of what it would have cost.
    pub(crate) fn net_share(&self) -> f64 {
        (self.without - self.with()) as f64 / self.without as f64
    }

    /// The same before checks.
    pub(crate) fn gross_share(&self) -> f64 {
        (self.without - self.completion) as f64 / self.without as f64
    }

    /// What was saved gross in Remora's own words: net is that less checks and vectors.
    pub(crate) fn told_gross(&self) -> i64 {
        self.saved_net + self.check + self.embedding
    }

    /// The net share in Remora's own words: saved net, of what was paid for answers and saved gross.
    pub(crate) fn told_share(&self) -> f64 {
        self.saved_net as f64 / (self.completion + self.told_gross()) as f64
    }

    fn row(&mut self, row: &LedgerRow) {
        let cost = row.cost_nano_usd.unwrap_or(0);
        if row.is_check() {
            self.check += cost;
            self.checks += 1;
        } else {
            self.completion += cost;
        }
        self.embedding += row.embedding_nano_usd.unwrap_or(0);
        self.saved_net += row.saved_nano_usd.unwrap_or(0);
    }
}

/// One span of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    pub(crate) tally: Tally,
    pub(crate) money: Money,
    pub(crate) kinds: BTreeMap<Kind, Tally>,
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl Span {
    fn add(&mut self, outcome: &Outcome, rates: &Rates) {
        self.tally.add(outcome);
        self.kinds.entry(outcome.kind).or_default().add(outcome);
        if outcome.from == From::Upstream {
            self.money.misses += rates.cost(&outcome.billed);
            *self.reasons.entry(outcome.reason.clone()).or_default() += 1;
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let (tally, money) = (&self.tally, &self.money);
        let share = |count, of| Proportion::new(count, of).to_json();
        let kinds: Vec<Value> = Kind::ALL
            .iter()
            .filter_map(|kind| Some((kind, self.kinds.get(kind)?)))
            .map(|(kind, of)| {
                json!({ "kind": kind.name(), "requests": of.asked, "exact": of.exact, "semantic": of.semantic,
                "coalesced": of.shared, "wrong": of.wrong() })
            })
            .collect();
        json!({
            "requests": tally.asked,
            "hits": { "exact": tally.exact, "semantic": tally.semantic, "coalesced": tally.shared,
                "of_all": share(tally.hits(), tally.asked) },
            "wrong": { "exact": tally.wrong_exact, "semantic": tally.wrong_semantic, "coalesced": tally.wrong_shared,
                "of_all": share(tally.wrong(), tally.asked), "of_semantic_hits": share(tally.wrong_semantic, tally.semantic),
                "by_upstream_itself": tally.wrong_upstream },
            "nano_usd": { "without": money.without, "with": money.with(), "completion": money.completion, "check": money.check,
                "embedding": money.embedding, "misses_by_bench": money.misses, "told_saved_gross": money.told_gross(),
                "told_saved_net": money.saved_net },
            "checks": money.checks,
            "saved": { "gross": money.gross_share(), "net": money.net_share(), "net_as_told": money.told_share() },
            "kinds": kinds,
            "reasons_of_misses": self.reasons,
        })
    }
}

/// A run: every hour, and every day.
pub(crate) struct Figures {
    pub(crate) hours: Vec<Span>,
    pub(crate) days: Vec<Span>,
}

/// What the figures are made from.
pub(crate) struct Source<'a> {
    pub(crate) alone: &'a [Outcome],
    pub(crate) remora: &'a [Outcome],
    pub(crate) rows: &'a [LedgerRow],
    /// When the run began, and how long a day lasted, milliseconds.
    pub(crate) began_ms: u64,
    pub(crate) day_ms: u64,
    pub(crate) days: usize,
}

impl Figures {
    pub(crate) fn of(source: &Source<'_>, rates: &Rates) -> Self {
        let days = source.days;
        let mut figures = Self { hours: vec![Span::default(); days * 24], days: vec![Span::default(); days] };
        // What is asked just past midnight of the last day belongs to a conversation of that day.
        let places = |at: f64| ((at * 24.0) as usize).min(days * 24 - 1);
        for outcome in source.alone {
            let (hour, cost) = (places(outcome.at), rates.cost(&outcome.billed));
            figures.hours[hour].money.without += cost;
            figures.days[hour / 24].money.without += cost;
        }
        for outcome in source.remora {
            let hour = places(outcome.at);
            figures.hours[hour].add(outcome, rates);
            figures.days[hour / 24].add(outcome, rates);
        }
        for row in source.rows {
            let hour = places(row.started_at.saturating_sub(source.began_ms) as f64 / source.day_ms as f64);
            figures.hours[hour].money.row(row);
            figures.days[hour / 24].money.row(row);
        }
        figures
    }
}
