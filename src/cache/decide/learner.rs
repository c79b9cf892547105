//! Serving by an error budget: the state behind a decision, and how it learns.
//!
//! The operator states the budget: wrong answers as a share of all requests. One learner keeps what one tenant's traffic
//! on one model has taught: the probabilities of the last requests, from which the threshold θ follows; the labels
//! (was a candidate's answer right?), from which the weights follow; the audits, from which the reported error follows.
//!
//! ```text
//! cold        too few labels: only what the words alone can vouch for
//! warm        P ≥ θ, with θ such that the window's expected errors stay within the budget
//! tight       the audited error broke the budget: half of it, until audits say otherwise
//! exact_only  it broke half of it too: nothing is served; would-be hits go on being judged by what comes back
//! ```
//!
//! A state machine without clock, lock or randomness of its own: the same calls give the same answers. It must never serve
//! what a guard refused, and never serve more because of missing evidence.

use std::collections::VecDeque;

use super::difference::Difference;
use super::evidence::Evidence;
use super::interval::{Interval, Z95};
use super::verdict::Reject;
use super::weights::{Observation, Weights};

/// Requests whose probabilities set the threshold.
pub(super) const WINDOW: usize = 1_500;
/// Requests between two settings of the threshold.
const SET_EVERY: u64 = 50;
/// Labels that a fit looks back on.
pub(super) const LABELS: usize = 4_000;
/// Audits that the reported error looks back on.
pub(super) const AUDITS: usize = 2_000;
/// Labels before the probability is trusted at all.
pub(super) const COLD: u64 = 200;
/// The same for an encoder without shipped weights.
pub(super) const COLD_UNFITTED: u64 = 1_000;
/// Labels between two fits, at first and later.
const FIT_EVERY: (u32, u32) = (100, 200);
/// Labels from which fits are made at the later pace.
const SETTLED: u64 = 1_000;
/// Precision of the prior in a fit.
const PRECISION: f64 = 2.0;
/// How much less than their own data the shipped weights are trusted elsewhere, in log odds.
const CAUTION: f64 = -1.0;
/// Audits' worth of expected errors that are imagined, so that few real audits do not sway the scale, and how many of them
/// are imagined to be real. Chosen, not derived: on the data of the documentation five to seven of ten expected errors
/// happened; real audits take over as they come in.
const IMAGINED: f64 = 15.0;
const IMAGINED_REAL: f64 = 0.73;
/// Latest audits that the scale looks back on.
const SCALED: usize = AUDITS;
/// Bounds of the scale.
const SCALE: (f64, f64) = (0.5, 20.0);
/// Part of the budget that is used at the very beginning and in the end.
const SHARE: (f64, f64) = (0.33, 1.0);
/// Labels over which the first part grows into the second, by the factor e.
const GROWTH: f64 = 1_000.0;
/// Least distance to the nearest point of another group while cold.
const COLD_MARGIN: f32 = 0.05;
/// Part of the budget that is used after a breach.
const TIGHT: f64 = 0.5;
/// Audits before a breach is called, and before the way back is taken.
const BREACH_AUDITS: u64 = 30;
const RETURN_AUDITS: usize = 100;
/// Chance of a breach being called, at one audit, on a cache that keeps just within its budget.
const FALSE_ALARM: f64 = 0.001;

/// Where a learner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Too few labels.
    Cold,
    /// By the budget.
    Warm,
    /// By half of it, after a breach.
    Tight,
    /// Nothing but equal requests, after a second breach.
    ExactOnly,
}

impl Stage {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Cold, Self::Warm, Self::Tight, Self::ExactOnly];

    /// Name in metrics, explanations and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Tight => "tight",
            Self::ExactOnly => "exact_only",
        }
    }
}

