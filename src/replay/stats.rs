//! Counting what a run did: proportions with their intervals, the worst stretch, and the spread over several seeds.
//!
//! Pure functions of a list of outcomes. Must never turn "nothing was counted" into a number: a proportion of nothing has
//! no value.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Requests of the window whose wrong answers are counted to find the worst stretch.
pub const WINDOW: usize = 2_000;

/// The 97.5 % point of the standard normal distribution: 95 % lie between it and its negative.
const Z95: f64 = 1.959_963_984_540_054;

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was served.
    Miss,
    /// The right answer was served.
    Right,
    /// A wrong answer was served.
    Wrong,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proportion {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
}

impl Proportion {
    /// `count` of `of`.
    pub fn new(count: usize, of: usize) -> Self {
        Self { count, of }
    }

    /// One more, counted if `yes`.
    pub fn add(&mut self, yes: bool) {
        self.count += usize::from(yes);
        self.of += 1;
    }

    /// The proportion, 0–1; `None` of nothing.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }

    /// The 95 % interval of Wilson (1927, JASA 22:209), 0–1; `None` of nothing.
    pub fn interval(self) -> Option<(f64, f64)> {
        let p = self.value()?;
        let n = self.of as f64;
        let z2 = Z95 * Z95;
        let scale = 1.0 / (1.0 + z2 / n);
        let centre = scale * (p + z2 / (2.0 * n));
        let half = scale * Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        // At the ends the formula gives 0 and 1 up to rounding.
        let low = if self.count == 0 { 0.0 } else { (centre - half).max(0.0) };
        let high = if self.count == self.of { 1.0 } else { (centre + half).min(1.0) };
        Some((low, high))
    }

    /// `{count, of, value, low, high}`; the last three are null of nothing.
    pub fn to_json(self) -> Value {
        let interval = self.interval();
        json!({
            "count": self.count,
            "of": self.of,
            "value": self.value(),
            "low": interval.map(|(low, _)| low),
            "high": interval.map(|(_, high)| high),
        })
    }
}

/// The stretch of requests with the most wrong answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worst {
    /// The first request of it, from 0. Of several equal ones, the earliest.
    pub from: usize,
    /// Wrong answers of all requests in it; fewer than [`WINDOW`] only if there are not that many.
    pub wrong: Proportion,
}

impl Worst {
    /// Of all stretches of `window` requests.
    pub fn of(outcomes: &[Outcome], window: usize) -> Self {
        let size = window.min(outcomes.len());
        let wrong = |outcome: Option<&Outcome>| usize::from(outcome == Some(&Outcome::Wrong));
        let mut count: usize = outcomes.iter().take(size).map(|outcome| wrong(Some(outcome))).sum();
        let (mut most, mut from) = (count, 0);
        for (start, entering) in outcomes.iter().skip(size).enumerate() {
            count = count + wrong(Some(entering)) - wrong(outcomes.get(start));
            if count > most {
                (most, from) = (count, start + 1);
            }
        }
        Self { from, wrong: Proportion::new(most, size) }
    }
}

/// What one run over a stream did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Requests.
    pub requests: usize,
    /// Answers served, right or wrong.
    pub hits: usize,
    /// Wrong answers served.
    pub wrong: usize,
    /// Hits that were asked upstream as well.
    pub audits: usize,
    /// Candidates that were refused, by reason; counted are those whose answer would have been right.
    pub refusals: BTreeMap<&'static str, Proportion>,
    /// The worst stretch of [`WINDOW`] requests.
    pub worst: Worst,
    /// Hits among the last quarter of the requests, when the cache is fullest.
    pub last_quarter: Proportion,
}

impl Tally {
    /// Counts the outcomes of the requests, in their order.
    pub fn of(outcomes: &[Outcome], audits: usize) -> Self {
        let count = |of: &[Outcome], what: &[Outcome]| of.iter().filter(|outcome| what.contains(outcome)).count();
        let served = [Outcome::Right, Outcome::Wrong];
        let last = outcomes.len() - outcomes.len() / 4;
        let quarter = outcomes.get(last..).unwrap_or(&[]);
        Self {
            requests: outcomes.len(),
            hits: count(outcomes, &served),
            wrong: count(outcomes, &[Outcome::Wrong]),
            audits,
            refusals: BTreeMap::new(),
            worst: Worst::of(outcomes, WINDOW),
            last_quarter: Proportion::new(count(quarter, &served), quarter.len()),
        }
    }

