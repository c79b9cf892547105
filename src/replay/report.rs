//! What a replay says: the aligned table and the same as JSON.
//!
//! Both come from one [`Report`], so they cannot differ. Must never show a proportion of nothing as a number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::Answers;
use super::pairs::{Kind, PairTally};
use super::policy::Spec;
use super::recording::Facts;
use super::stats::{Proportion, Spread, Tally, WINDOW};
use crate::config::show_duration;

/// What was run, and what came of it.
#[derive(Debug)]
pub struct Report {
    /// The file or the store.
    pub file: String,
    /// The embedding space.
    pub space: String,
    /// The seeds, one a run.
    pub seeds: Vec<u64>,
    /// What was run.
    pub rows: Rows,
}

/// The outcomes, one row a policy.
#[derive(Debug)]
pub enum Rows {
    /// Of a stream.
    Stream {
        /// Requests of each run.
        requests: usize,
        /// Classes of the recording.
        classes: usize,
        /// How the upstream answered.
        answers: Answers,
        /// If this is recorded traffic, what is known of it, and how long an answer lived, in milliseconds.
        recorded: Option<(Facts, u64)>,
        /// A tally for each seed.
        policies: Vec<(Spec, Vec<Tally>)>,
    },
    /// Of labelled pairs.
    Pairs {
        /// Number of pairs.
        pairs: usize,
        /// A tally each.
        policies: Vec<(Spec, PairTally)>,
    },
}