/// What the learner makes of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Why it may not be served, if it may not.
    pub refused: Option<Reject>,
    /// Probability that its answer is right.
    pub probability: f32,
    /// The threshold it was held to; above 1 if nothing can reach it.
    pub theta: f32,
    /// Where the learner stood.
    pub stage: Stage,
    /// Whether it would be served, were the learner not in [`Stage::ExactOnly`].
    pub would_serve: bool,
}

/// Where a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A hit, or what would have been one, compared with a fresh answer.
    Audit,
    /// A miss with a near candidate.
    Miss,
    /// Somebody said so.
    Feedback,
}

impl Source {
    /// Name in storage and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Miss => "miss",
            Self::Feedback => "feedback",
        }
    }
}

/// A change of stage, to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Before.
    pub from: Stage,
    /// After.
    pub to: Stage,
    /// The audited error that led to it, as a share of hits.
    pub audited: Interval,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Learner {
    pub(super) prior: Weights,
    pub(super) weights: Weights,
    /// Whether the prior was fitted for this encoder.
    pub(super) fitted: bool,
    /// Probabilities of the last requests, 0 for those that could not be served, and whether each was served.
    pub(super) window: VecDeque<(f32, bool)>,
    pub(super) labels: VecDeque<Observation>,
    pub(super) audits: VecDeque<Observation>,
    pub(super) seen: u64,
    pub(super) labelled: u64,
    pub(super) since_fit: u32,
    pub(super) theta: f32,
    pub(super) scale: f64,
    pub(super) stage: Stage,
    /// Audits since the stage was entered, and how many of them were wrong.
    pub(super) since_turn: (u64, u64),
}

impl Learner {
    /// A learner that knows nothing yet. `prior`: the weights for its encoder, if there are any.
    pub fn new(prior: Option<Weights>) -> Self {
        let fitted = prior.is_some();
        let prior = prior.unwrap_or(Weights::unfitted()).shifted(CAUTION);
        Self {
            prior,
            weights: prior,
            fitted,
            window: VecDeque::new(),
            labels: VecDeque::new(),
            audits: VecDeque::new(),
            seen: 0,
            labelled: 0,
            since_fit: 0,
            theta: f32::INFINITY,
            scale: IMAGINED_REAL,
            stage: Stage::Cold,
            since_turn: (0, 0),
        }
    }

    /// What becomes of a candidate. Changes nothing.
    pub fn judge(&self, evidence: &Evidence, budget: f64) -> Judgement {
        let probability = self.weights.probability(&evidence.inputs);
        let theta = if self.stage == Stage::Cold { f32::INFINITY } else { self.theta };
        let mut judgement = Judgement { refused: None, probability, theta, stage: self.stage, would_serve: false };
        judgement.refused = if let Some(objection) = &evidence.objection {
            Some(Reject::Guard(objection.guard))
        } else if budget <= 0.0 {
            Some(Reject::ErrorBudget)
        } else if self.stage == Stage::Cold {
            (!self.vouched(evidence)).then_some(Reject::Words)
        } else if evidence.group_size < 2 && !self.plausible(evidence) {
            Some(Reject::Words)
        } else {
            (probability < theta).then_some(Reject::LowProbability)
        };
        judgement.would_serve = judgement.refused.is_none();
        if judgement.would_serve && self.stage == Stage::ExactOnly {
            judgement.refused = Some(Reject::ErrorBudget);
        }
        judgement
    }

    /// Whether the words alone vouch for a candidate that no labels speak for. The bounds are those at which, on labelled
    /// pairs, half of the true paraphrases are served and next to no trap.
    fn vouched(&self, evidence: &Evidence) -> bool {
        let least = match evidence.difference {
            _ if !self.fitted => 0.95,
            Difference::None => 0.75,
            Difference::Added => 0.86,
            Difference::Reworded => 0.80,
            Difference::Exchanged | Difference::Unknown => return false,
        };
        evidence.cosine >= least && evidence.margin.is_none_or(|margin| margin >= COLD_MARGIN)
    }