    /// Hits of all requests.
    pub fn hit_rate(&self) -> Proportion {
        Proportion::new(self.hits, self.requests)
    }

    /// Wrong answers of all requests.
    pub fn wrong_rate(&self) -> Proportion {
        Proportion::new(self.wrong, self.requests)
    }

    /// Wrong answers of all hits.
    pub fn wrong_of_hits(&self) -> Proportion {
        Proportion::new(self.wrong, self.hits)
    }
}

/// Mean and spread of one figure over several seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample; `None` of a single figure.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of those figures that have a value; `None` if none has.
    pub fn of(figures: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let figures: Vec<f64> = figures.flatten().collect();
        if figures.is_empty() {
            return None;
        }
        let n = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / n;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        Some(Self { mean, deviation: (figures.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) })
    }

    /// `{mean, deviation}`
    pub fn to_json(self) -> Value {
        json!({ "mean": self.mean, "deviation": self.deviation })
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Miss, Right, Wrong};
    use super::*;

    #[test]
    fn wilson_intervals_are_those_of_the_tables() {
        let rows = [
            (0, 10, 0.0, 0.2775),
            (5, 10, 0.2366, 0.7634),
            (10, 10, 0.7225, 1.0),
            (1, 100, 0.0018, 0.0545),
            (81, 263, 0.2553, 0.3662),
        ];
        for (count, of, low, high) in rows {
            let (found_low, found_high) = Proportion::new(count, of).interval().unwrap();
            assert!(
                (found_low - low).abs() < 5e-5 && (found_high - high).abs() < 5e-5,
                "{count}/{of}: {found_low} {found_high}"
            );
        }
        assert_eq!((Proportion::new(0, 0).value(), Proportion::new(0, 0).interval()), (None, None));
    }

    #[test]
    fn the_worst_window_slides_over_all_requests_and_shrinks_to_what_there_is() {
        let outcomes = [Wrong, Miss, Miss, Right, Wrong, Wrong, Miss, Wrong];
        let worst = Worst::of(&outcomes, 3);
        assert_eq!((worst.from, worst.wrong), (3, Proportion::new(2, 3)));
        assert_eq!(Worst::of(&outcomes, 4).wrong, Proportion::new(3, 4));
        assert_eq!(Worst::of(&outcomes, 4).from, 4);
        assert_eq!(Worst::of(&outcomes, 100).wrong, Proportion::new(4, 8));
        assert_eq!(Worst::of(&[], 100).wrong, Proportion::new(0, 0));
    }

    #[test]
    fn a_tally_counts_each_outcome_once_and_audits_beside() {
        let tally = Tally::of(&[Miss, Miss, Right, Wrong, Miss, Miss, Right, Right], 1);
        assert_eq!((tally.requests, tally.hits, tally.wrong, tally.audits), (8, 4, 1, 1));
        assert_eq!(tally.hit_rate(), Proportion::new(4, 8));
        assert_eq!(tally.wrong_rate(), Proportion::new(1, 8));
        assert_eq!(tally.wrong_of_hits(), Proportion::new(1, 4));
        assert_eq!(tally.last_quarter, Proportion::new(2, 2));
        assert_eq!(Tally::of(&[Right, Miss, Miss], 0).last_quarter, Proportion::new(0, 0));
    }

    #[test]
    fn the_spread_leaves_out_what_has_no_value() {
        let spread = Spread::of([Some(1.0), None, Some(3.0)].into_iter()).unwrap();
        assert!((spread.mean - 2.0).abs() < 1e-12 && (spread.deviation.unwrap() - 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of([Some(4.0)].into_iter()), Some(Spread { mean: 4.0, deviation: None }));
        assert_eq!(Spread::of([None].into_iter()), None);
    }
}
