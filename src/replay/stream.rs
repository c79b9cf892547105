//! Running policies over a stream: an empty cache, the requests one after the other, each miss stored.
//!
//! Intents come in an order that a seed draws; nothing expires, and all share one partition. Recorded traffic keeps its
//! order, its partitions and its times, so that a seed only decides which hits are audited; each tenant's traffic on a
//! model has a policy of its own, as it has a learner of its own in the product.
//!
//! Runs of several policies and seeds go on at the same time, each with its own memory and chance. A run must never see
//! another, and must never depend on how many run.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::link::Linker;
use super::memory::{Memory, Placement};
use super::policy::{Ask, Policy, Spec};
use super::prompt::{Prompt, Texts};
use super::recording::{Asked, Intents, Traffic};
use super::stats::{Outcome, Proportion, Tally};
use super::{Answers, Phase, Progress, ReplayError};
use crate::cache::decide::Observation;
use crate::clock::UnixMs;
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
    /// Where its neighbours are looked for.
    partition: Digest,
    /// When it was asked; 0 if nobody knows.
    at: UnixMs,
    /// Which policy decides it.
    lane: usize,
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
    /// Every candidate that the policy saw in numbers, and the truth about it.
    pub observations: Vec<Observation>,
}

/// Requests, and in what order they are asked.
#[derive(Debug)]
pub struct Stream {
    requests: Vec<Request>,
    classes: Vec<String>,
    order: Order,
}

/// See [`Stream`].
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Drawn from the seed; of it the first `limit`.
    Drawn { limit: usize },
    /// As they are, with times. Answers are gone `ttl` milliseconds after they were stored.
    Recorded { ttl: u64 },
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
        let requests = queries.iter().zip(asked).map(|(query, asked)| {
            let prompt = number(asked, &query.text);
            Request { prompt, class: query.class, partition: Digest::default(), at: 0, lane: 0 }
        });
        Self { requests: requests.collect(), classes, order: Order::Drawn { limit } }
    }

    /// Recorded traffic, in which an answer is gone `ttl` milliseconds after it was stored. Its texts are added to `texts`.
    pub fn recorded(traffic: &Traffic, ttl: u64, texts: &mut Texts) -> Self {
        let request = |asked: &Asked| Request {
            prompt: texts.number(&asked.text),
            class: asked.class,
            partition: asked.partition,
            at: asked.at,
            lane: asked.lane,
        };
        let requests = traffic.requests.iter().map(request).collect();
        let classes = (0..traffic.classes).map(|number| format!("recorded answer {number}")).collect();
        Self { requests, classes, order: Order::Recorded { ttl } }
    }

    /// Requests of one run.
    pub fn len(&self) -> usize {
        match self.order {
            Order::Drawn { limit } => self.requests.len().min(limit),
            Order::Recorded { .. } => self.requests.len(),
        }
    }

    fn order(&self, seed: u64) -> Vec<usize> {
        match self.order {
            Order::Drawn { limit } => order(self.requests.len(), seed, limit),
            Order::Recorded { .. } => (0..self.requests.len()).collect(),
        }
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
    #[expect(clippy::too_many_arguments, reason = "each is another thing, and there is one caller")]
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
        let mut policies: HashMap<usize, Box<dyn Policy>> = HashMap::new();
        let mut memory = Memory::new(prompts);
        let mut outcomes = Vec::with_capacity(self.len());
        let mut audits = 0;
        let mut observations = Vec::new();
        let mut refusals = BTreeMap::new();
        for (place, request) in self.order(seed).into_iter().enumerate() {
            let request = *self.requests.get(request).ok_or_else(|| missing("request", request))?;
            let prompt = prompts.get(request.prompt).ok_or_else(|| missing("prompt", request.prompt))?;
            let policy =
                policies.entry(request.lane).or_insert_with(|| spec.start(lane_seed(seed, request.lane), linker));
            let partition = partition(request.partition, prompt.unseen);
            if let Order::Recorded { ttl } = self.order {
                memory.advance(request.at, ttl);
            }
            let near = memory.near(&partition, prompt);
            let ask = Ask { prompt, near: &near };
            let decision = policy.decide(&ask);
            if let Some((near, inputs)) = policy.inputs().and_then(|(place, inputs)| Some((near.get(place)?, inputs))) {
                observations.push(Observation { inputs, right: near.answer.class == request.class });
            }
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

/// The seed of one of several policies of a run; of the first it is the run's own.
fn lane_seed(seed: u64, lane: usize) -> u64 {
    seed ^ (lane as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Prompts that differ in what the embedder did not see must not match. A recorded partition says so for the embedder of
/// that time, and this for the one of now.
fn partition(recorded: Digest, unseen: Option<Digest>) -> Digest {
    let Some(unseen) = unseen else { return recorded };
    *blake3::Hasher::new().update(&recorded).update(&unseen).finalize().as_bytes()
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