    /// The same, less strictly, for a candidate that is the only point of its group: the probability knows its
    /// neighbourhood, but not how questions that look alike differ.
    fn plausible(&self, evidence: &Evidence) -> bool {
        let least = match evidence.difference {
            Difference::None | Difference::Reworded => 0.75,
            Difference::Added => 0.85,
            Difference::Exchanged => 0.90,
            Difference::Unknown => return false,
        };
        evidence.cosine >= least
    }

    /// Counts a request. `judged`: what became of its candidate, if it had one.
    pub fn note(&mut self, judged: Option<&Judgement>, budget: f64) {
        // While cold the words refuse much that the probability would serve later: it counts, so that the first threshold
        // is not set too low.
        let never = |j: &&Judgement| match j.refused {
            Some(Reject::Guard(_)) => true,
            Some(Reject::Words) => j.stage != Stage::Cold,
            _ => false,
        };
        let could = judged.filter(|j| !never(j));
        if self.window.len() >= WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((could.map_or(0.0, |j| j.probability), judged.is_some_and(|j| j.would_serve)));
        self.seen += 1;
        if self.seen.is_multiple_of(SET_EVERY) {
            self.set_theta(budget);
        }
    }

    /// The lowest threshold at which the window's expected errors stay within the budget.
    fn set_theta(&mut self, budget: f64) {
        let growth = (-(self.labelled as f64) / GROWTH).exp();
        let share = SHARE.1 - (SHARE.1 - SHARE.0) * growth;
        let stage = if matches!(self.stage, Stage::Tight | Stage::ExactOnly) { TIGHT } else { 1.0 };
        let mut left = budget * share * stage * self.window.len() as f64;
        let mut sorted: Vec<f32> = self.window.iter().map(|(p, _)| *p).filter(|p| *p > 0.0).collect();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        self.theta = f32::INFINITY;
        for p in sorted {
            left -= self.scale * (1.0 - f64::from(p));
            if left < 0.0 {
                break;
            }
            self.theta = p;
        }
    }

    /// Takes a label in; says when it is time to fit.
    pub fn label(&mut self, observation: Observation, source: Source, budget: f64) -> (bool, Option<Turn>) {
        push(&mut self.labels, observation, LABELS);
        self.labelled += 1;
        self.since_fit += 1;
        let mut turn = None;
        if source == Source::Audit {
            push(&mut self.audits, observation, AUDITS);
            self.since_turn.0 += 1;
            self.since_turn.1 += u64::from(!observation.right);
            self.rescale();
            turn = self.turn(budget);
        }
        if turn.is_none() && self.stage == Stage::Cold && self.labelled >= self.cold_labels() {
            turn = Some(self.enter(Stage::Warm));
        }
        if turn.is_some() {
            self.set_theta(budget);
        }
        let every = if self.labelled < SETTLED { FIT_EVERY.0 } else { FIT_EVERY.1 };
        (self.since_fit >= every, turn.filter(|turn| turn.from != Stage::Cold))
    }

    fn cold_labels(&self) -> u64 {
        if self.fitted { COLD } else { COLD_UNFITTED }
    }

    /// What a fit is made from; the fit itself takes milliseconds and is for a background thread.
    pub fn lesson(&mut self) -> Lesson {
        self.since_fit = 0;
        Lesson { prior: self.prior, labels: self.labels.iter().copied().collect() }
    }

    /// Takes the weights that a [`Lesson`] has given.
    pub fn learnt(&mut self, weights: Weights) {
        self.weights = weights;
        self.rescale();
    }

    /// How many times more errors the audits have found than the weights expect.
    fn rescale(&mut self) {
        // Those of another stage are left out: after a breach they would keep the threshold out of reach for ever.
        let since = usize::try_from(self.since_turn.0).unwrap_or(SCALED).min(SCALED);
        let recent = || self.audits.iter().rev().take(since);
        let wrong = recent().filter(|a| !a.right).count() as f64;
        let expected: f64 = recent().map(|a| 1.0 - f64::from(self.weights.probability(&a.inputs))).sum();
        self.scale = ((wrong + IMAGINED * IMAGINED_REAL) / (expected + IMAGINED)).clamp(SCALE.0, SCALE.1);
    }

