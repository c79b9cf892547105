//! Running policies over a stream: an empty cache, the requests one after the other, each miss stored.
//!
//! Runs of several policies and seeds go on at the same time, each with its own memory and chance. A run must never see
//! another, and must never depend on how many run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::link::Linker;
use super::memory::{Memory, Placement};
use super::policy::{Ask, Spec};
use super::prompt::{Prompt, Texts};
use super::recording::Intents;
use super::stats::{Outcome, Proportion, Tally};
use super::{Answers, Phase, Progress, ReplayError};
use crate::cache::decide::Observation;
use crate::store::Digest;

/// Requests between two reports of progress.
const REPORT_EVERY: usize = 250;

/// One request.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// Its text, by number.
    prompt: usize,
    /// The class of its right answer.
    class: usize,
}

/// What one run gives.
#[derive(Debug, Clone)]
pub struct Run {
    /// What became of each request, in order.
    pub outcomes: Vec<Outcome>,
    /// Hits that were asked upstream as well.
    pub audits: usize,
    /// Candidates that were refused, by reason; counted are those whose answer would have been right.
    pub refusals: BTreeMap<&'static str, Proportion>,
    /// The labels that the policy has learnt from.
    pub observations: Vec<Observation>,
}

/// Requests whose order is drawn from a seed. A stream of recorded traffic would keep its order, and bring the
/// partition and the answer of each request with it.
#[derive(Debug)]
pub struct Stream {
    requests: Vec<Request>,
    classes: Vec<String>,
    limit: usize,
}

impl Stream {
    /// The prompts of a recording; of each shuffled order the first `limit` are asked. Their texts are added to `texts`:
    /// only those that one of the `seeds` asks for.
    pub fn new(intents: Intents, limit: usize, seeds: &[u64], texts: &mut Texts) -> Self {
        let Intents { queries, classes } = intents;
        let mut asked = vec![false; queries.len()];
        for place in seeds.iter().flat_map(|seed| order(queries.len(), *seed, limit)) {
            if let Some(asked) = asked.get_mut(place) {
                *asked = true;
            }
        }
        // A prompt that no order reaches gets a number that does not exist, and is never looked at.
        let mut number = |asked: bool, text: &str| if asked { texts.number(text) } else { usize::MAX };
        let requests = queries
            .iter()
            .zip(asked)
            .map(|(query, asked)| Request { prompt: number(asked, &query.text), class: query.class });
        Self { requests: requests.collect(), classes, limit }
    }

    /// Requests of one run.
    pub fn len(&self) -> usize {
        self.requests.len().min(self.limit)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Classes of the whole recording.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Runs each policy with each seed, `parallel` runs at a time. The result has for each policy one tally per seed.
    ///
    /// # Errors
    /// The first that a run meets.
    pub fn run_all(
        &self,
        prompts: &[Prompt],
        specs: &[Spec],
        seeds: &[u64],
        answers: Answers,
        linker: &Arc<Linker>,
        parallel: usize,
        tell: &Progress,
    ) -> Result<Vec<Vec<Tally>>, ReplayError> {
        let jobs: Vec<(Spec, u64)> = specs.iter().flat_map(|spec| seeds.iter().map(|seed| (*spec, *seed))).collect();
        let total = jobs.len() * self.len();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = Mutex::new(Vec::with_capacity(jobs.len()));
        let work = || {
            while let Some((index, (spec, seed))) = take(&next, &jobs) {
                let advance = |by| tell(Phase::Deciding, done.fetch_add(by, Ordering::Relaxed) + by, total);
                let run = self.run(prompts, spec, seed, answers, linker, &advance);
                let tally = run.map(|run| Tally { refusals: run.refusals, ..Tally::of(&run.outcomes, run.audits) });
                results.lock().unwrap_or_else(PoisonError::into_inner).push((index, tally));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..parallel.clamp(1, jobs.len().max(1)) {
                scope.spawn(work);
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|(index, _)| *index);
        let tallies = results.into_iter().map(|(_, tally)| tally).collect::<Result<Vec<Tally>, ReplayError>>()?;
        Ok(tallies.chunks(seeds.len().max(1)).map(<[Tally]>::to_vec).collect())
    }

    /// One run of one policy.
    ///
    /// # Errors
    /// A prompt has no vector that the index takes.
    pub fn run(
        &self,
        prompts: &[Prompt],
        spec: Spec,
        seed: u64,
        answers: Answers,
        linker: &Arc<Linker>,
        advance: &dyn Fn(usize),
    ) -> Result<Run, ReplayError> {
        let mut policy = spec.start(seed, linker);
        let mut memory = Memory::new(prompts);
        let mut outcomes = Vec::with_capacity(self.len());
        let mut audits = 0;
        let mut refusals = BTreeMap::new();
        for (place, request) in order(self.requests.len(), seed, self.limit).into_iter().enumerate() {
            let request = *self.requests.get(request).ok_or_else(|| missing("request", request))?;
            let prompt = prompts.get(request.prompt).ok_or_else(|| missing("prompt", request.prompt))?;
            let partition: Digest = prompt.unseen.unwrap_or_default();
            let near = memory.near(&partition, prompt);
            let ask = Ask { prompt, near: &near };
            let decision = policy.decide(&ask);
            let served = decision.serve.and_then(|place| near.get(place));
            outcomes.push(match served {
                None => Outcome::Miss,
                // The answer is judged by the class it answers, not by the prompt it was stored under.
                Some(near) if near.answer.class == request.class => Outcome::Right,
                Some(_) => Outcome::Wrong,
            });
            if let Some((near, reason)) = decision.refused.and_then(|(place, why)| Some((near.get(place)?, why))) {
                refusals.entry(reason).or_insert_with(Proportion::default).add(near.answer.class == request.class);
            }
            let audited = served.is_some() && decision.audit;
            audits += usize::from(audited);
            if served.is_none() || audited {
                let fresh = answers.fresh(seed, place, request.class, &self.classes)?;
                let placement: Placement = policy.place(&ask, &fresh);
                memory.insert(&partition, request.prompt, placement, fresh)?;
            }
            if outcomes.len() % REPORT_EVERY == 0 {
                advance(REPORT_EVERY);
            }
        }
        advance(outcomes.len() % REPORT_EVERY);
        let observations = policy.observations().to_vec();
        Ok(Run { outcomes, audits, refusals, observations })
    }
}

/// The first `limit` places of the order that a seed gives to `of` requests.
fn order(of: usize, seed: u64, limit: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..of).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order.truncate(limit);
    order
}

/// The next job that nobody has taken, and its place.
pub(super) fn take<T: Copy>(next: &AtomicUsize, jobs: &[T]) -> Option<(usize, T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(index).map(|job| (index, *job))
}

fn missing(what: &str, number: usize) -> ReplayError {
    ReplayError::new(format!("there is no {what} {number}"))
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