impl Report {
    /// The header and the tables, for people.
    pub fn to_text(&self) -> String {
        let seeds = self.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match &self.rows {
            Rows::Stream { requests, classes, recorded: Some((facts, ttl)), policies, .. } => {
                let head = format!(
                    "{}: {requests} recorded requests in their order, {classes} answers; empty start, each miss stored, \
                     gone after {}\n{}seed {seeds}; space {}\n\n",
                    self.file,
                    show_duration(Duration::from_millis(*ttl)),
                    facts.to_text(),
                    self.space,
                );
                let table = if self.seeds.len() > 1 { means(policies) } else { single(policies) };
                head + &table + &refusals(policies)
            }
            Rows::Stream { requests, classes, answers, policies, recorded: None } => {
                let head = format!(
                    "{}: stream of {requests} requests, {classes} classes; empty start, each miss stored\n\
                     seed {seeds}; space {}; {}\n\n",
                    self.file,
                    self.space,
                    told(*answers)
                );
                let table = if self.seeds.len() > 1 { means(policies) } else { single(policies) };
                head + &table + &refusals(policies)
            }
            Rows::Pairs { pairs, policies } => {
                let head = format!(
                    "{}: {pairs} labelled pairs, each in a cold cache: a stored, b asked\nseed {seeds}; space {}\n\n",
                    self.file, self.space
                );
                head + &served(policies) + "\nserved by kind\n" + &by_kind(policies)
            }
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        let mut report = json!({ "file": self.file, "space": self.space, "seeds": self.seeds });
        let (kind, policies) = match &self.rows {
            Rows::Stream { requests, classes, answers, recorded, policies } => {
                insert(&mut report, "requests", json!(requests));
                insert(&mut report, "classes", json!(classes));
                match recorded {
                    None => insert(&mut report, "answers", answers_json(*answers)),
                    Some((facts, ttl)) => {
                        insert(&mut report, "recorded", facts.to_json());
                        insert(&mut report, "ttl_seconds", json!(ttl / 1_000));
                    }
                }
                ("stream", policies.iter().map(|(spec, tallies)| self.stream_json(spec, tallies)).collect())
            }
            Rows::Pairs { pairs, policies } => {
                insert(&mut report, "pairs", json!(pairs));
                ("pairs", policies.iter().map(|(spec, tally)| pair_json(spec, tally)).collect::<Vec<Value>>())
            }
        };
        insert(&mut report, "kind", json!(kind));
        insert(&mut report, "policies", Value::Array(policies));
        report
    }

    fn stream_json(&self, spec: &Spec, tallies: &[Tally]) -> Value {
        let runs = self.seeds.iter().zip(tallies).map(|(seed, tally)| {
            json!({
                "seed": seed,
                "requests": tally.requests,
                "hits": tally.hits,
                "wrong": tally.wrong,
                "audits": tally.audits,
                "refused": tally.refusals.iter().map(|(why, of)| ((*why).to_owned(), of.to_json())).collect::<serde_json::Map<_, _>>(),
                "hit_rate": tally.hit_rate().to_json(),
                "wrong_rate": tally.wrong_rate().to_json(),
                "wrong_of_hits": tally.wrong_of_hits().to_json(),
                "worst_window": { "from": tally.worst.from, "wrong": tally.worst.wrong.to_json() },
                "last_quarter_hit_rate": tally.last_quarter.to_json(),
            })
        });
        let spread =
            |of: fn(&Tally) -> Proportion| Spread::of(tallies.iter().map(|t| of(t).value())).map(Spread::to_json);
        json!({
            "policy": spec.family(),
            "parameters": spec.parameters(),
            "runs": runs.collect::<Vec<_>>(),
            "over_seeds": {
                "hit_rate": spread(Tally::hit_rate),
                "wrong_rate": spread(Tally::wrong_rate),
                "wrong_of_hits": spread(Tally::wrong_of_hits),
                "last_quarter_hit_rate": spread(|tally| tally.last_quarter),
            },
        })
    }
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

fn told(answers: Answers) -> String {
    match answers {
        Answers::Ideal => "ideal answers: an intent's answer is always in the same words".to_owned(),
        Answers::Noisy { reworded, wrong } => {
            format!(
                "noisy answers: {} % reworded, {} % of another intent",
                short(reworded * 100.0),
                short(wrong * 100.0)
            )
        }
    }
}

fn answers_json(answers: Answers) -> Value {
    match answers {
        Answers::Ideal => json!({ "kind": "ideal" }),
        Answers::Noisy { reworded, wrong } => json!({ "kind": "noisy", "reworded": reworded, "wrong": wrong }),
    }
}

fn pair_json(spec: &Spec, tally: &PairTally) -> Value {
    let kinds = tally.kinds.iter().map(|(kind, served)| {
        json!({
            "category": kind.category,
            "style": kind.style,
            "same_answer": kind.same_answer,
            "served": served.to_json(),
        })
    });
    json!({
        "policy": spec.family(),
        "parameters": spec.parameters(),
        "true_pairs_served": tally.true_pairs.to_json(),
        "traps_served": tally.traps.to_json(),
        "kinds": kinds.collect::<Vec<_>>(),
    })
}

/// One run a policy, with intervals.
fn single(policies: &[(Spec, Vec<Tally>)]) -> String {
    let worst = format!("worst {WINDOW} %");
    let audits = policies.iter().flat_map(|(_, tallies)| tallies).any(|tally| tally.audits > 0);
    let mut head =
        vec!["policy", "hits %", "95 %", "wrong/requests %", "95 %", "wrong/hits %", "95 %", &worst, "last ¼ hits %"];
    head.extend(audits.then_some("audits"));
    let rows = policies.iter().flat_map(|(spec, tallies)| tallies.iter().map(move |tally| (spec, tally)));
    let rows = rows.map(|(spec, tally)| {
        let mut row = vec![spec.to_string()];
        for (figure, digits) in [(tally.hit_rate(), 1), (tally.wrong_rate(), 2), (tally.wrong_of_hits(), 2)] {
            row.extend([percent(figure.value(), digits), interval(figure, digits)]);
        }
        row.extend([percent(tally.worst.wrong.value(), 2), percent(tally.last_quarter.value(), 1)]);
        row.extend(audits.then(|| tally.audits.to_string()));
        row
    });
    aligned(&head, rows.collect())
}

/// Why candidates were refused, over all runs, and how many of them would have been right.
fn refusals(policies: &[(Spec, Vec<Tally>)]) -> String {
    let mut text = String::new();
    for (spec, tallies) in policies {
        let mut sums: BTreeMap<&str, Proportion> = BTreeMap::new();
        for (why, of) in tallies.iter().flat_map(|tally| &tally.refusals) {
            let sum = sums.entry(why).or_default();
            *sum = Proportion::new(sum.count + of.count, sum.of + of.of);
        }
        if sums.is_empty() {
            continue;
        }
        let head = ["refused", "candidates", "would have been right", "%"];
        let row = |(why, of): (&str, Proportion)| {
            vec![why.to_owned(), of.of.to_string(), of.count.to_string(), percent(of.value(), 1)]
        };
        text += &format!("\nwhy “{spec}” refused candidates\n");
        text += &aligned(&head, sums.into_iter().map(row).collect());
    }
    text
}

/// Several runs a policy, as mean ± standard deviation.
fn means(policies: &[(Spec, Vec<Tally>)]) -> String {
    let worst = format!("worst {WINDOW} % of all");
    let head = ["policy", "hits %", "wrong/requests %", "wrong/hits %", &worst, "last ¼ hits %"];
    let rows = policies.iter().map(|(spec, tallies)| {
        let spread = |of: &dyn Fn(&Tally) -> Option<f64>, digits| match Spread::of(tallies.iter().map(of)) {
            Some(Spread { mean, deviation: Some(deviation) }) => {
                format!("{} ± {}", percent(Some(mean), digits), percent(Some(deviation), digits))
            }
            Some(Spread { mean, deviation: None }) => percent(Some(mean), digits),
            None => percent(None, digits),
        };
        let worst = tallies.iter().filter_map(|tally| tally.worst.wrong.value()).reduce(f64::max);
        vec![
            spec.to_string(),
            spread(&|tally| tally.hit_rate().value(), 1),
            spread(&|tally| tally.wrong_rate().value(), 2),
            spread(&|tally| tally.wrong_of_hits().value(), 2),
            percent(worst, 2),
            spread(&|tally| tally.last_quarter.value(), 1),
        ]
    });
    aligned(&head, rows.collect())
}

fn served(policies: &[(Spec, PairTally)]) -> String {
    let head = ["policy", "true pairs served", "%", "95 %", "traps served", "%", "95 %"];
    let rows = policies.iter().map(|(spec, tally)| {
        let mut row = vec![spec.to_string()];
        for figure in [tally.true_pairs, tally.traps] {
            row.extend([format!("{} of {}", figure.count, figure.of), percent(figure.value(), 1), interval(figure, 1)]);
        }
        row
    });
    aligned(&head, rows.collect())
}

/// One line a kind of pair, one column a policy.
fn by_kind(policies: &[(Spec, PairTally)]) -> String {
    let kinds: BTreeSet<&Kind> = policies.iter().flat_map(|(_, tally)| tally.kinds.keys()).collect();
    let names: Vec<String> = policies.iter().map(|(spec, _)| brief(spec)).collect();
    let mut head = vec!["kind", "pairs"];
    head.extend(names.iter().map(String::as_str));
    let rows = kinds.into_iter().map(|kind| {
        let label = if kind.same_answer { "true" } else { "trap" };
        let name = [label, &kind.category, &kind.style].into_iter().filter(|part| !part.is_empty());
        let cells = policies.iter().map(|(_, tally)| tally.kinds.get(kind).copied().unwrap_or_default());
        let of = cells.clone().map(|cell| cell.of).max().unwrap_or_default();
        let mut row = vec![name.collect::<Vec<_>>().join(" · "), of.to_string()];
        row.extend(cells.map(|cell| cell.count.to_string()));
        row
    });
    aligned(&head, rows.collect())
}

/// The name of a policy as a column.
fn brief(spec: &Spec) -> String {
    match spec {
        Spec::Fixed { threshold, guards: None } => format!("{threshold:.2}"),
        Spec::Fixed { threshold, guards: Some(_) } => format!("{threshold:.2}+g"),
        Spec::VCache { delta, store_all: false } => format!("vcache {delta}"),
        Spec::VCache { delta, store_all: true } => format!("vcache {delta} all"),
        Spec::Current { budget, .. } => format!("current, budget {} %", budget * 100.0),
    }
}

fn percent(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{:.digits$}", value * 100.0))
}

fn interval(of: Proportion, digits: usize) -> String {
    of.interval().map_or_else(
        || "–".to_owned(),
        |(low, high)| format!("{}–{}", percent(Some(low), digits), percent(Some(high), digits)),
    )
}

/// Without the digits that binary fractions add.
fn short(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Columns two blanks apart, the first to the left, the others to the right.
fn aligned(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = all.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::stats::Outcome;

    fn stream(seeds: Vec<u64>, tallies: Vec<Tally>) -> Report {
        let policies = vec![(Spec::Fixed { threshold: 0.85, guards: None }, tallies)];
        let rows = Rows::Stream { requests: 8, classes: 2, answers: Answers::Ideal, recorded: None, policies };
        Report { file: "f.csv".into(), space: "s".into(), seeds, rows }
    }

    fn tally(right: usize, wrong: usize) -> Tally {
        let outcomes =
            [vec![Outcome::Miss; 8 - right - wrong], vec![Outcome::Wrong; wrong], vec![Outcome::Right; right]];
        Tally::of(&outcomes.concat(), 0)
    }

    #[test]
    fn one_seed_is_shown_with_intervals_and_several_as_mean_and_spread() {
        let text = stream(vec![1], vec![tally(3, 1)]).to_text();
        let row: Vec<&str> =
            text.lines().last().unwrap().split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
        assert_eq!(
            row,
            ["fixed 0.85", "50.0", "21.5–78.5", "12.50", "2.24–47.09", "25.00", "4.56–69.94", "12.50", "100.0"]
        );
        let text = stream(vec![1, 2], vec![tally(3, 1), tally(2, 0)]).to_text();
        assert!(text.lines().last().unwrap().contains("37.5 ± 17.7"), "{text}");
    }

    #[test]
    fn nothing_served_is_no_proportion_of_hits() {
        let report = stream(vec![1], vec![tally(0, 0)]);
        assert!(report.to_text().lines().last().unwrap().contains('–'));
        assert!(report.to_json()["policies"][0]["runs"][0]["wrong_of_hits"]["value"].is_null());
    }

    #[test]
    fn json_has_the_figures_of_the_table() {
        let told = stream(vec![1], vec![tally(3, 1)]).to_json();
        assert_eq!((&told["kind"], &told["requests"], &told["seeds"]), (&json!("stream"), &json!(8), &json!([1])));
        let policy = &told["policies"][0];
        assert_eq!(policy["parameters"], json!({ "cosine": 0.85, "guards": false }));
        assert_eq!((&policy["runs"][0]["hits"], &policy["runs"][0]["wrong"]), (&json!(4), &json!(1)));
        assert_eq!(policy["over_seeds"]["hit_rate"], json!({ "mean": 0.5, "deviation": null }));
    }
}