    /// Whether the audits since the last turn call for another stage.
    fn turn(&mut self, budget: f64) -> Option<Turn> {
        let (count, wrong) = self.since_turn;
        let share = self.hit_share();
        // Tested after every audit, so the chance of a false alarm must be small in each. An interval will not do: with
        // few wrong ones its lower end is too high.
        let most = if share > 0.0 { (budget / share).min(1.0) } else { 1.0 };
        let broken = count >= BREACH_AUDITS && chance_of(wrong, count, most) < FALSE_ALARM;
        // The way back asks how it is now, not how it was before.
        let last = self.audits.iter().rev().take(RETURN_AUDITS);
        let late = last.filter(|audit| !audit.right).count() as f64 / RETURN_AUDITS as f64;
        let held = count >= RETURN_AUDITS as u64 && late * share <= budget;
        match self.stage {
            Stage::Cold | Stage::Warm if broken => Some(self.enter(Stage::Tight)),
            Stage::Tight if broken => Some(self.enter(Stage::ExactOnly)),
            Stage::Tight if held => Some(self.enter(Stage::Warm)),
            Stage::ExactOnly if held => Some(self.enter(Stage::Tight)),
            _ => None,
        }
    }

    fn enter(&mut self, to: Stage) -> Turn {
        let (count, wrong) = self.since_turn;
        let turn = Turn { from: self.stage, to, audited: Interval::wilson(wrong, count, Z95) };
        self.stage = to;
        self.since_turn = (0, 0);
        self.rescale();
        turn
    }

    /// Share of the window's requests that were served, or would have been.
    pub fn hit_share(&self) -> f64 {
        let served = self.window.iter().filter(|(_, served)| *served).count();
        served as f64 / self.window.len().max(1) as f64
    }

    /// Audited errors as a share of audited hits.
    pub fn audited(&self) -> Interval {
        let wrong = self.audits.iter().filter(|a| !a.right).count() as u64;
        Interval::wilson(wrong, self.audits.len() as u64, Z95)
    }

    /// Audits that the report looks back on.
    pub fn audit_count(&self) -> usize {
        self.audits.len()
    }

    /// Those of them that were wrong.
    pub fn wrong_count(&self) -> usize {
        self.audits.iter().filter(|audit| !audit.right).count()
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The threshold now.
    pub fn theta(&self) -> f32 {
        self.theta
    }

    /// The weights now.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Labels taken in since the beginning.
    pub fn labelled(&self) -> u64 {
        self.labelled
    }

    /// Requests counted since the beginning.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many times more errors audits have found than expected.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

/// The labels of a learner, to be fitted elsewhere.
#[derive(Clone, Debug)]
pub struct Lesson {
    prior: Weights,
    labels: Vec<Observation>,
}

impl Lesson {
    /// The weights that the labels teach. Takes milliseconds.
    pub fn fit(&self) -> Weights {
        self.prior.fit(&self.labels, PRECISION)
    }
}

/// The chance of at least `wrong` of `count`, if each is wrong with probability `p` (binomial tail).
fn chance_of(wrong: u64, count: u64, p: f64) -> f64 {
    if wrong == 0 || p >= 1.0 {
        return 1.0;
    }
    if p <= 0.0 {
        return 0.0;
    }
    // The terms below `wrong`, each from the one before.
    let mut term = (count as f64 * (-p).ln_1p()).exp();
    let mut below = term;
    for k in 1..wrong.min(count + 1) {
        term *= (count - k + 1) as f64 / k as f64 * p / (1.0 - p);
        below += term;
    }
    (1.0 - below).max(0.0)
}

fn push(ring: &mut VecDeque<Observation>, observation: Observation, most: usize) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(observation);
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
