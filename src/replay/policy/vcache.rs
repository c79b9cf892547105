//! vCache: Schroeder and others, "vCache: Verified Semantic Prompt Caching", arXiv 2502.03771. For comparison only.
//!
//! Each entry learns from what was observed of it alone. Of the nearest entry with observations (similarity, right) the
//! sigmoid of `logistic` is fitted. For a confidence 1 − ε, t′ is the upper bound of t; then the entry's answer is
//! right with at least α = (1 − ε)·L(s, t′, γ). Sent upstream with the probability τ = 1 − δ/(1 − α), least over ε, the
//! request is answered wrongly with at most δ. A request sent upstream gives an observation, and its prompt is stored
//! only if the entry's answer was not right for it; on wish always, which gives more entries with less known of each.
//!
//! As in the authors' program an entry begins with the observations (0, wrong) and (1, right), and is not served from
//! before it has six; so each needs four requests sent upstream before its first hit.

use std::collections::HashMap;
use std::sync::Arc;

use super::logistic::{Curve, Observation, normal_quantile, sigmoid};
use super::{Ask, Decision, Policy};
use crate::replay::link::Linker;
use crate::replay::memory::{Answer, Placement};

/// Observations an entry needs before its answer may be served.
const ENOUGH: usize = 6;
/// Values of ε that are tried.
const GRID: u32 = 50;

/// See the module.
pub(super) struct VCache {
    delta: f64,
    store_all: bool,
    chance: fastrand::Rng,
    linker: Arc<Linker>,
    /// By point.
    entries: HashMap<usize, Vec<Observation>>,
    /// ε and the normal quantile of 1 − ε.
    grid: Vec<(f64, f64)>,
}

impl VCache {
    pub(super) fn new(delta: f64, store_all: bool, seed: u64, linker: Arc<Linker>) -> Self {
        let epsilon = |i: u32| 1e-6 + (1.0 - 2e-6) * f64::from(i) / f64::from(GRID - 1);
        let grid = (0..GRID).map(epsilon).map(|e| (e, normal_quantile(1.0 - e))).collect();
        // A stream of its own, apart from the one that shuffles the requests.
        Self {
            delta,
            store_all,
            chance: fastrand::Rng::with_seed(seed ^ 0x7663_6163_6865),
            linker,
            entries: HashMap::new(),
            grid,
        }
    }

    /// The least probability of being right that holds with what is known of the curve, and the τ that follows.
    fn explore(&self, curve: &Curve, similarity: f64) -> f64 {
        let deviation = curve.variance.sqrt();
        let tau = |(epsilon, z): &(f64, f64)| {
            let bound = (curve.t + z * deviation).clamp(0.0, 1.0);
            let alpha = (1.0 - epsilon) * sigmoid(curve.gamma * (similarity - bound));
            1.0 - self.delta / (1.0 - alpha)
        };
        self.grid.iter().map(tau).fold(1.0, f64::min)
    }

    fn observed(&mut self, point: usize) -> &mut Vec<Observation> {
        self.entries.entry(point).or_insert_with(|| vec![(0.0, false), (1.0, true)])
    }
}

impl Policy for VCache {
    fn decide(&mut self, ask: &Ask<'_>) -> Decision {
        let Some(nearest) = ask.near.first() else { return Decision::plain(None) };
        let observations = self.entries.get(&nearest.point).filter(|observations| observations.len() >= ENOUGH);
        let Some(curve) = observations.and_then(|observations| Curve::fit(observations)) else {
            return Decision::plain(None);
        };
        let similarity = f64::from(nearest.cosine);
        let tau = self.explore(&curve, similarity);
        let serve = (self.chance.f64() > tau).then_some(0);
        let probability = Some(sigmoid(curve.gamma * (similarity - curve.t)));
        Decision { serve, refused: None, probability, threshold: None, audit: false }
    }

    fn place(&mut self, ask: &Ask<'_>, fresh: &Answer) -> Placement {
        let Some(nearest) = ask.near.first() else { return Placement::Open };
        let right = self.linker.same_answer(&nearest.answer.text, &fresh.text);
        self.observed(nearest.point).push((f64::from(nearest.cosine), right));
        if right && !self.store_all { Placement::Drop } else { Placement::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::memory::Near;
    use crate::replay::prompt::testing::prompt;

    #[test]
    fn exploring_has_the_limits_it_must_have() {
        let policy = VCache::new(0.02, false, 1, Linker::for_tests());
        let sure = Curve { t: 0.5, gamma: 1e4, variance: 0.0 };
        assert!(policy.explore(&sure, 0.9) < 0.0, "a certain right answer is always served");
        // Far below the threshold α is 0, and τ is 1 − δ.
        assert!((policy.explore(&sure, 0.1) - 0.98).abs() < 1e-6);
        // A flat curve through one half: α is at most one half, so τ is 1 − 0.02/0.5.
        let flat = Curve { t: 0.5, gamma: 1e-6, variance: 0.0 };
        assert!((policy.explore(&flat, 0.9) - 0.96).abs() < 1e-4);
        let unsure = Curve { variance: 0.5, ..sure };
        assert!(policy.explore(&unsure, 0.9) > policy.explore(&sure, 0.9));
        assert!(
            VCache::new(0.1, false, 1, Linker::for_tests()).explore(&unsure, 0.9) < policy.explore(&unsure, 0.9),
            "a wider bound explores less"
        );
    }

    #[test]
    fn an_entry_is_served_after_four_right_observations_and_not_before() {
        let [stored, new] = ["a", "b"].map(|text| prompt(text, &[1.0]));
        let answer = Answer { text: "x".into(), class: 0 };
        let near = [Near { point: 0, cosine: 0.9, prompt: &stored, group: 0, group_size: 1, answer: &answer }];
        let ask = Ask { prompt: &new, near: &near };
        let mut policy = VCache::new(0.02, false, 1, Linker::for_tests());
        for _ in 0..4 {
            assert_eq!(policy.decide(&ask).serve, None);
            assert_eq!(policy.place(&ask, &answer), Placement::Drop, "the entry serves this prompt too");
        }
        // It is near two standard deviations above t: served more often than not, and not always.
        let served = (0..1_000).filter(|_| policy.decide(&ask).serve == Some(0)).count();
        assert!((500..1_000).contains(&served), "{served}");
        let other = Answer { text: "y".into(), class: 1 };
        assert_eq!(policy.place(&ask, &other), Placement::Open);
        assert_eq!(policy.place(&Ask { prompt: &new, near: &[] }, &other), Placement::Open);
        assert_eq!(VCache::new(0.02, true, 1, Linker::for_tests()).place(&ask, &answer), Placement::Open);
    }

    #[test]
    fn an_entry_that_is_always_wrong_is_nearly_always_explored() {
        let [stored, new] = ["a", "b"].map(|text| prompt(text, &[1.0]));
        let (answer, other) = (Answer { text: "x".into(), class: 0 }, Answer { text: "y".into(), class: 1 });
        let near = [Near { point: 0, cosine: 0.9, prompt: &stored, group: 0, group_size: 1, answer: &answer }];
        let ask = Ask { prompt: &new, near: &near };
        let mut policy = VCache::new(0.02, false, 1, Linker::for_tests());
        (0..20).for_each(|_| assert_eq!(policy.place(&ask, &other), Placement::Open));
        let served = (0..2_000).filter(|_| policy.decide(&ask).serve.is_some()).count();
        assert!((1..=120).contains(&served), "{served} of 2,000 with a bound of 2 %");
    }
}
